"""Descent: paths are those of the optimizers' rules, however the gradient comes."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import descent, optimizers
from fastmlp import graph as g
from fastmlp.descent import LANDSCAPES, minimize


def test_the_rule_of_gradient_descent():
    path = minimize(lambda x: x * x, 3.0, fm.SGD(lr=0.25), steps=3)
    np.testing.assert_array_equal(path.x, [3.0, 1.5, 0.75, 0.375])
    np.testing.assert_array_equal(path.value, path.x**2)
    np.testing.assert_array_equal(path.gradient, 2 * path.x)
    assert (path.steps, path.calls, path.diverged, path.converged) == (3, 4, False, False)
    assert path.minimum == 0.375


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_descends(name):
    """Every rule gets down the parabola by a third in 300 steps of its default or 0.01."""
    optimizer = optimizers.get(name)
    path = minimize(descent.PARABOLA, descent.PARABOLA.start, optimizer, steps=300)
    assert path.value[-1] < path.value[0]
    assert np.isfinite(path.x).all()


def test_every_form_of_gradient_is_the_same_path():
    x0 = [-1.0, 0.5]
    adam = fm.Adam(lr=0.05)
    paths = [
        minimize(lambda x: g.sum(x**4) + x[0] * x[1], x0, adam, 40),
        minimize(lambda x: np.sum(x**4) + x[0] * x[1], x0, adam, 40),
        minimize(lambda x: (sum(x**4) + x[0] * x[1], 4 * x**3 + x[::-1]), x0, adam, 40),
        minimize(lambda x: np.vdot(x * x, x * x) + x.prod(), x0, adam, 40,
                 gradient=lambda x: 4 * x**3 + x[::-1]),
    ]  # fmt: skip
    for path in paths[1:]:
        np.testing.assert_allclose(path.x, paths[0].x, rtol=1e-12, atol=1e-12)
    assert [path.calls for path in paths] == [41] * 4
    numerical = [
        minimize(lambda x: np.vdot(x * x, x * x) + x.prod(), x0, adam, 40),
        minimize(lambda x: (x * x).dot(x * x) + x.prod(), x0, adam, 40),  # what nodes have not
        minimize(lambda x: g.sum(x**4) + x[0] * x[1], x0, adam, 40, gradient="numerical"),
    ]
    for path in numerical:
        np.testing.assert_allclose(path.x, paths[0].x, atol=1e-6)
        assert path.calls == 41 * (1 + 2 * 2)


def test_an_optimizer_starts_fresh():
    adam = fm.Adam(lr=0.1)
    first, second = (minimize(descent.BEALE, descent.BEALE.start, adam, 20) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)


def test_schedules():
    halving = fm.schedules.Exponential(0.25, 0.5)
    path = minimize(lambda x: x, 0.0, fm.SGD(lr=halving), steps=4)
    np.testing.assert_allclose(-np.diff(path.x), [0.25, 0.125, 0.0625, 0.03125])


def test_divergence_is_reported_not_raised():
    path = minimize(descent.ROSENBROCK, [-1.2, 1.0], fm.SGD(lr=1.0), steps=100)
    assert path.diverged
    assert path.steps < 100
    assert np.isfinite(path.x).all()
    assert np.isfinite(path.value).all()
    assert "diverged" in repr(path)


def test_tolerance_stops():
    path = minimize(lambda x: (x * x).sum(), np.ones((2, 2)), fm.SGD(lr=0.25), 100, tolerance=1e-3)
    assert path.converged
    assert path.steps < 100
    assert path.x.shape == (path.steps + 1, 2, 2)
    assert np.linalg.norm(path.gradient[-1]) <= 1e-3 < np.linalg.norm(path.gradient[-2])


@pytest.mark.parametrize("name", LANDSCAPES)
def test_landscapes(name):
    f = LANDSCAPES[name]
    at = np.array(f.start) + 0.1
    gradient = fm.graph.grad(f)(at)
    np.testing.assert_allclose(gradient, fm.numerical_gradient(f, at), rtol=1e-6, atol=1e-6)
    grid = np.stack(np.meshgrid(*[np.linspace(*b, 7) for b in f.bounds]))
    assert f(grid).shape == (7, 7)
    if f.minimum is not None:
        assert f(f.minimum) == pytest.approx(0.0, abs=1e-12)
        np.testing.assert_allclose(fm.graph.grad(f)(np.array(f.minimum, float)), 0, atol=1e-12)
        assert (f(grid) >= 0).all()
        assert all(low <= v <= high for v, (low, high) in zip(f.minimum, f.bounds, strict=True))
    assert all(low <= v <= high for v, (low, high) in zip(f.start, f.bounds, strict=True))


def test_momentum_wins_in_the_ravine():
    f = descent.RAVINE
    plain = minimize(f, f.start, fm.SGD(lr=0.05), 60)
    momentum = minimize(f, f.start, fm.SGD(lr=0.05, momentum=0.7), 60)
    assert momentum.value[-1] < 0.01 * plain.value[-1]


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        ((3, 1.0), {}, TypeError, "f must be a function"),
        ((lambda x: x, "a"), {}, TypeError, "x0 must"),
        ((lambda x: x, np.inf), {}, ValueError, "x0 must be finite"),
        ((lambda x: x, []), {}, ValueError, "x0 must be finite"),
        ((lambda x: x, 1.0, "sdg"), {}, ValueError, "did you mean 'sgd'"),
        ((lambda x: x, 1.0), {"steps": -1}, ValueError, "steps"),
        ((lambda x: x, 1.0), {"tolerance": -1}, ValueError, "tolerance"),
        ((lambda x: x, 1.0), {"gradient": "exact"}, TypeError, "gradient must be"),
        ((lambda x: x, [1.0, 2.0]), {}, ValueError, "one number"),
        ((lambda x: "a", 1.0), {}, TypeError, "f must return a number"),
        ((lambda x: (1.0, [1.0, 2.0]), 1.0), {}, ValueError, "gradient must have the shape"),
        ((lambda x: 1 / x, 0.0), {}, ValueError, "finite at x0"),
    ],
)
def test_errors(arguments, settings, error, message):
    with pytest.raises(error, match=message):
        minimize(*arguments, **settings)
