"""Weights of classes, and what losses refuse: what they multiply, what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest

import cases
import fastmlp as fm

X = cases.inputs(41, 4)
LABELS = np.array([0] * 25 + [1] * 10 + [2] * 6)[np.random.default_rng(3).permutation(41)]
BINARY = (LABELS == 1).astype(np.float32)
WEIGHTS = {0: 0.5, 2: 3.0}
TABLE = np.array([0.5, 1.0, 3.0])


def trained(y, outputs=3, loss="cross_entropy", **settings):
    model = fm.MLP([4, 6, outputs], seed=1)
    history = model.fit(
        X, y, loss=loss, optimizer=fm.SGD(lr=0.1), batch_size=8, epochs=2, **settings
    )
    return model.flat_parameters.array().copy(), history.history


def same(one, other):
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1]["loss"] == other[1]["loss"]


@pytest.mark.parametrize("y", [LABELS, np.eye(3)[LABELS]], ids=["labels", "one-hot"])
def test_the_weight_of_a_class_is_that_of_its_samples(y, backend):
    weighed = trained(y, class_weight=WEIGHTS, backend=backend)
    same(weighed, trained(y, sample_weight=TABLE[LABELS], backend=backend))


def test_it_multiplies_the_weights_of_samples_and_of_outputs(backend):
    rng = np.random.default_rng(0)
    own, mask = rng.random(41), rng.random((41, 3))
    weighed = trained(LABELS, sample_weight=own, class_weight=WEIGHTS, backend=backend)
    same(weighed, trained(LABELS, sample_weight=own * TABLE[LABELS], backend=backend))
    y = np.eye(3)[LABELS]
    weighed = trained(y, 3, "bce", sample_weight=mask, class_weight=WEIGHTS, backend=backend)
    product = mask * TABLE[LABELS][:, None]
    same(weighed, trained(y, 3, "bce", sample_weight=product, backend=backend))


def test_balanced_is_scikit_learns():
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight
    weighed = trained(LABELS, class_weight="balanced")
    same(weighed, trained(LABELS, sample_weight=compute("balanced", LABELS)))
    weighed = trained(BINARY, 1, "bce", class_weight="balanced")
    same(weighed, trained(BINARY, 1, "bce", sample_weight=compute("balanced", BINARY)))


def test_classes_that_do_not_occur_do_not_count():
    few = np.where(LABELS == 2, 0, LABELS)
    counts = np.bincount(few)
    expected = trained(few, sample_weight=(41 / (2 * counts))[few])
    same(trained(few, class_weight="balanced"), expected)


def test_metrics_and_validation_are_not_weighed():
    _, plain = trained(LABELS, metrics=["accuracy"], validation_data=(X, LABELS))
    values, history = trained(
        LABELS, metrics=["accuracy"], validation_data=(X, LABELS), class_weight=WEIGHTS
    )
    assert history["accuracy"] == history["val_accuracy"]
    assert history["loss"] != plain["loss"]
    model = fm.MLP([4, 6, 3], seed=1)
    model.flat_parameters.array()[...] = values
    assert history["val_loss"][-1] == model.evaluate(X, LABELS, "cross_entropy")["loss"]


def test_a_split_is_weighed_by_what_is_trained_on():
    split = trained(LABELS, class_weight="balanced", validation_split=0.25)
    first = slice(0, int(41 * 0.75))
    counts = np.bincount(LABELS[first])
    weight = np.zeros(41)
    weight[first] = (counts.sum() / (3 * counts))[LABELS[first]]
    model = fm.MLP([4, 6, 3], seed=1)
    model.fit(
        X[first],
        LABELS[first],
        loss="cross_entropy",
        optimizer=fm.SGD(lr=0.1),
        batch_size=8,
        epochs=2,
        sample_weight=weight[first],
    )
    np.testing.assert_array_equal(split[0], model.flat_parameters.array())


def test_trainers_weigh_epochs_steps_and_streams():
    def trainer(**settings):
        model = fm.MLP([4, 6, 3], seed=1)
        return fm.Trainer(model, "cross_entropy", fm.SGD(lr=0.1), 8, **settings)

    weighed, plain = trainer(class_weight=WEIGHTS), trainer()
    weight = TABLE[LABELS]
    assert weighed.epoch(X, LABELS) == plain.epoch(X, LABELS, sample_weight=weight)
    for _ in range(3):  # a plain step may be made by a shorter way from the second on
        assert weighed.step(X[:8], LABELS[:8]) == plain.step(X[:8], LABELS[:8], weight[:8])
    batches = [(X[i : i + 8], LABELS[i : i + 8]) for i in range(0, 41, 8)]
    weighted = [(x, y, TABLE[y]) for x, y in batches]
    assert weighed.fit(batches).history == plain.fit(weighted).history


@pytest.mark.parametrize(
    ("class_weight", "error", "message"),
    [
        ("even", ValueError, "class_weight must be a dict or 'balanced'; got 'even'"),
        ([1.0, 2.0], TypeError, r"class_weight must be a dict .*; got \[1.0, 2.0\]"),
        ({}, ValueError, "class_weight must name at least one class"),
        ({"a": 1.0}, TypeError, "a class of class_weight must be an integer"),
        ({-1: 1.0}, ValueError, "a class of class_weight must be an integer >= 0; got -1"),
        ({0: -1.0}, ValueError, r"class_weight\[0\] must be a finite number >= 0"),
        ({3: 1.0}, ValueError, "class_weight names the class 3; there are 0 to 2"),
        ({0: 0, 1: 0, 2: 0}, ValueError, "class_weight must not be zero for all classes"),
    ],
)
def test_what_is_no_class_weight_is_refused(class_weight, error, message):
    with pytest.raises(error, match=message):
        trained(LABELS, class_weight=class_weight)


def test_targets_must_be_classes():
    with pytest.raises(ValueError, match="class_weight needs classes as targets"):
        trained(np.full((41, 3), 1 / 3), class_weight="balanced")
    with pytest.raises(ValueError, match="class_weight needs the targets 0 and 1"):
        trained(LABELS.astype(float), 1, "mse", class_weight="balanced")


def test_balanced_needs_all_targets():
    trainer = fm.Trainer(fm.MLP([4, 3], seed=0), "cross_entropy", class_weight="balanced")
    with pytest.raises(ValueError, match="for steps, give a dict"):
        trainer.step(X, LABELS)
    with pytest.raises(ValueError, match="for a stream of batches, give a dict"):
        trainer.fit([(X, LABELS)])


def test_weights_of_outputs_are_refused_where_a_loss_joins_them(backend):
    def joined(y_hat, y):
        return float(np.mean((y_hat - y) ** 2)), 2 * (y_hat - y) / y.size

    for loss in ("cross_entropy", joined):
        model = fm.MLP([4, 3], seed=0)
        before = model.flat_parameters.array().copy()
        with pytest.raises(ValueError, match=r"sample_weight must have shape \(41,\) for the loss"):
            model.fit(X, LABELS, loss=loss, sample_weight=np.ones((41, 3)), backend=backend)
        np.testing.assert_array_equal(model.flat_parameters.array(), before)


def test_negative_rates_end_the_training_alike_on_both_backends(backend):
    loss = fm.losses.Poisson(log_input=False)
    model = fm.MLP([4, 1], seed=0)
    model.parameters["0.bias"] = [-1e3]
    with pytest.raises(fm.DivergenceError, match="the loss is nan"):
        model.fit(X, np.ones(41), loss=loss, backend=backend)
