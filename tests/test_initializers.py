"""Initializers: distributions, seeds, defaults, custom ones, errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import initializers
from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.initializers import INITIALIZERS, default_for, fans, generator, initialize

SHAPE = (300, 200)
VARIANCE = {"glorot": 2 / 500, "he": 2 / 300, "lecun": 1 / 300}


def draw(name, shape=SHAPE, seed=0):
    return initializers.get(name)(shape, generator(seed, "0.weight"))


@pytest.mark.parametrize("rule", VARIANCE)
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_variance_scaling(rule, kind):
    values = draw(f"{rule}_{kind}")
    n, variance = values.size, VARIANCE[rule]
    assert values.shape == SHAPE
    assert values.dtype == np.float64
    # Five standard errors of the mean, and of the variance (2σ⁴/n normal, 0.8σ⁴/n uniform).
    assert abs(values.mean()) < 5 * math.sqrt(variance / n)
    assert abs(values.var() - variance) < 5 * variance * math.sqrt(2 / n)
    if kind == "uniform":
        limit = math.sqrt(3 * variance)
        assert 0.999 * limit < np.abs(values).max() <= limit
    else:
        assert np.abs(values).max() > 3.5 * math.sqrt(variance)


def test_simple_initializers():
    rng = generator(0, "0.weight")
    np.testing.assert_array_equal(initializers.get("zeros")((2, 3), rng), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.get("ones")((2, 3), rng), np.ones((2, 3)))
    np.testing.assert_array_equal(initializers.Constant(0.5)((4,), rng), np.full(4, 0.5))
    values = initializers.Normal(3.0, 0.1)(SHAPE, rng)
    assert values.mean() == pytest.approx(3.0, abs=5 * 0.1 / math.sqrt(values.size))
    assert values.std() == pytest.approx(0.1, rel=5 / math.sqrt(2 * values.size))
    values = initializers.Uniform(-2.0, -1.0)(SHAPE, rng)
    assert -2.0 <= values.min() < -1.99
    assert -1.01 < values.max() < -1.0


def test_fans():
    assert fans((3, 5)) == (3, 5)
    assert fans((7,)) == (7, 7)
    assert fans(()) == (1, 1)
    assert fans((0, 5)) == (1, 5)


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (5,), (0, 3)])
def test_odd_shapes(name, shape):
    values = draw(name, shape)
    assert values.shape == shape
    assert np.isfinite(values).all()


def test_same_seed_and_name_give_the_same_values():
    np.testing.assert_array_equal(draw("he_normal"), draw("he_normal"))


def test_seed_and_name_matter():
    first = generator(0, "0.weight").random(4)
    assert not np.isin(first, generator(1, "0.weight").random(4)).any()
    assert not np.isin(first, generator(0, "1.weight").random(4)).any()
    assert not np.isin(first, generator(0, "0.bias").random(4)).any()


def test_values_of_a_seed_are_kept_between_releases():
    # Philox and the key are part of what "the same seed gives the same weights" promises.
    expected = [0.7334571436152812, 0.808509398092347, 0.31412744498546197]
    np.testing.assert_array_equal(generator(7, "0.weight").random(3), expected)


def test_seeds_are_64_bit():
    assert generator(2**64 - 1, "0.weight").random() != generator(0, "0.weight").random()
    for seed, error in ((-1, ValueError), (2**64, ValueError), (1.0, TypeError), (None, TypeError)):
        with pytest.raises(error, match="seed must be an integer >= 0 and <= 18446744073709551615"):
            generator(seed, "0.weight")


def test_every_activation_has_a_default():
    assert default_for("relu").name == "he_uniform"
    assert default_for("selu").name == "lecun_normal"
    assert default_for("sigmoid").name == "glorot_uniform"
    for name in ACTIVATIONS:
        assert default_for(name).name in INITIALIZERS
    with pytest.raises(ValueError, match="activation must be one of"):
        default_for("rleu")


def test_a_new_activation_needs_no_entry_elsewhere():
    class Rectifier(Activation):
        name = "rectifier"
        initializer = "he_normal"

        def forward(self, z):
            return np.maximum(z, 0)

        def derivative(self, z, a):
            return np.sign(a)

    layer = fm.Dense(3, Rectifier())
    assert layer.initializer == INITIALIZERS["he_normal"]()
    model = fm.Sequential([layer, fm.Dense(1)], input_size=2)
    twin = fm.Sequential([fm.Dense(3, "relu", initializer="he_normal"), fm.Dense(1)], input_size=2)
    x = np.linspace(-1, 1, 40).reshape(20, 2)
    for network in (model, twin):
        network.fit(x, x[:, :1], epochs=2, backend="reference")
    np.testing.assert_array_equal(model.predict(x), twin.predict(x, backend="reference"))


def test_signals_keep_their_size_behind_the_defaults():
    rng = np.random.default_rng(0)
    for name, kind in ACTIVATIONS.items():
        if name == "softmax":
            continue
        activation, x = kind(), rng.normal(size=(400, 256))
        for layer in range(6):
            weight = default_for(name)((256, 256), generator(0, f"{layer}.weight"))
            x = activation.forward(x @ weight)
        # Neither vanishing nor exploding over six layers: within a factor of 30 of where it began.
        assert 1 / 30 < x.std() + abs(x.mean()) < 30, name


def test_callables():
    def doubled(shape, rng):
        return np.full(shape, 2, np.int8)

    rng = generator(0, "0.weight")
    assert initializers.get(doubled) is doubled
    values = initialize(doubled, (2, 3), rng, "0.weight")
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, np.full((2, 3), 2.0))
    np.testing.assert_array_equal(initialize("zeros", (3,), rng), np.zeros(3))


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (np.zeros((3, 2)), ValueError, r"of 0.weight must return shape \(2, 3\); got \(3, 2\)"),
        (np.full((2, 3), np.nan), ValueError, "must return finite values"),
        ("zeros", TypeError, "must return real numbers; got 'zeros'"),
        (np.zeros((2, 3), complex), TypeError, "must return real numbers"),
    ],
)
def test_callables_that_return_something_else(result, error, message):
    with pytest.raises(error, match=message):
        initialize(lambda shape, rng: result, (2, 3), generator(0, "0.weight"), "0.weight")


@pytest.mark.parametrize("name", INITIALIZERS)
def test_config(name):
    initializer = initializers.get(name)
    twin = initializers.from_config(json.loads(json.dumps(initializer.config())))
    assert twin == initializer
    np.testing.assert_array_equal(
        twin((3, 4), generator(0, "0.weight")), initializer((3, 4), generator(0, "0.weight"))
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: initializers.get("he"), ValueError, "initializer must be one of"),
        (lambda: initializers.get("he_unifrom"), ValueError, "did you mean 'he_uniform'"),
        (lambda: initializers.get(None), TypeError, "or of type Initializer; got None"),
        (lambda: initializers.get(initializers.Zeros), TypeError, "got the class Zeros"),
        (lambda: initializers.Normal(std=-1), ValueError, "std of normal must be .* >= 0"),
        (lambda: initializers.Uniform(1, 0), ValueError, "high of uniform must be .* >= 1"),
        (lambda: initializers.Constant("a"), TypeError, "value of constant must be"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
