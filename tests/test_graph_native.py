"""Losses and activations written as graph functions, run by the native engine."""

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import graph as g
from fastmlp.backends import native
from fastmlp.backends.programs import encode

LOSSES = {
    "squares": lambda y_hat, y: (y_hat - y) ** 2,
    "sum": lambda y_hat, y: g.sum((y_hat - y) ** 2, axis=1) / 2,
    "mean": lambda y_hat, y: 0.5 * g.mean(g.abs(y_hat - y) ** 2.5),
    "huber": lambda y_hat, y: g.where(
        g.abs(y_hat - y) <= 1, (y_hat - y) ** 2 / 2, g.abs(y_hat - y) - 0.5
    ),
    "log_cosh": lambda y_hat, y: g.log(g.exp(y_hat - y) + g.exp(y - y_hat)),
    "root": lambda y_hat, y: g.sqrt((y_hat - y) ** 2 + 1),
    # What it is where there are no outputs, 0 and 0, is NaN.
    "quotient": lambda y_hat, y: (y_hat - y) ** 2 / g.abs(y),
    "power": lambda y_hat, y: (g.abs(y_hat - y) + 0.1) ** 1.3,
}
ACTIVATIONS = {
    "swish": lambda z: z * g.sigmoid(1.7 * z),
    "bump": lambda z: g.exp(-z * z),
    "kinked": lambda z: g.where(z < 0, 0.2 * z, g.minimum(z, 3)),
    "softsign": lambda z: z / (1 + g.abs(z)),
    "tanh": lambda z: 1.7159 * g.tanh(2 / 3 * z),
    "logarithm": lambda z: g.log(1 + z * z) - g.maximum(z, -0.25),
    "power": lambda z: (z * z + 0.01) ** 0.7,
    "identity": lambda z: z * 1,
    "reciprocal": lambda z: z * z / (g.abs(z) * (1 + g.abs(z))),  # NaN at 0, where padding is
}
# An odd network, one of a single output, one of more than a block of outputs.
SIZES = ([9, 21, 5], [5, 17, 1], [3, 20, 19])
ROWS, BATCH = 61, 23


@pytest.fixture
def alone(monkeypatch):
    """The native engine has nobody to turn to."""

    def refuse(*args):
        raise AssertionError("not native")

    monkeypatch.setattr(native.Executor, "_reference_executor", refuse)
    monkeypatch.setattr(native.Executor, "_train_by_python", refuse)


def train(backend, sizes, dtype, loss="mse", activation="tanh", output="identity", **settings):
    model = fm.MLP(sizes, activation, output, dtype=dtype, seed=3)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((ROWS, sizes[0])), rng.uniform(0.5, 2, (ROWS, sizes[-1]))
    weight = settings.pop("weight", None)
    if weight is not None:
        weight = rng.uniform(0, 2, (ROWS, sizes[-1]) if weight == "output" else ROWS)
    history = model.fit(
        x, y, loss=loss, optimizer=fm.SGD(lr=0.01), batch_size=BATCH, epochs=2, seed=1,
        sample_weight=weight, backend=backend, **settings,
    )  # fmt: skip
    return model.flat_parameters.array().copy(), np.array(history.history["loss"]), model.predict(x)


def same(sizes, dtype, **settings):
    """A step rounds each weight; six of them in float32 differ by some units in the last place."""
    rounding = np.finfo(dtype).eps
    for ours, theirs in zip(
        train("native", sizes, dtype, **settings),
        train("reference", sizes, dtype, **settings),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=64 * rounding, atol=64 * rounding)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, sizes, dtype, alone, isa):
    same(sizes, dtype, loss=g.loss(LOSSES[name]))


