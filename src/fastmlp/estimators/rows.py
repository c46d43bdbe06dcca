"""Samples as the estimators train on them: dense, or sparse and made dense a few rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fastmlp.model import Sequential

    # A source, the order of its rows, and which mini-batches of the epoch it holds.
    Window = tuple[Source, np.ndarray | None, int, int]

# Sparse rows that are dense at the same time take about so many bytes.
_DENSE_BYTES = 2**25


class Rows:
    """Inputs, targets and weights of some samples.

    Parameters
    ----------
    x : ndarray or scipy.sparse CSR, shape (n, n_in)
    y : ndarray, shape (n, n_out) or (n,)
        One-dimensional: class indices.
    weight : ndarray, shape (n,), optional
    classes : int
        Number of classes if `y` holds class indices, otherwise 0.
    """

    def __init__(self, x: Any, y: np.ndarray, weight: np.ndarray | None = None, classes: int = 0):
        self.sparse = not isinstance(x, np.ndarray)
        self.x = x.tocsr() if self.sparse else np.ascontiguousarray(x)
        self.y = y
        self.weight = weight
        self.classes = classes
        self.n = x.shape[0]

    @property
    def at_once(self) -> int:
        """How many samples may be dense at the same time."""
        return min(self.n, _dense_rows(self.x)) if self.sparse else self.n

    def take(self, rows: np.ndarray) -> Rows:
        """Return some of the samples."""
        weight = None if self.weight is None else self.weight[rows]
        return Rows(self.x[rows], self.y[rows], weight, self.classes)

    def counts(self, size: int) -> np.ndarray:
        """Return the number of samples in each mini-batch."""
        starts = np.arange(0, self.n, size)
        return np.minimum(size, self.n - starts).astype(np.float64)

    def sums(self, values: np.ndarray, order: np.ndarray | None, size: int) -> np.ndarray:
        """Return the sum over each mini-batch of values that belong to the samples."""
        ordered = values if order is None else values[order]
        return np.add.reduceat(ordered, np.arange(0, self.n, size), dtype=np.float64)

    def windows(self, order: np.ndarray | None, size: int, count: int = 1) -> Iterator[Window]:
        """Return the mini-batches of an epoch, as many together as may be dense at once.

        Of dense rows also those of `count` epochs, if `order` is that of all.
        """
        batches = -(-self.n // size) * count
        if not self.sparse:
            yield Source(self.x, self.y, self.weight, self.classes), order, 0, batches
            return
        together = max(1, _dense_rows(self.x) // size)
        for first in range(0, batches, together):
            last = min(first + together, batches)
            rows: Any = slice(first * size, last * size)
            if order is not None:
                rows = order[rows]
            weight = None if self.weight is None else self.weight[rows]
            dense = self.x[rows].toarray()
            yield Source(dense, self.y[rows], weight, self.classes), None, first, last


def _dense_rows(x: Any) -> int:
    return max(1, _DENSE_BYTES // (x.shape[1] * x.dtype.itemsize))


def predict(model: Sequential, x: Any, threads: int | None) -> np.ndarray:
    """Return the model's outputs for dense or sparse inputs.

    Parameters
    ----------
    model : Sequential
    x : ndarray or scipy.sparse matrix, shape (n, n_in)
    threads : int, optional

    Returns
    -------
    ndarray, shape (n, n_out)
    """
    if isinstance(x, np.ndarray):
        return model.predict(x, threads=threads)
    x = x.tocsr()
    out = np.empty((x.shape[0], model.output_size), model.dtype)
    step = _dense_rows(x)
    for start in range(0, x.shape[0], step):
        part = slice(start, start + step)
        model.predict(x[part].toarray(), out=out[part], threads=threads)
    return out
