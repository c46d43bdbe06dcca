"""Optimizers: the update rules, each as one row of scalars and one element-wise formula.

The rules and defaults are PyTorch's of the same name. Notation in the docstrings: w parameter, g
gradient, η learning rate, λ weight decay, t number of the step (from 1).
"""

from __future__ import annotations

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
from fastmlp.registry import build, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from fastmlp.optimizer_base import Columns, Floats, Group
    from fastmlp.schedules import Schedule

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "OptimizerState",
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

    def _agree(self, values: Mapping[str, Any]) -> None:
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

    def _columns(
        self, steps: NDArray[np.int64], lr: NDArray[np.float64], values: Mapping[str, Any]
    ) -> Columns:
        taken = np.where(steps == 1, 1.0, 1.0 - values["dampening"])
        return lr, values["momentum"], taken, values["nesterov"], values["weight_decay"]

    def update(
        self, w: Floats, g: Floats, slots: Sequence[Floats], hyper_row: NDArray[np.float64]
    ) -> None:
        lr, momentum, taken, nesterov, weight_decay = hyper_row.tolist()
        if weight_decay:
            g = g + weight_decay * w
        if slots:
            (b,) = slots
            b *= momentum
            b += taken * g
            g = g + momentum * b if nesterov else b
        w -= lr * g


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

    def _columns(
        self, steps: NDArray[np.int64], lr: NDArray[np.float64], values: Mapping[str, Any]
    ) -> Columns:
        beta1, beta2 = values["betas"]
        bias1, bias2 = 1.0 - power(beta1, steps), 1.0 - power(beta2, steps)
        decay = values["weight_decay"]
        coupled, kept = (0.0, 1.0 - lr * decay) if self.decoupled else (decay, 1.0)
        return lr / bias1, beta1, beta2, values["eps"], np.sqrt(bias2), coupled, kept

    def update(
        self, w: Floats, g: Floats, slots: Sequence[Floats], hyper_row: NDArray[np.float64]
    ) -> None:
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


OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (SGD, Adam, AdamW)}


def get(optimizer: str | Optimizer) -> Optimizer:
    """Return a new optimizer with default settings from its name, or the object itself.

    Raises
    ------
    TypeError
        If it is neither a string nor an `Optimizer`.
    ValueError
        If the name is unknown; the message has the closest one.
    """
    return resolve("optimizer", optimizer, OPTIMIZERS, Optimizer)


def from_config(config: Mapping[str, Any]) -> Optimizer:
    """Return a new optimizer, without state, that `Optimizer.config()` described.

    Raises
    ------
    TypeError, ValueError
        If the name or a setting is unknown or refused.
    """
    return build("optimizer", config, OPTIMIZERS, also=("groups",))
