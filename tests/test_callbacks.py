"""Callbacks: when each method is called, and what Keras' callbacks of these names do."""

from __future__ import annotations

import copy
import csv
import math
import pickle

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp import callbacks as cb

X = cases.inputs(20, 4)
Y = cases.targets("real", 20, 3)


def fit(*given, model=None, epochs=3, **settings):
    model = model or fm.MLP([4, 5, 3], seed=1)
    history = model.fit(X, Y, batch_size=8, epochs=epochs, callbacks=list(given), **settings)
    return model, history


def feed(callback, values, monitor="val_loss"):
    """Call a callback as `fit` does, with given values of what it watches; return the epochs."""
    model = fm.MLP([4, 3], seed=1)
    callback.trainer, callback.model = fm.Trainer(model, optimizer=fm.SGD(lr=1.0)), model
    callback.on_train_begin({})
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch, {})
        model.parameters["0.bias"] = np.full(3, epoch)
        callback.on_epoch_end(epoch, {monitor: value})
        if model.stop_training:
            break
    callback.on_train_end({})
    return epoch


# --- the base ---


def test_a_copy_belongs_to_no_training():
    stop = cb.EarlyStopping(monitor="loss", patience=3)
    model, _ = fit(stop)
    assert stop.model is model
    for twin in (copy.deepcopy(stop), pickle.loads(pickle.dumps(stop))):
        assert twin.patience == 3
        assert not {"trainer", "model", "params"} & set(vars(twin))
        fit(twin)


