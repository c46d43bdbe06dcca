"""Pictures of a training: what was measured, by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.errors import choose, shown
from fastmlp.pictures.canvas import COLOURS, axes, figure, finish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastmlp.history import History

    Curves = Mapping[str, Sequence[float]]

# A loss that falls by more than this factor is easier to read on a logarithmic axis.
LOGARITHMIC_FROM = 30.0


def curves(
    history: History | Curves,
    ax: Axes | None = None,
    *,
    name: str = "loss",
    validation_name: str = "validation",
) -> Axes:
    """Draw the loss or a metric by epoch, training and validation together.

    Parameters
    ----------
    history : History or mapping
        What ``model.fit`` returned, or its ``history``: lists of one number per epoch.
    ax : matplotlib.axes.Axes, optional
        By default those of a new figure.
    name : str
        What to draw; "val_" and this name is drawn beside it where it is there.
    validation_name : str
        What the legend calls the validation data.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the history has no such name, or no epoch.

    Examples
    --------
    >>> fm.pictures.curves(model.fit(x, y, epochs=20, validation_split=0.1))
    """
    table = _table(history)
    choose("name", name, [known for known in table if not known.startswith("val_")])
    ax = axes(ax)
    lines = [("training", table[name], COLOURS[0])]
    if f"val_{name}" in table:
        lines.append((validation_name, table[f"val_{name}"], COLOURS[1]))
    for label, values, colour in lines:
        epochs = range(1, len(values) + 1)
        # A single epoch is a point, which a line would not show.
        ax.plot(epochs, values, color=colour, label=label, marker="o" if len(values) == 1 else "")
    values = [value for _, line, _ in lines for value in line]
    if name == "loss" and min(values) > 0 and max(values) > LOGARITHMIC_FROM * min(values):
        ax.set_yscale("log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    return finish(ax, x="epoch", y=name.replace("_", " "), legend=len(lines) > 1)


def training_curves(
    history: History | Curves,
    *,
    validation_name: str = "validation",
    title: str | None = None,
) -> Figure:
    """Draw loss and metrics by epoch, training and validation together, a panel for each.

    Parameters
    ----------
    history : History or mapping
        What ``model.fit`` returned, or its ``history``: lists of one number per epoch, "loss" among
        them; what starts with "val_" is drawn in the panel of the same name without it.
    validation_name : str
        What the legend calls the validation data.
    title : str, optional
        Stands above all panels.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown by a notebook, or saved by its ``savefig("curves.png")``. It belongs to no
        window, so it need not be closed.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there is no loss in the history, or no epoch.
    """
    table = _table(history)
    names = [name for name in table if not name.startswith("val_")]
    drawing = figure(4.8 * len(names), 3.6)
    panels = drawing.subplots(1, len(names), squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        curves(table, panel, name=name, validation_name=validation_name)
    if title is not None:
        drawing.suptitle(title)
    return drawing


def _table(history: History | Curves) -> Curves:
    table = getattr(history, "history", history)
    if "loss" not in table or not len(table["loss"]):
        raise ValueError(f"history must hold the loss of an epoch at least; got {shown(table)}")
    return table
