"""The estimators come to scikit-learn's numbers: same first weights, same order, same rules."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import sklearn.neural_network as theirs
from sklearn.datasets import load_diabetes, load_digits, load_wine, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

import fastmlp as fm

# 1e-4 is what is promised; all that differs is the order of sums.
LOSS_TOLERANCE = 1e-9
RNG = np.random.RandomState(0)


def digits(dtype="float64"):
    x, y = load_digits(return_X_y=True)
    return (x / 16.0).astype(dtype), y


def pair(x):
    return x, (x[:, :1] + x[:, 1:2] > 0).ravel()


def diabetes():
    x, y = load_diabetes(return_X_y=True)
    return 20.0 * x, (y - 150.0) / 77.0


def several():
    x, y = diabetes()
    return x, np.stack([y, y**2, x[:, 0] - y], axis=1)


def counts(outputs=1):
    x = np.random.RandomState(1).rand(300, 4)
    y = np.random.RandomState(2).poisson(3.0 * x[:, :outputs] + 1.0).astype(float)
    return x, y if outputs > 1 else y.ravel()


DATA = {
    "digits": digits(),
    "two classes": pair(RNG.normal(size=(400, 5))),
    "raw wine": load_wine(return_X_y=True),
    "labels": make_multilabel_classification(300, random_state=0),
    "diabetes": diabetes(),
    "several": several(),
    "counts": counts(),
    "two counts": counts(2),
}
REGRESSION = ("diabetes", "several", "counts", "two counts")


@pytest.fixture(autouse=True, scope="module")
def one_thread_of_blas():
    """The threads of scikit-learn's BLAS go on spinning, and tests of small things take longer."""
    with threadpool_limits(1, "blas"):
        yield


def both(data, sample_weight=None, **settings):
    """Fit scikit-learn's estimator and ours; warnings must be the same."""
    kind = "MLPRegressor" if data in REGRESSION else "MLPClassifier"
    settings = {"max_iter": 15, "random_state": 3} | settings
    models, messages = [], []
    for package in (theirs, fm):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = getattr(package, kind)(**settings)
            models.append(model.fit(*DATA[data], sample_weight=sample_weight))
        # What NumPy says of overflows is not part of the behaviour.
        messages.append([str(w.message) for w in caught if w.category is not RuntimeWarning])
    assert messages[0] == messages[1]
    return models


def assert_same(their, our, tolerance=1e-9, loss_tolerance=LOSS_TOLERANCE):
    for name in ("coefs_", "intercepts_"):
        for expected, actual in zip(getattr(their, name), getattr(our, name), strict=True):
            assert actual.dtype == expected.dtype
            np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
    for name in ("n_iter_", "n_layers_", "n_outputs_", "t_", "out_activation_", "n_features_in_"):
        assert getattr(our, name) == getattr(their, name)
    np.testing.assert_allclose(our.loss_, their.loss_, rtol=loss_tolerance)
    if hasattr(their, "loss_curve_"):
        np.testing.assert_allclose(our.loss_curve_, their.loss_curve_, rtol=loss_tolerance)
        for name in ("best_loss_", "best_validation_score_", "validation_scores_"):
            expected = getattr(their, name)
            if expected is None:
                assert getattr(our, name) is None
            else:
                np.testing.assert_allclose(getattr(our, name), expected, rtol=loss_tolerance)