def test_methods_are_called_in_order():
    calls = []

    class Recorder(cb.Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                return lambda *args: calls.append((name, *args[:-1]))
            return super().__getattribute__(name)

        def on_train_batch_end(self, batch, logs=None):
            """Overridden, so that batches are announced."""

    recorder = Recorder()
    model, _ = fit(recorder, epochs=2)
    batch = [
        [
            ("on_train_batch_begin", b),
            ("on_batch_begin", b),
            ("on_train_batch_end", b),
            ("on_batch_end", b),
        ]
        for b in range(3)
    ]
    epoch = [
        [("on_epoch_begin", e), *sum(batch, []), ("on_epoch_end", e)]  # noqa: RUF017
        for e in range(2)
    ]
    assert calls == [("on_train_begin",), *epoch[0], *epoch[1], ("on_train_end",)]
    assert recorder.model is model
    assert recorder.params == {"epochs": 2, "steps": 3}
    assert isinstance(recorder.optimizer, fm.optimizers.Optimizer)


@pytest.mark.parametrize("name", ["on_train_batch_end", "on_batch_end"])
def test_batches_are_announced_only_to_those_who_listen(name, backend):
    seen = []

    def record(self, batch, logs=None):
        seen.append((batch, logs["loss"]))

    listener = type("Listener", (cb.Callback,), {name: record})()
    model, history = fit(listener, backend=backend)
    assert [batch for batch, _ in seen] == [0, 1, 2] * 3
    losses = np.array([loss for _, loss in seen]).reshape(3, 3)
    np.testing.assert_allclose(losses @ [8, 8, 4] / 20, history.history["loss"], rtol=1e-12)
    # One batch at a time ends with the same bits as all in one go.
    other, _ = fit(backend=backend)
    np.testing.assert_array_equal(model.predict(X), other.predict(X))


def test_logs_hold_what_is_measured_and_take_what_is_added():
    def add(epoch, logs):
        assert list(logs) == ["loss", "mae", "val_loss", "val_mae"]
        logs["mine"] = epoch * 2
        if epoch == 2:
            logs["late"] = 7.0

    _, history = fit(cb.LambdaCallback(on_epoch_end=add), validation_data=(X, Y), metrics=["mae"])
    assert history.history["mine"] == [0.0, 2.0, 4.0]
    np.testing.assert_array_equal(history.history["late"], [math.nan, math.nan, 7.0])


def test_a_callback_can_stop_training():
    def stop(epoch, logs):
        holder.model.stop_training = epoch == 1

    holder = cb.LambdaCallback(on_epoch_end=stop)
    model, history = fit(holder, epochs=9)
    assert history.epoch == [0, 1]
    model.fit(X, Y, epochs=2)  # the wish does not outlive its training
    assert model.stop_training is False


def test_an_exception_in_a_callback_leaves_the_model_usable():
    def fail(epoch, logs):
        raise ZeroDivisionError

    model = fm.MLP([4, 3])
    with pytest.raises(ZeroDivisionError):
        model.fit(X, Y, callbacks=[cb.LambdaCallback(on_epoch_end=fail)])
    model.fit(X, Y)


def test_lambda_callbacks_take_functions_only():
    calls = []
    names = [
        "on_train_begin",
        "on_epoch_begin",
        "on_train_batch_begin",
        "on_train_batch_end",
        "on_epoch_end",
        "on_train_end",
    ]
    functions = {name: lambda *args, name=name: calls.append(name) for name in names}
    model = fm.MLP([4, 3])
    model.fit(X, Y, batch_size=None, callbacks=[cb.LambdaCallback(**functions)])
    assert calls == names
    with pytest.raises(TypeError, match="on_epoch_end must be a function"):
        cb.LambdaCallback(on_epoch_end=3)


# --- watching a value ---


def test_early_stopping_waits_with_patience():
    stopper = cb.EarlyStopping(patience=2)
    assert feed(stopper, [5.0, 4.0, 4.5, 4.2, 1.0]) == 3
    assert (stopper.stopped_epoch, stopper.best_epoch, stopper.best) == (3, 1, 4.0)
    assert stopper.model.parameters["0.bias"][0] == 3  # weights are those of the last epoch …
    stopper = cb.EarlyStopping(patience=2, restore_best_weights=True)
    feed(stopper, [5.0, 4.0, 4.5, 4.2, 1.0])
    assert stopper.model.parameters["0.bias"][0] == 1  # … unless the best are asked for,
    feed(stopper, [5.0, 4.0, 4.5])
    assert stopper.stopped_epoch == 0
    assert stopper.model.parameters["0.bias"][0] == 1  # also where training ended by itself


@pytest.mark.parametrize(
    ("settings", "values", "last"),
    [
        ({}, [3.0, 2.0, 2.0, 1.0], 2),
        ({"min_delta": 0.5}, [3.0, 2.0, 1.8, 0.1], 2),
        ({"mode": "max"}, [1.0, 2.0, 1.5, 3.0], 2),
        ({"monitor": "val_accuracy"}, [0.1, 0.2, 0.15, 0.3], 2),
        ({"monitor": "accuracy"}, [0.1, 0.2, 0.15, 0.3], 2),
        ({"monitor": "val_rmse"}, [0.3, 0.2, 0.25, 0.1], 2),
        ({"monitor": "top_3"}, [0.1, 0.2, 0.15, 0.3], 2),
        ({"baseline": 1.0, "patience": 2}, [3.0, 2.0, 0.5], 1),
        ({"start_from_epoch": 3}, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 4),
        ({"patience": 1}, [2.0, math.nan, 1.0], 1),
        ({"patience": 1}, [math.nan, 1.0, 1.0], 2),
    ],
)
def test_early_stopping_rules(settings, values, last):
    stopper = cb.EarlyStopping(**{"patience": 1, **settings})
    assert feed(stopper, [*values, 0.0], monitor=stopper.monitor) == last


def test_early_stopping_in_a_training(backend):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20, 3))  # nothing to learn: validation gets worse soon
    model = fm.MLP([4, 50, 3], activation="tanh", seed=1)
    stopper = cb.EarlyStopping(patience=3, restore_best_weights=True)
    history = model.fit(
        X,
        noise,
        optimizer=fm.Adam(lr=0.05),
        epochs=500,
        validation_data=(X[::-1], noise),
        callbacks=[stopper],
        backend=backend,
    )
    values = history.history["val_loss"]
    assert len(values) == stopper.stopped_epoch + 1 < 500
    assert stopper.best_epoch == int(np.argmin(values)) == stopper.stopped_epoch - 3
    found = model.evaluate(X[::-1], noise, backend=backend)["loss"]
    assert found == min(values) == stopper.best


def test_what_is_not_in_the_logs_is_said():
    with pytest.raises(
        ValueError,
        match="monitor of EarlyStopping must be one of 'loss'; got 'val_loss', which needs valid",
    ):
        fit(cb.EarlyStopping())


def test_what_will_not_be_in_the_logs_is_said_before_anything_changes():
    model = fm.MLP([3, 4, 1], seed=0)
    x, y = np.ones((8, 3)), np.ones(8)
    model.fit(x, y)
    before = model.parameters.copy()
    for missing in (cb.EarlyStopping(), cb.ModelCheckpoint("never", save_best_only=True)):
        with pytest.raises(ValueError, match="got 'val_loss', which needs validation_data"):
            model.fit(x, y, callbacks=[missing])
    with pytest.raises(ValueError, match="monitor of EarlyStopping must be one of 'loss', 'rmse'"):
        model.fit(x, y, metrics=["rmse"], callbacks=[cb.EarlyStopping("mae")])
    assert all((model.parameters[name] == values).all() for name, values in before.items())


