"""Metrics: how good predictions are, each computed as scikit-learn does.

A metric takes predictions and targets in the order of the losses: ``metric(y_hat, y)``. For
classification, predictions of m > 1 columns are scores per class (or per label, see below), of one
column the score of class 1. Targets are class indices, one-hot rows, or 0 and 1. Rows of m > 1
zeros and ones that do not all sum to 1 are multilabel targets: each column is its own question.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_flag, check_integer, check_number, choose, shown
from fastmlp.metric_base import FunctionMetric, Metric, check_matrix
from fastmlp.registry import build, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from fastmlp.metric_base import Doubles, MetricFunction


# --- regression -----------------------------------------------------------------------------------


class _Regression(Metric):
    """A metric of the errors of each output, averaged over outputs."""

    greater_is_better = False

    def _value(self, y_hat: Doubles, y: NDArray[Any], weight: Doubles) -> float:
        y = check_matrix("y", y)
        if y.shape != y_hat.shape:
            raise ValueError(f"y must have the shape {y_hat.shape} of y_hat; got {y.shape}")
        return float(np.mean(self.per_output(y_hat, y, weight)))

    def per_output(self, y_hat: Doubles, y: Doubles, weight: Doubles) -> Doubles:
        """Return the metric of each output, shape (m,)."""
        raise NotImplementedError


def _mean(values: Doubles, weight: Doubles) -> Doubles:
    return weight @ values / weight.sum()


class MeanSquaredError(_Regression):
    """Mean of (ŷ - y)²."""

    name = "mse"

    def per_output(self, y_hat: Doubles, y: Doubles, weight: Doubles) -> Doubles:
        return _mean((y_hat - y) ** 2, weight)


class RootMeanSquaredError(_Regression):
    """Root of the mean of (ŷ - y)², of each output; mean over outputs."""

    name = "rmse"

    def per_output(self, y_hat: Doubles, y: Doubles, weight: Doubles) -> Doubles:
        return np.sqrt(_mean((y_hat - y) ** 2, weight))


class MeanAbsoluteError(_Regression):
    """Mean of |ŷ - y|."""

    name = "mae"

    def per_output(self, y_hat: Doubles, y: Doubles, weight: Doubles) -> Doubles:
        return _mean(np.abs(y_hat - y), weight)


class MeanAbsolutePercentageError(_Regression):
    """Mean of |ŷ - y| / max(|y|, ε), ε the spacing of float64 at 1: a fraction, not per cent."""

    name = "mape"

    def per_output(self, y_hat: Doubles, y: Doubles, weight: Doubles) -> Doubles:
        return _mean(np.abs(y_hat - y) / np.maximum(np.abs(y), np.finfo(np.float64).eps), weight)


class MaxError(_Regression):
    """Largest |ŷ - y| of each output; mean over outputs. Weights play no part."""

    name = "max_error"

    def per_output(self, y_hat: Doubles, y: Doubles, weight: Doubles) -> Doubles:
        return np.abs(y_hat - y).max(axis=0)


class R2(_Regression):
    """Coefficient of determination 1 - Σ(ŷ - y)²/Σ(y - ȳ)²; mean over outputs.

    Where y is constant it is 1 for exact predictions and 0 otherwise; NaN for a single sample.
    """

    name = "r2"
    greater_is_better = True

    def per_output(self, y_hat: Doubles, y: Doubles, weight: Doubles) -> Doubles:
        if len(y) < 2:
            return np.full(y.shape[1], np.nan)
        return _explained((y_hat - y) ** 2, (y - _mean(y, weight)) ** 2, weight)


class ExplainedVariance(_Regression):
    """1 - Var(y - ŷ)/Var(y): as r2, but a constant error costs nothing."""

    name = "explained_variance"
    greater_is_better = True

    def per_output(self, y_hat: Doubles, y: Doubles, weight: Doubles) -> Doubles:
        error = y - y_hat
        error = error - _mean(error, weight)
        return _explained(error**2, (y - _mean(y, weight)) ** 2, weight)


def _explained(residual: Doubles, variation: Doubles, weight: Doubles) -> Doubles:
    above, below = weight @ residual, weight @ variation
    score = np.where(above == 0.0, 1.0, 0.0)
    usual = (above != 0.0) & (below != 0.0)
    score[usual] = 1.0 - above[usual] / below[usual]
    return score


# --- classification -------------------------------------------------------------------------------


def _is_multilabel(y: NDArray[Any], outputs: int) -> bool:
    """Whether targets are rows of zeros and ones that are not one-hot."""
    if outputs == 1 or y.ndim != 2:
        return False
    return bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) != 1).any())


def class_indices(y: ArrayLike, outputs: int) -> NDArray[np.int64]:
    """Return targets as class indices, shape (n,).

    Parameters
    ----------
    y : array_like, shape (n,) or (n, outputs)
        Class indices; for one output 0 and 1; one row per sample otherwise, whose largest element
        is the class.
    outputs : int
        Columns of the predictions. One column means two classes.

    Raises
    ------
    ValueError
        If the targets do not fit.
    """
    y = np.asarray(y)
    classes = max(outputs, 2)
    if y.ndim == 2 and y.shape[1] == outputs > 1:
        return y.argmax(axis=1)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise ValueError(f"y must have shape (n,) or (n, {outputs}); got {y.shape}")
    labels = y.astype(np.int64)
    if (labels != y).any() or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"y must be class indices, 0 to {classes - 1}; got {shown(y)}")
    return labels


class _Thresholded(Metric):
    """A metric of decisions: the largest of several scores, or a score above a threshold."""

    settings: tuple[str, ...] = ("threshold",)
    threshold: float

    def __init__(self, threshold: float = 0.5):
        self._set(threshold=check_number(f"threshold of {self.name}", threshold))

    def on_logits(self) -> Metric:
        if not 0.0 < self.threshold < 1.0:
            return self
        settings = {name: getattr(self, name) for name in self.settings}
        settings["threshold"] = math.log(self.threshold / (1.0 - self.threshold))
        return type(self)(**settings)

    def decide(self, y_hat: Doubles) -> NDArray[np.int64]:
        """Return the decided class of each row of scores."""
        if y_hat.shape[1] == 1:
            return (y_hat[:, 0] > self.threshold).astype(np.int64)
        return y_hat.argmax(axis=1)


class Accuracy(_Thresholded):
    """Share of right decisions; with multilabel targets, of rows that are right in every column.

    Parameters
    ----------
    threshold : float
        A single score, or one of a multilabel row, above it means 1.
    """

    name = "accuracy"

    def _value(self, y_hat: Doubles, y: NDArray[Any], weight: Doubles) -> float:
        if _is_multilabel(y, y_hat.shape[1]):
            right = ((y_hat > self.threshold) == (y > 0)).all(axis=1)
        else:
            right = self.decide(y_hat) == class_indices(y, y_hat.shape[1])
        return float(_mean(right.astype(np.float64), weight))


class BalancedAccuracy(_Thresholded):
    """Mean over the classes that occur of the share of right decisions in each."""

    name = "balanced_accuracy"

    def _value(self, y_hat: Doubles, y: NDArray[Any], weight: Doubles) -> float:
        labels = class_indices(y, y_hat.shape[1])
        right = self.decide(y_hat) == labels
        total = np.bincount(labels, weight)
        hits = np.bincount(labels, weight * right, len(total))
        return float((hits[total > 0] / total[total > 0]).mean())


class TopK(Metric):
    """Share of samples whose class is among the k largest scores.

    Parameters
    ----------
    k : int
        Number of scores that count, at least 1.

    Raises
    ------
    TypeError, ValueError
        If k is not an integer >= 1.
    """

    name = "top_k"
    settings = ("k",)
    k: int

    def __init__(self, k: int = 5):
        self._set(k=check_integer("k of top_k", k, low=1))

    @property
    def label(self) -> str:
        return f"top_{self.k}"

    def _value(self, y_hat: Doubles, y: NDArray[Any], weight: Doubles) -> float:
        if y_hat.shape[1] < 2:
            raise ValueError("top_k needs scores of at least two classes; got one column")
        labels = class_indices(y, y_hat.shape[1])
        # Equal scores: the higher class index comes first, as in scikit-learn.
        best = np.argsort(y_hat, axis=1, kind="stable")[:, ::-1][:, : self.k]
        return float(_mean((best == labels[:, np.newaxis]).any(axis=1).astype(np.float64), weight))


class _FromCounts(_Thresholded):
    """A metric of the counts of hits, decisions and occurrences per class."""

    settings = ("average", "threshold")
    average: str

    def __init__(self, average: str = "auto", threshold: float = 0.5):
        super().__init__(threshold)
        averages = ("auto", "binary", "macro", "micro", "weighted")
        self._set(average=choose(f"average of {self.name}", average, averages))

    def ratio(self, hits: Doubles, decided: Doubles, occurring: Doubles) -> Doubles:
        """Return the metric from counts; 0 where it would be 0/0."""
        raise NotImplementedError

    def _value(self, y_hat: Doubles, y: NDArray[Any], weight: Doubles) -> float:
        outputs = y_hat.shape[1]
        if _is_multilabel(y, outputs):
            decisions, truth = y_hat > self.threshold, y > 0
            present = np.ones(outputs, np.bool_)
        else:
            classes = np.arange(max(outputs, 2))
            decisions = self.decide(y_hat)[:, np.newaxis] == classes
            truth = class_indices(y, outputs)[:, np.newaxis] == classes
            present = (decisions | truth).any(axis=0)
        hits, decided, occurring = (
            weight @ (decisions & truth),
            weight @ decisions,
            weight @ truth,
        )
        average = self.average
        if average == "auto":
            average = "binary" if outputs == 1 else "macro"
        if average == "binary":
            if len(hits) != 2:
                raise ValueError(
                    f"average 'binary' of {self.name} needs two classes; got {len(hits)}"
                )
            return float(self.ratio(hits, decided, occurring)[1])
        hits, decided, occurring = hits[present], decided[present], occurring[present]
        if average == "micro":
            hits, decided, occurring = (v.sum(keepdims=True) for v in (hits, decided, occurring))
        scores = self.ratio(hits, decided, occurring)
        if average == "weighted":
            return float(_quotient(scores @ occurring, occurring.sum()))
        return float(scores.mean())


def _quotient(above: ArrayLike, below: ArrayLike) -> Doubles:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0.0)


class Precision(_FromCounts):
    """Share of hits among the decisions for a class; 0 where there are none.

    Parameters
    ----------
    average : {"auto", "binary", "macro", "micro", "weighted"}
        "binary": of class 1; "macro": mean over classes; "micro": of the counts of all classes
        together; "weighted": mean weighted by occurrences; "auto": binary for one column of
        scores, macro otherwise. Classes that neither occur nor are decided for do not count.
    threshold : float
        A single score, or one of a multilabel row, above it means 1.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "precision"

    def ratio(self, hits: Doubles, decided: Doubles, occurring: Doubles) -> Doubles:
        return _quotient(hits, decided)


