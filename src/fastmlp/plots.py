"""Pictures of training, drawn by matplotlib (imported at the first picture; an extra)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .training import History

# Two colours that people with any colour vision tell apart (Okabe and Ito, 2008).
TRAINING_COLOUR, VALIDATION_COLOUR = "#0072b2", "#d55e00"
# A loss that falls by more than this factor is easier to read on a logarithmic axis.
LOGARITHMIC_FROM = 30.0


def training_curves(
    history: History | Mapping[str, Sequence[float]],
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
    curves = getattr(history, "history", history)
    if "loss" not in curves or not len(curves["loss"]):
        raise ValueError(f"history must hold the loss of an epoch at least; got {shown(curves)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = 'drawing needs matplotlib: pip install "fastmlp[plots]"'
        raise ImportError(message) from error
    names = [name for name in curves if not name.startswith("val_")]
    figure = Figure(figsize=(4.8 * len(names), 3.6), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        _draw_panel(axes, name, curves, validation_name)
    if title is not None:
        figure.suptitle(title)
    return figure


def _draw_panel(
    axes: Axes, name: str, curves: Mapping[str, Sequence[float]], validation_name: str
) -> None:
    lines = [("training", curves[name], TRAINING_COLOUR)]
    if f"val_{name}" in curves:
        lines.append((validation_name, curves[f"val_{name}"], VALIDATION_COLOUR))
    for label, values, colour in lines:
        epochs = range(1, len(values) + 1)
        # A single epoch is a point, which a line would not show.
        axes.plot(epochs, values, color=colour, label=label, marker="o" if len(values) == 1 else "")
    values = [value for _, line, _ in lines for value in line]
    if name == "loss" and min(values) > 0 and max(values) > LOGARITHMIC_FROM * min(values):
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel(name.replace("_", " "))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        axes.legend(frameon=False)
