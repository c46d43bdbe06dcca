"""Epochs of a trainer, with scikit-learn's order of samples, penalty, and mean of the losses.

Small epochs are trained several at a time, since Python between two of them would take as long as
they do. How many is a matter of counts alone, never of time, so that a fit says the same each time.
"""

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
_PENALTY_ERROR = 1e-6
# Multiply-adds of the epochs that are trained at a time: about 10 ms.
_AT_ONCE = 500_000_000


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
        specs = trainer.model.parameter_specs
        self._products = [spec.shape for spec in specs if len(spec.shape) == 2]

    def begin(self) -> None:
        """Begin a training; the parameters may have been changed since the last one."""
        if self._norms is not None:
            self._norms.forget()

    def at_once(self, data: Rows, size: int) -> int:
        """Return how many epochs are trained together best: one, unless they are small."""
        work = 3 * data.n * sum(n_in * n_out for n_in, n_out in self._products)
        count = 1 if data.sparse else max(1, _AT_ONCE // max(work, 1))
        return count if self._norms is None else min(count, self._norms.reach(-(-data.n // size)))

    def run(
        self,
        data: Rows,
        order: np.ndarray | None,
        size: int,
        scale: float = 1.0,
        constant: np.ndarray | None = None,
        hooks: CallbackList | None = None,
        count: int = 1,
    ) -> list[float]:
        """Go through all mini-batches, once or several times.

        Parameters
        ----------
        data : Rows
        order : ndarray, shape (count · n,), or None
            None: the rows as they stand.
        size : int
            Rows of a mini-batch.
        scale : float
            What the loss is multiplied with in the result.
        constant : ndarray, shape (n,), optional
            Added to the loss of each sample in the result.
        hooks : CallbackList, optional
        count : int
            Epochs; more than one without hooks, and of dense rows only.

        Returns
        -------
        list of float
            For each epoch: mean over the samples of the loss of their mini-batch, penalty included;
            as in scikit-learn a weighted mean within the mini-batch only.
        """
        orders = [None] * count if order is None else np.split(order, count)
        parts = [self._shares_of(data, part, size) for part in orders]
        batches = len(parts[0][0])
        optimizer = self.trainer.optimizer
        state = self.trainer.state()
        if isinstance(optimizer, (SGD, Adam)):
            strengths = [self.alpha * inverse for _, inverse in parts]
            optimizer.penalize(state.step + 1, np.concatenate(strengths))
        else:
            strengths = [np.full(batches, self.trainer.l2)] * count
        each = hooks is not None and hooks.per_batch
        losses = np.empty(batches * count)
        norms = self._norms
        if norms is not None:
            if hooks is not None:  # which may have changed the weights
                norms.forget()
            weights = [a[0] * b for a, b in zip(parts, strengths, strict=True)]
            norms.begin(0.5 * np.concatenate(weights), count)
        if order is None and count > 1:
            order = np.tile(np.arange(data.n, dtype=np.uint64), count)
        for source, part, base, end in data.windows(order, size, count):
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
        state.epoch += count
        results = []
        for part, (shares, inverse), values in zip(
            orders, parts, losses.reshape(count, batches), strict=True
        ):
            loss = scale * float(shares @ values)
            if constant is not None:
                added = constant if data.weight is None else constant * data.weight
                loss += float((shares * inverse) @ data.sums(added, part, size))
            results.append(loss)
        if norms is not None:
            results = [a + b for a, b in zip(results, norms.totals(), strict=True)]
        return results

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
    """Σ weights · ‖W‖² over the mini-batches of some epochs, from looking at ‖W‖² now and then.

    Between two looks it is taken for the parabola through both and the one before. Its second
    derivative κ is what a straight line would miss, by κ·h³/12 in the sum over h mini-batches, and
    decides how far apart the looks may be: as a rule an epoch or more, a few mini-batches at the
    beginning of a training.

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
        self._greatest_bend = 0.0
        self._end: float | None = None

    def forget(self) -> None:
        """Look again before the next epoch, as others may have changed the weights."""
        self._end = None

    def reach(self, batches: int) -> int:
        """Return how many epochs of so many mini-batches may pass until the next look."""
        return max(1, self._step // batches)

    def begin(self, weights: np.ndarray, count: int) -> None:
        """Begin `count` epochs; `weights` are those of all their mini-batches."""
        self._weights, self._count = weights, count
        changed = self._end is None or self._executor.model.flat_parameters.touched
        self._places, self._norms = [0], [self._executor.squared_norm() if changed else self._end]
        if changed:
            self._slope = np.nan
        self._bends: list[float] = []
        self.next = min(self._step, len(weights))

    def look(self, loss: float) -> None:
        """Take note of the norm at `next`; `loss` says what precision is needed."""
        batches = len(self._weights)
        distance = self.next - self._places[-1]
        self._places.append(self.next)
        self._end = self._executor.squared_norm()
        self._norms.append(self._end)
        slope = (self._norms[-1] - self._norms[-2]) / distance
        bend = 2.0 * (slope - self._slope) / (distance + self._distance)
        known = not np.isnan(bend)  # otherwise there was no slope before this one
        self._bends.append(bend if known else 0.0)
        # A bend may be small by chance, so greater ones before it go on counting for a while.
        bend = self._greatest_bend = max(abs(self._bends[-1]), 0.5 * self._greatest_bend)
        error = self._weights.sum() / self._count * bend / 12.0  # of an epoch, times step²
        allowed = _PENALTY_ERROR * abs(loss)
        self._step = max(self._step, 2 * distance) if known else max(1, self._step // 2)
        if error * self._step**2 > allowed:
            self._step = max(1, int((allowed / error) ** 0.5))
        self._distance, self._slope = distance, slope
        self.next = min(self.next + self._step, batches)

    def totals(self) -> list[float]:
        """Return the sums over each of the epochs."""
        steps = np.arange(len(self._weights))
        places, norms = np.array(self._places), np.array(self._norms)
        here = np.searchsorted(places, steps, "right") - 1
        begun, left = steps - places[here], steps - places[here + 1]
        slopes = np.diff(norms) / np.diff(places)
        norms = norms[here] + begun * (slopes[here] + 0.5 * left * np.array(self._bends)[here])
        return (self._weights * norms).reshape(self._count, -1).sum(axis=1).tolist()
