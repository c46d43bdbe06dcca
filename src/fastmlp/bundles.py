"""Short epochs in one go: Python between two of them would take as long as they do.

Where nothing is wanted between epochs, no validation, no metrics, no callbacks, their mini-batches
follow each other as those of one long epoch, about 50 ms of them. Each epoch has its own order, its
own loss in the history, and the bits it has alone. If anything stops being finite all of them are
undone, and trained again one by one, so that a divergence is met and told where it happens.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.sources import Source
from fastmlp.spans import GROWTH, SECONDS

if TYPE_CHECKING:
    from fastmlp.streams import Stream
    from fastmlp.training import Trainer


class Bundles:
    """Trains several epochs of a `fit` at once, where that is possible.

    Parameters
    ----------
    trainer : Trainer
    data : Source or Stream
    shuffle : bool
    seed : int
    quiet : bool
        Whether nothing is wanted between epochs.
    """

    def __init__(
        self, trainer: Trainer, data: Source | Stream, shuffle: bool, seed: int, quiet: bool
    ):
        self._trainer = trainer
        self._data = data
        self._shuffle, self._seed = shuffle, seed
        self._possible = quiet and isinstance(data, Source)
        self._count = 1

    def count(self, left: int, seconds: float) -> int:
        """Return how many of the epochs that are left to train together; one took `seconds`."""
        trainer = self._trainer
        if not self._possible or not trainer.executor.in_spans or trainer.optimizer.counts_epochs:
            return 1
        wanted = min(left, int(SECONDS / max(seconds, 1e-9)), GROWTH * self._count)
        self._count = max(wanted, 1)
        return self._count

    def run(self, count: int) -> tuple[list[float], float] | None:
        """Train so many epochs.

        Returns
        -------
        (list of float, float) or None
            Their mean losses, and the seconds of all; None if something was not finite, and the
            model and the optimizer's state are as before.
        """
        trainer, data = self._trainer, self._data
        executor = trainer.executor
        state = trainer.optimizer.state_for(trainer.model)
        start = time.perf_counter()
        orders = []
        for epoch in range(state.epoch, state.epoch + count):
            ((_, order, size),) = trainer.portions(data, self._shuffle, self._seed, epoch)
            orders.append(np.arange(data.n, dtype=np.uint32) if order is None else order)
        losses = np.empty(data.batches(size) * count)
        executor.snapshot()
        executor.train(data, np.concatenate(orders), size, 0, len(losses), losses)
        if not np.isfinite(losses).all() or not executor.finite():
            executor.restore()
            self._possible = False
            return None
        state.epoch += count
        means = []
        for order, part in zip(orders, losses.reshape(count, -1), strict=True):
            total, weight = data.weigh(part, order, size)
            means.append(total / weight if weight > 0.0 else 0.0)
        return means, time.perf_counter() - start
