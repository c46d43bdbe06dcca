"""Data as it is trained on: checked once, converted only as batches are gathered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown
from fastmlp.interchange import as_array
from fastmlp.loss_base import Loss, check_sample_weight

if TYPE_CHECKING:
    from typing import Any

    Rows = slice | np.ndarray

# Elements looked at together: few enough to stay in cache, and for Ctrl-C to be seen soon.
_CHUNK = 2**17


class Source:
    """Inputs, targets and weights of a number of samples; views of what the user gave.

    Arrays are taken as they are: `check_inputs` and its neighbours prove what holds here.

    Attributes
    ----------
    x : ndarray, shape (n, n_in)
        Any real dtype in native byte order, any strides.
    y : ndarray, shape (n, n_out), or (n,)
        Any real dtype; one-dimensional integers are class indices.
    sample_weight : ndarray of float64, shape (n,) or (n, n_out), or None
    classes : int
        Number of classes if `y` holds class indices, otherwise 0.
    n : int
        Number of samples.
    """

    __slots__ = ("classes", "n", "sample_weight", "x", "y")

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        classes: int = 0,
    ):
        self.x = x
        self.y = y
        self.sample_weight = sample_weight
        self.classes = classes
        self.n = len(x)

    @property
    def columns(self) -> int:
        """Columns of x."""
        return self.x.shape[1]

    def batches(self, batch_size: int | None) -> int:
        """Return the number of mini-batches; `batch_size` None means one of all rows."""
        return 1 if batch_size is None else -(-self.n // batch_size)

    def split(self, share: float) -> tuple[Source, Source]:
        """Return two sources, the second with this share of the rows, the last ones.

        Raises
        ------
        ValueError
            If one of them would be empty, or nothing in it had a weight.
        """
        first = int(self.n * (1.0 - share))
        if not 0 < first < self.n:
            raise ValueError(
                f"validation_split {share} leaves {first} of {self.n} rows for training and "
                f"{self.n - first} for validation"
            )
        parts = self._part(slice(None, first)), self._part(slice(first, None))
        for part, use in zip(parts, ("training", "validation"), strict=True):
            if part.sample_weight is not None and not part.sample_weight.any():
                raise ValueError(
                    f"sample_weight must not be zero for all samples; validation_split {share} "
                    f"leaves none of another weight for {use}"
                )
        return parts

    def _part(self, rows: slice) -> Source:
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        return Source(self.x[rows], self.y[rows], weight, self.classes)

    def moments(self) -> Moments:
        """Return mean and deviation of the columns of x."""
        moments = Moments(self.columns)
        moments.add(self.x)
        return moments

    @property
    def weighted(self) -> str | None:
        """What has a weight: None, "sample" or "output"."""
        if self.sample_weight is None:
            return None
        return "sample" if self.sample_weight.ndim == 1 else "output"

    def weigh(self, losses: np.ndarray, order: np.ndarray | None, size: int) -> tuple[float, float]:
        """Return the sum of an epoch's losses, and of what they count.

        Parameters
        ----------
        losses : ndarray of float64
            Means of the mini-batches.
        order : ndarray or None
            Of the rows.
        size : int
            Rows of a mini-batch; the last one has what is left.
        """
        if self.sample_weight is None:
            # All count as many samples as they have: `size`, but for the last one.
            rest = self.n - (len(losses) - 1) * size
            return float(losses[:-1].sum()) * size + float(losses[-1]) * rest, self.n
        shares = self.batch_weights(order, size)
        return float((losses * shares).sum()), float(shares.sum())

    def batch_weights(self, order: np.ndarray | None, size: int) -> np.ndarray:
        """Return what each mini-batch of weighted samples counts in the mean of an epoch."""
        weight = self.sample_weight
        if weight.ndim == 2:
            weight = weight.sum(axis=1) / weight.shape[1]
        starts = np.arange(0, self.n, size)
        return np.add.reduceat(weight if order is None else weight[order], starts)

    def rows_of(self, order: np.ndarray | None, batch: int, size: int) -> Rows:
        """Return the rows of a mini-batch; `order` may hold several epochs, one after the other."""
        epoch, place = divmod(batch, -(-self.n // size))
        start = epoch * self.n + place * size
        stop = epoch * self.n + min((place + 1) * size, self.n)
        return slice(start, stop) if order is None else order[start:stop]

    def inputs(self, rows: Rows, dtype: np.dtype) -> np.ndarray:
        """Return rows of x in a dtype; perhaps a view, not to be written to."""
        return self.x[rows].astype(dtype, copy=False)

    def targets(self, rows: Rows, dtype: np.dtype) -> np.ndarray:
        """Return rows of y as a matrix in a dtype, class indices one-hot encoded."""
        y = self.y[rows]
        if not self.classes:
            return y.astype(dtype, copy=False)
        encoded = np.zeros((len(y), self.classes), dtype)
        encoded[np.arange(len(y)), y] = 1
        return encoded

    def weights(self, rows: Rows) -> np.ndarray | None:
        """Return rows of the weights as a matrix of one column, or one for each output."""
        if self.sample_weight is None:
            return None
        weight = self.sample_weight[rows]
        return weight.reshape(len(weight), -1)


def as_real_array(argument: str, value: object) -> np.ndarray:
    """Return an array of real numbers in a form that every backend reads.

    It is a view of the user's memory unless that is of a foreign byte order, not aligned, or
    wider than float64.

    Raises
    ------
    TypeError
        If it does not hold real numbers.
    ValueError
        If rows differ in length, or elements are masked.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{argument} must have no masked elements; fill or drop them")
    array = as_array(argument, value)
    dtype = array.dtype
    if dtype.kind not in "fiub":
        hint = "" if dtype.kind != "O" else f": convert it, as {argument}.astype('float32')"
        raise TypeError(
            f"{argument} must hold real numbers (floats, integers or booleans); "
            f"got dtype {dtype}{hint}"
        )
    if dtype.kind == "f" and dtype.itemsize > 8:
        return array.astype(np.float64)
    if not dtype.isnative:
        return array.astype(dtype.newbyteorder("="))
    return array if array.flags.aligned else array.copy()


