"""Optimizers of the whole batch: L-BFGS and Levenberg–Marquardt.

They know how the loss curves, and take some hundred steps where others take a hundred thousand. In
exchange each step needs all samples, and a loss that does not change from one look to the next:
`fit` wants ``batch_size=None``, and an epoch is one iteration.

Such an optimizer is no formula for the update of each weight. It is given the problem, that is the
loss as a function of the vector of all parameters, and a point, and returns a better point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_integer, check_number, shown
from fastmlp.line_search import Trial, strong_wolfe
from fastmlp.optimizer_base import Optimizer, Setting, not_negative, pair, positive

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Protocol

    from numpy.typing import NDArray

    from fastmlp.backends import BaseExecutor
    from fastmlp.loss_base import Loss
    from fastmlp.optimizer_base import Floats, Group, Row, Slots, Values

    Vector = NDArray[np.float64]

    class Problem(Protocol):
        """What is minimized, over vectors of float64."""

        def evaluate(self, x: Vector) -> Point:
            """Return value and gradient near `x`: where its numbers fit the model's dtype."""

        def normal_equations(self, x: Vector) -> tuple[Vector, Vector, slice | Vector]:
            """Return the gradient, JᵀJ, and the places in `x` that both belong to."""


_EPS = float(np.finfo(np.float64).eps)
# First damping, in terms of the largest curvature: K. Madsen et al. say 1e-6 where the start is
# believed to be good, otherwise 1e-3.
_DAMPING = 1e-3
# So often the damping grows, by 2, 4, 8, …, before an iteration gives up: to 2⁵⁵ times.
_TRIALS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A place and what is known there.

    Attributes
    ----------
    x : ndarray of float64, shape (n,)
    value : float
        What is minimized: the loss with its penalties. Infinite where it is not finite.
    gradient : ndarray of float64, shape (n,)
    loss : float
        The loss alone.
    """

    x: Vector
    value: float
    gradient: Vector
    loss: float


@dataclass(slots=True)
class Report:
    """How far an optimizer of the whole batch got with a model.

    Attributes
    ----------
    iterations : int
        Steps made.
    evaluations : int
        Times that loss and gradient were computed.
    stopped : str or None
        Why it goes no further; None while it does.
    """

    iterations: int = 0
    evaluations: int = 0
    stopped: str | None = None


def _count(argument: str, value: Any) -> int:
    return check_integer(argument, value, low=1, high=1000)


def _inside(argument: str, value: Any) -> float:
    return check_number(argument, value, low=0.0, high=1.0, open_low=True, open_high=True)


class FullBatchOptimizer(Optimizer):
    """Base of the optimizers that see all samples in each step.

    They have no learning rate, no parameter groups, and no rows of scalars.
    """

    full_batch = True
    #: Threads that compute loss and gradient where nobody says how many; None for as many as serve.
    evaluation_threads: int | None = None
    #: Trained parameters of a model at most.
    most_parameters: float = math.inf

    def __init__(self, **settings: Any):
        import weakref

        super().__init__(**settings)
        self._reports: weakref.WeakKeyDictionary[Any, Report] = weakref.WeakKeyDictionary()

    def iterate(
        self, problem: Problem, point: Point, slots: Slots, step: int
    ) -> tuple[Point, str | None]:
        """Make one step.

        Parameters
        ----------
        problem : Problem
        point : Point
            Where it starts; its value and gradient are finite.
        slots : sequence of ndarray, shape (n,)
            State vectors as in `slots`, zeros at the start; changed.
        step : int
            Steps made before.

        Returns
        -------
        point : Point
            Of a lower value, or the same one where there is none.
        stopped : str or None
            Why there is no use in going on.
        """
        raise NotImplementedError

    def report(self, model: Any) -> Report:
        """Return how far this optimizer got with a model.

        Examples
        --------
        >>> optimizer = fm.LBFGS()
        >>> model.fit(x, y, optimizer=optimizer, batch_size=None, epochs=500)
        >>> optimizer.report(model).stopped
        'the loss decreased by no more than ftol'
        """
        return self._reports.setdefault(model, Report())

    # --- the place in a training ---

    def check_use(
        self, loss: Loss, batch_size: int | None, l1: float, **around: float | None
    ) -> None:
        name = type(self).__name__
        for argument, value in around.items():
            if value is not None:
                raise ValueError(f"{name} chooses its steps itself: {argument} must be None")
        if batch_size is not None:
            raise ValueError(
                f"{name} works on all samples at once: batch_size must be None or 'full'; "
                f"got {batch_size}"
            )
        if l1 > 0.0:
            raise ValueError(f"{name} needs a smooth function: l1 must be 0; got {l1!r}")

    def executor(self, kind: type[BaseExecutor], *args: Any, **settings: Any) -> BaseExecutor:
        from fastmlp.full_batch import FullBatchExecutor

        return FullBatchExecutor(kind, *args, optimizer=self, **settings)

    # --- what it does not have ---

    @property
    def lr(self) -> float:
        raise self._no_rate()

    @lr.setter
    def lr(self, value: Any) -> None:
        raise self._no_rate()

    def _no_rate(self) -> AttributeError:
        return AttributeError(
            f"{type(self).__name__} has no learning rate: it finds the length of each step"
        )

    def _check_groups(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        if not isinstance(groups, (list, tuple)) or groups:
            raise ValueError(
                f"{type(self).__name__} has no parameter groups, since its steps are steps of all "
                f"parameters together; got {shown(groups)}"
            )
        return ()

    def hyper(
        self, first_step: int, count: int, *, epoch: int = 0, group: int = 0
    ) -> NDArray[np.float64]:
        raise self._no_rule()

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        raise self._no_rule()

    def step(self, model: Any) -> None:
        raise self._no_rule()

    def _no_rule(self) -> TypeError:
        return TypeError(
            f"{type(self).__name__} cannot make a step from a gradient alone: it looks at the loss "
            "at several places. Use fit(batch_size=None), Trainer, or fastmlp.minimize"
        )

    def config(self) -> dict[str, Any]:
        return {name: value for name, value in super().config().items() if name != "groups"}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_reports"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import weakref

        super().__setstate__(state)
        self._reports = weakref.WeakKeyDictionary()


class LBFGS(FullBatchOptimizer):
    """L-BFGS: quasi-Newton steps from the last gradients, with a strong-Wolfe line search.

    d = -H·g, where H approximates the inverse of the Hessian by the last pairs s = Δw, y = Δg
    (two-loop recursion, started from (s·y)/(y·y) times the identity); then w ← w + t·d, where t
    fulfils the strong Wolfe conditions. The first t tried is 1, in the first step
    min(1, 1/‖g‖₁). In float64 the steps are those of
    ``torch.optim.LBFGS(history_size=history, line_search_fn="strong_wolfe")``.

    Good for smooth losses and some thousand samples: any loss, l2, sample weights, frozen layers.
    It remembers up to 2·history vectors as long as the parameters: 0.8 GB after 100 steps of a
    network of a million float32 weights.

    Source: J. Nocedal, S. Wright, Numerical Optimization (2nd ed. 2006), algorithms 7.4, 7.5.

    Parameters
    ----------
    history : int
        Pairs remembered, 1 to 1000; by default as many as in PyTorch. Fewer save memory, and time
        where the loss itself is cheap, but more steps are needed.
    gtol : float
        Stop where no element of the gradient is larger than this.
    ftol : float
        Stop where an iteration decreases the loss, penalties included, by no more than this part
        of it.
    wolfe : (float, float)
        0 < c₁ < c₂ < 1: the decrease that a step must bring, and how steep it may still be where
        it ends, as parts of the slope where it begins. A small c₂ makes line searches exact.
    max_trials : int
        Evaluations in one line search at most.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.

    Examples
    --------
    >>> model = fm.MLP([2, 20, 1], activation="tanh", dtype="float64")
    >>> history = model.fit(x, y, optimizer=fm.LBFGS(), batch_size=None, epochs=500)
    """

    name = "lbfgs"

    history = Setting(_count, per_group=False)
    gtol = Setting(not_negative, per_group=False)
    ftol = Setting(not_negative, per_group=False)
    wolfe = Setting(pair(_inside, _inside), per_group=False)
    max_trials = Setting(_count, per_group=False)

    def __init__(
        self,
        history: int = 100,
        gtol: float = 1e-8,
        ftol: float = 1e-10,
        wolfe: tuple[float, float] = (1e-4, 0.9),
        max_trials: int = 25,
    ):
        super().__init__(history=history, gtol=gtol, ftol=ftol, wolfe=wolfe, max_trials=max_trials)

    def _agree(self, values: Values) -> None:
        c1, c2 = values["wolfe"]
        if c1 >= c2:
            raise ValueError(f"wolfe of lbfgs must be (c1, c2) with c1 < c2; got ({c1}, {c2})")

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(f"{letter}{k}" for letter in "sy" for k in range(self.history))

    def iterate(
        self, problem: Problem, point: Point, slots: Slots, step: int
    ) -> tuple[Point, str | None]:
        if _largest(point.gradient) <= self.gtol:
            return point, _GTOL
        count = self.history
        # Pair k stands in place k modulo history; where a step gave none there are zeros.
        pairs = []
        for k in range(max(0, step - count), step):
            s, y = (np.asarray(slots[start + k % count], np.float64) for start in (0, count))
            curvature = float(s @ y)
            if curvature > 0.0:
                pairs.append((s, y, curvature))
        direction = _two_loops(point.gradient, pairs)
        found = self._search(problem, point, direction, first=not pairs)
        if found is None and pairs:
            # The pairs mislead: forget them, and go straight down.
            for slot in slots:
                slot[...] = 0
            found = self._search(problem, point, -point.gradient, first=True)
        if found is None:
            return point, _NOT_LESS
        s, y = found.x - point.x, found.gradient - point.gradient
        # As in SciPy's L-BFGS-B: a pair whose curvature is rounding would spoil H.
        if s @ y <= _EPS * (y @ y):
            s = y = 0
        slots[step % count][...] = s
        slots[count + step % count][...] = y
        return found, _converged(point, found, self.gtol, self.ftol)

    def _search(
        self, problem: Problem, point: Point, direction: Vector, first: bool
    ) -> Point | None:
        slope = float(point.gradient @ direction)
        size = _largest(direction)
        if not (-math.inf < slope < 0.0 and math.isfinite(size)):
            return None
        t = min(1.0, 1.0 / float(np.abs(point.gradient).sum())) if first else 1.0

        def evaluate(t: float) -> Trial:
            there = problem.evaluate(point.x + t * direction)
            return Trial(t, there.value, float(there.gradient @ direction), there)

        found = strong_wolfe(
            evaluate,
            Trial(0.0, point.value, slope, point),
            t,
            *self.wolfe,
            most=self.max_trials,
            # Two ends that the parameters cannot tell apart.
            least=_EPS * max(1.0, _largest(point.x)) / size,
        )
        return None if found is None else found.point


class LevenbergMarquardt(FullBatchOptimizer):
    """Levenberg–Marquardt: damped Gauss–Newton steps for squared errors.

    (JᵀJ + μ·I)·h = -g, where J has the derivatives of all outputs of all samples, scaled so that
    g = Jᵀr is the gradient; w ← w + h where that decreases the loss. The damping μ follows the
    ratio ρ of the decrease to that of the linear model: μ ← μ·max(1/3, 1 - (2ρ - 1)³) after a
    step, otherwise μ ← 2μ, then 4·, 8·, … until there is one.

    By far the fastest for small networks (some hundred parameters) on smooth regression problems:
    near a minimum it converges as Newton's method. It takes the losses "mse" and "quadratic", l2
    (as residuals √l2·w), sample weights, frozen layers, and up to 8,192 trained parameters P: an
    iteration takes about n·outputs·P² + P³/3 multiply-adds and 24·P² bytes. JᵀJ and its Cholesky
    factor are computed in float64 by NumPy's BLAS, whatever the model's dtype; how many threads
    that uses is NumPy's affair.

    Source: K. Levenberg (1944); D. Marquardt, J. SIAM 11 (1963); damping by H. Nielsen, as in
    K. Madsen, H. Nielsen, O. Tingleff, Methods for non-linear least squares problems (2nd ed.
    2004), algorithm 3.16.

    Parameters
    ----------
    damping : float
        First μ > 0, in terms of the largest diagonal element of JᵀJ.
    gtol, ftol : float
        As for `LBFGS`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.

    Examples
    --------
    >>> model = fm.MLP([2, 20, 1], activation="tanh", dtype="float64")
    >>> history = model.fit(x, y, optimizer=fm.LevenbergMarquardt(), batch_size=None, epochs=100)
    """

    name = "levenberg_marquardt"
    # Next to JᵀJ this is nothing, and the threads of BLAS go on spinning for a while.
    evaluation_threads = 1
    # Their JᵀJ has 512 MiB.
    most_parameters = 8192

    damping = Setting(positive, per_group=False)
    gtol = Setting(not_negative, per_group=False)
    ftol = Setting(not_negative, per_group=False)

    def __init__(self, damping: float = _DAMPING, gtol: float = 1e-10, ftol: float = 1e-10):
        super().__init__(damping=damping, gtol=gtol, ftol=ftol)

    @property
    def slots(self) -> tuple[str, ...]:
        return ("damping",)

    def check_use(
        self, loss: Loss, batch_size: int | None, l1: float, **around: float | None
    ) -> None:
        if loss.name not in ("mse", "quadratic"):
            raise ValueError(
                "LevenbergMarquardt needs squared errors: loss must be 'mse' or 'quadratic'; "
                f"got {loss.name!r}"
            )
        super().check_use(loss, batch_size, l1, **around)

    def iterate(
        self, problem: Problem, point: Point, slots: Slots, step: int
    ) -> tuple[Point, str | None]:
        from fastmlp.normal_equations import solve

        gradient, curvature, places = problem.normal_equations(point.x)
        if _largest(gradient) <= self.gtol:
            return point, _GTOL
        (slot,) = slots
        diagonal = float(curvature.diagonal().max())
        mu, growth = float(slot[0]) or self.damping * diagonal, 2.0
        found = None
        for _ in range(_TRIALS):
            # Below this the matrix would be singular where J has not full rank.
            mu = max(mu, _EPS * diagonal)
            h = solve(curvature, mu, -gradient)
            if h is not None:
                x = point.x.copy()
                x[places] += h
                trial = problem.evaluate(x)
                predicted = 0.5 * float(h @ (mu * h - gradient))
                if trial.value < point.value:
                    ratio = (point.value - trial.value) / predicted
                    mu *= max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3)
                    found = trial
                    break
            mu *= growth
            growth *= 2.0
        if found is None:
            return point, _NOT_LESS
        slot[...] = mu
        return found, _converged(point, found, self.gtol, self.ftol)


SOLVERS: dict[str, type[FullBatchOptimizer]] = {
    kind.name: kind for kind in (LBFGS, LevenbergMarquardt)
}

_GTOL = "no element of the gradient is larger than gtol"
_FTOL = "the loss decreased by no more than ftol"
_NOT_LESS = "no step decreases the loss any more, as far as the numbers of the dtype can tell"


def _largest(vector: Vector) -> float:
    return float(np.abs(vector).max(initial=0.0))


def _converged(before: Point, after: Point, gtol: float, ftol: float) -> str | None:
    if _largest(after.gradient) <= gtol:
        return _GTOL
    larger = max(abs(before.value), abs(after.value))
    return _FTOL if before.value - after.value <= ftol * larger else None


def _two_loops(gradient: Vector, pairs: Sequence[tuple[Vector, Vector, float]]) -> Vector:
    """Return -H·g for the H that pairs (s, y, s·y), the oldest first, stand for."""
    q = -gradient
    weights = []
    for s, y, curvature in reversed(pairs):
        weight = float(s @ q) / curvature
        q -= weight * y
        weights.append(weight)
    if pairs:
        _, y, curvature = pairs[-1]
        q *= curvature / float(y @ y)
    for (s, y, curvature), weight in zip(pairs, reversed(weights), strict=True):
        q += (weight - float(y @ q) / curvature) * s
    return q
