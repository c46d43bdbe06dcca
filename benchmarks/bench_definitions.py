"""Every activation, loss, optimizer and layer of tests/cases.py, native beside the reference.

Run with ``python -m pytest benchmarks/bench_definitions.py``. One epoch of a middling network each,
in which the row is the only thing that changes. What has a row in cases.py is measured here, and
tests/test_cases.py sees to it that everything has one.
"""

from __future__ import annotations

import pytest

import cases
import fastmlp as fm

SHAPE = cases.Shape((32, 64, 64, 10), 32)
BATCHES = 20
BACKENDS = ("native", "reference")


def rows(table):
    return [pytest.param(row, id=name) for name, row in cases.each(table)]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def time_epoch(timed, request, backend, model, loss, optimizer, kind="real", layer=""):
    """Measure an epoch; the group is named after the test's row."""
    count = SHAPE.batch * BATCHES
    x = cases.layer_inputs(layer, count, SHAPE.sizes[0])
    y = cases.targets(kind, count, model.output_size)
    if model.needs_data:
        model.adapt(x)
    trainer = fm.Trainer(
        model, loss=loss, optimizer=optimizer, batch_size=SHAPE.batch, backend=backend
    )
    group = request.node.callspec.id.replace(f"{backend}-", "").replace(f"-{backend}", "")
    timed(group, backend, lambda: trainer.epoch(x, y, seed=0))


@pytest.mark.parametrize("activation", rows(cases.ACTIVATIONS))
def test_activation(timed, request, backend, activation):
    name = activation.name
    if name == "softmax":
        model = cases.mlp(SHAPE, "tanh", activation)
    else:
        model = cases.mlp(SHAPE, activation)
    time_epoch(timed, request, backend, model, "mse", fm.SGD(lr=1e-4))


@pytest.mark.parametrize("case", rows(cases.LOSSES))
def test_loss(timed, request, backend, case):
    model = cases.mlp(SHAPE, "tanh", case.outputs[0])
    time_epoch(timed, request, backend, model, case.loss, fm.SGD(lr=1e-4), case.kind)


@pytest.mark.parametrize("make", rows(cases.OPTIMIZERS))
def test_optimizer(timed, request, backend, make):
    optimizer = make()
    # Nothing is to be learned from noise; a small step keeps every rule in ordinary numbers.
    optimizer.lr = 1e-5
    time_epoch(timed, request, backend, cases.mlp(SHAPE), "mse", optimizer)


@pytest.mark.parametrize("name", cases.LAYERS)
def test_layer(timed, request, backend, name):
    model = fm.Sequential(cases.LAYERS[name](), input_size=SHAPE.sizes[0], seed=0)
    time_epoch(timed, request, backend, model, "mse", fm.SGD(lr=1e-4), layer=name)
