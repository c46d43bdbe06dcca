"""The choice among equivalent programs, whose times are told."""

from __future__ import annotations

import pytest

from fastmlp.backends.tuning import Candidate, Experience, Tuner, candidates, experience

WAYS = [Candidate(2, "rows"), Candidate(2, "columns"), Candidate(1, "rows")]


def work(tuner, seconds, batches=10**9):
    """Train so many mini-batches that take as long as `seconds` says; return how often by whom."""
    taken = dict.fromkeys(WAYS, 0)
    while batches:
        way, count, budget = tuner.turn(batches)
        assert 1 <= count <= batches
        assert (budget == 0) == (way.threads == 1)
        tuner.report(count, count * seconds[way])
        taken[way] += count
        batches -= count
    return taken


def settle(tuner, seconds):
    while not tuner.settled:
        work(tuner, seconds, 1)


@pytest.mark.parametrize("best", WAYS, ids=str)
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0])
def test_the_fastest_is_taken(best, scale):
    seconds = {way: scale * (1.0 if way == best else 1.5) for way in WAYS}
    tuner = Tuner(WAYS)
    settle(tuner, seconds)
    assert tuner.best == best
    way, count, _ = tuner.turn(400)
    assert (way, count) == (best, 400)


def test_a_long_mini_batch_is_tried_once_by_each():
    seconds = dict(zip(WAYS, (0.2, 0.1, 0.3), strict=True))
    taken = work(Tuner(WAYS), seconds, 20)
    assert taken == dict(zip(WAYS, (1, 18, 1), strict=True))


def test_an_interrupted_turn_does_not_count():
    tuner = Tuner(WAYS)
    seconds = dict(zip(WAYS, (2e-4, 1e-4, 3e-4), strict=True))
    work(tuner, seconds, 1)
    work(tuner, dict.fromkeys(WAYS, 5e-3), 1)  # the second one's first
    settle(tuner, seconds)
    assert tuner.best == WAYS[1]


def test_trying_is_a_small_share_of_the_work():
    tuner = Tuner(WAYS)
    seconds = dict(zip(WAYS, (0.2, 0.1, 0.3), strict=True))
    spans = [work(tuner, seconds, 1) for _ in range(2000)]
    taken = {way: sum(span[way] for span in spans) for way in WAYS}
    assert 2 <= taken[WAYS[0]] <= 0.01 * taken[WAYS[1]]


def test_a_change_is_noticed():
    tuner = Tuner(WAYS)
    settle(tuner, dict(zip(WAYS, (1e-4, 2e-4, 3e-4), strict=True)))
    assert tuner.best == WAYS[0]
    slower = dict(zip(WAYS, (9e-4, 2e-4, 3e-4), strict=True))
    steps = 0
    while tuner.best == WAYS[0]:
        work(tuner, slower, 100)
        steps += 100
        assert steps * slower[WAYS[0]] < 5.0
    assert tuner.best == WAYS[1]


def test_a_program_that_was_stopped_is_doubted():
    tuner = Tuner(WAYS)
    settle(tuner, dict(zip(WAYS, (1e-4, 2e-4, 3e-4), strict=True)))
    way, count, budget = tuner.turn(400)
    assert way == WAYS[0]
    assert budget > count * 1e-4
    tuner.report(10, budget * 1.01)
    assert not tuner.settled


def test_threads_are_doubted_when_one_would_have_been_faster():
    known = Experience(len(WAYS))
    tuner = Tuner(WAYS, known)
    settle(tuner, dict(zip(WAYS, (1e-4, 2e-4, 3e-4), strict=True)))
    as_slow_as_one = dict(zip(WAYS, (2.9e-4, 9e-4, 3e-4), strict=True))
    assert work(tuner, as_slow_as_one, 1000)[WAYS[0]] == 1000
    assert tuner.settled
    slower = dict(zip(WAYS, (4e-4, 9e-4, 3e-4), strict=True))
    steps = 0
    while tuner.settled:
        work(tuner, slower, 1)
        steps += 1
    assert steps * 1e-4 == pytest.approx(known.spent, abs=1.1e-4)
    settle(tuner, slower)
    assert tuner.best == WAYS[2]


def test_equal_networks_share_what_was_lost_since_the_last_look():
    known = Experience(len(WAYS))
    tuners = [Tuner(WAYS, known) for _ in range(2)]
    settle(tuners[0], dict(zip(WAYS, (1e-4, 2e-4, 3e-4), strict=True)))
    slower = dict(zip(WAYS, (4e-4, 9e-4, 3e-4), strict=True))
    steps = 0
    while tuners[0].settled:
        work(tuners[steps % 2], slower, 1)
        steps += 1
    assert steps * 1e-4 == pytest.approx(known.spent, abs=1.1e-4)
    settle(tuners[1], slower)
    assert known.lost == 0.0


def test_time_that_is_won_back_is_not_lost():
    tuner = Tuner(WAYS)
    settle(tuner, dict(zip(WAYS, (1e-4, 2e-4, 3e-4), strict=True)))
    for _ in range(10):
        work(tuner, dict.fromkeys(WAYS, 4e-4), 10)
        work(tuner, dict.fromkeys(WAYS, 1e-4), 10)
    assert tuner.settled


def test_without_fewer_threads_several_times_as_long_is_borne():
    tuner = Tuner(WAYS[:2])
    settle(tuner, dict(zip(WAYS, (1e-4, 2e-4), strict=False)))
    work(tuner, dict.fromkeys(WAYS, 3.9e-4), 500)
    assert tuner.settled
    work(tuner, dict.fromkeys(WAYS, 8e-4), 10)
    assert not tuner.settled


def test_equal_networks_share_what_was_seen():
    known = Experience(len(WAYS))
    seconds = dict(zip(WAYS, (2e-4, 1e-4, 3e-4), strict=True))
    settle(Tuner(WAYS, known), seconds)
    fits = [work(Tuner(WAYS, known), seconds, 100) for _ in range(1000)]
    assert fits[0][WAYS[1]] == 100
    looks = sum(fit[WAYS[0]] > 0 for fit in fits)
    assert 2 <= looks <= 20  # by all of them together as often as by one that trains on


def test_steps_that_nobody_watches_count():
    tuner = Tuner(WAYS)
    settle(tuner, dict.fromkeys(WAYS, 1e-4))
    tuner.trust(4000)
    assert tuner.settled
    tuner.trust(90_000)
    assert not tuner.settled


def test_experience_is_found_by_what_is_alike():
    first = experience("a network", tuple(WAYS), single=False)
    assert experience("a network", tuple(WAYS), single=False) is first
    others = [
        experience("another", tuple(WAYS), single=False),
        experience("a network", tuple(WAYS[1:]), single=False),
        experience("a network", tuple(WAYS), single=True),
    ]
    assert first not in others


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
