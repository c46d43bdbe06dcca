"""Which of several equivalent programs is the fastest here and now, found out while working.

Every program of a plan gives the same bits, whatever its threads and its strategy, so the choice
can be made by looking: the first mini-batches are run in turns by each candidate, and the rest by
the one that took the least time. Virtual cores move between caches, and neighbours come and go, so
the others get another turn after some work. Threads that wait for each other suffer from neighbours
the most, a single one the least: as soon as the choice has lost more time against the best on fewer
threads than looking takes, all are looked at again.

Equal networks share what was seen (`experience`): the next fold, seed, or fit of the same kind
begins with the choice of the last one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

# Seconds of work by which a candidate is judged in one turn.
_TURN = 3e-4
# Turns that each candidate has before a decision: one to warm its caches, more against bad luck.
_TURNS = 3
# A mini-batch that takes so many seconds outlasts most of what may disturb it, and needs one only.
_LONG = 0.01
# Seconds of work after which all are tried again, at first; twice as long after each look that
# changed nothing, up to the last, but not before trying is so small a share of the work.
_DOUBT, _LONGEST_DOUBT, _SHARE = 0.5, 2.0, 0.01
# How many times its expected time a program on several threads may take, where it is not known how
# long fewer would.
_PATIENCE = 4
# Below so many multiply-adds a second core cannot win: handing over takes as long as the work.
_ALONE = 15_000
# Above so many a thread less is never better, so that the slow candidates are not even tried: a
# step of a millisecond outlasts what threads wait for each other where others take their cores.
_TOGETHER = 100_000_000


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


class Experience:
    """What is known of the candidates of equal networks.

    Parameters
    ----------
    count : int
        Of the candidates.

    Attributes
    ----------
    seconds : list of float
        Of a mini-batch by each candidate, from the last look.
    worked : float
        Seconds of work since then.
    doubt : float
        After how many of those to look again.
    spent : float
        Seconds that the last look took.
    lost : float
        Seconds since then that the best candidate took beyond what is borne (`Tuner`).
    """

    def __init__(self, count: int):
        self.seconds = [float("inf")] * count
        self.worked = 0.0
        self.doubt = 0.0
        self.spent = 0.0
        self.lost = 0.0
        self._patience = _DOUBT

    @property
    def best(self) -> int:
        """The candidate that took the least time, the first one before any had a turn."""
        return self.seconds.index(min(self.seconds))

    def decide(self, seconds: list[float], spent: float) -> None:
        """Take over what a look has seen, which took so many seconds."""
        before, self.seconds = self.best, seconds
        unchanged = self.best == before
        self._patience = min(2 * self._patience, _LONGEST_DOUBT) if unchanged else _DOUBT
        self.worked, self.doubt = 0.0, max(self._patience, spent / _SHARE)
        self.spent, self.lost = spent, 0.0

    def distrust(self) -> None:
        """Look again as soon as possible."""
        self.doubt, self._patience, self.lost = 0.0, _DOUBT, 0.0


@lru_cache(maxsize=256)
def experience(structure: Hashable, candidates: tuple[Candidate, ...], single: bool) -> Experience:
    """Return the experience with equal networks, apart for those that come in `single` steps."""
    return Experience(len(candidates))


class Tuner:
    """Chooses among candidates by their times.

    Parameters
    ----------
    candidates : list of Candidate
    known : Experience, optional
        Of these candidates, which others may add to.
    """

    def __init__(self, candidates: list[Candidate], known: Experience | None = None):
        self._candidates = candidates
        self._known = known or Experience(len(candidates))
        # Seconds of a mini-batch in this look, the least of several turns.
        self._seen = [float("inf")] * len(candidates)
        self._turns = 0
        self._tried: int | None = None  # whose turn it is, while candidates are tried
        self._spent = 0.0

    @property
    def settled(self) -> bool:
        """Whether the best candidate is known, and it is too early to doubt it."""
        if len(self._candidates) == 1:
            return True
        return self._turns == 0 and self._known.worked < self._known.doubt

    @property
    def best(self) -> Candidate:
        """The candidate that took the least time, the first one before any had a turn."""
        return self._candidates[self._known.best]

    def turn(self, count: int) -> tuple[Candidate, int, float]:
        """Return who is next, for how many of `count` mini-batches, and after how many seconds to
        stop.

        Zero seconds mean no end. Threads that wait for each other can become slower without bound
        when others use the cores.
        """
        self._tried = None
        known = self._known.seconds
        if self.settled:
            if not self._may_wait:
                return self.best, count, 0.0
            left = max(self._tolerance - self._known.lost, 0.0)
            return self.best, count, count * self._bearable + left
        number = self._tried = self._turns % len(self._candidates)
        candidate = self._candidates[number]
        expected = min(known[number], self._seen[number])
        count = min(count, 1 if expected == float("inf") else max(1, int(_TURN / expected)))
        return candidate, count, 0.0 if candidate.threads == 1 else _PATIENCE * _TURN

    @property
    def _may_wait(self) -> bool:
        """Whether the best candidate's threads wait for each other, and there are other ways."""
        return len(self._candidates) > 1 and self.best.threads > 1

    @property
    def _bearable(self) -> float:
        """Seconds of a mini-batch that are no reason to doubt the best candidate."""
        threads = self.best.threads
        ways = zip(self._candidates, self._known.seconds, strict=True)
        fewer = min((s for c, s in ways if c.threads < threads), default=float("inf"))
        return min(fewer, _PATIENCE * min(self._known.seconds))

    @property
    def _tolerance(self) -> float:
        """Seconds that may be lost before the best candidate is doubted."""
        return max(_PATIENCE * _TURN, self._known.spent)

    def trust(self, count: int) -> None:
        """Take note of so many mini-batches that the best candidate makes without being watched."""
        if len(self._candidates) > 1:
            self._known.worked += count * min(self._known.seconds)

    def report(self, count: int, seconds: float) -> None:
        """Take note of how the last turn went: how many mini-batches in how many seconds."""
        number = self._tried
        if number is None:
            self._known.worked += seconds
            if self._may_wait:
                self._known.lost = max(0.0, self._known.lost + seconds - count * self._bearable)
                if self._known.lost > self._tolerance:
                    self._known.distrust()
            return
        # The least of several turns: a turn that was interrupted says nothing.
        self._seen[number] = min(self._seen[number], seconds / count)
        self._turns += 1
        self._spent += seconds
        rounds, rest = divmod(self._turns, len(self._candidates))
        # Predictions of several Python threads may have taken turns at once.
        if rest == 0 and (rounds >= _TURNS or min(self._seen) > _LONG):
            self._known.decide(self._seen, self._spent)
            self._seen = [float("inf")] * len(self._candidates)
            self._turns, self._spent = 0, 0.0
