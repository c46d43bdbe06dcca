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

    from fastmlp.callbacks import CallbackList
    from fastmlp.estimators.rows import Rows
    from fastmlp.training import Trainer

# Multiply-adds of the epochs that are trained at a time, about 40 ms; those of a sample count as so
# many at least, since the orders of all these epochs are in memory.
_AT_ONCE = 2_000_000_000
_LEAST_WORK = 1000


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
        self._strengths, self._first = np.zeros(0), 0  # of the penalty in losses, from which step
        if alpha:
            self.executor.penalty = self._penalty
        self._spans = Spans()
        self._shares: tuple[Any, tuple[np.ndarray, np.ndarray]] | None = None
        specs = trainer.model.parameter_specs
        self._products = [spec.shape for spec in specs if len(spec.shape) == 2]

    def at_once(self, data: Rows) -> int:
        """Return how many epochs are trained together best: one, unless they are small."""
        work = max(3 * sum(n_in * n_out for n_in, n_out in self._products), _LEAST_WORK)
        return 1 if data.sparse else max(1, _AT_ONCE // (work * data.n))

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
            strengths = np.concatenate([self.alpha * inverse for _, inverse in parts])
            optimizer.penalize(state.step + 1, strengths)
        else:
            strengths = np.full(batches * count, self.trainer.l2)
        self._strengths, self._first = strengths / scale, state.step + 1
        each = hooks is not None and hooks.per_batch
        losses = np.empty(batches * count)
        if order is None and count > 1:
            order = np.tile(np.arange(data.n, dtype=np.uint64), count)
        for source, part, base, end in data.windows(order, size, count):
            first = base
            while first < end:
                if each:
                    hooks.on_train_batch_begin(first)
                last = base + self._spans.train(
                    self.executor,
                    source,
                    part,
                    size,
                    first - base,
                    end - base,
                    losses[base:],
                    single=each,
                )
                if each:
                    hooks.on_train_batch_end(first, {"loss": scale * float(losses[first])})
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
        return results

    def _penalty(self, first_step: int, count: int) -> np.ndarray:
        start = first_step - self._first
        return self._strengths[start : start + count]

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
