"""Optimizers with a step size of its own for each parameter, older than Adam.

RMSprop, Adagrad, Adadelta and Rprop, as PyTorch has them; notation as in `optimizers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_number
from fastmlp.optimizer_base import (
    Optimizer,
    Setting,
    flag,
    forgetting,
    fraction,
    not_negative,
    pair,
    positive,
    rate,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastmlp.optimizer_base import Columns, Floats, Group, Rates, Row, Slots, Steps, Values
    from fastmlp.schedules import Schedule


class RMSprop(Optimizer):
    """Steps divided by the root mean square of recent gradients, as `torch.optim.RMSprop`.

    g ← g + λ·w;  v ← α·v + (1 - α)·g²;  d ← g/(√v + ε);  w ← w - η·d. With `centered`
    a ← a + (1 - α)·(g - a) and √(v - a²) takes the place of √v; with momentum b ← μ·b + d and
    w ← w - η·b.

    Source: T. Tieleman, G. Hinton, lecture 6.5 of Neural networks for machine learning (2012);
    centered: A. Graves (2013), arXiv:1308.0850, equations 38-45.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate η >= 0.
    alpha : float
        α, >= 0 and < 1.
    eps : float
        ε >= 0.
    weight_decay : float
        λ >= 0.
    momentum : float
        μ, 0 to 1.
    centered : bool
        Divide by the standard deviation of recent gradients.
    groups : list of (str, dict)
        Parameter groups, see `Optimizer.groups`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "rmsprop"
    hyper_names = ("lr", "alpha", "eps", "momentum", "weight_decay")

    lr = Setting(rate)
    alpha = Setting(forgetting)
    eps = Setting(not_negative)
    weight_decay = Setting(not_negative)
    momentum = Setting(fraction, per_group=False)
    centered = Setting(flag, per_group=False)

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        groups: Iterable[Group] = (),
    ):
        super().__init__(
            groups,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    @property
    def slots(self) -> tuple[str, ...]:
        mean = ("mean",) if self.centered else ()
        return ("v", *mean, "momentum") if self.momentum > 0.0 else ("v", *mean)

    @property
    def kernel(self) -> str:
        return "_".join([self.name, *self.slots[1:]])

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        return lr, values["alpha"], values["eps"], values["momentum"], values["weight_decay"]

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        lr, alpha, eps, momentum, weight_decay = hyper_row.tolist()
        v, *others = slots
        if weight_decay:
            g = g + weight_decay * w
        v *= alpha
        v += (1.0 - alpha) * (g * g)
        variance = v
        if self.centered:
            mean = others[0]
            mean += (1.0 - alpha) * (g - mean)
            # The variance is >= 0 but for rounding.
            variance = np.maximum(v - mean * mean, 0)
        direction = g / (np.sqrt(variance) + eps)
        if momentum:
            b = others[-1]
            b *= momentum
            b += direction
            direction = b
        w -= lr * direction


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients, as `torch.optim.Adagrad`.

    g ← g + λ·w;  s ← s + g², from s₀ on;  w ← w - η/(1 + (t - 1)·δ) · g/(√s + ε).

    Source: J. Duchi, E. Hazan, Y. Singer, Journal of Machine Learning Research 12 (2011).

    Parameters
    ----------
    lr : float or Schedule
        Learning rate η >= 0.
    lr_decay : float
        δ >= 0.
    weight_decay : float
        λ >= 0.
    initial_accumulator_value : float
        s₀ >= 0.
    eps : float
        ε >= 0.
    groups : list of (str, dict)
        Parameter groups, see `Optimizer.groups`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "adagrad"
    hyper_names = ("lr", "eps", "weight_decay", "initial")

    lr = Setting(rate)
    lr_decay = Setting(not_negative)
    weight_decay = Setting(not_negative)
    initial_accumulator_value = Setting(not_negative)
    eps = Setting(not_negative)

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        groups: Iterable[Group] = (),
    ):
        super().__init__(
            groups,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )

    @property
    def slots(self) -> tuple[str, ...]:
        return ("sum",)

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        decay = values["lr_decay"]
        decayed = lr / (1.0 + (steps - 1) * decay) if decay else lr
        return decayed, values["eps"], values["weight_decay"], values["initial_accumulator_value"]

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        lr, eps, weight_decay, initial = hyper_row.tolist()
        (total,) = slots
        if weight_decay:
            g = g + weight_decay * w
        if initial:  # slots are zeros until they are trained, which may be late in a frozen layer
            total[total == 0.0] = initial
        total += g * g
        w -= lr * g / (np.sqrt(total) + eps)


