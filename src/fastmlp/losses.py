"""Losses: value and gradient in one pass.

A loss gives each sample a number and its gradient (`per_sample`); a batch has their mean, weighted
if there are sample weights. Values are accumulated in float64 whatever the dtype. Formulas are
arranged so that predictions of ±1e4 give finite values and gradients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_flag, check_number, choose, shown
from fastmlp.loss_base import ElementwiseLoss, LogitLoss, Loss, check_predictions
from fastmlp.registry import build, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from fastmlp.graph import Node

    Floats = NDArray[np.floating]
    LossFunction = Callable[[Floats, Floats], tuple[float, ArrayLike]]


# --- regression -----------------------------------------------------------------------------------


class MSE(ElementwiseLoss):
    """Mean squared error: the mean over samples and outputs, 1/(n·m) Σ (ŷ - y)²."""

    name = "mse"

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        error = y_hat - y
        return error * error, 2.0 * error

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        return (y_hat - y) ** 2


class Quadratic(ElementwiseLoss):
    """The textbooks' quadratic cost 1/(2n) Σ ‖ŷ - y‖²: half the squared norm, mean over samples.

    Source: M. Nielsen, Neural Networks and Deep Learning (2015), equation 6.
    """

    name = "quadratic"
    reduction = "sum"

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        error = y_hat - y
        return 0.5 * (error * error), error

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        return 0.5 * (y_hat - y) ** 2


class MAE(ElementwiseLoss):
    """Mean absolute error: the mean over samples and outputs of |ŷ - y|; gradient 0 at ŷ = y."""

    name = "mae"
    smooth = False

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        error = y_hat - y
        return np.abs(error), np.sign(error)

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        return graph.abs(y_hat - y)


class Huber(ElementwiseLoss):
    """Huber's loss: with e = ŷ - y, ½e² where |e| <= δ, otherwise δ·(|e| - ½δ); mean as for mse.

    Source: P. Huber, Annals of Mathematical Statistics 35 (1964); `torch.nn.HuberLoss`.

    Parameters
    ----------
    delta : float
        δ > 0, where the parabola goes over into lines.

    Raises
    ------
    TypeError, ValueError
        If delta is not a finite number > 0.
    """

    name = "huber"
    settings = ("delta",)
    delta: float

    def __init__(self, delta: float = 1.0):
        delta = check_number("delta of huber", delta, low=0.0, open_low=True)
        self._set(delta=delta, alpha=delta)

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        error = y_hat - y
        near = np.clip(error, -self.delta, self.delta)
        # ½e² inside; outside near = ±δ, and δ·|e| - ½δ² is the same expression.
        return near * (error - 0.5 * near), near

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        error = y_hat - y
        near = graph.maximum(graph.minimum(error, self.delta), -self.delta)
        return near * (error - 0.5 * near)


class LogCosh(ElementwiseLoss):
    """log(cosh(ŷ - y)): near ½e² at 0 and |e| - log 2 far out; mean as for mse."""

    name = "log_cosh"

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        error = y_hat - y
        size = np.abs(error)
        # size + log1p(exp(-2·size)) - log 2, with the logarithms joined so that they do not cancel
        return size + np.log1p(0.5 * np.expm1(-2.0 * size)), np.tanh(error)

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        error = y_hat - y
        return error + graph.softplus(-2.0 * error) - math.log(2.0)


class Quantile(ElementwiseLoss):
    """Pinball loss: max(q·(y - ŷ), (q - 1)·(y - ŷ)), least at the q-quantile; mean as for mse.

    At ŷ = y the gradient is 0. Source: R. Koenker, G. Bassett, Econometrica 46 (1978).

    Parameters
    ----------
    q : float
        Quantile, between 0 and 1, both excluded; 0.5 gives half the absolute error.

    Raises
    ------
    TypeError, ValueError
        If q is not a number between 0 and 1.
    """

    name = "quantile"
    settings = ("q",)
    q: float
    smooth = False

    def __init__(self, q: float = 0.5):
        q = check_number("q of quantile", q, low=0.0, high=1.0, open_low=True, open_high=True)
        self._set(q=q, alpha=q)

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        error = y_hat - y
        slope = np.sign(error) * np.where(error > 0, 1.0 - self.q, self.q).astype(error.dtype)
        return slope * error, slope

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        error = y_hat - y
        return graph.sign(error) * graph.where(error > 0, 1.0 - self.q, self.q) * error


# exp(64) = 6e27 is a rate beyond any count; its loss still fits into float32 at ŷ = 1e4.
_LARGEST_LOG_RATE = 64.0


class Poisson(ElementwiseLoss):
    """Poisson negative log-likelihood, without the term log y! that no prediction changes.

    exp(ŷ) - y·ŷ where ŷ is the logarithm of the rate, otherwise ŷ - y·log(ŷ + 1e-8); mean as for
    mse. Beyond ŷ = 64 the exponential is continued by its tangent, so that it stays finite.
    Source: `torch.nn.PoissonNLLLoss`.

    Parameters
    ----------
    log_input : bool
        Whether predictions are logarithms of rates. Otherwise they must be >= 0, and a model needs
        an output activation that makes them so, as softplus: where one is negative, the loss is
        NaN, and training ends by a DivergenceError.

    Raises
    ------
    TypeError
        If log_input is not a boolean.
    """

    name = "poisson"
    bounds = (0.0, math.inf)
    settings = ("log_input",)
    log_input: bool

    def __init__(self, log_input: bool = True):
        self._set(log_input=check_flag("log_input of poisson", log_input))

    @property
    def kernel(self) -> str | None:
        return "poisson_log" if self.log_input else "poisson"

    def __call__(
        self, y_hat: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[float, Floats]:
        if not self.log_input:
            least = check_predictions(y_hat).min()
            if least < 0.0:
                raise ValueError(
                    "y_hat must be >= 0 for poisson with log_input=False; "
                    f"got {least}: use a positive output activation such as 'softplus'"
                )
        return super().__call__(y_hat, y, sample_weight)

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        if self.log_input:
            near = np.minimum(y_hat, _LARGEST_LOG_RATE)
            rate = np.exp(near)
            return rate * (1.0 + (y_hat - near)) - y * y_hat, rate - y
        # Below zero there is no rate: NaN, so that a training that gets there is stopped.
        with np.errstate(invalid="ignore"):
            shifted = y_hat + y_hat.dtype.type(1e-8)
            log = np.log(np.where(y_hat < 0.0, np.nan, shifted)).astype(y_hat.dtype)
        return y_hat - y * log, 1.0 - y / shifted

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        if not self.log_input:
            return y_hat - y * graph.log(y_hat + 1e-8)
        near = graph.minimum(y_hat, _LARGEST_LOG_RATE)
        return graph.exp(near) * (1.0 + (y_hat - near)) - y * y_hat


# --- classification -------------------------------------------------------------------------------

# Where probabilities are given, logarithms and divisors are bounded as in `torch.nn.BCELoss`.
_LEAST_LOG = -100.0
_LEAST_DIVISOR = 1e-12


def _bounded_log(p: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(p), _LEAST_LOG)


def _check_probabilities(name: str, y_hat: Floats) -> None:
    if ((y_hat < 0.0) | (y_hat > 1.0)).any():
        raise ValueError(
            f"y_hat must be probabilities, 0 to 1, for {name} with from_logits=False; got values "
            f"from {y_hat.min()} to {y_hat.max()}: are they logits (from_logits=True)?"
        )


class BCE(LogitLoss, ElementwiseLoss):
    """Binary cross-entropy -y·log p - (1 - y)·log(1 - p), p = σ(ŷ) on logits; mean as for mse.

    On logits it is max(ŷ, 0) - y·ŷ + log(1 + exp(-|ŷ|)), with gradient σ(ŷ) - y. On probabilities
    logarithms are at least -100 and p·(1 - p) in the gradient at least 1e-12, as in PyTorch.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits. `fit` chooses it by the output activation.
    label_smoothing : float
        s from 0 to 1: targets become (1 - s)·y + s/2.
    reduction : {"mean", "sum"}
        Over the outputs. "sum" is the textbooks' cross-entropy (M. Nielsen, equation 63); the mean
        over samples is taken in both.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "bce"
    bounds = (0.0, 1.0)
    settings = ("from_logits", "label_smoothing", "reduction")
    label_smoothing: float
    fused_activation = "sigmoid"

    def __init__(
        self, from_logits: bool = False, label_smoothing: float = 0.0, reduction: str = "mean"
    ):
        smoothing = check_number("label_smoothing of bce", label_smoothing, low=0.0, high=1.0)
        self._set(
            from_logits=check_flag("from_logits of bce", from_logits),
            label_smoothing=smoothing,
            alpha=smoothing,
            reduction=choose("reduction of bce", reduction, ("mean", "sum")),
        )

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        if self.label_smoothing:
            y = (1.0 - self.label_smoothing) * y + 0.5 * self.label_smoothing
        if self.from_logits:
            decay = np.exp(-np.abs(y_hat))
            sigmoid = np.where(y_hat >= 0, 1, decay) / (1 + decay)
            return np.maximum(y_hat, 0) - y * y_hat + np.log1p(decay), sigmoid - y
        _check_probabilities(self.name, y_hat)
        losses = -y * _bounded_log(y_hat) - (1.0 - y) * _bounded_log(1.0 - y_hat)
        return losses, (y_hat - y) / np.maximum(y_hat * (1.0 - y_hat), _LEAST_DIVISOR)

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        y = (1.0 - self.label_smoothing) * y + 0.5 * self.label_smoothing
        if self.from_logits:
            return graph.softplus(y_hat) - y * y_hat
        log = graph.maximum(graph.log(y_hat), _LEAST_LOG)
        return -y * log - (1.0 - y) * graph.maximum(graph.log(1.0 - y_hat), _LEAST_LOG)


