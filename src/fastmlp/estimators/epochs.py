"""Epochs of a trainer, with scikit-learn's order of samples, penalty, and mean of the losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.estimators.updates import SGD, Adam
from fastmlp.spans import Spans

if TYPE_CHECKING:
    from typing import Any

    from fastmlp.backends import BaseExecutor
    from fastmlp.callbacks import CallbackList
    from fastmlp.estimators.rows import Rows
    from fastmlp.training import Trainer

# What the penalty of an epoch may be wrong by, as a share of the loss.
_PENALTY_ERROR = 3e-6


class Epochs:
    """Trains a model epoch by epoch.

    Parameters
    ----------
    trainer : Trainer
    alpha : float
        The penalty is ½·alpha·‖W‖² over the samples (or their weights) of a mini-batch. With an
        optimizer that is not scikit-learn's it is the trainer's own.
    """

    def __init__(self, trainer: Trainer, alpha: float):
        self.trainer = trainer
        self.alpha = alpha
        self.executor = trainer.prepare(trainer.model.input_size)
        self._norms = _Norms(self.executor) if alpha else None
        self._spans = Spans()
        self._shares: tuple[Any, tuple[np.ndarray, np.ndarray]] | None = None

    def begin(self) -> None:
        """Begin a training; the parameters may have been changed since the last one."""
        if self._norms is not None:
            self._norms.forget()

    def run(
        self,
        data: Rows,
        order: np.ndarray | None,
        size: int,
        scale: float = 1.0,
        constant: np.ndarray | None = None,
        hooks: CallbackList | None = None,
    ) -> float:
        """Go through all mini-batches once.

        Parameters
        ----------
        data : Rows
        order : ndarray, shape (n,), or None
            None: the rows as they stand.
        size : int
            Rows of a mini-batch.
        scale : float
            What the loss is multiplied with in the result.
        constant : ndarray, shape (n,), optional
            Added to the loss of each sample in the result.
        hooks : CallbackList, optional

        Returns
        -------
        float
            Mean over the samples of the loss of their mini-batch, penalty included; as in
            scikit-learn a weighted mean within the mini-batch only.
        """
        shares, inverse = self._shares_of(data, order, size)
        optimizer = self.trainer.optimizer
        state = self.trainer.state()
        if isinstance(optimizer, (SGD, Adam)):
            strengths = self.alpha * inverse
            optimizer.penalize(state.step + 1, strengths)
        else:
            strengths = np.full(len(shares), self.trainer.l2)
        each = hooks is not None and hooks.per_batch
        losses = np.empty(len(shares))
        norms = self._norms
        if norms is not None:
            if hooks is not None:  # which may have changed the weights
                norms.forget()
            norms.begin(0.5 * shares * strengths)
        for source, part, base, end in data.windows(order, size):
            first = base
            while first < end:
                last = end if norms is None else min(end, norms.next)
                if each:
                    hooks.on_train_batch_begin(first)
                last = base + self._spans.train(
                    self.executor,
                    source,
                    part,
                    size,
                    first - base,
                    last - base,
                    losses[base:],
                    single=each,
                )
                if each:
                    hooks.on_train_batch_end(first, {"loss": scale * float(losses[first])})
                if norms is not None and last == norms.next:
                    norms.look(scale * float(np.add.reduce(losses[:last])) / last)
                first = last
        state.epoch += 1
        loss = scale * float(shares @ losses)
        if constant is not None:
            values = constant if data.weight is None else constant * data.weight
            loss += float((shares * inverse) @ data.sums(values, order, size))
        return loss if norms is None else loss + norms.total()

    def _shares_of(
        self, data: Rows, order: np.ndarray | None, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the share of the samples in each mini-batch, and one over its sum of weights."""
        key = data.n, size
        if data.weight is None and self._shares is not None and self._shares[0] == key:
            return self._shares[1]
        counts = data.counts(size)
        totals = counts if data.weight is None else data.sums(data.weight, order, size)
        # A mini-batch of no weight has no gradient; neither has its penalty.
        inverse = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals != 0)
        shares = counts / data.n
        self._shares = (key, (shares, inverse)) if data.weight is None else None
        return shares, inverse


class _Norms:
    """Σ weights · ‖W‖² over the mini-batches of an epoch, from looking at ‖W‖² now and then.

    Between two looks it is taken to be linear. A parabola of second derivative κ lies beside its
    chord over h mini-batches by κ·h³/12 in their sum, which decides how far apart the looks may
    be: as a rule an epoch, a few mini-batches at the beginning of a training.

    Parameters
    ----------
    executor : BaseExecutor

    Attributes
    ----------
    next : int
        The mini-batch before which to look again, or their number.
    """

    def __init__(self, executor: BaseExecutor):
        self._executor = executor
        self._step = 1
        # The last two looks: how far apart, and the change from one mini-batch to the next.
        self._distance, self._slope = 1, np.nan
        self._end: float | None = None

    def forget(self) -> None:
        """Look again before the next epoch, as others may have changed the weights."""
        self._end = None

    def begin(self, weights: np.ndarray) -> None:
        """Begin an epoch with so many mini-batches."""
        self._weights = weights
        changed = self._end is None or self._executor.model.flat_parameters.touched
        self._places, self._norms = [0], [self._executor.squared_norm() if changed else self._end]
        self.next = min(self._step, len(weights))

    def look(self, loss: float) -> None:
        """Take note of the norm at `next`; `loss` says what precision is needed."""
        batches = len(self._weights)
        distance = self.next - self._places[-1]
        self._places.append(self.next)
        self._end = self._executor.squared_norm()
        self._norms.append(self._end)
        slope = (self._norms[-1] - self._norms[-2]) / distance
        curvature = 2.0 * abs(slope - self._slope) / (distance + self._distance)
        error = self._weights.sum() * curvature / 12.0  # over an epoch, times the step squared
        allowed = _PENALTY_ERROR * abs(loss)
        self._step = 2 * distance
        if error * self._step**2 > allowed:
            self._step = max(1, int((allowed / error) ** 0.5))
        self._distance, self._slope = distance, slope
        self.next = min(self.next + self._step, batches)

    def total(self) -> float:
        """Return the sum over the epoch."""
        if len(self._places) == 2:
            steps = np.arange(len(self._weights)) / self._places[1]
            norms = self._norms[0] + (self._norms[1] - self._norms[0]) * steps
        else:
            norms = np.interp(np.arange(len(self._weights)), self._places, self._norms)
        return float(self._weights @ norms)
