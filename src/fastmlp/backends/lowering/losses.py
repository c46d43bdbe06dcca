"""Losses: the value of each row and its gradient, by a kernel or by an element-wise program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.backends.lowering import reading
from fastmlp.backends.lowering.elementwise import program_operands
from fastmlp.backends.lowering.steps import TARGETS, Access, Lowered, UnsupportedStep
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
    low.reduction = Lowered(
        "reduce_loss",
        low.samples,
        1,
        0,
        {4: values},
        (Access(values, "all", "all"),),
        (),
        (1, 1),
        (),
        num={0: mean},
    )


RULES: dict[str, Callable[[Lowering, Step], None]] = {"loss": _loss}
