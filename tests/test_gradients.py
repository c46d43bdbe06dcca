"""Numerical gradients, and the check of analytic ones: what passes, and what is caught."""

from __future__ import annotations

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp.activations import Activation, ReLU, Tanh
from fastmlp.losses import MSE

SHAPE = cases.Shape((4, 7, 5, 3), 6)
X = cases.inputs(6, 4)
Y = cases.targets("real", 6, 3)


# --- the check ---


@pytest.mark.parametrize("loss", ["mse", "quadratic"])
@pytest.mark.parametrize("activation", cases.params(cases.ACTIVATIONS))
def test_every_activation_passes_with_both_losses(activation, loss, backend):
    for hidden, output in (
        (activation, "identity"),
        ("tanh", activation),
        (activation, activation),
    ):
        report = fm.check_gradients(cases.mlp(SHAPE, hidden, output), X, Y, loss, backend=backend)
        assert report.passed, report
        assert all(check.error <= 1e-7 for check in report.checks)
        assert sum(check.kinks for check in report.checks) == 0


@pytest.mark.parametrize("case", cases.params(cases.LOSSES))
def test_every_loss_passes(case, backend):
    y = cases.targets(case.kind, 6, 3)
    for output in case.outputs:
        model = cases.mlp(SHAPE, "tanh", output)
        report = fm.check_gradients(model, X, y, case.loss, backend=backend)
        assert report.passed, report
        weighted = np.linspace(0.0, 2.0, 6)
        report = fm.check_gradients(model, X, y, case.loss, backend=backend, sample_weight=weighted)
        assert report.passed, report


@pytest.mark.parametrize("name", cases.LAYERS)
def test_every_layer_passes(name, backend):
    model = fm.Sequential(cases.LAYERS[name]())
    x = cases.layer_inputs(name, 6, 4)
    if model.needs_data:
        model.adapt(x)
    report = fm.check_gradients(model, x, Y, backend=backend)
    assert report.passed, report
    assert all(check.error <= 1e-7 for check in report.checks)


class WrongSign(Tanh):
    """tanh, with the sign of its derivative wrong where z > 0."""

    def derivative(self, z, a):
        return np.where(a > 0, -1, 1) * super().derivative(z, a)


class WrongFactor(MSE):
    """The squared error, with a gradient that lacks its factor 2."""

    kernel = None

    def per_sample(self, y_hat, y):
        losses, gradients = super().per_sample(y_hat, y)
        return losses, gradients / 2


def test_a_planted_sign_error_is_caught():
    model = fm.Sequential(
        [fm.Dense(5, "tanh"), fm.Dense(4, WrongSign()), fm.Dense(3)], input_size=4, seed=1
    )
    report = fm.check_gradients(model, X, Y, backend="reference")
    assert not report
    assert not report.passed
    # Behind the mistake everything is right, before it everything is wrong.
    assert {check.name: check.passed for check in report.checks} == {
        "0.weight": False,
        "0.bias": False,
        "1.weight": False,
        "1.bias": False,
        "2.weight": True,
        "2.bias": True,
        "input": False,
    }
    wrong = report["1.bias"]
    assert wrong.error > 0.1
    assert np.sign(wrong.analytic) == -np.sign(wrong.numerical)
    text = repr(report)
    assert "FAILED, worst [" in text
    assert f"analytic {wrong.analytic:.6g}, numerical {wrong.numerical:.6g}" in text


def test_a_planted_sign_error_in_the_engine_is_caught(monkeypatch):
    from fastmlp.backends.native import Executor

    backward = Executor.backward

    def wrong(self, grad, input_gradient=True):
        result = backward(self, grad, input_gradient)
        self.model.gradients["1.weight"][2, 1] *= -1
        return result

    model = fm.MLP([4, 5, 3], activation="tanh", seed=1)
    assert fm.check_gradients(model, X, Y)
    monkeypatch.setattr(Executor, "backward", wrong)
    report = fm.check_gradients(model, X, Y)
    assert [check.name for check in report.checks if not check.passed] == ["1.weight"]
    assert report["1.weight"].worst == (2, 1)


