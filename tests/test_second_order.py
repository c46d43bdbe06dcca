"""Optimizers of the whole batch: L-BFGS beside PyTorch's, Levenberg–Marquardt beside MINPACK's."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import descent, optimizers
from fastmlp.callbacks import Callback, EarlyStopping, LearningRateScheduler
from fastmlp.line_search import Trial, strong_wolfe
from fastmlp.normal_equations import normal_equations, solve
from fastmlp.sources import Source
from golden.make_golden import CURVED_STEPS, curved_problem
from golden.stored import load

RNG = np.random.default_rng(0)
X = RNG.uniform(-1.0, 1.0, (60, 2))
Y = np.sin(3.0 * X[:, :1]) * np.cos(2.0 * X[:, 1:])
WEIGHT = RNG.uniform(0.0, 2.0, 60)
BOTH = pytest.mark.parametrize("name", optimizers.SOLVERS)


def network(dtype="float64", sizes=(2, 6, 1), activation="tanh", seed=0):
    return fm.MLP(sizes, activation=activation, dtype=dtype, seed=seed)


def train(optimizer, epochs=30, model=None, **settings):
    model = network() if model is None else model
    data = settings.pop("x", X), settings.pop("y", Y)
    history = model.fit(*data, optimizer=optimizer, batch_size=None, epochs=epochs, **settings)
    return model, np.array(history.history["loss"])


# --- the rules ---


def test_steps_of_lbfgs_equal_pytorch():
    x, y, start = curved_problem()
    model = network()
    for name, values in zip(model.parameters, start, strict=True):
        model.parameters[name] = values
    _, losses = train(fm.LBFGS(history=5, gtol=0.0, ftol=0.0), CURVED_STEPS, model, x=x, y=y)
    # More steps than the history holds. Rounding grows by a small factor with each of them.
    np.testing.assert_allclose(losses, load("second_order")["losses"], rtol=1e-10)
    assert losses[-1] < 0.2 * losses[0]


def test_lbfgs_remembers_as_many_pairs_as_pytorch():
    torch = pytest.importorskip("torch")
    weights = [torch.zeros(1, requires_grad=True)]
    assert fm.LBFGS().history == torch.optim.LBFGS(weights).defaults["history_size"]


def test_lbfgs_on_rosenbrock_beside_scipy():
    scipy_optimize = pytest.importorskip("scipy.optimize")
    f = descent.ROSENBROCK
    path = fm.minimize(f, f.start, fm.LBFGS(gtol=0.0, ftol=0.0), 100, tolerance=1e-9)
    assert path.converged
    np.testing.assert_allclose(path.x[-1], 1.0, atol=1e-9)
    assert (np.diff(path.value) < 0).all()
    other = scipy_optimize.minimize(
        lambda x: (float(f(x)), fm.graph.grad(f)(x)), f.start, jac=True, method="L-BFGS-B",
        options={"ftol": 0.0, "gtol": 1e-9},
    )  # fmt: skip
    assert path.steps <= other.nit + 10
    assert path.calls <= other.nfev + 20


@pytest.mark.parametrize("n", [1, 3, 10, 30])
def test_lbfgs_ends_a_quadratic_in_as_many_steps_as_variables(n):
    """With exact line searches its directions are those of conjugate gradients."""
    rng = np.random.default_rng(n)
    basis, _ = np.linalg.qr(rng.normal(size=(n, n)))
    hessian, b = basis @ np.diag(np.geomspace(1.0, 30.0, n)) @ basis.T, rng.normal(size=n)
    optimizer = fm.LBFGS(history=n, wolfe=(1e-4, 1e-3), gtol=0.0, ftol=0.0)
    path = fm.minimize(
        lambda x: (0.5 * x @ hessian @ x - b @ x, hessian @ x - b), np.zeros(n), optimizer, 100,
        tolerance=1e-6,
    )  # fmt: skip
    assert path.converged
    assert path.steps <= n + 3
    np.testing.assert_allclose(path.x[-1], np.linalg.solve(hessian, b), atol=1e-6)


def test_levenberg_marquardt_solves_a_linear_model_at_once():
    """What is quadratic takes a step as soon as the damping no longer matters."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 5))
    y = x @ rng.normal(size=(5, 2)) + 0.1 * rng.normal(size=(40, 2))
    model = fm.Sequential([fm.Dense(2)], input_size=5, dtype="float64", seed=0)
    optimizer = fm.LevenbergMarquardt(damping=1e-12)
    train(optimizer, 5, model, x=x, y=y)
    assert optimizer.report(model).iterations <= 2
    best, *_ = np.linalg.lstsq(np.hstack([x, np.ones((40, 1))]), y, rcond=None)
    np.testing.assert_allclose(model.parameters["0.weight"], best[:5], atol=1e-9)
    np.testing.assert_allclose(model.parameters["0.bias"], best[5], atol=1e-9)


