"""Element-wise programs against the graphs they come from; losses and activations made of both."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import graph as g

RNG_SEED = 20

UNARY = {
    "negative": lambda z: -z,
    "exp": g.exp,
    "expm1": g.expm1,
    "log": lambda z: g.log(z * z + 0.5),
    "log1p": lambda z: g.log1p(z * z),
    "sqrt": lambda z: g.sqrt(z * z + 0.3),
    "abs": abs,
    "sign": lambda z: z * g.sign(z),
    "tanh": g.tanh,
    "sigmoid": g.sigmoid,
    "softplus": g.softplus,
    "relu": g.relu,
    "square": g.square,
    "power 7": lambda z: z**7,
    "power -3": lambda z: (z * z + 0.5) ** -3,
    "power 0.5": lambda z: (z * z + 0.5) ** 0.5,
    "power 2.5": lambda z: (z * z + 0.5) ** 2.5,
    "power 1.7": lambda z: (z * z + 0.5) ** 1.7,
    "power 0": lambda z: z**0,
    "base": lambda z: 2.0**z,
    "maximum": lambda z: g.maximum(z, 0.1 * z),
    "minimum": lambda z: g.minimum(z, 0.5),
    "where": lambda z: g.where((z > 0) & (z <= 1.5) | ~(z >= -1), z * z, -z),
    "not equal": lambda z: g.where(z != 0.25, z, 3.0),
    "number as condition": lambda z: g.where(z, z, 3.0),
    "condition as number": lambda z: (z > 0) * z + (z == 0.25),
    "division": lambda z: (z + 1) / (z * z + 2) / 4 / 3,
    "silu": lambda z: z * g.sigmoid(z),
    "mish": lambda z: z * g.tanh(g.softplus(z)),
    "gelu, tanh form": lambda z: 0.5 * z * (1 + g.tanh(0.79788456 * (z + 0.044715 * z**3))),
}


def points(dtype):
    rng = np.random.default_rng(RNG_SEED)
    return np.concatenate([rng.normal(0, 2, 500), [0.25, 3.0, -7.0]]).astype(dtype)


@pytest.mark.parametrize("name", UNARY)
def test_program_equals_graph(name, dtype):
    f = UNARY[name]
    z = points(dtype)
    node = g.variable(z, "z")
    expected = g.node.lift(f(node))
    (slope,) = g.gradients(expected, [node])
    value, derivative = g.elementwise_program(f, 1).evaluate(z)
    # The same formulas but for expm1, log1p and powers, which take at most ten roundings each.
    eps = np.finfo(dtype).eps
    assert value.dtype == derivative.dtype == z.dtype
    np.testing.assert_allclose(value, np.broadcast_to(expected.value, z.shape), 16 * eps, 16 * eps)
    np.testing.assert_allclose(derivative, slope.value, 32 * eps, 32 * eps)


def test_expm1_log1p_and_softplus_keep_their_accuracy():
    x = np.geomspace(1e-18, 50, 200)
    both = np.concatenate([-x, x])
    for f, exact, at in [
        (g.expm1, np.expm1, both),
        (g.log1p, np.log1p, np.concatenate([-x[x < 0.9], x])),
        (g.softplus, lambda x: np.logaddexp(0, x), both),
    ]:
        value = g.elementwise_program(f, 1).evaluate(at)[0]
        np.testing.assert_allclose(value, exact(at), rtol=2e-15)


def test_programs_are_short():
    def count(f, n_args=1):
        return len(g.elementwise_program(f, n_args).instructions)

    # ŷ, y, e, e²; 2, 2e
    assert count(lambda a, y: (a - y) ** 2, 2) == 6
    assert count(lambda z: g.exp(z) * g.exp(z) + g.exp(z)) <= 7
    assert count(lambda z: z * 2.0 * 0.5 + 0.0) == 2  # z and its slope 1


def test_select_keeps_what_one_output_needs():
    program = g.elementwise_program(lambda z: z * g.sigmoid(z), 1)
    forward, backward = program.select(0), program.select(1)
    assert len(forward.instructions) == 3
    z = points(np.float64)
    np.testing.assert_array_equal(forward.evaluate(z)[0], program.evaluate(z)[0])
    np.testing.assert_array_equal(backward.evaluate(z)[0], program.evaluate(z)[1])


def test_program_form():
    """What an engine relies on: registers in order, known opcodes, nothing without use."""
    for f in UNARY.values():
        program = g.elementwise_program(f, 1)
        read = set(program.outputs)
        for k, line in enumerate(program.instructions):
            count, _ = g.program.OPCODES[line.opcode]
            assert len(line.operands) == count
            assert all(0 <= r < k for r in line.operands)
            read.update(line.operands)
        assert read == set(range(len(program.instructions)))
        assert len(set(program.instructions)) == len(program.instructions)


def test_places_suffice():
    for f in UNARY.values():
        program = g.elementwise_program(f, 1)
        places, count = program.places()
        z = points(np.float64)
        kept: list = [None] * count
        with np.errstate(all="ignore"):
            for line, place in zip(program.instructions, places, strict=True):
                operands = [kept[places[r]] for r in line.operands]
                if line.opcode == "arg":
                    kept[place] = z
                elif line.opcode == "const":
                    kept[place] = np.full_like(z, line.immediate)
                else:
                    extra = [line.immediate] if line.opcode == "pow" else []
                    kept[place] = g.program.OPCODES[line.opcode][1](*operands, *extra)
        for r, expected in zip(program.outputs, program.evaluate(z), strict=True):
            np.testing.assert_array_equal(kept[places[r]], expected)
    assert g.elementwise_program(lambda z: g.exp(g.exp(g.exp(g.exp(z)))), 1, ()).places()[1] == 2


def test_text():
    assert str(g.elementwise_program(lambda z: z * z + 1, 1)) == (
        "r0 = arg(0)\nr1 = mul(r0, r0)\nr2 = const(1)\nr3 = add(r1, r2)\nr4 = add(r0, r0)\n"
        "return r3, r4"
    )


def test_plain_data():
    for f in UNARY.values():
        program = g.elementwise_program(f, 1)
        assert g.Program.from_data(json.loads(json.dumps(program.to_data()))) == program


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": -1},
        {"arguments": True},
        {"outputs": []},
        {"outputs": [9]},
        {"outputs": 3},
        {"instructions": [["arg", [], 1]]},
        {"instructions": [["arg", [], 0], ["mul", [0, 1], 0]]},
        {"instructions": [["arg", [], 0], ["mul", [0], 0]]},
        {"instructions": [["arg", [], 0], ["system", [0], 0]]},
        {"instructions": [["arg", [], 0], [["add"], [0, 0], 0]]},
        {"instructions": [["const", [], "1"]]},
        {"instructions": [["arg", []]]},
    ],
)
def test_lying_data_is_refused(change):
    data = {"arguments": 1, "instructions": [["arg", [], 0]], "outputs": [0]}
    assert g.Program.from_data(data).evaluate(np.ones(2))[0].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"instruction|program|outputs"):
        g.Program.from_data({**data, **change})


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda z: g.sin(z), "sin has no opcode"),
        (lambda z: z.sum(), "sum has no opcode"),
        (lambda z: z * np.array([1.0, 2.0]), "not element-wise"),
        (lambda z: z**z, "exponent"),
    ],
)
def test_what_cannot_be_lowered(f, message):
    with pytest.raises(g.LoweringError, match=message):
        g.elementwise_program(f, 1)


def test_looking_at_values_is_refused():
    with pytest.raises(TypeError, match="where"):
        g.elementwise_program(lambda z: z if z.item() > 0 else -z, 1)


# --- losses ---------------------------------------------------------------------------------------

LOSSES = {
    "elements": (lambda a, y: (a - y) ** 2, True),
    "mean": (lambda a, y: g.mean((a - y) ** 2), True),
    "sum over outputs": (lambda a, y: 0.5 * g.sum((a - y) ** 2, axis=1), True),
    "mean of sums": (lambda a, y: g.mean(g.sum(abs(a - y), axis=1)) / 3, True),
    "sum of means": (lambda a, y: g.mean((a - y) ** 2) - -0.1 * g.mean(g.softplus(a)), True),
    "weighted outputs": (lambda a, y: g.mean((a - y) ** 2 * [1.0, 2.0, 3.0]), False),
    "no opcode": (lambda a, y: g.sin(a - y), False),
    "root": (lambda a, y: g.sqrt(g.mean((a - y) ** 2)), False),
    "cross-entropy": (lambda a, y: g.mean(g.logsumexp(a, axis=1) - g.sum(a * y, axis=1)), False),
    "scaled by the targets": (lambda a, y: g.mean((a - y) ** 2) / g.mean(y * y), False),
    "spread over the targets": (lambda a, y: g.mean((a - y) ** 2 / g.mean(y * y)), False),
    "joined by a matrix": (lambda a, y: g.mean(((a - y) @ np.ones((3, 2))) ** 2), False),
}


@pytest.fixture
def batch():
    rng = np.random.default_rng(RNG_SEED)
    return rng.normal(size=(7, 3)), rng.normal(size=(7, 3))


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_mean_over_samples(name, batch):
    f, lowered = LOSSES[name]
    loss = g.loss(f)
    y_hat, y = batch
    rows, slopes = loss.per_sample(y_hat, y)
    assert rows.shape == (7,)
    for i in range(7):
        a = g.variable(y_hat[i : i + 1])
        one = g.node.lift(f(a, g.constant(y[i : i + 1]))).mean()
        assert rows[i] == pytest.approx(one.item(), rel=1e-13)
        np.testing.assert_allclose(slopes[i], g.gradients(one, [a])[0].value[0], 1e-12, 1e-14)
    program = loss.program(3)
    assert (program is not None) == lowered
    if program is not None:
        each, derivative = program.evaluate(y_hat, y)
        np.testing.assert_allclose(each.sum(axis=1), rows, rtol=1e-13)
        np.testing.assert_allclose(derivative, slopes, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(loss.per_output(y_hat, y)[0], each)


def test_loss_equals_the_built_in_one(batch):
    value, gradient = g.loss(lambda a, y: (a - y) ** 2)(*batch)
    expected, expected_gradient = fm.losses.MSE()(*batch)
    assert value == pytest.approx(expected, rel=1e-15)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-15)


def test_weights(batch):
    y_hat, y = batch
    weight = np.arange(7.0)
    loss = g.loss(lambda a, y: (a - y) ** 2)
    for given in (weight, np.ones((7, 3)) * weight[:, None]):
        assert loss(y_hat, y, given)[0] == pytest.approx(fm.losses.MSE()(y_hat, y, given)[0])
    with pytest.raises(ValueError, match="joins the outputs"):
        g.loss(LOSSES["root"][0])(y_hat, y, np.ones((7, 3)))


def test_loss_errors(batch):
    with pytest.raises(TypeError, match="callable"):
        g.loss("mse")
    with pytest.raises(ValueError, match="must return one number"):
        g.loss(lambda a, y: a.T)(*batch)
    with pytest.raises(TypeError, match="cannot be stored"):
        g.loss(lambda a, y: a).config()


def squared(y_hat, y):
    return (y_hat - y) ** 2


def bump(z):
    return g.exp(-z * z)


def test_training_with_a_custom_loss(dtype, backend, batch):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(64, 4)), rng.normal(size=(64, 3))

    def trained(loss):
        model = fm.MLP([4, 8, 3], activation="tanh", dtype=dtype, seed=0)
        history = model.fit(x, y, loss=loss, batch_size=16, epochs=3, seed=0, backend=backend,
                            optimizer=fm.SGD(lr=0.1))  # fmt: skip
        return history.history["loss"], model.predict(x)

    (losses, out), (expected, expected_out) = trained(g.loss(squared)), trained("mse")
    # Twelve steps of sums over 16 samples: roundings that differ stay within a few hundred ε.
    tolerance = 500 * np.finfo(dtype).eps
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    np.testing.assert_allclose(out, expected_out, rtol=tolerance, atol=tolerance)


def test_gradient_check_of_a_custom_loss_and_activation():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(16, 4)), rng.normal(size=(16, 3))
    model = fm.MLP([4, 8, 3], activation=g.activation(bump), dtype="float64", seed=0)
    report = fm.check_gradients(model, x, y, loss=g.loss(lambda a, y: g.softplus(a - y) ** 1.5))
    assert report.passed


# --- activations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda z: z * g.sigmoid(z), "silu"),
        (lambda z: z * g.tanh(g.softplus(z)), "mish"),
        (g.relu, "relu"),
        (lambda z: g.where(z > 0, z, 0.01 * z), "leaky_relu"),
        (lambda z: g.where(z > 0, z, g.expm1(z)), "elu"),
    ],
)
def test_activation_equals_the_built_in_one(f, name, dtype):
    z = points(dtype).reshape(-1, 1)
    own, built_in = g.activation(f), fm.activations.get(name)
    eps = np.finfo(dtype).eps
    a = own.forward(z)
    assert a.dtype == z.dtype
    np.testing.assert_allclose(a, built_in.forward(z), rtol=8 * eps, atol=eps)
    slope = built_in.derivative(z, built_in.forward(z))
    np.testing.assert_allclose(own.derivative(z, a), slope, rtol=16 * eps, atol=16 * eps)
    assert own.kinks == built_in.kinks


@pytest.mark.parametrize(
    ("f", "kinks"),
    [
        (abs, (0.0,)),
        (lambda z: g.minimum(g.maximum(z, -1), 1), (-1.0, 1.0)),
        (lambda z: g.where(z > 0.3, z - 0.3, 0.0), (0.3,)),
        (lambda z: g.tanh(40 * z), ()),
        (lambda z: g.sin(z), ()),
    ],
)
def test_kinks_are_found(f, kinks):
    assert g.activation(f).kinks == pytest.approx(kinks, abs=1e-8)


def test_activation_errors():
    with pytest.raises(TypeError, match="callable"):
        g.activation("relu")
    with pytest.raises(ValueError, match="each element alone; got softmax"):
        g.activation(lambda z: g.softmax(z))
    with pytest.raises(ValueError, match="each element alone"):
        g.activation(lambda z: 1.0)
    with pytest.raises(TypeError, match="cannot be stored"):
        g.activation(g.sin).config()


def test_activations_are_stored_as_programs(tmp_path):
    model = fm.MLP([3, 5, 2], activation=g.activation(bump), dtype="float64", seed=0)
    x = np.linspace(-1, 1, 12).reshape(4, 3)
    model.save(tmp_path / "m.safetensors")
    loaded = fm.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    stored = fm.activations.from_config(g.activation(bump).config())
    assert stored == g.activation(bump)
    assert hash(stored) == hash(g.activation(bump))
    with pytest.raises(ValueError, match="program"):
        fm.activations.from_config({"name": "graph", "function": {"arguments": 1}})


def test_pickles():
    loss, activation = pickle.loads(pickle.dumps((g.loss(squared), g.activation(bump))))
    assert loss == g.loss(squared)
    assert activation == g.activation(bump)
    stored = fm.activations.from_config(activation.config())
    assert pickle.loads(pickle.dumps(stored)) == activation
