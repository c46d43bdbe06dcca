"""Activations: values, derivatives, PyTorch's numbers, dtypes, extremes, errors."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest

from fastmlp import activations, losses
from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.error_function import erf, erfc
from golden.make_golden import pre_activations, wave
from golden.stored import load

GOLDEN = load("activations")
EVERY = [activations.from_config(json.loads(config)) for config in GOLDEN["configs"]]
ELEMENTWISE = [activation for activation in EVERY if not activation.rowwise]
NAMES = {"ids": str}


def chain(activation: Activation, z, a, da):
    """Gradient with respect to z, from the one with respect to a."""
    if activation.rowwise:
        return activation.backward(a, da)
    wanted = {"output": (None, a), "input": (z, None)}[activation.derivative_from]
    return da * activation.derivative(*wanted)


def test_every_activation_has_golden_numbers():
    assert {activation.name for activation in EVERY} == set(ACTIVATIONS)


@pytest.mark.parametrize("number", range(len(EVERY)), ids=[str(a) for a in EVERY])
def test_values_and_gradients_equal_pytorch(number):
    activation = EVERY[number]
    z = pre_activations()
    a = activation.forward(z)
    np.testing.assert_allclose(a, GOLDEN["outputs"][number], rtol=1e-10, atol=1e-15)
    for name in ("mse", "quadratic"):
        _, da = losses.get(name)(a, wave(z.shape, 0.37))
        dz = chain(activation, z, a, da)
        np.testing.assert_allclose(dz, GOLDEN[name][number], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", ELEMENTWISE, **NAMES)
def test_derivative_equals_finite_differences(activation):
    z = np.linspace(-7.0, 7.0, 1001) + 1e-3
    h = 1e-5
    z = z[[all(abs(point - kink) > 2 * h for kink in activation.kinks) for point in z]]
    numerical = (activation.forward(z + h) - activation.forward(z - h)) / (2 * h)
    exact = chain(activation, z, activation.forward(z), 1.0)
    # Truncation h²/6·f''' < 1e-10 and rounding ε·|f|/h < 2e-10.
    np.testing.assert_allclose(exact, numerical, rtol=0, atol=1e-9)


def test_softmax_backward_equals_finite_differences():
    softmax = activations.get("softmax")
    z, da, h = 3 * wave((5, 7), 0.3), wave((5, 7), 0.8), 1e-6
    numerical = np.empty_like(z)
    for i, j in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[i, j] = h
        change = softmax.forward(z + step) - softmax.forward(z - step)
        numerical[i, j] = (da * change).sum() / (2 * h)
    np.testing.assert_allclose(softmax.backward(softmax.forward(z), da), numerical, atol=1e-9)


@pytest.mark.parametrize("activation", ELEMENTWISE, **NAMES)
def test_kinks_are_all_the_jumps_of_the_derivative(activation):
    z = np.linspace(-3.0, 3.0, 6001)
    slopes = chain(activation, z, activation.forward(z), 1.0)
    # f'' is below 2 for every activation, so neighbours differ by less than 2e-3 unless f' jumps.
    jumps = z[1:][np.abs(np.diff(slopes)) > 2e-3]
    found = {kink for kink in activation.kinks for jump in jumps if abs(jump - kink) < 2e-3}
    assert found == set(activation.kinks)
    assert all(any(abs(jump - kink) < 2e-3 for kink in activation.kinks) for jump in jumps)


@pytest.mark.parametrize("activation", EVERY, **NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 17), (5, 4)])
def test_shape_and_dtype_are_kept(activation, dtype, shape):
    z = (4 * wave(shape, 0.7)).astype(dtype)
    a = activation.forward(z)
    dz = chain(activation, z, a, np.ones_like(a))
    assert a.dtype == dz.dtype == dtype
    assert a.shape == dz.shape == shape
    # Each formula takes fewer than 16 roundings of numbers of the size of the result or of 1.
    wide = activation.forward(z.astype(np.float64))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(a, wide, rtol=16 * eps, atol=4 * eps)


@pytest.mark.parametrize("activation", EVERY, **NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_inputs_stay_finite_without_warnings(activation, dtype):
    largest = np.finfo(dtype).max / 4
    z = np.array([[1e4, -1e4, 0.0, 88.8, -88.8], [largest, -largest, 710, -746, 1e-40]], dtype)
    a = activation.forward(z)
    assert np.isfinite(a).all()
    assert np.isfinite(chain(activation, z, a, np.ones_like(a))).all()


@pytest.mark.parametrize("activation", EVERY, **NAMES)
def test_nan_stays_nan(activation):
    z = np.array([[np.nan, 1.0]])
    assert np.isnan(activation.forward(z)[0, 0])


@pytest.mark.parametrize("activation", EVERY, **NAMES)
def test_integers_strides_and_inputs_left_alone(activation):
    z = np.arange(-6, 6).reshape(3, 4)
    before = z.copy()
    expected = activation.forward(z.astype(np.float64))
    np.testing.assert_array_equal(activation.forward(z), expected)
    np.testing.assert_array_equal(activation.forward(np.asfortranarray(z)), expected)
    np.testing.assert_array_equal(activation.forward(z.tolist()), expected)
    np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize("activation", EVERY, **NAMES)
def test_config_equality_copies_and_repr(activation):
    config = json.loads(json.dumps(activation.config()))
    for twin in (
        activations.from_config(config),
        copy.deepcopy(activation),
        pickle.loads(pickle.dumps(activation)),
        activations.get(activation),
    ):
        assert twin == activation
        assert hash(twin) == hash(activation)
        assert repr(twin) == repr(activation)
        assert twin.kinks == activation.kinks


def test_settings_make_a_difference():
    assert activations.LeakyReLU(0.2) != activations.LeakyReLU(0.1)
    assert activations.ReLU() != activations.Identity()
    assert activations.get("elu").alpha == 1.0
    assert activations.get("leaky_relu").alpha == 0.01
    assert activations.get("relu").alpha == 0.0


def test_activations_cannot_be_changed():
    activation = activations.LeakyReLU(0.2)
    with pytest.raises(AttributeError, match="make a new one with another alpha"):
        activation.alpha = 0.3
    with pytest.raises(AttributeError, match="alpha cannot be deleted"):
        del activation.alpha
    assert activation.alpha == 0.2


def test_errors():
    with pytest.raises(ValueError, match=r"activation must be one of .*; did you mean 'sigmoid'"):
        activations.get("sigmoide")
    with pytest.raises(TypeError, match="got the class ReLU, not an object of it"):
        activations.get(activations.ReLU)
    with pytest.raises(TypeError, match=r"activation must be .* or of type Activation; got None"):
        activations.get(None)
    with pytest.raises(ValueError, match="alpha of leaky_relu must be a finite number >= 0"):
        activations.LeakyReLU(-0.1)
    with pytest.raises(ValueError, match="alpha of elu must be a finite number >= 0; got nan"):
        activations.ELU(math.nan)
    with pytest.raises(ValueError, match="softmax needs rows"):
        activations.Softmax().forward(np.zeros((3, 0)))
    with pytest.raises(ValueError, match="setting of leaky_relu must be one of 'alpha'"):
        activations.from_config({"name": "leaky_relu", "slope": 0.1})
    with pytest.raises(TypeError, match="activation must be a mapping with a 'name'"):
        activations.from_config({"alpha": 0.1})


# --- the error function ---


def test_erf_and_erfc_are_accurate():
    x = np.concatenate([np.linspace(-6, 6, 4001), np.logspace(-300, 1.4, 500), [0.46875, 4.0]])
    x = np.concatenate([x, -x])
    # Cody's approximations have relative errors below 6e-19; what is left is a few roundings.
    np.testing.assert_allclose(erf(x), [math.erf(v) for v in x], rtol=1e-15, atol=0)
    reference = np.array([math.erfc(v) for v in x])
    np.testing.assert_allclose(erfc(x), reference, rtol=2e-15, atol=1e-307)


def test_erf_of_special_values_and_shapes():
    np.testing.assert_array_equal(erf([np.inf, -np.inf, 0.0]), [1.0, -1.0, 0.0])
    np.testing.assert_array_equal(erfc([np.inf, -np.inf, 0.0]), [0.0, 2.0, 1.0])
    assert np.isnan(erf(np.nan))
    assert np.isnan(erfc(np.nan))
    assert erf(np.zeros((2, 0, 3))).shape == (2, 0, 3)
    assert erf(0.5).shape == ()


def test_gelu_keeps_relative_accuracy_far_left():
    # Φ(-10) from the tables: 7.619853024160527e-24.
    assert activations.GELU().forward(-10.0) == pytest.approx(-7.619853024160527e-23, rel=1e-14)
