"""The choice among equivalent programs, on a clock that stands still unless told."""

from __future__ import annotations

import pytest

from fastmlp.backends import tuning
from fastmlp.backends.tuning import Candidate, Tuner, candidates

WAYS = [Candidate(2, "rows"), Candidate(2, "columns"), Candidate(1, "rows")]


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(tuning, "time", clock)
    return clock


def work(tuner, clock, seconds, batches=10**9):
    """Train so many mini-batches that take as long as `seconds` says; return how often by whom."""
    taken = dict.fromkeys(WAYS, 0)
    while batches:
        way, count, budget = tuner.turn(batches)
        assert 1 <= count <= batches
        assert (budget == 0) == (way.threads == 1)
        spent = count * seconds[way]
        clock.now += spent
        tuner.report(count, spent, finished=True)
        taken[way] += count
        batches -= count
    return taken


def settle(tuner, clock, seconds):
    while not tuner.settled:
        work(tuner, clock, seconds, 1)


@pytest.mark.parametrize("best", WAYS, ids=str)
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0])
def test_the_fastest_is_taken(best, scale, clock):
    seconds = {way: scale * (1.0 if way == best else 1.5) for way in WAYS}
    tuner = Tuner(WAYS)
    settle(tuner, clock, seconds)
    assert tuner.best == best
    way, count, _ = tuner.turn(400)
    assert (way, count) == (best, 400)


def test_a_long_mini_batch_is_tried_once_by_each(clock):
    seconds = dict(zip(WAYS, (0.2, 0.1, 0.3), strict=True))
    taken = work(Tuner(WAYS), clock, seconds, 20)
    assert taken == dict(zip(WAYS, (1, 18, 1), strict=True))


def test_an_interrupted_turn_does_not_count(clock):
    tuner = Tuner(WAYS)
    seconds = dict(zip(WAYS, (2e-4, 1e-4, 3e-4), strict=True))
    work(tuner, clock, seconds, 1)
    work(tuner, clock, dict.fromkeys(WAYS, 5e-3), 1)  # the second one's first
    settle(tuner, clock, seconds)
    assert tuner.best == WAYS[1]


def test_trying_is_a_small_share_of_the_work(clock):
    tuner = Tuner(WAYS)
    seconds = dict(zip(WAYS, (0.2, 0.1, 0.3), strict=True))
    spans = [work(tuner, clock, seconds, 1) for _ in range(2000)]
    taken = {way: sum(span[way] for span in spans) for way in WAYS}
    assert 2 <= taken[WAYS[0]] <= 0.01 * taken[WAYS[1]]


def test_a_change_is_noticed(clock):
    tuner = Tuner(WAYS)
    settle(tuner, clock, dict(zip(WAYS, (1e-4, 2e-4, 3e-4), strict=True)))
    assert tuner.best == WAYS[0]
    slower = dict(zip(WAYS, (9e-4, 2e-4, 3e-4), strict=True))
    while tuner.best == WAYS[0]:
        work(tuner, clock, slower, 100)
        assert clock.now < 5.0
    assert tuner.best == WAYS[1]


def test_a_program_that_was_stopped_is_doubted(clock):
    tuner = Tuner(WAYS)
    settle(tuner, clock, dict(zip(WAYS, (1e-4, 2e-4, 3e-4), strict=True)))
    way, count, budget = tuner.turn(400)
    assert way == WAYS[0]
    assert budget > count * 1e-4
    tuner.report(10, budget, finished=False)
    assert not tuner.settled


@pytest.mark.parametrize(
    ("work", "limit", "exact", "counts"),
    [
        (10_000, 8, None, {1}),
        (10_000, 8, 3, {3}),
        (100_000, 8, None, {8, 4, 2, 1}),
        (10**9, 8, None, {8}),
        (10**9, 1, None, {1}),
    ],
)
def test_what_is_worth_trying(work, limit, exact, counts):
    found = candidates(work, limit, exact, ("rows", "columns", "chunks"))
    assert {way.threads for way in found} == counts
    assert {way.strategy for way in found if way.threads == 1} <= {"rows", "chunks"}
    assert len(found) == len(set(found))
