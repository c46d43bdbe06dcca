"""Pictures of what a classifier does: its boundary, its confusions, its worst mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_integer
from fastmlp.pictures.canvas import COLOURS, axes, bare, finish
from fastmlp.pictures.layers import mosaic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from fastmlp.model import Sequential

_GRID = 300
_MARKERS = "os^Dv*P"


def _labels(y: ArrayLike, outputs: int) -> np.ndarray:
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1:
        return y.argmax(axis=1)
    y = y.reshape(-1)
    return (y > 0).astype(int) if outputs == 1 else y.astype(int)


def _classes(outputs: np.ndarray, activation: str) -> np.ndarray:
    if outputs.shape[1] > 1:
        return outputs.argmax(axis=1)
    # One output is a probability, or else a number whose sign decides.
    return (outputs[:, 0] > (0.5 if activation == "sigmoid" else 0.0)).astype(int)


def decision_boundary(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Axes:
    """Draw which class a classifier of two inputs gives to each point of the plane.

    Parameters
    ----------
    model : Sequential
        With two inputs; one output (decided at 0.5 behind a sigmoid, otherwise at 0) or one per
        class.
    x : array_like, shape (n, 2)
        Samples to draw.
    y : array_like
        Their classes: indices, one-hot rows, or 0 and 1 or −1 and 1.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    names : sequence of str, optional
        Of the two inputs.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If `x` has not two columns.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x must have two columns to be drawn; got shape {x.shape}")
    ax = axes(ax)
    labels = _labels(y, model.output_size)
    (left, bottom), (right, top) = x.min(axis=0), x.max(axis=0)
    mx, my = 0.08 * (right - left), 0.08 * (top - bottom)
    u, v = np.meshgrid(
        np.linspace(left - mx, right + mx, _GRID), np.linspace(bottom - my, top + my, _GRID)
    )
    outputs = model.predict(np.stack([u.reshape(-1), v.reshape(-1)], axis=1))
    given = _classes(outputs, model.output_activation).reshape(u.shape)
    count = max(int(labels.max()), int(given.max())) + 1
    colours = [COLOURS[k % len(COLOURS)] for k in range(count)]
    ax.contourf(u, v, given, np.arange(count + 1) - 0.5, colors=colours, alpha=0.22)
    if count > 1:
        ax.contour(u, v, given, np.arange(count - 1) + 0.5, colors="black", linewidths=1)
    for k in range(count):
        some = x[labels == k]
        marker = _MARKERS[k % len(_MARKERS)]
        ax.plot(*some.T, marker, color=colours[k], mec="white", ms=5.5, mew=0.5, label=f"class {k}")
    first, second = names or ("x₁", "x₂")
    finish(ax, x=first, y=second)
    ax.legend(frameon=True, framealpha=0.9)
    ax.grid(visible=False)
    return ax


def confusion(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Axes:
    """Draw how often each class was taken for which.

    Parameters
    ----------
    model : Sequential
        A classifier.
    x, y : array_like
        Data that it was not trained on, and the classes.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    names : sequence of str, optional
        Of the classes.

    Returns
    -------
    matplotlib Axes
        Rows are true classes, columns predicted ones; only mistakes are shaded.
    """
    outputs = model.predict(x)
    labels = _labels(y, outputs.shape[1])
    given = _classes(outputs, model.output_activation)
    count = max(outputs.shape[1], 2)
    counts = np.zeros((count, count), int)
    np.add.at(counts, (labels, given), 1)
    ax = axes(ax, 1.9 + 0.45 * count, 1.5 + 0.42 * count)
    mistakes = counts - np.diag(np.diag(counts))
    ax.imshow(mistakes, cmap="Oranges", vmax=max(mistakes.max(), 1) * 1.3)
    for i in range(count):
        for j in range(count):
            if counts[i, j]:
                weight = "bold" if i == j else "normal"
                ax.text(
                    j, i, counts[i, j], ha="center", va="center", fontsize="small", weight=weight
                )
    names = list(names or map(str, range(count)))
    ax.set_xticks(range(count), names)
    ax.set_yticks(range(count), names)
    accuracy = np.mean(labels == given)
    ax.set_title(f"accuracy {accuracy:.2%}, {mistakes.sum()} mistakes of {len(labels)}")
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    ax.tick_params(length=0)
    return ax


def mistakes(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    shape: tuple[int, int],
    ax: Axes | None = None,
    *,
    most: int = 15,
) -> Axes:
    """Draw the images that a classifier got most wrong, worst first.

    Parameters
    ----------
    model : Sequential
        A classifier with one output per class.
    x, y : array_like
        Images, shape (n, height·width), and their classes.
    shape : (height, width)
        Of the images.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    most : int
        How many at most.

    Returns
    -------
    matplotlib Axes
        Under each image "true → predicted". Worst is where the output of the predicted class
        is furthest above that of the true one.
    """
    x = np.asarray(x)
    most = check_integer("most", most, low=1)
    outputs = model.predict(x)
    labels, given = _labels(y, outputs.shape[1]), outputs.argmax(axis=1)
    rows = np.arange(len(x))
    excess = outputs[rows, given] - outputs[rows, labels]
    wrong = np.flatnonzero(labels != given)
    worst = wrong[np.argsort(-excess[wrong], kind="stable")][:most]
    ax = axes(ax)
    if not len(worst):
        return bare(ax, "no mistakes")
    height, width = shape
    columns = min(len(worst), 5)
    # Two lines of pixels are left under each image for its text.
    room = max(2, round(0.3 * height))
    padded = np.zeros((len(worst), height + room, width))
    padded[:, :height] = x[worst].reshape(-1, height, width)
    padded[:, height:] = np.nan
    ax.imshow(mosaic(padded, columns), cmap="Greys", interpolation="nearest")
    for k, row in enumerate(worst):
        top, left = k // columns * (height + room + 1), k % columns * (width + 1)
        text = f"{labels[row]} → {given[row]}"
        at = left + width / 2 - 0.5, top + height + room / 2 - 0.5
        ax.text(*at, text, ha="center", va="center", fontsize="medium")
    return bare(ax, f"the worst {len(worst)} of {len(wrong)} mistakes (true → predicted)")
