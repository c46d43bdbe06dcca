"""What all pictures share: axes to draw on, colours, and how axes look."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that readers with any colour vision tell apart: M. Okabe and K. Ito, "Color Universal
# Design" (2008). Black text and the yellow, too light on white, are left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
POSITIVE, NEGATIVE = "#0072B2", "#D55E00"
# Where colours alone would have to be told apart, the line says it again.
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
# Blue to white to vermilion, for numbers with a sign.
SIGNED = "RdBu"


def pyplot() -> Any:
    """Return matplotlib.pyplot, imported now.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    return _imported("matplotlib.pyplot")


def figure(width: float, height: float) -> Figure:
    """Return a new figure of this size in inches, which belongs to no window.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    return _imported("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")


def _imported(module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "fastmlp[plots]"') from error


def axes(ax: Axes | None, width: float = 6.4, height: float = 4.4) -> Axes:
    """Return the axes given, or new ones in a figure of this size in inches."""
    if ax is not None:
        return ax
    _, ax = pyplot().subplots(figsize=(width, height), layout="constrained")
    return ax


def finish(ax: Axes, *, x: str, y: str, title: str = "", legend: bool = False) -> Axes:
    """Label the axes of a chart and take away what carries no ink."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if title:
        ax.set_title(title)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        ax.legend(frameon=False)
    return ax


def bare(ax: Axes, title: str = "") -> Axes:
    """Turn axes into a plain picture without ticks."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    return ax