class Recall(_FromCounts):
    """Share of hits among the occurrences of a class; 0 where there are none.

    Parameters
    ----------
    average, threshold
        As for `Precision`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "recall"

    def ratio(self, hits: Doubles, decided: Doubles, occurring: Doubles) -> Doubles:
        return _quotient(hits, occurring)


class F1(_FromCounts):
    """Harmonic mean of precision and recall of a class; 0 where both are.

    Parameters
    ----------
    average, threshold
        As for `Precision`.

    Raises
    ------
    TypeError, ValueError
        If a setting is refused.
    """

    name = "f1"

    def ratio(self, hits: Doubles, decided: Doubles, occurring: Doubles) -> Doubles:
        return _quotient(2.0 * hits, decided + occurring)


def _softmax(scores: Doubles) -> Doubles:
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


class _OfScores(Metric):
    """A metric of scores, not of decisions.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits: they then go through a sigmoid or softmax first.
    """

    settings = ("from_logits",)
    from_logits: bool

    def __init__(self, from_logits: bool = False):
        self._set(from_logits=check_flag(f"from_logits of {self.name}", from_logits))

    def on_logits(self) -> Metric:
        return type(self)(from_logits=True)


class RocAuc(_OfScores):
    """Area under the ROC curve: how often a sample of a class scores above one that is not.

    With more than two classes, the mean over classes of one against the rest; with multilabel
    targets, the mean over columns. NaN where a class is missing, or all samples are of it.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits: rows of several then go through a softmax first.
    """

    name = "roc_auc"

    def _value(self, y_hat: Doubles, y: NDArray[Any], weight: Doubles) -> float:
        outputs = y_hat.shape[1]
        if _is_multilabel(y, outputs):
            return float(np.mean([_auc(y_hat[:, k], y[:, k] > 0, weight) for k in range(outputs)]))
        labels = class_indices(y, outputs)
        if outputs == 1:
            return _auc(y_hat[:, 0], labels == 1, weight)
        scores = _softmax(y_hat) if self.from_logits else y_hat
        if outputs == 2:
            return _auc(scores[:, 1], labels == 1, weight)
        return float(np.mean([_auc(scores[:, k], labels == k, weight) for k in range(outputs)]))


def _auc(scores: Doubles, positive: NDArray[np.bool_], weight: Doubles) -> float:
    """Return the area under the curve of true against false positives, by trapezoids."""
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.concatenate([[0.0], np.cumsum((weight * positive)[order])[ends]])
    false = np.concatenate([[0.0], np.cumsum((weight * ~positive)[order])[ends]])
    if hits[-1] == 0.0 or false[-1] == 0.0:
        return float("nan")
    area = (np.diff(false) * 0.5 * (hits[1:] + hits[:-1])).sum()
    return float(area / (hits[-1] * false[-1]))


class LogLoss(_OfScores):
    """Mean of -log p of the class that occurred, p at least the spacing of float64 at 1.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits: they then go through a sigmoid or softmax first.
    """

    name = "log_loss"
    greater_is_better = False

    def _value(self, y_hat: Doubles, y: NDArray[Any], weight: Doubles) -> float:
        labels = class_indices(y, y_hat.shape[1])
        if y_hat.shape[1] == 1:
            # The logits of two classes are 0 and ŷ.
            zeros = np.zeros_like(y_hat)
            y_hat = np.hstack([zeros, y_hat] if self.from_logits else [1.0 - y_hat, y_hat])
        p = _softmax(y_hat) if self.from_logits else y_hat
        if (p < 0.0).any() or (p > 1.0).any():
            raise ValueError(
                "y_hat must be probabilities, 0 to 1, for log_loss with from_logits=False; "
                f"got {p.min()} to {p.max()}"
            )
        least = np.finfo(np.float64).eps
        chosen = p[np.arange(len(p)), labels]
        return float(_mean(-np.log(np.clip(chosen, least, 1.0 - least)), weight))


METRICS: dict[str, type[Metric]] = {
    kind.name: kind
    for kind in (
        Accuracy,
        BalancedAccuracy,
        TopK,
        Precision,
        Recall,
        F1,
        RocAuc,
        LogLoss,
        MeanSquaredError,
        RootMeanSquaredError,
        MeanAbsoluteError,
        MeanAbsolutePercentageError,
        MaxError,
        R2,
        ExplainedVariance,
    )
}


def get(metric: str | Metric | MetricFunction) -> Metric:
    """Return a metric object from its name or a function, or the object itself.

    "top_3" is top_k with k = 3.

    Raises
    ------
    TypeError
        If it is neither a string, a `Metric` nor a callable (y_hat, y) -> float.
    ValueError
        If the name is unknown; the message has the closest one.
    """
    if callable(metric) and not isinstance(metric, (Metric, type)):
        return FunctionMetric(metric)
    if isinstance(metric, str) and metric.startswith("top_") and metric[4:].isdigit():
        return TopK(int(metric[4:]))
    return resolve("metric", metric, METRICS, Metric)


def greater_is_better(label: str) -> bool | None:
    """Return whether greater values are better of what a history calls so; None if unknown."""
    for name in (label, label.rpartition("_")[0], "top_k" if label.startswith("top_") else ""):
        if name in METRICS:
            return METRICS[name].greater_is_better
    return None


def from_config(config: Mapping[str, Any]) -> Metric:
    """Return the metric that `Metric.config()` described.

    Raises
    ------
    TypeError, ValueError
        If the name or a setting is unknown or refused.
    """
    return build("metric", config, METRICS)
