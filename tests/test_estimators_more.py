"""What the estimators do beyond scikit-learn's numbers: their place in its tools, and its gaps."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import joblib
import scipy.sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_iris, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

import fastmlp as fm
from fastmlp import activations, callbacks, losses, optimizers, schedules, spans
from fastmlp.estimators import epochs, rows, updates

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:600] / 16.0, y[:600]


@pytest.fixture(scope="module")
def curve():
    x, y = make_regression(300, 6, noise=1.0, random_state=0)
    return x, y / y.std()


def quick(**settings):
    return fm.MLPClassifier(
        **{"hidden_layer_sizes": (16,), "random_state": 0, "max_iter": 8} | settings
    )


def quick_regressor(**settings):
    return fm.MLPRegressor(
        **{"hidden_layer_sizes": (16,), "random_state": 0, "max_iter": 30} | settings
    )


# --- where it is used ---


def test_without_scikit_learn_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import fastmlp\n"
        "try: fastmlp.MLPClassifier\n"
        "except ImportError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 'pip install "fastmlp[sklearn]"' in result.stdout


def test_scikit_learn_is_imported_only_when_used():
    code = "import sys, fastmlp; dir(fastmlp); print('sklearn' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_in_a_pipeline_and_a_grid_search(digits):
    pipeline = make_pipeline(StandardScaler(), quick(max_iter=30, learning_rate_init=0.01))
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1e-2]}, cv=2).fit(*digits)
    assert search.best_score_ > 0.8
    assert cross_val_score(pipeline, *digits, cv=2).shape == (2,)


def test_calibrated(digits):
    model = CalibratedClassifierCV(quick(), cv=2).fit(*digits)
    assert model.predict_proba(digits[0]).shape == (600, 10)


def threads_of_a_worker(x, y):
    model = quick(max_iter=2).fit(x, y)
    return model._training.trainer.threads or fm.get_num_threads()


def test_processes_of_joblib_share_the_cores(digits, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # which joblib leaves as it is
    cores = fm.config.usable_cores()
    workers = 2
    used = joblib.Parallel(n_jobs=workers, backend="loky")(
        joblib.delayed(threads_of_a_worker)(*digits) for _ in range(workers)
    )
    # joblib takes a part of a core that a container is given for a whole one.
    assert max(used) * workers <= max(cores, joblib.cpu_count(), workers)


def test_threads_of_joblib_share_the_cores(digits):
    used = joblib.Parallel(n_jobs=2, backend="threading")(
        joblib.delayed(threads_of_a_worker)(*digits) for _ in range(2)
    )
    assert used == [1, 1]


def test_a_thread_of_ones_own_has_all_cores(digits):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(quick()._threads()))
    thread.start()
    thread.join()
    assert seen == [None]
    assert quick(threads=3)._threads() == 3


def test_threads_change_nothing(digits):
    one, two = (quick(threads=n).fit(*digits) for n in (1, 2))
    np.testing.assert_array_equal(one.coefs_[0], two.coefs_[0])


def test_data_frames_give_feature_names(curve):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    x, y = curve
    frame = pandas.DataFrame(x, columns=list("abcdef"))
    model = quick_regressor(early_stopping=True).fit(frame, pandas.Series(y))
    assert list(model.feature_names_in_) == list("abcdef")
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        bare = model.predict(x)
    np.testing.assert_array_equal(model.predict(frame), bare)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"a": "z"}))
    pipeline = make_pipeline(StandardScaler(), quick_regressor()).set_output(transform="pandas")
    assert list(pipeline.fit(frame, y)[-1].feature_names_in_) == list("abcdef")


def test_polars_frames(curve):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    x, y = curve
    frame = polars.DataFrame(x, schema=list("abcdef"))
    model = quick_regressor().fit(frame, y)
    assert list(model.feature_names_in_) == list("abcdef")
    np.testing.assert_array_equal(model.predict(frame), quick_regressor().fit(x, y).predict(x))


# --- copies ---


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize(
    "copied",
    [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy],
    ids=["pickle", "deepcopy"],
)
def test_a_copy_goes_on_as_the_original(digits, copied, solver):
    x, y = digits
    model = quick(solver=solver).fit(x, y)
    twin = copied(model)
    np.testing.assert_array_equal(twin.predict_proba(x), model.predict_proba(x))
    for one in (model, twin):
        one.partial_fit(x, y)
    np.testing.assert_array_equal(twin.coefs_[0], model.coefs_[0])
    assert twin.coefs_[0] is not model.coefs_[0]


@pytest.mark.parametrize("solver", ["adam", "sgd", "adamw"])
def test_equal_fits_have_equal_hashes(digits, solver, monkeypatch):
    """`joblib.Memory` would compute anew what it has of a model that was fitted in other spans."""
    hashes = []
    for seconds in (0.0, 1e6):
        monkeypatch.setattr(spans, "SECONDS", seconds)
        hashes.append(joblib.hash(quick(solver=solver).fit(*digits)))
    assert hashes[0] == hashes[1]


def test_a_clone_has_the_parameters_alone():
    model = quick(solver=optimizers.AdamW(lr=0.01), loss=losses.CrossEntropy(label_smoothing=0.1))
    twin = clone(model)
    assert twin.loss == model.loss
    assert twin.solver.lr == 0.01
    assert not hasattr(twin, "coefs_")


# --- weights ---


def test_weights_are_live(digits):
    x, y = digits
    model = quick().fit(x, y)
    before = model.predict_proba(x)
    model.coefs_[0][...] = 0.0
    assert np.ptp(model.predict_proba(x), axis=0).max() == 0.0
    model.coefs_[0] = np.ones((64, 16))
    assert (model.coefs_[0] == 1.0).all()
    assert not np.array_equal(model.predict_proba(x), before)


def test_weights_can_be_replaced(digits):
    x, y = digits
    model, other = quick().fit(x, y), quick(random_state=1).fit(x, y)
    model.coefs_, model.intercepts_ = other.coefs_, other.intercepts_
    np.testing.assert_array_equal(model.predict_proba(x), other.predict_proba(x))
    larger = quick(hidden_layer_sizes=(9, 8)).fit(x, y)
    model.set_params(hidden_layer_sizes=(9, 8))
    model.coefs_, model.intercepts_ = larger.coefs_, larger.intercepts_
    np.testing.assert_array_equal(model.predict_proba(x), larger.predict_proba(x))


def test_the_network_is_a_sequential(digits, tmp_path):
    x, y = digits
    model = quick().fit(x, y)
    model.model_.save(tmp_path / "m.safetensors")
    loaded = fm.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict_proba(x))


def test_before_fit():
    model = quick()
    assert not hasattr(model, "coefs_")
    with pytest.raises(NotFittedError):
        model.predict(np.zeros((1, 2)))


def test_after_a_fit_that_failed():
    model = quick(hidden_layer_sizes=(2.5,))
    with pytest.raises(TypeError, match="units"):
        model.fit(np.eye(4), [0, 1, 0, 1])
    with pytest.raises(NotFittedError):
        model.predict(np.eye(4))


@pytest.mark.parametrize(
    "settings",
    [
        {"callbacks": [1]},
        {"callbacks": [callbacks.EarlyStopping("val_loss")]},
        {"solver": optimizers.LBFGS()},
        {"threads": 10**6},
        {"dropout": [0.1] * 2},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_fit_that_is_refused_leaves_what_was(digits, settings):
    x, y = digits
    with pytest.raises((TypeError, ValueError)):
        (model := quick(**settings)).fit(x, y)
    with pytest.raises(NotFittedError):
        model.set_params(threads=None).predict(x)
    model = quick().fit(x, y)
    expected = model.predict_proba(x)
    with pytest.raises((TypeError, ValueError)):
        model.set_params(**settings).fit(x[:, :32], y % 2)
    model.set_params(threads=None, dropout=0.0)
    np.testing.assert_array_equal(model.predict_proba(x), expected)
    assert model.n_iter_ == 8
    assert len(model.classes_) == 10


def test_refused_targets_leave_no_untrained_network(curve):
    model = quick_regressor(loss="poisson")
    with pytest.raises(ValueError, match=">= 0"):
        model.fit(curve[0], curve[1] - 10.0)
    with pytest.raises(NotFittedError):
        model.predict(curve[0])


# --- sparse input ---


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "csr_array"])
def test_sparse_input(digits, solver, form, monkeypatch):
    x, y = digits
    settings = {"solver": solver, "max_iter": 4}
    # A few mini-batches, and a few rows in prediction, are dense at the same time.
    monkeypatch.setattr(rows, "_DENSE_BYTES", 250 * 64 * 8)
    dense = quick(batch_size=100, **settings).fit(x, y, sample_weight=np.arange(600) % 5 + 1.0)
    sparse = getattr(scipy.sparse, form)(x)
    model = quick(batch_size=100, **settings).fit(sparse, y, sample_weight=np.arange(600) % 5 + 1.0)
    # Chunks of L-BFGS are others, so its sums are rounded otherwise.
    np.testing.assert_allclose(model.coefs_[0], dense.coefs_[0], atol=1e-9)
    np.testing.assert_allclose(model.predict_proba(sparse), dense.predict_proba(x), atol=1e-9)


def test_sparse_indicators_of_labels(digits):
    x, y = digits
    labels = np.stack([y > 4, y % 2 == 0], axis=1).astype(int)
    model = quick().fit(x, scipy.sparse.csr_matrix(labels))
    assert scipy.sparse.issparse(model.predict(x))
    dense = quick().fit(x, labels)
    np.testing.assert_array_equal(model.predict(x).toarray(), dense.predict(x))


# --- more than scikit-learn has ---


def test_class_weight_is_sample_weight(digits):
    x, y = digits
    weights = {label: 1.0 + label for label in range(10)}
    model = quick(class_weight=weights).fit(x, y)
    same = quick().fit(x, y, sample_weight=1.0 + y)
    np.testing.assert_array_equal(model.coefs_[0], same.coefs_[0])
    both = quick(class_weight=weights).fit(x, y, sample_weight=np.full(600, 2.0))
    np.testing.assert_allclose(
        both.loss_curve_, quick().fit(x, y, sample_weight=2.0 + 2.0 * y).loss_curve_
    )
    with pytest.raises(ValueError, match="balanced"):
        quick(class_weight="balanced").partial_fit(x, y, classes=range(10))


def test_class_weight_of_classes_that_do_not_come(digits):
    """What is said of some classes alone holds for mini-batches that have none of them."""
    x, y = digits
    labels = np.stack([y == 0, y % 2 == 0], axis=1).astype(int)
    for target, heavy, weight in ((y, y == 0, {0: 3.0}), (labels, y == 0, [{1: 3.0}, {0: 1.0}])):
        model, same = quick(class_weight=weight), quick()
        for part in (slice(None), y != 0, y == 0):
            model.partial_fit(x[part], target[part], classes=range(10))
            same.partial_fit(
                x[part], target[part], np.where(heavy[part], 3.0, 1.0), classes=range(10)
            )
        np.testing.assert_array_equal(model.coefs_[0], same.coefs_[0])
    with pytest.raises(ValueError, match="not in class_weight"):
        quick(class_weight={11: 2.0}).partial_fit(x[:2], y[:2], classes=range(10))


def test_errors_are_the_same_with_class_weight(digits):
    x, y = digits
    model = quick(class_weight="balanced")
    with pytest.raises(ValueError, match="requires y to be passed"):
        model.fit(x, None)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        model.fit(x, np.where(y == 0, np.nan, y))
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(x, y, sample_weight=np.ones(1))
    with pytest.raises(ValueError, match="Negative"):
        quick(class_weight={0: -1.0}).fit(x, y)


def test_balanced_classes():
    x, y = load_iris(return_X_y=True)
    x, y = x[40:], y[40:]  # ten of the first class
    plain, balanced = (
        fm.MLPClassifier(random_state=0, max_iter=10, class_weight=w).fit(x, y)
        for w in (None, "balanced")
    )
    assert (balanced.predict(x) == 0).sum() > (plain.predict(x) == 0).sum()


def test_an_activation_for_each_layer(digits):
    kinds = ["gelu", activations.LeakyReLU(0.1)]
    model = quick(hidden_layer_sizes=(8, 7), activation=kinds).fit(*digits)
    assert [layer.activation.name for layer in model.model_.layers] == [
        "gelu",
        "leaky_relu",
        "softmax",
    ]
    with pytest.raises(ValueError, match="list of 1"):
        quick(activation=kinds).fit(*digits)


def test_dropout(digits):
    x, y = digits
    model = quick(hidden_layer_sizes=(32, 16), dropout=[0.2, 0.0], max_iter=40).fit(x, y)
    plain = quick(hidden_layer_sizes=(32, 16), max_iter=40).fit(x, y)
    kinds = [type(layer).__name__ for layer in model.model_.layers]
    assert kinds == ["Dense", "Dropout", "Dense", "Dense"]
    assert model.loss_curve_[-1] > plain.loss_curve_[-1]
    assert model.score(x, y) > 0.6
    np.testing.assert_array_equal(model.predict_proba(x), model.predict_proba(x))
    again = clone(model).fit(x, y)
    np.testing.assert_array_equal(again.coefs_[1], model.coefs_[1])
    other = clone(model).set_params(random_state=1).fit(x, y)
    assert model.model_.seed != other.model_.seed
    with pytest.raises(ValueError, match="list of 1"):
        quick(dropout=[0.5, 0.5]).fit(x, y)
    with pytest.raises(ValueError, match="lbfgs"):
        quick(dropout=0.5, solver="lbfgs").fit(x, y)


def test_dropout_of_nothing_changes_nothing(digits):
    one, two = quick().fit(*digits), quick(dropout=[0.0]).fit(*digits)
    np.testing.assert_array_equal(one.coefs_[0], two.coefs_[0])


class Walk(callbacks.Callback):
    """Keeps the parameters after each update."""

    def __init__(self):
        self.places = []

    def on_train_batch_end(self, batch, logs=None):
        self.places.append(self.model.flat_parameters.array().astype(np.float64))


def walk(digits, **settings):
    """Return a fitted estimator, and its parameters after each update."""
    seen = Walk()
    model = quick(callbacks=[seen], max_iter=3, alpha=0.0, **settings).fit(*digits)
    return model, np.array(seen.places)


@pytest.mark.parametrize("settings", [{"clip_value": 1e-3}, {"clip_norm": 1e-2}])
def test_clipped_gradients(digits, settings):
    descent = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.5}
    _, free = walk(digits, **descent)
    _, clipped = walk(digits, **descent, **settings)
    for places, within in ((free, False), (clipped, True)):
        steps = np.diff(places, axis=0) / 0.5
        sizes = np.abs(steps) if "clip_value" in settings else np.linalg.norm(steps, axis=1)
        limit = next(iter(settings.values()))
        # The parameters are of order 1, so a step is known to some roundings of 1.
        assert (sizes.max() <= limit + 100 * np.finfo(float).eps) is np.bool_(within)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_moving_average(digits, early_stopping):
    model, places = walk(digits, ema=0.9, early_stopping=early_stopping)
    average, averages = places[0], []
    for place in places:
        average = 0.9 * average + 0.1 * place
        averages.append(average)
    held = len(places) // 3
    kept = -1 if not early_stopping else held * (1 + np.argmax(model.validation_scores_)) - 1
    np.testing.assert_allclose(model.model_.flat_parameters.array(), averages[kept], rtol=1e-12)
    assert not np.array_equal(averages[-1], places[-1])


def test_the_penalty_goes_with_the_batch_size_of_each_call(curve):
    def model():
        solver = optimizers.RMSprop(0.01)
        return quick_regressor(solver=solver, alpha=10.0, batch_size=300, shuffle=False)

    changed, again = model().partial_fit(*curve), model().partial_fit(*curve)
    again.__dict__.pop("_training")  # its programs, which are made anew
    for each in (changed, again):
        each.set_params(batch_size=50).partial_fit(*curve)
    np.testing.assert_array_equal(changed.coefs_[0], again.coefs_[0])


def test_a_moving_average_goes_on_after_pickling(digits):
    x, y = digits
    one = quick(ema=0.9).partial_fit(x, y, classes=np.unique(y))
    two = pickle.loads(pickle.dumps(one))
    for model in (one, two):
        model.partial_fit(x, y)
    np.testing.assert_array_equal(one.coefs_[0], two.coefs_[0])


@pytest.mark.parametrize("settings", [{"clip_value": 1.0}, {"clip_norm": 1.0}, {"ema": 0.5}])
def test_lbfgs_has_no_updates_to_surround(digits, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}.*lbfgs"):
        quick(solver="lbfgs", **settings).fit(*digits)


def test_the_model_is_what_the_estimator_predicts(digits, curve, tmp_path):
    x, y = digits
    model = quick().fit(x, y)
    model.model_.save(tmp_path / "model.safetensors")
    loaded = fm.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict_proba(x))
    two = quick().fit(x, y > 4)
    np.testing.assert_array_equal(two.model_.predict(x)[:, 0], two.predict_proba(x)[:, 1])
    x, y = curve
    counts = quick_regressor(loss="poisson").fit(x, np.abs(y))
    np.testing.assert_array_equal(np.exp(counts.model_.predict(x)[:, 0]), counts.predict(x))


def test_an_output_activation(curve):
    x, y = curve
    model = quick_regressor(output_activation="softplus").fit(x, y)
    assert model.predict(x).min() > 0.0
    assert model.out_activation_ == "softplus"


@pytest.mark.parametrize("loss", ["mae", "huber", losses.Quantile(0.9), "poisson"])
def test_losses_of_regression(curve, loss):
    x, y = curve
    model = quick_regressor(loss=loss, max_iter=200, learning_rate_init=0.01).fit(x, np.abs(y))
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    if isinstance(loss, losses.Quantile):
        assert 0.8 < (np.abs(y) <= model.predict(x)).mean() < 0.98


@pytest.mark.parametrize("from_logits", [False, True])
def test_a_loss_of_classification(digits, from_logits):
    loss = losses.CrossEntropy(from_logits=from_logits, label_smoothing=0.2)
    model = quick(loss=loss, max_iter=100, early_stopping=True).fit(*digits)
    # Smoothed targets keep probabilities away from one.
    assert model.predict_proba(digits[0]).max() < 0.97
    assert model.validation_loss_curve_[-1] < model.validation_loss_curve_[0]


@pytest.mark.parametrize("solver", ["adamw", "rmsprop", optimizers.SGD(lr=0.1, momentum=0.9)])
def test_other_optimizers(digits, solver):
    x, y = digits
    model = quick(solver=solver, max_iter=15, learning_rate_init=0.01).fit(x, y)
    assert model.score(x, y) > 0.9
    again = quick(solver=solver, max_iter=15, learning_rate_init=0.01).fit(x, y)
    np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])


def test_the_penalty_of_other_optimizers(digits):
    # Adam's ε does not matter here, and all mini-batches have the same size.
    x, y = digits
    settings = {"alpha": 5.0, "batch_size": 100, "epsilon": 1e-20}
    own = quick(solver=optimizers.Adam(eps=1e-20), **settings).fit(x, y)
    same = quick(solver="adam", **settings).fit(x, y)
    np.testing.assert_allclose(own.coefs_[0], same.coefs_[0], atol=1e-9)
    np.testing.assert_allclose(own.loss_curve_, same.loss_curve_, rtol=2e-5)


@pytest.mark.parametrize("solver", ["adam", "sgd", "adamw"])
def test_a_schedule(digits, solver):
    rates = schedules.Constant(0.0).then(schedules.Constant(0.05), at=18)
    model = quick(solver=solver, learning_rate=rates, max_iter=6, alpha=0.0, shuffle=False)
    model.fit(*digits)
    loss = model.loss_curve_
    # Six epochs of three mini-batches: nothing is learned in them, and twelve more do.
    np.testing.assert_allclose(loss, loss[0])
    model.set_params(max_iter=18).fit(*digits)
    assert model.loss_curve_[-1] < 0.9 * loss[0]


def test_callbacks_see_and_stop(digits):
    seen, batches = [], []
    watch = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((epoch, dict(logs))),
        on_train_batch_end=lambda batch, logs: batches.append(batch),
    )
    stop = callbacks.EarlyStopping("val_loss", patience=0, min_delta=10.0)
    model = quick(callbacks=[watch, stop], early_stopping=True).fit(*digits)
    assert model.n_iter_ == len(seen) == 2
    assert batches == [0, 1, 2] * 2
    assert seen[1][0] == 1
    assert seen[1][1] == {
        "loss": model.loss_curve_[1],
        "val_loss": model.validation_loss_curve_[1],
        "val_score": model.validation_scores_[1],
    }


def test_warnings_come_from_scikit_learn(digits):
    """Scripts silence them with this filter, which scikit-learn's own examples have."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
        quick().fit(*digits)


