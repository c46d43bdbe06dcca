"""Gradients by finite differences, and the comparison of analytic with numerical gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import losses
from fastmlp.activations import Identity
from fastmlp.errors import check_integer, check_number, choose, shown
from fastmlp.evaluation import Evaluator
from fastmlp.graph.node import Node
from fastmlp.sources import as_real_array

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.plan import Plan, Value
    from fastmlp.sources import Source

_EPS = float(np.finfo(np.float64).eps)
# The steps that balance truncation (h, h², h⁴) against rounding (ε/h), for functions of scale 1.
_FORWARD_STEP = _EPS ** (1 / 2)
_CENTRAL_STEP = _EPS ** (1 / 3)
_WIDE_STEP = _EPS ** (1 / 5)
# Five points: (f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)) / 12h; and three.
_WIDE = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
_CENTRAL = ((-1, -1 / 2), (1, 1 / 2))
# Roundings that a value of the loss is allowed when its noise is estimated.
_NOISE_ROUNDINGS = 16.0


def numerical_gradient(
    f: Callable[[np.ndarray], float],
    x: ArrayLike,
    *,
    method: str = "central",
    step: float | None = None,
) -> np.ndarray:
    """Return the gradient of a function by finite differences.

    Parameters
    ----------
    f : callable
        From an array like `x` to a number; it may be written in graph operations.
    x : array_like
        Where; of any shape. It is not changed.
    method : {"central", "forward"}
        (f(x + h) - f(x - h)) / 2h, two calls an element, error O(h²); or (f(x + h) - f(x)) / h,
        one call an element and one more, error O(h).
    step : float, optional
        h > 0. By default ε^⅓ (central) or ε^½ (forward), times max(1, |x|) of the element.

    Returns
    -------
    ndarray of float64, of the shape of `x`

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, or `f` returns no number.

    Examples
    --------
    >>> fm.numerical_gradient(lambda x: (x**2).sum(), [1.0, 2.0])
    array([2., 4.])
    """
    if not callable(f):
        raise TypeError(f"f must be a function; got {shown(f)}")
    choose("method", method, ("central", "forward"))
    point = as_real_array("x", x).astype(np.float64)
    default = _CENTRAL_STEP if method == "central" else _FORWARD_STEP
    if step is not None:
        step = check_number("step", step, low=0.0, open_low=True)
    weights = _CENTRAL if method == "central" else ((0, -1.0), (1, 1.0))

    def value(moved: np.ndarray) -> float:
        result = f(moved)
        result = np.asarray(result.value if isinstance(result, Node) else result)
        if result.size != 1 or result.dtype.kind not in "fiub":
            raise TypeError(f"f must return a number; got {shown(result)}")
        return float(result.reshape(()))

    start = value(point.copy()) if method == "forward" else 0.0
    gradient = np.empty_like(point)
    for index in np.ndindex(point.shape):
        h = step or default * max(1.0, abs(point[index]))
        total = 0.0
        for multiple, weight in weights:
            if multiple == 0:
                total += weight * start
                continue
            moved = point.copy()
            moved[index] += multiple * h
            total += weight * value(moved)
        gradient[index] = total / h
    return gradient


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """What was found for one parameter, or for the input.

    Attributes
    ----------
    name : str
        Name of the parameter, or "input".
    shape : tuple of int
    checked : int
        Elements compared.
    kinks : int
        Elements left out because an activation or the loss has a kink within reach of the
        difference, where a difference is no derivative.
    error : float
        Relative error ‖a - n‖ / max(‖a‖, ‖n‖) of analytic a and numerical n, Euclidean norms.
    resolution : float
        How much of it the rounding of the loss may explain.
    worst : tuple of int
        Index of the element with the largest difference.
    analytic, numerical : float
        Its two derivatives.
    passed : bool
        Whether the error is within the tolerance, added to the resolution.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    kinks: int
    error: float
    resolution: float
    worst: tuple[int, ...]
    analytic: float
    numerical: float
    passed: bool


