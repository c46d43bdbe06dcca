"""Kernels touch the memory that is theirs, and leave padding as it is."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp import optimizers
from fastmlp.backends import bound, layout, lowering, native
from fastmlp.sources import Source
from trained import LOSSES, MSE, OPTIMIZERS, PROGRAM, digest, stacks, train

pytestmark = pytest.mark.usefixtures("native_only")

# Bytes before, between and behind matrices. All ones is NaN in either precision, so that a guard
# which is read shows as well.
GAP = 128
GUARD = 0xFF


class GuardedLayout(layout.Layout):
    """A layout with gaps around every panel."""

    def __init__(self, *args):
        super().__init__(*args)
        self.guards = []
        for number, (name, place) in enumerate(self.places.items(), 1):
            shift = number * GAP
            transposed = None if place.transposed is None else place.transposed + shift
            self.places[name] = dataclasses.replace(
                place, panel=place.panel + shift, transposed=transposed
            )
        self.nbytes += (len(self.places) + 1) * GAP
        self.transposed_nbytes += (len(self.places) + 1) * GAP

    def spans(self):
        """Return (first byte, bytes) of every panel, and of every transposed panel."""
        panels, transposed = [], []
        for place in self.places.values():
            width = self.rounded(place.cols) * self.bits // 8
            panels.append((place.panel, width * place.block_rows))
            if place.transposed is not None:
                transposed.append((place.transposed, width * self.rounded(place.rows)))
        return panels, transposed


class Guards:
    """Puts gaps around every matrix of the engine, and looks whether they stayed as they were."""

    def __init__(self, monkeypatch):
        self.watched, self.copied = [], 0
        monkeypatch.setattr(native, "Layout", GuardedLayout)
        monkeypatch.setattr(layout.Panels, "__init__", self._panels(layout.Panels.__init__))
        monkeypatch.setattr(bound.Programs, "__init__", self._arena(bound.Programs.__init__))
        for module in (native, bound):
            monkeypatch.setattr(module, "put_images", self._copies(module.put_images))
        for name in ("allocate", "image"):
            original = getattr(lowering.Lowering, name)
            monkeypatch.setattr(lowering.Lowering, name, self._gaps(original))

    def watch(self, buffer, spans):
        outside = np.ones(buffer.nbytes, bool)
        for start, length in spans:
            outside[start : start + length] = False
        np.frombuffer(buffer, np.uint8)[outside] = GUARD
        self.watched.append((buffer, outside))

    def check(self):
        assert self.watched
        for buffer, outside in self.watched:
            assert (np.frombuffer(buffer, np.uint8)[outside] == GUARD).all()

    def _panels(self, original):
        def init(panels, vector, places, padding=0.0):
            original(panels, vector, places, padding)
            for buffer, spans in zip(
                (panels.buffer, panels.transposed), places.spans(), strict=True
            ):
                self.watch(buffer, spans)

        return init

    def _arena(self, original):
        def init(programs, lowered, bases, multiply_adds):
            self.watch(bases[0], lowered.spans)
            original(programs, lowered, bases, multiply_adds)

        return init

    def _copies(self, original):
        """Each thread has an arena of its own for chunks."""

        def put_images(lowered, arena, start=0):
            if isinstance(lowered, lowering.ChunkLowering) and start == 0:
                size = lowered.arena_bytes
                spans = [
                    (at + i, n) for i in range(0, arena.nbytes, size) for at, n in lowered.spans
                ]
                self.watch(arena, spans)
                self.copied += 1
            original(lowered, arena, start)

        return put_images

    def _gaps(self, original):
        def allocate(lowered, *args, **settings):
            if lowered.arena_bytes == 0:
                lowered.spans = []
            lowered.arena_bytes += GAP
            matrix = original(lowered, *args, **settings)
            lowered.spans.append((matrix.offset, lowered.arena_bytes - matrix.offset))
            lowered.arena_bytes += GAP
            return matrix

        return allocate


@contextmanager
def guards():
    with pytest.MonkeyPatch.context() as patch:
        made = Guards(patch)
        yield made
        made.check()


@pytest.mark.parametrize("shape", cases.SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_training_stays_in_its_memory(shape, threads, dtype, isa):
    settings = {"weight": lambda rows: np.linspace(0.0, 2.0, rows), "l1": 0.01, "threads": threads}
    for optimizer in (cases.OPTIMIZERS["sgd"][0], cases.OPTIMIZERS["adam"][2]):  # up to three slots
        plain = digest(shape, dtype, MSE, optimizer, **settings)
        with guards():
            assert digest(shape, dtype, MSE, optimizer, **settings) == plain


@LOSSES
def test_losses_stay_in_their_memory(case, dtype, isa):
    for outputs in (1, 7, 33):
        if case.kind == "one_hot" and outputs == 1:
            continue
        for output in case.outputs:
            shape, sgd = cases.Shape((5, 4, outputs), 11), cases.OPTIMIZERS["sgd"][0]
            plain = digest(shape, dtype, case, sgd, output)
            with guards():
                assert digest(shape, dtype, case, sgd, output) == plain


@pytest.mark.parametrize("sizes", [(5, 18, 7), (5, 34, 1)], ids=str)
def test_chunks_stay_in_their_memory(sizes, dtype, isa):
    args = cases.Shape(sizes, 300), dtype, MSE, cases.OPTIMIZERS["adam"][0]
    settings = {"weight": lambda rows: np.linspace(0.0, 2.0, rows), "threads": 3}
    plain = digest(*args, **settings)
    with guards() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "STRATEGIES", ("chunks",))
        assert digest(*args, **settings) == plain
        assert made.copied == 1


@pytest.mark.parametrize("outputs", [1, 7, 33])
def test_programs_stay_in_their_memory(outputs, dtype, isa):
    args = cases.Shape((5, 4, outputs), 11), dtype, PROGRAM, cases.OPTIMIZERS["sgd"][0]
    plain = digest(*args)
    with guards():
        assert digest(*args) == plain


@OPTIMIZERS
def test_optimizers_stay_in_their_memory(optimizer, dtype, isa):
    for outputs in (1, 19):
        args = cases.Shape((5, 18, outputs), 11), dtype, MSE, optimizer
        plain = digest(*args)
        with guards():
            assert digest(*args) == plain


@pytest.mark.parametrize("name", ["skip", "softmax", *cases.LAYERS])
def test_the_models_outputs_stay_in_their_memory(name, dtype, isa):
    def outputs():
        model = fm.Sequential(stacks()[name], input_size=5, dtype=dtype, seed=0)
        if model.needs_data:
            model.adapt(cases.layer_inputs(name, 30, 5))
        x = cases.layer_inputs(name, 13, 5, dtype=dtype)
        results = [model.predict(x)]
        for training in (False, True):
            y = model.forward(x, training=training)
            grad_x = model.backward(np.ones_like(y))
            results += [y, grad_x, model.flat_gradients.array().copy()]
        return [*results, model.flat_states.array().copy()]

    plain = outputs()
    with guards():
        for actual, expected in zip(outputs(), plain, strict=True):
            np.testing.assert_array_equal(actual, expected)


def padding(buffer, dtype, start, blocks, block_rows, rows, cols):
    """Return the elements of a panel that belong to no row or no column."""
    width = 64 // dtype.itemsize
    panel = np.frombuffer(buffer, dtype, blocks * block_rows * width, start)
    panel = panel.reshape(blocks, block_rows, width).transpose(1, 0, 2).reshape(block_rows, -1)
    return np.concatenate([panel[rows:].ravel(), panel[:, cols:].ravel()])


WITHOUT_EPS = [
    lambda: fm.Adam(lr=0.01, eps=0.0, amsgrad=True),
    *(
        lambda kind=kind: optimizers.OPTIMIZERS[kind](lr=0.01, eps=0.0)
        for kind in ("adam", "nadam", "radam", "adamax", "rmsprop", "adagrad")
    ),
]


@pytest.mark.parametrize(
    "optimizer",
    [
        *cases.params(cases.OPTIMIZERS),
        *(pytest.param(make, id=f"{make().kernel}-eps-0") for make in WITHOUT_EPS),
    ],
)
@pytest.mark.parametrize("activation", ["sigmoid", "softplus"])  # not 0 at 0
def test_padding_of_parameters_stays_zero(optimizer, activation, dtype, isa):
    model = cases.mlp(cases.Shape((5, 18, 19, 1), 7), activation, dtype=dtype)
    x, y = cases.inputs(28, 5, dtype=dtype), cases.targets("real", 28, 1, dtype=dtype)
    train(native.Executor, model, "mse", optimizer(), Source(x, y), 7)
    assert np.isfinite(model.flat_parameters.array()).all()
    panels = model.flat_parameters.resident
    for place in panels.layout.places.values():
        rows, cols, block = place.rows, place.cols, panels.layout.block
        args = panels.buffer, model.dtype, place.panel, -(-cols // block), place.block_rows
        assert not padding(*args, rows, cols).any()
        if place.transposed is not None:
            height = panels.layout.rounded(cols)
            args = panels.transposed, model.dtype, place.transposed, -(-rows // block), height
            assert not padding(*args, cols, rows).any()


def test_predictions_of_many_sizes_take_bounded_memory(monkeypatch):
    model, x = cases.mlp(cases.Shape((8, 16, 3), 1)), cases.inputs(400, 8)
    expected = model.predict(x, batch_size=400)
    plans = model.executor()._predictions
    limit = 3 * max(plan.arena_bytes for plan in plans.values())
    monkeypatch.setattr(native, "_KEPT_PREDICTION_BYTES", limit)
    for rows in range(1, 400, 3):
        got = model.predict(x[:rows], batch_size=rows)
        np.testing.assert_array_equal(got, expected[:rows])
        assert sum(plan.arena_bytes for plan in plans.values()) <= limit
    assert len(plans) >= 2
    monkeypatch.setattr(native, "_KEPT_PREDICTIONS", 5)
    for rows in range(5, 20):
        model.predict(x[:rows])
    assert len(plans) == 5