def test_callbacks_change_nothing_else(digits):
    watch = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    watched, plain = quick(callbacks=[watch]).fit(*digits), quick().fit(*digits)
    np.testing.assert_array_equal(watched.coefs_[0], plain.coefs_[0])
    np.testing.assert_allclose(watched.loss_curve_, plain.loss_curve_, rtol=1e-5)


def test_an_interrupted_training_is_kept(digits):
    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    model = quick(callbacks=[callbacks.LambdaCallback(on_epoch_end=interrupt)])
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(*digits)
    assert model.n_iter_ == 3
    assert model.predict(digits[0]).shape == (600,)


def test_dtype_decides_over_the_data(digits):
    x, y = digits
    model = quick(dtype="float32").fit(x, y)
    assert model.coefs_[0].dtype == np.float32
    np.testing.assert_allclose(model.loss_curve_, quick().fit(x, y).loss_curve_, rtol=1e-4)
    assert quick(dtype=np.float32, solver="lbfgs").fit(x, y).coefs_[0].dtype == np.float32


@pytest.mark.parametrize(
    "settings",
    [
        {"activation": "rely"},
        {"solver": "adamm"},
        {"loss": "squared"},
        {"learning_rate": 0.1},
        {"threads": 0},
        {"dropout": 1.0},
        {"clip_value": 0.0},
        {"clip_norm": -1.0},
        {"ema": 1.0},
        {"callbacks": "all"},
        {"dtype": "float16"},
        {"class_weight": "even"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_refused_parameters(digits, settings):
    with pytest.raises(InvalidParameterError, match=next(iter(settings))):
        quick(**settings).fit(*digits)


def test_negative_weights_are_refused(curve):
    with pytest.raises(ValueError, match="Negative values"):
        quick_regressor().fit(*curve, sample_weight=np.linspace(-1.0, 1.0, 300))


def test_poisson_refuses_negative_targets(curve):
    with pytest.raises(ValueError, match="y must be >= 0"):
        quick_regressor(loss="poisson").fit(*curve)


# --- update rules as rows of scalars ---


def test_the_row_of_adam_is_scikit_learns_formula():
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

    rng = np.random.RandomState(0)
    w, slots = rng.normal(size=20), [np.zeros(20), np.zeros(20)]
    expected = [w.copy()]
    theirs = AdamOptimizer(expected, 0.01, 0.8, 0.95, 1e-2)
    ours = updates.Adam(0.01, (0.8, 0.95), 1e-2)
    ours.penalize(1, np.zeros(9))
    for step in range(1, 10):
        g = rng.normal(size=20)
        theirs.update_params(expected, [g])
        ours.update(w, g, slots, ours.hyper(step, 1)[0])
        np.testing.assert_allclose(w, expected[0], rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_velocity_survives_a_change_of_rate(nesterov):
    from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

    model = fm.Sequential([fm.Dense(3)], input_size=4, dtype="float64")
    specs = model.parameter_specs
    expected = [model.parameters[spec.name].copy() for spec in specs]
    theirs = SGDOptimizer(expected, 0.1, "invscaling", 0.9, nesterov, 0.5)
    ours = updates.SGD(0.1, 0.9, nesterov)
    ours.penalize(1, np.zeros(9))
    rng = np.random.RandomState(0)
    for step in range(1, 10):
        gradients = [rng.normal(size=spec.shape) for spec in specs]
        for spec, g in zip(specs, gradients, strict=True):
            model.gradients[spec.name] = g
        theirs.update_params(expected, gradients)
        ours.step(model)
        if step % 3 == 0:
            theirs.iteration_ends(step)
            ours.change_rate(theirs.learning_rate, model)
    for spec, values in zip(specs, expected, strict=True):
        np.testing.assert_allclose(model.parameters[spec.name], values, rtol=1e-12)


def test_biases_are_not_penalized():
    optimizer = updates.Adam(0.1, (0.9, 0.999), 1e-8)
    optimizer.penalize(5, np.array([0.5, 0.25]))
    column = optimizer.hyper_names.index("coupled_weight_decay")
    assert optimizer.hyper(5, 2, group=0)[:, column].tolist() == [0.5, 0.25]
    assert optimizer.hyper(5, 2, group=1)[:, column].tolist() == [0.0, 0.0]


def test_no_warning_where_all_goes_well(digits):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(tol=10.0, n_iter_no_change=1).fit(*digits)
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        quick().fit(*digits)


def fit_recorded(monkeypatch, at_once, data, **settings):
    """Return the model, numbers drawn after the fit, and how many epochs were trained together."""
    counts = []
    run = epochs.Epochs.run

    def recorded(*args):
        counts.append(args[-1])
        return run(*args)

    random = np.random.RandomState(4)
    model = fm.MLPClassifier(20, max_iter=60, random_state=random, n_iter_no_change=4, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(epochs, "_AT_ONCE", at_once)
        patch.setattr(epochs.Epochs, "run", recorded)
        model.fit(*data)
    return model, random.randint(10**9, size=5).tolist(), counts


@pytest.mark.parametrize(
    "settings", [{}, {"shuffle": False}, {"alpha": 0.0}, {"tol": 0.05}], ids=str
)
def test_epochs_that_are_trained_together_change_nothing(digits, settings, monkeypatch):
    """Weights, losses, ends and random numbers are those of one epoch at a time."""
    one, after_one, singly = fit_recorded(monkeypatch, 0, digits, **settings)
    many, after_many, together = fit_recorded(monkeypatch, 10**9, digits, **settings)
    assert set(singly) == {1}
    assert max(together) > 1
    assert after_many == after_one
    assert many.n_iter_ == one.n_iter_
    assert many.t_ == one.t_
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(one, name), getattr(many, name), strict=True):
            np.testing.assert_array_equal(a, b)
    assert many.loss_curve_ == one.loss_curve_


def test_the_orders_of_epochs_that_are_trained_together_stay_small():
    model = fm.MLPRegressor(hidden_layer_sizes=1, max_iter=1)
    with pytest.warns(ConvergenceWarning):
        model.fit(np.ones((9, 1)), np.ones(9))
    n = 100_000
    together = model._training.at_once(rows.Rows(np.ones((n, 1)), np.ones((n, 1))))
    assert 1 < together < 50  # 40 MB


def test_a_rate_of_the_epoch_is_that_of_each_epoch(digits, monkeypatch):
    slower = {"lr": schedules.Step(0.1, every=2, unit="epoch")}
    fits = []
    for at_once in (0, 10**9):
        solver = fm.SGD(lr=0.1, groups=[("*.bias", slower)])
        fits.append(fit_recorded(monkeypatch, at_once, digits, solver=solver))
    (one, _, _), (many, _, together) = fits
    assert set(together) == {1}
    np.testing.assert_array_equal(many.intercepts_[0], one.intercepts_[0])
