"""The loss of all samples and its gradient, from the mini-batch programs of a backend.

What is trained by mini-batches has programs that compute loss and gradient and update; here the
update adds the gradient up instead. Optimizers of the whole batch and scikit-learn's L-BFGS both
get their gradients in this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.optimizers import SGD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from fastmlp.backends import BaseExecutor
    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.sources import Source

    # Samples, their order, and the first and the last but one mini-batch they hold.
    Window = tuple[Source, NDArray | None, int, int]

# Rows whose activations are kept at the same time.
CHUNK_ROWS = 4096


class GradientSum(SGD):
    """Leaves the parameters as they are and adds up gradients in its slot.

    Step k, counted from 1, adds shares[k - 1] times the gradient; the first one starts from zero.
    """

    def __init__(self) -> None:
        super().__init__(lr=0.0, momentum=1.0)
        self.shares = np.ones(1)

    def hyper(
        self, first_step: int, count: int, *, epoch: int = 0, group: int = 0
    ) -> NDArray[np.float64]:
        rows = super().hyper(first_step, count, epoch=epoch, group=group).copy()
        steps = np.arange(first_step, first_step + count)
        rows[:, 1] = steps > 1
        rows[:, 2] = self.shares[steps - 1]
        return rows


class MeanLoss:
    """The mean loss of many samples as a function of the model's present parameters.

    Parameters
    ----------
    kind : type of BaseExecutor
        Of the backend.
    model : Sequential
        With known sizes.
    loss : Loss
    rows : int
        Of the mini-batches into which the samples are split.
    weights : ndarray, shape (mini-batches,)
        What each mini-batch weighs: its number of samples, or the sum of their weights.
    threads : int, optional
    """

    def __init__(
        self,
        kind: type[BaseExecutor],
        model: Sequential,
        loss: Loss,
        rows: int,
        weights: NDArray[np.float64],
        threads: int | None = None,
    ):
        self.rows = rows
        self._model = model
        self._optimizer = GradientSum()
        self._optimizer.shares = self._shares = weights / weights.sum()
        self._finite = True
        self.executor = kind(model, loss, self._optimizer, threads=threads)

    def __call__(self, windows: Iterable[Window]) -> tuple[float, NDArray[np.floating]]:
        """Return the mean loss and its gradient, zero for frozen parameters.

        Parameters
        ----------
        windows : iterable of (Source, order, first, last)
            The samples, as the mini-batches `first` to `last` - 1.

        Returns
        -------
        loss : float
        gradient : ndarray, shape (number of parameters,)
            Overwritten by the next call.
        """
        state = self._optimizer.state_for(self._model)
        if not self._finite:
            # The sum starts with zero times what is there, which has to be a number.
            state.slots[0].array()[...] = 0
        state.step = 0
        losses = np.empty(len(self._shares))
        for source, order, first, last in windows:
            self.executor.train(source, order, self.rows, 0, last - first, losses[first:])
        gradient = state.slots[0].array()
        loss = float(self._shares @ losses)
        self._finite = bool(np.isfinite(loss) and np.isfinite(gradient).all())
        return loss, gradient
