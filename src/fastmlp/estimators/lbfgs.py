"""The loss of all samples and its gradient as L-BFGS wants them, from the native engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp import backends
from fastmlp.objective import CHUNK_ROWS, MeanLoss

if TYPE_CHECKING:
    from fastmlp.estimators.rows import Rows
    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential


class Objective:
    """The penalized mean loss as a function of the parameters.

    Parameters
    ----------
    model : Sequential
        Its parameters are changed.
    loss : Loss
    data : Rows
    alpha : float
        ½·alpha·‖W‖² over the number of samples (or the sum of their weights) is added.
    scale : float
        What the data loss, but not its gradient, is multiplied with, as scikit-learn does.
    constant : ndarray, shape (n,), optional
        Added to the loss of each sample.
    threads : int, optional
    """

    def __init__(
        self,
        model: Sequential,
        loss: Loss,
        data: Rows,
        alpha: float,
        scale: float = 1.0,
        constant: np.ndarray | None = None,
        threads: int | None = None,
    ):
        self._model, self._data, self._scale = model, data, scale
        size = min(CHUNK_ROWS, data.at_once)
        totals = data.counts(size)
        if data.weight is not None:
            totals = data.sums(data.weight, None, size)
        self._mean = MeanLoss(backends.get("native"), model, loss, size, totals, threads)
        self._penalty = alpha / totals.sum()
        self._constant = 0.0
        if constant is not None:
            self._constant = float(np.average(constant, weights=data.weight))
        # scikit-learn packs all weights before all biases, which decides how sums round.
        specs = sorted(model.parameter_specs, key=lambda spec: not spec.decay)
        self._places = [slice(spec.offset, spec.offset + spec.size) for spec in specs]
        self._weights = sum(spec.size for spec in specs if spec.decay)

    def packed(self) -> np.ndarray:
        """Return the model's parameters as L-BFGS sees them."""
        return self._pack(self._model.flat_parameters.array())

    def _pack(self, flat: np.ndarray) -> np.ndarray:
        return np.concatenate([flat[place] for place in self._places]).astype(np.float64)

    def unpack(self, packed: np.ndarray) -> None:
        """Give the model these parameters."""
        flat = self._model.flat_parameters.array()
        start = 0
        for place in self._places:
            size = place.stop - place.start
            flat[place] = packed[start : start + size]
            start += size

    def __call__(self, packed: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the penalized loss and its gradient."""
        self.unpack(packed)
        loss, flat = self._mean(self._data.windows(None, self._mean.rows))
        gradient = self._pack(flat)
        weights = packed[: self._weights]
        gradient[: self._weights] += self._penalty * weights
        penalty = 0.5 * self._penalty * float(weights @ weights)
        return self._scale * loss + self._constant + penalty, gradient
