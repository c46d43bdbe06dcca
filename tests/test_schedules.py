"""Schedules: PyTorch's numbers, composition, spans, plain data, errors."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from fastmlp import schedules
from fastmlp.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    Function,
    InverseScaling,
    OneCycle,
    Polynomial,
    Product,
    Sequence,
    Step,
    Warmup,
)
from golden.stored import load

GOLDEN = load("schedules")
FROM_PYTORCH = [schedules.from_config(json.loads(config)) for config in GOLDEN["configs"]]
OTHERS = [
    InverseScaling(0.5, power=0.7, decay=0.1),
    Polynomial(0.5, 20, end=0.1, power=0.5),
    Exponential(0.5, 0.9, unit="epoch"),
    Sequence([0.1, Cosine(0.3, 10), Constant(0.2)], [5, 30]),
    Product([Warmup(0.5, 10), Step(1.0, 20, 0.5), 0.1]),
]
EVERY = FROM_PYTORCH + OTHERS


def test_every_schedule_is_tested():
    assert {schedule.name for schedule in EVERY} == set(SCHEDULES)


@pytest.mark.parametrize("number", range(len(FROM_PYTORCH)), ids=[str(s) for s in FROM_PYTORCH])
def test_rates_equal_pytorch(number):
    expected = GOLDEN["rates"][number]
    rates = FROM_PYTORCH[number](np.arange(len(expected)))
    # PyTorch multiplies step by step, 60 times; that is worth 60 roundings.
    np.testing.assert_allclose(rates, expected, rtol=100 * np.finfo(float).eps, atol=1e-16)


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_rates_do_not_depend_on_the_span(schedule):
    whole = schedule(np.arange(100))
    assert whole.dtype == np.float64
    assert (whole >= 0).all()
    for size in (1, 3, 7, 64):
        parts = [schedule(np.arange(a, min(a + size, 100))) for a in range(0, 100, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    backwards = schedule(np.arange(99, -1, -1).reshape(4, 25))
    np.testing.assert_array_equal(backwards.ravel()[::-1], whole)


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_scalars_empty_and_far_positions(schedule):
    assert schedule(3).shape == ()
    assert schedule(np.arange(0)).shape == (0,)
    assert np.isfinite(schedule(np.array([10**9, 2**40]))).all()


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_plain_data_equality_and_copies(schedule):
    twin = schedules.from_config(json.loads(json.dumps(schedule.config())))
    for other in (twin, pickle.loads(pickle.dumps(schedule))):
        assert other == schedule
        assert hash(other) == hash(schedule)
        assert other.unit == schedule.unit
        np.testing.assert_array_equal(other(np.arange(50)), schedule(np.arange(50)))


# --- formulas that PyTorch does not have ---


def test_inverse_scaling_is_scikit_learns():
    rates = InverseScaling(0.5, power=0.5)(np.arange(5))
    np.testing.assert_allclose(rates, [0.5 / math.sqrt(t + 1) for t in range(5)], rtol=1e-15)


def test_ends_are_held():
    assert Polynomial(0.5, 10, end=0.1)(1000) == 0.1
    assert Cosine(0.5, 10, end=0.1)(1000) == 0.1
    assert OneCycle(0.5, 10)(1000) == pytest.approx(0.5 / 25 / 1e4, rel=1e-12)


def test_step_takes_a_period_or_places():
    np.testing.assert_allclose(
        Step(1.0, 3, 0.5)(np.arange(7)), [1, 1, 1, 0.5, 0.5, 0.5, 0.25], rtol=1e-15
    )
    np.testing.assert_allclose(Step(1.0, [0, 2], 0.5)(np.arange(4)), [0.5, 0.5, 0.25, 0.25])
    np.testing.assert_array_equal(Step(1.0, (2,), 2.0)(np.arange(4)), [1, 1, 2, 2])


def test_restarts_stretch():
    rates = Cosine(1.0, 2, restarts=True, stretch=3)(np.arange(2 + 6 + 18 + 1))
    np.testing.assert_array_equal(np.flatnonzero(rates == 1.0), [0, 2, 8, 26])


# --- composition ---


def test_warmup_leads_into_its_schedule():
    inner = Cosine(0.4, 20)
    rates = Warmup(inner, 4, start=0.0)(np.arange(24))
    np.testing.assert_allclose(rates[:4], [0.0, 0.1, 0.2, 0.3], rtol=1e-15)
    np.testing.assert_array_equal(rates[4:], inner(np.arange(20)))


def test_then_starts_the_next_at_its_own_zero():
    schedule = Constant(0.1).then(Exponential(0.2, 0.5), at=3).then(0.7, at=5)
    np.testing.assert_allclose(schedule(np.arange(7)), [0.1, 0.1, 0.1, 0.2, 0.1, 0.7, 0.7])


def test_numbers_scale():
    schedule = Exponential(0.2, 0.5)
    expected = 0.5 * schedule(np.arange(4))
    np.testing.assert_array_equal((schedule * 0.5)(np.arange(4)), expected)
    np.testing.assert_array_equal((0.5 * schedule)(np.arange(4)), expected)
    with pytest.raises(TypeError):
        schedule * "a"
    with pytest.raises(ValueError, match="factor of a schedule"):
        schedule * -1.0


def test_units():
    steps = np.arange(10, 14)
    by_step, by_epoch = Exponential(1.0, 0.5), Exponential(1.0, 0.1, unit="epoch")
    np.testing.assert_array_equal(by_step.rates(steps, 2), by_step(steps))
    np.testing.assert_array_equal(by_epoch.rates(steps, 2), np.full(4, by_epoch(2)))
    mixed = by_step * by_epoch
    assert mixed.unit == "mixed"
    np.testing.assert_array_equal(mixed.rates(steps, 2), by_step(steps) * by_epoch(2))
    with pytest.raises(ValueError, match="counts steps and epochs"):
        mixed(steps)
    assert (by_epoch * 0.5).unit == "epoch"
    assert Constant(0.1).then(by_epoch, at=2).unit == "epoch"
    assert Warmup(by_epoch, 2).unit == "epoch"
    for make in (
        lambda: by_step.then(by_epoch, at=2),
        lambda: Warmup(mixed, 2),
        lambda: Sequence([mixed, mixed], [2]),
    ):
        with pytest.raises(ValueError, match="schedules in a row must have one unit"):
            make()


def test_functions():
    schedule = Function(lambda t: 1 / (1 + t), unit="epoch")
    rates = schedule(np.arange(4).reshape(2, 2))
    np.testing.assert_array_equal(rates, [[1, 1 / 2], [1 / 3, 1 / 4]])
    np.testing.assert_array_equal(schedule.rates(np.arange(3), 1), [0.5, 0.5, 0.5])
    with pytest.raises(TypeError, match="cannot be stored"):
        schedule.config()
    with pytest.raises(ValueError, match=r"learning rate at step 0 must be .*; got -1.0"):
        Function(lambda t: -1.0)(0)
    with pytest.raises(TypeError, match="function of a schedule must be callable"):
        Function(0.1)


# --- errors ---


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Constant(-1.0), ValueError, "lr of constant must be a finite number >= 0"),
        (lambda: Constant("a"), TypeError, "lr of constant"),
        (lambda: Step(0.1, 0), ValueError, "every of step must be an integer >= 1"),
        (lambda: Step(0.1, [3, 2]), ValueError, r"rising positions; got \[3, 2\]"),
        (lambda: Step(0.1, []), ValueError, "rising positions"),
        (lambda: Step(0.1, "ab"), TypeError, "every of step must be an integer"),
        (lambda: Step(0.1, 3, 0.0), ValueError, "gamma of step must be .* > 0"),
        (lambda: Step(0.1, 3, unit="batch"), ValueError, "unit of step must be one of 'step', 'ep"),
        (lambda: Exponential(0.1, 1.1), ValueError, "gamma of exponential"),
        (lambda: Polynomial(0.1, 0), ValueError, "total of polynomial"),
        (lambda: Polynomial(0.1, 5, power=0.0), ValueError, "power of polynomial"),
        (lambda: InverseScaling(0.1, decay=0.0), ValueError, "decay of inverse_scaling"),
        (lambda: Cosine(0.1, 2.5), TypeError, "period of cosine must be an integer"),
        (lambda: Cosine(0.1, 5, restarts=1), TypeError, "restarts of cosine must be True or False"),
        (lambda: Cosine(0.1, 5, stretch=0), ValueError, "stretch of cosine"),
        (lambda: Warmup(0.1, 0), ValueError, "length of warmup"),
        (lambda: Warmup(0.1, 5, start=2.0), ValueError, "start of warmup"),
        (lambda: Warmup("fast", 5), TypeError, r"schedule of warmup \(or a schedule\) must be"),
        (lambda: OneCycle(0.1, 1), ValueError, "total of one_cycle"),
        (lambda: OneCycle(0.1, 3), ValueError, "rise of one_cycle with total 3 must be .* > 0.333"),
        (lambda: OneCycle(0.1, 30, div=0.5), ValueError, "div of one_cycle"),
        (lambda: Sequence([0.1, 0.2], []), ValueError, "must be 1 rising positions"),
        (lambda: Sequence([0.1, 0.2, 0.3], [5, 5]), ValueError, r"got \[5, 5\]"),
        (lambda: Sequence([], []), ValueError, "at of a sequence of 0 schedules"),
        (lambda: Product([]), ValueError, "at least one schedule"),
        (lambda: Product(None), TypeError, "schedules of a product must be a list .* got None"),
        (lambda: Sequence(None, []), TypeError, "schedules of a sequence must be a list"),
        (lambda: Constant(0.1)(1.5), TypeError, "positions must be integers"),
        (lambda: Constant(0.1)([-1, 2]), ValueError, "positions must be >= 0; got -1"),
        (lambda: schedules.from_config({"name": "cosin"}), ValueError, "did you mean 'cosine'"),
        (
            lambda: schedules.from_config({"name": "cosine", "lr": 0.1, "perod": 3}),
            ValueError,
            "did you mean 'period'",
        ),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
