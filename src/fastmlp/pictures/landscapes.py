"""A slice through the loss landscape of a network, with the path that training took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.callbacks import Callback
from fastmlp.errors import check_integer
from fastmlp.pictures.canvas import COLOURS, axes, finish

if TYPE_CHECKING:
    from typing import Any

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential

_LEVELS = 18
# Losses that differ by more than this factor are easier to read as logarithms.
_LOGARITHMIC_FROM = 10.0


class Path(Callback):
    """A callback that keeps the parameters at the start and after every epoch.

    Attributes
    ----------
    points : list of ndarray
        Flat parameter vectors.
    """

    def __init__(self) -> None:
        self.points: list[np.ndarray] = []

    def on_train_begin(self, logs: Any = None) -> None:
        if not self.points:
            self._keep()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._keep()

    def _keep(self) -> None:
        self.points.append(self.model.flat_parameters.array().astype(np.float64))


def landscape(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    path: Path | None = None,
    loss: str | Loss = "mse",
    size: int = 41,
    seed: int = 0,
) -> Axes:
    """Draw the loss on a plane through the parameters of a network.

    Parameters
    ----------
    model : Sequential
        Its parameters are the centre; it is left alone.
    x, y : array_like
        Data; the loss is computed size² times.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    path : Path, optional
        The callback that watched the training. The plane then holds the two directions in which
        the path is longest (its principal components), otherwise two random ones, each matrix
        scaled as the model's (H. Li et al., "Visualizing the loss landscape of neural nets",
        2018).
    loss : str or Loss
        As for `fit`.
    size : int
        Points along each side.
    seed : int
        Of random directions.

    Returns
    -------
    matplotlib Axes
    """
    size = check_integer("size", size, low=3)
    ax = axes(ax)
    twin = model.__deepcopy__({})
    centre = twin.flat_parameters.array().astype(np.float64)
    if path is not None and len(path.points) > 2:
        steps = np.array(path.points) - centre
        _, lengths, directions = np.linalg.svd(steps, full_matrices=False)
        directions = directions[:2]
        share = (lengths[:2] ** 2).sum() / (lengths**2).sum()
        across = steps @ directions.T
        names = [f"principal direction {k} of the path" for k in (1, 2)]
        title = f"plane with {share:.0%} of the path's variance"
    else:
        directions = _random_directions(model, seed)
        across = None
        names = ["random direction 1", "random direction 2"]
        title = "plane through the trained weights"
    if across is None:
        low, high = np.full(2, -1.0), np.full(2, 1.0)
    else:
        low, high = across.min(axis=0), across.max(axis=0)
        margin = 0.25 * max((high - low).max(), 1e-6)
        low, high = low - margin, high + margin
    u, v = np.linspace(low[0], high[0], size), np.linspace(low[1], high[1], size)
    heights = np.empty((size, size))
    live = twin.flat_parameters
    for i, b in enumerate(v):
        for j, a in enumerate(u):
            live.array()[...] = centre + a * directions[0] + b * directions[1]
            heights[i, j] = twin.evaluate(x, y, loss=loss, threads=1)["loss"]
    label = "loss"
    if 0 < _LOGARITHMIC_FROM * heights.min() < heights.max():
        heights, label = np.log10(heights), "log₁₀ loss"
    levels = np.linspace(heights.min(), heights.max(), _LEVELS)
    filled = ax.contourf(u, v, heights, levels, cmap="cividis")
    ax.figure.colorbar(filled, ax=ax, label=label, format="%.3g")
    ax.contour(u, v, heights, levels, colors="white", linewidths=0.3)
    if across is not None:
        ax.plot(*across.T, "-o", color="white", ms=3, lw=1.5, label="one dot an epoch")
        ax.plot(*across[0], "s", color=COLOURS[1], ms=9, mec="white", label="start")
        ax.plot(*across[-1], "*", color=COLOURS[1], ms=15, mec="white", label="end")
        ax.legend(facecolor="0.35", labelcolor="white", framealpha=0.9)
    else:
        ax.plot(0, 0, "*", color=COLOURS[1], ms=15, mec="white")
    finish(ax, x=names[0], y=names[1], title=title)
    ax.grid(visible=False)
    return ax


def _random_directions(model: Sequential, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    result = np.zeros((2, model.parameter_count))
    for spec in model.parameter_specs:
        part = slice(spec.offset, spec.offset + spec.size)
        w = model.parameters[spec.name].reshape(-1)
        for direction in result:
            noise = rng.normal(size=spec.size)
            direction[part] = noise * np.linalg.norm(w) / np.linalg.norm(noise)
    return result