def test_levenberg_marquardt_beside_minpack():
    scipy_optimize = pytest.importorskip("scipy.optimize")
    y = Y + 0.05 * np.random.default_rng(1).normal(size=Y.shape)
    model = network(sizes=(2, 3, 1))
    flat = model.flat_parameters.array

    def residuals(w):
        flat()[...] = w
        return (model.predict(X, backend="reference") - y).ravel()

    start = flat().copy()
    theirs = scipy_optimize.least_squares(residuals, start, method="lm")
    residuals(start)
    _, losses = train(fm.LevenbergMarquardt(), 200, model, y=y)
    assert len(losses) < 200
    # Half the sum of squares there, their mean here; both are at the same minimum.
    assert losses[-1] == pytest.approx(2.0 * theirs.cost / len(y), rel=1e-6)
    model.backward(fm.losses.MSE()(model.forward(X), y)[1])
    assert np.abs(model.flat_gradients.array()).max() < 1e-6


@pytest.mark.parametrize("weight", [None, WEIGHT, np.outer(WEIGHT, [1.0, 0.0, 2.0])])
@pytest.mark.parametrize("loss", ["mse", "quadratic"])
def test_normal_equations_are_those_of_the_jacobian(loss, weight, monkeypatch):
    monkeypatch.setattr("fastmlp.normal_equations._CHUNK", 1)  # several chunks, also of odd sizes
    monkeypatch.setattr("fastmlp.normal_equations._LEAST_ROWS", 50)
    model = fm.Sequential(
        [fm.Standardize(), fm.Dense(4, "tanh"), fm.Dense(5, "relu", bias=False), fm.Dense(3)],
        input_size=2, dtype="float64", seed=1,
    )  # fmt: skip
    model.adapt(X)
    model.freeze(2)
    y = np.cos(np.outer(np.arange(60), [1.0, 2.0, 3.0]))
    loss = fm.losses.get(loss)
    flat = model.flat_parameters.array().copy()
    gradient, curvature = normal_equations(model, loss, Source(X, y, weight), flat)
    model.backward(loss(model.forward(X), y, weight)[1])
    free = np.concatenate([np.arange(s.start, s.stop) for s in model.trainable_slices()])
    np.testing.assert_allclose(gradient, model.flat_gradients.array()[free], atol=1e-13)
    J = model.jacobian(X, wrt="parameters")[:, :, free]
    factor = 1.0 if loss.name == "quadratic" else 2.0 / 3.0
    shares = np.ones((60, 3))
    if weight is not None:
        shares *= weight.reshape(60, -1)
    shares = factor * shares / (shares.sum() / 3)
    expected = np.einsum("no,noi,noj->ij", shares, J, J)
    np.testing.assert_allclose(curvature, expected, atol=1e-12)


@pytest.mark.parametrize("n", [1, 5, 64, 65, 200])
def test_cholesky_solves(n):
    rng = np.random.default_rng(n)
    half = rng.normal(size=(n, n + 1))
    matrix, right = half @ half.T, rng.normal(size=n)
    h = solve(matrix, 0.5, right)
    np.testing.assert_allclose(matrix @ h + 0.5 * h, right, atol=1e-9 * n)
    assert solve(matrix, -2.0 * np.trace(matrix), right) is None


# --- the line search ---


