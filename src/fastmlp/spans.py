"""Mini-batches in spans: as many in one call of a backend as fit into about 50 ms.

Between two spans Python sees signals, moves the progress bar, and looks at the losses.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from fastmlp.backends import BaseExecutor
    from fastmlp.sources import Source

# Half of the 100 ms within which Ctrl-C is to be seen, since rates change.
SECONDS = 0.05
# A span is at most so many times the one before: the first measurement is the least reliable.
GROWTH = 16


class Spans:
    """Chooses the length of the next span from what the last one took.

    Attributes
    ----------
    length : int
        Mini-batches of the next span.
    """

    def __init__(self) -> None:
        self.length = 1
        self._rows = 0

    def train(
        self,
        executor: BaseExecutor,
        source: Source,
        order: np.ndarray | None,
        batch_size: int,
        first: int,
        last: int,
        losses: np.ndarray,
        *,
        single: bool = False,
    ) -> int:
        """Train on some of the mini-batches `first` to `last` - 1, with `single` on one.

        Parameters
        ----------
        executor, source, order, batch_size, first, last, losses
            As for `BaseExecutor.train`.
        single : bool

        Returns
        -------
        int
            The first mini-batch that is left, or `last`.
        """
        if batch_size != self._rows:
            self.length, self._rows = 1, batch_size
        end = min(first + (1 if single else self.length), last)
        start = time.perf_counter()
        executor.train(source, order, batch_size, first, end, losses)
        self.measured(end - first, time.perf_counter() - start)
        return end

    def measured(self, batches: int, seconds: float) -> None:
        """Take note of what a span took."""
        if seconds > 0.0:
            wanted = int(SECONDS * batches / seconds)
            self.length = max(1, min(wanted, GROWTH * batches))
