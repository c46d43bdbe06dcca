"""Element-wise programs (`fastmlp.graph.program`) in the form in which the native engine runs them.

See csrc/kernels/program.inc: lines of six int32 (instruction, result, four operands) and a table of
constants. The exponent of a power is a constant that is its second operand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import _native

if TYPE_CHECKING:
    from fastmlp.graph.program import Program
    from fastmlp.loss_base import Loss

_LINE = 6


@dataclass(frozen=True, slots=True)
class Encoded:
    """A program for the engine; registers are arguments, constants, then all others."""

    lines: np.ndarray
    constants: np.ndarray
    registers: int
    outputs: tuple[int, ...]


@lru_cache(maxsize=64)
def encode(program: Program, dtype: np.dtype) -> Encoded | None:
    """Return a program in the engine's form; None if it has no instruction for something in it."""
    numbers, most = _native.instructions()
    program = _with_exponents(program)
    places, registers = program.places()
    if registers > most:
        return None
    lines, constants = [], []
    for line, place in zip(program.instructions, places, strict=True):
        if line.opcode == "const":
            constants.append(line.immediate)
        elif line.opcode != "arg":
            if line.opcode == "pow" and not (line.immediate > 0 and line.immediate % 1):
                return None
            row = [numbers[line.opcode], place, *(places[r] for r in line.operands)]
            lines.append(row + [0] * (_LINE - len(row)))
    with np.errstate(over="ignore"):
        table = np.array(constants, dtype)
    outputs = tuple(places[k] for k in program.outputs)
    return Encoded(np.array(lines, np.int32).reshape(-1, _LINE), table, registers, outputs)


def _with_exponents(program: Program) -> Program:
    """Give every power its exponent as a constant and second operand."""
    lines, number = [], []
    for line in program.instructions:
        operands = tuple(number[r] for r in line.operands)
        if line.opcode == "pow":
            lines.append(type(line)("const", (), line.immediate))
            operands += (len(lines) - 1,)
        lines.append(replace(line, operands=operands))
        number.append(len(lines) - 1)
    return replace(
        program, instructions=tuple(lines), outputs=tuple(number[k] for k in program.outputs)
    )


def loss_program(loss: Loss, outputs: int, dtype: np.dtype) -> Encoded | None:
    """Return the program of a loss for a model of some outputs; None if it has none."""
    find = getattr(loss, "program", None)
    program = find(outputs) if find is not None else None
    return encode(program, dtype) if program is not None else None
