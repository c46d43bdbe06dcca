"""The C sources compiled for each target that can run here, the engine among them as a filter.

A target that this machine lacks is emulated where that is possible to the bit: AVX-512 by AVX2
instructions (csrc/emulate_avx512), NEON by a cross compiler and qemu. The engine with such kernels
(csrc/engine.c) is given a program and its memory, and takes the place of the extension's programs.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastmlp import _native
from fastmlp.backends.assembly import STEP

HERE = Path(__file__).parent / "csrc"
CSRC = Path(__file__).parent.parent / "csrc"
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-math-errno"]
COMPILER = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
X86 = platform.machine().lower() in ("x86_64", "amd64")


def read_flags() -> dict[str, list[str]]:
    text = re.sub(r"/\*.*?\*/", "", (CSRC / "isa" / "targets.def").read_text(), flags=re.DOTALL)
    rows = re.findall(r'FM_TARGET\((\w+), "[^"]*", "([^"]*)"\)', text)
    return {name: flags.split() for name, flags in rows}


@dataclass(frozen=True)
class Target:
    """How to compile for a target and how to run the result, or why that is impossible here."""

    header: str
    compile: tuple[str, ...]
    run: tuple[str, ...] = ()
    trouble: str = ""


def list_targets() -> dict[str, Target]:
    flags = read_flags()
    targets = {
        name: Target(name, (str(COMPILER), *flags[name]), trouble=trouble)
        for name, trouble in _native.isa_table().items()
    }
    cross, qemu = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
    if targets["neon"].trouble and cross and qemu:
        targets["neon"] = Target("neon", (cross, "-static", *flags["neon"]), (qemu,))
    emulation = (str(COMPILER), "-Wno-psabi", *flags["avx2"], f"-I{HERE / 'emulate_avx512'}")
    targets["avx512-emulated"] = Target("avx512", emulation, trouble=targets["avx2"].trouble)
    return targets


TARGETS = list_targets() if COMPILER and CSRC.is_dir() else {}

# In the order of fm_type in csrc/plan.h.
TYPES = ["f4", "f8", "f2", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


class Engine:
    """The engine of one target and precision, made when it is first asked for."""

    def __init__(self, target, bits, folder):
        self.target, self.bits = TARGETS[target], bits
        self.file = folder / f"{target}_{bits}"

    @property
    def command(self):
        if not self.file.exists():
            self.build()
        return [*self.target.run, str(self.file)]

    def build(self):
        # Results do not depend on the optimization, the compiler's time does.
        compiler, *flags = self.target.compile
        name = f"{self.target.header}_f{self.bits}"
        sources = [CSRC / "run.c", CSRC / "names.c", CSRC / "isa" / f"{name}.c", HERE / "engine.c"]
        settings = ["-Og", "-Wno-unknown-pragmas", f"-I{CSRC}"]
        settings += [f"-DKERNELS=fm_kernels_{name}", f"-DBITS={self.bits}"]
        command = [compiler, *FLAGS, *flags, *settings, *map(str, sources), "-o", str(self.file)]
        subprocess.run(command, check=True)
        told = subprocess.run([*self.command, "names"], capture_output=True, check=True, text=True)
        size, *names = told.stdout.splitlines()
        tables = [_native.opcodes(), *_native.registries()]
        assert (int(size), *(line.split() for line in names)) == (
            STEP.itemsize,
            *map(list, tables),
        ), "the extension was built from other sources than those in csrc"


class FilteredProgram:
    """What `_native.Program` is, run by a filter."""

    def __init__(self, engine, threads, steps, parts, bases, columns, rows, in_place):
        self.engine, self.threads, self.rows, self.columns = engine, threads, rows, columns
        self.in_place = in_place
        self.table, self.parts, self.bases = steps.copy(), parts.copy(), bases

    def run(
        self,
        sources,
        *,
        order=None,
        first=0,
        last=1,
        hyper=None,
        losses=None,
        out=None,
        rest=None,
        epoch_rows=0,
        seed=0,
        step=0,
        **others,
    ):
        if rest is not None:
            return self.run_apart(
                rest, sources, order, first, last, hyper, losses, epoch_rows, seed, step
            )
        rows = last * self.rows if order is None else len(order)
        scalars = 0 if hyper is None else hyper.shape[1]
        width = 0 if out is None else out.strides[0]
        calls = [rows, first, last, self.rows, scalars, width, self.in_place, seed, step]
        numbers = [self.threads, len(self.bases), *calls]
        memory = [np.frombuffer(base, np.uint8) for base in self.bases]
        arrays = [np.array(numbers), self.table, self.parts, *memory]
        for i in range(4):
            source = sources[i] if i < len(sources) and self.columns[i] >= 0 else np.zeros(0, "u1")
            if not (source.flags.c_contiguous or source.flags.f_contiguous):
                source = source.copy()
            kind = TYPES.index(source.dtype.str[1:].replace("b1", "u1"))
            arrays += [np.array([source.strides[0], source.strides[-1], kind]), source]
        arrays += [
            array if array is not None else np.zeros(0) for array in (order, hyper, losses, out)
        ]
        message = b"".join(
            array.nbytes.to_bytes(8, "little") + array.tobytes("A") for array in arrays
        )
        done = subprocess.run(self.engine.command, input=message, capture_output=True, check=True)
        result, place = np.frombuffer(done.stdout, np.uint8), 0
        for array in (*memory, losses, out):
            if array is not None:
                part = result[place : place + array.nbytes]
                array[...] = part.view(array.dtype).reshape(array.shape)
                place += array.nbytes
        assert place == len(result)
        return last

    def run_apart(self, rest, sources, order, first, last, hyper, losses, epoch_rows, seed, step):
        """Run mini-batches one by one: the filter knows one program."""
        full = epoch_rows // self.rows
        for batch in range(first, last):
            epoch, place = divmod(batch, full + 1)
            program = rest if place == full else self
            start = epoch * epoch_rows + place * self.rows
            rows = slice(start, start + program.rows)
            taken = order is not None
            program.run(
                sources if taken else [x if x is None else x[rows] for x in sources],
                order=order[rows] if taken else None,
                hyper=hyper[batch - first :],
                losses=losses[batch : batch + 1],
                seed=seed,
                step=step + batch - first,
            )
        return last