def test_a_planted_factor_in_a_loss_is_caught(backend):
    report = fm.check_gradients(fm.MLP([4, 5, 3], seed=1), X, Y, WrongFactor(), backend=backend)
    assert not any(check.passed for check in report.checks)
    assert report["input"].error == pytest.approx(0.5, rel=1e-6)


def test_kinks_are_recognised_and_left_out(backend):
    model = fm.MLP([2, 3, 1], activation="relu", dtype="float64")
    # The second hidden unit sits on its kink for every row, the others far away from theirs.
    model.parameters["0.weight"] = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]]
    model.parameters["0.bias"] = [9.0, -3.0, 9.0]
    x, y = np.array([[1.0, 3.0], [2.0, 3.0]]), np.array([1.0, -1.0])
    report = fm.check_gradients(model, x, y, backend=backend)
    assert report.passed
    assert {check.name: check.kinks for check in report.checks} == {
        "0.weight": 2,
        "0.bias": 1,
        "1.weight": 0,
        "1.bias": 0,
        "input": 2,
    }
    assert report["0.bias"].checked == 2
    assert "kinks" in repr(report)


def test_a_kink_that_is_not_declared_would_be_an_error():
    class Undeclared(ReLU):
        kinks = ()

    model = fm.Sequential([fm.Dense(1, Undeclared(), bias_initializer="zeros")], input_size=1)
    model.parameters["0.weight"] = [[1.0]]
    assert not fm.check_gradients(model, [[0.0]], [[1.0]], backend="reference")
    model = fm.Sequential([fm.Dense(1, "relu")], input_size=1)
    report = fm.check_gradients(model, [[0.0]], [[1.0]], backend="reference")
    assert report.passed
    assert report["0.bias"].kinks == 1


def test_kinks_of_a_loss_are_recognised(backend):
    model = fm.MLP([4, 1], dtype="float64", seed=1)
    y = model.predict(X)
    y[1:] += 1.0  # the first row is at its target exactly, where the absolute error has its kink
    report = fm.check_gradients(model, X, y, "mae", backend=backend)
    assert report.passed
    assert report["0.bias"].kinks == 1
    assert report["input"].kinks == 4


def test_gradients_that_vanish_pass(backend):
    model = fm.MLP([4, 5, 3], activation="relu", bias_initializer="zeros", dtype="float64")
    model.parameters["0.bias"] = np.full(5, -100.0)  # all units are dead
    report = fm.check_gradients(model, X, Y, backend=backend)
    assert report.passed
    assert report["0.weight"].analytic == 0.0


def test_the_model_is_left_alone(backend):
    model = fm.MLP([4, 5, 3], seed=1)
    model.freeze(0)
    before = model.flat_parameters.array().copy()
    report = fm.check_gradients(model, X, Y, backend=backend)
    assert report["0.weight"].checked == 20  # frozen layers are checked as well
    np.testing.assert_array_equal(model.flat_parameters.array(), before)
    assert not model.layers[0].trainable
    unbuilt = fm.Sequential([fm.Dense(3)])
    assert fm.check_gradients(unbuilt, X, Y, backend=backend)
    assert unbuilt.input_size is None


def test_large_arrays_are_sampled():
    model = fm.MLP([4, 50, 3], activation="tanh", seed=1)
    report = fm.check_gradients(model, X, Y, most=20)
    assert report["0.weight"].checked == 20
    assert report["1.bias"].checked == 3
    assert fm.check_gradients(model, X, Y, most=20) == report
    assert fm.check_gradients(model, X, Y, most=None)["0.weight"].checked == 200


def test_reports_are_asked_by_name():
    report = fm.check_gradients(fm.MLP([4, 3]), X, Y)
    assert report["0.bias"].shape == (3,)
    with pytest.raises(ValueError, match="parameter name must be one of"):
        report["1.bias"]
    lines = repr(report).splitlines()
    assert len(lines) == 1 + 3 + 1
    assert "passed" in lines[-1]


