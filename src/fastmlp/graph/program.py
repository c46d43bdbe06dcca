"""Element-wise programs: what a native engine runs, one instruction after another, over blocks.

A program is straight-line code on registers. Register k is written by instruction k and never
again; an instruction reads registers of smaller numbers only. All registers are blocks of equal
length: the same instructions run for every element. The NumPy interpreter (`Program.evaluate`)
defines what each opcode means.

=============  ========  ===================================================================
opcode         operands  result
=============  ========  ===================================================================
arg            –         argument number `immediate` of the function (an integer from 0)
const          –         the number `immediate`, rounded to the precision of the arguments
add sub mul    a, b      a + b, a − b, a · b, each rounded on its own (no fused multiply-add)
div            a, b      a / b
neg abs        a         −a, |a|
sqrt exp log   a         √a, eᵃ, natural logarithm
tanh sigmoid   a         hyperbolic tangent, 1 / (1 + e⁻ᵃ)
max min        a, b      larger, smaller; unspecified which of +0 and −0; NaN if one is NaN
select_lt      a, b,     c where a < b, d elsewhere (also where a or b is NaN)
               c, d
select_le      a, b,     c where a ≤ b, d elsewhere
               c, d
select_eq      a, b,     c where a = b, d elsewhere
               c, d
pow            a         a to the power `immediate`, which is neither an integer nor a half
=============  ========  ===================================================================

`outputs` are the registers that hold the results. No instruction is without use, equal ones are
shared, and what depends on constants alone is computed beforehand in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown
from fastmlp.graph.elementwise import _sigmoid
from fastmlp.graph.node import OPERATIONS, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

# Integer exponents up to this are products: at most 2·log2 of them.
_LARGEST_PRODUCT = 64

# Opcode -> (operands, definition). `arg` and `const` are the interpreter's own.
OPCODES: dict[str, tuple[int, Callable[..., Any] | None]] = {
    "arg": (0, None),
    "const": (0, None),
    "add": (2, np.add),
    "sub": (2, np.subtract),
    "mul": (2, np.multiply),
    "div": (2, np.true_divide),
    "neg": (1, np.negative),
    "abs": (1, np.absolute),
    "sqrt": (1, np.sqrt),
    "exp": (1, np.exp),
    "log": (1, np.log),
    "tanh": (1, np.tanh),
    "sigmoid": (1, _sigmoid),
    "max": (2, np.maximum),
    "min": (2, np.minimum),
    "select_lt": (4, lambda a, b, c, d: np.where(a < b, c, d)),
    "select_le": (4, lambda a, b, c, d: np.where(a <= b, c, d)),
    "select_eq": (4, lambda a, b, c, d: np.where(a == b, c, d)),
    "pow": (1, np.power),
}
_COMMUTATIVE = {"add", "mul", "max", "min"}


class LoweringError(ValueError):
    """A function cannot be written as an element-wise program; the message says what in it."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a program.

    Attributes
    ----------
    opcode : str
        A row of the table above.
    operands : tuple of int
        Registers that are read.
    immediate : float or int
        The number of `const` and `pow`, the argument's index of `arg`, 0 otherwise.
    """

    opcode: str
    operands: tuple[int, ...] = ()
    immediate: float = 0


@dataclass(frozen=True, slots=True)
class Program:
    """A straight-line element-wise program; equal programs compare equal.

    Attributes
    ----------
    arguments : int
        How many arrays it takes.
    instructions : tuple of Instruction
        Instruction k writes register k.
    outputs : tuple of int
        Registers of the results.
    """

    arguments: int
    instructions: tuple[Instruction, ...]
    outputs: tuple[int, ...]

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the program with NumPy: the definition of what the native engine computes.

        Parameters
        ----------
        *arrays : ndarray
            One array per argument, of one floating dtype; shapes are broadcast.

        Returns
        -------
        tuple of ndarray
            One array per output, of the broadcast shape and the arrays' dtype.
        """
        if len(arrays) != self.arguments:
            raise ValueError(f"the program takes {self.arguments} arrays; got {len(arrays)}")
        arrays = np.broadcast_arrays(*map(np.asarray, arrays))
        dtype = np.result_type(*arrays)
        registers: list[np.ndarray] = []
        with np.errstate(all="ignore"):  # branches that are not taken are computed too
            for line in self.instructions:
                if line.opcode == "arg":
                    result = arrays[int(line.immediate)].astype(dtype, copy=False)
                elif line.opcode == "const":
                    result = np.asarray(line.immediate, dtype)
                else:
                    operands = [registers[k] for k in line.operands]
                    if line.opcode == "pow":
                        operands.append(np.asarray(line.immediate, dtype))
                    result = np.asarray(OPCODES[line.opcode][1](*operands))
                registers.append(result)
        shape = arrays[0].shape
        return tuple(np.broadcast_to(registers[k], shape).astype(dtype) for k in self.outputs)

    def select(self, *outputs: int) -> Program:
        """Return the program of some outputs alone, without what only the others need.

        Parameters
        ----------
        *outputs : int
            Positions in `outputs`.
        """
        roots = [self.outputs[k] for k in outputs]
        needed: set[int] = set()
        stack = list(roots)
        while stack:
            k = stack.pop()
            if k not in needed:
                needed.add(k)
                stack.extend(self.instructions[k].operands)
        number = {old: new for new, old in enumerate(sorted(needed))}
        lines = tuple(
            Instruction(line.opcode, tuple(number[r] for r in line.operands), line.immediate)
            for k, line in enumerate(self.instructions)
            if k in needed
        )
        return Program(self.arguments, lines, tuple(number[k] for k in roots))

    def scaled(self, factor: float) -> Program:
        """Return the program with all outputs multiplied by a number."""
        builder = Builder(self.arguments)
        copies: list[int] = []
        for line in self.instructions:
            operands = tuple(copies[k] for k in line.operands)
            copies.append(builder.emit(line.opcode, *operands, immediate=line.immediate))
        scale = builder.constant(factor)
        return builder.program([builder.emit("mul", copies[k], scale) for k in self.outputs])

    def places(self) -> tuple[tuple[int, ...], int]:
        """Return where an engine may keep each register, and how many places that takes.

        Arguments come first, in order, then constants, all kept to the end: an engine may read
        the former where they lie and write the latter once. Another place is used again when its
        register has been read for the last time, also by the instruction that reads it: an
        engine reads an element of all operands before it writes that element of the result.
        Outputs keep their places to the end.
        """
        last = {k: k for k in range(len(self.instructions))}
        for k, line in enumerate(self.instructions):
            last.update(dict.fromkeys(line.operands, k))
        last.update(dict.fromkeys(self.outputs, len(self.instructions)))
        free: list[int] = []
        chosen: list[int] = []
        constants = self.arguments
        count = constants + sum(line.opcode == "const" for line in self.instructions)
        last = {
            k: len(self.instructions) if self.instructions[k].opcode in ("arg", "const") else end
            for k, end in last.items()
        }
        for k, line in enumerate(self.instructions):
            if line.opcode == "arg":
                chosen.append(int(line.immediate))
                continue
            if line.opcode == "const":
                chosen.append(constants)
                constants += 1
                continue
            free.extend(chosen[r] for r in sorted(set(line.operands)) if last[r] == k)
            if not free:
                free.append(count)
                count += 1
            chosen.append(free.pop())
        return tuple(chosen), count

    def to_data(self) -> dict[str, Any]:
        """Return the program as plain data: numbers, strings and lists."""
        lines = [[x.opcode, list(x.operands), x.immediate] for x in self.instructions]
        return {
            "arguments": self.arguments,
            "instructions": lines,
            "outputs": list(self.outputs),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Program:
        """Return the program that `to_data` wrote, checked: it comes from files, too.

        Raises
        ------
        ValueError
            If `data` is no valid program.
        """
        try:
            arguments, outputs = data["arguments"], tuple(data["outputs"])
            lines = tuple(Instruction(o, tuple(r), i) for o, r, i in data["instructions"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"a program must be a dict as to_data() writes; {error}") from None
        if not _is_index(arguments, 1 << 16) or not outputs:
            raise ValueError(f"a program must have arguments and outputs; got {shown(data)}")
        for k, line in enumerate(lines):
            if not isinstance(line.opcode, str) or line.opcode not in OPCODES:
                raise ValueError(f"instruction {k} has the unknown opcode {shown(line.opcode)}")
            count = OPCODES[line.opcode][0]
            if len(line.operands) != count or not all(_is_index(r, k) for r in line.operands):
                raise ValueError(f"instruction {k}, {line.opcode}, reads {shown(line.operands)}")
            number = isinstance(line.immediate, (int, float))
            if not number or (line.opcode == "arg" and not _is_index(line.immediate, arguments)):
                raise ValueError(f"instruction {k}, {line.opcode}, has {shown(line.immediate)}")
        if not all(_is_index(r, len(lines)) for r in outputs):
            raise ValueError(f"outputs must be registers; got {shown(outputs)}")
        return cls(arguments, lines, outputs)

    def __str__(self) -> str:
        text = []
        for k, line in enumerate(self.instructions):
            extra = [f"{line.immediate:g}"] if line.opcode in ("arg", "const", "pow") else []
            inner = ", ".join([f"r{r}" for r in line.operands] + extra)
            text.append(f"r{k} = {line.opcode}({inner})")
        return "\n".join([*text, "return " + ", ".join(f"r{k}" for k in self.outputs)])


def _is_index(value: object, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit


class Builder:
    """Writes a program; equal instructions are shared, constants computed, + 0 and · 1 dropped.

    Parameters
    ----------
    arguments : int
        How many arrays the program takes.
    """

    def __init__(self, arguments: int) -> None:
        self.arguments = arguments
        self._lines: list[Instruction] = []
        self._known: dict[Instruction, int] = {}
        self._registers: dict[int, int] = {}
        self._nodes: list[Node] = []  # keeps identities alive

    def bind(self, node: Node, register: int) -> None:
        """Say which register holds a node."""
        self._registers[id(node)] = register
        self._nodes.append(node)

    def constant(self, value: float) -> int:
        """Return the register of a number."""
        return self._line(Instruction("const", (), float(value)))

    def argument(self, index: int) -> int:
        """Return the register of an argument."""
        return self._line(Instruction("arg", (), index))

    def emit(self, opcode: str, *operands: int, immediate: float = 0) -> int:
        """Return the register of a result, computed once."""
        if opcode in ("const", "arg"):
            return self._line(Instruction(opcode, (), immediate))
        values = [self._value(k) for k in operands]
        if all(value is not None for value in values):
            extra = (immediate,) if opcode == "pow" else ()
            with np.errstate(all="ignore"):
                numbers = [np.float64(value) for value in (*values, *extra)]
                return self.constant(float(OPCODES[opcode][1](*numbers)))
        simpler = self._simplified(opcode, operands, values)
        if simpler is not None:
            return simpler
        if opcode in _COMMUTATIVE:
            operands = tuple(sorted(operands))
        return self._line(Instruction(opcode, tuple(operands), immediate))

    def _simplified(
        self, opcode: str, operands: Sequence[int], values: Sequence[float | None]
    ) -> int | None:
        """Return the register of an equal, simpler expression."""
        a, *rest = operands
        b = rest[0] if rest else a
        if opcode == "add" and 0 in values:
            return b if values[0] == 0 else a
        if opcode == "sub" and values[1] == 0:
            return a
        if opcode == "sub" and values[0] == 0:
            return self.emit("neg", b)
        if opcode == "mul" and 1 in values:
            return b if values[0] == 1 else a
        if opcode == "mul" and None in values and (values[0] is None) != (values[1] is None):
            factor, moving = (values[0], b) if values[0] is not None else (values[1], a)
            line = self._lines[moving]
            inner = [self._value(k) for k in line.operands] if line.opcode == "mul" else []
            for k, value in enumerate(inner):
                if value is not None:
                    return self.emit("mul", line.operands[1 - k], self.constant(value * factor))
        if opcode == "mul" and -1 in values:
            return self.emit("neg", b if values[0] == -1 else a)
        if opcode == "div" and values[1] is not None and values[1] != 0:
            # A power of two has an exact reciprocal, and a product costs less than a quotient.
            reciprocal = 1.0 / values[1]
            if abs(np.frexp(values[1])[0]) == 0.5 and np.isfinite(reciprocal) and reciprocal:
                return self.emit("mul", a, self.constant(reciprocal))
        if opcode == "neg" and self._lines[a].opcode == "neg":
            return self._lines[a].operands[0]
        if opcode.startswith("select") and operands[2] == operands[3]:
            return operands[2]
        return None

    def power(self, base: int, p: float) -> int:
        """Return the register of base to the power p: products and roots where they do."""
        if p == 0:
            return self.constant(1.0)
        if p < 0:
            return self.emit("div", self.constant(1.0), self.power(base, -p))
        whole, part = divmod(p, 1.0)
        if part not in (0.0, 0.5) or whole > _LARGEST_PRODUCT:
            return self.emit("pow", base, immediate=float(p))
        result = self.emit("sqrt", base) if part else None
        factor, n = base, int(whole)
        while n:
            if n & 1:
                result = factor if result is None else self.emit("mul", result, factor)
            n >>= 1
            factor = self.emit("mul", factor, factor) if n else factor
        return result

    def known(self, node: Node) -> float | None:
        """Return the number that a node always is, None if it is no constant."""
        return self._value(self.register(node))

    def register(self, node: Node) -> int:
        """Return the register of a node, lowering what it needs first."""
        found = self._registers.get(id(node))
        if found is not None:
            return found
        # Operands first and without recursion: a derivative may be deeper than Python's stack.
        from fastmlp.graph.gradient import ordered

        for inner in ordered(node):
            if id(inner) not in self._registers:
                self.bind(inner, self._lowered(inner))
        return self._registers[id(node)]

    def _lowered(self, node: Node) -> int:
        if not node.parents:
            if node.symbolic:
                raise self.refuse(node, "it is an argument of another function")
            values = np.unique(node.value)
            if values.size != 1:
                raise self.refuse(node, "an array of different numbers is not element-wise")
            return self.constant(float(values[0]))
        operation = OPERATIONS[node.operation]
        if operation.lower is None:
            raise self.refuse(node, f"{operation.name} has no opcode")
        if isinstance(operation.lower, str):
            return self.emit(operation.lower, *[self.register(p) for p in node.parents])
        return operation.lower(self, node)

    def choose(self, condition: Node, a: int, b: int) -> int:
        """Return the register of `a` where a condition holds and `b` elsewhere."""
        kind, parents = condition.operation, condition.parents
        if kind == "logical_not":
            return self.choose(parents[0], b, a)
        if kind == "logical_and":
            return self.choose(parents[0], self.choose(parents[1], a, b), b)
        if kind == "logical_or":
            return self.choose(parents[0], a, self.choose(parents[1], a, b))
        opcodes = {"less": "select_lt", "less_equal": "select_le", "equal": "select_eq"}
        if kind in opcodes:
            left, right = (self.register(parent) for parent in parents)
            return self.emit(opcodes[kind], left, right, a, b)
        if kind == "not_equal":
            left, right = (self.register(parent) for parent in parents)
            return self.emit("select_eq", left, right, b, a)
        # A number as a condition: it holds unless it is 0.
        return self.emit("select_eq", self.register(condition), self.constant(0.0), b, a)

    def refuse(self, node: Node, reason: str) -> LoweringError:
        """Return the error for a node that has no element-wise program."""
        return LoweringError(f"{node.describe()} cannot be lowered: {reason}")

    def program(self, outputs: Sequence[int]) -> Program:
        """Return the program of these registers, without what none of them needs."""
        whole = Program(self.arguments, tuple(self._lines), tuple(outputs))
        return whole.select(*range(len(outputs)))

    def _line(self, line: Instruction) -> int:
        # −0 and 0 are equal as keys and different as numbers.
        key = line if line.immediate else Instruction(line.opcode, line.operands, 0)
        if line.opcode == "const" and line.immediate == 0 and np.signbit(line.immediate):
            key = Instruction("const", (), np.float64("-0.0").hex())  # type: ignore[arg-type]
        if key not in self._known:
            self._known[key] = len(self._lines)
            self._lines.append(line)
        return self._known[key]

    def _value(self, register: int) -> float | None:
        line = self._lines[register]
        return line.immediate if line.opcode == "const" else None


def lower(outputs: Sequence[Node], arguments: Sequence[Node]) -> Program:
    """Return the program that computes nodes from others.

    Parameters
    ----------
    outputs : sequence of Node
        What it computes.
    arguments : sequence of Node
        What it takes, in this order.

    Raises
    ------
    LoweringError
        If a node is not element-wise or has no opcode.
    """
    builder = Builder(len(arguments))
    for k, node in enumerate(arguments):
        builder.bind(node, builder.argument(k))
    return builder.program([builder.register(node) for node in outputs])


def symbol(name: str) -> Node:
    """Return a scalar variable that stands for any value; looking at its value is an error."""
    # 0.5 is inside the domain of every operation.
    value = np.asarray(0.5)
    return Node(value, "variable", name=name, differentiable=True, symbolic=True)


def elementwise_program(
    f: Callable[..., Any], n_args: int, wrt: Sequence[int] | int = 0
) -> Program:
    """Return the program of an element-wise function and its derivatives.

    Parameters
    ----------
    f : callable
        Function of `n_args` arguments in element-wise graph operations, such as an activation
        f(z) or the loss l(ŷ, y) of one output.
    n_args : int
        How many arguments it takes.
    wrt : int or sequence of int
        Arguments with respect to which derivatives are wanted; none for an empty sequence.

    Returns
    -------
    Program
        Its outputs are the value, then the derivative for each of `wrt`.

    Raises
    ------
    LoweringError
        If `f` uses something that is not element-wise or has no opcode.

    Examples
    --------
    >>> print(elementwise_program(lambda z: z * z, 1))
    r0 = arg(0)
    r1 = mul(r0, r0)
    r2 = add(r0, r0)
    return r1, r2
    """
    from fastmlp.graph.gradient import gradients
    from fastmlp.graph.node import lift
    from fastmlp.graph.transforms import argument_names

    arguments = [symbol(name) for name in argument_names(f, n_args)]
    positions = (wrt,) if isinstance(wrt, int) else tuple(wrt)
    with np.errstate(all="ignore"):
        value = lift(f(*arguments))
        derivatives = gradients(value, [arguments[k] for k in positions])
    if value.shape != ():
        raise LoweringError(f"{value.describe()} has shape {value.shape}: it is not element-wise")
    return lower([value, *derivatives], arguments)
