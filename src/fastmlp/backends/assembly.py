"""Assembly: lowered steps cut into parts, with barriers where they are needed.

**Ownership.** Each step's result is cut into as many parts, one or a few per thread, along rows
(samples) or along columns (features). Cut by rows, a thread carries its samples through all layers
in its own cache; cut by columns, it reads and rewrites its own weights only, and no weight crosses
between cores. Which is better depends on the machine, so there are a few strategies
(`STRATEGIES`), and the executor tries them. The bits are the same whichever is taken: the order of
every sum is fixed by the kernels for each element of the result (csrc/kernels/dense.inc).

**Pieces.** Where there is work enough, a thread's share of a step is a few parts, and who has done
its own takes the others' (csrc/run.c). Cores are not equally fast: some are built so, and virtual
ones share theirs with strangers.

**Barriers.** Each step declares which rectangle of which matrix a part reads and writes. A barrier
is put before a step if some part touches what another one touched since the last barrier and one
of the two writes. The mini-batch is looked at twice in a row, so that the step from one to the next
is covered.

**Equal networks.** Cuts and barriers are the same for equal steps in other memory. Folds, seeds and
grids train many networks of one kind, so what was found out for the first is kept (`Structure`).
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import _native
from fastmlp.backends.lowering.steps import ARENA

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fastmlp.backends.lowering import ChunkLowering, Lowered, Matrix

# The layout of fm_step in csrc/plan.h.
STEP = np.dtype(
    [
        ("op", "i4"),
        ("barrier", "i4"),
        ("rows", "i8"),
        ("cols", "i8"),
        ("depth", "i8"),
        ("at", "i8", 12),
        ("arg", "i8", 8),
        ("num", "f8", 8),
    ]
)

# "first": the layer that reads the input by columns, as it has no gradient to pass down and often
# the most weights, everything else by rows. "chunks": all layers for a chunk of rows, where the
# steps allow it (`fastmlp.backends.lowering.chunks`).
STRATEGIES = ("rows", "columns", "first", "chunks")


def cut(count: int, unit: int, parts: int) -> list[tuple[int, int]]:
    """Cut range(count) into so many nearly equal parts, at multiples of `unit`."""
    units = -(-count // unit)
    edges = [min(count, units * t // parts * unit) for t in range(parts + 1)]
    return list(pairwise(edges))


# Multiply-adds for which a piece is worth it, some ten microseconds: who takes one waits for a line
# of cache, and fetches what the piece needs.
_PIECE = 1_000_000
_MOST_PIECES = 4


class Structure:
    """Steps as far as their cuts and their times depend on them; equal ones may share both.

    Parameters
    ----------
    steps : sequence of Lowered
    block : int
        Elements of a cache line.
    """

    def __init__(self, steps: Sequence[Lowered], block: int):
        self.steps, self.block = steps, block
        numbers: dict[Matrix, int] = {}

        def named(accesses: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple((numbers.setdefault(m, len(numbers)), *names) for m, *names in accesses)

        self._key = (
            block,
            tuple(
                (
                    *(step.op, step.rows, step.cols, step.depth, step.grid),
                    *(step.axes, step.row_unit, step.reads_input, step.source),
                    *(named(step.reads), named(step.writes)),
                )
                for step in steps
            ),
        )
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self._key == other._key


def pieces_of(steps: Sequence[Lowered], threads: int) -> int:
    """Return into how many pieces to cut each thread's share of these steps."""
    work = sum(step.rows * step.cols * step.depth for step in steps)
    return min(max(work // (threads * _PIECE), 1), _MOST_PIECES) if threads > 1 else 1


def parts_of(step: Lowered, count: int, strategy: str) -> np.ndarray:
    """Return `count` parts, int32 (count, 4): r0, r1, c0, c1; steps cut alike share the array."""
    axes = step.axes
    if len(axes) == 2:
        by_columns = strategy == "columns" or (strategy == "first" and step.reads_input)
        axes = ("columns", "rows") if by_columns or step.op == "grad" else ("rows", "columns")
    return _cut_along(*step.grid, step.row_unit, axes, count)


@lru_cache(maxsize=512)
def _cut_along(
    rows: int, blocks: int, row_unit: int, axes: tuple[str, ...], count: int
) -> np.ndarray:
    """Cut along the first of the axes, unless that makes a part more than 1.2 times as large."""
    parts = np.zeros((count, 4), np.int32)
    if not axes or count == 1:
        parts[0] = 0, rows, 0, blocks
        parts.flags.writeable = False
        return parts
    cuts = {"rows": cut(rows, row_unit, count), "columns": cut(blocks, 1, count)}
    sizes = {"rows": rows, "columns": blocks}
    largest = {
        axis: max(end - start for start, end in cuts[axis]) / max(sizes[axis], 1) for axis in axes
    }
    axis = axes[0] if largest[axes[0]] <= 1.2 * largest[axes[-1]] else axes[-1]
    parts[:] = 0, rows, 0, blocks
    parts[:, slice(2) if axis == "rows" else slice(2, 4)] = cuts[axis]
    parts.flags.writeable = False
    return parts


class _Cut:
    """Parts of steps that are cut alike, and what they touch."""

    def __init__(self, parts: np.ndarray, block: int):
        wide = parts.astype(np.int64)
        self.busy = (parts[:, 0] < parts[:, 1]) & (parts[:, 2] < parts[:, 3])
        # Under the names that an access uses; None stands for everything.
        self.extents = {"all": None, "rows": wide[:, :2], "cols": wide[:, 2:] * block}

    def collides(self, other: _Cut, mine: tuple[str, str], its: tuple[str, str]) -> bool:
        """Whether two different parts, one of each, touch a common element of a matrix.

        `mine` and `its` are their extents along the matrix' rows and columns.
        """
        overlap = self.busy[:, None] & other.busy[None, :]
        np.fill_diagonal(overlap, val=False)
        for my_name, its_name in zip(mine, its, strict=True):
            a, b = self.extents[my_name], other.extents[its_name]
            if a is not None and b is not None:
                overlap &= a[:, None, 0] < b[None, :, 1]
                overlap &= b[None, :, 0] < a[:, None, 1]
        return bool(overlap.any())


def barriers(steps: Sequence[Lowered], parts: list[np.ndarray], block: int) -> list[bool]:
    """Return before which steps all threads must meet, the mini-batch being repeated."""
    if not steps or len(parts[0]) == 1:
        return [False] * len(steps)
    cuts = {id(part): _Cut(part, block) for part in parts}
    collide = cache(_Cut.collides)
    touched = [
        [
            (access.matrix, write, (access.rows, access.cols))
            for accesses, write in ((step.reads, False), (step.writes, True))
            for access in accesses
        ]
        for step in steps
    ]

    @cache
    def conflict(i: int, j: int) -> bool:
        mine, other = cuts[id(parts[i])], cuts[id(parts[j])]
        return any(
            a is b and (a_writes or b_writes) and collide(mine, other, a_names, b_names)
            for a, a_writes, a_names in touched[i]
            for b, b_writes, b_names in touched[j]
        )

    needed = [False] * len(steps)
    since: list[int] = []
    for _ in range(2):
        for i in range(len(steps)):
            if needed[i] or any(conflict(i, j) for j in since):
                needed[i] = True
                since = []
            since.append(i)
    return needed


def encode(steps: Sequence[Lowered]) -> np.ndarray:
    """Return steps as a table (STEP), without barriers."""
    opcodes = _native.opcodes()
    operands, arguments, numbers = (STEP[name].shape[0] for name in ("at", "arg", "num"))
    rows = []
    for step in steps:
        at, arg, num = [-1] * operands, [0] * arguments, [0.0] * numbers
        for slot, matrix in step.at.items():
            at[slot] = matrix.operand
        for slot, value in step.arg.items():
            arg[slot] = value
        for slot, value in step.num.items():
            num[slot] = value
        rows.append((opcodes[step.op], 0, step.rows, step.cols, step.depth, at, arg, num))
    return np.array(rows, STEP)


@lru_cache(maxsize=256)
def _cut_up(
    structure: Structure, threads: int, strategy: str, pieces: int
) -> tuple[np.ndarray, list[bool]]:
    """Return the parts of all steps, and before which of them all threads must meet."""
    steps = structure.steps
    parts = [parts_of(step, threads * pieces, strategy) for step in steps]
    meet = barriers(steps, parts, structure.block)
    if pieces > 1 and steps:
        meet[0] = True  # a piece of the next mini-batch may be another thread's
    every = np.ascontiguousarray(np.stack(parts))
    every.flags.writeable = False
    return every, meet


def assemble(structure: Structure, threads: int, strategy: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps (STEP) and parts for `fastmlp._native.Program`.

    Parts are int32 (steps, threads · pieces, 4), in pieces as `pieces_of` says.
    """
    pieces = pieces_of(structure.steps, threads)
    parts, meet = _cut_up(structure, threads, strategy, pieces)
    table = encode(structure.steps)
    table["barrier"] = meet
    return table, parts


def assemble_chunks(
    lowering: ChunkLowering, threads: int
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, np.ndarray, np.ndarray]]:
    """Return steps, parts and `chunks` of a program that repeats some steps for each chunk.

    All meet before the first chunk and after the last one. The room of thread t begins at
    t · `arena_bytes` of the arena.
    """
    steps = lowering.train_steps()
    first, sums, end = lowering.stretch
    others = Structure(steps[:first] + steps[end:], lowering.block)
    cuts, meet = _cut_up(others, threads, "rows", 1)
    # Who takes a chunk makes all of its steps.
    whole = np.array([[0, step.grid[0], 0, step.grid[1]] for step in steps[first:end]], np.int32)
    whole = np.repeat(whole[:, None], threads, axis=1)
    parts = np.concatenate([cuts[:first], whole, cuts[first:]])
    table = encode(steps)
    apart = threads > 1
    inside = [apart] + [False] * (end - first - 1)
    table["barrier"] = meet[:first] + inside + [apart] + meet[first + 1 :]
    copies = np.tile(table[first:end], (threads, 1))
    rooms = np.arange(threads)[:, None, None] * lowering.arena_bytes
    in_arena = (copies["at"] >= 0) & (copies["at"] >> 48 == ARENA)
    copies["at"] += np.where(in_arena, rooms, 0)
    moves = [
        (i, slot, *lowering.moves[matrix])
        for i in range(first, end)
        for slot, matrix in steps[i].at.items()
        if matrix in lowering.moves
    ]
    table = np.concatenate([table, copies.reshape(-1)])
    chunks = first, sums, end, lowering.starts.astype(np.int64), np.array(moves, np.int64)
    return table, parts, chunks
