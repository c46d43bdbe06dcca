"""Models as graphs: the same losses and gradients as the engine's, and second derivatives."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import activations, losses
from fastmlp import graph as g
from fastmlp.graph import network


def data(outputs=3, n=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)), rng.normal(size=(n, outputs))


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_every_activation(name):
    fn = activations.get(name)
    z = np.random.default_rng(0).normal(0, 3, (20, 3))
    node = g.variable(z, "z")
    a = network.activation_node(fn, node)
    np.testing.assert_allclose(a.value, fn.forward(z), rtol=1e-13, atol=1e-15)
    seed = np.cos(z)
    (slope,) = g.gradients(a, [node], seed)
    if fn.rowwise:
        expected = fn.backward(fn.forward(z), seed)
    else:
        expected = seed * fn.derivative(z, fn.forward(z))
    np.testing.assert_allclose(slope.value, expected, rtol=1e-12, atol=1e-14)


LOSSES = [
    *[losses.get(name) for name in losses.LOSSES],
    losses.Huber(0.3),
    losses.Quantile(0.8),
    losses.BCE(from_logits=True, label_smoothing=0.1),
    losses.BCE(from_logits=True, reduction="sum"),
    losses.CrossEntropy(from_logits=True, label_smoothing=0.1),
    losses.Poisson(log_input=False),
]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_every_loss(loss):
    rng = np.random.default_rng(0)
    y = np.eye(3)[rng.integers(0, 3, 20)]
    # Probabilities are valid predictions of every loss; logits may be anything.
    y_hat = rng.uniform(0.05, 0.95, (20, 3))
    if getattr(loss, "from_logits", False):
        y_hat = rng.normal(0, 3, (20, 3))
    node = g.variable(y_hat, "ŷ")
    value = network.loss_node(loss, node, g.constant(y, "y"))
    expected, slope = loss(y_hat, y)
    assert value.item() == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(g.gradients(value, [node])[0].value, slope, rtol=1e-12, atol=1e-15)


def test_graph_of_a_model():
    x, y = data()
    model = fm.MLP([4, 5, 3], activation="tanh", dtype="float64", seed=0)
    graph = model.graph(x, y, "mse")
    value, slope = fm.losses.MSE()(model.forward(x), y)
    model.backward(slope)
    assert graph.output.item() == pytest.approx(value, rel=1e-13)
    found = {graph.name(node): graph.gradient(node) for node in graph.variables}
    assert list(found) == list(model.parameters)
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, model.gradients[name], rtol=1e-11, atol=1e-14)
    assert "0.weight" in graph.dot()
    assert "ŷ" in graph.dot()


def test_graph_of_an_output():
    x, _ = data()
    model = fm.Sequential([fm.Standardize(), fm.Dense(3, "softmax")], dtype="float64", seed=0)
    model.adapt(x)
    graph = model.graph(x)
    np.testing.assert_allclose(graph.output.value, model.predict(x), rtol=1e-12)


def test_classification_with_labels():
    x, _ = data()
    labels = np.array([0, 2, 1, 1, 0, 2])
    model = fm.MLP([4, 5, 3], output_activation="softmax", dtype="float64", seed=0)
    expected = model.evaluate(x, labels, loss="cross_entropy")["loss"]
    graph = model.graph(x, labels, "cross_entropy")
    assert graph.output.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, y: (a - y) ** 2,
        lambda a, y: g.mean((a - y) ** 2),
        lambda a, y: g.sqrt(g.mean((a - y) ** 2)),
        lambda a, y: g.mean((a - y) ** 2) / g.mean(y * y),
    ],
)
def test_custom_losses(function):
    x, y = data()
    model = fm.MLP([4, 5, 3], dtype="float64", seed=0)
    loss = g.loss(function)
    expected, _ = loss(model.predict(x), y)
    assert model.graph(x, y, loss).output.item() == pytest.approx(expected, rel=1e-12)


def test_python_losses_are_refused():
    x, y = data()
    model = fm.MLP([4, 5, 3], dtype="float64", seed=0)
    with pytest.raises(TypeError, match=r"fastmlp\.graph\.loss"):
        model.graph(x, y, lambda a, y: (0.0, a))


@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu"])
def test_jacobian_of_the_input(activation):
    x, _ = data()
    model = fm.MLP([4, 5, 3], activation=activation, dtype="float64", seed=0)
    jacobian = model.jacobian(x)
    assert jacobian.shape == (6, 3, 4)
    h = 1e-6
    for k in range(4):
        e = h * np.eye(4)[k]
        numerical = (model.predict(x + e) - model.predict(x - e)) / (2 * h)
        np.testing.assert_allclose(jacobian[:, :, k], numerical, atol=1e-8)


def test_jacobian_of_the_parameters():
    x, y = data()
    model = fm.MLP([4, 5, 3], activation="tanh", dtype="float64", seed=0)
    model.forward(x)
    jacobian = model.jacobian(x, wrt="parameters")
    assert jacobian.shape == (6, 3, model.parameter_count)
    # The chain rule through the loss: Σ dL/dŷ · ∂ŷ/∂w.
    _, slope = fm.losses.MSE()(model.predict(x), y)
    model.backward(slope)  # of the forward pass above: jacobian has left the model alone
    expected = np.concatenate([model.gradients[name].reshape(-1) for name in model.gradients])
    np.testing.assert_allclose(np.einsum("ij,ijk->k", slope, jacobian), expected, atol=1e-13)


def flat_gradient(model, x, y, loss, w):
    twin = model.astype("float64")
    twin.flat_parameters.array()[...] = w
    graph = twin.graph(x, y, loss)
    return np.concatenate([graph.gradient(node).reshape(-1) for node in graph.variables])


@pytest.mark.parametrize("loss", ["mse", "quadratic", "log_cosh"])
def test_hessian_vector_product(loss):
    x, y = data()
    model = fm.MLP([4, 5, 3], activation="tanh", dtype="float64", seed=0)
    w = model.flat_parameters.array().copy()
    v = np.sin(np.arange(w.size))
    product = model.hvp(x, y, v, loss)
    h = 1e-4
    plus, minus = (flat_gradient(model, x, y, loss, w + s * h * v) for s in (1, -1))
    numerical = (plus - minus) / (2 * h)
    assert np.linalg.norm(product - numerical) < 1e-5 * np.linalg.norm(product)


def test_hessian_vector_product_by_name():
    x, y = data()
    model = fm.MLP([4, 5, 3], activation="tanh", seed=0)
    v = {"1.bias": np.array([1.0, 0.0, 0.0])}
    product = model.hvp(x, y, v)
    assert list(product) == list(model.parameters)
    assert product["1.bias"].dtype == np.float32
    # Of the mean squared error, with respect to a bias of the output: 2/m.
    np.testing.assert_allclose(product["1.bias"], [2 / 3, 0, 0], atol=1e-6)


def test_errors():
    x, y = data()
    model = fm.MLP([4, 5, 3], seed=0)
    with pytest.raises(ValueError, match="'input', 'parameters'"):
        model.jacobian(x, wrt="inputs")
    with pytest.raises(ValueError, match="v must be a dict"):
        model.hvp(x, y, np.ones(3))
    with pytest.raises(ValueError, match=r"v\['1.bias'\] must have shape \(3,\)"):
        model.hvp(x, y, {"1.bias": np.ones(4)})
    with pytest.raises(ValueError, match=r"did you mean '1\.bias'"):
        model.hvp(x, y, {"1.bais": np.ones(3)})
    with pytest.raises(ValueError, match="x"):
        model.graph(x[:, :3], y)
