"""Chunks of a large mini-batch: a program that goes through all layers a few rows at a time.

A small network over thousands of rows spends its time moving activations between caches. Sums over
more than 256 rows are defined as sums of chunks (csrc/kernels/dense.inc), added from left to right,
so nothing forbids to take a chunk through the whole network at once: forward, loss, backward and
its part of every gradient, in buffers of one chunk that stay in a core's cache. Whoever is free
takes the next chunk. When all are done, the parts of the gradients are added up in their order, cut
along the parameters, and go from there into the optimizer's rule. The bits are those of any other
program.

This is possible where the steps see one row at a time; BatchNorm, and layers whose parameters are
summed otherwise than by a product, need the whole mini-batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.backends.lowering import dense
from fastmlp.backends.lowering.lowering import Lowering
from fastmlp.backends.lowering.steps import GRADIENTS, Lowered, Matrix, UnsupportedStep

if TYPE_CHECKING:
    from typing import Any

    from fastmlp.backends.layout import Layout
    from fastmlp.plan import Plan, Step, Value

# Terms of one chain of a sum, and the grain of chunks, as in csrc/kernels/dense.inc.
_CHAIN, _GRAIN = 256, 16
# What stays of every chunk stands in the place of gradients, which training never writes out.
KEPT = GRADIENTS


def chunk_starts(rows: int) -> np.ndarray:
    """Return where the chunks of a sum over some rows begin, and where the last one ends."""
    units, count = -(-rows // _GRAIN), 1
    while -(-units // count) > _CHAIN // _GRAIN:
        count *= 2
    return np.minimum(units * np.arange(count + 1) // count * _GRAIN, rows)


def largest_chunk(starts: np.ndarray) -> int:
    """Return the rows of the largest chunk."""
    return int(np.diff(starts).max())


class _Parts:
    """Stands for `Updates` while a chunk's part of each gradient is summed: all are stored."""

    def __init__(self, low: ChunkLowering):
        self._low = low
        self._places: dict[str, Matrix] = {}

    def in_registers(self, name: str) -> bool:
        return False

    def rule(self, parameter: Value) -> tuple[int, list[Matrix]]:
        return self._low.optimizers["store"], [self.result(parameter)]

    def result(self, parameter: Value) -> Matrix:
        found = self._places.get(parameter.name)
        if found is None:
            low = self._low
            offset = low.gradient_offset + low.layout.places[parameter.name].panel
            found = Matrix(KEPT, offset, parameter.rows, parameter.cols)
            self._places[parameter.name] = found
            low.moves[found] = 0, low.layout.nbytes
            low.place(low.plan.parameter_gradients[parameter.name], found)
        return found

    def group(self, name: str) -> int:
        return 0

    def limits(self, name: str) -> dict[int, float]:
        return {}


class ChunkLowering(Lowering):
    """The steps of a mini-batch of which some are repeated for each chunk. See `Lowering`.

    Parameters
    ----------
    plan : Plan
        Of the largest chunk.
    layout, states
        As for `Lowering`.
    starts : ndarray
        From `chunk_starts`.
    settings
        As for `Lowering`.

    Attributes
    ----------
    starts : ndarray
    before, sums, after : list of Lowered
        What is made once for the mini-batch, what adds up a chunk's rows (behind `forward` and
        `backward`, which compute them), and what follows all chunks.
    moves : dict of Matrix to (int, int)
        By how many bytes a matrix moves for each row before a chunk, and for each chunk.
    arena_bytes : int
        For one worker.
    kept_bytes : int
        Of what stays of every chunk.
    """

    def __init__(
        self, plan: Plan, layout: Layout, states: Layout, starts: np.ndarray, **settings: Any
    ):
        self.starts = starts
        self.before: list[Lowered] = []
        self.sums: list[Lowered] = []
        self.after: list[Lowered] = []
        self.moves: dict[Matrix, tuple[int, int]] = {}
        self.gradient_offset = 0
        self.kept_bytes = (len(starts) - 1) * layout.nbytes
        super().__init__(plan, layout, states, **settings)
        for step in self.forward + self.backward:
            if not ("rows" in step.axes or step.at[3].column):
                raise UnsupportedStep(f"{step.op} in chunks")

    @property
    def samples(self) -> int:
        return int(self.starts[-1])

    def emit_once(self, lowered: Lowered) -> None:
        self.before.append(lowered)

    def matrix(self, value: Value) -> Matrix:
        if value.role not in ("row_loss", "sample_weight"):
            return super().matrix(value)
        matrix = self._matrices.get(value)
        if matrix is None:
            if value.cols > 1:
                raise UnsupportedStep("weights of the outputs in chunks")
            matrix = Matrix(KEPT, self.kept_bytes, self.samples, 1, column=True)
            self.kept_bytes += -(-self.samples // _GRAIN) * _GRAIN * self.itemsize
            self.moves[matrix] = self.itemsize, 0
            self._matrices[value] = matrix
        return matrix

    def _gradients(self) -> None:
        if any(step.op != "dense_backward_params" for step in self.deferred):
            raise UnsupportedStep("gradients other than of products in chunks")
        updates, self.updates = self.updates, _Parts(self)
        self._steps = self.sums
        for step in reversed(self.deferred):
            dense.gradient(self, step)
        self.updates, self._steps = updates, self.after
        for step in reversed(self.deferred):
            self._update(step)

    def _update(self, step: Step) -> None:
        first = len(self.after)
        dense.updates(self, step)
        for lowered in self.after[first:]:
            lowered.axes = ("rows",)
            lowered.arg.update({2: len(self.starts) - 2, 3: self.layout.nbytes // self.itemsize})
        weight = dense.parameter_of(self, step.writes[0])
        if self.updates.in_registers(weight.name) and weight.name in self.transposes:
            self.maintained.add(weight.name)
            self.emit(dense.transpose(self, weight))

    # ---- programs ----

    @property
    def stretch(self) -> tuple[int, int, int]:
        """Where in `train_steps` the steps begin that are repeated, their sums, and the rest."""
        first = len(self.before)
        sums = first + len(self.forward) + len(self.backward)
        return first, sums, sums + len(self.sums)

    def train_steps(self) -> list[Lowered]:
        rows = self.forward + self.backward
        return [*self.before, *rows, *self.sums, self.reduction, *self.after]