@dataclass(frozen=True, slots=True)
class GradientReport:
    """What `check_gradients` found; true if everything passed.

    Attributes
    ----------
    checks : tuple of GradientCheck
        One for each parameter, and one for the input.
    loss : float
        At the model's parameters.
    tolerance : float
        The one that was asked for.
    backend : str
        Whose gradients were checked.
    """

    checks: tuple[GradientCheck, ...]
    loss: float
    tolerance: float
    backend: str

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    def __bool__(self) -> bool:
        return self.passed

    def __getitem__(self, name: str) -> GradientCheck:
        checks = {check.name: check for check in self.checks}
        return checks[choose("parameter name", name, checks)]

    def __repr__(self) -> str:
        rows = [("", "shape", "checked", "kinks", "relative error", "")]
        for check in self.checks:
            verdict = "ok"
            if not check.passed:
                where = ", ".join(map(str, check.worst))
                verdict = (
                    f"FAILED, worst [{where}]: analytic {check.analytic:.6g}, "
                    f"numerical {check.numerical:.6g}"
                )
            row = (check.name, str(check.shape), str(check.checked), str(check.kinks))
            rows.append((*row, f"{check.error:.1e}", verdict))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = [
            "  ".join(
                [*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[5]]
            )
            for row in rows
        ]
        verdict = "passed" if self.passed else "FAILED"
        lines.append(
            f"gradient check of backend {self.backend!r} {verdict}: loss {self.loss:.6g}, "
            f"tolerance {self.tolerance:g}"
        )
        return "\n".join(line.rstrip() for line in lines)


def check_gradients(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    loss: str | Loss = "mse",
    *,
    sample_weight: ArrayLike | None = None,
    backend: str = "native",
    tolerance: float = 1e-7,
    most: int | None = 1000,
    seed: int = 0,
) -> GradientReport:
    """Compare the gradients of backpropagation with finite differences.

    Everything is computed in float64, on a copy: the model stays as it is. Differences are taken
    of the reference backend's loss, over five points, or over three where a kink is near.

    Parameters
    ----------
    model : Sequential
    x, y, sample_weight : array_like
        Some data, as for `Sequential.fit`; a few rows are enough.
    loss : str or Loss
    backend : {"native", "reference"}
        Whose gradients are checked.
    tolerance : float
        Largest relative error that passes.
    most : int or None
        Elements compared of each array, drawn at random where it has more; None: all.
    seed : int
        For that draw.

    Returns
    -------
    GradientReport

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.

    Examples
    --------
    >>> fm.check_gradients(model, x[:10], y[:10], loss="mse")
    """
    tolerance = check_number("tolerance", tolerance, low=0.0, open_low=True)
    most = None if most is None else check_integer("most", most, low=1)
    rng = np.random.default_rng(check_integer("seed", seed, low=0))
    twin = model.astype("float64")
    twin.unfreeze()
    loss, fused = losses.get(loss).behind(twin.output_activation)
    if fused:  # as in training, the loss takes the place of the last activation
        vars(twin.layers[-1])["activation"] = Identity()  # of a copy that has no plan yet
    source = Evaluator(twin, loss).check(x, y, sample_weight)
    twin.build(source.columns)
    source.x = np.array(source.x, np.float64, order="C")  # its elements are moved
    analytic = _analytic(twin, loss, source, backend)
    numerical = _Differences(twin, loss, source)
    checks = []
    for name, gradient in analytic.items():
        indices = np.arange(gradient.size)
        if most is not None and gradient.size > most:
            indices = np.sort(rng.choice(gradient.size, most, replace=False))
        checks.append(_compare(name, gradient, indices, numerical, tolerance))
    return GradientReport(tuple(checks), numerical.loss, tolerance, backend)


