"""Models from and to Keras, on its PyTorch backend: the same predictions, clear refusals."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

import fastmlp as fm
from cases import ACTIVATIONS, each, inputs
from exported import assert_same, models, trained

pytest.importorskip("torch")
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
L = keras.layers

# Keras' own, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
# On PyTorch, Keras (3.15) multiplies matrices of float64 in float32.
TOLERANCE = 3e-6
also = fm.Activation, fm.Standardize


def outputs(network, x):
    return np.asarray(keras.ops.convert_to_numpy(network(keras.ops.convert_to_tensor(x))))


def representable(make):
    """Whether all layers, those inside others included, are known to Keras."""
    return all(
        layer.counterparts.keras or layer.children() or isinstance(layer, also)
        for top in make("float32").layers
        for _, layer in top.walk()
    )


@pytest.mark.parametrize("make", [row for row in models() if representable(*row.values)])
def test_there_and_back(make, dtype):
    model = make(dtype)
    x = trained(model)
    network = model.to_keras()
    expected = model.predict(x)
    assert_same(outputs(network, x.astype(dtype)), expected, TOLERANCE)
    if any(layer.children() for layer in model.layers):
        with pytest.raises(ValueError, match="must be a chain"):
            fm.from_keras(network)
        return
    back = fm.from_keras(network)
    assert back.dtype == model.dtype
    assert_same(back.predict(x), expected, 1e-6)
    assert not back.needs_data
    for name, values in model.parameters.items():
        np.testing.assert_array_equal(back.parameters[name], values)


def test_a_model_as_keras_users_write_it():
    mean, variance = np.arange(6.0), np.arange(1.0, 7.0)
    network = keras.Sequential(
        [
            L.Input((2, 3)),
            L.Flatten(),
            L.Normalization(mean=mean, variance=variance),
            L.Dense(8, activation="gelu"),
            L.BatchNormalization(momentum=0.9),
            L.Activation("relu"),
            L.Dropout(0.2),
            L.Dense(5, use_bias=False, activation="leaky_relu", name="narrow"),
            L.LayerNormalization(),
            L.ELU(0.3),
            L.GaussianNoise(0.1),
            keras.Sequential([L.Dense(4)]),
            L.Softmax(),
        ]
    )
    x = inputs(30, 6)
    network.compile("sgd", "mse")
    network.fit(x.reshape(30, 2, 3), np.ones((30, 4)), epochs=2, verbose=0)  # moves statistics
    model = fm.from_keras(network)
    assert [type(layer).__name__ for layer in model.layers] == [
        "Standardize", "Dense", "BatchNorm", "Activation", "Dropout", "Dense", "LayerNorm",
        "Activation", "GaussianNoise", "Dense",
    ]  # fmt: skip
    norm = model.layers[2]
    assert (norm.momentum, norm.eps) == (0.1, 1e-3)  # Keras' momentum is the share that stays
    assert model.layers[5].activation == fm.activations.LeakyReLU(0.2)
    assert model.states["2.running_mean"].any()
    assert_same(model.predict(x), outputs(network, x.reshape(30, 2, 3)), TOLERANCE)


def test_a_functional_chain():
    start = keras.Input((4,))
    hidden = L.Dense(5, "tanh", trainable=False)(start)
    network = keras.Model(start, L.Dense(2)(hidden))
    model = fm.from_keras(network)
    assert [layer.trainable for layer in model.layers] == [False, True]
    assert_same(model.predict(inputs(7, 4)), outputs(network, inputs(7, 4)), TOLERANCE)


@pytest.mark.parametrize("activation", [a for _, a in each(ACTIVATIONS)], ids=str)
def test_every_activation(activation):
    model = fm.Sequential([fm.Dense(3, activation), fm.Activation(activation)], input_size=4)
    x = inputs(20, 4)
    network = model.to_keras()
    assert_same(outputs(network, x), model.predict(x), TOLERANCE)
    back = fm.from_keras(network)
    assert [layer.activation for layer in back.layers] == [
        layer.activation for layer in model.layers[: 1 + (activation.name != "identity")]
    ]


def built(*layers, shape=(3,)):
    return keras.Sequential([L.Input(shape), *layers])


def branching():
    start = keras.Input((3,))
    return keras.Model(start, L.Add()([L.Dense(3)(start), start]))


SHARED = L.Dense(3)
REFUSED = {
    "not built": (lambda: keras.Sequential([L.Dense(3)]), "not built yet"),
    "a branch": (branching, "must be a chain of layers"),
    "an unknown class": (
        lambda: built(L.Conv1D(3, 1, name="c"), shape=(3, 2)),
        r"layer c \(Conv1D\).*flatten|Conv1D has no counterpart .* BatchNormalization, Dense",
    ),
    "an unknown activation": (
        lambda: built(L.Dense(3, "hard_sigmoid", name="d")),
        r"layer d \(Dense\) .* hard_sigmoid has no counterpart .* elu, gelu",
    ),
    "a function": (lambda: built(L.Dense(3, lambda z: z)), "<lambda> has no counterpart"),
    "a dense layer over pictures": (lambda: built(L.Dense(3), shape=(2, 3)), "flatten them"),
    "a capped ReLU": (lambda: built(L.ReLU(max_value=6)), "max_value=6"),
    "norm without centre": (lambda: built(L.LayerNormalization(center=False)), "no beta"),
    "used twice": (lambda: built(SHARED, SHARED), "used twice"),
    "half precision": (lambda: built(L.Dense(2, dtype="float16")), "they are float16"),
    "mixed precision": (
        lambda: built(L.Dense(2, dtype="float64"), L.Dense(2, dtype="float32")),
        "they are float32, float64",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_carried_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        fm.from_keras(make())


def test_what_cannot_go_is_refused():
    own = fm.Sequential([fm.Dense(2, fm.graph.activation(fm.graph.sin))], input_size=2)
    scaled = fm.Sequential([fm.Dense(2), fm.Scale()], input_size=2)
    tiny = fm.Sequential([fm.Standardize(), fm.Dense(2)], input_size=2)
    tiny.adapt(1e-9 * inputs(9, 2))
    for model, message in (
        (own, r"layer 0 \(Dense\): the activation .* those of elu, "),
        (scaled, r"layer 1 \(Scale\): it has no counterpart"),
        (tiny, r"layer 0 \(Standardize\): .* scales from 1e-07"),
        (fm.Sequential([fm.Dense(2)]), "sizes of the model are not known"),
    ):
        with pytest.raises(ValueError, match=message):
            model.to_keras()
    with pytest.raises(TypeError, match=r"must be a keras\.Model; got 3"):
        fm.from_keras(3)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    for call in (lambda: fm.from_keras(None), fm.MLP([2, 1]).to_keras):
        with pytest.raises(ImportError, match=r'pip install "fastmlp\[keras\]"'):
            call()
