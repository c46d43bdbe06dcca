"""One flat buffer for all parameters, and named views of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import _native
from fastmlp.errors import choose, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Protocol

    class Resident(Protocol):
        """Who holds a newer copy of a flat vector in a layout of its own."""

        def pull(self) -> None:
            """Write the newer values back to the flat vector."""


# Above this many bytes no machine could hold one vector, so a size is a mistake, not a wish.
_LARGEST_VECTOR = 2**47
# As a minimum it says "greater than zero" in every dtype: it is the least number above zero.
ABOVE_ZERO = math.ulp(0.0)


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """What a layer says of one of its parameters.

    Attributes
    ----------
    name : str
        "weight" in the layer, "0.weight" in the model.
    shape : tuple of int
    initializer : Initializer or ndarray
        How the first values are drawn, or, for a state vector, what they are.
    decay : bool
        Whether L1 and L2 penalties hold for it: weights, not biases.
    trainable : bool
        False in a frozen layer.
    offset : int
        Where it begins in the flat vector.
    minimum : float
        Least value that makes sense, as for a scale or a variance. Smaller ones are not assigned,
        saved or loaded.
    max_norm : float or None
        To which the columns of a weight are scaled down after each update.
    """

    name: str
    shape: tuple[int, ...]
    initializer: object
    decay: bool = True
    trainable: bool = True
    offset: int = 0
    minimum: float = -math.inf
    max_norm: float | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def allowed(self) -> str:
        """Which values make sense, for a message."""
        return allowed(self.minimum)

    def allows(self, values: np.ndarray) -> bool:
        """Return whether all values make sense: finite, and not below the minimum."""
        return finite(values, self.minimum)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The shape as a matrix: a vector is one row."""
        if len(self.shape) > 2:
            raise ValueError(f"parameter {self.name} must have 1 or 2 dimensions: {self.shape}")
        rows, cols = (1, *self.shape)[-2:]
        return rows, cols


def finite(values: np.ndarray, minimum: float = -math.inf) -> bool:
    """Return whether all values are finite and not below the minimum; takes no memory."""
    if not values.size:
        return True
    # NaN comes through min and max, and no array of booleans is made.
    least, most = float(values.min()), float(values.max())
    return math.isfinite(least) and math.isfinite(most) and least >= minimum


def allowed(minimum: float) -> str:
    """Return in words which values `finite` accepts."""
    if minimum == -math.inf:
        return "finite"
    return f"finite and {'> 0' if minimum == ABOVE_ZERO else f'>= {minimum:g}'}"


def place(specs: Iterable[ParameterSpec], dtype: np.dtype) -> list[ParameterSpec]:
    """Return the specs with offsets, one after another.

    Raises
    ------
    ValueError
        If the sizes add up to more than any memory.
    """
    placed, offset = [], 0
    for spec in specs:
        placed.append(replace(spec, offset=offset))
        offset += spec.size
        if offset * dtype.itemsize > _LARGEST_VECTOR:
            raise ValueError(
                f"sizes overflow: the parameters up to {spec.name} {spec.shape} take "
                f"{offset * dtype.itemsize:.3g} bytes; allowed are {_LARGEST_VECTOR:.3g}"
            )
    return placed


