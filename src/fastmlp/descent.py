"""Descent made visible: any optimizer on a function of a few variables, with its whole path.

The optimizers are those that train networks; here their steps can be watched on a curve or on
contours. `PARABOLA` … `RASTRIGIN` are the functions of the textbooks to try them on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import optimizers
from fastmlp.errors import check_integer, check_number, shown
from fastmlp.gradients import numerical_gradient
from fastmlp.graph.gradient import gradients
from fastmlp.graph.node import Node, lift
from fastmlp.graph.transforms import Call
from fastmlp.second_order import LevenbergMarquardt, Point
from fastmlp.sources import as_real_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from fastmlp.optimizer_base import Optimizer


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """The path of an optimizer: what `minimize` returns.

    Attributes
    ----------
    x : ndarray of float64, shape (steps + 1, …), … the shape of x0
        The points, the start first.
    value : ndarray of float64, shape (steps + 1,)
        f at the points.
    gradient : ndarray of float64, of the shape of `x`
        The gradient at the points.
    function : callable
        f.
    optimizer : Optimizer
        Who walked.
    calls : int
        Calls of f (with its gradient, where it gives both).
    converged : bool
        Whether the norm of the gradient came down to the tolerance.
    diverged : bool
        Whether the next point, value or gradient was no longer finite: the path ends before.
    """

    x: NDArray[np.float64]
    value: NDArray[np.float64]
    gradient: NDArray[np.float64]
    function: Callable[..., Any] = field(repr=False)
    optimizer: Optimizer
    calls: int
    converged: bool
    diverged: bool

    @property
    def steps(self) -> int:
        """How many steps were made."""
        return len(self.value) - 1

    @property
    def minimum(self) -> NDArray[np.float64]:
        """The point of the least value on the path."""
        return self.x[self.value.argmin()]

    def plot(self, ax: Any = None, **settings: Any) -> Any:
        """Draw the path on the curve or on the contours of f; see `fastmlp.pictures.descent`."""
        from fastmlp.pictures import descent

        return descent(self, ax=ax, **settings)

    def __repr__(self) -> str:
        end = "diverged" if self.diverged else "converged" if self.converged else "stopped"
        best = self.value.argmin()
        point = np.array2string(self.x[best], precision=4, threshold=8)
        return (
            f"<Descent: {end} after {self.steps} steps, {self.calls} calls; "
            f"least value {self.value[best]:.6g} at {point}>"
        )


def minimize(
    f: Callable[..., Any],
    x0: ArrayLike,
    optimizer: str | Optimizer = "sgd",
    steps: int = 100,
    *,
    gradient: Callable[..., ArrayLike] | str | None = None,
    tolerance: float = 0.0,
) -> Descent:
    """Walk downhill and keep the whole path.

    Parameters
    ----------
    f : callable
        From an array like `x0` to a number, in one of three forms, recognised by itself:
        written in graph operations or NumPy functions that graphs know (the gradient is then
        derived); returning ``(value, gradient)``; or any other function (the gradient is then
        taken by central differences, two calls for each variable).
    x0 : array_like
        Where to start: a number for a function of one variable, or any array.
    optimizer : str or Optimizer
        Such as "sgd", "lbfgs" or ``fm.SGD(lr=0.1, momentum=0.9)``. It starts fresh on every call.
        A step of L-BFGS may call `f` several times, and ends where none goes further down.
    steps : int
        How many steps at most.
    gradient : callable or {"numerical"}, optional
        The gradient as a function of its own, or central differences whatever `f` is.
    tolerance : float
        Stop where the norm of the gradient is at most this.

    Returns
    -------
    Descent
        The path. Where it leads to infinity it ends at the last finite point, and `diverged`
        is True; nothing is raised.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, `f` gives no number, or is not finite at `x0`.

    Examples
    --------
    >>> path = fm.minimize(lambda x: x * x, 3.0, fm.SGD(lr=0.25), steps=2)
    >>> path.x, path.value
    (array([3.  , 1.5 , 0.75]), array([9.    , 2.25  , 0.5625]))
    """
    if not callable(f):
        raise TypeError(f"f must be a function; got {shown(f)}")
    rule = optimizers.get(optimizer)
    if isinstance(rule, LevenbergMarquardt):
        raise ValueError(
            "LevenbergMarquardt needs the errors whose squares are summed, which f does not give; "
            "use LBFGS"
        )
    steps = check_integer("steps", steps, low=0)
    tolerance = check_number("tolerance", tolerance, low=0.0)
    x = np.array(as_real_array("x0", x0), np.float64)
    if not np.isfinite(x).all() or x.size == 0:
        raise ValueError(f"x0 must be finite numbers; got {shown(x0)}")
    slots = [np.zeros(x.size) for _ in rule.slots]
    path: list[Point] = []
    converged = diverged = False
    with np.errstate(all="ignore"):  # what overflows is seen in the value
        evaluate = _Evaluation(f, gradient, x)
        start = evaluate.at(x)
        if not _finite(start):
            raise ValueError(f"f and its gradient must be finite at x0; got f = {start.value}")
        for point in _points(rule, evaluate, start, slots, steps):
            if not _finite(point):
                diverged = True
                break
            path.append(point)
            converged = bool(np.linalg.norm(point.gradient) <= tolerance)
            if converged:
                break
    return Descent(
        np.array([point.x.reshape(x.shape) for point in path]),
        np.array([point.value for point in path]),
        np.array([point.gradient.reshape(x.shape) for point in path]),
        f,
        rule,
        evaluate.calls,
        converged,
        diverged,
    )


def _points(
    rule: Optimizer, problem: _Evaluation, point: Point, slots: list[np.ndarray], steps: int
) -> Iterator[Point]:
    """Return the start and the point after each step; fewer where the optimizer ends before."""
    yield point
    if rule.full_batch:
        for step in range(steps):
            before = point
            point, _ = rule.iterate(problem, before, slots, step)
            if point is before:
                break
            yield point
        return
    rows = rule.hyper(1, steps)
    for row in rows:
        w = point.x.copy()
        rule.update(w, point.gradient.copy(), slots, row)
        point = problem.evaluate(w)
        yield point


def _finite(point: Point) -> bool:
    numbers = (point.value, point.gradient, point.x)
    return all(bool(np.isfinite(number).all()) for number in numbers)


class _Evaluation:
    """Value and gradient of a function, in whichever form it comes; counts its calls."""

    def __init__(self, f: Callable[..., Any], gradient: Any, x: np.ndarray) -> None:
        if not (gradient is None or gradient == "numerical" or callable(gradient)):
            raise TypeError(f"gradient must be a function or 'numerical'; got {shown(gradient)}")
        self.f = f
        self.gradient = gradient
        self.calls = 0
        self.shape = x.shape
        self.graph = gradient is None and self._takes_nodes(x)

    def _takes_nodes(self, x: np.ndarray) -> bool:
        try:
            return isinstance(self.f(lift(x.copy())), Node)
        except Exception:
            # A function of plain arrays may fail on nodes in any way, such as for want of x.dot; a
            # mistake in it is met again below.
            return False

    def at(self, x: np.ndarray) -> Point:
        """Return what is known at `x`, as vectors."""
        value, slope = self(x)
        return Point(x.reshape(-1).copy(), value, slope.reshape(-1), value)

    def evaluate(self, x: np.ndarray) -> Point:
        """Return what is known at a vector: the problem as optimizers of whole batches see it."""
        return self.at(x.reshape(self.shape))

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        if self.graph:
            call = Call(self.f, (x.copy(),), {}, 0)
            self.calls += 1
            (slope,) = gradients(call.scalar("minimize"), call.variables)
            return call.output.item(), slope.value
        if callable(self.gradient):
            return self._number(x), self._shaped(self.gradient(x.copy()), x)
        self.calls += 1
        result = self.f(x.copy())
        if isinstance(result, tuple) and len(result) == 2:
            if self.gradient is None:
                return _as_number(result[0]), self._shaped(result[1], x)
            result = result[0]
        return _as_number(result), numerical_gradient(self._number, x)

    def _number(self, x: np.ndarray) -> float:
        self.calls += 1
        result = self.f(x.copy())
        return _as_number(result[0] if isinstance(result, tuple) else result)

    def _shaped(self, slope: Any, x: np.ndarray) -> np.ndarray:
        slope = np.array(slope.value if isinstance(slope, Node) else slope, np.float64)
        if slope.shape != x.shape:
            raise ValueError(f"the gradient must have the shape {x.shape} of x0; got {slope.shape}")
        return slope


def _as_number(result: Any) -> float:
    array = np.asarray(result.value if isinstance(result, Node) else result)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise TypeError(f"f must return a number, or a number and a gradient; got {shown(result)}")
    return float(array.reshape(()))


# --- functions to try it on -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Landscape:
    """A function of two variables to descend on.

    Called with an array of shape (2,) it gives a number, with shape (2, …) an array of values;
    with a node, a node.

    Attributes
    ----------
    name : str
        What pictures call it.
    formula : str
        The function as text.
    function : callable
        The function itself.
    bounds : tuple of (low, high)
        A window worth drawing, one pair for each variable.
    start : tuple of float
        Where descents usually begin.
    minimum : tuple of float or None
        Where the least value is; None if there is none.
    """

    name: str
    formula: str
    function: Callable[[Any], Any] = field(repr=False)
    bounds: tuple[tuple[float, float], tuple[float, float]]
    start: tuple[float, float]
    minimum: tuple[float, float] | None

    def __call__(self, x: Any) -> Any:
        return self.function(x if isinstance(x, Node) else np.asarray(x, np.float64))


def _rastrigin(x: Any) -> Any:
    return 20.0 + np.sum(x * x - 10.0 * np.cos(2.0 * np.pi * x), axis=0)


def _beale(x: Any) -> Any:
    u, v = x[0], x[1]
    return (1.5 - u + u * v) ** 2 + (2.25 - u + u * v**2) ** 2 + (2.625 - u + u * v**3) ** 2


PARABOLA = Landscape(
    "parabola", "x² + y²", lambda x: np.sum(x * x, axis=0), ((-2, 2), (-2, 2)), (-1.5, 1.0), (0, 0)
)
# Curvatures 1 and 20: the learning rate that the steep side bears is slow along the flat one.
RAVINE = Landscape(
    "ravine",
    "½x² + 10y²",
    lambda x: 0.5 * x[0] ** 2 + 10.0 * x[1] ** 2,
    ((-3, 3), (-1.5, 1.5)),
    (-2.5, 1.0),
    (0, 0),
)
# Off the ridge by a thousandth, so that there is a way down.
SADDLE = Landscape(
    "saddle", "x² - y²", lambda x: x[0] ** 2 - x[1] ** 2, ((-2, 2), (-2, 2)), (-1.5, 1e-3), None
)
# H. Rosenbrock, The Computer Journal 3 (1960).
ROSENBROCK = Landscape(
    "Rosenbrock",
    "(1 - x)² + 100(y - x²)²",
    lambda x: (1.0 - x[0]) ** 2 + 100.0 * (x[1] - x[0] ** 2) ** 2,
    ((-2, 2), (-1, 3)),
    (-1.2, 1.0),
    (1, 1),
)
# E. Beale, "On an iterative method for finding a local minimum" (1958).
BEALE = Landscape(
    "Beale",
    "(1.5 - x + xy)² + (2.25 - x + xy²)² + (2.625 - x + xy³)²",
    _beale,
    ((-4.5, 4.5), (-4.5, 4.5)),
    (1.0, 1.5),
    (3, 0.5),
)
# L. Rastrigin, Systems of Extremal Control (1974), in two variables.
RASTRIGIN = Landscape(
    "Rastrigin",
    "20 + Σ(x² - 10 cos 2πx)",
    _rastrigin,
    ((-5.12, 5.12), (-5.12, 5.12)),
    (-3.3, 2.4),
    (0, 0),
)

LANDSCAPES = {
    each.name.lower(): each for each in (PARABOLA, RAVINE, SADDLE, ROSENBROCK, BEALE, RASTRIGIN)
}
