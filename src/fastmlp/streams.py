"""Training data that comes batch by batch."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from fastmlp.errors import shown
from fastmlp.sources import Moments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fastmlp.evaluation import Evaluator
    from fastmlp.sources import Source


class Stream:
    """Batches from an iterable, or from a function that returns a new iterable for each epoch.

    Parameters
    ----------
    batches : iterable or callable
        Of (x, y) or (x, y, sample_weight).
    evaluator : Evaluator
        Checks each batch.
    epochs : int
        How often the batches will be gone through.

    Raises
    ------
    TypeError, ValueError
        If the first batch is refused, there is none, or an iterator shall serve several times.
    """

    def __init__(self, batches: Any, evaluator: Evaluator, epochs: int):
        self._batches = batches
        self._evaluator = evaluator
        passes = epochs + evaluator.model.needs_data
        if hasattr(batches, "__next__") and passes > 1:
            why = "epochs is greater than 1" if epochs > 1 else "Standardize learns from them first"
            raise ValueError(
                "x is an iterator, which gives its batches only once, but "
                f"{why}: give a list, or a function that returns a new iterator"
            )
        self._opened: Iterator[Any] | None = self._open()
        first = next(self._opened, None)
        if first is None:
            raise ValueError("x gives no batches")
        self.columns = self._check(first, 0).x.shape[1]
        self._opened = chain([first], self._opened)

    def _open(self) -> Iterator[Any]:
        batches = self._batches() if callable(self._batches) else self._batches
        if not hasattr(batches, "__iter__"):
            raise TypeError(f"x() must return an iterable of batches; got {shown(batches)}")
        return iter(batches)

    def _check(self, batch: Any, number: int) -> Source:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(
                "x must give batches (x, y) or (x, y, sample_weight); "
                f"batch {number} is {shown(batch)}"
            )
        try:
            return self._evaluator.check(*batch)
        except (TypeError, ValueError) as error:
            raise type(error)(f"batch {number}: {error}") from error

    def batches(self, batch_size: int | None) -> None:
        """Return None: how many batches there are is seen when they have come."""

    def sources(self) -> Iterator[Source]:
        """Return the checked batches of one epoch."""
        opened = self._opened or self._open()
        self._opened = None
        empty = True
        for number, batch in enumerate(opened):
            empty = False
            yield self._check(batch, number)
        if empty:
            raise ValueError("x gives no batches any more: is it an iterator that is used up?")

    def moments(self) -> Moments:
        """Go through the batches once for the moments of the inputs."""
        moments = Moments(self.columns)
        for source in self.sources():
            moments.add(source.x)
        return moments