def check_inputs(x: object, columns: int | None, *, empty: bool = False) -> np.ndarray:
    """Return inputs as an array of shape (n, columns), checked.

    Parameters
    ----------
    x : array_like
    columns : int or None
        What the model takes; None where that is not known yet.
    empty : bool
        Whether there may be no rows.

    Raises
    ------
    TypeError, ValueError
        If they are no matrix of real numbers with so many columns.
    """
    array = as_real_array("x", x)
    if array.ndim != 2:
        expected = "(n, n_in)" if columns is None else f"(n, {columns})"
        if array.ndim == 1:
            hint = "x[None, :] is one sample, x[:, None] one feature of many"
        elif array.ndim == 0:
            hint = f"got the number {shown(x)}"
        else:
            hint = "flatten each sample, as x.reshape(len(x), -1)"
        raise ValueError(f"x must have shape {expected}; got {array.shape}: {hint}")
    if columns is not None and array.shape[1] != columns:
        raise ValueError(
            f"x must have shape (n, {columns}), since the model has {columns} inputs; "
            f"got {array.shape}"
        )
    if array.shape[1] == 0 or (len(array) == 0 and not empty):
        raise ValueError(f"x must have at least one row and one column; got shape {array.shape}")
    return array


def check_source(
    inputs: np.ndarray, y: object, sample_weight: object, *, outputs: int, loss: Loss
) -> Source:
    """Return checked data for training or evaluation; finiteness is `check_finite`'s.

    Parameters
    ----------
    inputs : ndarray
        From `check_inputs`.
    y : array_like
        Targets as `Loss.check_targets` takes them.
    sample_weight : array_like or None
        Weights of the samples, or of each output.
    outputs : int
        Of the model.
    loss : Loss
        Knows which targets it can take.

    Raises
    ------
    TypeError, ValueError
        If shapes, dtypes or values do not fit.
    """
    if y is None:
        raise TypeError("y is missing: the targets, one row for each row of x")
    targets = as_real_array("y", y)
    if targets.ndim == 0 or len(targets) != len(inputs):
        raise ValueError(
            f"x and y must have the same number of rows; got x of shape {inputs.shape} and y of "
            f"shape {targets.shape}"
        )
    targets = loss.check_targets(targets, (len(inputs), outputs))
    classes = outputs if targets.ndim == 1 else 0
    weight = None
    if sample_weight is not None:
        weight = check_sample_weight(
            as_real_array("sample_weight", sample_weight), (len(inputs), outputs)
        )
        if weight.ndim == 2 and outputs > 1 and not loss.weighs_outputs(outputs):
            raise ValueError(
                f"sample_weight must have shape ({len(inputs)},) for the loss {loss.name!r}, which "
                f"joins the outputs of a sample; got {weight.shape}"
            )
        if not weight.any():
            raise ValueError("sample_weight must not be zero for all samples")
    return Source(inputs, targets, weight, classes)