class FlatVector:
    """One aligned, zeroed vector that knows how many arrays look into it.

    A backend may keep a newer copy of the values in a layout of its own. It then puts an object
    with a `pull` method into `resident`; whoever asks for an array here gets the newest values.

    Attributes
    ----------
    size : int
        Number of elements.
    dtype : numpy.dtype
    buffer : fastmlp._native.Buffer
        The memory.
    resident : object or None
        Who holds newer values, if anybody does.
    touched : bool
        Set when an array is handed out: the values may have been written since.
    lock : RLock
        Held by who copies between this vector and its resident, or makes another one its resident.
    """

    __slots__ = ("__weakref__", "buffer", "dtype", "lock", "resident", "size", "touched")

    def __init__(self, size: int, dtype: np.dtype | str):
        self.size = size
        self.dtype = np.dtype(dtype)
        self.buffer = _native.Buffer(max(size, 1) * self.dtype.itemsize)
        self.resident: Resident | None = None
        self.touched = True
        self.lock = threading.RLock()

    def __repr__(self) -> str:
        return f"FlatVector({self.size}, {self.dtype.name!r})"

    def __len__(self) -> int:
        return self.size

    @property
    def exports(self) -> int:
        """How many arrays into this vector are alive."""
        return self.buffer.exports

    def array(self) -> np.ndarray:
        """Return all elements as a live array of shape (size,)."""
        return self._export(0, self.size)

    def view(self, offset: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return the elements from `offset` on as a live array of the given shape."""
        return self._export(offset, math.prod(shape)).reshape(shape)

    def _export(self, offset: int, count: int) -> np.ndarray:
        self.touched = True  # before, so that a training that ends meanwhile pulls as well
        if self.resident is not None:
            self.resident.pull()
        # An array made by frombuffer keeps its export of the buffer; ndarray(buffer=…) would not.
        return np.frombuffer(
            self.buffer, dtype=self.dtype, count=count, offset=offset * self.dtype.itemsize
        )


class Parameters(Mapping[str, np.ndarray]):
    """Names to live arrays: `model.parameters` and `model.gradients`.

    The arrays are views of one flat row-major vector. When a fastmlp call returns they hold the
    current values; what is written into them is used by the next call. Assigning copies the values
    into place: ``model.parameters["0.bias"] = numpy.zeros(10)``. ``copy()`` keeps values, and
    ``update()`` puts them back, also those of another model of the same shape.

    Parameters
    ----------
    specs : iterable of ParameterSpec
        Names, shapes and offsets.
    vector : FlatVector
    what : str
        What messages call an entry.
    """

    __slots__ = ("_specs", "_vector", "_what")

    def __init__(self, specs: Iterable[ParameterSpec], vector: FlatVector, what: str = "parameter"):
        self._specs = {spec.name: spec for spec in specs}
        self._vector = vector
        self._what = what

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the order of the flat vector."""
        return tuple(self._specs)

    @property
    def specs(self) -> tuple[ParameterSpec, ...]:
        """Name, shape and offset of every entry."""
        return tuple(self._specs.values())

    def __getitem__(self, name: str) -> np.ndarray:
        spec = self._specs.get(name)
        if spec is None:
            raise KeyError(f"no {self._what} {name!r}; there are {', '.join(self._specs)}")
        return self._vector.view(spec.offset, spec.shape)

    def __setitem__(self, name: str, values: object) -> None:
        array = self._converted(name, values)
        self[name][...] = array

    def _converted(self, name: str, values: object) -> np.ndarray:
        choose(f"{self._what} name", name, self._specs)
        spec = self._specs[name]
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} must be an array of real numbers; got dtype {array.dtype}")
        if array.shape != spec.shape:
            raise ValueError(f"{name} has shape {spec.shape}; got an array of shape {array.shape}")
        with np.errstate(over="ignore"):
            converted = array.astype(self._vector.dtype)
        if not spec.allows(converted):
            raise ValueError(
                f"{name} must be {spec.allowed} as {self._vector.dtype.name}; got {shown(array)}"
            )
        return converted

    def update(self, values: Mapping[str, Any]) -> None:
        """Copy values into place: all are checked before one is changed.

        Parameters
        ----------
        values : mapping of str to array_like
            By name, in the shapes of the model; what is not named stays as it is.

        Raises
        ------
        TypeError, ValueError
            If a name is unknown, or an array does not fit; nothing has changed then.

        Examples
        --------
        >>> target.parameters.update(model.parameters)
        """
        if not hasattr(values, "keys"):
            raise TypeError(f"values must be a mapping of names to arrays; got {shown(values)}")
        converted = {name: self._converted(name, values[name]) for name in values.keys()}  # noqa: SIM118
        for name, array in converted.items():
            self[name][...] = array

    def copy(self) -> dict[str, np.ndarray]:
        """Return the values as they are now, which later training does not change.

        Returns
        -------
        dict of str to ndarray
            By name, in the shapes and the dtype of the model.

        Examples
        --------
        >>> best = model.parameters.copy()
        """
        return {name: self[name].copy() for name in self._specs}

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, np.ndarray]:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def __repr__(self) -> str:
        lines = [f"  {spec.name}: {spec.shape}" for spec in self._specs.values()]
        return "\n".join([f"{len(lines)} arrays of {self._vector.dtype.name}:", *lines])