@pytest.mark.parametrize(
    ("settings", "exception", "message"),
    [
        ({"tolerance": 0}, ValueError, "tolerance"),
        ({"most": 0}, ValueError, "most"),
        ({"backend": "numpy"}, ValueError, "backend"),
        ({"loss": "msee"}, ValueError, "did you mean 'mse'"),
        ({"y": Y[:3]}, ValueError, "same number of rows"),
    ],
)
def test_wrong_arguments_are_refused(settings, exception, message):
    with pytest.raises(exception, match=message):
        fm.check_gradients(**{"model": fm.MLP([4, 3]), "x": X, "y": Y, **settings})


# --- numerical gradients ---


def test_numerical_gradient_of_a_polynomial():
    def f(x):
        return (x**3).sum() + x[0, 0] * x[1, 2]

    x = cases.inputs(2, 3)
    expected = 3.0 * x.astype(np.float64) ** 2
    expected[0, 0] += x[1, 2]
    expected[1, 2] += x[0, 0]
    before = x.copy()
    # Errors by theory: h²·f'''/6 + ε·f/h and h·f''/2 + 2·ε·f/h, f' ' ' = 6, |f|, |f''| below 20.
    np.testing.assert_allclose(fm.numerical_gradient(f, x), expected, rtol=0, atol=2e-9)
    forward = fm.numerical_gradient(f, x, method="forward")
    np.testing.assert_allclose(forward, expected, rtol=0, atol=1e-6)
    assert np.abs(forward - expected).max() > 2e-9
    np.testing.assert_array_equal(x, before)
    coarse = fm.numerical_gradient(f, x, step=0.1)
    np.testing.assert_allclose(coarse - expected, 0.01, rtol=1e-9)  # h² exactly, for a cube


def test_numerical_gradient_counts_its_calls():
    calls = []

    def f(x):
        calls.append(x)
        return x.sum()

    fm.numerical_gradient(f, np.zeros(5))
    assert len(calls) == 10
    fm.numerical_gradient(f, np.zeros(5), method="forward")
    assert len(calls) == 16


def test_numerical_gradient_of_scalars_lists_and_integers():
    assert fm.numerical_gradient(lambda x: x**2, 3.0) == pytest.approx(6.0)
    assert fm.numerical_gradient(lambda x: x**2, 3).shape == ()
    gradient = fm.numerical_gradient(lambda x: x @ x, [1, 2])
    np.testing.assert_allclose(gradient, [2.0, 4.0], rtol=1e-9)


def test_numerical_gradient_of_a_graph():
    def f(x):
        return fm.graph.sum(fm.graph.sigmoid(x) * x)

    x = [0.5, -2.0]
    np.testing.assert_allclose(fm.numerical_gradient(f, x), fm.grad(f)(x), rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "settings", "exception", "message"),
    [
        ((3, [1.0]), {}, TypeError, "f must be a function"),
        ((np.sum, ["a"]), {}, TypeError, "x must hold real numbers"),
        ((np.sum, [1.0]), {"method": "backward"}, ValueError, "method"),
        ((np.sum, [1.0]), {"step": 0.0}, ValueError, "step"),
        ((lambda x: x, [1.0, 2.0]), {}, TypeError, "f must return a number"),
        ((lambda x: None, [1.0, 2.0]), {}, TypeError, "f must return a number"),
    ],
)
def test_wrong_arguments_of_numerical_gradient(arguments, settings, exception, message):
    with pytest.raises(exception, match=message):
        fm.numerical_gradient(*arguments, **settings)


def test_activations_of_users_train_on_both_backends(backend):
    class Cubic(Activation):
        """f(z) = z + z³/3."""

        name = "cubic"
        derivative_from = "input"

        def forward(self, z):
            return z + z**3 / 3

        def derivative(self, z, a):
            return 1 + z**2

    model = fm.Sequential([fm.Dense(5, Cubic(), initializer="glorot_normal"), fm.Dense(3)])
    assert fm.check_gradients(model, X, Y, backend=backend)
    losses = model.fit(X, Y, epochs=20, backend=backend).history["loss"]
    assert losses[-1] < losses[0]