@pytest.mark.parametrize("weight", ["sample", "output"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", ["squares", "sum", "quotient"])
def test_weights(name, sizes, weight, alone):
    same(sizes, "float64", loss=g.loss(LOSSES[name]), weight=weight)
    same(sizes, "float32", loss=g.loss(LOSSES[name]), weight=weight)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, sizes, dtype, alone, isa):
    function = g.activation(ACTIVATIONS[name])
    same(sizes, dtype, activation=function, output=function)


def test_class_indices(alone):
    def run(backend):
        model = fm.MLP([4, 8, 3], "relu", "sigmoid", dtype="float64", seed=0)
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((50, 4)), rng.integers(0, 3, 50)
        loss = g.loss(LOSSES["squares"])
        return model.fit(x, y, loss=loss, epochs=3, seed=0, backend=backend).history["loss"]

    np.testing.assert_allclose(run("native"), run("reference"), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [[290, 47, 20, 5], [17, 40, 1]], ids=str)
def test_threads_do_not_change_bits(sizes, dtype, isa):
    loss, activation = g.loss(LOSSES["power"]), g.activation(ACTIVATIONS["logarithm"])
    results = {
        train(
            "native", sizes, dtype, loss=loss, activation=activation, output=activation,
            weight="sample", threads=threads,
        )[0].tobytes()
        for threads in (1, 2, 3)
    }  # fmt: skip
    assert len(results) == 1


def test_custom_loss_is_the_built_in_one(isa):
    """The same sums in the same order: only the factors 2 and 1/m may be rounded apart."""
    ours = train("native", SIZES[0], "float64", loss=g.loss(LOSSES["squares"]))
    theirs = train("native", SIZES[0], "float64", loss="mse")
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


def neuron(activation, dtype):
    dense = fm.Dense(1, activation, bias=False, initializer="ones")
    return fm.Sequential([dense], input_size=1, dtype=dtype)


def test_powers(isa):
    """log m of a = 2^k m is at most 0.35, right to 2 eps of that; p times so much, and 4 eps."""
    for dtype, most in ((np.float32, 80.0), (np.float64, 600.0)):
        for p in (0.3, 1.7, 11.1, 50.25):
            activation = g.activation(lambda z, p=p: g.abs(z) ** p)
            z = np.exp(np.linspace(-1, 1, 999) * min(most / p, most))
            tiny = np.array([0.0, np.finfo(dtype).tiny, 1.0, 1.0 + np.finfo(dtype).eps])
            z = np.concatenate([z, tiny]).astype(dtype)[:, np.newaxis]
            model = neuron(activation, dtype)
            exact = z.astype(np.longdouble) ** np.longdouble(dtype(p))
            got = model.predict(z)
            fine = (exact == 0) | (exact >= np.finfo(dtype).tiny)
            np.testing.assert_allclose(
                got[fine], exact[fine], rtol=(4 + 0.7 * p) * np.finfo(dtype).eps
            )


def test_special_values(isa):
    """Comparisons, extremes and powers on NaN, infinities and zeros are NumPy's."""
    functions = [
        lambda z: g.maximum(z, 1.0),
        lambda z: g.maximum(1.0, z),
        lambda z: g.minimum(z, 1.0),
        lambda z: g.where(z < 1, 2.0, 3.0) + 0 * z,
        lambda z: g.where(z == 0, 2.0, z),
        lambda z: g.abs(z) ** 0.3,
        lambda z: g.sqrt(z),
        lambda z: g.log(z),
        lambda z: g.exp(z),
    ]
    z = np.array([np.nan, np.inf, 0.0, 1.0, 2.5, -1.0, -0.5, 1e-30, 1e30], np.float32)[
        :, np.newaxis
    ]
    for f in functions:
        with np.errstate(all="ignore"):
            activation = g.activation(f)
            (expected,) = activation.program.select(0).evaluate(z)
        result = np.concatenate(
            [neuron(activation, "float32").predict(row[np.newaxis]) for row in z]
        )
        np.testing.assert_allclose(result, expected, rtol=1e-6)


def deep(count):
    """A function whose program has so many values alive at once."""

    def f(z):
        terms = [g.tanh(z * (k + 2)) for k in range(count)]
        total = terms[0]
        for term in terms[1:]:
            total = g.tanh(term + total)
        return total

    return f


def test_what_the_engine_cannot_run_is_run_by_others():
    big = g.activation(deep(80))
    assert encode(big.program, np.dtype("float32")) is None
    assert encode(g.activation(lambda z: g.tanh(z) ** 65).program, np.dtype("float32")) is None
    for activation in (big, g.activation(lambda z: g.tanh(z) ** 65)):
        same([2, 3, 1], "float64", activation=activation)
    loss = g.loss(lambda y_hat, y: g.sum((y_hat - y) ** 2, axis=1) ** 0.5)  # joins outputs
    assert loss.program(5) is None
    same(SIZES[0], "float64", loss=loss)