def all_finite(array: np.ndarray) -> bool:
    """Return whether a floating array has neither NaN nor infinity.

    A finite sum proves it at half the cost of looking at each element; a sum may overflow though
    all elements are finite, so otherwise each is looked at.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    return bool(np.isfinite(total)) or bool(np.isfinite(array).all())


def check_finite(argument: str, array: np.ndarray, dtype: np.dtype) -> None:
    """Raise ValueError if an element is not finite, or would not be in the dtype of the model.

    Parameters
    ----------
    argument : str
        What the message calls the array.
    array : ndarray
        Of one or two dimensions.
    dtype : numpy.dtype
        What batches are converted to.
    """
    if array.dtype.kind != "f":
        return
    transposed = array.ndim == 2 and array.strides[0] < array.strides[1]
    scanned = array.T if transposed else array
    width = scanned.shape[1] if array.ndim == 2 else 1
    step = max(_CHUNK // max(width, 1), 1)
    narrowing = array.dtype.itemsize > dtype.itemsize
    for start in range(0, len(scanned), step):
        chunk = scanned[start : start + step]
        if _fits(chunk, dtype if narrowing else None):
            continue
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(chunk.astype(dtype, copy=False))
        if not bad.any():
            continue  # beyond the largest number by less than half a unit, which rounds down to it
        place = np.argwhere(bad)[0]
        value = chunk[tuple(place)]
        place[0] += start
        index = ", ".join(map(str, place[::-1] if transposed else place))
        reason = "" if not np.isfinite(value) else f" as {dtype.name} (the model's dtype)"
        raise ValueError(f"{argument} must be finite{reason}; {argument}[{index}] is {value}")


def _fits(chunk: np.ndarray, dtype: np.dtype | None) -> bool:
    if dtype is None:
        return all_finite(chunk)
    limit = np.finfo(dtype).max
    # NaN makes either comparison false.
    return bool(chunk.min() >= -limit and chunk.max() <= limit)


class Moments:
    """Mean and standard deviation of columns, gathered chunk by chunk in float64.

    Chunks are merged by the rule of T. Chan, G. Golub and R. LeVeque (1979), "Updating formulae
    and a pairwise algorithm for computing sample variances". Values are taken relative to the
    first row, so that a column that does not vary has a deviation of exactly zero. One whose
    squares overflow has none that is finite.
    """

    def __init__(self, columns: int):
        self._count = 0
        self._first = np.zeros(columns)
        self._mean = np.zeros(columns)
        self._squares = np.zeros(columns)

    @np.errstate(over="ignore", invalid="ignore")
    def add(self, x: np.ndarray) -> None:
        """Take in the rows of `x`, shape (n, columns)."""
        step = max(_CHUNK // max(x.shape[1], 1), 1)
        for start in range(0, len(x), step):
            # The order of a sum, and so its bits, would be that of the memory.
            chunk = x[start : start + step].astype(np.float64, order="C")
            if self._count == 0:
                self._first = chunk[0].copy()
            chunk -= self._first
            n = len(chunk)
            mean = chunk.mean(axis=0)
            chunk -= mean
            total = self._count + n
            shift = mean - self._mean
            self._squares += (chunk * chunk).sum(axis=0)
            self._squares += shift * shift * (self._count * n / total)
            self._mean += shift * (n / total)
            self._count = total

    @property
    def mean(self) -> np.ndarray:
        return self._first + self._mean

    @property
    def deviation(self) -> np.ndarray:
        """The standard deviation, over n."""
        return np.sqrt(self._squares / max(self._count, 1))


def is_stream(x: Any, y: Any) -> bool:
    """Return whether `x` gives batches instead of being an array.

    It does if there is no `y` and it is a function, an iterator, or a collection whose first item
    is a tuple.
    """
    if y is not None or isinstance(x, np.ndarray) or hasattr(x, "__array__"):
        return False
    if callable(x) or hasattr(x, "__next__"):
        return True
    if isinstance(x, (list, tuple)):
        return len(x) > 0 and isinstance(x[0], tuple)
    return hasattr(x, "__iter__") and not isinstance(x, (str, bytes, dict))