SGD = {"solver": "sgd", "learning_rate_init": 0.1}
CASES = {
    "adam": {},
    "adam, other scalars": {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3},
    "nesterov": SGD,
    "momentum": SGD | {"nesterovs_momentum": False},
    "no momentum": SGD | {"momentum": 0},
    "invscaling": SGD | {"learning_rate": "invscaling", "power_t": 0.25},
    "invscaling, momentum": SGD | {"learning_rate": "invscaling", "nesterovs_momentum": False},
    "adaptive": SGD
    | {"learning_rate": "adaptive", "tol": 0.01, "n_iter_no_change": 2, "max_iter": 40},
    "early stopping": {"early_stopping": True},
    "early end": SGD | {"early_stopping": True, "max_iter": 100, "n_iter_no_change": 3},
    "converged": {"max_iter": 500, "learning_rate_init": 0.01},
    "strong penalty": {"alpha": 10.0},
    "no penalty": {"alpha": 0.0},
    "as they stand": {"shuffle": False, "batch_size": 64},
    "batch too large": {"batch_size": 5000},
    "two layers": {"hidden_layer_sizes": (30, 20), "activation": "tanh"},
    "logistic": {"activation": "logistic"},
    "identity": {"activation": "identity"},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "one number": {"hidden_layer_sizes": 7},
    "lbfgs": {"solver": "lbfgs"},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_digits(settings):
    assert_same(*both("digits", **settings))


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("data", [name for name in DATA if name != "digits"])
def test_other_data(data, solver):
    settings = {"loss": "poisson"} if "count" in data else {}
    assert_same(*both(data, solver=solver, **settings))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("size", [50, "auto", 400])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_penalty_as_large_as_the_loss(activation, size):
    settings = {"alpha": 10.0, "learning_rate_init": 0.03, "activation": activation}
    their, our = both("two classes", batch_size=size, **settings)
    assert_same(their, our)
    for model in their, our:
        # Who holds weights may change them between two fits.
        model.held = model.coefs_[0]
        model.set_params(warm_start=True).fit(*DATA["two classes"])
    np.testing.assert_allclose(our.loss_curve_, their.loss_curve_, rtol=LOSS_TOLERANCE)


@pytest.mark.parametrize("data", ["two classes", "diabetes", "several", "labels"])
def test_early_stopping(data):
    assert_same(*both(data, early_stopping=True, max_iter=30))


def test_early_stopping_with_one_class():
    x = DATA["two classes"][0]
    settings = {"max_iter": 5, "early_stopping": True, "random_state": 0, "n_iter_no_change": 1}
    models = [
        package.MLPClassifier(**settings).fit(x, np.full(len(x), 7)) for package in (theirs, fm)
    ]
    assert_same(*models)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("data", ["digits", "two classes", "labels", "several", "two counts"])
def test_sample_weight(data, solver):
    weight = np.random.RandomState(5).rand(len(DATA[data][0]))
    settings = {"loss": "poisson"} if "count" in data else {}
    assert_same(*both(data, sample_weight=weight, solver=solver, **settings))


def test_sample_weight_with_early_stopping():
    weight = np.random.RandomState(5).rand(len(DATA["digits"][0]))
    assert_same(*both("digits", sample_weight=weight, early_stopping=True))


def test_a_saturated_loss_is_clipped():
    # Of inputs this large scikit-learn shows probabilities no smaller than the precision.
    x, y = load_wine(return_X_y=True)
    models = [
        package.MLPClassifier(max_iter=5, random_state=0, n_iter_no_change=9)
        for package in (theirs, fm)
    ]
    for model in models:
        with pytest.warns(ConvergenceWarning):
            model.fit(100.0 * x, y)
    assert models[0].loss_curve_[0] > 20.0
    np.testing.assert_allclose(models[1].loss_curve_, models[0].loss_curve_, rtol=LOSS_TOLERANCE)


def test_float32_is_trained_in_float32():
    x, y = digits("float32")
    models = [
        package.MLPClassifier(max_iter=15, random_state=3, n_iter_no_change=20)
        for package in (theirs, fm)
    ]
    for model in models:
        with pytest.warns(ConvergenceWarning):
            model.fit(x, y)
    # Where a gradient is nothing but rounding, Adam still moves by up to its rate of 0.001.
    assert_same(*models, tolerance=2e-3, loss_tolerance=2e-5)
    assert models[1].model_.dtype == np.float32


@pytest.mark.parametrize("data", ["digits", "two classes", "labels"])
def test_predictions_of_classes(data):
    their, our = both(data)
    x = DATA[data][0][::3]
    np.testing.assert_array_equal(our.predict(x), their.predict(x))
    assert our.predict(x).dtype == their.predict(x).dtype
    np.testing.assert_allclose(our.predict_proba(x), their.predict_proba(x), atol=1e-10)
    np.testing.assert_allclose(our.predict_log_proba(x), their.predict_log_proba(x), rtol=1e-6)


@pytest.mark.parametrize("data", REGRESSION)
def test_predictions_of_numbers(data):
    settings = {"loss": "poisson"} if "count" in data else {}
    their, our = both(data, **settings)
    x = DATA[data][0][::3]
    assert our.predict(x).shape == their.predict(x).shape
    np.testing.assert_allclose(our.predict(x), their.predict(x), rtol=1e-9)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_goes_on(solver):
    x, y = digits()
    models = [
        package.MLPClassifier(
            solver=solver, learning_rate="invscaling", learning_rate_init=0.01, random_state=1
        )
        for package in (theirs, fm)
    ]
    for model in models:
        model.partial_fit(x[:500], y[:500], classes=np.unique(y))
        model.partial_fit(x[500:1200], y[500:1200])
        model.partial_fit(x[1200:], y[1200:], sample_weight=np.linspace(0.1, 1.0, 597))
    assert_same(*models)


@pytest.mark.parametrize("solvers", [("adam", "sgd"), ("sgd", "adam")])
def test_partial_fit_keeps_its_optimizer(solvers):
    models = []
    for package in (theirs, fm):
        model = package.MLPRegressor(solver=solvers[0], learning_rate="invscaling", random_state=0)
        model.partial_fit(*DATA["diabetes"]).set_params(solver=solvers[1])
        for _ in range(3):
            model.partial_fit(*DATA["diabetes"])
        models.append(model)
    assert_same(*models)


def test_indicators_do_not_follow_classes():
    x, y = DATA["raw wine"]
    for package in (theirs, fm):
        model = package.MLPClassifier(random_state=0)
        model.partial_fit(x, y, classes=[0, 1, 2])
        with pytest.raises(ValueError, match="not fitted with multilabel input"):
            model.partial_fit(x, np.eye(3, dtype=int)[y])


def test_partial_fit_of_a_regressor_goes_on_with_lbfgs():
    # Unlike scikit-learn's classifier, its regressor has it.
    x, y = diabetes()
    models = [
        package.MLPRegressor(solver="lbfgs", max_iter=3, random_state=1) for package in (theirs, fm)
    ]
    for model in models:
        for _ in range(2):
            with pytest.warns(ConvergenceWarning):
                model.partial_fit(x, y)
    assert_same(*models)
    assert not hasattr(fm.MLPClassifier(solver="lbfgs"), "partial_fit")


def test_the_activation_is_the_present_one():
    x, y = diabetes()
    models = [
        package.MLPRegressor(max_iter=3, random_state=1, warm_start=True)
        for package in (theirs, fm)
    ]
    predictions = []
    for model in models:
        with pytest.warns(ConvergenceWarning):
            model.fit(x, y).set_params(activation="tanh")
        predictions.append(model.predict(x))
        with pytest.warns(ConvergenceWarning):
            model.fit(x, y)
    np.testing.assert_allclose(predictions[1], predictions[0], rtol=1e-9)
    assert_same(*models)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("trained", ["float32", "float64"])
def test_dtypes_are_those_of_scikit_learn(trained, solver):
    x, y = pair(np.random.RandomState(6).normal(size=(40, 5)))
    models = [
        package.MLPClassifier((4,), solver=solver, max_iter=2, random_state=0)
        for package in (theirs, fm)
    ]
    for model in models:
        with pytest.warns(ConvergenceWarning):
            model.fit(x.astype(trained), y)
    their, our = models
    for given in ("float16", "float32", "float64", "int32", "int64", "bool"):
        inputs = x.astype(given)
        assert our.predict_proba(inputs).dtype == their.predict_proba(inputs).dtype
        np.testing.assert_allclose(
            our.predict_proba(inputs), their.predict_proba(inputs), rtol=1e-4, atol=1e-6
        )
    for expected, actual in zip(their.coefs_, our.coefs_, strict=True):
        assert actual.dtype == expected.dtype


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_warm_start_goes_on(solver):
    x, y = digits()
    models = [
        package.MLPClassifier(
            solver=solver, learning_rate="invscaling", max_iter=4, warm_start=True, random_state=1
        )
        for package in (theirs, fm)
    ]
    for model in models:
        for _ in range(3):
            with pytest.warns(ConvergenceWarning):
                model.fit(x, y)
    assert_same(*models)


def warm(package, learning_rate):
    x, y = digits()
    model = package.MLPClassifier(
        solver="sgd",
        learning_rate_init=learning_rate,
        max_iter=4,
        warm_start=True,
        random_state=1,
        early_stopping=True,
    )
    for _ in range(3):
        with pytest.warns(ConvergenceWarning):
            model.fit(x, y)
        yield model


def test_warm_start_with_early_stopping_goes_on():
    for models in zip(warm(theirs, 0.2), warm(fm, 0.2), strict=True):
        assert_same(*models)


def test_warm_start_with_early_stopping_keeps_the_best():
    # scikit-learn loses the best weights if a later fit does not improve on them: it trains the
    # arrays that it has put aside.
    scores, weights = [], []
    for model in warm(fm, 2.0):
        scores.append(model.best_validation_score_)
        weights.append(model.coefs_[0].copy())
    assert scores[0] == scores[1] == scores[2]
    np.testing.assert_array_equal(weights[2], weights[0])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("first", [{"solver": "lbfgs"}, {}, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize("early", [False, True])
def test_a_warm_start_goes_on_from_another_training(first, early):
    # scikit-learn raises AttributeError or TypeError after the first epoch.
    x, y = digits()
    model = fm.MLPClassifier(max_iter=4, warm_start=True, random_state=1, **first).fit(x, y)
    score = model.score(x, y)
    model.set_params(solver="adam", early_stopping=early).fit(x, y)
    assert model.score(x, y) > score - 0.02
    assert (model.best_loss_ is None) == early
    assert (model.validation_scores_ is None) == (model.best_validation_score_ is None) != early
    goes_on = "solver" not in first and early == bool(first)
    assert len(model.loss_curve_) == (8 if goes_on else 4)


def test_a_random_state_is_used_up_alike():
    x, y = digits()
    states = [np.random.RandomState(7), np.random.RandomState(7)]
    for package, state in zip((theirs, fm), states, strict=True):
        model = package.MLPClassifier(random_state=state, max_iter=3, early_stopping=True)
        with pytest.warns(ConvergenceWarning):
            model.fit(x, y)
    assert states[0].rand() == states[1].rand()


def test_messages_are_those_of_scikit_learn(capsys):
    x, y = digits()
    texts = []
    for package in (theirs, fm):
        settings = CASES["adaptive"] | {"max_iter": 80, "verbose": True, "random_state": 3}
        package.MLPClassifier(**settings).fit(x, y)
        package.MLPClassifier(
            early_stopping=True, verbose=True, random_state=3, tol=0.1, n_iter_no_change=2
        ).fit(x, y)
        texts.append(capsys.readouterr().out)
    mine, other = (text.splitlines() for text in reversed(texts))
    assert len(mine) == len(other)
    for left, right in zip(mine, other, strict=True):
        # Losses have eight digits, of which the last may differ.
        assert left[:24] == right[:24]
        if "loss =" not in left:
            assert left == right


def test_divergence_is_told_as_by_scikit_learn():
    x, y = diabetes()
    model = fm.MLPRegressor(solver="sgd", learning_rate_init=1e9, max_iter=5, random_state=0)
    with pytest.warns(ConvergenceWarning), pytest.raises(ValueError, match="non-finite parameter"):
        model.fit(x, y)


def test_best_weights_survive_divergence():
    x, y = diabetes()
    model = fm.MLPRegressor(
        solver="sgd", learning_rate_init=1e9, max_iter=5, random_state=0, early_stopping=True
    )
    with pytest.warns(ConvergenceWarning):
        model.fit(x, y)
    assert np.isnan(model.validation_scores_[-1])
    assert np.isfinite(model.predict(x)).all()
