"""Inside a span: no allocation, no Python object, no system call but the barrier's; and in bad
company the same bits.
"""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import cases
import fastmlp as fm
from compiled import CSRC, FLAGS, HERE, TARGETS, Engine, FilteredProgram
from fastmlp import _native
from fastmlp.backends import assembly
from trained import MSE, digest

pytestmark = pytest.mark.usefixtures("native_only")

# Runs a span of 400 mini-batches under a seccomp filter that lets through what the barrier calls
# and what ends the process; anything else kills it with SIGSYS. The filter holds for all threads.
SPAN = """
import ctypes, gc, os, platform, sys
import numpy as np
import fastmlp as fm
threads, sizes, optimizer, forbidden = eval(sys.argv[1])
rng = np.random.default_rng(0)
x, y = rng.normal(size=(3200, sizes[0])).astype("f4"), rng.normal(size=(3200, sizes[-1]))
model = fm.MLP(sizes, activation="tanh", seed=0)
trainer = fm.Trainer(model, "mse", optimizer, batch_size=8, threads=threads)
for epoch in range(2):
    trainer.epoch(x, y)
_, program, chosen, _ = trainer.executor.program()
assert chosen[0] == threads
order = rng.permutation(3200).astype(np.uint32)
hyper, losses = trainer.executor._hyper(1, 400, 0), np.zeros(400)
call = dict(order=order, first=0, last=400, hyper=hyper, losses=losses)

numbers = {  # seccomp; futex, sched_yield, write, exit, exit_group
    "x86_64": (317, 202, 24, 1, 60, 231),
    "aarch64": (277, 98, 124, 64, 93, 94),
}[platform.machine()]


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte),
                ("k", ctypes.c_uint)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction))]


allowed = numbers[1:]
rows = [(0x20, 0, 0, 0)]  # load the number of the call
rows += [(0x15, len(allowed) - i, 0, number) for i, number in enumerate(allowed)]
rows += [(0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)]  # kill the process; allow
instructions = (Instruction * len(rows))(*rows)
filtered = Program(len(rows), instructions)
libc = ctypes.CDLL(None)
syscall = libc.syscall
# What Python itself takes around the span is in its hands from this one, and it returns none.
gc.disable()
program.run((x, y, None), **call)
assert losses.min() > 0
losses[...] = 0
if libc.prctl(38, 1, 0, 0, 0) or syscall(numbers[0], 1, 1, ctypes.byref(filtered)):
    os.write(1, b"unavailable")
    os._exit(0)
if forbidden:
    os.getppid()
program.run((x, y, None), **call)
os.write(1, b"done" if losses.min() > 0 else b"nothing done")
os._exit(0)
"""


def span(threads, sizes=(8, 32, 32, 1), optimizer="sgd", forbidden=False):
    code = [sys.executable, "-c", SPAN, repr((threads, sizes, optimizer, forbidden))]
    # One thread of BLAS: NumPy's would otherwise stand beside the engine's in the filter.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(code, capture_output=True, text=True, env=environment, timeout=600)


def machine():
    import platform

    return platform.machine()


linux = pytest.mark.skipif(
    not sys.platform.startswith("linux") or machine() not in ("x86_64", "aarch64"),
    reason="filters of system calls are Linux', and their numbers known for two architectures",
)


@linux
@pytest.mark.parametrize(
    "arguments",
    [(1,), (2,), (3, (8, 100, 60, 3), "adam"), (2, (50, 10), "rmsprop")],
    ids=str,
)
def test_no_system_call_but_the_barriers(arguments):
    done = span(*arguments)
    if done.stdout == "unavailable":
        pytest.skip("this process may not filter its system calls")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done", "")


@linux
def test_another_system_call_would_be_seen():
    done = span(1, forbidden=True)
    if done.stdout == "unavailable":
        pytest.skip("this process may not filter its system calls")
    assert done.returncode == -signal.SIGSYS


