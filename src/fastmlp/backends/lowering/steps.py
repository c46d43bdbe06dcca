"""What a lowered program is made of, before it is cut into parts: matrices, accesses and steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

# Bases of operands, in the order in which `Program` gets its buffers.
ARENA, PARAMETERS, TRANSPOSED, STATES, GRADIENTS, SLOTS = range(6)
# Sources of a call.
INPUTS, TARGETS, WEIGHTS, GRADIENT = range(4)

HYPER = 8
# What follows a product in its epilogue: nothing, an activation, or the derivative of one.
FINISH_NONE, FINISH_FORWARD, FINISH_BACKWARD = range(3)


class UnsupportedStep(Exception):
    """The engine has no kernel for a step; the reference backend runs such a plan."""


@dataclass(frozen=True, eq=False, slots=True)
class Matrix:
    """A matrix in one of the bases: in column blocks, or, if `column`, contiguous."""

    base: int
    offset: int
    rows: int
    cols: int
    column: bool = False

    @property
    def operand(self) -> int:
        return self.base << 48 | self.offset


class Access(NamedTuple):
    """What a part touches of a matrix: on each axis "all", or the part's "rows" or "cols"."""

    matrix: Matrix
    rows: str
    cols: str


@dataclass(eq=False, slots=True)
class Lowered:
    """One step of a program before it is cut into parts.

    `grid` is (rows, blocks): how far the parts of all threads reach. `row_unit` is the grain of
    cuts along rows. `axes` lists the axes along which the step can be cut; none means thread 0 does
    it all. `reads_input` marks the product of the first layer. `source` is the
    array of the caller that the step reads itself, if any.
    """

    op: str
    rows: int
    cols: int
    depth: int
    at: dict[int, Matrix]
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    grid: tuple[int, int]
    axes: tuple[str, ...]
    row_unit: int = 1
    reads_input: bool = False
    source: int | None = None
    arg: dict[int, int] = field(default_factory=dict)
    num: dict[int, float] = field(default_factory=dict)
