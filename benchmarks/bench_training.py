"""Forward, backward, update and whole epochs: native, reference, a NumPy loop, plain Python.

Run with ``python -m pytest benchmarks/bench_training.py``; a table of ratios stands at the end. The
parts are the explicit way of training (``forward``, ``backward``, ``optimizer.step``), which keeps
gradients in memory; an epoch is the fused one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import workloads
from peers import Variant, fastmlp_trainer, numpy_loop, pure_python

#: Small enough to time thousands of calls; plain Python takes part in the first alone.
ROWS = [
    replace(workloads.get(name), batches=batches)
    for name, batches in (("tiny", 50), ("nielsen", 100), ("digits", 50), ("mnist", 20))
]
WAYS = ("native", "reference", "NumPy loop", "plain Python")


@pytest.fixture(params=ROWS, ids=lambda row: row.name)
def workload(request):
    return request.param


@pytest.fixture(params=WAYS)
def way(request, workload):
    if request.param == "plain Python" and workload.name != "tiny":
        pytest.skip("too large for plain Python")
    return request.param


class Explicit:
    """A model of fastmlp, one mini-batch of its workload, and the gradient of the loss there."""

    def __init__(self, workload: workloads.Workload, backend: str) -> None:
        import fastmlp as fm

        data = workload.data()
        self.backend = backend
        self.model = fastmlp_trainer.network(workload, data)
        self.optimizer = fastmlp_trainer.optimizer(workload)
        self.x, y = data.x[: workload.batch], data.y[: workload.batch]
        _, self.gradient = fm.losses.MSE()(self.forward(), y)
        self.backward()

    def forward(self) -> np.ndarray:
        return self.model.forward(self.x, training=True, backend=self.backend)

    def backward(self) -> None:
        self.model.backward(self.gradient, input_gradient=False)

    def update(self) -> None:
        self.optimizer.step(self.model)


class NumPyLoop:
    """The same parts of the hand-written loop; its backward pass includes the loss."""

    def __init__(self, workload: workloads.Workload) -> None:
        self.network = numpy_loop.Network(workload, workload.data())
        self.x, self.y = self.network.x[: workload.batch].T, self.network.y[0]
        self.forward()
        self.backward()

    def forward(self) -> np.ndarray:
        return self.network.forward(self.x)

    def backward(self) -> None:
        self.network.backward(self.x, self.y)

    def update(self) -> None:
        self.network.update()


class PlainPython:
    """The same parts in plain Python."""

    def __init__(self, workload: workloads.Workload) -> None:
        data = workload.data()
        self.workload = workload
        self.w = pure_python.weights_of(data)
        self.activations = [workload.activation_of(layer) for layer in range(len(self.w))]
        self.x = data.x[: workload.batch].tolist()
        self.update_weights = pure_python.optimizer(workload)
        self.forward()
        self.deltas = [[v * 1e-3 for v in row] for row in data.y[: workload.batch].tolist()]
        self.backward()

    def forward(self) -> None:
        self.outputs = [pure_python.forward(self.w, self.activations, row) for row in self.x]

    def backward(self) -> None:
        self.gradients = [[[0.0] * len(row) for row in layer] for layer in self.w]
        for outputs, delta in zip(self.outputs, self.deltas, strict=True):
            pure_python.backward(self.w, self.activations, outputs, delta, self.gradients)

    def update(self) -> None:
        self.update_weights(self.w, self.gradients)


@pytest.mark.parametrize("part", ["forward", "backward", "update"])
def test_part(timed, workload, way, part):
    if part == "update" and way == "reference":
        pytest.skip("optimizer.step is the same on both backends")
    if way == "NumPy loop":
        parts = NumPyLoop(workload)
    elif way == "plain Python":
        parts = PlainPython(workload)
    else:
        parts = Explicit(workload, way)
    timed(f"{workload.name}: {part}", way, getattr(parts, part))


def test_epoch(timed, workload, way):
    data = workload.data()
    if way == "NumPy loop":
        epoch = numpy_loop.setup(workload, data, numpy_loop.VARIANTS[0])
    elif way == "plain Python":
        epoch = pure_python.setup(workload, data, pure_python.VARIANTS[0])
    else:
        variant = Variant(way, options={"backend": way})
        epoch = fastmlp_trainer.setup(workload, data, variant)
    timed(f"{workload.name}: epoch of {workload.batches}", way, epoch)
