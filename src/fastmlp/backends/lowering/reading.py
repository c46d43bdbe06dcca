"""Reading the caller's arrays into the arena, row by row as the order says, and writing results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.backends.lowering.steps import GRADIENT, WEIGHTS, Access, Lowered, Matrix

if TYPE_CHECKING:
    from fastmlp.backends.lowering.lowering import Lowering
    from fastmlp.plan import Value

__all__ = ["GRADIENT", "labels", "rows", "scatter", "shares"]


def rows(low: Lowering, matrix: Matrix, source: int) -> None:
    """Emit what reads the rows of a source into a matrix, or its only column into a column."""
    if matrix.column:
        low.emit(_gather("gather_column", matrix, source, ("rows",), 1, "all"))
        low.columns[source] = 1
    else:
        blocks = low.blocks(matrix.cols)
        low.emit(_gather("gather", matrix, source, ("rows", "columns"), blocks, "cols"))
        low.columns[source] = matrix.cols


def labels(low: Lowering, matrix: Matrix, source: int) -> None:
    """Emit what reads class indices into one-hot rows."""
    blocks = low.blocks(matrix.cols)
    low.emit(_gather("gather_labels", matrix, source, ("rows",), blocks, "cols"))
    low.columns[source] = 0


def shares(low: Lowering, weight: Value) -> Matrix:
    """Emit what reads weights of the samples, or of the outputs, divided by their sum."""
    share = low.matrix(weight)
    low.emit_once(_gather("gather_shares", share, WEIGHTS, ("rows",), 1, "all"))
    low.columns[WEIGHTS] = 0 if share.column else share.cols
    return share


def _gather(
    op: str, matrix: Matrix, source: int, axes: tuple[str, ...], blocks: int, columns: str
) -> Lowered:
    return Lowered(
        op,
        matrix.rows,
        matrix.cols,
        0,
        {3: matrix},
        (),
        (Access(matrix, "rows", columns),),
        (matrix.rows, blocks),
        axes,
        source=source,
        arg={0: source},
    )


def scatter(low: Lowering, value: Value) -> Lowered:
    """Return the step that writes a value into the caller's row-major rows."""
    matrix = low.matrix(value)
    return Lowered(
        "scatter_column" if matrix.column else "scatter",
        matrix.rows,
        matrix.cols,
        0,
        {0: matrix},
        (Access(matrix, "rows", "cols"),),
        (),
        (matrix.rows, low.blocks(matrix.cols)),
        ("rows",),
    )
