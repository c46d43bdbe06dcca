"""Element-wise programs in C and in ONNX: a row for each opcode of `fastmlp.graph.program`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastmlp.exports.onnx import OnnxGraph
    from fastmlp.graph.program import Program

# Opcode -> (expression in C, operation of ONNX); {n} is operand n.
OPCODES: dict[str, tuple[str, str]] = {
    "add": ("{0} + {1}", "Add"),
    "sub": ("{0} - {1}", "Sub"),
    "mul": ("{0} * {1}", "Mul"),
    "div": ("{0} / {1}", "Div"),
    "neg": ("-{0}", "Neg"),
    "abs": ("fabs({0})", "Abs"),
    "sqrt": ("sqrt({0})", "Sqrt"),
    "exp": ("exp({0})", "Exp"),
    "log": ("log({0})", "Log"),
    "tanh": ("tanh({0})", "Tanh"),
    "sigmoid": ("1 / (1 + exp(-{0}))", "Sigmoid"),
    # NaN if one is NaN.
    "max": ("{0} > {1} || {0} != {0} ? {0} : {1}", "Max"),
    "min": ("{0} < {1} || {0} != {0} ? {0} : {1}", "Min"),
    "select_lt": ("{0} < {1} ? {2} : {3}", "Less"),
    "select_le": ("{0} <= {1} ? {2} : {3}", "LessOrEqual"),
    "select_eq": ("{0} == {1} ? {2} : {3}", "Equal"),
    "pow": ("pow({0}, {1})", "Pow"),
}


def to_c(program: Program) -> str:
    """Return the body of a C function of `real z` that returns the first output of a program."""
    program = program.select(0)
    lines = []
    for k, line in enumerate(program.instructions):
        if line.opcode == "arg":
            text = "z"
        elif line.opcode == "const":
            text = _literal(line.immediate)
        else:
            operands = [f"r{r}" for r in line.operands]
            if line.opcode == "pow":
                operands.append(_literal(line.immediate))
            text = OPCODES[line.opcode][0].format(*operands)
        lines.append(f"const real r{k} = {text}; ")
    # The function may be a constant.
    return "".join(lines) + f"(void)z; return r{program.outputs[0]};"


def _literal(value: float) -> str:
    if np.isnan(value):
        return "NAN"
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return repr(float(value))


def to_onnx(program: Program, graph: OnnxGraph, z: str) -> str:
    """Add the first output of a program of one argument to an ONNX graph and return its name."""
    program = program.select(0)
    names: list[str] = []
    for line in program.instructions:
        operands = [names[r] for r in line.operands]
        if line.opcode == "arg":
            result = z
        elif line.opcode == "const":
            result = graph.number(line.immediate)
        elif line.opcode.startswith("select"):
            condition = graph.add(OPCODES[line.opcode][1], *operands[:2])
            result = graph.add("Where", condition, *operands[2:])
        else:
            if line.opcode == "pow":
                operands.append(graph.number(line.immediate))
            result = graph.add(OPCODES[line.opcode][1], *operands)
        names.append(result)
    output = program.outputs[0]
    if program.instructions[output].opcode == "const":
        return graph.add("Expand", names[output], graph.add("Shape", z))
    return names[output]
