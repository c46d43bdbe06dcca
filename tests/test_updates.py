"""What surrounds the update: clipped gradients, and the moving average of the weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp import callbacks as cb
from golden.make_golden import BATCH, EPOCHS
from golden.stored import load
from test_networks import X as GOLDEN_X
from test_networks import Y as GOLDEN_Y
from test_networks import network

GOLDEN = load("updates")
AROUND = (
    {"clip_value": 0.01},
    {"clip_norm": 0.1},
    {"clip_norm": 0.1, "clip_value": 0.05, "l1": 0.01, "l2": 0.1},
    {"ema": 0.8},
    {"ema": 0.8, "clip_norm": 0.1, "l2": 0.1},
)
GROUPS = [("*.bias", {"lr_scale": 0.5}), ("1.*", {"lr_scale": 2.0})]
X = cases.inputs(40, 9)
Y = 5.0 * cases.targets("real", 40, 3).astype(np.float64)


def flat(model):
    return model.flat_parameters.array().copy()


def fitted(around, backend="native", *, sizes=(9, 17, 5, 3), dtype="float64", **settings):
    model = fm.MLP(sizes, "tanh", dtype=dtype, seed=1)
    settings = {"optimizer": fm.Adam(lr=0.01), "epochs": 2, "batch_size": 12, **settings}
    history = model.fit(X, Y[:, : sizes[-1]], backend=backend, **around, **settings)
    return model, history.history


# --- the same numbers ---


@pytest.mark.parametrize("number", range(len(GOLDEN["rows"])))
def test_trainings_equal_pytorch(number, backend):
    around, rule = json.loads(str(GOLDEN["rows"][number]))
    model = network("tanh")
    trainer = fm.Trainer(
        model, "mse", fm.optimizers.from_config(rule), BATCH, backend=backend, **around
    )
    for _ in range(EPOCHS):
        trainer.epoch(GOLDEN_X, GOLDEN_Y, shuffle=False)
    np.testing.assert_allclose(flat(model), GOLDEN["parameters"][number], rtol=0, atol=1e-10)
    if "ema" in around:
        with trainer.averaged_weights():
            found = flat(model)
        np.testing.assert_allclose(found, GOLDEN["averages"][number], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
@pytest.mark.parametrize("around", AROUND, ids=str)
def test_backends_agree(around, name):
    for make in cases.OPTIMIZERS[name]:
        for outputs in (1, 3):
            sizes = (9, 17, 5, outputs)
            one, losses = fitted(around, "native", sizes=sizes, optimizer=make())
            other, expected = fitted(around, "reference", sizes=sizes, optimizer=make())
            # Eight updates of sums of some tens of terms; ε of the rules is large (see cases.py).
            np.testing.assert_allclose(flat(one), flat(other), rtol=0, atol=1e-9)
            np.testing.assert_allclose(losses["loss"], expected["loss"], rtol=1e-9)


@pytest.mark.parametrize("name", cases.LAYERS)
@pytest.mark.parametrize("around", AROUND, ids=str)
def test_backends_agree_on_all_layers(around, name):
    results = []
    for backend, threads in (("reference", None), ("native", 1), ("native", 3)):
        model = fm.Sequential(cases.LAYERS[name](), input_size=5, dtype="float64", seed=0)
        x = cases.layer_inputs(name, 40, 5)
        y = 5.0 * cases.targets("real", 40, model.sizes_after(5)[-1])
        settings = {"backend": backend, "threads": threads, "batch_size": 12, **around}
        model.fit(x, y, optimizer=fm.Adam(lr=0.01, eps=1e-3), **settings)
        results.append(flat(model))
    np.testing.assert_array_equal(results[1], results[2])
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("around", AROUND, ids=str)
def test_bits_do_not_depend_on_threads(around, dtype, isa):
    sizes = (9, 40, 33, 3)  # columns for several threads, and more than one sum of squares
    found = [
        fitted(around, sizes=sizes, dtype=dtype, threads=threads, optimizer=optimizer)[0]
        for threads in (1, 2, 3, 7)
        for optimizer in (fm.Adam(lr=0.01, groups=GROUPS),)
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(flat(found[0]), flat(other))


@pytest.mark.parametrize("around", AROUND, ids=str)
def test_avx512_has_the_bits_of_avx2(around, dtype):
    from fastmlp import _native

    table = _native.isa_table()
    names = [name for name in ("avx2", "avx512") if not table.get(name, "missing")]
    if len(names) < 2:
        pytest.skip("this processor lacks one of them")
    before, found = _native.isa(), []
    try:
        for name in names:
            _native.choose_isa(name)
            found.append(flat(fitted(around, dtype=dtype)[0]))
    finally:
        _native.choose_isa(before)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("around", AROUND, ids=str)
def test_all_of_it_is_native(around, monkeypatch):
    from fastmlp.backends.native import Executor

    calls = []
    train = Executor._train
    monkeypatch.setattr(
        Executor, "_train", lambda *args, **kw: (calls.append(args), train(*args, **kw))
    )
    monkeypatch.setattr(Executor, "_reference_executor", None)
    fitted(around, epochs=1)
    assert sum(last - first for _, _, _, _, first, last, *_ in calls) == 4


def test_steps_are_an_epoch(backend):
    for around in AROUND:
        models = []
        for by_steps in (False, True):
            model = fm.MLP([9, 6, 3], "tanh", dtype="float64", seed=1)
            trainer = fm.Trainer(model, "mse", fm.Adam(), 4, backend=backend, threads=1, **around)
            for _ in range(3):
                if by_steps:
                    for i in range(0, 40, 4):
                        trainer.step(X[i : i + 4], Y[i : i + 4])
                else:
                    trainer.epoch(X, Y, shuffle=False)
            models.append(flat(model))
            with trainer.averaged_weights():
                models.append(flat(model))
        np.testing.assert_array_equal(models[0], models[2])
        np.testing.assert_array_equal(models[1], models[3])


# --- clipping ---


def one_step(backend, scale=1.0, **settings):
    """The gradient as a step of plain SGD shows it, and that of the loss alone."""
    model = fm.MLP([9, 6, 3], "tanh", dtype="float64", seed=1)
    before = flat(model)
    y = scale * Y
    _, grad = fm.losses.MSE()(model.forward(X), y)
    model.backward(grad)
    gradient = model.flat_gradients.array().copy()
    optimizer = settings.pop("optimizer", fm.SGD(lr=0.5))
    trainer = fm.Trainer(model, "mse", optimizer, None, backend=backend, **settings)
    trainer.step(X, y)
    return (before - flat(model)) / 0.5, gradient, before


def test_by_value(backend):
    step, gradient, _ = one_step(backend, clip_value=0.05)
    assert (np.abs(gradient) > 0.05).any()
    np.testing.assert_allclose(step, gradient.clip(-0.05, 0.05), atol=1e-13)


def test_by_norm(backend):
    step, gradient, _ = one_step(backend, clip_norm=0.5)
    norm = np.linalg.norm(gradient)
    assert norm > 0.5
    np.testing.assert_allclose(step, gradient * (0.5 / (norm + 1e-6)), atol=1e-13)
    step, gradient, _ = one_step(backend, clip_norm=1e3)
    np.testing.assert_allclose(step, gradient, atol=1e-13)


def test_by_value_comes_before_by_norm_and_after_penalties(backend):
    step, gradient, before = one_step(backend, clip_value=0.05, clip_norm=0.2, l2=0.3)
    weights = np.zeros(len(before), bool)
    weights[:54] = weights[60:78] = True
    clipped = (gradient + 0.3 * before * weights).clip(-0.05, 0.05)
    clipped *= 0.2 / (np.linalg.norm(clipped) + 1e-6)
    np.testing.assert_allclose(step, clipped, atol=1e-13)


def test_weight_decay_of_the_optimizer_is_not_clipped(backend):
    for around in ({"clip_value": 0.05}, {"clip_norm": 0.5}):
        plain, _, before = one_step(backend, **around)
        decayed, *_ = one_step(backend, optimizer=fm.SGD(lr=0.5, weight_decay=0.3), **around)
        np.testing.assert_allclose(decayed, plain + 0.3 * before, atol=1e-13)


def test_gradients_of_zero_and_huge_ones(backend):
    model = fm.MLP([9, 3], dtype="float64", seed=1)
    model.fit(X, model.predict(X), clip_norm=1.0, optimizer=fm.SGD(lr=1.0), backend=backend)
    np.testing.assert_allclose(
        flat(model), flat(fm.MLP([9, 3], dtype="float64", seed=1)), atol=1e-12
    )
    step, gradient, _ = one_step(backend, scale=1e100, clip_norm=1.0)
    np.testing.assert_allclose(step, gradient / np.linalg.norm(gradient), atol=1e-12)


def test_frozen_layers_do_not_count(backend):
    def model(trainable):
        layers = [fm.Dense(6, "tanh"), fm.Dense(3)]
        layers[0].trainable = trainable
        return fm.Sequential(layers, input_size=9, dtype="float64", seed=1)

    free, frozen = model(True), model(False)
    _, grad = fm.losses.MSE()(free.forward(X), Y)
    free.backward(grad)
    last = free.flat_gradients.array()[60:].copy()
    for around in ({"clip_norm": 0.1}, {"clip_norm": 0.1, "ema": 0.5}):
        frozen = model(False)
        before = flat(frozen)
        frozen.fit(
            X, Y, batch_size=None, shuffle=False, optimizer=fm.SGD(lr=1.0), backend=backend,
            **around,
        )  # fmt: skip
        expected = before.copy()
        expected[60:] -= last * (0.1 / (np.linalg.norm(last) + 1e-6))
        np.testing.assert_allclose(flat(frozen), expected, atol=1e-13)


def test_a_custom_loss_is_clipped_as_well(backend):
    def mse(y_hat, y):
        return float(np.mean((y_hat - y) ** 2)), 2.0 * (y_hat - y) / y.size

    for around in AROUND:
        one, _ = fitted(around, backend, loss=mse)
        other, _ = fitted(around, backend, loss="mse")
        np.testing.assert_allclose(flat(one), flat(other), rtol=0, atol=1e-12)


def test_explicit_gradients_are_those_of_backward_alone():
    model, _ = fitted({"clip_norm": 0.1})
    assert not model.flat_gradients.array().any()


# --- the moving average ---


def averages(model, trainer, epochs):
    """Train by hand, and yield what the average should be."""
    mean = None
    for _ in range(epochs):
        for i in range(0, 40, 8):
            trainer.step(X[i : i + 8], Y[i : i + 8])
            mean = flat(model) if mean is None else mean + 0.2 * (flat(model) - mean)
    return mean


def test_fit_leaves_the_average_in_the_model(backend):
    model = fm.MLP([9, 6, 3], dtype="float64", seed=1)
    mean = averages(model, fm.Trainer(model, "mse", fm.SGD(lr=0.1), backend=backend), 3)
    other = fm.MLP([9, 6, 3], dtype="float64", seed=1)
    optimizer = fm.SGD(lr=0.1)
    settings = {"optimizer": optimizer, "batch_size": 8, "shuffle": False, "backend": backend}
    other.fit(X, Y, ema=0.8, epochs=3, **settings)
    np.testing.assert_allclose(flat(other), mean, atol=1e-13)
    # It goes on from there, and its average as well.
    again = fm.MLP([9, 6, 3], dtype="float64", seed=1)
    again.flat_parameters.array()[...] = mean
    trainer = fm.Trainer(again, "mse", fm.SGD(lr=0.1), backend=backend)
    for i in range(0, 40, 8):
        trainer.step(X[i : i + 8], Y[i : i + 8])
        mean = mean + 0.2 * (flat(again) - mean)
    other.fit(X, Y, ema=0.8, **settings)
    np.testing.assert_allclose(flat(other), mean, atol=1e-13)


def test_metrics_validation_and_callbacks_see_the_average(backend, tmp_path):
    seen = []

    class Watcher(cb.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raw = flat(self.model)
            with self.trainer.averaged_weights() as model:
                assert not np.array_equal(flat(model), raw)
                seen.append((logs, model.evaluate(X, Y), flat(model)))
            np.testing.assert_array_equal(flat(self.model), raw)

    stopping = cb.EarlyStopping(patience=9, restore_best_weights=True)
    model, _ = fitted(
        {"ema": 0.8},
        backend,
        epochs=3,
        validation_data=(X, Y),
        metrics=["mse"],
        callbacks=[
            Watcher(),
            stopping,
            cb.ModelCheckpoint(tmp_path / "{epoch}.safetensors"),
        ],
    )
    for number, (logs, expected, values) in enumerate(seen, 1):
        assert logs["val_loss"] == pytest.approx(expected["loss"], rel=1e-12)
        assert logs["mse"] == logs["val_mse"] != logs["loss"]
        np.testing.assert_array_equal(flat(fm.load(tmp_path / f"{number}.safetensors")), values)
    np.testing.assert_array_equal(flat(model), seen[stopping.best_epoch][2])


def test_fit_is_as_many_epochs_and_the_average_of_the_last(backend):
    fitted_model, history = fitted({"ema": 0.9, "clip_norm": 0.1}, backend, epochs=3)
    model = fm.MLP((9, 17, 5, 3), "tanh", dtype="float64", seed=1)
    settings = {"ema": 0.9, "clip_norm": 0.1, "backend": backend}
    trainer = fm.Trainer(model, "mse", fm.Adam(lr=0.01), 12, **settings)
    assert [trainer.epoch(X, Y) for _ in range(3)] == history["loss"]
    with trainer.averaged_weights():
        np.testing.assert_array_equal(flat(model), flat(fitted_model))


def test_a_training_without_ends_the_average(backend):
    model = fm.MLP([9, 6, 3], dtype="float64", seed=1)
    optimizer = fm.SGD(lr=0.1)
    settings = {"optimizer": optimizer, "backend": backend}
    model.fit(X, Y, ema=0.9, **settings)
    model.fit(X, Y, **settings)
    assert optimizer.state_for(model).average is None
    trainer = fm.Trainer(model, "mse", optimizer, backend=backend, ema=0.9)
    trainer.step(X, Y)
    with trainer.averaged_weights():  # it begins anew, with the first update
        averaged = flat(model)
    np.testing.assert_array_equal(averaged, flat(model))


def test_divergence_restores_the_average_too(backend):
    model = fm.MLP([9, 6, 3], dtype="float64", seed=1)
    trainer = fm.Trainer(model, "mse", fm.SGD(lr=0.1), 8, backend=backend, ema=0.9)
    trainer.epoch(X, Y)
    before = flat(model), trainer.optimizer.state_for(model).average.array().copy()
    trainer.optimizer.lr = 1e200
    with pytest.raises(fm.DivergenceError):
        trainer.epoch(X, Y)
    np.testing.assert_array_equal(flat(model), before[0])
    np.testing.assert_array_equal(trainer.optimizer.state_for(model).average.array(), before[1])


def test_terminate_on_nan_ends_with_the_average(backend):
    def explode(epoch, logs):
        if epoch == 1:
            watcher.optimizer.lr = 1e300

    watcher = cb.LambdaCallback(on_epoch_end=explode)
    model, history = fitted(
        {"ema": 0.8}, backend, epochs=9, callbacks=[watcher, cb.TerminateOnNaN()]
    )
    assert len(history["loss"]) == 2
    np.testing.assert_array_equal(flat(model), flat(fitted({"ema": 0.8}, backend)[0]))


def test_a_saved_optimizer_keeps_its_average(tmp_path):
    settings = {"batch_size": 8, "backend": "native", "ema": 0.8}
    results = []
    for between in (False, True):
        model, optimizer = fm.MLP([9, 6, 3], dtype="float64", seed=1), fm.Adam(lr=0.01)
        model.fit(X, Y, optimizer=optimizer, batch_size=8)
        model.fit(X, Y, optimizer=optimizer, **settings)
        if between:
            model.save(tmp_path / "m", optimizer=optimizer)
            model = fm.load(tmp_path / "m")
            optimizer = fm.load_optimizer(tmp_path / "m", model)
        model.fit(X, Y, optimizer=optimizer, **settings)
        results.append(flat(model))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("stop", [0, 3, 11])
def test_a_resumed_training_has_the_same_average(tmp_path, stop):
    """`stop` mini-batches are done when it is broken off; twelve would be all."""
    around = {"ema": 0.8, "clip_norm": 0.1}
    settings = {"epochs": 3, "checkpoint": tmp_path / "run", "checkpoint_every": 0, "resume": True}
    done = []

    def count(batch, logs):
        done.append(batch)
        if len(done) == stop + 1:
            raise KeyboardInterrupt

    def train(**more):
        watcher = cb.LambdaCallback(on_train_batch_end=count)
        optimizer = fm.Adam(lr=0.01)
        model, history = fitted(around, optimizer=optimizer, callbacks=[watcher], **more)
        return flat(model), optimizer.state_for(model).average.array().copy(), history["loss"]

    with pytest.raises(KeyboardInterrupt):
        train(**settings)
    for one, other in zip(train(**settings), train(epochs=3), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("around", "error", "message"),
    [
        ({"clip_value": 0.0}, ValueError, "clip_value must be a finite number > 0; got 0"),
        ({"clip_value": "1"}, TypeError, "clip_value must be"),
        ({"clip_norm": -1.0}, ValueError, "clip_norm must be a finite number > 0; got -1"),
        ({"clip_norm": np.inf}, ValueError, "clip_norm must be a finite number > 0"),
        ({"ema": 1.0}, ValueError, "ema must be a finite number >= 0 and < 1; got 1.0"),
        ({"ema": True}, TypeError, "ema must be"),
    ],
)
def test_wrong_settings_are_refused(around, error, message):
    with pytest.raises(error, match=message):
        fitted(around)


@pytest.mark.parametrize("around", [{"clip_value": 1.0}, {"clip_norm": 1.0}, {"ema": 0.9}], ids=str)
def test_optimizers_of_the_whole_batch_choose_their_steps(around):
    (name,) = around
    with pytest.raises(ValueError, match=f"LBFGS chooses its steps itself: {name} must be None"):
        fitted(around, optimizer=fm.optimizers.LBFGS(), batch_size=None)
