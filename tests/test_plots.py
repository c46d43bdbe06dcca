"""Pictures of training: what they show, read back from matplotlib's own objects."""

import pytest

import fastmlp as fm
from fastmlp import plots
from fastmlp.history import History

pytest.importorskip("matplotlib")

CURVES = {
    "loss": [3.0, 0.3, 0.05],
    "val_loss": [2.0, 0.5, 0.4],
    "accuracy": [0.1, 0.8, 0.9],
    "val_accuracy": [0.2, 0.7, 0.8],
}


class Fitted:
    history = CURVES


def test_a_panel_for_each_quantity():
    figure = plots.training_curves(Fitted(), validation_name="test", title="digits")
    loss, accuracy = figure.axes
    assert [axes.get_ylabel() for axes in (loss, accuracy)] == ["loss", "accuracy"]
    assert [line.get_label() for line in loss.lines] == ["training", "test"]
    assert list(loss.lines[0].get_xdata()) == [1, 2, 3]
    assert list(accuracy.lines[1].get_ydata()) == CURVES["val_accuracy"]
    assert loss.get_yscale() == "log"
    assert accuracy.get_yscale() == "linear"
    assert figure.get_suptitle() == "digits"


def test_loss_alone_and_a_single_epoch():
    figure = plots.training_curves({"loss": [0.5]})
    (axes,) = figure.axes
    assert axes.lines[0].get_marker() == "o"
    assert axes.get_legend() is None


def test_is_a_picture(tmp_path):
    plots.training_curves(CURVES).savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("curves", [{}, {"loss": []}, {"accuracy": [1.0]}])
def test_rejects_what_is_no_history(curves):
    with pytest.raises(ValueError, match="history must hold the loss"):
        plots.training_curves(curves)


def test_one_quantity_on_axes_of_ones_own():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    history = History()
    for row in zip(*CURVES.values(), strict=True):
        history.add(dict(zip(CURVES, row, strict=True)), 1.0, 10)
    assert history.plot(ax, name="accuracy") is ax
    assert [list(line.get_ydata()) for line in ax.lines] == [
        CURVES["accuracy"],
        CURVES["val_accuracy"],
    ]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy")
    with pytest.raises(ValueError, match="name must be one of 'loss', 'accuracy'"):
        history.plot(ax, name="acuracy")
    with pytest.raises(ValueError, match="history must hold the loss"):
        History().plot(ax)


def test_the_old_place_has_the_function():
    assert plots.training_curves is fm.pictures.training_curves
