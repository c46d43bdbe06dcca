"""Normalization, learned factors, random disturbances, and limits of norms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.backends.lowering.steps import Access, Lowered

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmlp.backends.lowering.lowering import Lowering
    from fastmlp.backends.lowering.steps import Matrix
    from fastmlp.plan import Step, Value


def _eps(low: Lowering, step: Step) -> float:
    """What is added to a variance: not zero, so that padding stays zero."""
    import numpy as np

    return max(step.attrs["eps"], float(np.finfo(low.plan.dtype).tiny))


def _by_columns(
    low: Lowering,
    op: str,
    at: dict[int, Matrix],
    writes: tuple[int, ...],
    rows_of: tuple[int, ...] = (),
    *,
    arg: dict[int, int] | None = None,
    num: dict[int, float] | None = None,
) -> None:
    """Emit a step whose parts are column blocks; `writes` are the operands that it changes.

    Operands in `rows_of` are statistics of rows.
    """
    first = at[0]
    low.emit(
        Lowered(
            op,
            first.rows,
            first.cols,
            0,
            at,
            tuple(Access(m, "all", "all" if slot in rows_of else "cols") for slot, m in at.items()),
            tuple(Access(at[slot], "all", "cols") for slot in writes),
            (first.rows, low.blocks(first.cols)),
            ("columns",),
            arg=arg or {},
            num=num or {},
        )
    )


def _in_place(low: Lowering, gradient: Value, result: Value) -> None:
    """Let a gradient be changed where it lies, if nobody else needs it."""
    if len(low.readers[gradient]) == 1:
        low.place(result, low.matrix(gradient))


def _dropout(low: Lowering, step: Step) -> None:
    (x,), (y,), rate = step.reads, step.writes, step.attrs["rate"]
    if y.role == "gradient":
        _in_place(low, x, y)
    num = {0: float(round(rate * 2**24)), 1: 1.0 / (1.0 - rate)}
    low.elementwise("dropout", y, {0: x}, arg=_stream(step), num=num)


def _noise(low: Lowering, step: Step) -> None:
    (x,), (y,) = step.reads, step.writes
    low.elementwise("noise", y, {0: x}, arg=_stream(step), num={0: step.attrs["std"]})


def _stream(step: Step) -> dict[int, int]:
    stream = step.attrs["stream"]  # 64 bits, of which the highest is a sign in the program
    return {0: stream - 2**64 if stream >= 2**63 else stream}


def _scale(low: Lowering, step: Step) -> None:
    low.elementwise("scale", step.writes[0], dict(enumerate(step.reads)))


def _batch_norm(low: Lowering, step: Step) -> None:
    x, weight, bias, *running = step.reads
    y, mean, rstd = step.writes[:3]
    values = dict(enumerate((x, weight, bias, y, mean, rstd, *running)))
    momentum, rows = step.attrs["momentum"], x.rows
    num = {0: _eps(low, step), 1: momentum, 2: rows / (rows - 1)}
    at = {slot: low.matrix(value) for slot, value in values.items()}
    _by_columns(low, "batch_norm", at, (3, 4, 5, 6, 7), num=num)


def _normalize(low: Lowering, step: Step) -> None:
    x, weight, bias, mean, var = step.reads
    reads = {0: x, 1: weight, 2: bias, 4: mean, 5: var}
    low.elementwise("normalize", step.writes[0], reads, num={0: _eps(low, step)})


def _batch_norm_backward(low: Lowering, step: Step) -> None:
    dy, x, weight, mean, spread = step.reads
    dx, dw, db = step.writes
    _in_place(low, dy, dx)
    values = dict(enumerate((dy, weight, x, dx, mean, spread, dw, db)))
    at = {slot: low.matrix(value) for slot, value in values.items()}
    given = step.op == "normalize_backward"
    num = {0: _eps(low, step)}
    _by_columns(low, "batch_norm_backward", at, (3, 6, 7), arg={0: int(given)}, num=num)
    low.deferred.append(step)


def _layer_norm(low: Lowering, step: Step) -> None:
    y, mean, rstd = step.writes
    for column in (mean, rstd):
        low.place(column, low.allocate(column.rows, 1, column=True))
    lowered = low.elementwise(
        "layer_norm", y, dict(enumerate(step.reads)), rowwise=True, num={0: _eps(low, step)}
    )
    for slot, column in ((4, mean), (5, rstd)):
        lowered.at[slot] = low.matrix(column)
        lowered.writes += (Access(lowered.at[slot], "rows", "all"),)


def _layer_norm_backward_input(low: Lowering, step: Step) -> None:
    dy, x, weight, mean, rstd = step.reads
    _in_place(low, dy, step.writes[0])
    reads = {0: dy, 1: weight, 2: x, 4: mean, 5: rstd}
    low.elementwise("layer_norm_backward_input", step.writes[0], reads, rowwise=True)


def _scale_backward_params(low: Lowering, step: Step) -> None:
    dy, x, *rows = step.reads
    values = {0: dy, 2: x} | dict(enumerate(rows, 4)) | dict(enumerate(step.writes, 6))
    at = {slot: low.matrix(value) for slot, value in values.items()}
    writes = tuple(range(6, 6 + len(step.writes)))
    _by_columns(low, "scale_backward_params", at, writes, rows_of=(4, 5))
    low.deferred.append(step)


def limit(low: Lowering, step: Step) -> None:
    """Emit what scales the columns of a weight down, after its update."""
    (weight,) = step.reads
    w = low.matrix(weight)
    at, writes = {2: w}, [Access(w, "all", "all" if w.column else "cols")]
    if weight.name in low.transposes:
        at[4] = low.transposed(weight)
        writes.append(Access(at[4], "cols", "all"))
    low.emit(
        Lowered(
            "max_norm_column" if w.column else "max_norm",
            w.rows,
            w.cols,
            0,
            at,
            (),
            tuple(writes),
            (w.rows, 1 if w.column else low.blocks(w.cols)),
            () if w.column else ("columns",),
            num={0: step.attrs["limit"]},
        )
    )


RULES: dict[str, Callable[[Lowering, Step], None]] = {
    "dropout": _dropout,
    "noise": _noise,
    "scale": _scale,
    "scale_backward_params": _scale_backward_params,
    "batch_norm": _batch_norm,
    "batch_norm_backward": _batch_norm_backward,
    "normalize": _normalize,
    "normalize_backward": _batch_norm_backward,
    "layer_norm": _layer_norm,
    "layer_norm_backward_input": _layer_norm_backward_input,
    "layer_norm_backward_params": _scale_backward_params,
}
