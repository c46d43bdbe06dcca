"""The progress bar of a training."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

# Work that is done before a reader would look up gets no bar.
_PATIENCE_SECONDS = 0.5


class Progress:
    """A tqdm bar over all mini-batches; imported and shown only if the work turns out to be long.

    Parameters
    ----------
    show : bool or None
        None: where the standard error is a terminal. True: from the first mini-batch, and what it
        showed last stays.
    epochs : int
    batches : int or None
        Mini-batches of an epoch; None where that is not known.
    unit : str
        What is counted.

    Raises
    ------
    ImportError
        If `show` is True and tqdm is not installed; where it is None there is no bar then.
    """

    def __init__(self, show: bool | None, epochs: int, batches: int | None, unit: str = "batch"):
        self._unit = unit
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._wanted = terminal if show is None else show
        self._stays = bool(show)
        self._patience = 0.0 if show else _PATIENCE_SECONDS
        self._epochs = epochs
        self._total = None if batches is None else epochs * batches
        self._start = time.perf_counter()
        self._done = self._skipped = 0
        self._epoch = 0
        self._bar: Any = None
        if show:
            try:
                import tqdm  # noqa: F401
            except ImportError as error:
                raise ImportError("a progress bar needs tqdm: pip install tqdm") from error

    def skip(self, batches: int) -> None:
        """Take note of mini-batches that were done before, in a training that is gone on with."""
        self._skipped += batches

    def begin_epoch(self, epoch: int) -> None:
        """Take note of the epoch that begins, counted from 0."""
        self._epoch = epoch

    def advance(self, batches: int, loss: float | None = None) -> None:
        """Move by some mini-batches; the last one had this loss."""
        if not self._wanted:
            return
        self._done += batches
        if self._bar is None:
            if time.perf_counter() - self._start < self._patience:
                return
            try:
                from tqdm import tqdm
            except ImportError:  # nobody asked for a bar
                self._wanted = False
                return
            self._bar = tqdm(
                total=self._total,
                initial=self._skipped,
                unit=self._unit,
                leave=self._stays,
                dynamic_ncols=True,
            )
            batches = self._done
        if loss is not None:
            self._bar.set_description_str(f"epoch {self._epoch + 1}/{self._epochs}", refresh=False)
            self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
        self._bar.update(batches)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
