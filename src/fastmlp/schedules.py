"""Learning-rate schedules: functions from step or epoch numbers to learning rates, as data.

A schedule is asked for whole spans of steps at once, so it costs nothing per mini-batch. Numbers
start at 0: the first update of a training has step 0 and epoch 0. Names and formulas are PyTorch's
where it has them. Schedules combine: ``Warmup(Cosine(0.1, 900), 100)``,
``Exponential(0.1, 0.9, unit="epoch") * 0.5``, ``Constant(0.1).then(Cosine(0.1, 500), at=100)``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_flag, check_integer, check_number, choose, shown
from fastmlp.registry import Configurable, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    Rates = NDArray[np.float64]


class Schedule(Configurable):
    """Base of the schedules.

    Attributes
    ----------
    name : str
        Name in `SCHEDULES`.
    unit : {"step", "epoch"}
        What the schedule counts; "mixed" for a product of schedules with different units.
    """

    unit: str = "step"

    def __call__(self, positions: ArrayLike) -> Rates:
        """Return the learning rates at some positions.

        Parameters
        ----------
        positions : array_like of int
            Numbers of steps or epochs, as `unit` says, counted from 0; any shape.

        Returns
        -------
        ndarray of float64, of the same shape

        Raises
        ------
        TypeError, ValueError
            If the positions are not integers, or negative; if the unit is "mixed".
        """
        if self.unit == "mixed":
            raise ValueError(f"{self!r} counts steps and epochs: ask its `rates`")
        positions = np.asarray(positions)
        if positions.dtype.kind not in "iu":
            raise TypeError(f"positions must be integers; got dtype {positions.dtype}")
        if positions.size and positions.min() < 0:
            raise ValueError(f"positions must be >= 0; got {positions.min()}")
        rates = self._at(positions.astype(np.int64))
        return np.broadcast_to(np.asarray(rates, np.float64), positions.shape).copy()

    def rates(self, steps: NDArray[np.int64], epoch: int) -> Rates:
        """Return the learning rates of some steps of one epoch, all counted from 0."""
        return self(steps if self.unit == "step" else np.full(np.shape(steps), epoch, np.int64))

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        raise NotImplementedError

    def then(self, other: float | Schedule, at: int) -> Sequence:
        """Return this schedule up to position `at`, and from there on `other`, from its 0 on."""
        return Sequence([self, other], [at])

    def __mul__(self, other: float | Schedule) -> Product:
        """Return the product of two schedules, or of one and a number."""
        if not isinstance(other, Schedule) and not hasattr(other, "__float__"):
            return NotImplemented
        return Product([self, as_schedule("factor of a schedule", other)])

    __rmul__ = __mul__


def as_schedule(argument: str, value: Any) -> Schedule:
    """Return a schedule: `value` itself, a constant one, or the one that a config describes.

    Raises
    ------
    TypeError, ValueError
        If it is neither a schedule, its config, nor a number >= 0.
    """
    if isinstance(value, Schedule):
        return value
    if hasattr(value, "keys"):
        return from_config(value)
    return Constant(check_number(f"{argument} (or a schedule)", value, low=0.0))


def _members(name: str, schedules: Any) -> tuple[Schedule, ...]:
    if isinstance(schedules, str) or not hasattr(schedules, "__iter__"):
        raise TypeError(f"schedules of {name} must be a list of schedules; got {shown(schedules)}")
    return tuple(as_schedule(f"schedule of {name}", item) for item in schedules)


def _unit(name: str, unit: object) -> str:
    return choose(f"unit of {name}", unit, ("step", "epoch"))


def _rate(name: str, argument: str, value: object) -> float:
    return check_number(f"{argument} of {name}", value, low=0.0)


class Constant(Schedule):
    """The same learning rate always.

    Parameters
    ----------
    lr : float
        Learning rate >= 0.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "constant"
    settings = ("lr",)
    lr: float

    def __init__(self, lr: float):
        self._set(lr=_rate(self.name, "lr", lr))

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        return self.lr


