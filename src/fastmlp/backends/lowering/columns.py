"""Columns that move from one matrix to another, and vectors looked up in a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.backends.lowering.steps import Access, Lowered

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmlp.backends.lowering.lowering import Lowering
    from fastmlp.backends.lowering.steps import Matrix
    from fastmlp.plan import Step


def _by_rows(low: Lowering, op: str, at: dict[int, Matrix], arg: dict[int, int]) -> None:
    """Emit a step whose parts are rows of operands 0 and 3; 1 is a table."""
    out = at[3]
    low.emit(
        Lowered(
            op,
            out.rows,
            out.cols,
            0,
            at,
            tuple(Access(at[slot], "rows" if slot == 0 else "all", "all") for slot in at),
            (Access(out, "rows", "all"),),
            (out.rows, 1),
            ("rows",),
            arg=arg,
        )
    )


def _concat(low: Lowering, step: Step) -> None:
    out, start = low.matrix(step.writes[0]), 0
    for part in step.reads:
        arg = {1: start, 2: part.cols, 3: int(start + part.cols == out.cols)}
        _by_rows(low, "columns", {0: low.matrix(part), 3: out}, arg)
        start += part.cols


def _columns(low: Lowering, step: Step) -> None:
    (source,), (part,) = step.reads, step.writes
    arg = {0: step.attrs["start"], 2: part.cols, 3: 1}
    _by_rows(low, "columns", {0: low.matrix(source), 3: low.matrix(part)}, arg)


def _embedding(low: Lowering, step: Step) -> None:
    (x, table), (y,) = step.reads, step.writes
    at = {0: low.matrix(x), 1: low.matrix(table), 3: low.matrix(y)}
    _by_rows(low, "embedding", at, {0: step.attrs["column"], 1: x.cols, 2: table.rows})


def _embedding_backward_input(low: Lowering, step: Step) -> None:
    (dy,), (dx,) = step.reads, step.writes
    at = {0: low.matrix(dy), 3: low.matrix(dx)}
    _by_rows(low, "embedding_backward_input", at, {0: step.attrs["column"]})


def _embedding_backward_params(low: Lowering, step: Step) -> None:
    (x, dy), (grad,) = step.reads, step.writes
    low.place(grad, low.allocate(*grad.shape, panel=True))
    at = {0: low.matrix(x), 1: low.matrix(dy), 3: low.matrix(grad)}
    low.emit(
        Lowered(
            "embedding_backward_params",
            grad.rows,
            grad.cols,
            0,
            at,
            (Access(at[0], "all", "all"), Access(at[1], "all", "all")),
            (Access(at[3], "all", "cols"),),
            (grad.rows, low.blocks(grad.cols)),
            ("columns",),
            arg={0: step.attrs["column"], 1: x.cols, 2: x.rows},
        )
    )
    low.deferred.append(step)


RULES: dict[str, Callable[[Lowering, Step], None]] = {
    "concat": _concat,
    "columns": _columns,
    "embedding": _embedding,
    "embedding_backward_input": _embedding_backward_input,
    "embedding_backward_params": _embedding_backward_params,
}
