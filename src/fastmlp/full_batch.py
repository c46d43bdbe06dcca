"""A model and its data as a problem for the optimizers of the whole batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.backends import BaseExecutor
from fastmlp.objective import CHUNK_ROWS, MeanLoss
from fastmlp.plan import build
from fastmlp.second_order import FullBatchOptimizer, Point

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.sources import Source

    Vector = NDArray[np.float64]

# Operations of a training that give another result each time, or mix the rows of a mini-batch.
_UNSTEADY = {"dropout": "Dropout", "noise": "GaussianNoise", "batch_norm": "BatchNorm"}


class ModelProblem:
    """The loss of some samples, with its l2 penalty, as a function of all parameters.

    Each evaluation leaves its parameters in the model.

    Parameters
    ----------
    kind : type of BaseExecutor
        Of the backend.
    model : Sequential
        With known sizes.
    loss : Loss
    source : Source
        The samples.
    l2 : float
    threads : int, optional

    Attributes
    ----------
    evaluations : int
    """

    def __init__(
        self,
        kind: type[BaseExecutor],
        model: Sequential,
        loss: Loss,
        source: Source,
        l2: float,
        threads: int | None = None,
    ):
        self.model, self.loss, self.source = model, loss, source
        self.evaluations = 0
        # A function of the user's is one of the whole mini-batch, which only it knows to join.
        rows = source.n if loss.kernel is None else min(source.n, CHUNK_ROWS)
        starts = np.arange(0, source.n, rows)
        weight = source.sample_weight
        if weight is None:
            weights = np.minimum(rows, source.n - starts).astype(np.float64)
        else:
            each = weight if weight.ndim == 1 else weight.sum(axis=1)
            weights = np.add.reduceat(each, starts)
        self.mean = MeanLoss(kind, model, loss, rows, weights, threads)
        self._windows = [(source, None, 0, len(weights))]
        self.penalty = np.zeros(model.parameter_count)
        for spec in model.parameter_specs:
            if spec.decay and spec.trainable:
                self.penalty[spec.offset : spec.offset + spec.size] = l2

    def parameters(self) -> Vector:
        """Return a copy of the model's parameters."""
        return self.model.flat_parameters.array().astype(np.float64)

    def assign(self, x: Vector) -> None:
        """Give the model these parameters."""
        with np.errstate(over="ignore"):  # what overflows is seen in the loss
            self.model.flat_parameters.array()[...] = x

    def evaluate(self, x: Vector) -> Point:
        """Return value and gradient at `x`, rounded to the model's dtype."""
        self.assign(x)
        x = self.parameters()
        self.evaluations += 1
        with np.errstate(all="ignore"):
            loss, gradient = self.mean(self._windows)
            pull = self.penalty * x
            value = loss + 0.5 * float(pull @ x)
            gradient = gradient + pull
            if not (np.isfinite(value) and np.isfinite(gradient).all()):
                value = np.inf
        return Point(x, value, gradient, loss)

    def normal_equations(self, x: Vector) -> tuple[Vector, Vector, Vector]:
        """Return the gradient and JᵀJ at `x`, and the indices of the parameters trained."""
        from fastmlp.normal_equations import normal_equations

        slices = self.model.trainable_slices()
        places = np.concatenate([np.arange(part.start, part.stop) for part in slices])
        gradient, curvature = normal_equations(self.model, self.loss, self.source, x)
        pull = self.penalty[places]
        gradient += pull * x[places]
        curvature[np.diag_indices_from(curvature)] += pull
        return gradient, curvature, places


class FullBatchExecutor(BaseExecutor):
    """Trains by iterations of an optimizer of the whole batch; a mini-batch is one of them.

    Nothing changes in an iteration that fails or is interrupted, and no step is made to where
    something is not finite: there is nothing to restore.
    """

    optimizer: FullBatchOptimizer

    def __init__(
        self, kind: type[BaseExecutor], model: Sequential, loss: Loss, **settings: Any
    ) -> None:
        super().__init__(model, loss, **settings)
        self._kind = kind
        self._outputs = kind(model, threads=self.threads)
        self._problem: ModelProblem | None = None
        # Now, before layers learn from data, and again where layers have been frozen or thawed.
        _check_model(model, self.optimizer)
        self._revision = model.revision
        self._point: Point | None = None

    def train(
        self,
        source: Source,
        order: np.ndarray | None,
        batch_size: int,
        first: int,
        last: int,
        losses: np.ndarray,
    ) -> None:
        optimizer, model = self.optimizer, self.model
        problem = self._problem
        if self._revision != model.revision:
            _check_model(model, optimizer)
            problem = None
        if problem is None or problem.source is not source:
            threads = self.threads or optimizer.evaluation_threads
            problem = ModelProblem(self._kind, model, self.loss, source, self.l2, threads)
            self._problem, self._revision, self._point = problem, model.revision, None
        state = optimizer.state_for(model)
        report = optimizer.report(model)
        x = problem.parameters()
        before = problem.evaluations
        try:
            point = self._point
            if point is None or not np.array_equal(point.x, x):
                point = problem.evaluate(x)
            losses[first] = point.loss if np.isfinite(point.value) else np.nan
            if np.isfinite(point.value):
                slots = [slot.array() for slot in state.slots]
                with np.errstate(all="ignore"):  # what overflows ends as a step not taken
                    reached, report.stopped = optimizer.iterate(problem, point, slots, state.step)
                moved = int(reached is not point)
                point, x = reached, reached.x
                state.step += moved
                report.iterations += moved
                model.stop_training = report.stopped is not None
            self._point = point
        finally:
            report.evaluations += problem.evaluations - before
            problem.assign(x)

    def snapshot(self) -> None:
        """Nothing: see the class."""

    def restore(self) -> None:
        """Nothing: see the class."""

    # --- the model's outputs are the backend's affair ---

    def predict(
        self, x: np.ndarray, out: np.ndarray, batch_size: int | None, logits: bool = False
    ) -> None:
        self._outputs.predict(x, out, batch_size, logits)


def _check_model(model: Sequential, optimizer: FullBatchOptimizer) -> None:
    """Raise ValueError if the loss of a model is no function of its parameters alone."""
    name = type(optimizer).__name__
    for step in build(model, 2, training=True).forward:
        if step.op in _UNSTEADY:
            raise ValueError(
                f"{name} needs a loss that depends on nothing but the parameters; the layer "
                f"{_UNSTEADY[step.op]} makes it depend on chance or on the mini-batch"
            )
    for spec in model.parameter_specs:
        if spec.trainable and spec.max_norm is not None:
            raise ValueError(f"{name} knows no bounds: max_norm of {spec.name} must be None")
    trained = sum(part.stop - part.start for part in model.trainable_slices())
    if trained > optimizer.most_parameters:
        raise ValueError(
            f"{name} takes models of at most {optimizer.most_parameters} trained parameters; "
            f"this one has {trained}: use LBFGS"
        )