def test_a_callback_of_ones_own_may_add_to_the_logs():
    class Measure(cb.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_own"] = -epoch

    model, stopper = fm.MLP([3, 4, 1], seed=0), cb.EarlyStopping("val_own", mode="min")
    history = model.fit(np.ones((8, 3)), np.ones(8), epochs=4, callbacks=[Measure(), stopper])
    assert history.history["val_own"] == [0, -1, -2, -3]
    assert stopper.best == -3


def test_reduce_on_plateau():
    rates = []

    class Reducer(cb.ReduceLROnPlateau):
        def on_epoch_begin(self, epoch, logs=None):
            rates.append(self.optimizer.lr)

    feed(Reducer(factor=0.5, patience=2), [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0])
    assert rates == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    rates.clear()
    feed(Reducer(factor=0.5, patience=1, cooldown=2, min_lr=0.3), [2.0] * 8)
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3]
    rates.clear()
    feed(Reducer(factor=0.5, patience=1), [2.0, 1.99995, 1.9])  # by less than min_delta
    assert rates == [1.0, 1.0, 0.5]


def test_reduce_on_plateau_needs_a_number_to_reduce():
    rate = fm.schedules.Constant(0.1)
    with pytest.raises(ValueError, match="needs a number as lr"):
        fit(cb.ReduceLROnPlateau("loss"), optimizer=fm.SGD(lr=rate))


@pytest.mark.parametrize(
    "schedule", [lambda epoch, lr: lr / 2, lambda epoch: 0.1 / 2 ** (epoch + 1)]
)
def test_learning_rate_scheduler(schedule, backend):
    by_hand = fm.MLP([4, 5, 3], seed=1)
    optimizer = fm.SGD(lr=0.1)
    trainer = fm.Trainer(by_hand, optimizer=optimizer, batch_size=8, backend=backend)
    for _ in range(3):
        optimizer.lr /= 2
        trainer.epoch(X, Y)
    model, history = fit(
        cb.LearningRateScheduler(schedule), optimizer=fm.SGD(lr=0.1), backend=backend
    )
    assert history.history["learning_rate"] == [0.05, 0.025, 0.0125]
    np.testing.assert_array_equal(model.predict(X), by_hand.predict(X))


def test_learning_rate_scheduler_refuses_what_is_no_rate():
    with pytest.raises(TypeError, match="schedule must be a function"):
        cb.LearningRateScheduler(0.1)
    with pytest.raises(TypeError, match="lr returned by schedule"):
        fit(cb.LearningRateScheduler(lambda epoch: None))
    with pytest.raises(ValueError, match="lr returned by schedule"):
        fit(cb.LearningRateScheduler(lambda epoch: -1.0))


# --- files ---


