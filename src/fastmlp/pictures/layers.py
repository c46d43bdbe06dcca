"""Pictures of what is inside layers: weights as images, activations, gradients, updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp import optimizers
from fastmlp.errors import check_integer
from fastmlp.pictures.canvas import COLOURS, SIGNED, axes, bare, finish

if TYPE_CHECKING:
    from typing import Any

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.optimizer_base import Optimizer

_BINS = 60
# A unit that never leaves this is dead: it passes no gradient on.
_DEAD = 1e-7


def mosaic(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Return images of shape (k, height, width) as one, with lines of NaN between them."""
    count, height, width = images.shape
    columns = columns or int(np.ceil(np.sqrt(count * 1.4)))
    rows = -(-count // columns)
    result = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for k, image in enumerate(images):
        top, left = k // columns * (height + 1), k % columns * (width + 1)
        result[top : top + height, left : left + width] = image
    return result


def weights(
    model: Sequential,
    shape: tuple[int, int],
    ax: Axes | None = None,
    *,
    most: int = 40,
    name: str | None = None,
) -> Axes:
    """Draw the weights of each unit of the first layer as an image of the input's shape.

    Parameters
    ----------
    model : Sequential
        Whose first dense layer reads images.
    shape : (height, width)
        Of the images.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    most : int
        How many units at most.
    name : str, optional
        Another matrix, by its parameter name.

    Returns
    -------
    matplotlib Axes
        Blue pixels speak for the unit, red ones against it.

    Raises
    ------
    ValueError
        If the layer does not read images of this shape.
    """
    name = name or next(s.name for s in model.parameter_specs if len(s.shape) == 2)
    W = model.parameters[name]
    if W.shape[0] != shape[0] * shape[1]:
        raise ValueError(f"shape must have the {W.shape[0]} pixels that {name} reads; got {shape}")
    most = check_integer("most", most, low=1)
    ax = axes(ax)
    images = mosaic(np.array(W.T[:most], np.float64).reshape(-1, *shape))
    largest = np.nanmax(np.abs(images))
    shown = ax.imshow(images, cmap=SIGNED, vmin=-largest, vmax=largest, interpolation="nearest")
    ax.figure.colorbar(shown, ax=ax, label="weight", shrink=0.8)
    count = min(most, W.shape[1])
    return bare(ax, f"{name}: {count} of {W.shape[1]} units")


def activations(model: Sequential, x: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw the distribution of each layer's activations, with the share of dead units.

    Parameters
    ----------
    model : Sequential
    x : array_like, shape (n, n_in)
        Inputs, a few hundred.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.

    Returns
    -------
    matplotlib Axes
        A histogram per layer, input side on top. A unit is dead if it is zero for all of `x`.
    """
    rows = []
    for layer, node in _outputs(model.graph(x)):
        dead = np.mean(np.abs(node.value).max(axis=0) <= _DEAD)
        rows.append((f"{layer}\n{dead:.0%} dead", node.value.reshape(-1)))
    return _ridges(axes(ax, 6.4, 1.2 + 0.9 * len(rows)), rows, "activation")


def gradients(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    loss: str | Loss = "mse",
) -> Axes:
    """Draw the distribution of the gradients that reach each layer's outputs.

    Parameters
    ----------
    model : Sequential
    x, y : array_like
        Data, a few hundred rows.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    loss : str or Loss
        As for `fit`.

    Returns
    -------
    matplotlib Axes
        A histogram of log₁₀ |n ∂L/∂a| per layer, input side on top: gradients that vanish move
        to the left from layer to layer, those that explode to the right.
    """
    graph = model.graph(x, y, loss)
    n = len(np.asarray(x))
    rows = []
    for layer, node in _outputs(graph):
        size = np.abs(graph.gradient(node).reshape(-1)) * n
        some = size[size > 0]
        rows.append((f"{layer}\n{1 - len(some) / len(size):.0%} zero", np.log10(some)))
    return _ridges(axes(ax, 6.4, 1.2 + 0.9 * len(rows)), rows, "log₁₀ |gradient| of one sample")


def _outputs(graph: Any) -> list[tuple[str, Any]]:
    """Return (label, node) of each layer's output, first layers first."""
    wanted: dict[str, Any] = {}
    for node in graph.nodes:
        layer, _, what = (node.name or "").rpartition(".")
        if node.parents and layer and what in ("z", "a"):
            wanted[layer] = node  # z, then a where there is an activation
    last = next((n for n in graph.nodes if n.name == "ŷ"), None)
    result = [(f"layer {layer}", node) for layer, node in wanted.items()]
    if last is not None and all(node is not last for _, node in result):
        result.append(("output", last))
    return result


def _ridges(ax: Axes, rows: list[tuple[str, np.ndarray]], what: str) -> Axes:
    values = [v for _, v in rows if len(v)]
    low, high = (np.min([f(v) for v in values]) if f is np.min else np.max([f(v) for v in values])
                 for f in (np.min, np.max))  # fmt: skip
    edges = np.linspace(low, high + 1e-9 + 1e-6 * abs(high), _BINS + 1)
    for k, (_, v) in enumerate(rows):
        counts, _ = np.histogram(v, edges)
        # The tallest bar of each layer is as tall as its row; often it is the bar of zeros.
        heights = np.sqrt(counts / max(counts.max(), 1)) * 0.85
        base = len(rows) - 1 - k
        colour = COLOURS[k % len(COLOURS)]
        ax.stairs(base + heights, edges, baseline=base, fill=True, color=colour, alpha=0.6)
        ax.stairs(base + heights, edges, baseline=base, color=colour, lw=1)
    ax.set_yticks(np.arange(len(rows))[::-1] + 0.3, [label for label, _ in rows])
    ax.set_ylim(-0.05, len(rows))
    finish(ax, x=what, y="")
    ax.tick_params(axis="y", length=0)
    ax.set_title("height: √(share of values)", fontsize="small", loc="right", color="0.4")
    return ax


def updates(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    loss: str | Loss = "mse",
    optimizer: str | Optimizer = "sgd",
) -> Axes:
    """Draw how large the next update of each parameter is beside the parameter.

    Parameters
    ----------
    model : Sequential
        It is left alone.
    x, y : array_like
        The mini-batch.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    loss : str or Loss
        As for `fit`.
    optimizer : str or Optimizer
        Whose first step is taken.

    Returns
    -------
    matplotlib Axes
        ‖Δw‖ / ‖w‖ of each weight matrix; about 1e-3 is what usually works.
    """
    rule = optimizers.get(optimizer)
    graph = model.graph(x, y, loss)
    names, ratios = [], []
    row = rule.hyper(1, 1)[0]
    for node in graph.variables:
        if node.ndim != 2:
            continue
        before = node.value.reshape(-1).astype(np.float64)
        w, slope = before.copy(), graph.gradient(node).reshape(-1).astype(np.float64)
        rule.update(w, slope, [np.zeros_like(w) for _ in rule.slots], row)
        names.append(node.name)
        ratios.append(np.linalg.norm(w - before) / max(np.linalg.norm(before), 1e-30))
    ax = axes(ax, 6.4, 1.4 + 0.5 * len(names))
    places = np.arange(len(names))[::-1]
    ax.plot(ratios, places, "o", color=COLOURS[0], ms=9)
    ax.hlines(places, 1e-30, ratios, color=COLOURS[0], lw=2)
    ax.axvline(1e-3, color=COLOURS[1], ls="--", lw=1.2, label="1e-3: the usual aim")
    ax.set_xscale("log")
    ax.set_xlim(min(*ratios, 1e-4) / 3, max(*ratios, 1e-2) * 3)
    ax.set_yticks(places, names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    return finish(ax, x="size of one update / size of the weights", y="", legend=True)
