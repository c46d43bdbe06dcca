"""Updates: from gradients to the next values of the parameters, and what surrounds that.

Most gradients never exist in memory: the operation that sums them hands them to the optimizer's
rule (see `dense.gradient`), penalties and clipping by value included. The norm of all gradients is
known only when all of them are, so clipping by it lets them be written into one vector, laid out as
the parameters; flat passes over that vector take the sums of squares, and then make the update.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from fastmlp.backends.lowering.steps import (
    ARENA,
    GRADIENTS,
    HYPER,
    PARAMETERS,
    SLOTS,
    Access,
    Lowered,
    Matrix,
    UnsupportedStep,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from fastmlp.backends.lowering.lowering import Lowering
    from fastmlp.optimizer_base import Optimizer
    from fastmlp.plan import Value

# Elements whose squares are added up together; part of what defines the bits of a norm.
_SQUARES = 4096


class Updates:
    """What the update steps of a plan do to each parameter.

    Parameters
    ----------
    low : Lowering

    Attributes
    ----------
    names : dict of str to Step
        The update of each parameter that has one.
    """

    def __init__(self, low: Lowering):
        steps = low.plan.update
        self._low = low
        self.names = {s.attrs["parameter"]: s for s in steps if s.op == "update"}
        self._penalties = {s.reads[0].name: s.attrs for s in steps if s.op == "penalty"}
        self._value = next((s.attrs["limit"] for s in steps if s.op == "clip_value"), 0.0)
        self._norm = next((s.attrs["limit"] for s in steps if s.op == "clip_norm"), None)
        self._places: dict[str, Matrix] = {}
        self._region: Matrix | None = None

    def in_registers(self, name: str) -> bool:
        """Return whether a parameter can be updated by the operation that sums its gradient."""
        return name in self.names and self._norm is None

    def rule(self, parameter: Value) -> tuple[int, list[Matrix]]:
        """Return the rule to which a gradient is given, and its slots; one rule only stores it."""
        if self.in_registers(parameter.name):
            return self._rule(), self._slots(parameter.name)
        return self._low.optimizers["store"], [self._gradient(parameter)]

    def result(self, parameter: Value) -> Matrix:
        """Return what that rule writes: the parameter, or the gradient in memory."""
        if self.in_registers(parameter.name):
            return self._low.matrix(parameter)
        return self._gradient(parameter)

    def _rule(self) -> int:
        optimizer = self._optimizer()
        number = self._low.optimizers.get(optimizer.kernel)
        if number is None:
            raise UnsupportedStep(f"optimizer {optimizer.name}")
        return number

    def group(self, name: str) -> int:
        """Return the parameter group, 0 for a parameter that is not updated."""
        return self.names[name].attrs["group"] if name in self.names else 0

    def _slots(self, name: str) -> list[Matrix]:
        count, place = len(self._optimizer().slots), self._low.layout.places[name]
        return [Matrix(SLOTS + i, place.panel, place.rows, place.cols) for i in range(count)]

    def limits(self, name: str) -> dict[int, float]:
        """Return penalties and the limit of a gradient's elements, as `op_grad` takes them."""
        penalty = self._penalties.get(name, {"l1": 0.0, "l2": 0.0})
        return {0: penalty["l1"], 1: penalty["l2"], 2: self._value}

    def _gradient(self, parameter: Value) -> Matrix:
        """Where the gradient of a parameter is written if it goes to memory."""
        found = self._places.get(parameter.name)
        if found is None:
            low, base, offset = self._low, GRADIENTS, 0
            if parameter.name in self.names:
                base, offset = ARENA, self._vector().offset
            offset += low.layout.places[parameter.name].panel
            found = Matrix(base, offset, parameter.rows, parameter.cols)
            self._places[parameter.name] = found
        return found

    def _vector(self) -> Matrix:
        """The vector of all gradients, of which padding and what is frozen stays zero."""
        if self._region is None:
            low = self._low
            self._region = low.allocate(low.layout.nbytes // low.itemsize, 1, column=True)
        return self._region

    def _optimizer(self) -> Optimizer:
        return next(iter(self.names.values())).attrs["optimizer"]

    @property
    def scalars(self) -> int:
        """How many scalars of a step the parameter groups have; those of others follow."""
        return (len(self._optimizer().groups) + 1) * HYPER if self.names else 0

    # ---- flat passes ----

    def finish(self) -> list[str]:
        """Emit the updates of the parameters whose gradients are in memory; return their names."""
        low = self._low
        pending = [name for name in self.names if name in self._places]
        if not pending:
            return []
        region, num = self._vector(), {}
        at, reads, sums = {}, [self._places[name] for name in pending], 0
        if self._norm is not None:
            elements = low.layout.nbytes // low.itemsize
            sums = -(-elements // _SQUARES)
            at[1] = low.allocate(sums * 8 // low.itemsize, 1, column=True)
            low.emit(
                Lowered(
                    "square_sums",
                    sums,
                    1,
                    0,
                    {0: region, 3: at[1]},
                    _all(reads),
                    (Access(at[1], "rows", "all"),),
                    (sums, 1),
                    ("rows",),
                    arg={0: elements, 1: _SQUARES},
                )
            )
            num[3] = self._norm
            reads.append(at[1])
        for names, offset, lines in self._stretches(pending, self.group):
            slots = {5 + i: _moved(m, offset) for i, m in enumerate(self._slots(names[0]))}
            operands = {
                0: _moved(region, region.offset + offset),
                2: Matrix(PARAMETERS, offset, lines, low.block),
            }
            low.emit(
                Lowered(
                    "update",
                    lines,
                    low.block,
                    sums,
                    operands | at | slots,
                    _all(reads),
                    _all(low.matrix(low.plan.parameters[name]) for name in names),
                    (lines, 1),
                    ("rows",),
                    arg={0: self._rule(), 1: self.group(names[0])},
                    num=num,
                )
            )
        return pending

    def average(self) -> None:
        """Emit the moving average of the parameters."""
        low = self._low
        if not low.plan.averages:
            return
        base, place = SLOTS + len(self._optimizer().slots), self.scalars
        for names, offset, lines in self._stretches(low.plan.averages, lambda name: 0):
            low.emit(
                Lowered(
                    "average",
                    lines,
                    low.block,
                    0,
                    {
                        2: Matrix(PARAMETERS, offset, lines, low.block),
                        3: Matrix(base, offset, lines, low.block),
                    },
                    _all(low.matrix(low.plan.parameters[name]) for name in names),
                    (),
                    (lines, 1),
                    ("rows",),
                    arg={0: place},
                )
            )

    def _stretches(
        self, names: Iterable[str], key: Callable[[str], Hashable]
    ) -> Iterator[tuple[list[str], int, int]]:
        """Yield names that stand side by side and have the same key, with offset and lines."""
        chosen, places = set(names), self._low.layout.places
        for what, group in groupby(places, lambda n: (key(n),) if n in chosen else None):
            if what is None:
                continue
            found = list(group)
            first, last = places[found[0]], places[found[-1]]
            yield (
                found,
                first.panel,
                (last.panel + self._low.layout.panel_bytes(last)) // 64 - (first.panel // 64),
            )


def _moved(matrix: Matrix, offset: int) -> Matrix:
    return Matrix(matrix.base, offset, matrix.rows, matrix.cols)


def _all(matrices: Iterable[Matrix]) -> tuple[Access, ...]:
    return tuple(Access(matrix, "all", "all") for matrix in matrices)