def _analytic(model: Sequential, loss: Loss, source: Source, backend: str) -> dict[str, np.ndarray]:
    """Return the gradients of a backend by name, that of the input last."""
    output = model.forward(source.x, training=True, backend=backend)
    _, grad = loss(output, source.targets(slice(None), output.dtype), source.sample_weight)
    grad_x = model.backward(grad)
    return {**{name: array.copy() for name, array in model.gradients.items()}, "input": grad_x}


class _Differences:
    """The loss as a function of single elements, by the reference backend."""

    def __init__(self, model: Sequential, loss: Loss, source: Source):
        from fastmlp.backends.reference import Executor
        from fastmlp.plan import build

        self._plan: Plan = build(
            model,
            source.n,
            training=True,
            loss=loss,
            gradients=False,
            sample_weight=source.weighted,
        )
        plan, self._seed = self._plan, model.seed
        rows = slice(None)
        self._values = Executor(model).bind(plan)
        self._values[plan.input] = source.x
        self._values[plan.target] = source.targets(rows, model.dtype)
        if plan.sample_weight is not None:
            self._values[plan.sample_weight] = source.weights(rows)
        self._named: dict[str, Value] = {**plan.parameters, "input": plan.input}
        self.loss, self._pattern = self._evaluate()

    def _evaluate(self) -> tuple[float, list[np.ndarray]]:
        """Return the loss, and on which side of their kinks all functions are."""
        from fastmlp.backends.reference import run

        plan = self._plan
        values = dict(self._values)
        run(plan.forward + plan.loss, values, seed=self._seed, step=0)
        sides = [
            np.searchsorted(step.attrs["fn"].kinks, values[step.reads[0]])
            for step in plan.forward
            if step.op == "activation" and step.attrs["fn"].kinks
        ]
        (step,) = plan.loss
        if not step.attrs["loss"].smooth:
            sides.append(np.sign(values[plan.output_gradient]))
        return float(values[plan.row_loss].sum()), sides

    def derivative(self, name: str, index: int) -> tuple[float, float]:
        """Return the derivative by one element of an array, NaN at a kink, and its noise."""
        flat = self._values[self._named[name]].reshape(-1)
        start = flat[index]
        scale = max(1.0, abs(start))
        try:
            for weights, width in ((_WIDE, _WIDE_STEP), (_CENTRAL, _CENTRAL_STEP)):
                total, smooth = 0.0, True
                for multiple, weight in weights:
                    flat[index] = start + multiple * width * scale
                    value, pattern = self._evaluate()
                    same = map(np.array_equal, pattern, self._pattern)
                    smooth = smooth and all(same)
                    total += weight * value
                if smooth:
                    noise = _NOISE_ROUNDINGS * _EPS * abs(self.loss) / (width * scale)
                    return total / (width * scale), noise
        finally:
            flat[index] = start
        return np.nan, 0.0


def _compare(
    name: str,
    gradient: np.ndarray,
    indices: np.ndarray,
    numerical: _Differences,
    tolerance: float,
) -> GradientCheck:
    found = np.array([numerical.derivative(name, int(index)) for index in indices])
    smooth = ~np.isnan(found[:, 0])
    a, n, noise = gradient.reshape(-1)[indices][smooth], found[smooth, 0], found[smooth, 1]
    difference = np.abs(a - n)
    size = max(np.linalg.norm(a), np.linalg.norm(n)) or 1.0
    error, resolution = (float(np.linalg.norm(part) / size) for part in (difference, noise))
    worst, pair = (), (np.nan, np.nan)
    if len(a):
        at = int(difference.argmax())
        place = np.unravel_index(indices[smooth][at], gradient.shape)
        worst, pair = tuple(map(int, place)), (float(a[at]), float(n[at]))
    return GradientCheck(
        name=name,
        shape=gradient.shape,
        checked=len(a),
        kinks=int((~smooth).sum()),
        error=error,
        resolution=resolution,
        worst=worst,
        analytic=pair[0],
        numerical=pair[1],
        passed=bool(error <= tolerance + resolution),
    )