def line(f, df):
    calls = []

    def evaluate(t):
        calls.append(t)
        return Trial(t, f(t), df(t), None)

    return evaluate, Trial(0.0, f(0.0), df(0.0), None), calls


# Functions of J. Moré and D. Thuente, ACM TOMS 20 (1994), section 5, 5.1 to 5.3.
def _plain(t, beta=2.0):
    return -t / (t * t + beta)


def _plain_slope(t, beta=2.0):
    return (t * t - beta) / (t * t + beta) ** 2


def _power(t, beta=0.004):
    return (t + beta) ** 5 - 2.0 * (t + beta) ** 4


def _power_slope(t, beta=0.004):
    return 5.0 * (t + beta) ** 4 - 8.0 * (t + beta) ** 3


@pytest.mark.parametrize("first", [1e-3, 1e-1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize(
    ("f", "df", "c1", "c2"),
    [
        (_plain, _plain_slope, 1e-3, 0.1),
        (_power, _power_slope, 0.1, 0.1),
        (lambda t: (t - 3.0) ** 2, lambda t: 2.0 * (t - 3.0), 1e-4, 1e-3),
        (lambda t: np.cosh(t - 1.0), lambda t: np.sinh(t - 1.0), 1e-4, 0.01),
    ],
)
def test_the_strong_wolfe_conditions_hold(f, df, c1, c2, first):
    with np.errstate(over="ignore"):
        evaluate, start, calls = line(f, df)
        found = strong_wolfe(evaluate, start, first, c1, c2, most=40)
    assert found.value <= start.value + c1 * found.t * start.slope
    assert abs(found.slope) <= -c2 * start.slope
    assert len(calls) <= 25


def test_a_line_search_backs_out_of_what_is_not_finite():
    def f(t):
        return -np.log(1.0 - t) - 2.0 * t if t < 1.0 else np.inf

    def df(t):
        return 1.0 / (1.0 - t) - 2.0 if t < 1.0 else np.nan

    evaluate, start, calls = line(f, df)
    found = strong_wolfe(evaluate, start, 1000.0, 1e-4, 0.1)
    assert abs(found.slope) <= 0.1
    assert calls[:2] == [1000.0, 100.0]


@pytest.mark.parametrize("most", [1, 2, 3, 25])
def test_a_line_search_that_finds_nothing_says_so(most):
    evaluate, start, calls = line(lambda t: t, lambda t: -1.0)  # the slope is a lie
    assert strong_wolfe(evaluate, start, 1.0, most=most) is None
    assert len(calls) <= most


# --- in a training ---


@BOTH
def test_they_get_further_than_adam_in_as_many_steps(name, dtype, backend):
    model, losses = train(optimizers.get(name), 100, network(dtype), backend=backend)
    adam = min(train(fm.Adam(lr=lr), 100, network(dtype))[1][-1] for lr in (0.01, 0.03, 0.1))
    assert model.evaluate(X, Y)["loss"] < losses[-1] < 0.3 * adam
    assert (np.diff(losses) < 0.0).all()


@BOTH
def test_both_backends_go_the_same_way(name):
    losses = [train(optimizers.get(name), 15, backend=b)[1] for b in ("native", "reference")]
    np.testing.assert_allclose(*losses, rtol=1e-9)


@BOTH
def test_an_epoch_is_an_iteration_however_it_is_called(name, dtype):
    whole, losses = train(optimizers.get(name), 12, network(dtype))
    model, optimizer = network(dtype), optimizers.get(name)
    parts = [train(optimizer, epochs, model)[1] for epochs in (5, 3)]
    trainer = fm.Trainer(model, "mse", optimizer, batch_size="full")
    parts.append([trainer.epoch(X, Y), trainer.epoch(X, Y)])
    parts.append([trainer.step(X, Y), trainer.step(X, Y)])
    # An epoch's mean goes through a product with the number of samples.
    np.testing.assert_allclose(np.concatenate(parts), losses, rtol=1e-15)
    np.testing.assert_array_equal(model.flat_parameters.array(), whole.flat_parameters.array())
    report = optimizer.report(model)
    assert report.iterations == optimizer.state_for(model).step == 12
    assert report.evaluations > 12
    assert report.stopped is None


@BOTH
def test_the_bits_do_not_depend_on_threads(name):
    models = [train(optimizers.get(name), 10, threads=threads)[0] for threads in (1, 2, 3)]
    flat = [model.flat_parameters.array() for model in models]
    np.testing.assert_array_equal(flat[0], flat[1])
    np.testing.assert_array_equal(flat[0], flat[2])


@BOTH
def test_a_training_goes_on_from_a_checkpoint_to_the_same_bits(name, dtype, tmp_path):
    class Stop(Callback):
        at = 14

        def on_epoch_end(self, epoch, logs=None):
            if epoch == self.at:
                raise KeyboardInterrupt

    # More steps than L-BFGS remembers.
    whole, losses = train(optimizers.get(name), 25, network(dtype))
    saved = {"checkpoint": tmp_path / "c", "checkpoint_every": "epoch"}
    with pytest.raises(KeyboardInterrupt):
        train(optimizers.get(name), 25, network(dtype), callbacks=[Stop()], **saved)
    Stop.at = None
    saved |= {"resume": True, "callbacks": [Stop()]}
    model, again = train(optimizers.get(name), 25, network(dtype), **saved)
    np.testing.assert_array_equal(again, losses)
    np.testing.assert_array_equal(model.flat_parameters.array(), whole.flat_parameters.array())


@BOTH
@pytest.mark.parametrize("weight", [None, WEIGHT, WEIGHT[:, np.newaxis]])
def test_penalties_and_weights_are_part_of_the_minimum(name, weight):
    """At the end the gradient of the weighted loss is -l2 times the weights."""
    optimizer = optimizers.get(name)
    model = network()
    train(optimizer, 1000, model, l2=0.01, sample_weight=weight)
    assert optimizer.report(model).stopped is not None
    model.backward(fm.losses.MSE()(model.forward(X), Y, weight)[1])
    for key, gradient in model.gradients.items():
        pull = 0.01 * model.parameters[key] if key.endswith("weight") else 0.0
        np.testing.assert_allclose(gradient + pull, 0.0, atol=1e-5)


@BOTH
def test_frozen_layers_stay(name):
    model = network(sizes=(2, 5, 5, 1))
    model.freeze(0)
    before = model.parameters["0.weight"].copy()
    _, losses = train(optimizers.get(name), 20, model)
    np.testing.assert_array_equal(model.parameters["0.weight"], before)
    assert losses[-1] < 0.5 * losses[0]


@BOTH
def test_it_stops_where_nothing_is_left_to_do(name):
    optimizer = optimizers.get(name)
    y = network(seed=3).predict(X)
    model, losses = train(optimizer, 2000, network(seed=3), y=y)
    assert len(losses) == 1
    assert "gtol" in optimizer.report(model).stopped
    optimizer = type(optimizer)(ftol=0.1)
    model, losses = train(optimizer, 2000, y=y)
    assert len(losses) < 300
    assert "ftol" in optimizer.report(model).stopped
    assert losses[-1] > 0.0
    model, losses = train(type(optimizer)(gtol=0.0, ftol=0.0), 3000, network("float32"), y=Y + 1.0)
    assert len(losses) < 3000  # where float32 knows of no smaller loss


@BOTH
def test_callbacks_validation_and_early_stopping(name):
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((batch, logs["loss"]))

    noisy = Y + 0.3 * np.random.default_rng(2).normal(size=Y.shape)
    model = network(sizes=(2, 20, 1))
    stop = EarlyStopping(patience=5, restore_best_weights=True)
    history = model.fit(
        X[:30], noisy[:30], optimizer=optimizers.get(name), batch_size=None, epochs=400,
        validation_data=(X[30:], Y[30:]), metrics=["r2"], callbacks=[stop, Watch()],
    ).history  # fmt: skip
    assert len(history["loss"]) < 400
    assert len(seen) == len(history["loss"]) == len(history["val_r2"])
    assert model.evaluate(X[30:], Y[30:])["loss"] == min(history["val_loss"])


@BOTH
def test_what_a_callback_writes_into_the_parameters_counts(name):
    class Shake(Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 4:
                self.model.parameters["1.bias"][...] += 1.0

    _, losses = train(optimizers.get(name), 8, callbacks=[Shake()])
    assert losses[5] > 0.5
    assert losses[7] < losses[5]


def test_lbfgs_takes_other_losses_and_labels():
    x, y = fm.data.load_digits()
    x, y = x[:300], y[:300]
    model = fm.MLP([64, 10, 10], activation="tanh", output_activation="softmax", dtype="float64")
    train(fm.LBFGS(), 60, model, x=x, y=y, loss="cross_entropy")
    assert model.evaluate(x, y, loss="cross_entropy", metrics=["accuracy"])["accuracy"] > 0.99

    def cubes(y_hat, y):
        error = y_hat - y
        return float((np.abs(error) ** 3).mean()), 3.0 * error * np.abs(error) / error.size

    _, losses = train(fm.LBFGS(), 30, loss=cubes)
    assert losses[-1] < 0.05 * losses[0]


def test_many_chunks_are_one_function(monkeypatch):
    whole = train(fm.LBFGS(), 10, sample_weight=WEIGHT)[1]
    monkeypatch.setattr("fastmlp.full_batch.CHUNK_ROWS", 17)
    np.testing.assert_allclose(train(fm.LBFGS(), 10, sample_weight=WEIGHT)[1], whole, rtol=1e-9)


# --- what goes wrong ---


@BOTH
def test_an_interrupted_iteration_changes_nothing(name, monkeypatch):
    model, optimizer = network(), optimizers.get(name)
    train(optimizer, 3, model)
    before = model.flat_parameters.array().copy()
    step = optimizer.state_for(model).step
    evaluate, calls = fm.objective.MeanLoss.__call__, []

    def interrupted(self, windows):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(self, windows)

    monkeypatch.setattr("fastmlp.objective.MeanLoss.__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(optimizer, 3, model)
    np.testing.assert_array_equal(model.flat_parameters.array(), before)
    assert optimizer.state_for(model).step == step
    _, losses = train(optimizer, 2, model)
    assert losses[1] < losses[0]


@BOTH
def test_divergence(name, dtype):
    model = network(dtype, activation="relu")
    huge = np.finfo(dtype).max
    model.parameters["1.weight"] = np.full((6, 1), huge / 10)
    before = model.flat_parameters.array().copy()
    with pytest.raises(fm.DivergenceError, match="smaller initial weights"):
        train(optimizers.get(name), 3, model, x=50.0 * X)
    np.testing.assert_array_equal(model.flat_parameters.array(), before)


def test_steps_into_what_is_not_finite_are_taken_back():
    model = network(activation="elu")
    model.parameters["1.weight"] = 1e140 * model.parameters["1.weight"]
    _, losses = train(fm.LevenbergMarquardt(), 20, model)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]

    path = fm.minimize(lambda x: -np.log(x[0]) + 100.0 * x[0] + x[1] ** 2, [1e-6, 1e3], "lbfgs")
    assert path.calls > path.steps + 1
    np.testing.assert_allclose(path.x[-1], [0.01, 0.0], atol=1e-6)


@BOTH
def test_settings_travel(name):
    optimizer = optimizers.get(name)
    optimizer.ftol = 0.25
    for twin in (
        copy.deepcopy(optimizer),
        pickle.loads(pickle.dumps(optimizer)),
        optimizers.from_config(optimizer.config()),
    ):
        assert type(twin) is type(optimizer)
        assert twin.config() == optimizer.config()
        assert repr(twin) == repr(optimizer)
    assert "ftol=0.25" in repr(optimizer)
    assert not hasattr(optimizer, "lr")


@BOTH
def test_what_they_cannot_do_is_said(name):
    optimizer = optimizers.get(name)
    model = network()
    with pytest.raises(ValueError, match="batch_size must be None or 'full'; got 32"):
        model.fit(X, Y, optimizer=name)
    with pytest.raises(ValueError, match="l1 must be 0"):
        train(optimizer, l1=0.1)
    with pytest.raises(ValueError, match="not a stream of batches"):
        model.fit([(X, Y)], optimizer=optimizer, batch_size=None)
    with pytest.raises(AttributeError, match="has no learning rate"):
        train(optimizer, callbacks=[LearningRateScheduler(lambda epoch: 0.1)])
    with pytest.raises(ValueError, match="no parameter groups"):
        optimizer.groups = [("*", {})]
    for call in (
        lambda: optimizer.step(model),
        lambda: optimizer.hyper(1, 1),
        lambda: optimizer.update(X, X, [], X[0]),
    ):
        with pytest.raises(TypeError, match="cannot make a step from a gradient alone"):
            call()


@BOTH
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: fm.Dropout(0.5), "the layer Dropout"),
        (lambda: fm.BatchNorm(), "the layer BatchNorm"),
        (lambda: fm.Dense(3, max_norm=1.0), "max_norm of 1.weight must be None"),
    ],
)
def test_layers_that_they_cannot_train_are_named(name, layer, message):
    layers = [fm.Dense(4, "tanh"), layer(), fm.Dense(1)]
    model = fm.Sequential(layers, input_size=2, dtype="float64", seed=0)
    before = model.flat_parameters.array().copy()
    with pytest.raises(ValueError, match=message):
        train(optimizers.get(name), 2, model)
    np.testing.assert_array_equal(model.flat_parameters.array(), before)


