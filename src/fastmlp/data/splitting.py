"""Seeded splits into training and test data, and one-hot encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_flag, check_integer, check_number, shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike


def train_test_split(
    x: ArrayLike,
    y: ArrayLike,
    *,
    test_size: float | int = 0.25,
    seed: int = 0,
    stratify: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split samples at random into a training and a test set.

    Parameters
    ----------
    x : array_like, shape (n, …)
        Samples, one a row.
    y : array_like, shape (n, …)
        Targets, one a row.
    test_size : float or int
        The share of the samples that is for testing, in (0, 1), or their number, 1 to n − 1.
    seed : int
        The same seed gives the same split.
    stratify : bool
        Give every class the same share of the test set: class c of n_c samples gets
        n_c·test_size rounded down or up, such that the total is right. It needs labels in `y`:
        one dimension, of integers, booleans or strings. Say False for regression.

    Returns
    -------
    x_train, x_test, y_train, y_test : ndarray
        Copies, in random order.

    Raises
    ------
    TypeError
        If `test_size`, `seed` or `stratify` has the wrong type.
    ValueError
        If lengths differ, a set would be empty, or `stratify` is asked for without labels.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x and y must have one row a sample; got shapes {x.shape} and {y.shape}")
    n = len(x)
    n_test = _test_count(test_size, n)
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    if check_flag("stratify", stratify):
        if y.ndim != 1 or y.dtype.kind not in "iubUS":
            raise ValueError(
                "stratify needs labels: y of one dimension, of integers, booleans or strings; "
                f"got shape {y.shape} of {y.dtype} (stratify=False splits any y)"
            )
        test = _stratified_rows(y, n_test, rng)
    else:
        test = rng.permutation(n)[:n_test]
    is_test = np.zeros(n, bool)
    is_test[test] = True
    train = rng.permutation(np.flatnonzero(~is_test))
    test = rng.permutation(test)
    return x[train], x[test], y[train], y[test]


def _test_count(test_size: float | int, n: int) -> int:
    if isinstance(test_size, (float, np.floating)):
        share = check_number("test_size", test_size, 0.0, 1.0, open_low=True, open_high=True)
        count = round(share * n)
        if not 0 < count < n:
            message = f"test_size={shown(test_size)} of {n} samples leaves a set empty"
            raise ValueError(message)
        return count
    if n < 2:
        raise ValueError(f"x must have at least 2 samples to be split; got {n}")
    return check_integer("test_size", test_size, 1, n - 1)


def _stratified_rows(labels: np.ndarray, n_test: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `n_test` rows, by class; what is left after rounding down goes by largest remainder."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # In integers: count·n_test // n is exact where count·(n_test / n) may fall just below.
    shares, remainders = np.divmod(counts * n_test, len(labels))
    ties = rng.permutation(len(counts))  # among equal remainders, chance decides
    order = ties[np.argsort(-remainders[ties], kind="stable")]
    shares[order[: n_test - shares.sum()]] += 1
    by_class = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    drawn = [rng.permutation(rows)[:share] for rows, share in zip(by_class, shares, strict=True)]
    return np.concatenate(drawn)


def one_hot(
    labels: ArrayLike, classes: int | None = None, dtype: DTypeLike = "float32"
) -> np.ndarray:
    """Encode labels as rows of zeros with a single one.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
        Labels, 0 to classes − 1.
    classes : int, optional
        Number of classes; by default the largest label + 1.
    dtype : dtype
        Type of the result.

    Returns
    -------
    ndarray, shape (n, classes)
        ``result[i, j]`` is 1 where ``labels[i] == j``, else 0.

    Raises
    ------
    TypeError
        If the labels are not integers, or `classes` is not an integer.
    ValueError
        If `labels` is not one-dimensional or a label is out of range.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers; got {labels.dtype}")
    if labels.ndim != 1:
        raise ValueError(f"labels must have one dimension; got shape {labels.shape}")
    largest = int(labels.max()) if len(labels) else -1
    if classes is None:
        if not len(labels):
            raise ValueError("classes must be given where there are no labels")
        classes = largest + 1
    classes = check_integer("classes", classes, 1)
    if len(labels) and (labels.min() < 0 or largest >= classes):
        message = f"labels must be 0 to {classes - 1}; got {labels.min()} to {largest}"
        raise ValueError(message)
    rows = np.zeros((len(labels), classes), dtype)
    rows[np.arange(len(labels)), labels] = 1
    return rows
