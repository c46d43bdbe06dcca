"""The native backend computes what the reference backend defines, within derived bounds."""

from __future__ import annotations

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp.backends import native, reference
from fastmlp.sources import Source
from trained import assert_near, compare_training, guarded, train

SHAPES = pytest.mark.parametrize("shape", cases.SHAPES, ids=str)


@SHAPES
@pytest.mark.parametrize("activation", cases.params(cases.ACTIVATIONS))
def test_forward_and_backward(shape, activation, dtype, isa):
    hidden = "tanh" if activation.rowwise else activation
    model = cases.mlp(shape, hidden, activation, dtype)
    x = guarded(cases.inputs(shape.batch, shape.sizes[0], dtype=dtype))
    grad = guarded(cases.targets("real", shape.batch, shape.sizes[-1], dtype=dtype))
    results = {}
    for backend in ("native", "reference"):
        y = model.forward(x, backend=backend)
        grad_x = model.backward(grad)
        gradients = {name: array.copy() for name, array in model.gradients.items()}
        results[backend] = {"output": y, "input": grad_x, **gradients}
    for name, expected in results["reference"].items():
        assert_near(results["native"][name], expected, shape, dtype)


@SHAPES
def test_predict(shape, dtype, isa):
    model = cases.mlp(shape, dtype=dtype)
    rows = 2 * shape.batch + 1
    x = guarded(cases.inputs(rows, shape.sizes[0], dtype=dtype))
    frame = np.full((rows + 2, shape.sizes[-1]), 7.0, dtype)
    out = frame[1:-1]
    assert model.predict(x, out=out) is out
    assert (frame[0] == 7.0).all()
    assert (frame[-1] == 7.0).all()
    assert_near(out, model.predict(x, backend="reference"), shape, dtype)
    np.testing.assert_array_equal(model.predict(x, batch_size=2), out)


@SHAPES
@pytest.mark.parametrize("case", cases.params(cases.LOSSES))
def test_training_with_every_loss(shape, case, dtype, isa):
    for output in case.outputs:
        if case.kind == "one_hot" and shape.sizes[-1] == 1:
            continue
        compare_training(shape, dtype, case, lambda: fm.SGD(lr=0.05), output)


@SHAPES
@pytest.mark.parametrize("optimizer", cases.params(cases.OPTIMIZERS))
def test_training_with_every_optimizer(shape, optimizer, dtype, isa):
    compare_training(shape, dtype, cases.LOSSES["mse"][0], optimizer)


MSE = cases.LOSSES["mse"][0]


@pytest.mark.parametrize(
    "weight",
    [
        lambda rows, outputs: np.linspace(0.0, 2.0, rows),
        lambda rows, outputs: np.linspace(0.0, 2.0, rows * outputs).reshape(rows, outputs),
        lambda rows, outputs: (np.arange(rows) >= 7).astype(float),
    ],
    ids=["sample", "output", "a batch of zeros"],
)
def test_training_with_weights(weight, dtype, isa):
    shape = cases.Shape((7, 17, 5), 7)
    compare_training(shape, dtype, MSE, lambda: fm.SGD(lr=0.05), weight=weight)


def test_training_with_penalties(dtype, isa):
    shape = cases.Shape((7, 17, 5), 13)
    for optimizer in (lambda: fm.SGD(lr=0.05), lambda: fm.Adam(lr=0.01, eps=0.01)):
        compare_training(shape, dtype, MSE, optimizer, l1=0.01, l2=0.1)


def test_training_with_labels(dtype, isa):
    shape = cases.Shape((7, 17, 5), 13)
    compare_training(shape, dtype, MSE, lambda: fm.SGD(lr=0.05), kind="labels")
    entropy = cases.LOSSES["cross_entropy"][0]
    compare_training(shape, dtype, entropy, lambda: fm.SGD(lr=0.05), "softmax", kind="labels")


def test_training_with_parameter_groups(dtype, isa):
    shape = cases.Shape((7, 17, 5), 13)
    groups = [("*.bias", {"lr_scale": 2.0}), ("0.*", {"lr": 0.01, "weight_decay": 0.1})]
    compare_training(shape, dtype, MSE, lambda: fm.SGD(lr=0.05, groups=groups))


@pytest.mark.parametrize("name", cases.LAYERS)
def test_every_layer(name, dtype, isa):
    results = []
    for backend in ("native", "reference"):
        model = fm.Sequential(cases.LAYERS[name](), dtype=dtype, seed=1)
        x, y = cases.layer_inputs(name, 30, 5), cases.targets("real", 30, 3)
        history = model.fit(
            x, y, optimizer=fm.SGD(lr=0.05), batch_size=8, epochs=2, backend=backend
        )
        output = model.forward(x, backend=backend)
        grad_x = model.backward(np.ones_like(output))
        results.append([np.array(history.history["loss"]), output, grad_x])
    shape = cases.Shape((5, 6, 3), 30)
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=16 * shape.roundings * np.finfo(dtype).eps
        )


@pytest.mark.parametrize("frozen", [(0,), (1,), (0, 1), (2,)])
def test_frozen_layers_stay_and_the_others_learn(frozen, dtype, isa):
    results = []
    for module in (native, reference):
        model = cases.mlp(cases.Shape((4, 5, 6, 2), 8), dtype=dtype)
        before = {name: array.copy() for name, array in model.parameters.items()}
        model.freeze(*frozen)
        source = Source(cases.inputs(8, 4, dtype=dtype), cases.targets("real", 8, 2, dtype=dtype))
        train(module.Executor, model, "mse", fm.SGD(lr=0.1, momentum=0.5), source, 4)
        for name, array in model.parameters.items():
            stays = int(name[0]) in frozen
            assert np.array_equal(array, before[name]) == stays
        results.append(model.flat_parameters.array().copy())
    assert_near(*results, cases.Shape((4, 5, 6, 2), 8), dtype, steps=2)