class CrossEntropy(LogitLoss):
    """Cross-entropy -Σⱼ yⱼ·log pⱼ, p = softmax(ŷ) on logits; mean over samples.

    On logits it is computed as logsumexp, with gradient p·Σⱼyⱼ - y (Σⱼyⱼ = 1 up to rounding). On
    probabilities logarithms are at least -100, and p in the gradient's -y/p at least 1e-12.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits. `fit` chooses it by the output activation.
    label_smoothing : float
        s from 0 to 1: targets become (1 - s)·y + s/m with m classes.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "cross_entropy"
    settings = ("from_logits", "label_smoothing")
    label_smoothing: float
    fused_activation = "softmax"

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0):
        smoothing = check_number(
            "label_smoothing of cross_entropy", label_smoothing, low=0.0, high=1.0
        )
        self._set(
            from_logits=check_flag("from_logits of cross_entropy", from_logits),
            label_smoothing=smoothing,
            alpha=smoothing,
        )

    def per_sample(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        if self.label_smoothing:
            y = (1.0 - self.label_smoothing) * y + self.label_smoothing / y.shape[1]
        if self.from_logits:
            shifted = y_hat - y_hat.max(axis=1, keepdims=True)
            p = np.exp(shifted)
            total = p.sum(axis=1, keepdims=True)
            p /= total
            losses = (y * (np.log(total) - shifted)).sum(axis=1)
            return losses, p * y.sum(axis=1, keepdims=True) - y
        _check_probabilities(self.name, y_hat)
        losses = -(y * _bounded_log(y_hat)).sum(axis=1)
        return losses, -y / np.maximum(y_hat, _LEAST_DIVISOR)

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        y = (1.0 - self.label_smoothing) * y + self.label_smoothing / y.shape[1]
        if self.from_logits:
            return (y * (graph.logsumexp(y_hat, axis=1, keepdims=True) - y_hat)).sum(axis=1)
        return -(y * graph.maximum(graph.log(y_hat), _LEAST_LOG)).sum(axis=1)

    def check_values(self, y: NDArray[Any]) -> None:
        if y.shape[1] < 2:
            raise ValueError(
                "cross_entropy needs at least two outputs, one per class; got one: use 'bce'"
            )
        sums = y.sum(axis=1, dtype=np.float64)
        # Probabilities kept in float16 are rounded by up to 5e-4.
        if not (y.min() >= 0 and np.abs(sums - 1.0).max() < 1e-3):
            worst = int(np.abs(sums - 1.0).argmax())
            raise ValueError(
                "y must hold class indices, or rows of probabilities that sum to 1, for "
                f"cross_entropy; row {worst} sums to {sums[worst]:g}, least value {y.min()}"
            )


class Hinge(ElementwiseLoss):
    """Hinge loss max(0, 1 - t·ŷ) with t = 1 where y > 0 and t = -1 elsewhere; mean as for mse.

    So labels may be 0 and 1 or -1 and 1, and class indices mean one against the rest. At
    t·ŷ = 1 the gradient is 0.
    """

    name = "hinge"
    smooth = False

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        sign = np.where(y > 0, 1, -1).astype(y_hat.dtype)
        margin = 1 - sign * y_hat
        return np.maximum(margin, 0), np.where(margin > 0, -sign, 0).astype(y_hat.dtype)

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        return graph.maximum(1.0 - graph.where(y > 0, 1.0, -1.0) * y_hat, 0.0)

    def check_values(self, y: NDArray[Any]) -> None:
        if not np.isin(y, (-1, 0, 1)).all():
            raise ValueError("y must be -1 and 1, or 0 and 1, or class indices, for hinge")


# --- a Python function ----------------------------------------------------------------------------


class FunctionLoss(Loss):
    """A Python function (y_hat, y) -> (value, gradient) as a loss.

    Training calls it once for each mini-batch, between a native forward and a native backward pass,
    which costs some tens of microseconds; a `fastmlp.graph.loss` costs no call.

    Parameters
    ----------
    function : callable
        Takes predictions and targets of shape (n, m); returns the mean loss over the samples and
        its gradient, of shape (n, m). With sample weights it is called with one sample at a time.

    Raises
    ------
    TypeError
        If it is not callable.
    """

    name = "function"
    settings = ("function",)
    function: LossFunction
    kernel = None  # type: ignore[assignment]

    def __init__(self, function: LossFunction):
        if not callable(function):
            raise TypeError(f"function of a loss must be callable; got {shown(function)}")
        self._set(function=function)

    def __call__(
        self, y_hat: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[float, Floats]:
        if sample_weight is not None:
            return super().__call__(y_hat, y, sample_weight)
        y_hat = check_predictions(y_hat)
        return self._evaluate(y_hat, self.targets(y, y_hat.shape, y_hat.dtype))

    def per_sample(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        results = [self._evaluate(y_hat[i : i + 1], y[i : i + 1]) for i in range(len(y_hat))]
        losses, gradients = zip(*results, strict=True)
        return np.array(losses), np.concatenate(gradients)

    def _evaluate(self, y_hat: Floats, y: Floats) -> tuple[float, Floats]:
        # Copies: a function that works in place must not change the user's data, nor the outputs.
        result = self.function(y_hat.copy(), y.copy())
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"a custom loss must return (value, gradient); got {shown(result)}; "
                "fastmlp.graph.loss finds the gradient of a function of y_hat and y by itself"
            )
        value, gradient = np.asarray(result[0]), np.asarray(result[1])
        if value.size != 1 or value.dtype.kind not in "biuf":
            raise ValueError(f"a custom loss must return one real value; got {shown(result[0])}")
        if gradient.shape != y_hat.shape or gradient.dtype.kind not in "biuf":
            raise ValueError(
                f"the gradient of a custom loss must be real, of shape {y_hat.shape}; "
                f"got {gradient.dtype}, {gradient.shape}"
            )
        return float(value.reshape(())), gradient.astype(y_hat.dtype, copy=False)

    def config(self) -> dict[str, Any]:
        """Raise TypeError: a Python function is not plain data."""
        raise TypeError(f"a loss that is a Python function cannot be stored: {self.function!r}")


LOSSES: dict[str, type[Loss]] = {
    kind.name: kind
    for kind in (
        MSE,
        Quadratic,
        MAE,
        Huber,
        LogCosh,
        Quantile,
        Poisson,
        BCE,
        CrossEntropy,
        Hinge,
    )
}


def get(loss: str | Loss | LossFunction) -> Loss:
    """Return a loss object from its name or a function, or the object itself.

    Raises
    ------
    TypeError
        If it is neither a string, a `Loss` nor a callable (y_hat, y) -> (value, gradient).
    ValueError
        If the name is unknown; the message has the closest one.
    """
    if callable(loss) and not isinstance(loss, (Loss, type)):
        return FunctionLoss(loss)
    return resolve("loss", loss, LOSSES, Loss)


def from_config(config: Mapping[str, Any]) -> Loss:
    """Return the loss that `Loss.config()` described.

    Raises
    ------
    TypeError, ValueError
        If the name or a setting is unknown or refused.
    """
    return build("loss", config, LOSSES)