def test_no_python_object():
    """A span of 400 mini-batches takes as many objects as one of a single mini-batch."""
    model = fm.MLP([8, 32, 32, 1], activation="tanh", seed=0)
    trainer = fm.Trainer(model, "mse", "adam", batch_size=8, threads=2)
    x, y = cases.inputs(3200, 8), cases.targets("real", 3200, 1)
    for _ in range(2):
        trainer.epoch(x, y)
    _, program, _, _ = trainer.executor.program()
    hyper, losses = trainer.executor._hyper(1, 400, 0), np.zeros(400)

    def peak(last):
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        program.run((x, y, None), first=0, last=last, hyper=hyper, losses=losses)
        return tracemalloc.get_traced_memory()[1] - before

    gc.disable()  # others may have it call functions of theirs
    tracemalloc.start()
    try:
        peak(1)  # numbers that Python keeps
        assert peak(400) == peak(1) < 2000
    finally:
        tracemalloc.stop()
        gc.enable()


# --- allocations ---


class CountingEngine(Engine):
    """The engine as a filter that fails where a run allocates."""

    def build(self):
        compiler, *flags = self.target.compile
        name = f"{self.target.header}_f{self.bits}"
        sources = [CSRC / "run.c", CSRC / "names.c", CSRC / "isa" / f"{name}.c"]
        sources += [HERE / "engine.c", HERE / "allocations.c"]
        settings = ["-O0", "-fopenmp", f"-I{CSRC}"]
        settings += [f"-DKERNELS=fm_kernels_{name}", f"-DBITS={self.bits}"]
        settings += ["-Wl,--wrap=fm_run"]
        command = [compiler, *FLAGS, *flags, *settings, *map(str, sources), "-o", str(self.file)]
        subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    if "portable" not in TARGETS:
        pytest.skip("needs a C compiler and the C sources")
    if os.confstr_names.get("CS_GNU_LIBC_VERSION") is None or not os.confstr("CS_GNU_LIBC_VERSION"):
        pytest.skip("allocations are counted with the GNU C library")
    made = CountingEngine("portable", 32, tmp_path_factory.mktemp("counting"))
    try:
        made.build()
    except subprocess.CalledProcessError:
        pytest.skip("the compiler has no OpenMP, or cannot wrap functions")
    return made


def counted(engine, monkeypatch, **settings):
    def filtered(bits, threads, steps, parts, bases, columns, result_columns, rows, in_place=False):
        return FilteredProgram(engine, threads, steps, parts, bases, columns, rows, in_place)

    monkeypatch.setattr(_native, "Program", filtered)
    monkeypatch.setattr(_native, "FastPredict", lambda *args: None)
    # The counting engine is the portable one, which gathers.
    monkeypatch.setattr(_native, "reads_in_place", lambda x, bits: False)
    shape = cases.Shape((20, 50, 17), 29)
    for name in ("sgd", "adam", "rmsprop"):
        digest(shape, "float32", MSE, cases.OPTIMIZERS[name][0], **settings)


@pytest.mark.parametrize("threads", [1, 3])
def test_no_allocation(engine, monkeypatch, threads):
    counted(engine, monkeypatch, threads=threads, weight=np.ones)


def test_an_allocation_would_be_seen(engine, monkeypatch):
    monkeypatch.setenv("ALLOCATE", "1")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        counted(engine, monkeypatch)
    assert caught.value.returncode == 9
    assert caught.value.stderr == b"1 allocations in a run\n"


# --- bad company ---


@pytest.mark.parametrize("piece", [1, assembly._PIECE])
def test_busy_neighbours_change_no_bit(piece, monkeypatch):
    """Four busy loops beside the run make threads wait for each other, sleep, and take pieces."""
    monkeypatch.setattr(assembly, "_PIECE", piece)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(640, 20)), rng.normal(size=(640, 3))

    def trained(threads):
        model = fm.MLP([20, 64, 32, 3], activation="tanh", seed=1)
        model.fit(x, y, optimizer="adam", batch_size=32, epochs=3, seed=2, threads=threads)
        return hashlib.sha256(model.flat_parameters.array().tobytes()).hexdigest()

    alone = trained(1)
    code = "print(flush=True)\nwhile True: pass"
    loops = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(4)
    ]
    try:
        for loop in loops:
            loop.stdout.readline()
        assert {trained(threads) for threads in (1, 2, 3)} == {alone}
        assert all(loop.poll() is None for loop in loops)
    finally:
        for loop in loops:
            loop.kill()
            loop.communicate()