def test_checkpoints_of_every_epoch(tmp_path):
    model, history = fit(cb.ModelCheckpoint(tmp_path / "m-{epoch:02d}-{loss:.3f}.safetensors"))
    names = [f"m-{e + 1:02d}-{history.history['loss'][e]:.3f}.safetensors" for e in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    last = fm.load(tmp_path / names[-1])
    np.testing.assert_array_equal(last.predict(X), model.predict(X))


def test_checkpoints_of_the_best_only(tmp_path):
    saved = []

    class Checkpoint(cb.ModelCheckpoint):
        def on_epoch_end(self, epoch, logs=None):
            before = self.best
            super().on_epoch_end(epoch, logs)
            if self.best != before and not (math.isnan(self.best) and math.isnan(before)):
                saved.append(epoch)

    path = tmp_path / "best.safetensors"
    feed(Checkpoint(path, save_best_only=True), [3.0, 4.0, 2.0, 2.5])
    assert saved == [0, 2]
    assert fm.load(path).parameters["0.bias"][0] == 2


def test_checkpoint_names_must_be_there(tmp_path):
    with pytest.raises(ValueError, match="names 'val_loss', but there are epoch, loss"):
        fit(cb.ModelCheckpoint(tmp_path / "{val_loss}.safetensors"))


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    _, history = fit(cb.CSVLogger(path), metrics=["mae"])
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    for name, values in history.history.items():
        assert [float(row[name]) for row in rows] == values
    fit(cb.CSVLogger(path, append=True), metrics=["mae"])
    assert len(path.read_text().splitlines()) == 1 + 6
    fit(cb.CSVLogger(path, separator=";"))
    assert path.read_text().splitlines()[0] == "epoch;loss"
    assert len(path.read_text().splitlines()) == 4
    with pytest.raises(ValueError, match="separator must be one character"):
        cb.CSVLogger(path, separator=", ")


def test_tensorboard_writes_through_its_package(tmp_path):
    pytest.importorskip("tensorboard")
    fit(cb.TensorBoard(tmp_path), validation_data=(X, Y))
    assert {path.name for path in tmp_path.iterdir()} == {"train", "validation"}


def test_tensorboard_reads_what_was_measured(tmp_path):
    package = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = pytest.importorskip(package)
    _, history = fit(cb.TensorBoard(tmp_path), validation_data=(X, Y), metrics=["mae"])
    for name, values in history.history.items():
        folder = "validation" if name.startswith("val_") else "train"
        events = accumulator.EventAccumulator(str(tmp_path / folder)).Reload()
        tensors = events.Tensors(f"epoch_{name.removeprefix('val_')}")
        assert [event.step for event in tensors] == [0, 1, 2]
        found = [float(event.tensor_proto.float_val[0]) for event in tensors]
        assert found == pytest.approx(values, rel=1e-6)


def test_tensorboard_says_what_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        fit(cb.TensorBoard())


# --- a loss that is not finite ---


def test_terminate_on_nan_wins_over_divergence(backend):
    def explode(epoch, logs):
        if epoch == 1:
            watcher.optimizer.lr = 1e300

    watcher = cb.LambdaCallback(on_epoch_end=explode)
    terminator, ended = cb.TerminateOnNaN(), []
    listener = cb.LambdaCallback(on_train_end=lambda logs: ended.append(True))
    model, history = fit(watcher, terminator, listener, epochs=9, backend=backend)
    assert isinstance(terminator.error, fm.DivergenceError)
    assert history.epoch == [0, 1]
    assert ended == [True]
    good, _ = fit(epochs=2, backend=backend)
    np.testing.assert_array_equal(model.predict(X), good.predict(X))
    _, history = fit(terminator)
    assert terminator.error is None
    assert len(history.epoch) == 3


def test_verbose_callbacks_say_what_they_do(capsys, tmp_path):
    feed(cb.EarlyStopping(patience=2, verbose=1), [3.0, 2.0, 2.5, 2.25, 1.0])
    assert capsys.readouterr().out == "epoch 4: stops early, the best val_loss is 2\n"
    feed(cb.ReduceLROnPlateau(factor=0.5, patience=1, verbose=True), [1.0, 2.0])
    assert capsys.readouterr().out == "epoch 2: the learning rate is reduced to 0.5\n"
    path = tmp_path / "m.st"
    fit(
        cb.LearningRateScheduler(lambda epoch: 0.25, verbose=1),
        cb.ModelCheckpoint(path, verbose=1),
        epochs=1,
    )
    said = capsys.readouterr().out
    assert said == f"epoch 1: the learning rate is 0.25\nepoch 1: the model is saved in {path}\n"
    feed(cb.EarlyStopping(patience=0), [1.0, 2.0])
    assert capsys.readouterr().out == ""
    with pytest.raises(TypeError, match="verbose"):
        cb.EarlyStopping(verbose="yes")


@pytest.mark.parametrize(
    ("make", "exception", "message"),
    [
        (lambda: cb.EarlyStopping(monitor=3), TypeError, "monitor must be a string"),
        (lambda: cb.EarlyStopping(mode="maximum"), ValueError, "did you mean 'max'"),
        (lambda: cb.EarlyStopping(patience=-1), ValueError, "patience"),
        (lambda: cb.EarlyStopping(min_delta=-1), ValueError, "min_delta"),
        (lambda: cb.EarlyStopping(restore_best_weights=1), TypeError, "restore_best_weights"),
        (lambda: cb.ReduceLROnPlateau(factor=1.0), ValueError, "factor"),
        (lambda: cb.ReduceLROnPlateau(min_lr=-1), ValueError, "min_lr"),
        (lambda: cb.ModelCheckpoint(3), TypeError, "filepath must be a string or a path"),
    ],
)
def test_wrong_settings_are_refused(make, exception, message):
    with pytest.raises(exception, match=message):
        make()
