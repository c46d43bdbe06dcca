"""Products with weights, forward and backward, and the gradients of weights with their updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.backends.lowering.elementwise import activation_number, has_kernel
from fastmlp.backends.lowering.steps import (
    FINISH_FORWARD,
    FINISH_NONE,
    INPUTS,
    Access,
    Lowered,
    Matrix,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmlp.backends.lowering.lowering import Lowering
    from fastmlp.plan import Step, Value

# Share of the second-level cache that the operand which is passed over again and again may fill.
_L2_SHARE = 0.5
# A stretch of parameters of no more cache lines is updated by one thread.
_LINES_OF_A_PART = 256


def _dense(low: Lowering, step: Step) -> None:
    (x, weight, *bias), (result,) = step.reads, step.writes
    finish, sums = (FINISH_NONE, 0, 0.0), None
    activation = low.sole_reader(result, "activation")
    if activation is not None and has_kernel(low, activation):
        finish = (FINISH_FORWARD, *activation_number(low, activation))
        low.done.add(activation)
        if activation.attrs["fn"].derivative_from == "input" and low.plan.backward:
            sums = result
        result = activation.writes[0]
    at = {**low.left(x), 1: low.matrix(weight), 3: low.matrix(result)}
    if bias:
        at[2] = low.matrix(bias[0])
    if sums is not None:
        at[4] = low.matrix(sums)
    if 0 not in at and low.copies_input and not low.placed(x):  # the first product copies
        at[6] = low.matrix(x)
    _product(low, step, at, x.cols, finish, x is low.plan.input)


def _dense_backward_input(low: Lowering, step: Step) -> None:
    (dz, weight), (dx,) = step.reads, step.writes
    out, gradient, w = low.matrix(dx), low.matrix(dz), low.matrix(weight)
    if not w.column:
        low.transposes.add(weight.name)
        at = {0: gradient, 1: low.transposed(weight), 3: out}
        _product(low, step, at, dz.cols, (FINISH_NONE, 0, 0.0))
        return
    low.emit(
        Lowered(
            "outer_column",
            out.rows,
            out.cols,
            1,
            {0: gradient, 1: w, 3: out},
            (Access(gradient, "rows", "all"), Access(w, "all", "all")),
            (Access(out, "rows", "cols"),),
            (out.rows, low.blocks(out.cols)),
            ("rows", "columns"),
            arg={0: FINISH_NONE},
        ),
        dx,
    )


def _product(
    low: Lowering,
    step: Step,
    at: dict[int, Matrix],
    depth: int,
    finish: tuple[int, int, float],
    reads_input: bool = False,
) -> None:
    """A product of operands 0 and 1 to operand 3, as `op_dense` in csrc/kernels/dense.inc."""
    out, (kind, number, alpha) = at[3], finish
    columns = "all" if out.column else "cols"
    reads = [Access(at[1], "all", columns)]
    if 0 in at:
        reads.append(Access(at[0], "rows", "all"))
    writes = [Access(out, "rows", columns)]
    if 2 in at:
        reads.append(Access(at[2], "all", columns))
    if 4 in at:
        writes.append(Access(at[4], "rows", columns))
    if 6 in at:
        writes.append(Access(at[6], "rows", "all"))
    low.emit(
        Lowered(
            "dense_column" if out.column else "dense",
            out.rows,
            out.cols,
            depth,
            at,
            tuple(reads),
            tuple(writes),
            (out.rows, 1 if out.column else low.blocks(out.cols)),
            ("rows",) if out.column else ("rows", "columns"),
            reads_input=reads_input,
            source=None if 0 in at else INPUTS,
            arg={0: kind, 1: number, 2: _rows_in_cache(low, depth), 3: 0 not in at},
            num={0: alpha},
        ),
        *step.writes,
    )


def _rows_in_cache(low: Lowering, depth: int) -> int:
    """Rows of one chunk of the sum that fit into the share of L2."""
    return max(24, int(low.l2_bytes * _L2_SHARE // (min(depth, 256) * low.itemsize)))


def _blocks_in_cache(low: Lowering) -> int:
    """Column blocks of dZ, over the whole batch, that fit into the share of L2."""
    return max(1, int(low.l2_bytes * _L2_SHARE // (low.batch * 64)))


def _dense_backward_params(low: Lowering, step: Step) -> None:
    low.deferred.append(step)


def updates(low: Lowering, step: Step) -> None:
    """Emit the updates of the parameters whose gradients a step has written, or store those."""
    for grad in step.writes:
        if grad.role != "parameter_gradient":
            continue
        parameter = parameter_of(low, grad)
        number, slots = low.updates.rule(parameter)
        place = low.layout.places[parameter.name]
        w, gradient = low.matrix(parameter), low.matrix(grad)
        lines = low.blocks(place.cols) * place.block_rows
        low.emit(
            Lowered(
                "update",
                w.rows,
                w.cols,
                0,
                {0: gradient, 2: w} | dict(enumerate(slots, 5)),
                (Access(gradient, "all", "all"),),
                (Access(low.updates.result(parameter), "all", "all"),),
                (lines, 1),
                ("rows",) if lines > _LINES_OF_A_PART else (),
                arg={0: number, 1: low.updates.group(parameter.name)},
                num=low.updates.limits(parameter.name),
            )
        )


def gradient(low: Lowering, step: Step) -> None:
    """Emit the gradient of a weight and its bias, with penalties and update, or written out."""
    x, dz = step.reads
    weight, *bias = (parameter_of(low, grad) for grad in step.writes)
    name, names = weight.name, [weight.name, *(b.name for b in bias)]
    updates = low.updates
    dz_matrix, w = low.matrix(dz), low.matrix(weight)
    at = {**low.left(x, in_gradient=True), 1: dz_matrix, 2: w}
    for slot, parameter in zip((5, 8), (weight, *bias), strict=False):
        number, slots = updates.rule(parameter)
        at.update(enumerate(slots, slot))
    if bias:
        at[3] = low.matrix(bias[0])
    reads = [Access(dz_matrix, "all", "all" if w.column else "cols")]
    if 0 in at:
        reads.append(Access(at[0], "all", "cols" if w.column else "rows"))
    rows_axis = "all" if w.column else "rows"
    writes = [Access(updates.result(weight), rows_axis, "cols")]
    if bias:
        writes.append(Access(updates.result(bias[0]), "all", "all" if w.column else "cols"))
    if updates.in_registers(name) and name in low.transposes:
        low.maintained.add(name)
        at[4] = low.transposed(weight)
        writes.append(Access(at[4], "cols", "rows"))
    if w.column:
        op, grid, axes, unit = "grad_column", (1, low.blocks(w.rows)), ("columns",), 1
    else:
        op, grid, axes = "grad", (w.rows, low.blocks(w.cols)), ("columns", "rows")
        unit = low.block
    low.emit(
        Lowered(
            op,
            w.rows,
            w.cols,
            x.rows,
            at,
            tuple(reads),
            tuple(writes),
            grid,
            axes,
            unit,
            source=None if 0 in at else INPUTS,
            arg={
                0: number,
                1: updates.group(name),
                2: _blocks_in_cache(low),
                3: updates.group(names[-1]),
                4: 0 not in at,
            },
            num=updates.limits(name),
        )
    )


def parameter_of(low: Lowering, gradient: Value) -> Value:
    """Return the parameter that a gradient belongs to."""
    for name, value in low.plan.parameter_gradients.items():
        if value is gradient:
            return low.plan.parameters[name]
    raise KeyError(gradient.name)


def transpose(low: Lowering, weight: Value) -> Lowered:
    """Return the step that brings the transposed panel of a weight into step with the weight."""
    w, panel = low.matrix(weight), low.transposed(weight)
    return Lowered(
        "transpose",
        w.rows,
        w.cols,
        0,
        {2: w, 4: panel},
        (Access(w, "rows", "cols"),),
        (Access(panel, "cols", "rows"),),
        (w.rows, low.blocks(w.cols)),
        ("columns",),
    )


RULES: dict[str, Callable[[Lowering, Step], None]] = {
    "dense": _dense,
    "dense_backward_input": _dense_backward_input,
    "dense_backward_params": _dense_backward_params,
}
