"""One epoch after another on an executor, with scikit-learn's mean of the losses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.estimators.updates import SGD, Adam

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastmlp.backends import BaseExecutor
    from fastmlp.callbacks import CallbackList
    from fastmlp.estimators.rows import Rows
    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.optimizer_base import Optimizer

# Half of the 100 ms within which Ctrl-C is to be seen.
_SPAN_SECONDS = 0.05
_SPAN_GROWTH = 16
# What the penalty's mean may be wrong by, as a share of the loss.
_PENALTY_ERROR = 1e-6


class Epochs:
    """Trains a model epoch by epoch.

    Parameters
    ----------
    executor : BaseExecutor
    alpha : float
        The penalty is ½·alpha·‖W‖² over the samples (or their weights) of a mini-batch. With an
        optimizer that is not scikit-learn's it is the executor's own.
    """

    def __init__(self, executor: BaseExecutor, alpha: float):
        self.executor = executor
        self.alpha = alpha
        self._norms = _Norms(executor.model) if alpha else None
        self._span = 1

    def fits(
        self, model: Sequential, loss: Loss, optimizer: Optimizer, alpha: float, threads: int | None
    ) -> bool:
        """Return whether it was made of these."""
        made = self.executor
        same = made.model is model and made.optimizer is optimizer and made.loss == loss
        return same and self.alpha == alpha and made.threads == threads

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
        counts = data.counts(size)
        totals = counts if data.weight is None else data.sums(data.weight, order, size)
        # A mini-batch of no weight has no gradient; neither has its penalty.
        inverse = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals != 0)
        optimizer = self.executor.optimizer
        state = optimizer.state_for(self.executor.model)
        if isinstance(optimizer, (SGD, Adam)):
            strengths = self.alpha * inverse
            optimizer.penalize(state.step + 1, strengths)
        else:
            strengths = np.full(len(counts), self.executor.l2)
        per_batch = hooks is not None and hooks.per_batch
        cuts = self._norms.begin(len(counts)) if self._norms else [0, len(counts)]
        losses = np.empty(len(counts))
        for source, part, base, end in data.windows(order, size):
            for first, last in self._spans(base, end, cuts, per_batch):
                if per_batch:
                    hooks.on_train_batch_begin(first)
                self.executor.train(source, part, size, first - base, last - base, losses[base:])
                if per_batch:
                    hooks.on_train_batch_end(first, {"loss": float(losses[first])})
                if self._norms:
                    self._norms.reached(last)
        state.epoch += 1
        shares = counts / data.n
        loss = scale * float(shares @ losses)
        if constant is not None:
            values = constant if data.weight is None else constant * data.weight
            loss += float((shares * inverse) @ data.sums(values, order, size))
        if self._norms:
            loss += self._norms.mean(0.5 * shares * strengths, loss)
        return loss

    def _spans(
        self, first: int, end: int, cuts: list[int], each: bool
    ) -> Iterator[tuple[int, int]]:
        """Return the next mini-batches to run at once: about 50 ms, and up to the next cut."""
        while first < end:
            last = min(first + (1 if each else self._span), end, next(c for c in cuts if c > first))
            start = time.perf_counter()
            yield first, last
            seconds = time.perf_counter() - start
            wanted = int(_SPAN_SECONDS * (last - first) / seconds) if seconds > 0 else _SPAN_GROWTH
            self._span = max(1, min(wanted, _SPAN_GROWTH * (last - first)))
            first = last


def squared_norm(model: Sequential) -> float:
    """Return the sum of squares of all weights, not of the biases."""
    flat = model.flat_parameters.array()
    parts = [s for s in model.parameter_specs if s.decay]
    return sum(float(np.vdot(w, w)) for w in (flat[s.offset : s.offset + s.size] for s in parts))


class _Norms:
    """The mean of ‖W‖² over an epoch, from looking at it now and then.

    In the first epoch it is looked at before every mini-batch; after that as rarely as its
    curvature allows, and taken to be linear in between.

    Parameters
    ----------
    model : Sequential
    """

    def __init__(self, model: Sequential):
        self._model = model
        self._spans: int | None = None
        self._change = 0.0

    def begin(self, batches: int) -> list[int]:
        """Begin an epoch; return the mini-batches before which `reached` shall be called."""
        self._batches = batches
        spans = min(self._spans or batches, batches)
        self._cuts = [batches * i // spans for i in range(spans + 1)]
        self._values = [squared_norm(self._model)]
        return self._cuts

    def reached(self, batch: int) -> None:
        """Take note of the norm, if it is time."""
        if batch == self._cuts[len(self._values)]:
            self._values.append(squared_norm(self._model))

    def mean(self, weights: np.ndarray, loss: float) -> float:
        """Return Σ weights · norm over the mini-batches; `loss` says what precision it needs."""
        norms = np.interp(np.arange(self._batches), self._cuts, self._values)
        total = float(weights @ norms)
        steps = np.diff(self._values)
        spans, change = len(steps), float(self._values[-1] - self._values[0])
        bend = abs(np.diff(steps)).max() if spans > 1 else abs(change - self._change)
        # A parabola lies beside its chord by a twelfth of the second difference, in the mean.
        error = weights.sum() * bend / 12.0
        allowed = _PENALTY_ERROR * abs(loss + total)
        if error > allowed:
            spans *= 2
        elif error < allowed / 8.0:  # half as many make it four times as large
            spans //= 2
        self._spans, self._change = max(spans, 1), change
        return total