@BOTH
def test_a_model_that_is_refused_has_learned_nothing_from_the_data(name):
    model = fm.Sequential([fm.Standardize(), fm.Dropout(0.5), fm.Dense(1)], input_size=2)
    with pytest.raises(ValueError, match="the layer Dropout"):
        train(optimizers.get(name), 2, model)
    assert model.needs_data
    assert not model.states["0.mean"].any()


def test_normal_equations_of_other_layers():
    model = fm.Sequential(
        [
            fm.Dense(6, "tanh"),
            fm.LayerNorm(),
            fm.Residual([fm.Dense(6, "tanh"), fm.Scale()]),
            fm.Dense(1),
        ],
        input_size=2, dtype="float64", seed=0,
    )  # fmt: skip
    flat = model.flat_parameters.array().copy()
    _, curvature = normal_equations(model, fm.losses.Quadratic(), Source(X, Y), flat)
    J = model.jacobian(X, wrt="parameters")[:, 0]
    np.testing.assert_allclose(curvature, J.T @ J / 60, atol=1e-12)
    _, losses = train(fm.LevenbergMarquardt(), 20, model)
    assert losses[-1] < 0.01 * losses[0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fm.LBFGS(history=0), ValueError, "history of lbfgs must be an integer >= 1"),
        (lambda: fm.LBFGS(gtol=-1.0), ValueError, "gtol of lbfgs must be"),
        (lambda: fm.LBFGS(ftol="a"), TypeError, "ftol of lbfgs must be"),
        (lambda: fm.LBFGS(wolfe=(0.9, 0.1)), ValueError, "c1 < c2"),
        (lambda: fm.LBFGS(wolfe=(0.0, 0.1)), ValueError, r"wolfe of lbfgs\[0\] must be"),
        (lambda: fm.LBFGS(max_trials=1.5), TypeError, "max_trials of lbfgs must be"),
        (lambda: fm.LevenbergMarquardt(damping=0.0), ValueError, "damping of levenberg_marquardt"),
        (lambda: optimizers.get("lbgfs"), ValueError, "did you mean 'lbfgs'"),
        (
            lambda: train("levenberg_marquardt", loss="huber"),
            ValueError,
            "loss must be 'mse' or 'quadratic'; got 'huber'",
        ),
        (
            lambda: train("levenberg_marquardt", model=network(sizes=(2, 90, 90, 1))),
            ValueError,
            "at most 8192 trained parameters; this one has 8551",
        ),
        (
            lambda: fm.minimize(lambda x: x * x, 1.0, "levenberg_marquardt"),
            ValueError,
            "needs the errors",
        ),
    ],
)
def test_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()
