"""Pictures of descent: paths on curves and contours, and the error of numerical gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown
from fastmlp.gradients import numerical_gradient
from fastmlp.graph.node import Node, lift
from fastmlp.graph.transforms import grad
from fastmlp.pictures.canvas import COLOURS, DASHES, axes, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from matplotlib.axes import Axes

    from fastmlp.descent import Descent

_GRID = 201
_LEVELS = 24


def descent(
    paths: Descent | Mapping[str, Descent],
    ax: Axes | None = None,
    *,
    bounds: Any = None,
) -> Axes:
    """Draw paths of descent: on the curve of a function of one variable, on contours of two.

    Parameters
    ----------
    paths : Descent or mapping of str to Descent
        What `minimize` returned; several, of one function, by name.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    bounds : pair, or pair of pairs, optional
        The window: (low, high) for each variable. By default the function's own, or what the
        paths need.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If there are no paths, or the functions have more than two variables.
    """
    named = paths if hasattr(paths, "items") else {"": paths}
    if not named:
        raise ValueError("paths must hold one descent at least; got none")
    sizes = {path.x[0].size for path in named.values()}
    if sizes not in ({1}, {2}):
        raise ValueError(f"only paths of one or of two variables can be drawn; got {sizes}")
    ax = axes(ax)
    draw = _on_curve if sizes == {1} else _on_contours
    draw(ax, named, bounds)
    if any(named):
        ax.legend(frameon=True, framealpha=0.9)
    return ax


def _window(named: Mapping[str, Descent], bounds: Any) -> np.ndarray:
    """Return (low, high) for each variable, shape (variables, 2)."""
    first = next(iter(named.values()))
    size = first.x[0].size
    if bounds is None:
        bounds = getattr(first.function, "bounds", None)
    if bounds is not None:
        return np.array(bounds, float).reshape(size, 2)
    points = np.concatenate([path.x.reshape(-1, size) for path in named.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.15 * np.maximum(high - low, 1e-3 * np.maximum(1.0, np.abs(high)))
    return np.stack([low - margin, high + margin], axis=1)


def _on_curve(ax: Axes, named: Mapping[str, Descent], bounds: Any) -> None:
    first = next(iter(named.values()))
    ((low, high),) = _window(named, bounds)
    grid = np.linspace(low, high, _GRID)
    with np.errstate(all="ignore"):
        ax.plot(
            grid, [_value(first.function, x, first.x[0].shape) for x in grid], color="0.4", lw=1
        )
    for k, (name, path) in enumerate(named.items()):
        x = path.x.reshape(-1)
        colour = COLOURS[k % len(COLOURS)]
        dash, label = DASHES[k % len(DASHES)], _label(name, path)
        ax.plot(x, path.value, "o", ls=dash, color=colour, ms=4, lw=1.2, label=label)
        ax.plot(x[:1], path.value[:1], "s", color=colour, ms=8)
    ax.set_xlim(low, high)
    finish(ax, x="x", y="f(x)")


def _on_contours(ax: Axes, named: Mapping[str, Descent], bounds: Any) -> None:
    first = next(iter(named.values()))
    window = _window(named, bounds)
    (left, right), (bottom, top) = window
    u, v = np.meshgrid(np.linspace(left, right, _GRID), np.linspace(bottom, top, _GRID))
    heights = _heights(first.function, u, v, first.x[0].shape)
    # Levels by equal shares of the area: flat valleys and steep walls both get lines.
    finite = heights[np.isfinite(heights)]
    levels = np.unique(np.quantile(finite, np.linspace(0, 1, _LEVELS)))
    filled = ax.contourf(u, v, heights, levels, cmap="Greys", alpha=0.55, extend="max")
    ax.contour(u, v, heights, levels, colors="0.45", linewidths=0.4)
    bar = ax.figure.colorbar(filled, ax=ax, label="f(x, y)")
    bar.ax.tick_params(labelsize="small")
    for k, (name, path) in enumerate(named.items()):
        colour = COLOURS[k % len(COLOURS)]
        points = path.x.reshape(-1, 2)
        dash = DASHES[k % len(DASHES)]
        ax.plot(*points.T, color=colour, ls=dash, lw=1.6, label=_label(name, path))
        if len(points) <= 150:
            ax.plot(*points.T, "o", color=colour, ms=2.5)
        ax.plot(*points[0], "s", color=colour, ms=8, mec="white")
        ax.plot(*points[-1], "o", color=colour, ms=8, mec="white")
    minimum = getattr(first.function, "minimum", None)
    if minimum is not None:
        ax.plot(*minimum, "*", color="black", ms=14, mec="white", zorder=3)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    finish(ax, x="x", y="y")
    ax.grid(visible=False)


def _label(name: str, path: Descent) -> str:
    if path.diverged:
        return f"{name} (diverges)" if name else "diverges"
    return name


def _heights(f: Callable[..., Any], u: np.ndarray, v: np.ndarray, shape: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        points = np.stack([u.reshape(-1), v.reshape(-1)], axis=1)
        return np.array([_value(f, point, shape) for point in points]).reshape(u.shape)


def _value(f: Callable[..., Any], point: np.ndarray, shape: tuple[int, ...]) -> float:
    point = np.reshape(point, shape)
    try:
        result = f(point)
    except (TypeError, AttributeError):
        result = f(lift(point))  # written for nodes alone
    result = result[0] if isinstance(result, tuple) else result
    return float(result.item() if isinstance(result, Node) else np.asarray(result).reshape(()))


def gradient_error(
    f: Callable[..., Any], x: Any, ax: Axes | None = None, *, gradient: Any = None
) -> Axes:
    """Draw the error of numerical gradients over the step h, and what each way costs.

    Parameters
    ----------
    f : callable
        Function of an array with a number as result; in graph operations unless `gradient` is
        given.
    x : array_like
        Where.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    gradient : array_like, optional
        The exact gradient at `x`; by default backpropagation through `f`.

    Returns
    -------
    matplotlib Axes
        ‖numerical − exact‖ / ‖exact‖ for h from 1e-1 to 1e-15: too large a step sees the
        curve, too small a one the rounding of f.

    Raises
    ------
    ValueError
        If the exact gradient is zero: then there is no relative error.
    """
    ax = axes(ax)
    x = np.asarray(x, np.float64)
    exact = np.asarray(grad(f)(x) if gradient is None else gradient, np.float64)
    norm = np.linalg.norm(exact)
    if norm == 0:
        raise ValueError(f"x must not be where the gradient is zero; got {shown(x)}")
    steps = np.logspace(-1, -15, 57)
    calls = 0

    def counted(point: np.ndarray) -> float:
        nonlocal calls
        calls += 1
        return _value(f, point, x.shape)

    for k, (method, order) in enumerate([("forward", "h"), ("central", "h²")]):
        errors = []
        for h in steps:
            calls = 0
            found = numerical_gradient(counted, x, method=method, step=h)
            errors.append(np.linalg.norm(found - exact) / norm)
        label = f"{method} difference: error ∝ {order}, {calls} calls of f"
        # An error of exactly 0 has no place on a logarithmic axis.
        shown_errors = np.maximum(errors, 1e-17)
        ax.loglog(
            steps, shown_errors, color=COLOURS[k], ls=DASHES[k], marker="o", ms=3, label=label
        )
    ax.axhline(np.finfo(float).eps, color="0.5", lw=1, ls=":")
    ax.annotate(
        "rounding of float64; backpropagation: 1 call",
        (1e-1, np.finfo(float).eps),
        xytext=(0, 4),
        textcoords="offset points",
        ha="left",
        fontsize="small",
        color="0.3",
    )
    ax.invert_xaxis()
    return finish(
        ax,
        x="step h",
        y="relative error of the gradient",
        title=f"Numerical against exact gradient, {x.size} variable{'s' * (x.size > 1)}",
        legend=True,
    )
