"""Pictures of a network itself: its units and weights, and what one example asks of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.pictures.canvas import NEGATIVE, POSITIVE, SIGNED, axes, bare

if TYPE_CHECKING:
    from typing import Any

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential

# More units than this in a column cannot be read; the first and the last are drawn.
_LARGEST_COLUMN = 12


def network(
    model: Sequential,
    ax: Axes | None = None,
    *,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    loss: str | Loss = "mse",
) -> Axes:
    """Draw a network of dense layers with its weights as coloured edges.

    Parameters
    ----------
    model : Sequential
        Built, with dense layers.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    x, y : array_like, optional
        One training example, shapes (n_in,) and (n_out,) or a label. With `x` the units show
        their values for it; with both, the edges show how the example asks each weight to
        change, −∂L/∂w, instead of the weights.
    loss : str or Loss
        L.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If the model has no dense layers or is not built.
    """
    specs = [spec for spec in model.parameter_specs if len(spec.shape) == 2]
    if not specs:
        raise ValueError("model must be built and have dense layers; call fit or build first")
    weights = [model.parameters[spec.name].copy() for spec in specs]
    what = "weight"
    values = _unit_values(model, x, [spec.name for spec in specs]) if x is not None else None
    if x is not None and y is not None:
        asked = _asked(model, x, y, loss)
        weights = [asked[spec.name] for spec in specs]
        what = "change asked for, −∂L/∂w"
    sizes = [weights[0].shape[0], *[W.shape[1] for W in weights]]
    ax = axes(ax, 1.5 + 1.9 * len(sizes), 4.8)
    places = [_column(size) for size in sizes]
    _edges(ax, weights, places, what)
    _units(ax, sizes, places, values)
    titles = ["input", *["hidden"] * (len(sizes) - 2), "output"]
    top = max(max(column.values()) for column in places) + 0.16
    for column, (title, size) in enumerate(zip(titles, sizes, strict=True)):
        ax.text(column, top, f"{title}\n{size}", ha="center", va="bottom", fontsize="medium")
    ax.set_xlim(-0.45, len(sizes) - 0.55)
    ax.set_ylim(0.01 - top, top + 0.3)
    return bare(ax)


def _column(size: int) -> dict[int, float]:
    """Return the heights of the units that are drawn, by their index."""
    drawn = list(range(size))
    if size > _LARGEST_COLUMN:
        half = _LARGEST_COLUMN // 2
        drawn = [*range(half), *range(size - half + 1, size)]
    count = len(drawn) + (size > _LARGEST_COLUMN)
    heights = np.linspace(1, -1, count) * min(1.0, count / 5) if count > 1 else np.zeros(1)
    slots = list(range(count))
    if size > _LARGEST_COLUMN:
        del slots[_LARGEST_COLUMN // 2]  # stays empty, for the dots
    return {unit: float(heights[slot]) for unit, slot in zip(drawn, slots, strict=True)}


def _edges(ax: Axes, weights: list[np.ndarray], places: list[dict[int, float]], what: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    largest = max(float(np.abs(W).max()) for W in weights) or 1.0
    norm = Normalize(-largest, largest)
    for column, W in enumerate(weights):
        lines, strengths = [], []
        for i, low in places[column].items():
            for j, high in places[column + 1].items():
                lines.append([(column, low), (column + 1, high)])
                strengths.append(W[i, j])
        # Strong ones last, on top of the weak.
        order = np.argsort(np.abs(strengths))
        strengths = np.array(strengths)[order]
        ax.add_collection(
            LineCollection(
                [lines[k] for k in order],
                array=strengths,
                cmap=SIGNED,
                norm=norm,
                linewidths=0.4 + 3.0 * np.abs(strengths) / largest,
                zorder=1,
            )
        )
    bar = ax.figure.colorbar(ScalarMappable(norm, SIGNED), ax=ax, label=what, shrink=0.8)
    bar.ax.tick_params(labelsize="small")


def _units(
    ax: Axes, sizes: list[int], places: list[dict[int, float]], values: list[np.ndarray] | None
) -> None:
    few = max(len(column) for column in places) <= 8
    for column, (size, heights) in enumerate(zip(sizes, places, strict=True)):
        y = list(heights.values())
        ax.scatter([column] * len(y), y, s=520 if few else 220, c="white", ec="black", zorder=2)
        if size > _LARGEST_COLUMN:
            gap = list(heights.values())
            middle = 0.5 * (gap[_LARGEST_COLUMN // 2 - 1] + gap[_LARGEST_COLUMN // 2])
            ax.text(column, middle, "⋮", ha="center", va="center", fontsize="large")
        if values is None:
            continue
        for unit, height in heights.items():
            number = float(values[column][unit])
            text = f"{number:.2f}" if abs(number) < 9.995 else f"{number:.0f}"
            colour = POSITIVE if number >= 0 else NEGATIVE
            size_of = "x-small" if few else "xx-small"
            ax.text(column, height, text, ha="center", va="center", fontsize=size_of, color=colour)


def _row(values: Any, what: str) -> np.ndarray:
    row = np.asarray(values)
    row = row.reshape(1, -1) if row.ndim < 2 else row
    if len(row) != 1:
        raise ValueError(f"{what} must be one example; got shape {np.shape(values)}")
    return row


def _unit_values(model: Sequential, x: Any, names: list[str]) -> list[np.ndarray]:
    """Return the input of each dense layer and the output, for one example."""
    graph = model.graph(_row(x, "x"))
    values = []
    for node in graph.nodes:
        if node.operation == "matmul" and node.parents[1].name in names:
            values.append(node.parents[0].value[0])
    return [*values, graph.output.value[0]]


def _asked(model: Sequential, x: Any, y: Any, loss: Any) -> dict[str, np.ndarray]:
    target = np.asarray(y)
    target = target.reshape(1) if target.ndim == 0 else _row(target, "y")
    graph = model.graph(_row(x, "x"), target, loss)
    return {graph.name(node): -graph.gradient(node) for node in graph.variables}
