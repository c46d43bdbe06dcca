"""Plans bound to memory: a lowering, the arena it needs, and the programs assembled from it.

A plan's programs, one for each use, thread count and strategy, share one arena. One that is trained
on chunk by chunk has an arena for each worker instead, and memory for what is kept of all chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp import _native
from fastmlp.backends.assembly import Structure, assemble, assemble_chunks
from fastmlp.backends.lowering import INPUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from fastmlp.backends.lowering import ChunkLowering, Lowered, Lowering
    from fastmlp.backends.tuning import Tuner


class Programs:
    """A plan in native form: its arena, and a program for each use, thread count and strategy.

    Attributes
    ----------
    alone : Program or None
        That of predictions on one thread.
    """

    def __init__(self, lowering: Lowering, bases: list[_native.Buffer], multiply_adds: float):
        self.lowering = lowering
        self.multiply_adds = multiply_adds
        self.chunked: Chunked | None = None
        self.bases = bases
        self.tuners: dict[Hashable, Tuner] = {}  # by use; False and True of spans, single steps
        self.alone: _native.Program | None = None
        self._programs: dict[tuple[str, int, str], _native.Program] = {}
        self._structures: dict[str, Structure] = {}

    @property
    def arena_bytes(self) -> int:
        """Of this plan's arena, and of those for chunks."""
        return self.lowering.arena_bytes + (self.chunked.nbytes if self.chunked is not None else 0)

    def training(self, threads: int, strategy: str) -> tuple[Lowering, _native.Program]:
        """Return the program of a training step and the lowering it comes from."""
        if strategy == "chunks" and self.chunked is not None:
            return self.chunked.lowering, self.chunked.program(threads)
        return self.lowering, self.get("train", self.lowering.train_steps, threads, strategy)

    def structure(self, use: str, steps: Callable[[], list[Lowered]]) -> Structure:
        """Return what the program of some steps has in common with those of equal networks."""
        found = self._structures.get(use)
        if found is None:
            found = self._structures[use] = Structure(steps(), self.lowering.block)
        return found

    def get(
        self,
        use: str,
        steps: Callable[[], list[Lowered]],
        threads: int,
        strategy: str,
        columns: int = 0,
    ) -> _native.Program:
        """Return the program of a use, whose steps are asked for where there is none yet.

        `columns` is the width of its row-major result.
        """
        key = (use, threads, strategy)
        program = self._programs.get(key)
        if program is None:
            lowering = self.lowering
            structure = self.structure(use, steps)
            table, parts = assemble(structure, threads, strategy)
            read = {step.source for step in structure.steps}
            sources = [lowering.columns[i] if i in read else -1 for i in range(4)]
            program = _native.Program(
                lowering.itemsize * 8,
                threads,
                table,
                parts,
                self.bases,
                sources,
                columns,
                lowering.batch,
                lowering.in_place and INPUTS in read,
            )
            self._programs[key] = program
        return program


class Chunked:
    """The programs of a mini-batch that is trained on chunk by chunk, for each thread count."""

    def __init__(self, lowering: ChunkLowering, buffers: list[_native.Buffer]):
        self.lowering = lowering
        self._kept = _native.Buffer(lowering.kept_bytes)
        self._buffers = [*buffers[:3], self._kept, *buffers[4:]]
        self._programs: dict[int, _native.Program] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the memory in use."""
        return self._kept.nbytes + sum(self._programs) * self.lowering.arena_bytes

    def program(self, threads: int) -> _native.Program:
        """Return the program of a training step."""
        program = self._programs.get(threads)
        if program is None:
            lowering = self.lowering
            arena = _native.Buffer(threads * lowering.arena_bytes)
            for thread in range(threads):
                put_images(lowering, arena, thread * lowering.arena_bytes)
            table, parts, chunks = assemble_chunks(lowering, threads)
            program = _native.Program(
                lowering.itemsize * 8,
                threads,
                table,
                parts,
                [arena, *self._buffers],
                lowering.columns,
                0,
                lowering.samples,
                lowering.in_place,
                chunks,
            )
            self._programs[threads] = program
        return program


def put_images(lowering: Lowering, arena: _native.Buffer, start: int = 0) -> None:
    """Copy what stands in an arena from the beginning, which begins at byte `start`."""
    for offset, image in lowering.images:
        place = np.frombuffer(arena, image.dtype, image.size, start + offset)
        place[:] = image.reshape(-1)
