"""Whole networks against PyTorch's numbers: gradients, and trainings mini-batch by mini-batch."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastmlp as fm
from golden.make_golden import BATCH, EPOCHS, ROWS, SIZES, network_data
from golden.stored import load

GOLDEN = load("networks")
X, Y, PARAMETERS = network_data()


def network(activation, seed=0):
    model = fm.MLP(SIZES, activation, dtype="float64", seed=seed)
    for name, values in zip(model.parameters, PARAMETERS, strict=True):
        model.parameters[name] = values
    return model


@pytest.mark.parametrize("number", range(len(GOLDEN["activations"])))
def test_gradients_equal_pytorch(number, backend):
    activation = fm.activations.from_config(json.loads(str(GOLDEN["activations"][number])))
    model = network(activation)
    _, grad = fm.losses.MSE()(model.forward(X, backend=backend), Y)
    grad_x = model.backward(grad)
    found = np.concatenate([model.flat_gradients.array(), grad_x.ravel()])
    np.testing.assert_allclose(found, GOLDEN["gradients"][number], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("number", range(len(GOLDEN["optimizers"])))
def test_trainings_equal_pytorch(number, backend):
    optimizer = fm.optimizers.from_config(json.loads(str(GOLDEN["optimizers"][number])))
    model = network("tanh")
    trainer = fm.Trainer(model, "mse", optimizer, BATCH, backend=backend)
    batches = -(-ROWS // BATCH)
    curves = GOLDEN["losses"][number].reshape(EPOCHS, batches)
    counts = np.minimum(BATCH, ROWS - BATCH * np.arange(batches))
    for curve in curves:
        loss = trainer.epoch(X, Y, shuffle=False)
        assert loss == pytest.approx(float(curve @ counts) / ROWS, rel=1e-10)
    np.testing.assert_allclose(
        model.flat_parameters.array(), GOLDEN["parameters"][number], rtol=0, atol=1e-10
    )


def test_the_explicit_way_equals_pytorch(backend):
    optimizer = fm.optimizers.from_config(json.loads(str(GOLDEN["optimizers"][2])))
    model, loss = network("tanh"), fm.losses.MSE()
    values = []
    for _ in range(EPOCHS):
        for start in range(0, ROWS, BATCH):
            rows = slice(start, start + BATCH)
            value, grad = loss(model.forward(X[rows], training=True, backend=backend), Y[rows])
            model.backward(grad, input_gradient=False)
            optimizer.step(model)
            values.append(value)
    np.testing.assert_allclose(values, GOLDEN["losses"][2], rtol=1e-10)
