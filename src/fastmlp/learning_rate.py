"""The learning-rate range test: raise the rate with every mini-batch and watch the loss.

L. Smith (2017), "Cyclical learning rates for training neural networks", arXiv:1506.01186, section
3.3. The rates are a schedule, so the sweep runs in native spans.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import optimizers
from fastmlp.errors import DivergenceError, check_integer, check_number
from fastmlp.schedules import Schedule

if TYPE_CHECKING:
    from typing import Any

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.optimizer_base import Optimizer

# Mini-batches between two looks at the losses: a sweep that has blown up soon ends.
_SPAN = 16
# The share of the sweep over which losses are smoothed.
_WINDOW = 0.1
# The suggested rate is so many times smaller than the one of the least smoothed loss, as in fastai.
_MARGIN = 10.0
# A loss that falls by less than this share, or so many standard errors of its first mean, has not
# been learned from.
_LEAST_FALL, _LEAST_ERRORS = 0.01, 4.0


class _Sweep(Schedule):
    """From one learning rate to another in equal ratios, one per step."""

    name = "sweep"
    settings = ("lowest", "highest", "steps")
    lowest: float
    highest: float
    steps: int

    def __init__(self, lowest: float, highest: float, steps: int):
        self._set(lowest=lowest, highest=highest, steps=steps)

    def _at(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.geomspace(self.lowest, self.highest, self.steps)[positions]


class LearningRateTest:
    """What a learning-rate range test found.

    Attributes
    ----------
    learning_rates : ndarray of float64, shape (k,)
        Of the mini-batches, rising; the sweep ends early when the loss blows up.
    losses : ndarray of float64, shape (k,)
        Of each mini-batch, before its update.
    smoothed : ndarray of float64, shape (k,)
        Means over a tenth of the sweep around each.
    suggestion : float or None
        A tenth of the learning rate whose smoothed loss is the least; None where the loss did not
        fall by more than its noise, and a hundredth.
    """

    def __init__(self, learning_rates: ArrayLike, losses: ArrayLike, width: int):
        self.learning_rates = np.asarray(learning_rates, np.float64)
        self.losses = np.asarray(losses, np.float64)
        self.smoothed = _smoothed(self.losses, width)
        # At the very ends there is nothing to smooth with: a lucky mini-batch would win.
        end = min(width // 4, (len(self.losses) - 1) // 2)
        best = end + int(self.smoothed[end : len(self.losses) - end].argmin())
        first = self.losses[: min(width, max(best, 1))]  # what comes after is no fall
        fall = first.mean() - self.smoothed[best]
        noise = self.losses[: max(width, len(self.losses) // 3)].std() / np.sqrt(width)
        learned = fall > max(_LEAST_FALL * abs(first.mean()), _LEAST_ERRORS * noise)
        self.suggestion = float(self.learning_rates[best] / _MARGIN) if learned else None

    def __repr__(self) -> str:
        rates = self.learning_rates
        what = (
            "none, the loss did not fall" if self.suggestion is None else f"{self.suggestion:.2g}"
        )
        return (
            f"LearningRateTest of {len(rates)} rates from {rates[0]:.2g} to {rates[-1]:.2g}, "
            f"suggestion: {what}"
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw loss over learning rate, with the suggestion.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to; by default on a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from fastmlp.pictures.canvas import COLOURS, axes, finish

        ax = axes(ax)
        ax.semilogx(self.learning_rates, self.losses, color="0.7", lw=1, label="each mini-batch")
        ax.semilogx(self.learning_rates, self.smoothed, color=COLOURS[0], lw=2, label="smoothed")
        if self.suggestion is not None:
            label = f"suggestion {self.suggestion:.2g}"
            ax.axvline(self.suggestion, color=COLOURS[1], ls="--", label=label)
        # What has blown up would press all else into a line.
        low, high = self.smoothed.min(), max(self.losses[0], self.smoothed[0])
        margin = 0.25 * max(high - low, abs(high) * 0.1)
        ax.set_ylim(min(low, self.losses.min()) - 0.2 * margin, high + margin)
        return finish(ax, x="learning rate", y="loss of the mini-batch", legend=True)


def _smoothed(losses: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the means of up to `width` losses around each, fewer at the ends, but always as many
    on either side: otherwise the curve would be moved.
    """
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    places = np.arange(len(losses))
    half = np.minimum(np.minimum(places, len(losses) - 1 - places), width // 2)
    return (sums[places + half + 1] - sums[places - half]) / (2 * half + 1)


def find_learning_rate(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    *,
    loss: str | Loss = "mse",
    optimizer: str | Optimizer = "adam",
    batch_size: int | str | None = 32,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
    stop_factor: float = 4.0,
    seed: int | None = None,
    sample_weight: ArrayLike | None = None,
    **settings: Any,
) -> LearningRateTest:
    """Train a copy of a model at learning rates that rise from step to step.

    The loss falls where the rate is large enough, is at its best, and blows up where it is too
    large. The model, the optimizer and its state stay as they are, and no random number is drawn.

    Parameters
    ----------
    model : Sequential
    x, y, sample_weight
        As for `Sequential.fit`.
    loss : str or Loss
    optimizer : str or Optimizer
        Its other settings hold; its learning rate is replaced.
    batch_size : int, None or "full"
    lowest, highest : float
        First and last learning rate, both > 0; those between are in equal ratios.
    steps : int
        Mini-batches; more than there are go through the data several times.
    stop_factor : float
        The sweep ends when the loss is so many times the least mean of a tenth of the steps, or
        not finite.
    seed : int, optional
        Of the order of the rows; by default the model's.
    **settings
        As for `Trainer`: threads, l1, l2, backend, ….

    Returns
    -------
    LearningRateTest

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, or the optimizer has no learning rate.
    DivergenceError
        If the loss is not finite at the lowest rate.

    Examples
    --------
    >>> test = fm.find_learning_rate(model, x, y, loss="cross_entropy", optimizer="adam")
    >>> test.plot()
    >>> model.fit(x, y, loss="cross_entropy", optimizer=fm.Adam(lr=test.suggestion))
    """
    from fastmlp.training import Trainer

    lowest = check_number("lowest", lowest, low=0.0, open_low=True)
    highest = check_number("highest", highest, low=lowest, open_low=True)
    steps = check_integer("steps", steps, low=10)
    stop_factor = check_number("stop_factor", stop_factor, low=1.0, open_low=True)
    swept = copy.copy(optimizers.get(optimizer))
    if swept.full_batch:
        raise ValueError(f"{type(swept).__name__} has no learning rate to be found")
    swept.lr = _Sweep(lowest, highest, steps)
    twin = copy.deepcopy(model)
    trainer = Trainer(twin, loss, swept, batch_size, **settings)
    source = trainer.check(x, y, sample_weight)
    seed = trainer.checked_seed(seed)
    executor = trainer.prepare(source.columns, source)
    executor.seed = seed
    state = swept.state_for(twin)
    width = max(int(_WINDOW * steps), 3)
    found: list[float] = []
    blown_up = False
    while len(found) < steps and not blown_up:
        for portion, order, size in trainer.portions(source, True, seed):
            count = min(-(-portion.n // size), steps - len(found))
            losses = np.empty(count)
            for first in range(0, count, _SPAN):
                last = min(first + _SPAN, count)
                with np.errstate(all="ignore"):  # a sweep is meant to blow up
                    executor.train(portion, order, size, first, last, losses)
                found.extend(losses[first:last].tolist())
                blown_up = _blown_up(found, width, stop_factor)
                if blown_up:
                    break
        state.epoch += 1
    finite = np.isfinite(found)
    end = len(found) if finite.all() else int(finite.argmin())
    if end < 2:
        raise DivergenceError(
            f"the loss is {found[end]} in mini-batch {end}, at a learning rate of {lowest:g}: give "
            "a smaller `lowest`, or smaller inputs",
            batch=end,
            loss=found[end],
        )
    end = min(end, _end(found[:end], width, stop_factor))
    return LearningRateTest(np.geomspace(lowest, highest, steps)[:end], found[:end], width)


def _blown_up(losses: list[float], width: int, factor: float) -> bool:
    finite = np.isfinite(losses).all()
    return not finite or _end(losses, width, factor) < len(losses)


def _end(losses: list[float], width: int, factor: float) -> int:
    """Return how many losses there are up to the first that is too large, that one included."""
    if len(losses) <= width:
        return len(losses)
    means = np.convolve(losses, np.ones(width) / width, mode="valid")
    least = np.minimum.accumulate(means)[:-1]
    over = (np.array(losses[width:]) > factor * least) & (least > 0.0)
    return width + int(over.argmax()) + 1 if over.any() else len(losses)
