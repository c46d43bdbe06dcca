"""Means of models."""

import copy

import numpy as np
import pytest

import fastmlp as fm


def trained(seed=0, activation="tanh", dtype="float32", width=4):
    stack = [fm.Standardize(), fm.Dense(width, activation), fm.Dense(2)]
    model = fm.Sequential(stack, 3, dtype=dtype, seed=seed)
    rng = np.random.default_rng(seed)
    model.fit(rng.normal(seed, 1 + seed, size=(40, 3)), rng.normal(size=(40, 2)), epochs=2)
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mean_of_parameters_and_states(dtype):
    models = [trained(seed, dtype=dtype) for seed in range(3)]
    before = [copy.deepcopy(model) for model in models]
    mean = fm.average(iter(models))
    for name in mean.parameters:
        values = np.array([model.parameters[name] for model in models], np.float64)
        np.testing.assert_array_equal(mean.parameters[name], values.mean(0).astype(dtype))
    for name in mean.states:
        values = np.array([model.states[name] for model in models], np.float64)
        np.testing.assert_array_equal(mean.states[name], values.mean(0).astype(dtype))
    mean.parameters["1.bias"] = np.ones(4)
    for model, old in zip(models, before, strict=True):
        np.testing.assert_array_equal(model.flat_parameters.array(), old.flat_parameters.array())
    assert not mean.needs_data
    assert mean.dtype == dtype


def test_of_one_it_is_a_copy():
    model = trained()
    mean = fm.average([model])
    assert mean is not model
    np.testing.assert_array_equal(mean.flat_parameters.array(), model.flat_parameters.array())


def test_what_only_says_how_a_layer_began_may_differ():
    first = fm.MLP([2, 3, 1], seed=1)
    second = fm.MLP([2, 3, 1], seed=2, initializer="zeros")
    second.freeze(0)
    weight = fm.average([first, second]).parameters["0.weight"]
    np.testing.assert_array_equal(weight, first.parameters["0.weight"] / 2)


@pytest.mark.parametrize(
    ("models", "kind", "message"),
    [
        (list, ValueError, "at least one"),
        (lambda: trained(), TypeError, "list of models"),
        (lambda: [trained(), 3], TypeError, r"models\[1\] must be"),
        (lambda: [trained(), trained(activation="relu")], ValueError, "layer 1 is"),
        (lambda: [trained(), trained(width=5)], ValueError, "layer 1 is"),
        (lambda: [trained(), trained(dtype="float64")], ValueError, "one dtype"),
        (lambda: [trained(), fm.MLP([3, 4, 2])], ValueError, "3 layers"),
        (lambda: [fm.MLP([3, 4, 2]), fm.MLP([4, 4, 2])], ValueError, "3 inputs"),
        (lambda: [fm.Sequential([fm.Dense(3)])], ValueError, "no parameters yet"),
        (lambda: [fm.Sequential([fm.Standardize()], 3)], ValueError, "learn from data"),
    ],
)
def test_refused(models, kind, message):
    with pytest.raises(kind, match=message):
        fm.average(models())
