"""Metrics: scikit-learn's numbers, numbers worked out by hand, targets, errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fastmlp import metrics
from fastmlp.metrics import (
    F1,
    METRICS,
    R2,
    Accuracy,
    BalancedAccuracy,
    LogLoss,
    Precision,
    Recall,
    RocAuc,
    TopK,
)

SAMPLES = 60


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def problem(kind, seed):
    """Scores and targets; scores are rounded, so that there are ties."""
    rng = np.random.default_rng(seed)
    outputs = {"binary": 1, "multiclass": 4, "two": 2}.get(kind, 3)
    z = np.round(rng.normal(size=(SAMPLES, outputs)), 1)
    y = {
        "binary": rng.integers(0, 2, SAMPLES),
        "two": rng.integers(0, 2, SAMPLES),
        # Class 3 never occurs, though it is decided for.
        "multiclass": rng.integers(0, 3, SAMPLES),
        "multilabel": rng.integers(0, 2, (SAMPLES, 3)),
        "regression": np.round(rng.normal(size=(SAMPLES, 3)), 1),
    }[kind]
    y_hat = softmax(z) if kind in ("multiclass", "two") else 1 / (1 + np.exp(-z))
    return (z if kind == "regression" else y_hat), y, rng.integers(0, 4, SAMPLES)


def decided(kind, y_hat):
    if kind == "binary":
        return (y_hat[:, 0] > 0.5).astype(int)
    return (y_hat > 0.5).astype(int) if kind == "multilabel" else y_hat.argmax(axis=1)


@pytest.fixture(scope="module")
def sk():
    return pytest.importorskip("sklearn.metrics")


# --- as scikit-learn ---


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weighted", [False, True])
class TestDecisions:
    @pytest.mark.parametrize("kind", ["binary", "two", "multiclass", "multilabel"])
    def test_accuracy(self, sk, kind, weighted, seed):
        y_hat, y, weight = problem(kind, seed)
        weight = weight if weighted else None
        expected = sk.accuracy_score(y, decided(kind, y_hat), sample_weight=weight)
        assert Accuracy()(y_hat, y, weight) == pytest.approx(expected, rel=1e-14)

    @pytest.mark.parametrize(
        ("kind", "average"),
        [("binary", "binary"), ("two", "binary")]
        + [
            (kind, average)
            for kind in ("binary", "two", "multiclass", "multilabel")
            for average in ("macro", "micro", "weighted")
        ],
    )
    @pytest.mark.parametrize("name", ["precision", "recall", "f1"])
    def test_precision_recall_f1(self, sk, kind, weighted, seed, average, name):
        y_hat, y, weight = problem(kind, seed)
        weight = weight if weighted else None
        expected = getattr(sk, f"{name}_score")(
            y, decided(kind, y_hat), average=average, sample_weight=weight, zero_division=0.0
        )
        metric = METRICS[name](average=average)
        assert metric(y_hat, y, weight) == pytest.approx(expected, rel=1e-14)

    @pytest.mark.parametrize("kind", ["binary", "two", "multilabel"])
    def test_roc_auc(self, sk, kind, weighted, seed):
        y_hat, y, weight = problem(kind, seed)
        weight = weight if weighted else None
        scores = y_hat if kind == "multilabel" else y_hat[:, -1]
        expected = sk.roc_auc_score(y, scores, sample_weight=weight)
        assert RocAuc()(y_hat, y, weight) == pytest.approx(expected, rel=1e-13)

    @pytest.mark.parametrize("kind", ["binary", "two", "multiclass"])
    def test_log_loss(self, sk, kind, weighted, seed):
        y_hat, y, weight = problem(kind, seed)
        weight = weight if weighted else None
        p = np.hstack([1 - y_hat, y_hat]) if kind == "binary" else y_hat
        expected = sk.log_loss(y, p, sample_weight=weight, labels=range(p.shape[1]))
        assert LogLoss()(y_hat, y, weight) == pytest.approx(expected, rel=1e-13)

    # Of many classes, scikit-learn warns where one is decided for and never occurs.
    @pytest.mark.parametrize("kind", ["binary", "two"])
    def test_balanced_accuracy(self, sk, kind, weighted, seed):
        y_hat, y, weight = problem(kind, seed)
        weight = weight if weighted else None
        expected = sk.balanced_accuracy_score(y, decided(kind, y_hat), sample_weight=weight)
        assert BalancedAccuracy()(y_hat, y, weight) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_roc_auc_of_many_classes(sk, seed):
    rng = np.random.default_rng(seed)
    y_hat = softmax(np.round(rng.normal(size=(SAMPLES, 4)), 1))
    y = rng.integers(0, 4, SAMPLES)
    expected = sk.roc_auc_score(y, y_hat, multi_class="ovr")
    assert RocAuc()(y_hat, y) == pytest.approx(expected, rel=1e-13)


def test_roc_auc_of_logits_is_that_of_probabilities():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(SAMPLES, 4)), rng.integers(0, 4, SAMPLES)
    expected = RocAuc()(softmax(z), y)
    assert RocAuc(from_logits=True)(z + 5.0, y) == pytest.approx(expected, rel=1e-14)
    assert RocAuc()(z, y) != expected


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k(sk, k):
    rng = np.random.default_rng(k)
    y_hat, y = np.round(rng.random((SAMPLES, 5)), 1), rng.integers(0, 5, SAMPLES)
    weight = rng.integers(0, 4, SAMPLES)
    for w in (None, weight):
        expected = sk.top_k_accuracy_score(y, y_hat, k=k, sample_weight=w)
        assert TopK(k)(y_hat, y, w) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mse", "mean_squared_error"),
        ("rmse", "root_mean_squared_error"),
        ("mae", "mean_absolute_error"),
        ("mape", "mean_absolute_percentage_error"),
        ("r2", "r2_score"),
        ("explained_variance", "explained_variance_score"),
    ],
)
def test_regression(sk, name, theirs, weighted, seed):
    y_hat, y, weight = problem("regression", seed)
    weight = weight if weighted else None
    expected = getattr(sk, theirs)(y, y_hat, sample_weight=weight)
    assert metrics.get(name)(y_hat, y, weight) == pytest.approx(expected, rel=1e-12)
    expected = getattr(sk, theirs)(y[:, 0], y_hat[:, 0], sample_weight=weight)
    assert metrics.get(name)(y_hat[:, :1], y[:, 0], weight) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["r2", "explained_variance"])
@pytest.mark.parametrize("constant", [0.0, 2.0])
def test_constant_targets(sk, name, constant):
    theirs = getattr(sk, {"r2": "r2_score"}.get(name, "explained_variance_score"))
    y = np.full(5, constant)
    for y_hat in (y, np.arange(5.0)):
        assert metrics.get(name)(y_hat, y) == theirs(y, y_hat)


def test_max_error(sk):
    y_hat, y, _ = problem("regression", 0)
    assert metrics.get("max_error")(y_hat[:, 0], y[:, 0]) == sk.max_error(y[:, 0], y_hat[:, 0])


# --- by hand ---


def test_worked_examples():
    y_hat, y = [0.9, 0.6, 0.4, 0.2, 0.7], [1, 0, 1, 0, 1]
    # Decisions 1 1 0 0 1: two hits of three decisions and of three occurrences.
    assert Accuracy()(y_hat, y) == 3 / 5
    assert Precision()(y_hat, y) == 2 / 3
    assert Recall()(y_hat, y) == 2 / 3
    assert F1()(y_hat, y) == 2 / 3
    # Of six pairs of a 1 and a 0, one (0.4, 0.6) is in the wrong order.
    assert RocAuc()(y_hat, y) == pytest.approx(5 / 6)
    assert BalancedAccuracy()(y_hat, y) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert LogLoss()([0.5, 0.25], [1, 0]) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert TopK(2)([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], [1, 2]) == 0.5
    assert R2()([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]) == 0.5
    assert metrics.get("rmse")([[0.0, 0.0], [2.0, 4.0]], [[0, 0], [0, 0]]) == pytest.approx(
        (math.sqrt(2) + math.sqrt(8)) / 2
    )
    assert metrics.get("mape")([110.0, 90.0], [100.0, 100.0]) == pytest.approx(0.1)
    assert metrics.get("max_error")([1.0, 5.0], [1.0, 2.0]) == 3.0


def test_classes_that_neither_occur_nor_are_decided_for_do_not_count():
    y_hat, y = np.eye(4)[[0, 1, 1, 0]], [0, 1, 0, 0]
    assert Recall()(y_hat, y) == pytest.approx((2 / 3 + 1) / 2)
    assert Precision()(y_hat, y) == pytest.approx((1 + 1 / 2) / 2)


def test_ties_count_half():
    assert RocAuc()([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1]) == 0.5


def test_undefined_is_nan():
    assert math.isnan(RocAuc()([0.2, 0.3], [1, 1]))
    assert math.isnan(RocAuc()([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], [0, 1]))
    assert math.isnan(R2()([1.0], [2.0]))


def test_zero_divisions_are_zero():
    assert Precision()([0.1, 0.2], [1, 1]) == 0.0
    assert Recall()([0.9, 0.2], [0, 0]) == 0.0
    assert F1()([0.1, 0.2], [0, 0]) == 0.0


def test_targets_may_be_labels_rows_or_columns():
    y_hat, y, _ = problem("multiclass", 0)
    for name in ("accuracy", "top_2", "precision", "log_loss"):
        assert metrics.get(name)(y_hat, y) == metrics.get(name)(y_hat, np.eye(4)[y])
    y_hat, y, _ = problem("binary", 0)
    for name in ("accuracy", "f1", "roc_auc", "log_loss"):
        by_label = metrics.get(name)(y_hat, y)
        assert by_label == metrics.get(name)(y_hat[:, 0], y[:, None].astype(bool))
        assert by_label == metrics.get(name)(y_hat.tolist(), y.tolist())


def test_soft_targets_mean_their_largest_class():
    assert Accuracy()([[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.7, 0.3]]) == 0.5


def test_logits():
    y_hat, y, _ = problem("binary", 1)
    logits = np.log(y_hat / (1 - y_hat))
    for name in ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "log_loss"):
        metric = metrics.get(name)
        assert metric.on_logits()(logits, y) == pytest.approx(metric(y_hat, y), rel=1e-13)
    y_hat, y, _ = problem("multiclass", 1)
    for name in ("accuracy", "top_2", "f1", "log_loss"):
        metric = metrics.get(name)
        assert metric.on_logits()(np.log(y_hat) + 5, y) == pytest.approx(metric(y_hat, y))
    assert Accuracy(threshold=0.9).on_logits().threshold == pytest.approx(math.log(9))
    assert Accuracy(threshold=0.0).on_logits().threshold == 0.0
    assert R2().on_logits() == R2()


def test_huge_logits_are_finite():
    # Probabilities are bounded by ε as scikit-learn bounds them.
    worst = pytest.approx(-math.log(np.finfo(float).eps))
    assert LogLoss(from_logits=True)([[1e4, -1e4]], [1]) == worst
    assert LogLoss(from_logits=True)([[-1e4]], [1]) == worst
    assert LogLoss(from_logits=True)([[1e4]], [1]) == pytest.approx(0.0, abs=1e-15)


# --- functions, names, data ---


def test_functions():
    def bias(y_hat, y):
        return np.mean(y_hat - y)

    metric = metrics.get(bias)
    assert metric([2.0, 3.0], [1.0, 1.0]) == 1.5
    assert metric.label == "bias"
    assert metrics.get(metric) is metric
    with pytest.raises(ValueError, match=r"metric 'bias' is a function of .* without weights"):
        metric([1.0], [1.0], [1.0])
    with pytest.raises(TypeError, match="cannot be stored"):
        metric.config()
    with pytest.raises(TypeError, match="must return a number; got 'a'"):
        metrics.get(lambda y_hat, y: "a")([1.0], [1.0])


def test_labels():
    assert metrics.get("top_3") == TopK(3)
    assert metrics.get("top_3").label == "top_3"
    assert metrics.get("accuracy").label == "accuracy"


def test_directions():
    falling = {name for name, kind in METRICS.items() if not kind.greater_is_better}
    assert falling == {"log_loss", "mse", "rmse", "mae", "mape", "max_error"}


@pytest.mark.parametrize("name", METRICS)
def test_config(name):
    metric = metrics.get(name)
    assert metrics.from_config(json.loads(json.dumps(metric.config()))) == metric


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: metrics.get("acuracy"), ValueError, "did you mean 'accuracy'"),
        (lambda: metrics.get(3), TypeError, "or of type Metric; got 3"),
        (lambda: metrics.get(Accuracy), TypeError, "got the class Accuracy"),
        (lambda: metrics.get("top_0"), ValueError, "k of top_k must be an integer >= 1"),
        (lambda: Accuracy(threshold="a"), TypeError, "threshold of accuracy"),
        (lambda: F1(average="mean"), ValueError, "average of f1 must be one of 'auto'"),
        (lambda: RocAuc(from_logits=1), TypeError, "from_logits of roc_auc must be True or False"),
        (lambda: F1(average="binary")(np.ones((1, 3)), [0]), ValueError, "needs two classes"),
        (lambda: TopK()([0.5, 0.5], [0, 1]), ValueError, "at least two classes"),
        (lambda: Accuracy()([0.5], [0, 1]), ValueError, r"y must have 1 samples .* shape \(2,\)"),
        (lambda: Accuracy()([], []), ValueError, r"y_hat must have shape \(n, m\)"),
        (lambda: Accuracy()([np.nan], [0]), ValueError, "y_hat must be finite"),
        (lambda: Accuracy()(["a"], [0]), TypeError, "y_hat must hold real numbers"),
        (lambda: Accuracy()([0.5], ["a"]), TypeError, "y must hold real numbers"),
        (lambda: Accuracy()([0.5], [2]), ValueError, "y must be class indices, 0 to 1"),
        (lambda: Accuracy()([0.5], [0.5]), ValueError, "y must be class indices"),
        (lambda: Accuracy()([0.5], [[0, 1]]), ValueError, r"y must have shape \(n,\) or \(n, 1\)"),
        (lambda: R2()([1.0, 2.0], [[1, 2], [3, 4]]), ValueError, r"shape \(2, 1\) of y_hat"),
        (
            lambda: R2()([1.0, 2.0], [1, 2], [1]),
            ValueError,
            r"sample_weight must have shape \(2,\)",
        ),
        (lambda: R2()([1.0, 2.0], [1, 2], [1, -1]), ValueError, "sample_weight must be >= 0"),
        (lambda: R2()([1.0, 2.0], [1, 2], [0, 0]), ValueError, "not all zero"),
        (lambda: LogLoss()([3.0], [1]), ValueError, "y_hat must be probabilities, 0 to 1"),
        (lambda: metrics.FunctionMetric(3), TypeError, "must be callable; got 3"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