class Step(Schedule):
    """lr · gamma^k, k the number of drops so far. `torch.optim.lr_scheduler.StepLR`, `MultiStepLR`.

    Parameters
    ----------
    lr : float
        Learning rate at first.
    every : int or list of int
        Positions between drops, or the rising positions of the drops.
    gamma : float
        Factor > 0 of a drop.
    unit : {"step", "epoch"}

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "step"
    settings = ("lr", "every", "gamma", "unit")
    lr: float
    every: int | tuple[int, ...]
    gamma: float

    def __init__(
        self, lr: float, every: int | Iterable[int], gamma: float = 0.1, unit: str = "step"
    ):
        places: int | tuple[int, ...]
        if hasattr(every, "__iter__") and not isinstance(every, str):
            places = tuple(check_integer(f"every of {self.name}", k, low=0) for k in every)
            if not places or list(places) != sorted(set(places)):
                raise ValueError(f"every of step must be rising positions; got {shown(every)}")
        else:
            places = check_integer(f"every of {self.name}", every, low=1)
        self._set(
            lr=_rate(self.name, "lr", lr),
            every=places,
            gamma=check_number("gamma of step", gamma, low=0.0, open_low=True),
            unit=_unit(self.name, unit),
        )

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        if isinstance(self.every, tuple):
            drops = np.searchsorted(self.every, positions, side="right")
        else:
            drops = positions // self.every
        return self.lr * np.power(self.gamma, drops)


class Exponential(Schedule):
    """lr · gamma^t. `torch.optim.lr_scheduler.ExponentialLR`.

    Parameters
    ----------
    lr : float
        Learning rate at first.
    gamma : float
        Factor of each position, > 0 and <= 1.
    unit : {"step", "epoch"}

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "exponential"
    settings = ("lr", "gamma", "unit")
    lr: float
    gamma: float

    def __init__(self, lr: float, gamma: float, unit: str = "step"):
        self._set(
            lr=_rate(self.name, "lr", lr),
            gamma=check_number("gamma of exponential", gamma, low=0.0, high=1.0, open_low=True),
            unit=_unit(self.name, unit),
        )

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        return self.lr * np.power(self.gamma, positions)


class Polynomial(Schedule):
    """end + (lr - end)·(1 - t/total)^power, and `end` from `total` on.

    `torch.optim.lr_scheduler.PolynomialLR`; with power 1 a straight line.

    Parameters
    ----------
    lr : float
        Learning rate at first.
    total : int
        Position at which `end` is reached.
    power : float
        Exponent > 0.
    end : float
        Learning rate at last.
    unit : {"step", "epoch"}

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "polynomial"
    settings = ("lr", "total", "power", "end", "unit")
    lr: float
    total: int
    power: float
    end: float

    def __init__(
        self, lr: float, total: int, power: float = 1.0, end: float = 0.0, unit: str = "step"
    ):
        self._set(
            lr=_rate(self.name, "lr", lr),
            total=check_integer("total of polynomial", total, low=1),
            power=check_number("power of polynomial", power, low=0.0, open_low=True),
            end=_rate(self.name, "end", end),
            unit=_unit(self.name, unit),
        )

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        left = 1.0 - np.minimum(positions, self.total) / self.total
        return self.end + (self.lr - self.end) * left**self.power


class InverseScaling(Schedule):
    """lr / (1 + decay·t)^power; with decay 1 scikit-learn's "invscaling".

    Parameters
    ----------
    lr : float
        Learning rate at first.
    power : float
        Exponent > 0.
    decay : float
        Factor > 0 of the position.
    unit : {"step", "epoch"}

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "inverse_scaling"
    settings = ("lr", "power", "decay", "unit")
    lr: float
    power: float
    decay: float

    def __init__(self, lr: float, power: float = 0.5, decay: float = 1.0, unit: str = "step"):
        self._set(
            lr=_rate(self.name, "lr", lr),
            power=check_number("power of inverse_scaling", power, low=0.0, open_low=True),
            decay=check_number("decay of inverse_scaling", decay, low=0.0, open_low=True),
            unit=_unit(self.name, unit),
        )

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        return self.lr / np.power(1.0 + self.decay * positions, self.power)


