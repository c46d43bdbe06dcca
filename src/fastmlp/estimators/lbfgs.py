"""The loss of all samples and its gradient as L-BFGS wants them, from the native engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp import backends
from fastmlp.estimators.updates import GradientSum

if TYPE_CHECKING:
    from fastmlp.estimators.rows import Rows
    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential

# Rows whose activations are kept at the same time.
_CHUNK_ROWS = 4096


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
        self._size = min(_CHUNK_ROWS, data.at_once)
        self._optimizer = GradientSum()
        self._executor = backends.get("native")(
            model, loss, self._optimizer, batch_size=self._size, threads=threads
        )
        totals = data.counts(self._size)
        if data.weight is not None:
            totals = data.sums(data.weight, None, self._size)
        self._optimizer.shares = self._shares = totals / totals.sum()
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
        state = self._optimizer.state_for(self._model)
        state.step = 0
        losses = np.empty(len(self._shares))
        for source, _, first, last in self._data.windows(None, self._size):
            self._executor.train(source, None, self._size, 0, last - first, losses[first:])
        gradient = self._pack(state.slots[0].array())
        weights = packed[: self._weights]
        gradient[: self._weights] += self._penalty * weights
        penalty = 0.5 * self._penalty * float(weights @ weights)
        return self._scale * float(self._shares @ losses) + self._constant + penalty, gradient
