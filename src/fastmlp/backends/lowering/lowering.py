"""The walk over a plan's steps, and the memory of what they read and write."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastmlp import _native
from fastmlp.backends.layout import lines_of
from fastmlp.backends.lowering import columns, dense, elementwise, losses, norm, reading
from fastmlp.backends.lowering.steps import (
    ARENA,
    INPUTS,
    PARAMETERS,
    STATES,
    TRANSPOSED,
    Access,
    Lowered,
    Matrix,
    UnsupportedStep,
)
from fastmlp.backends.lowering.updates import Updates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    from fastmlp.backends.layout import Layout
    from fastmlp.plan import Plan, Step, Value

# One function for each row of fastmlp.operations.OPS that the engine has kernels for. The steps of
# the update are taken up by the gradients that they belong to.
RULES: dict[str, Callable[[Lowering, Step], None]] = {
    **dense.RULES,
    **elementwise.RULES,
    **losses.RULES,
    **norm.RULES,
    **columns.RULES,
}


# Rows of the caller, each in a page of its own, that a gradient may pass over again and again
# without missing the first-level TLB, which has 64 entries on most processors.
_ROWS_IN_REACH = 32


# Columns of a product that reads many rows in place: each pair of blocks passes over all of them.
_COLUMNS_IN_PLACE = 256

# Steps whose parts along rows are of weights, or of stretches of them.
_ROWS_ARE_NO_SAMPLES = ("grad", "grad_column", "square_sums", "update", "average")


def column_weights(plan: Plan) -> set[str]:
    """Return the weights with one output that are kept as a column: those of a last layer."""
    readers = _readers(plan.forward)
    found = set()
    for step in plan.forward:
        if step.op != "dense" or step.reads[1].cols != 1:
            continue
        result = step.writes[0]
        behind = readers.get(result, [])
        if len(behind) == 1 and behind[0].op == "activation" and result is not plan.output:
            result = behind[0].writes[0]
        if result is plan.output and not readers.get(result):
            found.add(step.reads[1].name)
    return found


def _readers(steps: Iterable[Step]) -> dict[Value, list[Step]]:
    readers: dict[Value, list[Step]] = {}
    for step in steps:
        for value in step.reads:
            readers.setdefault(value, []).append(step)
    return readers


class Lowering:
    """The steps of one plan as the engine runs them, and the arena they need.

    Parameters
    ----------
    plan : Plan
    layout : Layout
        Of the parameters.
    states : Layout
        Of the state vectors.
    labels : bool
        Whether the targets come as class indices.
    l2_bytes : int
        Of a core's second-level cache.
    in_place : bool
        Whether the call's input rows could be read where they stand.

    Attributes
    ----------
    updates : Updates
        What happens to each parameter.
    forward, backward : list of Lowered
        `forward` begins with reading the inputs; `backward` holds loss, gradients and updates.
    arena_bytes : int
    images : list of (int, ndarray)
        What stands in the arena from the beginning: byte offsets, and programs and their constants.
    columns : list of int
        Width of each of the caller's arrays; 0 for one-dimensional ones, -1 for those not read.
    in_place : bool
        Whether the input rows are read where they stand, without a copy in the arena.
    transposes : set of str
        Weights whose transposed panels are read.
    maintained : set of str
        Weights that are updated together with their transposed panels.
    changes_states : bool
        Whether a step writes a state vector.

    Raises
    ------
    UnsupportedStep
        If the engine lacks a kernel.
    """

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        states: Layout,
        *,
        labels: bool = False,
        l2_bytes: int = 1 << 20,
        in_place: bool = False,
    ):
        self.plan = plan
        self.layout = layout
        self.block = layout.block
        self.itemsize = plan.dtype.itemsize
        self.batch = plan.batch
        self.labels = labels
        self.l2_bytes = l2_bytes
        self.activations, self.losses, self.optimizers = _native.registries()
        self.arena_bytes = 0
        self.images: list[tuple[int, np.ndarray]] = []
        self.columns = [-1, -1, -1, -1]
        self.transposes: set[str] = set()
        self.maintained: set[str] = set()
        self.changes_states = any(
            value.role == "state" for step in plan.forward for value in step.writes
        )
        self.readers = _readers(plan.steps)
        self.done: set[Step] = set()  # taken into the epilogue of another step
        self.deferred: list[Step] = []  # of which parameters get gradients and updates in the end
        self.reduction: Lowered | None = None  # the mean of the rows' losses
        self.squares: list[Matrix] = []  # sums of squares that it is completed with, side by side
        self.forward: list[Lowered] = []
        self.backward: list[Lowered] = []
        self.updates = Updates(self)
        self._states = states
        self._matrices: dict[object, Matrix] = {}
        self._makers = {value: step for step in plan.steps for value in step.writes}
        self._lowered_by: dict[Value, Lowered] = {}
        self._forward_steps = set(plan.forward)
        self._train_steps: list[Lowered] | None = None
        self._column_weights = {
            name for name, place in layout.places.items() if place.transposed is None
        }
        self.in_place = in_place and self._products_alone_read(plan.input)
        self._walk()

    def _products_alone_read(self, x: Value) -> bool:
        widest = _COLUMNS_IN_PLACE if self.batch > _ROWS_IN_REACH else math.inf
        return x is not self.plan.output and all(
            (
                step.op == "dense"
                and step.reads[1].name not in self._column_weights
                and step.writes[0].cols <= widest
            )
            or (step.op == "dense_backward_params" and step.writes[0].cols > 1)
            for step in self.readers.get(x, ())
        )

    def _walk(self) -> None:
        plan = self.plan
        self._steps = self.forward
        if self.in_place:
            self.columns[INPUTS] = plan.input.cols
        else:
            reading.rows(self, self.matrix(plan.input), INPUTS)
        for step in plan.forward:
            self._lower(step)
        self._steps = self.backward
        for step in plan.loss:
            self._lower(step)
        if not plan.loss and plan.backward:
            reading.rows(self, self.matrix(plan.output_gradient), reading.GRADIENT)
        for step in plan.backward:
            self._lower(step)
        self._gradients()
        for name in self.updates.finish():
            if name in self.transposes:
                self.maintained.add(name)
                self.emit(dense.transpose(self, plan.parameters[name]))
        for step in plan.update:
            if step.op == "max_norm":
                norm.limit(self, step)
        self.updates.average()
        # A column is contiguous: parts along rows must not share a vector of it.
        if any(matrix.column for matrix in self._matrices.values()):
            for step in self.forward + self.backward:
                if "rows" in step.axes and step.op not in _ROWS_ARE_NO_SAMPLES:
                    step.row_unit = 16

    def _gradients(self) -> None:
        for step in reversed(self.deferred):
            if step.op == "dense_backward_params":
                dense.gradient(self, step)
            else:
                dense.updates(self, step)

    def _lower(self, step: Step) -> None:
        if step in self.done:
            return
        if step.op not in RULES:
            raise UnsupportedStep(step.op)
        RULES[step.op](self, step)

    # ---- what rules ask and tell ----

    @property
    def samples(self) -> int:
        """Rows of the mini-batch, over which the loss is a mean."""
        return self.batch

    def emit(self, lowered: Lowered, *makes: Value) -> Lowered:
        """Append a step; `makes` are the values of the plan that it computes."""
        self._steps.append(lowered)
        for value in makes:
            self._lowered_by[value] = lowered
        return lowered

    def emit_once(self, lowered: Lowered) -> None:
        """Append a step that is made once for a mini-batch, not chunk by chunk."""
        self.emit(lowered)

    def maker(self, value: Value) -> Lowered | None:
        """Return the lowered step that computes a value."""
        return self._lowered_by.get(value)

    def made_by(self, value: Value, lowered: Lowered) -> None:
        """Note that a step already emitted computes a value in its epilogue."""
        self._lowered_by[value] = lowered

    def sole_reader(self, value: Value, op: str) -> Step | None:
        """Return the step that reads a value if there is one forward reader only, of this op."""
        readers = [step for step in self.readers.get(value, ()) if step in self._forward_steps]
        if value is not self.plan.output and len(readers) == 1 and readers[0].op == op:
            return readers[0]
        return None

    def blocks(self, cols: int) -> int:
        """Return in how many column blocks a matrix is stored."""
        return -(-cols // self.block)

    # ---- memory ----

    def allocate(
        self, rows: int, cols: int, *, column: bool = False, panel: bool = False
    ) -> Matrix:
        """Return a new matrix of the arena: a contiguous column, or laid out as a weight."""
        matrix = Matrix(ARENA, self.arena_bytes, rows, cols, column)
        if column:
            lines = -(-rows // 16) * 16 // self.block
        else:
            apart = self.blocks(rows) * self.block if panel else lines_of(rows)
            lines = self.blocks(cols) * apart
        self.arena_bytes += lines * 64
        return matrix

    def matrix(self, value: Value) -> Matrix:
        """Return where a value stands; it gets its place when it is asked for first."""
        matrix = self._matrices.get(value)
        if matrix is None:
            if value.role == "parameter":
                place = self.layout.places[value.name]
                matrix = Matrix(
                    PARAMETERS, place.panel, value.rows, value.cols, place.transposed is None
                )
            elif value.role == "state":
                place = self._states.places[value.name]
                matrix = Matrix(STATES, place.panel, value.rows, value.cols)
            else:
                matrix = self.allocate(value.rows, value.cols, column=self._is_column(value))
            self._matrices[value] = matrix
        return matrix

    def left(self, x: Value, *, in_gradient: bool = False) -> dict[int, Matrix]:
        """Return operand 0 of a product; there is none where it reads the caller's rows."""
        reads_rows = self.in_place and x is self.plan.input
        if reads_rows and not (in_gradient and self.copies_input):
            return {}
        return {0: self.matrix(x)}

    @property
    def copies_input(self) -> bool:
        """Whether the rows read in place are copied for the gradient."""
        readers = self.readers.get(self.plan.input, ())
        summed = any(step.op == "dense_backward_params" for step in readers)
        return self.in_place and summed and self.batch > _ROWS_IN_REACH

    def placed(self, value: Value) -> bool:
        """Return whether a value has been given its place."""
        return value in self._matrices

    def place(self, value: Value, matrix: Matrix) -> None:
        """Let a value stand where another one stood."""
        self._matrices[value] = matrix

    def transposed(self, weight: Value) -> Matrix:
        """Return the transposed panel of a weight."""
        key = ("transposed", weight)
        matrix = self._matrices.get(key)
        if matrix is None:
            place = self.layout.places[weight.name]
            matrix = self._matrices[key] = Matrix(
                TRANSPOSED, place.transposed, weight.cols, weight.rows
            )
        return matrix

    def image(self, values: np.ndarray) -> Matrix:
        """Put an array into the arena as it is; nothing writes there."""
        matrix = Matrix(ARENA, self.arena_bytes, 1, values.size)
        self.images.append((matrix.offset, values))
        self.arena_bytes += max(-(-values.nbytes // 64), 1) * 64
        return matrix

    def _is_column(self, value: Value) -> bool:
        if value.role == "row_loss" or (value.role == "sample_weight" and value.cols == 1):
            return True
        if value.cols != 1 or not self._column_output:
            return False
        plan = self.plan
        if value in (plan.output, plan.target, plan.output_gradient):
            return True
        # the sum behind the output's activation
        maker = self._makers.get(plan.output)
        return maker is not None and maker.op == "activation" and value is maker.reads[0]

    @property
    def _column_output(self) -> bool:
        maker = self._makers.get(self.plan.output)
        if maker is not None and maker.op == "activation":
            maker = self._makers.get(maker.reads[0])
        return (
            maker is not None
            and maker.op == "dense"
            and maker.reads[1].name in self._column_weights
        )

    # ---- programs ----

    def train_steps(self) -> list[Lowered]:
        """Return forward, loss, backward and update of a mini-batch."""
        if self._train_steps is None:
            self._train_steps = self._ordered()
        return self._train_steps

    def _ordered(self) -> list[Lowered]:
        backward = list(self.backward)
        place = next(i for i, s in enumerate(backward) if s.op.startswith("loss")) + 1
        # The loss is added up while others compute gradients: it stands where a barrier is due
        # anyhow.
        after = next(
            (i for i in range(place, len(backward)) if backward[i].op.startswith("grad")),
            len(backward),
        )
        return self.forward + backward[:after] + [self.reduction] + backward[after:]

    def predict_steps(self) -> list[Lowered]:
        """Return forward, and what writes the output into the caller's row-major rows."""
        return [*self.forward, reading.scatter(self, self.plan.output)]

    def backward_steps(self) -> list[Lowered]:
        """Return backward, and what writes the input's gradient into the caller's rows."""
        return [*self.backward, reading.scatter(self, self.plan.input_gradient)]

    def transpose_steps(self, names: Iterable[str]) -> list[Lowered]:
        """Return what brings the transposed panels of weights into step with the weights."""
        return [dense.transpose(self, self.plan.parameters[name]) for name in sorted(names)]

    def elementwise(
        self,
        op: str,
        out: Value,
        reads: dict[int, Value],
        *,
        rowwise: bool = False,
        arg: dict[int, int] | None = None,
        num: dict[int, float] | None = None,
    ) -> Lowered:
        """Emit a step that visits its matrices element by element, or row by row.

        Its result is operand 3; a column is seen as one block column of rows / block rows.
        """
        result = self.matrix(out)
        at = {slot: self.matrix(value) for slot, value in reads.items()} | {3: result}
        if result.column:
            rows, cols, axes = -(-result.rows // self.block), self.block, ()
            accesses = tuple(Access(matrix, "all", "all") for matrix in at.values())
            write = Access(result, "all", "all")
        else:
            rows, cols = result.rows, result.cols
            axes = ("rows",) if rowwise else ("rows", "columns")
            columns = "all" if rowwise else "cols"
            accesses = tuple(
                Access(matrix, "all" if matrix.base in (STATES, PARAMETERS) else "rows", columns)
                for slot, matrix in at.items()
                if slot != 3
            )
            write = Access(result, "rows", columns)
        lowered = Lowered(
            op, rows, cols, 0, at, accesses, (write,), (rows, self.blocks(cols)), axes
        )
        lowered.arg.update(arg or {})
        lowered.num.update(num or {})
        return self.emit(lowered, out)
