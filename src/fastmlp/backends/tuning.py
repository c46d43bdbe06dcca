"""Which of several equivalent programs is the fastest here and now, found out while working.

Every program of a plan gives the same bits, whatever its threads and its strategy, so the choice
can be made by looking: the first mini-batches are run in turns by each candidate, and the rest by
the one that took the least time. Virtual cores move between caches, and neighbours come and go, so
the others get another turn from time to time.
"""

from __future__ import annotations

import time
from typing import NamedTuple

# Seconds of work by which a candidate is judged in one turn.
_TURN = 3e-4
# Turns that each candidate has before a decision: one to warm its caches, more against bad luck.
_TURNS = 3
# A mini-batch that takes so many seconds outlasts most of what may disturb it, and needs one only.
_LONG = 0.01
# Seconds after which all are tried again, at first; twice as long after each look that changed
# nothing, up to the last, but not before trying is so small a share of the work.
_DOUBT, _LONGEST_DOUBT, _SHARE = 0.5, 8.0, 0.01
# How many times its expected time a program on several threads may take before it is stopped.
_PATIENCE = 4
# Below so many multiply-adds a second core cannot win: handing over takes as long as the work.
_ALONE = 15_000
# Above so many a thread less is never better, so that the slow candidates are not even tried.
_TOGETHER = 4_000_000


class Candidate(NamedTuple):
    """A number of threads and a strategy of `fastmlp.backends.lowering`."""

    threads: int
    strategy: str


def candidates(
    multiply_adds: float, limit: int, exact: int | None, strategies: tuple[str, ...]
) -> list[Candidate]:
    """Return what is worth trying, the most promising first.

    Parameters
    ----------
    multiply_adds : float
        Of one mini-batch.
    limit : int
        The most threads that may be used.
    exact : int or None
        So many threads have been asked for.
    strategies : tuple of str
        The first one, and chunks, are for one thread as well.
    """
    if exact is not None:
        counts = [exact]
    elif limit == 1 or multiply_adds < _ALONE:
        counts = [1]
    else:
        counts = [limit]
        if multiply_adds < _TOGETHER:
            while counts[-1] > 1:
                counts.append(counts[-1] // 2)
    alone = [s for s in strategies if s in (strategies[0], "chunks")]
    return [
        Candidate(threads, strategy)
        for threads in counts
        for strategy in (strategies if threads > 1 else alone)
    ]


class Tuner:
    """Chooses among candidates by their times.

    Parameters
    ----------
    candidates : list of Candidate
    """

    def __init__(self, candidates: list[Candidate]):
        self._candidates = candidates
        self._known = [float("inf")] * len(
            candidates
        )  # seconds of a mini-batch, from the last look
        self._seen = list(self._known)  # the same from this look, the least of several turns
        self._turns = 0
        self._tried: int | None = None  # whose turn it is, while candidates are tried
        self._spent = 0.0
        self._decided = float("-inf")
        self._doubt = _DOUBT

    @property
    def settled(self) -> bool:
        """Whether the best candidate is known, and it is too early to doubt it."""
        if len(self._candidates) == 1:
            return True
        return self._turns == 0 and time.perf_counter() - self._decided < self._doubt

    @property
    def best(self) -> Candidate:
        """The candidate that took the least time, the first one before any had a turn."""
        return self._candidates[self._known.index(min(self._known))]

    def turn(self, count: int) -> tuple[Candidate, int, float]:
        """Return who is next, for how many of `count` mini-batches, and after how many seconds to
        stop.

        Zero seconds mean no end. Threads that wait for each other can become slower without bound
        when others use the cores; they are stopped when they take several times what was expected.
        """
        self._tried = None
        if self.settled:
            candidate, expected = self.best, min(self._known)
            alone = len(self._candidates) == 1 or candidate.threads == 1
            return candidate, count, 0.0 if alone else _PATIENCE * (_TURN + count * expected)
        number = self._tried = self._turns % len(self._candidates)
        candidate = self._candidates[number]
        expected = min(self._known[number], self._seen[number])
        count = min(count, 1 if expected == float("inf") else max(1, int(_TURN / expected)))
        return candidate, count, 0.0 if candidate.threads == 1 else _PATIENCE * _TURN

    def report(self, count: int, seconds: float, finished: bool) -> None:
        """Take note of how the last turn went: how many mini-batches in how many seconds, and
        whether it was not stopped."""
        number = self._tried
        if number is None:
            if not finished:
                self._decided, self._doubt = float("-inf"), _DOUBT
            return
        # The least of several turns: a turn that was interrupted says nothing.
        self._seen[number] = min(self._seen[number], seconds / count)
        self._turns += 1
        self._spent += seconds
        rounds, rest = divmod(self._turns, len(self._candidates))
        if rest == 0 and (rounds == _TURNS or min(self._seen) > _LONG):
            before = self.best
            self._known, self._seen = self._seen, [float("inf")] * len(self._candidates)
            self._doubt = min(2 * self._doubt, _LONGEST_DOUBT) if self.best == before else _DOUBT
            self._doubt = max(self._doubt, self._spent / _SHARE)
            self._turns, self._spent = 0, 0.0
            self._decided = time.perf_counter()
