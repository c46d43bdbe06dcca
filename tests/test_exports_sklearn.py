"""Models from and to scikit-learn: the same predictions, the same classes, clear refusals."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

import fastmlp as fm
from cases import inputs
from exported import assert_same

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

X = 3 * inputs(60, 5, dtype="float64") + 2
LABELS = np.random.default_rng(0).integers(0, 3, 60)
WORDS = np.array(["ant", "bee", "cat"])[LABELS]
FLAGS = np.random.default_rng(1).integers(0, 2, (60, 4))
TOLERANCES = {"float32": 2e-6, "float64": 1e-13}


def regressor(hidden=(8,), **settings):
    return MLPRegressor(hidden_layer_sizes=hidden, max_iter=5, random_state=0, **settings)


def classifier(hidden=(8,), **settings):
    return MLPClassifier(hidden, max_iter=5, random_state=0, **settings)


def fitted(estimator, y, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # five epochs do not converge
        return estimator.fit(X.astype(dtype), y)


def answers(estimator, x, columns):
    """Return probabilities, or values, as a model gives them: the second alone of two."""
    result = getattr(estimator, "predict_proba", estimator.predict)(x)
    return result.reshape(len(x), -1)[:, -columns:]


ESTIMATORS = {
    "three classes": (classifier((7, 6)), LABELS),
    "words": (classifier(activation="tanh"), WORDS),
    "two classes": (classifier(activation="logistic"), LABELS > 1),
    "several labels": (classifier(), FLAGS),
    "no hidden layer": (classifier(()), LABELS),
    "one value": (regressor(), X[:, 0]),
    "two values": (regressor((7, 6), activation="identity"), X[:, :2]),
    "standardized": (make_pipeline(StandardScaler(), classifier()), LABELS),
    "only centred": (make_pipeline(StandardScaler(with_std=False), regressor()), X[:, 0]),
    "only scaled": (make_pipeline(StandardScaler(with_mean=False), regressor()), X[:, 0]),
}


@pytest.mark.parametrize(("estimator", "y"), ESTIMATORS.values(), ids=ESTIMATORS)
def test_here_and_back(estimator, y, dtype):
    estimator = fitted(clone(estimator), y, dtype)
    x = X.astype(dtype)
    model = fm.from_sklearn(estimator)
    network = estimator[-1] if hasattr(estimator, "steps") else estimator
    assert model.dtype == network.coefs_[0].dtype
    tolerance = TOLERANCES[model.dtype.name]
    expected = answers(estimator, x, model.output_size).astype(model.dtype)
    assert_same(model.predict(x), expected, tolerance)
    labels = getattr(estimator, "classes_", None)
    back = model.to_sklearn(labels if labels is not None and y.ndim == 1 else None)
    actual = answers(back, x, model.output_size).astype(model.dtype)
    assert_same(actual, expected, tolerance)
    np.testing.assert_allclose(back.predict(x), estimator.predict(x), rtol=1e-5) if (
        labels is None
    ) else np.testing.assert_array_equal(back.predict(x), estimator.predict(x))
    clone(back)


def test_poisson_regression():
    estimator = fitted(regressor(loss="poisson"), np.abs(X[:, 0]), "float64")
    model = fm.from_sklearn(estimator)
    assert_same(model.predict(X)[:, 0], estimator.predict(X))


def test_softmax_of_two_is_one_output_there(dtype):
    model = fm.MLP([5, 4, 2], output_activation="softmax", dtype=dtype, seed=1)
    back = model.to_sklearn(["cat", "dog"])
    assert back.coefs_[-1].shape == (4, 1)
    x = X.astype(dtype)
    assert_same(back.predict_proba(x).astype(dtype), model.predict(x), TOLERANCES[dtype])
    expected = np.array(["cat", "dog"])[model.predict(x).argmax(axis=1)]
    np.testing.assert_array_equal(back.predict(x), expected)


def test_learning_goes_on_from_there():
    model = fm.MLP([5, 4, 3], output_activation="softmax", dtype="float64", seed=1)
    back = model.to_sklearn()
    before = [array.copy() for array in back.coefs_]
    back.partial_fit(X, LABELS)
    assert back.t_ == 60
    assert len(back.loss_curve_) == 1
    for array, old, name in zip(back.coefs_, before, ("0.weight", "1.weight"), strict=True):
        assert 0 < np.abs(array - old).max() < 0.01  # a step of Adam from there
        np.testing.assert_array_equal(model.parameters[name], old)  # the model's own stay


def test_an_estimator_of_fastmlp():
    estimator = fm.MLPClassifier((6,), activation="gelu", max_iter=3, random_state=0)
    estimator = fitted(estimator, LABELS, "float64")
    model = fm.from_sklearn(estimator)
    assert_same(model.predict(X), estimator.predict_proba(X))


def test_what_scikit_learn_cannot_represent():
    dense = fm.Dense
    for model, message in (
        (fm.MLP([2, 3, 1], "gelu"), r"layer 0 \(Dense\): the activation GELU\(\).* of identity, "),
        (fm.MLP([2, 3, 1], "relu", "tanh"), "outputs of scikit-learn's networks .* got tanh"),
        (fm.MLP([2, 3, 1], "relu", "softmax"), "softmax of a single output"),
        (stack(dense(3, "relu"), dense(3, "tanh"), dense(1)), "these have relu, tanh"),
        (stack(dense(3, bias=False), dense(1)), r"layer 0 \(Dense\) has no bias"),
        (stack(dense(3), fm.Dropout(0.5), dense(1)), r"layer 1 \(Dropout\) has no counterpart"),
        (stack(fm.Standardize()), r"layer 0 \(Standardize\) has no counterpart"),
        (fm.Sequential([dense(1)]), "sizes of the model are not known"),
    ):
        with pytest.raises(ValueError, match=message):
            model.to_sklearn()


def stack(*layers):
    return fm.Sequential(layers, input_size=2)


@pytest.mark.parametrize(
    ("model", "classes"),
    [
        (fm.MLP([2, 3]), [1, 2, 3]),
        (fm.MLP([2, 3], output_activation="softmax"), [1, 2]),
        (fm.MLP([2, 3], output_activation="softmax"), ["b", "a", "c"]),
        (fm.MLP([2, 3], output_activation="softmax"), [1, 1, 2]),
        (fm.MLP([2, 3], output_activation="sigmoid"), [1, 2, 3]),
        (fm.MLP([2, 1], output_activation="sigmoid"), [1]),
    ],
)
def test_classes_that_do_not_fit(model, classes):
    with pytest.raises(ValueError, match="classes"):
        model.to_sklearn(classes)


def test_what_is_no_network_is_refused():
    for estimator, exception, message in (
        (StandardScaler(), TypeError, "must be an MLPClassifier or MLPRegressor"),
        (classifier(), ValueError, "estimator must be fitted"),
        (fitted(make_pipeline(MinMaxScaler(), regressor()), X[:, 0], "f8"), ValueError, "MinMax"),
        (3, TypeError, "got 3"),
    ):
        with pytest.raises(exception, match=message):
            fm.from_sklearn(estimator)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.neural_network", None)
    with pytest.raises(ImportError, match=r'pip install "fastmlp\[sklearn\]"'):
        fm.MLP([2, 1]).to_sklearn()
