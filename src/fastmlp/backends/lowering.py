"""Lowering: from the mathematical steps of a plan to a program of the native engine.

A dense step takes the activation behind it, or the derivative of the activation below
it, into its epilogue; the gradient of a weight goes straight from the registers into the
optimizer's rule, so that it never exists in memory. All gradients of activations are computed
before any weight changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from fastmlp import _native
from fastmlp.backends.programs import encode, loss_program
from fastmlp.loss_base import ElementwiseLoss

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from fastmlp.backends.layout import Layout
    from fastmlp.backends.programs import Encoded
    from fastmlp.plan import Plan, Step, Value


# Bases of operands, in the order in which `Program` gets its buffers.
ARENA, PARAMETERS, TRANSPOSED, STATES, GRADIENTS, SLOTS = range(6)
# Sources of a call.
INPUTS, TARGETS, WEIGHTS, GRADIENT = range(4)

HYPER = 8
# Share of the second-level cache that the operand which is passed over again and again may fill.
_L2_SHARE = 0.5
_FINISH_NONE, _FINISH_FORWARD, _FINISH_BACKWARD = range(3)


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
    it all. `reads_input` marks the product of the first layer.
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
    arg: dict[int, int] = field(default_factory=dict)
    num: dict[int, float] = field(default_factory=dict)


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

    Attributes
    ----------
    forward, backward : list of Lowered
        `forward` begins with reading the inputs; `backward` holds loss, gradients and updates.
    arena_bytes : int
    images : list of (int, ndarray)
        What stands in the arena from the beginning: byte offsets, and programs and their constants.
    transposes : frozenset of str
        Weights whose transposed panels are read.
    maintained : frozenset of str
        Weights that are updated together with their transposed panels.

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
    ):
        self.plan = plan
        self.layout = layout
        self.block = layout.block
        self.itemsize = plan.dtype.itemsize
        self.batch = plan.batch
        self._states = states
        self._labels = labels
        self._l2 = l2_bytes * _L2_SHARE
        self._activations, self._losses, self._optimizers = _native.registries()
        self.arena_bytes = 0
        self.images: list[tuple[int, np.ndarray]] = []
        self.columns = [-1, -1, -1, -1]
        self._matrices: dict[Value, Matrix] = {}
        self._readers = _readers(plan.steps)
        self._done: set[Step] = set()
        self._forward_steps = set(plan.forward)
        self._makers = {value: step for step in plan.steps for value in step.writes}
        self._lowered_by: dict[Value, Lowered] = {}
        self._column_weights = {
            name for name, place in layout.places.items() if place.transposed is None
        }
        self._deferred: list[Step] = []
        self._transposes: set[str] = set()
        self._maintained: set[str] = set()
        self.forward: list[Lowered] = []
        self.backward: list[Lowered] = []

        self._steps = self.forward
        self._read_inputs()
        for step in plan.forward:
            self._lower(step)
        self._steps = self.backward
        for step in plan.loss:
            self._lower(step)
        if not plan.loss and plan.backward:
            self._read_gradient()
        for step in plan.backward:
            self._lower(step)
        for step in reversed(self._deferred):
            self._gradient(step)
        self.transposes = frozenset(self._transposes)
        self.maintained = frozenset(self._maintained)
        # A column is contiguous: parts along rows must not share a vector of it.
        if any(matrix.column for matrix in self._matrices.values()):
            for step in self.forward + self.backward:
                if "rows" in step.axes and step.op not in ("grad", "grad_column"):
                    step.row_unit = 16

    # ---- values and memory ----

    def _allocate(self, rows: int, cols: int, column: bool = False) -> Matrix:
        matrix = Matrix(ARENA, self.arena_bytes, rows, cols, column)
        lines = -(-rows // 16) * 16 // self.block if column else -(-cols // self.block) * (rows | 1)
        self.arena_bytes += lines * 64
        return matrix

    def _matrix(self, value: Value) -> Matrix:
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
                matrix = self._allocate(value.rows, value.cols, self._is_column(value))
            self._matrices[value] = matrix
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

    def _image(self, values: np.ndarray) -> Matrix:
        """Put an array into the arena as it is; nothing writes there."""
        matrix = Matrix(ARENA, self.arena_bytes, 1, values.size)
        self.images.append((matrix.offset, values))
        self.arena_bytes += max(-(-values.nbytes // 64), 1) * 64
        return matrix

    def _transposed(self, weight: Value) -> Matrix:
        """The transposed panel, made once so that accesses to it can be compared."""
        key = ("transposed", weight)
        matrix = self._matrices.get(key)
        if matrix is None:
            place = self.layout.places[weight.name]
            matrix = self._matrices[key] = Matrix(
                TRANSPOSED, place.transposed, weight.cols, weight.rows
            )
        return matrix

    def _blocks(self, cols: int) -> int:
        return -(-cols // self.block)

    # ---- reading and writing the caller's arrays ----

    def _read(self, matrix: Matrix, source: int, op: str = "gather") -> None:
        if matrix.column:
            self._steps.append(
                Lowered(
                    "gather_column",
                    matrix.rows,
                    1,
                    0,
                    {3: matrix},
                    (),
                    (Access(matrix, "rows", "all"),),
                    (matrix.rows, 1),
                    ("rows",),
                    arg={0: source},
                )
            )
            self.columns[source] = 1
            return
        axes = ("rows",) if op == "gather_labels" else ("rows", "columns")
        self._steps.append(
            Lowered(
                op,
                matrix.rows,
                matrix.cols,
                0,
                {3: matrix},
                (),
                (Access(matrix, "rows", "cols"),),
                (matrix.rows, self._blocks(matrix.cols)),
                axes,
                arg={0: source},
            )
        )
        self.columns[source] = 0 if op == "gather_labels" else matrix.cols

    def _read_inputs(self) -> None:
        self._read(self._matrix(self.plan.input), INPUTS)

    def _read_gradient(self) -> None:
        self._read(self._matrix(self.plan.output_gradient), GRADIENT)

    def scatter(self, value: Value) -> Lowered:
        """Return the step that writes a value into the caller's row-major rows."""
        matrix = self._matrix(value)
        op = "scatter_column" if matrix.column else "scatter"
        return Lowered(
            op,
            matrix.rows,
            matrix.cols,
            0,
            {0: matrix},
            (Access(matrix, "rows", "cols"),),
            (),
            (matrix.rows, self._blocks(matrix.cols)),
            ("rows",),
        )

    # ---- steps ----

    def _lower(self, step: Step) -> None:
        if step in self._done:
            return
        method = getattr(self, f"_{step.op}", None)
        if method is None:
            raise UnsupportedStep(step.op)
        method(step)

    def _program(self, program: Encoded) -> tuple[dict[int, Matrix], dict[int, int]]:
        """Operands and integers of a step that runs an element-wise program."""
        at = {6: self._image(program.lines), 7: self._image(program.constants)}
        arg = {2: len(program.lines), 3: len(program.constants), 4: program.registers}
        return at, arg | dict(enumerate(program.outputs, 5))

    def _activate_by_program(
        self, step: Step, output: int, out: Value, reads: dict[int, Value]
    ) -> None:
        """Apply one of the outputs of an activation's program, f or f'."""
        program = getattr(step.attrs["fn"], "program", None)
        encoded = encode(program.select(output), self.plan.dtype) if program else None
        if encoded is None:
            raise UnsupportedStep(f"activation {step.attrs['fn'].name}")
        at, arg = self._program(encoded)
        result = self._matrix(out)
        arg[7] = result.rows if result.column else 0
        op = "activate_program_backward" if output else "activate_program"
        self._whole(op, step, out, reads, arg=arg)
        self._steps[-1].at.update(at)

    def _has_kernel(self, step: Step) -> bool:
        """Whether an activation is one of the engine's; another has a program, if anything."""
        return step.attrs["fn"].name in self._activations

    def _activation_number(self, step: Step) -> tuple[int, float]:
        function = step.attrs["fn"]
        number = self._activations.get(function.name)
        if number is None:
            raise UnsupportedStep(f"activation {function.name}")
        return number, function.alpha

    def _sole_reader(self, value: Value, op: str) -> Step | None:
        """The step that reads a value if there is one forward reader only, of this op."""
        readers = [step for step in self._readers.get(value, ()) if step in self._forward_steps]
        if value is not self.plan.output and len(readers) == 1 and readers[0].op == op:
            return readers[0]
        return None

    def _dense(self, step: Step) -> None:
        x, weight, *bias = step.reads
        result, sums = step.writes[0], None
        finish, number, alpha = _FINISH_NONE, 0, 0.0
        activation = self._sole_reader(result, "activation")
        if activation is not None and self._has_kernel(activation):
            finish, (number, alpha) = _FINISH_FORWARD, self._activation_number(activation)
            self._done.add(activation)
            if activation.attrs["fn"].derivative_from == "input" and self.plan.backward:
                sums = result
            result = activation.writes[0]
        x_matrix, w, out = self._matrix(x), self._matrix(weight), self._matrix(result)
        at = {0: x_matrix, 1: w, 3: out}
        if bias:
            at[2] = self._matrix(bias[0])
        if sums is not None:
            at[4] = self._matrix(sums)
        self._product(step, at, x.cols, x_matrix, w, (finish, number, alpha))

    def _product(
        self, step: Step, at: dict[int, Matrix], depth: int, a: Matrix, b: Matrix, finish: tuple
    ) -> None:
        out = at[3]
        kind, number, alpha = finish
        arg, num = {0: kind, 1: number, 2: self._rows_in_cache(depth)}, {0: alpha}
        if out.column:
            op, axes, grid, columns = "dense_column", ("rows",), (out.rows, 1), "all"
        else:
            op, axes, grid, columns = (
                "dense",
                ("rows", "columns"),
                (out.rows, self._blocks(out.cols)),
                "cols",
            )
        reads = [Access(a, "rows", "all"), Access(b, "all", columns)]
        writes = [Access(out, "rows", columns)]
        if 2 in at:
            reads.append(Access(at[2], "all", columns))
        if 4 in at:
            writes.append(Access(at[4], "rows", columns))
        if 5 in at:
            reads.append(Access(at[5], "rows", columns))
        self._emit(
            step,
            Lowered(
                op,
                out.rows,
                out.cols,
                depth,
                at,
                tuple(reads),
                tuple(writes),
                grid,
                axes,
                reads_input=a is self._matrix(self.plan.input),
                arg=arg,
                num=num,
            ),
        )

    def _rows_in_cache(self, depth: int) -> int:
        """Rows of one chunk of the sum that fit into the share of L2."""
        return max(24, int(self._l2 // (min(depth, 256) * self.itemsize)))

    def _emit(self, step: Step, lowered: Lowered) -> None:
        self._steps.append(lowered)
        for value in step.writes:
            self._lowered_by[value] = lowered

    def _whole(
        self,
        op: str,
        step: Step,
        out: Value,
        reads: dict[int, Value],
        *,
        rowwise: bool = False,
        **more,
    ) -> None:
        """A step that visits its matrices element by element, or row by row."""
        result = self._matrix(out)
        at = {slot: self._matrix(value) for slot, value in reads.items()} | {3: result}
        columns = "all" if rowwise else "cols"
        vectors = {slot for slot, matrix in at.items() if matrix.base == STATES}
        accesses = tuple(
            Access(matrix, "all" if slot in vectors else "rows", columns)
            for slot, matrix in at.items()
            if slot != 3
        )
        blocks = self._blocks(result.cols)
        grid = (result.rows, blocks)
        if result.column:  # seen as one block column of rows / block rows
            rows = -(-result.rows // self.block)
            lowered = Lowered(
                op,
                rows,
                self.block,
                0,
                at,
                tuple(Access(m, "all", "all") for m in at.values()),
                (Access(result, "all", "all"),),
                (rows, 1),
                (),
            )
        else:
            axes = ("rows",) if rowwise else ("rows", "columns")
            lowered = Lowered(
                op,
                result.rows,
                result.cols,
                0,
                at,
                accesses,
                (Access(result, "rows", columns),),
                grid,
                axes,
            )
        lowered.arg.update(more.get("arg", {}))
        lowered.num.update(more.get("num", {}))
        self._emit(step, lowered)

    def _activation(self, step: Step) -> None:
        if not self._has_kernel(step):
            self._activate_by_program(step, 0, step.writes[0], {0: step.reads[0]})
            return
        number, alpha = self._activation_number(step)
        self._whole(
            "activate", step, step.writes[0], {0: step.reads[0]}, arg={1: number}, num={0: alpha}
        )

    def _softmax(self, step: Step) -> None:
        self._whole("softmax", step, step.writes[0], {0: step.reads[0]}, rowwise=True)

    def _standardize(self, step: Step) -> None:
        x, mean, scale = step.reads
        self._whole("affine", step, step.writes[0], {0: x, 1: mean, 2: scale})

    def _add(self, step: Step) -> None:
        u, v = step.reads
        self._whole("add", step, step.writes[0], {0: u, 1: v})

    def _activation_backward(self, step: Step) -> None:
        da, z, a = step.reads
        # Nobody else needs the gradient before the derivative: it is multiplied where it lies.
        alone = len(self._readers[da]) == 1
        if alone:
            self._matrices[step.writes[0]] = self._matrix(da)
        if not self._has_kernel(step):
            self._activate_by_program(step, 1, step.writes[0], {0: da, 5: z})
            return
        number, alpha = self._activation_number(step)
        source = z if step.attrs["fn"].derivative_from == "input" else a
        maker = self._lowered_by.get(da)
        if (
            alone
            and maker is not None
            and maker.op in ("dense", "outer_column")
            and maker.arg[0] == _FINISH_NONE
        ):
            slope = self._matrix(source)
            maker.at[5] = slope
            maker.arg.update({0: _FINISH_BACKWARD, 1: number})
            maker.num[0] = alpha
            maker.reads += (Access(slope, "rows", "cols"),)
            self._lowered_by[step.writes[0]] = maker
            return
        self._whole(
            "activate_backward",
            step,
            step.writes[0],
            {0: da, 5: source},
            arg={1: number},
            num={0: alpha},
        )

    def _softmax_backward(self, step: Step) -> None:
        da, a = step.reads
        self._whole("softmax_backward", step, step.writes[0], {0: da, 5: a}, rowwise=True)

    def _standardize_backward(self, step: Step) -> None:
        dy, scale = step.reads
        self._whole("affine_backward", step, step.writes[0], {0: dy, 2: scale})

    def _loss(self, step: Step) -> None:
        loss = step.attrs["loss"]
        number = self._losses.get(loss.kernel)
        program = loss_program(loss, step.reads[0].cols, self.plan.dtype)
        if number is None and program is None:
            raise UnsupportedStep(f"loss {loss.name}")
        (y_hat, y, *weights), (row_loss, grad) = step.reads, step.writes
        elementwise = isinstance(loss, ElementwiseLoss)
        if weights and weights[0].cols > 1 and not elementwise and program is None:
            raise UnsupportedStep(f"weights of the outputs in {loss.name}, which joins them")
        target = self._matrix(y)
        self._read(
            target, TARGETS, "gather_labels" if self._labels and not target.column else "gather"
        )
        prediction, gradient, values = (
            self._matrix(y_hat),
            self._matrix(grad),
            self._matrix(row_loss),
        )
        at = {0: prediction, 1: target, 3: gradient, 4: values}
        unit = 1.0 / loss.divisor(y_hat.cols) if elementwise else 1.0
        mean = 1.0 / y_hat.rows
        if weights:
            # Shares add up to one, so the sum over the rows is their mean.
            at[2], mean = self._read_shares(weights[0]), 1.0
        op, arg = "loss", {0: number or 0, 1: 2 in at and not at[2].column}
        if number is None:
            operands, integers = self._program(program)
            op, at, arg = "loss_program", at | operands, arg | integers
        if prediction.column:
            op += "_column"
        self._emit(
            step,
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
                num={
                    0: unit,
                    1: unit * mean,
                    2: loss.alpha,
                    3: loss.limit(self.plan.dtype),
                },
            ),
        )
        self._reduction = Lowered(
            "reduce_loss",
            y_hat.rows,
            1,
            0,
            {4: values},
            (Access(values, "all", "all"),),
            (),
            (1, 1),
            (),
            num={0: mean},
        )

    def _read_shares(self, weight: Value) -> Matrix:
        """Weights of the samples (a column) or of the outputs, divided by their sum."""
        share = self._matrix(weight)
        self._steps.append(
            Lowered(
                "gather_shares",
                share.rows,
                share.cols,
                0,
                {3: share},
                (),
                (Access(share, "rows", "all"),),
                (share.rows, 1),
                ("rows",),
                arg={0: WEIGHTS},
            )
        )
        self.columns[WEIGHTS] = 0 if share.column else share.cols
        return share

    def _dense_backward_input(self, step: Step) -> None:
        dz, weight = step.reads
        out, gradient, w = self._matrix(step.writes[0]), self._matrix(dz), self._matrix(weight)
        if w.column:
            self._emit(
                step,
                Lowered(
                    "outer_column",
                    out.rows,
                    out.cols,
                    1,
                    {0: gradient, 1: w, 3: out},
                    (Access(gradient, "rows", "all"), Access(w, "all", "all")),
                    (Access(out, "rows", "cols"),),
                    (out.rows, self._blocks(out.cols)),
                    ("rows", "columns"),
                    arg={0: _FINISH_NONE},
                ),
            )
            return
        self._transposes.add(weight.name)
        panel = self._transposed(weight)
        self._product(
            step, {0: gradient, 1: panel, 3: out}, dz.cols, gradient, panel, (_FINISH_NONE, 0, 0.0)
        )

    def _dense_backward_params(self, step: Step) -> None:
        self._deferred.append(step)

    def _gradient(self, step: Step) -> None:
        """The gradient of a weight and its bias, with penalties and update, or written out."""
        x, dz = step.reads
        weight, *bias = (self._parameter_of(grad) for grad in step.writes)
        name, names = weight.name, [weight.name, *(b.name for b in bias)]
        place = self.layout.places[name]
        updates = {s.attrs["parameter"]: s for s in self.plan.update if s.op == "update"}
        penalty = next(
            (s.attrs for s in self.plan.update if s.op == "penalty" and s.reads[0] is weight), None
        )
        arg, num = {2: self._blocks_in_cache()}, {}
        if penalty:
            num = {0: penalty["l1"], 1: penalty["l2"]}
        if name in updates:
            optimizer = updates[name].attrs["optimizer"]
            groups = [updates[n].attrs["group"] for n in names]
            number = self._optimizers.get(optimizer.kernel)
            if number is None:
                raise UnsupportedStep(f"optimizer {optimizer.name}")
            slot_bases = [SLOTS + i for i in range(len(optimizer.slots))]
        else:
            number, slot_bases, groups = self._optimizers["store"], [GRADIENTS], [0] * len(names)
        arg |= {0: number, 1: groups[0], 3: groups[-1]}
        x_matrix, gradient, w = self._matrix(x), self._matrix(dz), self._matrix(weight)
        at = {0: x_matrix, 1: gradient, 2: w}
        writes = []
        for i, base in enumerate(slot_bases):
            at[5 + i] = Matrix(base, place.panel, w.rows, w.cols)
        for b in bias:
            at[3] = self._matrix(b)
            for i, base in enumerate(slot_bases):
                at[8 + i] = Matrix(base, self.layout.places[b.name].panel, 1, b.cols)
        rows_axis, cols_axis = ("all", "cols") if w.column else ("rows", "cols")
        if name in updates:
            writes.append(Access(w, rows_axis, cols_axis))
            if bias:
                writes.append(Access(at[3], "all", "all" if w.column else "cols"))
            if name in self._transposes:
                self._maintained.add(name)
                at[4] = self._transposed(weight)
                writes.append(Access(at[4], "cols", "rows"))
        reads = [
            Access(x_matrix, "all", "cols" if w.column else "rows"),
            Access(gradient, "all", "all" if w.column else "cols"),
        ]
        if w.column:
            grid, op, axes, unit = (1, self._blocks(w.rows)), "grad_column", ("columns",), 1
        else:
            grid, op, axes, unit = (
                (w.rows, self._blocks(w.cols)),
                "grad",
                ("columns", "rows"),
                self.block,
            )
        self._steps.append(
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
                arg=arg,
                num=num,
            )
        )

    def _parameter_of(self, gradient: Value) -> Value:
        for name, value in self.plan.parameter_gradients.items():
            if value is gradient:
                return self.plan.parameters[name]
        raise KeyError(gradient.name)

    def _blocks_in_cache(self) -> int:
        """Column blocks of dZ, over the whole batch, that fit into the share of L2."""
        return max(1, int(self._l2 // (self.batch * 64)))

    # ---- programs ----

    def train_steps(self) -> list[Lowered]:
        """Forward, loss, backward and update of a mini-batch."""
        backward = list(self.backward)
        place = next(i for i, s in enumerate(backward) if s.op.startswith("loss")) + 1
        # The loss is added up while others compute gradients: it stands where a barrier is due
        # anyhow.
        after = next(
            (i for i in range(place, len(backward)) if backward[i].op.startswith("grad")),
            len(backward),
        )
        return self.forward + backward[:after] + [self._reduction] + backward[after:]

    def transpose_steps(self, names: Iterable[str]) -> list[Lowered]:
        """Bring the transposed panels of weights into step with the weights."""
        steps = []
        for name in sorted(names):
            weight = self.plan.parameters[name]
            w, panel = self._matrix(weight), self._transposed(weight)
            steps.append(
                Lowered(
                    "transpose",
                    w.rows,
                    w.cols,
                    0,
                    {2: w, 4: panel},
                    (Access(w, "rows", "cols"),),
                    (Access(panel, "cols", "rows"),),
                    (w.rows, self._blocks(w.cols)),
                    ("columns",),
                )
            )
        return steps
