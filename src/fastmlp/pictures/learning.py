"""Pictures of learning: learning-rate regimes, batch sizes, overfitting and its remedies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.callbacks import Callback
from fastmlp.errors import DivergenceError, check_integer, choose
from fastmlp.metrics import greater_is_better
from fastmlp.pictures.canvas import COLOURS, DASHES, axes, finish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from fastmlp.history import History
    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential

# A curve is not followed further when it has left the picture: in units of the first loss.
_CEILING = 20.0


class _Curve(Callback):
    """Keeps the training loss at the start and after every epoch, until it passes the ceiling.

    The loss of a history is a mean over the epoch, while the weights change; curves of different
    batch sizes can be compared by the loss of the weights at its end alone.
    """

    def __init__(self, model: Sequential, x: Any, y: Any, loss: Any) -> None:
        self._data = x, y, loss
        self.losses = [model.evaluate(x, y, loss=loss)["loss"]]

    @property
    def too_high(self) -> bool:
        return not self.losses[-1] <= _CEILING * self.losses[0]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        x, y, loss = self._data
        self.losses.append(self.model.evaluate(x, y, loss=loss)["loss"])
        self.model.stop_training |= self.too_high


def learning_rates(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    rates: Sequence[float] | Mapping[str, float],
    ax: Axes | None = None,
    *,
    loss: str | Loss = "mse",
    epochs: int = 20,
    batch_size: int | None = 32,
    seed: int = 0,
    **settings: Any,
) -> Axes:
    """Draw the loss curves of one network at several learning rates.

    Parameters
    ----------
    model : Sequential
        Where every training starts; copies are trained, the model is left alone.
    x, y : array_like
        Training data.
    rates : sequence of float, or mapping of str to float
        Learning rates of plain gradient descent, perhaps with names ("good").
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    loss, epochs, batch_size, seed
        As for `fit`.
    **settings
        Further arguments of `fit`; ``optimizer`` may be a function of the learning rate.

    Returns
    -------
    matplotlib Axes
        The loss over epochs on a logarithmic axis. A training that diverges ends in a cross.
    """
    from fastmlp.optimizers import SGD

    pairs = list(rates.items()) if hasattr(rates, "items") else [("", rate) for rate in rates]
    make = settings.pop("optimizer", SGD)
    ax = axes(ax)
    for k, (name, rate) in enumerate(pairs):
        record = _Curve(model, x, y, loss)
        end = ""
        try:
            model.__deepcopy__({}).fit(
                x, y, loss=loss, optimizer=make(rate), batch_size=batch_size, epochs=epochs,
                seed=seed, progress=False, callbacks=[record], **settings,
            )  # fmt: skip
        except DivergenceError:
            end = ", diverges"
        if record.too_high:
            end = ", diverges"
        curve = record.losses
        label = f"λ = {rate:.3g}" + (f", {name}" if name else "") + end
        colour = COLOURS[k % len(COLOURS)]
        ax.plot(curve, color=colour, ls=DASHES[k % len(DASHES)], lw=1.8, label=label)
        if end:
            ax.plot(len(curve) - 1, curve[-1], "x", color=colour, ms=10, mew=2.5)
    ax.set_yscale("log")
    ax.set_xlim(left=0)
    return finish(ax, x="epoch", y="training loss", legend=True)


def batch_sizes(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    sizes: Sequence[int | None],
    ax: Axes | None = None,
    *,
    against: str = "epochs",
    loss: str | Loss = "mse",
    epochs: int = 10,
    lr: float = 0.1,
    seed: int = 0,
    **settings: Any,
) -> Axes:
    """Draw the loss curves of one network trained with full batch, mini-batches, single samples.

    Parameters
    ----------
    model : Sequential
        Where every training starts; copies are trained, the model is left alone.
    x, y : array_like
        Training data.
    sizes : sequence of int or None
        Batch sizes; None is the full batch.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    against : {"epochs", "updates", "seconds"}
        What is counted from left to right: passes over the data, updates of the weights
        (logarithmic), or the time that training took on this machine (logarithmic).
    loss, epochs, lr, seed
        As for `fit` and SGD.
    **settings
        Further arguments of `fit`.

    Returns
    -------
    matplotlib Axes
    """
    from fastmlp.optimizers import SGD

    choose("against", against, ("epochs", "updates", "seconds"))
    ax = axes(ax)
    n = len(x)
    for k, size in enumerate(sizes):
        record = _Curve(model, x, y, loss)
        history = model.__deepcopy__({}).fit(
            x, y, loss=loss, optimizer=SGD(lr=lr), batch_size=size, epochs=epochs, seed=seed,
            progress=False, callbacks=[record], **settings,
        )  # fmt: skip
        curve = record.losses
        updates = -(-n // (size or n))
        across = {
            "epochs": np.arange(epochs + 1.0),
            "updates": np.arange(epochs + 1) * float(updates),
            "seconds": np.concatenate([[0.0], np.cumsum(history.time)]),
        }[against]
        name = "full batch" if size is None else "single samples" if size == 1 else f"batch {size}"
        # Zero has no place on a logarithmic axis: the start stays where time and updates begin.
        first = 0 if against == "epochs" else 1
        label = f"{name}: {updates:,} update{'s' * (updates > 1)} an epoch"
        ax.plot(
            across[first:], curve[first:], color=COLOURS[k % len(COLOURS)],
            ls=DASHES[k % len(DASHES)], marker="o", ms=3.5, lw=1.6, label=label,
        )  # fmt: skip
    ax.set_yscale("log")
    if against != "epochs":
        ax.set_xscale("log")
    names = {"epochs": "epoch", "updates": "updates", "seconds": "training time (s)"}
    return finish(ax, x=names[against], y="training loss", legend=True)


def gradient_noise(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    loss: str | Loss = "mse",
    sizes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256),
    repeats: int = 20,
    seed: int = 0,
) -> Axes:
    """Draw how far the gradient of a mini-batch is from that of all data, by batch size.

    Parameters
    ----------
    model : Sequential
        Its gradients at its present parameters are looked at.
    x, y : array_like
        Training data.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    loss : str or Loss
        As for `fit`.
    sizes : sequence of int
        Batch sizes, at most the number of samples.
    repeats : int
        Random mini-batches of each size.
    seed : int
        Decides which.

    Returns
    -------
    matplotlib Axes
        ‖g_batch − g‖ / ‖g‖, a point per mini-batch, and the line c/√B that independent samples
        follow.
    """
    repeats = check_integer("repeats", repeats, low=1)
    ax = axes(ax)
    x, y = np.asarray(x), np.asarray(y)
    rng = np.random.default_rng(seed)
    whole = _gradient(model, x, y, loss)
    norm = np.linalg.norm(whole) or 1.0
    means = []
    used = [size for size in sizes if size <= len(x)]
    for k, size in enumerate(used):
        errors = []
        for _ in range(repeats):
            rows = rng.choice(len(x), size, replace=False)
            errors.append(np.linalg.norm(_gradient(model, x[rows], y[rows], loss) - whole) / norm)
        spread = size * np.exp(rng.normal(0, 0.05, repeats))  # beside each other, to be counted
        label = "one mini-batch" if k == 0 else None
        ax.plot(spread, errors, "o", color=COLOURS[4], ms=3, alpha=0.7, label=label)
        means.append(np.sqrt(np.mean(np.square(errors))))
    ax.plot(used, means, "D", color=COLOURS[0], ms=6, label="root mean square")
    scale = means[0] * np.sqrt(used[0])
    ax.plot(used, scale / np.sqrt(used), color="0.3", lw=1.2, ls="--", label="∝ 1/√(batch size)")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(used, [str(size) for size in used])
    return finish(ax, x="batch size", y="distance from the full gradient (relative)", legend=True)


def _gradient(model: Sequential, x: np.ndarray, y: np.ndarray, loss: Any) -> np.ndarray:
    graph = model.graph(x, y, loss)
    return np.concatenate([graph.gradient(node).reshape(-1) for node in graph.variables])


def overfitting(
    histories: Mapping[str, History], ax: Axes | None = None, *, metric: str = "loss"
) -> Axes:
    """Draw training and validation curves of several trainings: the gap is the overfitting.

    Parameters
    ----------
    histories : mapping of str to History
        What `fit(validation_data=…)` returned, by name, such as "plain" and "l2 = 1e-3".
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    metric : str
        "loss" or the name of a metric.

    Returns
    -------
    matplotlib Axes
        Dashed lines are training, full lines validation, a dot the best epoch of each.

    Raises
    ------
    ValueError
        If a history lacks the metric or was made without validation data.
    """
    ax = axes(ax)
    for k, (name, history) in enumerate(histories.items()):
        curves = history.history
        choose("metric", metric, [key for key in curves if f"val_{key}" in curves])
        training, validation = np.array(curves[metric]), np.array(curves[f"val_{metric}"])
        epochs = np.arange(1, len(training) + 1)
        colour = COLOURS[k % len(COLOURS)]
        ax.plot(epochs, training, color=colour, ls="--", lw=1.2)
        ax.plot(epochs, validation, color=colour, lw=2, label=name)
        rises = greater_is_better(metric)
        if rises is None:  # a loss falls, a metric of one's own goes where it learns to go
            rises = metric != "loss" and np.nanmean(validation[-3:]) > validation[0]
        best = int(np.nanargmax(validation) if rises else np.nanargmin(validation))
        ax.plot(epochs[best], validation[best], "o", color=colour, ms=8, mec="white")
    ax.plot([], [], color="0.4", ls="--", lw=1.2, label="(dashed: training)")
    if metric == "loss":
        ax.set_yscale("log")
    return finish(ax, x="epoch", y=metric.replace("_", " "), legend=True)
