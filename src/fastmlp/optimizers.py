"""Optimizers: the update rules, each as one row of scalars and one element-wise formula.

The rules and defaults are PyTorch's of the same name. Notation in the docstrings: w parameter, g
gradient, η learning rate, λ weight decay, t number of the step (from 1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.optimizer_base import (
    Optimizer,
    OptimizerState,
    Setting,
    betas,
    flag,
    fraction,
    not_negative,
    power,
    rate,
)
from fastmlp.optimizers_adaptive import Adadelta, Adagrad, RMSprop, Rprop
from fastmlp.registry import build, resolve
from fastmlp.second_order import LBFGS, SOLVERS, LevenbergMarquardt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from fastmlp.optimizer_base import Columns, Floats, Group, Rates, Row, Slots, Steps, Values
    from fastmlp.schedules import Schedule

__all__ = [
    "LBFGS",
    "OPTIMIZERS",
    "SGD",
    "SOLVERS",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "LevenbergMarquardt",
    "Lion",
    "NAdam",
    "Optimizer",
    "OptimizerState",
    "RAdam",
    "RMSprop",
    "Rprop",
    "from_config",
    "get",
]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as `torch.optim.SGD`.

    g ← g + λ·w;  b ← μ·b + (1 - d)·g, the first time b ← g;  w ← w - η·b, or with Nesterov's form
    w ← w - η·(g + μ·b). Without momentum w ← w - η·g.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate η >= 0.
    momentum : float
        μ, 0 to 1.
    nesterov : bool
        Nesterov's momentum; needs momentum > 0 and no dampening.
    dampening : float
        d, 0 to 1.
    weight_decay : float
        λ >= 0.
    groups : list of (str, dict)
        Parameter groups, see `Optimizer.groups`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "sgd"
    hyper_names = ("lr", "momentum", "one_minus_dampening", "nesterov", "weight_decay")

    lr = Setting(rate)
    momentum = Setting(fraction, per_group=False)
    nesterov = Setting(flag)
    dampening = Setting(fraction)
    weight_decay = Setting(not_negative)

    def __init__(
        self,
        lr: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        groups: Iterable[Group] = (),
    ):
        super().__init__(
            groups,
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            dampening=dampening,
            weight_decay=weight_decay,
        )

    def _agree(self, values: Values) -> None:
        if values["nesterov"] and (values["momentum"] == 0.0 or values["dampening"] != 0.0):
            raise ValueError(
                "nesterov of sgd needs momentum > 0 and dampening = 0; "
                f"got momentum {values['momentum']} and dampening {values['dampening']}"
            )

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum > 0.0 else ()

    @property
    def kernel(self) -> str:
        return "momentum" if self.momentum > 0.0 else "sgd"

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        taken = 1.0 - values["dampening"]
        if taken != 1.0 and len(steps) and steps[0] == 1:
            taken = np.where(steps == 1, 1.0, taken)
        return lr, values["momentum"], taken, values["nesterov"], values["weight_decay"]

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        lr, momentum, taken, nesterov, weight_decay = hyper_row.tolist()
        if weight_decay:
            g = g + weight_decay * w
        if slots:
            (b,) = slots
            b *= momentum
            b += taken * g
            g = g + momentum * b if nesterov else b
        w -= lr * g


def _decays(lr: Rates, decay: float, decoupled: bool) -> tuple[float, float | Rates]:
    """Return what of the weight is added to the gradient, and what of it is kept."""
    return (0.0, 1.0 - lr * decay) if decoupled else (decay, 1.0)


class Adam(Optimizer):
    """Adam, as `torch.optim.Adam`: the moments are corrected, ε stands outside the root.

    g ← g + λ·w;  m ← m + (1 - β₁)·(g - m);  v ← β₂·v + (1 - β₂)·g²;
    w ← w - η/(1 - β₁ᵗ) · m / (√v/√(1 - β₂ᵗ) + ε). With `amsgrad` the largest v so far takes the
    place of v.

    Source: D. Kingma, J. Ba (2014), arXiv:1412.6980; AMSGrad: S. Reddi et al. (2018),
    arXiv:1904.09237.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate η >= 0.
    betas : (float, float)
        β₁ and β₂, each >= 0 and < 1.
    eps : float
        ε >= 0.
    weight_decay : float
        λ >= 0.
    amsgrad : bool
        Use the largest second moment so far.
    groups : list of (str, dict)
        Parameter groups, see `Optimizer.groups`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "adam"
    hyper_names = (
        "lr/bias1",
        "beta1",
        "beta2",
        "eps",
        "sqrt(bias2)",
        "coupled_weight_decay",
        "1-lr*decoupled_weight_decay",
    )
    decoupled = False

    lr = Setting(rate)
    betas = Setting(betas)
    eps = Setting(not_negative)
    weight_decay = Setting(not_negative)
    amsgrad = Setting(flag, per_group=False)

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        groups: Iterable[Group] = (),
    ):
        super().__init__(
            groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad
        )

    @property
    def slots(self) -> tuple[str, ...]:
        return ("m", "v", "v_max") if self.amsgrad else ("m", "v")

    @property
    def kernel(self) -> str:
        return "amsgrad" if self.amsgrad else "adam"

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        beta1, beta2 = values["betas"]
        bias1, bias2 = 1.0 - power(beta1, steps), 1.0 - power(beta2, steps)
        coupled, kept = _decays(lr, values["weight_decay"], self.decoupled)
        return lr / bias1, beta1, beta2, values["eps"], np.sqrt(bias2), coupled, kept

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        lr, beta1, beta2, eps, root_bias2, coupled, kept = hyper_row.tolist()
        m, v = slots[:2]
        if coupled:
            g = g + coupled * w
        m += (1.0 - beta1) * (g - m)
        v *= beta2
        v += (1.0 - beta2) * (g * g)
        if len(slots) == 3:
            v = np.maximum(slots[2], v, out=slots[2])
        w *= kept
        w -= lr * m / (np.sqrt(v) / root_bias2 + eps)


