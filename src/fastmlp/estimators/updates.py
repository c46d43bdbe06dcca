"""scikit-learn's update rules: rows of scalars for the kernels of `fastmlp.optimizers`.

Where scikit-learn differs from PyTorch, only the scalars of a step differ, and they are computed
here in double precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp import optimizers

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from fastmlp.model import Sequential
    from fastmlp.schedules import Schedule

    Rows = NDArray[np.float64]

# Biases are a group of their own, which the penalty spares.
_GROUPS = [("*.bias", {})]


class _BatchPenalty:
    """An L2 penalty of its own strength in each step: scikit-learn divides alpha by the batch."""

    decay_column: int
    lr: float | Schedule

    _first = 1
    _strengths: Rows = np.zeros(0)
    _last: tuple[Any, Rows] = None, np.zeros(0)

    def penalize(self, first_step: int, strengths: Rows) -> None:
        """Set what times the weights is added to their gradient in the steps from `first_step`."""
        self._first, self._strengths = first_step, strengths

    def hyper(self, first_step: int, count: int, *, epoch: int = 0, group: int = 0) -> Rows:
        """Return the scalars of a span of steps, see `Optimizer.hyper`."""
        place = first_step, count, epoch, self.version  # type: ignore[attr-defined]
        if self._last[0] != place:  # both groups have the same settings
            rows = super().hyper(first_step, count, epoch=epoch)  # type: ignore[misc]
            self._last = place, self._adapted(rows.copy())
        rows = self._last[1].copy()
        if group == 0:
            start = first_step - self._first
            rows[:, self.decay_column] = self._strengths[start : start + count]
        return rows

    def _adapted(self, rows: Rows) -> Rows:
        """Return PyTorch's scalars as those of scikit-learn's rule."""
        return rows

    def __getstate__(self) -> dict[str, Any]:
        # How many steps the last span had is a matter of time: equal fits would pickle differently.
        left = ("_first", "_strengths", "_last")
        state = super().__getstate__()  # type: ignore[misc]
        return {name: value for name, value in state.items() if name not in left}

    @property
    def learning_rate(self) -> float | Schedule:
        """The rate that holds now, under scikit-learn's name."""
        return self.lr


class SGD(_BatchPenalty, optimizers.SGD):
    """Gradient descent with scikit-learn's momentum: v ← μ·v - η·g; w ← w + v.

    With Nesterov's form w ← w + μ·v - η·g. As long as η stays what it is, b = -v/η follows
    PyTorch's rule, so that one is used, and b is scaled when η changes.

    Parameters
    ----------
    lr : float or Schedule
        η. With a schedule the rule is PyTorch's.
    momentum : float
        μ, 0 to 1.
    nesterov : bool
        No effect without momentum.
    """

    decay_column = 4

    def __init__(self, lr: Any, momentum: float, nesterov: bool):
        super().__init__(lr, momentum, nesterov and momentum > 0, groups=_GROUPS)

    def change_rate(self, rate: float, model: Sequential) -> None:
        """Set the learning rate, keeping the velocity."""
        for slot in self.state_for(model).slots:
            slot.array()[...] *= self.lr / rate
        self.lr = rate


class Adam(_BatchPenalty, optimizers.Adam):
    """Adam with scikit-learn's ε: w ← w - η·√(1 - β₂ᵗ)/(1 - β₁ᵗ) · m/(√v + ε).

    PyTorch's ε is multiplied by √(1 - β₂ᵗ) in this form; dividing it by that before makes the two
    agree.

    Parameters
    ----------
    lr : float or Schedule
        η.
    betas : (float, float)
    eps : float
    """

    decay_column = 5

    def __init__(self, lr: Any, betas: tuple[float, float], eps: float):
        super().__init__(lr, betas, eps, groups=_GROUPS)

    def _adapted(self, rows: Rows) -> Rows:
        rows[:, 3] /= rows[:, 4]
        return rows
