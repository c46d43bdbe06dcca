"""A line search for the strong Wolfe conditions.

Source: J. Nocedal, S. Wright, Numerical Optimization (2nd ed. 2006), algorithms 3.5 and 3.6; trial
points and their safeguards are those of M. Schmidt's minFunc, as in `torch.optim.LBFGS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# The next trial lies between these multiples of the last stretch, and of the last step.
_LEAST_STRETCH, _LARGEST_STEP = 0.01, 10.0
# A trial closer than this share of the bracket to its ends is moved, if that goes on.
_MARGIN = 0.1
# Where the loss is not finite, the next trial goes so much of the way.
_RETREAT = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A step along the line.

    Attributes
    ----------
    t : float
        Its length in units of the direction.
    value : float
        The function there.
    slope : float
        Its derivative along the direction.
    point : object
        Whatever the caller keeps of it.
    """

    t: float
    value: float
    slope: float
    point: Any

    @property
    def finite(self) -> bool:
        return math.isfinite(self.value) and math.isfinite(self.slope)


def strong_wolfe(
    evaluate: Callable[[float], Trial],
    start: Trial,
    t: float,
    c1: float = 1e-4,
    c2: float = 0.9,
    *,
    most: int = 25,
    least: float = 0.0,
) -> Trial | None:
    """Return a step with f(t) <= f(0) + c₁·t·f'(0) and |f'(t)| <= c₂·|f'(0)|.

    Parameters
    ----------
    evaluate : callable
        From t > 0 to the trial there; where the function is not finite, neither is its value.
    start : Trial
        At t = 0, with a slope < 0.
    t : float
        The first trial > 0.
    c1, c2 : float
        0 < c₁ < c₂ < 1.
    most : int
        Trials after which the best so far is taken.
    least : float
        Length of a bracket that is not worth dividing.

    Returns
    -------
    Trial or None
        The best step found, perhaps without fulfilling the conditions; None if none has a value
        below that at the start.
    """

    def too_high(trial: Trial) -> bool:
        return not trial.value <= start.value + c1 * trial.t * start.slope

    def flat(trial: Trial) -> bool:
        return abs(trial.slope) <= -c2 * start.slope

    # Go on until there is a bracket: `low` is its better end (algorithm 3.5).
    before, trial = start, evaluate(t)
    tried = 1
    while tried < most:
        if trial.finite:
            if too_high(trial) or (before is not start and trial.value >= before.value):
                low, high = before, trial
                break
            if flat(trial):
                return trial
            if trial.slope >= 0.0:
                low, high = trial, before
                break
            bounds = trial.t + _LEAST_STRETCH * (trial.t - before.t), _LARGEST_STEP * trial.t
            t = _minimum_of_cubic(before, trial, bounds)
            before = trial
        else:
            t = before.t + _RETREAT * (trial.t - before.t)
        trial = evaluate(t)
        tried += 1
    else:
        return _best(start, before, trial)

    # Divide it (algorithm 3.6). Between its ends there is a point that fulfils the conditions.
    pressed = False
    for _ in range(most - tried):
        left, right = sorted((low.t, high.t))
        if right - left <= least:
            break
        t = _minimum_of_cubic(low, high, (left, right))
        margin = _MARGIN * (right - left)
        close = min(right - t, t - left) < margin
        if close and (pressed or t >= right or t <= left):
            t = right - margin if right - t < t - left else left + margin
            close = False
        pressed = close
        trial = evaluate(t)
        if too_high(trial) or trial.value >= low.value:
            high = trial
            continue
        if flat(trial):
            return trial
        if trial.slope * (high.t - low.t) >= 0.0:
            high = low
        low = trial
    return _best(start, low, high)


def _best(start: Trial, *trials: Trial) -> Trial | None:
    best = min((trial for trial in trials if trial.finite), key=lambda trial: trial.value)
    return best if best.value < start.value else None


def _minimum_of_cubic(one: Trial, two: Trial, bounds: tuple[float, float]) -> float:
    """Return where the cubic through two values and slopes is least, within bounds.

    The middle of the bounds where there is no such place.
    """
    left, right = (one, two) if one.t <= two.t else (two, one)
    low, high = bounds
    width = right.t - left.t
    a = left.slope + right.slope - 3.0 * (right.value - left.value) / width
    square = a * a - left.slope * right.slope
    if square >= 0.0:
        root = math.sqrt(square)
        below = right.slope - left.slope + 2.0 * root
        if below != 0.0:
            place = right.t - width * ((right.slope + root - a) / below)
            if math.isfinite(place):
                return min(max(place, low), high)
    return 0.5 * (low + high)
