"""What tests of the engine train, and how they compare what comes of it.

Both backends sum in different orders, so an element may differ by one unit in the last place for
each rounding behind it, measured against the largest element of its array: `Shape.roundings` of
them, in either backend, for each step that is made.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp import activations
from fastmlp.backends import native, reference
from fastmlp.losses import get as get_loss
from fastmlp.sources import Source

MSE = cases.LOSSES["mse"][0]
OPTIMIZERS = pytest.mark.parametrize("optimizer", cases.params(cases.OPTIMIZERS))
LOSSES = pytest.mark.parametrize("case", cases.params(cases.LOSSES))
# A loss and an activation that are graph functions.
PROGRAM = cases.LossCase(
    fm.graph.loss(lambda y_hat, y: fm.graph.abs(y_hat - y) ** 1.5),
    "real",
    (fm.graph.activation(lambda z: z / (1 + fm.graph.abs(z))),),
)


class Skip(fm.layers.Layer):
    """x + tanh(x): a value with two readers, and an addition."""

    def emit(self, b, x):
        z = b.emit("activation", x, name="z", fn=activations.get("tanh"))
        return b.emit("add", x, z, name="y")


def stacks():
    """Stacks of layers that together reach every operation."""
    found = {"skip": [fm.Dense(6), Skip(), fm.Dense(3)], "softmax": [fm.Dense(3, "softmax")]}
    return found | {name: make() for name, make in cases.LAYERS.items()}


def assert_near(actual, expected, shape, dtype, *, steps=1):
    assert actual.dtype == expected.dtype == dtype
    assert actual.shape == expected.shape
    bound = 2 * steps * shape.roundings * np.finfo(dtype).eps
    scale = max(1e-3, float(np.abs(expected).max()))
    assert np.abs(actual - expected).max() <= bound * scale


def guarded(array):
    """Return a copy of an array in the middle of NaNs, which would show in any result."""
    frame = np.full([size + 2 for size in array.shape], np.nan, array.dtype)
    inside = frame[tuple(slice(1, -1) for _ in array.shape)]
    inside[...] = array
    return inside


def train(kind, model, loss, optimizer, source, batch_size, **settings):
    """Train for an epoch in two spans; return losses and everything that was changed."""
    executor = kind(model, get_loss(loss), optimizer, **settings)
    order = np.random.default_rng(1).permutation(source.n).astype(np.uint32)
    batches = -(-source.n // batch_size)
    losses = np.full(batches + 2, np.nan)
    first = batches // 2
    executor.train(source, order, batch_size, 0, first, losses[1:-1])
    executor.train(source, order, batch_size, first, batches, losses[1:-1])
    assert np.isnan(losses[[0, -1]]).all()
    state = optimizer.state_for(model)
    assert state.step == batches
    slots = {
        f"slot {name}": slot.array().copy()
        for name, slot in zip(state.names, state.slots, strict=True)
    }
    return {"losses": losses[1:-1], "parameters": model.flat_parameters.array().copy(), **slots}


def compare_training(
    shape,
    dtype,
    case,
    optimizer,
    output_activation="identity",
    *,
    kind=None,
    weight=None,
    batches=3,
    **settings,
):
    n_in, n_out = shape.sizes[0], shape.sizes[-1]
    rows = (batches - 1) * shape.batch + max(shape.batch // 2, 1)
    x = guarded(cases.inputs(rows, n_in, dtype=dtype))
    y = cases.targets(kind or case.kind, rows, n_out, dtype=dtype)
    classes = n_out if y.ndim == 1 else 0
    source = Source(x, y if classes else guarded(y), weight and weight(rows, n_out), classes)
    results = []
    for module in (native, reference):
        model = cases.mlp(shape, "tanh", output_activation, dtype)
        results.append(
            train(module.Executor, model, case.loss, optimizer(), source, shape.batch, **settings)
        )
    for name, expected in results[1].items():
        kind_of = "float64" if name == "losses" else dtype
        if name == "losses":
            bound = 2 * batches * shape.roundings * np.finfo(dtype).eps
            np.testing.assert_allclose(results[0][name], expected, rtol=bound, atol=bound)
        else:
            assert_near(results[0][name], expected, shape, kind_of, steps=batches)


def digest(
    shape, dtype, case, optimizer, output=None, *, weight=None, threads=1, kind=None, **settings
):
    """Return the SHA-256 of everything that an epoch of training changes."""
    rows = 2 * shape.batch + max(shape.batch // 2, 1)
    y = cases.targets(kind or case.kind, rows, shape.sizes[-1], dtype=dtype)
    classes = shape.sizes[-1] if y.ndim == 1 else 0
    source = Source(cases.inputs(rows, shape.sizes[0]), y, weight and weight(rows), classes)
    model = cases.mlp(shape, "tanh", output or case.outputs[0], dtype)
    result = train(
        native.Executor,
        model,
        case.loss,
        optimizer(),
        source,
        shape.batch,
        threads=threads,
        **settings,
    )
    return hashlib.sha256(b"".join(array.tobytes() for array in result.values())).hexdigest()