class AdamW(Adam):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`: first w ← (1 - η·λ)·w, then Adam.

    Source: I. Loshchilov, F. Hutter (2017), arXiv:1711.05101.

    Parameters
    ----------
    lr, betas, eps, weight_decay, amsgrad, groups
        As for `Adam`; weight_decay is 0.01 unless given.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "adamw"
    decoupled = True

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        groups: Iterable[Group] = (),
    ):
        super().__init__(lr, betas, eps, weight_decay, amsgrad, groups)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, as `torch.optim.NAdam`.

    m and v as in Adam; with μₜ = β₁·(1 - ½·0.96^(t·ψ)) and Πₜ = μ₁·…·μₜ,
    w ← w - η·((1 - μₜ)/(1 - Πₜ)·g + μₜ₊₁/(1 - Πₜ₊₁)·m) / (√v/√(1 - β₂ᵗ) + ε).

    Source: T. Dozat, Incorporating Nesterov momentum into Adam (ICLR workshop 2016).

    Parameters
    ----------
    lr, betas, eps, weight_decay, groups
        As for `Adam`.
    momentum_decay : float
        ψ >= 0.
    decoupled_weight_decay : bool
        Decay the weights as AdamW does.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "nadam"
    hyper_names = (
        "lr*(1-mu)/(1-product)",
        *Adam.hyper_names[1:],
        "lr*next_mu/(1-next_product)",
    )

    lr = Setting(rate)
    betas = Setting(betas)
    eps = Setting(not_negative)
    weight_decay = Setting(not_negative)
    momentum_decay = Setting(not_negative)
    decoupled_weight_decay = Setting(flag)

    def __init__(
        self,
        lr: float | Schedule = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        groups: Iterable[Group] = (),
    ):
        super().__init__(
            groups,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay,
        )

    @property
    def slots(self) -> tuple[str, ...]:
        return ("m", "v")

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        beta1, beta2 = values["betas"]
        shrink = 0.96 ** values["momentum_decay"]
        mu = beta1 * (1.0 - 0.5 * power(shrink, steps))
        next_mu = beta1 * (1.0 - 0.5 * power(shrink, steps + 1))
        # The product is at most β₁ᵗ; from the step where that is below 2⁻⁶⁴ on, 1 - Π is 1.
        end = math.ceil(64.0 * math.log(2.0) / -math.log(beta1)) if beta1 else 1
        last = int(steps[-1]) if len(steps) else 0
        early = np.arange(1, min(last, end) + 1, dtype=np.int64)
        products = np.zeros(last + 1)
        products[early] = np.cumprod(beta1 * (1.0 - 0.5 * power(shrink, early)))
        product = products[steps]
        coupled, kept = _decays(lr, values["weight_decay"], values["decoupled_weight_decay"])
        return (
            lr * (1.0 - mu) / (1.0 - product),
            beta1,
            beta2,
            values["eps"],
            np.sqrt(1.0 - power(beta2, steps)),
            coupled,
            kept,
            lr * next_mu / (1.0 - product * next_mu),
        )

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        of_g, beta1, beta2, eps, root_bias2, coupled, kept, of_m = hyper_row.tolist()
        m, v = slots
        if coupled:
            g = g + coupled * w
        m += (1.0 - beta1) * (g - m)
        v *= beta2
        v += (1.0 - beta2) * (g * g)
        w *= kept
        w -= (of_g * g + of_m * m) / (np.sqrt(v) / root_bias2 + eps)


class RAdam(Optimizer):
    """Adam whose first steps are rectified for the variance of v, as `torch.optim.RAdam`.

    m and v as in Adam; with ρ∞ = 2/(1 - β₂) - 1 and ρₜ = ρ∞ - 2t·β₂ᵗ/(1 - β₂ᵗ):
    where ρₜ > 5, w ← w - η/(1 - β₁ᵗ) · m · rₜ·√(1 - β₂ᵗ)/(√v + ε) with
    rₜ² = (ρₜ - 4)(ρₜ - 2)·ρ∞ / ((ρ∞ - 4)(ρ∞ - 2)·ρₜ); before, w ← w - η/(1 - β₁ᵗ) · m.

    Source: L. Liu et al. (2019), arXiv:1908.03265.

    Parameters
    ----------
    lr, betas, eps, weight_decay, groups
        As for `Adam`.
    decoupled_weight_decay : bool
        Decay the weights as AdamW does.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "radam"
    hyper_names = (
        *Adam.hyper_names[:4],
        "rectification*sqrt(bias2)",
        *Adam.hyper_names[5:],
        "rectified",
    )

    lr = Setting(rate)
    betas = Setting(betas)
    eps = Setting(not_negative)
    weight_decay = Setting(not_negative)
    decoupled_weight_decay = Setting(flag)

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        groups: Iterable[Group] = (),
    ):
        super().__init__(
            groups,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
        )

    @property
    def slots(self) -> tuple[str, ...]:
        return ("m", "v")

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        beta1, beta2 = values["betas"]
        decayed = power(beta2, steps)
        bias2 = 1.0 - decayed
        limit = 2.0 / (1.0 - beta2) - 1.0
        rho = limit - 2.0 * steps * decayed / bias2
        rectified = rho > 5.0
        rho = np.where(rectified, rho, limit)
        # Where nothing is rectified the root is of 1, so it needs no case of its own.
        above, below = (rho - 4.0) * (rho - 2.0) * limit, (limit - 4.0) * (limit - 2.0) * rho
        root = np.sqrt(np.divide(above, below, out=np.ones_like(rho), where=rectified))
        coupled, kept = _decays(lr, values["weight_decay"], values["decoupled_weight_decay"])
        return (
            lr / (1.0 - power(beta1, steps)),
            beta1,
            beta2,
            values["eps"],
            root * np.sqrt(bias2),
            coupled,
            kept,
            rectified,
        )

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        lr, beta1, beta2, eps, scale, coupled, kept, rectified = hyper_row.tolist()
        m, v = slots
        if coupled:
            g = g + coupled * w
        m += (1.0 - beta1) * (g - m)
        v *= beta2
        v += (1.0 - beta2) * (g * g)
        w *= kept
        w -= lr * m * (scale / (np.sqrt(v) + eps)) if rectified else lr * m


class Adamax(Optimizer):
    """Adam with the largest gradient in place of the second moment, as `torch.optim.Adamax`.

    g ← g + λ·w;  m ← m + (1 - β₁)·(g - m);  u ← max(β₂·u, |g| + ε);  w ← w - η/(1 - β₁ᵗ) · m/u.

    Source: D. Kingma, J. Ba (2014), arXiv:1412.6980, section 7.1.

    Parameters
    ----------
    lr, betas, eps, weight_decay, groups
        As for `Adam`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "adamax"
    hyper_names = ("lr/bias1", "beta1", "beta2", "eps", "weight_decay")

    lr = Setting(rate)
    betas = Setting(betas)
    eps = Setting(not_negative)
    weight_decay = Setting(not_negative)

    def __init__(
        self,
        lr: float | Schedule = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        groups: Iterable[Group] = (),
    ):
        super().__init__(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    @property
    def slots(self) -> tuple[str, ...]:
        return ("m", "u")

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        beta1, beta2 = values["betas"]
        bias1 = 1.0 - power(beta1, steps)
        return lr / bias1, beta1, beta2, values["eps"], values["weight_decay"]

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        lr, beta1, beta2, eps, weight_decay = hyper_row.tolist()
        m, u = slots
        if weight_decay:
            g = g + weight_decay * w
        m += (1.0 - beta1) * (g - m)
        np.maximum(beta2 * u, np.abs(g) + eps, out=u)
        w -= lr * m / u


class Lion(Optimizer):
    """The sign of an interpolated momentum: w ← (1 - η·λ)·w - η·sign(β₁·m + (1 - β₁)·g).

    Then m ← β₂·m + (1 - β₂)·g. Steps have the size η in every coordinate, so η is 3 to 10 times
    smaller than Adam's and λ as many times larger. PyTorch has no Lion; this is the paper's.

    Source: X. Chen et al., Symbolic discovery of optimization algorithms (2023),
    arXiv:2302.06675, algorithm 2.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate η >= 0.
    betas : (float, float)
        β₁ and β₂, each >= 0 and < 1.
    weight_decay : float
        λ >= 0.
    groups : list of (str, dict)
        Parameter groups, see `Optimizer.groups`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "lion"
    hyper_names = ("lr", "beta1", "beta2", "1-lr*weight_decay")

    lr = Setting(rate)
    betas = Setting(betas)
    weight_decay = Setting(not_negative)

    def __init__(
        self,
        lr: float | Schedule = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        groups: Iterable[Group] = (),
    ):
        super().__init__(groups, lr=lr, betas=betas, weight_decay=weight_decay)

    @property
    def slots(self) -> tuple[str, ...]:
        return ("m",)

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        beta1, beta2 = values["betas"]
        return lr, beta1, beta2, 1.0 - lr * values["weight_decay"]

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        lr, beta1, beta2, kept = hyper_row.tolist()
        (m,) = slots
        w *= kept
        w -= lr * np.sign(m + (1.0 - beta1) * (g - m))
        m += (1.0 - beta2) * (g - m)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.name: kind
    for kind in (
        SGD,
        Adam,
        AdamW,
        NAdam,
        RAdam,
        Adamax,
        Lion,
        RMSprop,
        Adagrad,
        Adadelta,
        Rprop,
    )
}


def get(optimizer: str | Optimizer) -> Optimizer:
    """Return a new optimizer with default settings from its name, or the object itself.

    Raises
    ------
    TypeError
        If it is neither a string nor an `Optimizer`.
    ValueError
        If the name is unknown; the message has the closest one.
    """
    return resolve("optimizer", optimizer, {**OPTIMIZERS, **SOLVERS}, Optimizer)


def from_config(config: Mapping[str, Any]) -> Optimizer:
    """Return a new optimizer, without state, that `Optimizer.config()` described.

    Raises
    ------
    TypeError, ValueError
        If the name or a setting is unknown or refused.
    """
    return build("optimizer", config, {**OPTIMIZERS, **SOLVERS}, also=("groups",))
