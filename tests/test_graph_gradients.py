"""Gradients of random expressions: against finite differences and PyTorch; second derivatives."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fastmlp import graph as g

_SPEC = importlib.util.spec_from_file_location(
    "graph_expressions", Path(__file__).parent / "golden" / "graph_expressions.py"
)
expressions = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(expressions)


class _Graph:
    """The functions of fastmlp.graph under the names that the expressions use."""

    index = staticmethod(lambda a, key: a[key])

    def __getattr__(self, name):
        return getattr(g, name)


TABLE = expressions.table(_Graph())


def flat_function(expression):
    """Return the expression as a function of one vector, and where it stands."""
    shapes = [a.shape for a in expression.start]
    ends = np.cumsum([a.size for a in expression.start])

    def f(x):
        parts = [
            g.reshape(x[int(end) - int(np.prod(shape)) : int(end)], shape)
            for end, shape in zip(ends, shapes, strict=True)
        ]
        return expression.evaluate(TABLE, parts)

    return f, np.concatenate([a.reshape(-1) for a in expression.start])


def relative(found, expected):
    return np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-3)


def central(f, x, h):
    """Five-point differences, error O(h⁴), of a function with a number or an array as result."""
    rows = []
    for k in range(x.size):
        e = np.zeros_like(x)
        e[k] = h
        near, far = f(x + e) - f(x - e), f(x + 2 * e) - f(x - 2 * e)
        rows.append((8 * near - far) / (12 * h))
    return np.array(rows)


@pytest.mark.parametrize("seed", range(expressions.COUNT))
def test_finite_differences(seed):
    f, x = flat_function(expressions.Expression(seed))
    value, gradient = g.value_and_grad(f)(x)
    # ε|f|/h + h⁴f⁽⁵⁾/30 at h = 1e-3 is 1e-13 + 1e-13 for derivatives of size 1: 1e-6 leaves room
    # for fifth derivatives of 1e7.
    numerical = central(lambda point: f(g.constant(point)).item(), x, 1e-3)
    if not relative(gradient, numerical) < 1e-6:  # a kink or a steep place: look closer
        numerical = central(lambda point: f(g.constant(point)).item(), x, 1e-5)
    assert np.isfinite(value)
    assert relative(gradient, numerical) < 1e-6


def test_golden_gradients():
    golden = np.load(expressions.FILE)
    start = 0
    for seed in range(expressions.COUNT):
        f, x = flat_function(expressions.Expression(seed))
        value, gradient = g.value_and_grad(f)(x)
        expected = golden["gradients"][start : start + x.size]
        start += x.size
        assert value == pytest.approx(golden["values"][seed], rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-10, err_msg=str(seed))
    assert start == golden["gradients"].size


@pytest.mark.parametrize("seed", range(100))
def test_live_pytorch(seed):
    pytest.importorskip("torch")
    expression = expressions.Expression(seed)
    f, x = flat_function(expression)
    value, gradient = g.value_and_grad(f)(x)
    expected_value, expected = expressions.torch_gradient(expression)
    assert value == pytest.approx(expected_value, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", range(50))
def test_hessian_vector_products(seed):
    f, x = flat_function(expressions.Expression(seed))
    v = np.cos(np.arange(x.size))
    product = g.hvp(f)(x, v)
    gradient = g.grad(f)
    for h in (1e-4, 1e-5, 1e-6):
        near, far = (gradient(x + k * h * v) - gradient(x - k * h * v) for k in (1, 2))
        error = relative((8 * near - far) / (12 * h), product)
        if error < 1e-5:
            break
    assert error < 1e-5


def test_hessian_is_symmetric_and_equals_products():
    f, x = flat_function(expressions.Expression(7))
    hessian = g.jacobian(g.grad(f))(x)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-10, atol=1e-12)
    v = np.sin(np.arange(x.size))
    np.testing.assert_allclose(g.hvp(f)(x, v), hessian @ v, rtol=1e-10, atol=1e-12)


def test_third_derivative():
    third = g.grad(g.grad(g.grad(lambda x: g.sin(x) * x**3)))
    x = 0.7
    expected = (6 - 9 * x**2) * np.sin(x) + (18 * x - x**3) * np.cos(x)
    assert third(x) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
     ((5, 2, 3), (5, 3, 1)), ((3,), (5, 3, 2)), ((5, 2, 3), (3,)), ((1, 2, 3), (4, 3, 2))],
)  # fmt: skip
def test_matmul_of_all_shapes(a, b):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=a), rng.normal(size=b)
    weight = rng.normal(size=(a @ b).shape)

    def f(a, b):
        return ((a @ b) * weight).sum()

    grads = g.grad(f, argnums=(0, 1))(a, b)
    expected = (
        central(lambda x: f(x.reshape(a.shape), b), a.reshape(-1), 1e-2).reshape(a.shape),
        central(lambda x: f(a, x.reshape(b.shape)), b.reshape(-1), 1e-2).reshape(b.shape),
    )
    for found, numerical in zip(grads, expected, strict=True):
        np.testing.assert_allclose(found, numerical, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (lambda x: g.relu(x), 0.0, 0.0),
        (lambda x: abs(x), 0.0, 0.0),
        (lambda x: g.maximum(x, 0.0), 0.0, 0.5),
        (lambda x: g.minimum(0.0, x), 0.0, 0.5),
        (lambda x: x**0, 0.0, 0.0),
        (lambda x: x**1, 0.0, 1.0),
        (lambda x: x**2, 0.0, 0.0),
        (lambda x: 0.0**x, 2.0, 0.0),
        (lambda x: g.sigmoid(x), 1e4, 0.0),
        (lambda x: g.softplus(x), -1e4, 0.0),
        (lambda x: g.softplus(x), 1e4, 1.0),
        (lambda x: g.logsumexp(g.concatenate([x.reshape(1), [-np.inf]])), 3.0, 1.0),
    ],
)
def test_special_points(f, x, expected):
    assert g.grad(f)(x) == expected


def test_ties_share_the_gradient():
    np.testing.assert_array_equal(g.grad(g.max)([1.0, 2.0, 2.0]), [0.0, 0.5, 0.5])
    np.testing.assert_array_equal(
        g.grad(g.min)([[1.0, 1.0], [1.0, 3.0]]), [[1 / 3, 1 / 3], [1 / 3, 0]]
    )


def test_repeated_indices_add_up():
    gradient = g.grad(lambda x: (x[[0, 0, 2]] * [1.0, 2.0, 5.0]).sum())([1.0, 1.0, 1.0])
    np.testing.assert_array_equal(gradient, [3.0, 0.0, 5.0])


def test_float32_stays_float32():
    x = np.ones(3, np.float32)
    gradient = g.grad(lambda x: g.mean(2.0 * g.tanh(x) ** 2 + 1))(x)
    assert gradient.dtype == np.float32


def test_deep_graphs_need_no_stack():
    def f(x):
        for _ in range(5000):
            x = x * 1.0001
        return x

    assert g.grad(f)(1.0) == pytest.approx(1.0001**5000)


def test_no_gradient_flows_into_a_condition():
    def f(x):
        return g.where(x, 2 * x, 3 * x).sum()

    np.testing.assert_array_equal(g.grad(f)([-1.0, 0.0, 1.0]), [2.0, 3.0, 2.0])


def test_reductions_of_nothing_and_of_numbers():
    assert g.grad(lambda x: g.mean(x, axis=1).sum())(np.zeros((0, 3))).shape == (0, 3)
    with pytest.warns(RuntimeWarning):  # NumPy's: the mean of nothing is NaN
        assert g.grad(g.mean)(np.zeros(0)).shape == (0,)
    for f in (g.sum, g.max, g.min, g.logsumexp):
        assert g.grad(lambda x, f=f: f(x * x, axis=0))(3.0) == 6.0
