"""What every metric has: checked predictions, targets and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_flag, shown
from fastmlp.registry import Configurable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    Doubles = NDArray[np.float64]
    MetricFunction = Callable[[NDArray[Any], NDArray[Any]], float]


class Metric(Configurable):
    """Base of the metrics.

    Attributes
    ----------
    name : str
        Name in `METRICS`.
    label : str
        Key in a history: the name, unless settings are part of it ("top_5").
    greater_is_better : bool
        Direction of improvement.
    """

    greater_is_better: bool = True

    @property
    def label(self) -> str:
        return self.name

    def __call__(
        self, y_hat: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the metric of some predictions.

        Parameters
        ----------
        y_hat : array_like, shape (n, m) or (n,)
            Predictions.
        y : array_like, shape (n, m) or (n,)
            Targets.
        sample_weight : array_like, shape (n,), optional
            Weights >= 0, not all zero.

        Returns
        -------
        float
            NaN where it is not defined, as ROC AUC of one class alone.

        Raises
        ------
        TypeError, ValueError
            If shapes, dtypes or values do not fit.
        """
        y_hat, y = check_matrix("y_hat", y_hat), check_real("y", y)
        if y.ndim == 0 or len(y) != len(y_hat):
            raise ValueError(f"y must have {len(y_hat)} samples as y_hat; got shape {y.shape}")
        return float(self._value(y_hat, y, check_weights(sample_weight, len(y_hat))))

    def _value(self, y_hat: Doubles, y: NDArray[Any], weight: Doubles) -> float:
        raise NotImplementedError

    def on_logits(self) -> Metric:
        """Return this metric for predictions that are logits, not probabilities."""
        return self


def check_real(argument: str, values: ArrayLike) -> NDArray[Any]:
    """Return an array of finite real numbers, or raise TypeError or ValueError."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{argument} must hold real numbers; got dtype {values.dtype}")
    if not np.isfinite(values).all():
        raise ValueError(f"{argument} must be finite; got NaN or infinity")
    return values


def check_matrix(argument: str, values: ArrayLike) -> Doubles:
    """Return a float64 matrix of shape (n, m), a vector as one column, or raise ValueError."""
    values = check_real(argument, values).astype(np.float64, order="C")
    if values.ndim == 1:
        values = values[:, np.newaxis]
    if values.ndim != 2 or values.size == 0:
        raise ValueError(
            f"{argument} must have shape (n, m), at least one sample and one output; "
            f"got {values.shape}"
        )
    return values


def check_weights(sample_weight: ArrayLike | None, samples: int) -> Doubles:
    """Return weights of shape (samples,), ones by default, or raise ValueError."""
    if sample_weight is None:
        return np.ones(samples)
    weight = check_real("sample_weight", sample_weight).astype(np.float64)
    if weight.shape != (samples,):
        raise ValueError(f"sample_weight must have shape ({samples},); got {weight.shape}")
    if weight.min() < 0.0 or weight.max() == 0.0:
        raise ValueError("sample_weight must be >= 0, and not all zero")
    return weight


class FunctionMetric(Metric):
    """A Python function (y_hat, y) -> float as a metric.

    Parameters
    ----------
    function : callable
        Takes predictions and targets as they are. Its name is the key in a history.
    greater_is_better : bool
        Direction of improvement.

    Raises
    ------
    TypeError
        If it is not callable.
    """

    name = "function"
    settings = ("function", "greater_is_better")
    function: MetricFunction

    def __init__(self, function: MetricFunction, greater_is_better: bool = True):
        if not callable(function):
            raise TypeError(f"function of a metric must be callable; got {shown(function)}")
        greater = check_flag("greater_is_better", greater_is_better)
        self._set(function=function, greater_is_better=greater)

    @property
    def label(self) -> str:
        return getattr(self.function, "__name__", self.name)

    def __call__(
        self, y_hat: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        if sample_weight is not None:
            raise ValueError(f"metric {self.label!r} is a function of (y_hat, y) without weights")
        value = self.function(np.asarray(y_hat), np.asarray(y))
        if np.asarray(value).size != 1 or np.asarray(value).dtype.kind not in "biuf":
            raise TypeError(f"metric {self.label!r} must return a number; got {shown(value)}")
        return float(value)

    def config(self) -> dict[str, Any]:
        """Raise TypeError: a Python function is not plain data."""
        raise TypeError(f"a metric that is a function cannot be stored: {self.function!r}")
