"""Losses: the value of each row and its gradient, by a kernel or by an element-wise program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.backends.lowering import reading
from fastmlp.backends.lowering.elementwise import program_operands
from fastmlp.backends.lowering.steps import (
    HYPER,
    TARGETS,
    Access,
    Lowered,
    Matrix,
    UnsupportedStep,
)
from fastmlp.backends.programs import loss_program
from fastmlp.loss_base import ElementwiseLoss

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmlp.backends.lowering.lowering import Lowering
    from fastmlp.plan import Step


def _loss(low: Lowering, step: Step) -> None:
    loss = step.attrs["loss"]
    (y_hat, y, *weights), (row_loss, grad) = step.reads, step.writes
    number = low.losses.get(loss.kernel)
    program = loss_program(loss, y_hat.cols, low.plan.dtype)
    if number is None and program is None:
        raise UnsupportedStep(f"loss {loss.name}")
    elementwise = isinstance(loss, ElementwiseLoss)
    if weights and weights[0].cols > 1 and not elementwise and program is None:
        raise UnsupportedStep(f"weights of the outputs in {loss.name}, which joins them")
    target = low.matrix(y)
    read = reading.labels if low.labels and not target.column else reading.rows
    read(low, target, TARGETS)
    prediction, gradient, values = low.matrix(y_hat), low.matrix(grad), low.matrix(row_loss)
    at = {0: prediction, 1: target, 3: gradient, 4: values}
    unit = 1.0 / loss.divisor(y_hat.cols) if elementwise else 1.0
    mean = 1.0 / low.samples
    if weights:
        # Shares add up to one, so the sum over the rows is their mean.
        at[2], mean = reading.shares(low, weights[0]), 1.0
    op, arg = "loss", {0: number or 0, 1: 2 in at and not at[2].column}
    if number is None:
        operands, integers = program_operands(low, program)
        op, at, arg = "loss_program", at | operands, arg | integers
    if prediction.column:
        op += "_column"
    low.emit(
        Lowered(
            op,
            y_hat.rows,
            y_hat.cols,
            0,
            at,
            tuple(Access(at[slot], "rows", "all") for slot in (0, 1, 2) if slot in at),
            (Access(gradient, "rows", "all"), Access(values, "rows", "all")),
            (y_hat.rows, 1),
            ("rows",),
            arg=arg,
            num={0: unit, 1: unit * mean, 2: loss.alpha, 3: loss.limit(low.plan.dtype)},
        ),
        row_loss,
        grad,
    )
    squares = low.squares
    low.reduction = Lowered(
        "reduce_loss",
        low.samples,
        1,
        sum(sums.rows for sums in squares),
        {4: values} | ({5: squares[0]} if squares else {}),
        tuple(Access(matrix, "all", "all") for matrix in (values, *squares)),
        (),
        (1, 1),
        (),
        arg={0: low.updates.scalars + HYPER * bool(low.plan.averages)},
        num={0: mean},
    )


def _loss_penalty(low: Lowering, step: Step) -> None:
    """Emit sums of squares, one for each block of a weight's columns, which are cut as gradients.

    So a core reads what it has updated itself.
    """
    weights = [(low.matrix(value), low.layout.elements(value.name)) for value in step.reads]
    counts = [low.blocks(w.cols) if not w.column else 1 for w, _ in weights]
    total = low.allocate(sum(counts) * 8 // low.itemsize, 1, column=True)
    first = 0
    for (weight, elements), count in zip(weights, counts, strict=True):
        size = elements.stop - elements.start
        sums = Matrix(total.base, total.offset, count, 1, column=True)
        low.squares.append(sums)
        low.emit_once(
            Lowered(
                "square_sums",
                count,
                1,
                0,
                {0: weight, 3: total},
                (Access(weight, "all", "all"),),
                (Access(sums, "rows", "all"),),
                (count, 1),
                ("rows",),
                arg={0: size, 1: size // count, 2: first},
            )
        )
        first += count


RULES: dict[str, Callable[[Lowering, Step], None]] = {
    "loss": _loss,
    "loss_penalty": _loss_penalty,
}
