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
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import _native
from fastmlp.backends.lowering.steps import ARENA

if TYPE_CHECKING:
    from fastmlp.backends.lowering import ChunkLowering, Lowered

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


# Multiply-adds for which a piece is worth it, ten or twenty microseconds: taking one is a tenth of
# a microsecond, but whoever begins another one fetches what it needs.
_PIECE = 1_000_000
_MOST_PIECES = 4


def pieces_of(steps: list[Lowered], threads: int) -> int:
    """Return into how many pieces to cut each thread's share of these steps."""
    work = sum(step.rows * step.cols * step.depth for step in steps)
    return min(max(work // (threads * _PIECE), 1), _MOST_PIECES) if threads > 1 else 1


def _largest_share(count: int, unit: int, parts: int) -> float:
    return max(end - start for start, end in cut(count, unit, parts)) / max(count, 1)


def parts_of(step: Lowered, count: int, strategy: str) -> np.ndarray:
    """Return `count` parts, int32 (count, 4): r0, r1, c0, c1."""
    rows, blocks = step.grid
    parts = np.zeros((count, 4), np.int32)
    if not step.axes or count == 1:
        parts[0] = 0, rows, 0, blocks
        return parts
    axes = step.axes
    if len(axes) == 2:
        by_columns = strategy == "columns" or (strategy == "first" and step.reads_input)
        preferred = "columns" if by_columns or step.op == "grad" else "rows"
        shares = {
            "rows": _largest_share(rows, step.row_unit, count),
            "columns": _largest_share(blocks, 1, count),
        }
        other = "rows" if preferred == "columns" else "columns"
        axes = (preferred,) if shares[preferred] <= 1.2 * shares[other] else (other,)
    if axes[0] == "rows":
        for t, (start, end) in enumerate(cut(rows, step.row_unit, count)):
            parts[t] = start, end, 0, blocks
    else:
        for t, (start, end) in enumerate(cut(blocks, 1, count)):
            parts[t] = 0, rows, start, end
    return parts


# What a part touches along one axis, (parts, 2); None stands for everything.
_Extent = np.ndarray | None


def _extents(parts: np.ndarray, block: int) -> dict[str, _Extent]:
    """Return the rows and the columns that parts have, under the names that an access uses."""
    wide = parts.astype(np.int64)
    return {"all": None, "rows": wide[:, :2], "cols": wide[:, 2:] * block}


def _collide(a: tuple[_Extent, ...], b: tuple[_Extent, ...], together: np.ndarray) -> bool:
    """Whether two different parts, of pairs that work `together`, touch a common element."""
    overlap = together
    for mine, other in zip(a, b, strict=True):
        if mine is not None and other is not None:
            starts_before = mine[:, None, 0] < other[None, :, 1]
            overlap = overlap & starts_before & (other[None, :, 0] < mine[:, None, 1])
    return bool(overlap.any())


def barriers(steps: list[Lowered], parts: list[np.ndarray], block: int) -> list[bool]:
    """Return before which steps all threads must meet, the mini-batch being repeated."""
    if not steps or len(parts[0]) == 1:
        return [False] * len(steps)
    others = ~np.eye(len(parts[0]), dtype=bool)
    busy = [(p[:, 0] < p[:, 1]) & (p[:, 2] < p[:, 3]) for p in parts]
    touched = []
    for step, part in zip(steps, parts, strict=True):
        extents = _extents(part, block)
        touched.append(
            [
                (access.matrix, write, (extents[access.rows], extents[access.cols]))
                for accesses, write in ((step.reads, False), (step.writes, True))
                for access in accesses
            ]
        )

    @cache
    def conflict(i: int, j: int) -> bool:
        together = None
        for a, a_writes, a_extent in touched[i]:
            for b, b_writes, b_extent in touched[j]:
                if a is b and (a_writes or b_writes):
                    if together is None:
                        together = busy[i][:, None] & busy[j][None, :] & others
                    if _collide(a_extent, b_extent, together):
                        return True
        return False

    needed = [False] * len(steps)
    since: list[int] = []
    for _ in range(2):
        for i in range(len(steps)):
            if needed[i] or any(conflict(i, j) for j in since):
                needed[i] = True
                since = []
            since.append(i)
    return needed


def assemble(
    steps: list[Lowered], threads: int, strategy: str, block: int, pieces: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return steps (STEP) and parts for `fastmlp._native.Program`.

    Parts are int32 (steps, threads · pieces, 4), in pieces as `pieces_of` says or as told.
    """
    opcodes = _native.opcodes()
    pieces = pieces_of(steps, threads) if pieces is None else pieces
    parts = [parts_of(step, threads * pieces, strategy) for step in steps]
    meet = barriers(steps, parts, block)
    if pieces > 1 and meet:
        meet[0] = True  # a piece of the next mini-batch may be another thread's
    table = np.zeros(len(steps), STEP)
    table["at"] = -1
    for row, step, barrier in zip(table, steps, meet, strict=True):
        row["op"], row["barrier"] = opcodes[step.op], barrier
        row["rows"], row["cols"], row["depth"] = step.rows, step.cols, step.depth
        for slot, matrix in step.at.items():
            row["at"][slot] = matrix.operand
        for slot, value in step.arg.items():
            row["arg"][slot] = value
        for slot, value in step.num.items():
            row["num"][slot] = value
    return table, np.ascontiguousarray(np.stack(parts))


def assemble_chunks(
    lowering: ChunkLowering, threads: int
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, np.ndarray, np.ndarray]]:
    """Return steps, parts and `chunks` of a program that repeats some steps for each chunk.

    All meet before the first chunk and after the last one. The room of thread t begins at
    t · `arena_bytes` of the arena.
    """
    steps = lowering.train_steps()
    first, sums, end = lowering.stretch
    table, parts = assemble(steps, threads, "rows", lowering.block, pieces=1)
    others = steps[:first] + steps[end:]
    cuts = [parts[i] for i in (*range(first), *range(end, len(steps)))]
    meet = barriers(others, cuts, lowering.block)
    apart = threads > 1
    inside = [apart] + [False] * (end - first - 1)
    table["barrier"] = meet[:first] + inside + [apart] + meet[first + 1 :]
    for i in range(first, end):
        parts[i] = 0, steps[i].grid[0], 0, steps[i].grid[1]
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
