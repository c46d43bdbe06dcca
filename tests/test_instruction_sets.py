"""AVX2 and AVX-512 give the same bits: whole programs, each kernel among them, compared by SHA-256.

Where the processor lacks AVX-512, its kernels are compiled for AVX2 with every intrinsic emulated
(csrc/emulate_avx512) into a library of their own, which takes the place of the engine's programs.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

import cases
import fastmlp as fm
from conftest import USABLE
from fastmlp import _native
from fastmlp.backends.assembly import STEP
from test_elementary import CSRC, FLAGS, HERE, TARGETS
from test_native import LOSSES, MSE, OPTIMIZERS, PROGRAM, digest, native_only, stacks

__all__ = ["native_only"]

pytestmark = pytest.mark.skipif(
    not TARGETS or "avx2" not in USABLE, reason="needs a C compiler, the C sources, and AVX2"
)

STALE = "the extension was built from other sources than those in csrc"
# In the order of fm_type in csrc/plan.h.
TYPES = ["f4", "f8", "f2", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


def build(folder: Path, bits: int) -> ctypes.CDLL:
    """Compile the emulated engine. Results do not depend on the optimization, the time does."""
    compiler, *flags = TARGETS["avx512-emulated"].compile
    library = folder / f"engine_{bits}.so"
    sources = [
        CSRC / "run.c",
        CSRC / "names.c",
        CSRC / "isa" / f"avx512_f{bits}.c",
        HERE / "engine.c",
    ]
    define = f"-DKERNELS=fm_kernels_avx512_f{bits}"
    command = [compiler, *FLAGS, "-Og", *flags, "-Wno-unknown-pragmas", define, f"-I{CSRC}"]
    subprocess.run([*command, "-shared", "-fPIC", *map(str, sources), "-o", library], check=True)
    engine = ctypes.CDLL(str(library))
    engine.engine_name.restype = ctypes.c_char_p
    engine.engine_step_size.restype = ctypes.c_size_t
    assert engine.engine_step_size() == STEP.itemsize, STALE
    for number, names in enumerate((_native.opcodes(), *_native.registries())):
        found = []
        while name := engine.engine_name(number, len(found)):
            found.append(name.decode())
        assert found == list(names), STALE
    return engine


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    return {bits: build(folder, bits) for bits in (32, 64)}


def address(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


class EmulatedProgram:
    """What `_native.Program` is, run by another engine and on one thread."""

    def __init__(self, engine, threads, steps, parts, bases, columns, rows):
        self.engine, self.threads, self.rows, self.columns = engine, threads, rows, columns
        self.table, self.parts, self.bases = steps.copy(), parts.copy(), bases

    def run(
        self, sources, *, order=None, first=0, last=1, hyper=None, losses=None, out=None, **others
    ):
        given = np.zeros((4, 4), np.int64)
        for i, source in enumerate(sources):
            if self.columns[i] >= 0:
                kind = TYPES.index(source.dtype.str[1:].replace("b1", "u1"))
                given[i] = source.ctypes.data, source.strides[0], source.strides[-1], kind
        memory = np.array([(base.nbytes, base.address) for base in self.bases], np.int64)
        steps = self.table.copy()  # binding writes into it
        number = ctypes.c_int64
        status = self.engine.engine_run(
            len(steps),
            self.threads,
            address(steps),
            address(self.parts),
            len(memory),
            address(memory),
            address(given),
            address(order),
            number(last * self.rows if order is None else len(order)),
            number(first),
            number(last),
            number(self.rows),
            address(hyper),
            number(0 if hyper is None else hyper.shape[1]),
            address(losses),
            address(out),
            number(0 if out is None else out.strides[0]),
        )
        assert status == 0
        return last


@pytest.fixture(params=["emulated", *(name for name in USABLE if name == "avx512")])
def both(request, engines, monkeypatch):
    """Return a function that calls another one on AVX2 and on AVX-512, and returns both results."""
    before = _native.isa()

    def emulated(bits, threads, steps, parts, bases, columns, result_columns, rows):
        return EmulatedProgram(engines[bits], threads, steps, parts, bases, columns, rows)

    def compare(function, *args, **settings):
        _native.choose_isa("avx2")
        expected = function(*args, **settings)
        if request.param == "avx512":
            _native.choose_isa("avx512")
            return expected, function(*args, **settings)
        with monkeypatch.context() as patch:
            patch.setattr(_native, "Program", emulated)
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
    """Return the SHA-256 of a model's output, gradients, and predictions."""
    y = model.forward(x)
    results = [y, model.backward(np.cos(y)), model.flat_gradients.array(), model.predict(x)]
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
            model.adapt(cases.inputs(30, 5) * 3 + 1)
        return outputs_of(model, cases.inputs(13, 5, dtype=dtype))

    same(both(run))


@pytest.mark.parametrize("kind", [*TYPES, "?"])
def test_every_type_of_input(kind, dtype, both):
    x = (10 * cases.inputs(13, 19)).astype("i1").astype(kind)

    def run():
        model = cases.mlp(cases.Shape((19, 3), 13), dtype=dtype)
        return [model.predict(view).tobytes() for view in (x, np.asfortranarray(x))]

    same(both(run))