class Adadelta(Optimizer):
    """Steps in the unit of the parameters, from recent steps and gradients.

    As `torch.optim.Adadelta`. g ← g + λ·w;  v ← ρ·v + (1 - ρ)·g²;  d ← g·√(u + ε)/√(v + ε);
    u ← ρ·u + (1 - ρ)·d²;  w ← w - η·d.

    Source: M. Zeiler (2012), arXiv:1212.5701.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate η >= 0.
    rho : float
        ρ, >= 0 and < 1.
    eps : float
        ε > 0.
    weight_decay : float
        λ >= 0.
    groups : list of (str, dict)
        Parameter groups, see `Optimizer.groups`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "adadelta"
    hyper_names = ("lr", "rho", "eps", "weight_decay")

    lr = Setting(rate)
    rho = Setting(forgetting)
    eps = Setting(positive)
    weight_decay = Setting(not_negative)

    def __init__(
        self,
        lr: float | Schedule = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        groups: Iterable[Group] = (),
    ):
        super().__init__(groups, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)

    @property
    def slots(self) -> tuple[str, ...]:
        return ("v", "u")

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        return lr, values["rho"], values["eps"], values["weight_decay"]

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        lr, rho, eps, weight_decay = hyper_row.tolist()
        v, u = slots
        if weight_decay:
            g = g + weight_decay * w
        v *= rho
        v += (1.0 - rho) * (g * g)
        d = np.sqrt(u + eps) / np.sqrt(v + eps) * g
        u *= rho
        u += (1.0 - rho) * (d * d)
        w -= lr * d


def _shrinking(argument: str, value: object) -> float:
    return check_number(argument, value, low=0.0, high=1.0, open_low=True, open_high=True)


def _growing(argument: str, value: object) -> float:
    return check_number(argument, value, low=1.0, open_low=True)


class Rprop(Optimizer):
    """Resilient propagation: only the signs of gradients count, as `torch.optim.Rprop`.

    Each parameter has a step size s, at first η. Where g and the last g have the same sign,
    s ← min(s·η⁺, largest); where they differ, s ← max(s·η⁻, smallest) and g ← 0.
    w ← w - s·sign(g). For full batches: the noise of mini-batches spoils the signs.

    Source: M. Riedmiller, H. Braun, IEEE International Conference on Neural Networks (1993).

    Parameters
    ----------
    lr : float or Schedule
        First step size η >= 0; of a schedule the value counts where a parameter is first trained.
    etas : (float, float)
        η⁻ between 0 and 1, and η⁺ > 1.
    step_sizes : (float, float)
        Smallest and largest step size, 0 <= smallest <= largest.
    groups : list of (str, dict)
        Parameter groups, see `Optimizer.groups`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "rprop"
    hyper_names = ("eta_minus", "eta_plus", "smallest", "largest", "initial")

    lr = Setting(rate)
    etas = Setting(pair(_shrinking, _growing))
    step_sizes = Setting(pair(not_negative, not_negative))

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        groups: Iterable[Group] = (),
    ):
        super().__init__(groups, lr=lr, etas=etas, step_sizes=step_sizes)

    def _agree(self, values: Values) -> None:
        smallest, largest = values["step_sizes"]
        if smallest > largest:
            raise ValueError(
                f"step_sizes of rprop must be (smallest, largest); got {smallest} > {largest}"
            )

    @property
    def slots(self) -> tuple[str, ...]:
        return ("last_gradient", "step_size")

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        return *values["etas"], *values["step_sizes"], lr

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        shrink, grow, smallest, largest, initial = hyper_row.tolist()
        last, size = slots
        size[size == 0.0] = initial  # not trained yet: in the first step, or frozen until now
        agreement = g * last
        size *= np.where(agreement > 0, grow, np.where(agreement < 0, shrink, 1)).astype(g.dtype)
        np.clip(size, smallest, largest, out=size)
        last[...] = np.where(agreement < 0, 0, g)
        w -= np.sign(last) * size
