"""AVX2, AVX-512 and NEON give the same bits: whole programs, each kernel among them, by SHA-256.

Instructions that this processor lacks are emulated, see `compiled.py`.
"""

from __future__ import annotations

import hashlib
import subprocess

import numpy as np
import pytest

import cases
import fastmlp as fm
from compiled import CSRC, FLAGS, HERE, TARGETS, TYPES, Engine, FilteredProgram
from conftest import USABLE
from fastmlp import _native
from trained import LOSSES, MSE, OPTIMIZERS, PROGRAM, digest, stacks

pytestmark = [
    pytest.mark.skipif(
        not TARGETS or "avx2" not in USABLE, reason="needs a C compiler, the C sources, and AVX2"
    ),
    pytest.mark.usefixtures("native_only"),
]

OTHERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(bool(TARGETS[name].trouble), reason=TARGETS[name].trouble),
    )
    for name in ("avx512", "avx512-emulated", "neon")
    if name in TARGETS
]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_tile_that_is_chosen_exists(target, bits, tmp_path):
    """What the tables lack would be called as a null pointer."""
    found = TARGETS[target]
    if found.trouble:
        pytest.skip(found.trouble)
    compiler, *flags = found.compile
    file = f'-DKERNEL_FILE="isa/{found.header}_f{bits}.c"'
    settings = ["-O0", "-Wno-unknown-pragmas", file, f"-I{CSRC}", str(HERE / "tiles.c")]
    output = str(tmp_path / "tiles")
    subprocess.run([compiler, *FLAGS, *flags, *settings, "-o", output, "-lm"], check=True)
    done = subprocess.run([*found.run, output], capture_output=True, check=True, text=True)
    assert done.stdout == ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(params=OTHERS)
def both(request, folder, monkeypatch):
    """Return a function that calls one on AVX2 and on another target, and returns both results."""
    before = _native.isa()

    def filtered(bits, threads, steps, parts, bases, columns, result_columns, rows, in_place=False):
        engine = Engine(request.param, bits, folder)
        return FilteredProgram(engine, threads, steps, parts, bases, columns, rows, in_place)

    def compare(function, *args, **settings):
        _native.choose_isa("avx2")
        expected = function(*args, **settings)
        if request.param == "avx512":
            _native.choose_isa("avx512")
            return expected, function(*args, **settings)
        with monkeypatch.context() as patch:
            patch.setattr(_native, "Program", filtered)
            patch.setattr(_native, "FastPredict", lambda *args: None)
            return expected, function(*args, **settings)

    yield compare
    _native.choose_isa(before)


def same(results):
    expected, actual = results
    assert actual == expected


@pytest.mark.parametrize("shape", cases.SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_every_shape(shape, threads, dtype, both):
    for optimizer in (cases.OPTIMIZERS["sgd"][0], cases.OPTIMIZERS["adam"][1]):
        same(both(digest, shape, dtype, MSE, optimizer, threads=threads, l1=0.01))


@OPTIMIZERS
def test_every_optimizer(optimizer, dtype, both):
    for outputs in (1, 19):
        same(both(digest, cases.Shape((9, 18, outputs), 29), dtype, MSE, optimizer))


@LOSSES
def test_every_loss(case, dtype, both):
    for outputs in (1, 3, 17, 40):
        if case.kind == "one_hot" and outputs == 1:
            continue
        args = cases.Shape((4, 5, outputs), 29), dtype, case, cases.OPTIMIZERS["sgd"][0]
        for output in case.outputs:
            same(both(digest, *args, output))
        same(both(digest, *args, weight=lambda rows: np.linspace(0.0, 2.0, rows)))


def test_weights_of_outputs_and_labels(dtype, both):
    sgd, shape = cases.OPTIMIZERS["sgd"][0], cases.Shape((4, 5, 19), 12)
    weight = lambda rows: np.linspace(0.0, 2.0, rows * 19).reshape(rows, 19)  # noqa: E731
    same(both(digest, shape, dtype, MSE, sgd, weight=weight))
    same(both(digest, shape, dtype, cases.LOSSES["cross_entropy"][0], sgd, kind="labels"))


@pytest.mark.parametrize("outputs", [1, 7, 33])
def test_programs(outputs, dtype, both):
    same(both(digest, cases.Shape((5, 4, outputs), 11), dtype, PROGRAM, cases.OPTIMIZERS["sgd"][0]))


def outputs_of(model, x):
    """Return the SHA-256 of a model's output, gradients, states and predictions."""
    results = [model.predict(x)]
    for training in (False, True):
        y = model.forward(x, training=training)
        results += [y, model.backward(np.cos(y)), model.flat_gradients.array().copy()]
    results.append(model.flat_states.array())
    return hashlib.sha256(b"".join(array.tobytes() for array in results)).hexdigest()


@pytest.mark.parametrize("activation", cases.params(cases.ACTIVATIONS))
def test_every_activation(activation, dtype, both):
    hidden = "tanh" if activation.rowwise else activation

    def run():
        model = cases.mlp(cases.Shape((7, 20, 35), 30), hidden, activation, dtype)
        return outputs_of(model, 3 * cases.inputs(30, 7, dtype=dtype))

    same(both(run))


@pytest.mark.parametrize("name", ["skip", *cases.LAYERS])
def test_every_layer(name, dtype, both):
    def run():
        model = fm.Sequential(stacks()[name], input_size=5, dtype=dtype, seed=0)
        if model.needs_data:
            model.adapt(cases.layer_inputs(name, 30, 5))
        return outputs_of(model, cases.layer_inputs(name, 13, 5, dtype))

    same(both(run))


@pytest.mark.parametrize("kind", [*TYPES, "?"])
def test_every_type_of_input(kind, dtype, both):
    x = (10 * cases.inputs(13, 19)).astype("i1").astype(kind)

    def run():
        model = cases.mlp(cases.Shape((19, 3), 13), dtype=dtype)
        return [model.predict(view).tobytes() for view in (x, np.asfortranarray(x))]

    same(both(run))
