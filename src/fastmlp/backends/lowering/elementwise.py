"""Activations and what else visits its matrices element by element, or row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.backends.lowering.steps import (
    FINISH_BACKWARD,
    FINISH_NONE,
    Access,
    Lowered,
    Matrix,
    UnsupportedStep,
)
from fastmlp.backends.programs import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmlp.backends.lowering.lowering import Lowering
    from fastmlp.backends.programs import Encoded
    from fastmlp.plan import Step, Value


def has_kernel(low: Lowering, step: Step) -> bool:
    """Return whether an activation is one of the engine's; another has a program, if anything."""
    return step.attrs["fn"].name in low.activations


def activation_number(low: Lowering, step: Step) -> tuple[int, float]:
    """Return the number of an activation that has a kernel, and its alpha."""
    function = step.attrs["fn"]
    return low.activations[function.name], function.alpha


def program_operands(low: Lowering, program: Encoded) -> tuple[dict[int, Matrix], dict[int, int]]:
    """Return operands and integers of a step that runs an element-wise program."""
    at = {6: low.image(program.lines), 7: low.image(program.constants)}
    arg = {2: len(program.lines), 3: len(program.constants), 4: program.registers}
    return at, arg | dict(enumerate(program.outputs, 5))


def _by_program(
    low: Lowering, step: Step, output: int, out: Value, reads: dict[int, Value]
) -> None:
    """Apply one of the outputs of an activation's program, f or f'."""
    program = getattr(step.attrs["fn"], "program", None)
    encoded = encode(program.select(output), low.plan.dtype) if program else None
    if encoded is None:
        raise UnsupportedStep(f"activation {step.attrs['fn'].name}")
    at, arg = program_operands(low, encoded)
    result = low.matrix(out)
    arg[7] = result.rows if result.column else 0
    op = "activate_program_backward" if output else "activate_program"
    low.elementwise(op, out, reads, arg=arg).at.update(at)


def _activation(low: Lowering, step: Step) -> None:
    (z,), (a,) = step.reads, step.writes
    if not has_kernel(low, step):
        _by_program(low, step, 0, a, {0: z})
        return
    number, alpha = activation_number(low, step)
    low.elementwise("activate", a, {0: z}, arg={1: number}, num={0: alpha})


def _activation_backward(low: Lowering, step: Step) -> None:
    (da, z, a), (dz,) = step.reads, step.writes
    # Nobody else needs the gradient before the derivative: it is multiplied where it lies.
    alone = len(low.readers[da]) == 1
    if alone:
        low.place(dz, low.matrix(da))
    if not has_kernel(low, step):
        _by_program(low, step, 1, dz, {0: da, 5: z})
        return
    number, alpha = activation_number(low, step)
    source = z if step.attrs["fn"].derivative_from == "input" else a
    maker = low.maker(da)
    if alone and maker is not None and _takes_derivative(maker):
        slope = low.matrix(source)
        maker.at[5] = slope
        maker.arg.update({0: FINISH_BACKWARD, 1: number})
        maker.num[0] = alpha
        maker.reads += (Access(slope, "rows", "cols"),)
        low.made_by(dz, maker)
        return
    reads = {0: da, 5: source}
    low.elementwise("activate_backward", dz, reads, arg={1: number}, num={0: alpha})


def _takes_derivative(maker: Lowered) -> bool:
    """Whether a step has room in its epilogue for the derivative of the activation below."""
    return maker.op in ("dense", "outer_column") and maker.arg[0] == FINISH_NONE


def _softmax(low: Lowering, step: Step) -> None:
    low.elementwise("softmax", step.writes[0], {0: step.reads[0]}, rowwise=True)


def _softmax_backward(low: Lowering, step: Step) -> None:
    da, a = step.reads
    low.elementwise("softmax_backward", step.writes[0], {0: da, 5: a}, rowwise=True)


def _standardize(low: Lowering, step: Step) -> None:
    x, mean, scale = step.reads
    low.elementwise("affine", step.writes[0], {0: x, 1: mean, 2: scale})


def _standardize_backward(low: Lowering, step: Step) -> None:
    dy, scale = step.reads
    low.elementwise("affine_backward", step.writes[0], {0: dy, 2: scale})


def _add(low: Lowering, step: Step) -> None:
    u, v = step.reads
    low.elementwise("add", step.writes[0], {0: u, 1: v})


RULES: dict[str, Callable[[Lowering, Step], None]] = {
    "activation": _activation,
    "activation_backward": _activation_backward,
    "softmax": _softmax,
    "softmax_backward": _softmax_backward,
    "standardize": _standardize,
    "standardize_backward": _standardize_backward,
    "add": _add,
}