class Cosine(Schedule):
    """end + (lr - end)·(1 + cos(π·t/period))/2: half a cosine from lr down to end.

    Without restarts it stays at `end`. With them it begins again at lr after each period, and
    each period is `stretch` times the one before. `torch.optim.lr_scheduler.CosineAnnealingLR` and
    `CosineAnnealingWarmRestarts` (period T_0, stretch T_mult).

    Source: I. Loshchilov, F. Hutter, SGDR (2016), arXiv:1608.03983.

    Parameters
    ----------
    lr : float
        Learning rate at first.
    period : int
        Positions from lr to end.
    end : float
        Learning rate at last.
    restarts : bool
        Whether to begin again.
    stretch : int
        Factor >= 1 of the periods.
    unit : {"step", "epoch"}

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "cosine"
    settings = ("lr", "period", "end", "restarts", "stretch", "unit")
    lr: float
    period: int
    end: float
    restarts: bool
    stretch: int

    def __init__(
        self,
        lr: float,
        period: int,
        end: float = 0.0,
        restarts: bool = False,
        stretch: int = 1,
        unit: str = "step",
    ):
        self._set(
            lr=_rate(self.name, "lr", lr),
            period=check_integer("period of cosine", period, low=1),
            end=_rate(self.name, "end", end),
            restarts=check_flag("restarts of cosine", restarts),
            stretch=check_integer("stretch of cosine", stretch, low=1),
            unit=_unit(self.name, unit),
        )

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        if not self.restarts:
            phase = np.minimum(positions, self.period) / self.period
        elif self.stretch == 1:
            phase = (positions % self.period) / self.period
        else:
            # Period k begins at period·(stretchᵏ - 1)/(stretch - 1).
            last = int(positions.max(initial=0))
            starts = [0]
            length = self.period
            while starts[-1] + length <= last:
                starts.append(starts[-1] + length)
                length *= self.stretch
            number = np.searchsorted(starts, positions, side="right") - 1
            lengths = self.period * np.power(self.stretch, number)
            phase = (positions - np.take(starts, number)) / lengths
        return self.end + (self.lr - self.end) * 0.5 * (1.0 + np.cos(math.pi * phase))


class Warmup(Schedule):
    """A straight line from start·lr up to the beginning of a schedule, which then follows.

    Before `length` the rate is (start + (1 - start)·t/length) times the schedule's first; from
    there on it is the schedule's, whose position 0 is at `length`.
    `torch.optim.lr_scheduler.LinearLR`.

    Parameters
    ----------
    schedule : float or Schedule
        What follows. It sets the unit.
    length : int
        Positions of the warm-up.
    start : float
        Fraction of the rate to begin with, 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "warmup"
    settings = ("schedule", "length", "start")
    schedule: Schedule
    length: int
    start: float

    def __init__(self, schedule: float | Schedule, length: int, start: float = 1 / 3):
        schedule = as_schedule("schedule of warmup", schedule)
        self._set(
            schedule=schedule,
            length=check_integer("length of warmup", length, low=1),
            start=check_number("start of warmup", start, low=0.0, high=1.0),
            unit=_one_unit([schedule]),
        )

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        rise = np.minimum(positions, self.length) / self.length
        factor = self.start + (1.0 - self.start) * rise
        return factor * self.schedule(np.maximum(positions - self.length, 0))


class OneCycle(Schedule):
    """Half a cosine up from lr/div to lr, then one down to lr/(div·final_div).

    The peak is at rise·total - 1 and the end at total - 1, where it stays.
    `torch.optim.lr_scheduler.OneCycleLR` with two phases; momentum is left alone.

    Source: L. Smith, N. Topin, Super-convergence (2017), arXiv:1708.07120.

    Parameters
    ----------
    lr : float
        Largest learning rate.
    total : int
        Positions of the whole cycle, at least 2.
    rise : float
        Fraction of them to the peak (`pct_start`), so that rise·total > 1; less than 1.
    div, final_div : float
        Divisors >= 1.
    unit : {"step", "epoch"}

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "one_cycle"
    settings = ("lr", "total", "rise", "div", "final_div", "unit")
    lr: float
    total: int
    rise: float
    div: float
    final_div: float

    def __init__(
        self,
        lr: float,
        total: int,
        rise: float = 0.3,
        div: float = 25.0,
        final_div: float = 1e4,
        unit: str = "step",
    ):
        total = check_integer("total of one_cycle", total, low=2)
        self._set(
            lr=_rate(self.name, "lr", lr),
            total=total,
            rise=check_number(
                f"rise of one_cycle with total {total}",
                rise,
                low=1.0 / total,
                high=1.0,
                open_low=True,
                open_high=True,
            ),
            div=check_number("div of one_cycle", div, low=1.0),
            final_div=check_number("final_div of one_cycle", final_div, low=1.0),
            unit=_unit(self.name, unit),
        )

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        first = self.lr / self.div
        peak, end = self.rise * self.total - 1.0, self.total - 1.0
        up = np.minimum(positions / peak, 1.0)
        down = np.clip((positions - peak) / (end - peak), 0.0, 1.0)
        rising = self.lr + (first - self.lr) * 0.5 * (1.0 + np.cos(math.pi * up))
        least = first / self.final_div
        falling = least + (self.lr - least) * 0.5 * (1.0 + np.cos(math.pi * down))
        return np.where(positions <= peak, rising, falling)


class Function(Schedule):
    """A Python function from a position to a learning rate.

    Parameters
    ----------
    function : callable
        int -> float >= 0; called once for each position.
    unit : {"step", "epoch"}

    Raises
    ------
    TypeError, ValueError
        If it is not callable, or, when used, does not return a number >= 0.
    """

    name = "function"
    settings = ("function", "unit")
    function: Callable[[int], float]

    def __init__(self, function: Callable[[int], float], unit: str = "step"):
        if not callable(function):
            raise TypeError(f"function of a schedule must be callable; got {shown(function)}")
        self._set(function=function, unit=_unit(self.name, unit))

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        rates = [
            check_number(f"learning rate at {self.unit} {t}", self.function(t), low=0.0)
            for t in positions.ravel().tolist()
        ]
        return np.array(rates, np.float64).reshape(positions.shape)

    def config(self) -> dict[str, Any]:
        """Raise TypeError: a Python function is not plain data."""
        raise TypeError(f"a schedule that is a function cannot be stored: {self.function!r}")


def _one_unit(schedules: Iterable[Schedule]) -> str:
    """Return the unit of schedules that count the same; constants fit every unit."""
    units = {item.unit for item in schedules if not isinstance(item, Constant)}
    if len(units) > 1 or "mixed" in units:
        raise ValueError(f"schedules in a row must have one unit; got {', '.join(sorted(units))}")
    return units.pop() if units else "step"


class Sequence(Schedule):
    """One schedule after another, each from its own position 0 on.

    `torch.optim.lr_scheduler.SequentialLR`.

    Parameters
    ----------
    schedules : list of float or Schedule
        At least one; all with one unit.
    at : list of int
        The rising positions where the second, third, … begin.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "sequence"
    settings = ("schedules", "at")
    schedules: tuple[Schedule, ...]
    at: tuple[int, ...]

    def __init__(self, schedules: Iterable[float | Schedule], at: Iterable[int]):
        members = _members("a sequence", schedules)
        starts = tuple(check_integer("at of a sequence", start, low=1) for start in at)
        if len(starts) != len(members) - 1 or list(starts) != sorted(set(starts)):
            raise ValueError(
                f"at of a sequence of {len(members)} schedules must be {len(members) - 1} rising "
                f"positions; got {list(starts)}"
            )
        self._set(schedules=members, at=starts, unit=_one_unit(members))

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        rates = np.empty(positions.shape)
        number = np.searchsorted(self.at, positions, side="right")
        for k, (schedule, start) in enumerate(zip(self.schedules, (0, *self.at), strict=True)):
            mine = number == k
            rates[mine] = schedule(positions[mine] - start)
        return rates


class Product(Schedule):
    """The product of schedules, which may count different units.

    Parameters
    ----------
    schedules : list of float or Schedule
        At least one.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "product"
    settings = ("schedules",)
    schedules: tuple[Schedule, ...]

    def __init__(self, schedules: Iterable[float | Schedule]):
        members = _members("a product", schedules)
        if not members:
            raise ValueError("a product needs at least one schedule; got none")
        units = {item.unit for item in members if not isinstance(item, Constant)}
        unit = "mixed" if len(units) > 1 else units.pop() if units else "step"
        self._set(schedules=members, unit=unit)

    def rates(self, steps: NDArray[np.int64], epoch: int) -> Rates:
        return np.prod([item.rates(steps, epoch) for item in self.schedules], axis=0)

    def _at(self, positions: NDArray[np.int64]) -> float | Rates:
        return np.prod([item(positions) for item in self.schedules], axis=0)


SCHEDULES: dict[str, type[Schedule]] = {
    kind.name: kind
    for kind in (
        Constant,
        Step,
        Exponential,
        Polynomial,
        InverseScaling,
        Cosine,
        Warmup,
        OneCycle,
        Sequence,
        Product,
    )
}


def from_config(config: Mapping[str, Any]) -> Schedule:
    """Return the schedule that `Schedule.config()` described.

    Raises
    ------
    TypeError, ValueError
        If the name or a setting is unknown or refused.
    """
    return build("schedule", config, SCHEDULES)
