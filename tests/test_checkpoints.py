"""Checkpoints: a resumed training ends with the bits of one that was never stopped."""

import json
import math
import os
import random
import struct

import numpy as np
import pytest

import fastmlp as fm
import interrupted
from fastmlp import callbacks, files
from fastmlp.tensorfile import TensorFile
from saved import join, split


class Stop(Exception):
    pass


class StopAt(callbacks.Callback):
    """Raises after some mini-batches, counted over all epochs; never if `batches` is None."""

    def __init__(self, batches):
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Stop


class StopBefore(StopAt):
    """Raises as `StopAt`, before a mini-batch."""

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        pass


class StopAfterEpoch(callbacks.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Stop


def data(n=210, classes=False, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)).astype("f4")
    return x, (rng.integers(0, 3, n) if classes else np.sin(x @ rng.normal(size=(5, 3))))


def network(dtype="float32", output="identity"):
    stack = [fm.Standardize(), fm.Dense(7, "tanh"), fm.Dense(9, "relu"), fm.Dense(3, output)]
    model = fm.Sequential(stack, 5, dtype=dtype, seed=4)
    model.freeze(2)
    return model


def fit(path, stop, *, model=None, optimizer=None, backend="native", epochs=5, others=(), **more):
    """Train, or go on; return the digest of the result, or None if it was stopped."""
    model = model or network()
    optimizer = fm.optimizers.get(optimizer) if isinstance(optimizer, str) else optimizer
    optimizer = optimizer or fm.Adam(lr=fm.schedules.Cosine(0.02, 100), groups=[("*.bias", {})])
    trainer = fm.Trainer(model, "mse", optimizer, 16, l2=1e-3, backend=backend, threads=1)
    settings = {"validation_split": 0.1, "metrics": ["rmse"], **more}
    x, y = settings.pop("data", None) or data()
    try:
        history = trainer.fit(
            x,
            y,
            epochs=epochs,
            callbacks=[StopAt(stop), *others],
            checkpoint=path,
            checkpoint_every=settings.pop("every", 0),
            resume=path is not None,
            **settings,
        )
    except Stop:
        return None
    return interrupted.digest(trainer, history)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


class TestTheSameBits:
    def compare(self, path, stops, make=dict):
        expected = fit(None, None, **make())
        for stop in stops:
            assert fit(path, stop, **make()) is None
        assert fit(path, None, **make()) == expected
        return expected

    def test_inside_and_between_epochs(self, path, backend):
        # 12 mini-batches an epoch: stopped in the first, at its end, in the middle, near the end.
        self.compare(path, [1, 10, 7, 0, 30], lambda: {"backend": backend})

    @pytest.mark.parametrize(
        "optimizer", ["sgd", "nadam", "adadelta", "rprop", lambda: fm.Adam(amsgrad=True)]
    )
    def test_optimizers(self, path, optimizer):
        def make():
            get = fm.optimizers.get
            return {"optimizer": get(optimizer) if isinstance(optimizer, str) else optimizer()}

        self.compare(path, [17, 20], make)

    def test_float64_weights_and_no_shuffling(self, path):
        weight = np.random.default_rng(1).uniform(0.5, 2, 210)
        self.compare(
            path,
            [5, 14],
            lambda: {"model": network("float64"), "sample_weight": weight, "shuffle": False},
        )

    def test_masks_and_running_statistics(self, path, backend):
        def make():
            stack = [
                fm.Standardize(),
                fm.Dense(7, "tanh"),
                fm.BatchNorm(),
                fm.Dropout(0.3),
                fm.Dense(3),
            ]
            model = fm.Sequential(stack, 5, seed=4)
            return {"model": model, "backend": backend, "seed": 11, "optimizer": "adam"}

        self.compare(path, [5, 20], make)

    def test_momentum_and_learning_rates_that_callbacks_change(self, path):
        def make():
            others = [
                callbacks.ReduceLROnPlateau(monitor="loss", patience=0, min_delta=0.02),
                callbacks.EarlyStopping(patience=1, restore_best_weights=True),
            ]
            return {"optimizer": fm.SGD(0.5, momentum=0.95), "others": others, "epochs": 8}

        self.compare(path, [20, 20], make)

    def test_moving_average_and_clipping(self, path, backend):
        x, y = data()

        def run(path, stop):
            model = network()
            trainer = fm.Trainer(
                model, "mse", fm.Adam(0.01), 16, ema=0.9, clip_norm=0.1, backend=backend
            )
            try:
                history = trainer.fit(
                    x, y, epochs=4, validation_split=0.1, callbacks=[StopAt(stop)],
                    checkpoint=path, checkpoint_every=0, resume=path is not None,
                )  # fmt: skip
            except Stop:
                return None
            return interrupted.digest(trainer, history)

        expected = run(None, None)
        for stop in (3, 14):
            assert run(path, stop) is None
        assert run(path, None) == expected
        assert run(path, None) == expected  # of one that was finished

    def test_a_rate_that_is_set_before_each_epoch(self, path):
        def make():
            halve = callbacks.LearningRateScheduler(lambda epoch, lr: lr * 0.5)
            return {"optimizer": fm.Adam(0.01), "others": [halve]}

        self.compare(path, [1, 12, 5, 13], make)

    def test_a_schedule_that_is_a_function(self, path):
        def make():
            schedule = fm.schedules.Function(lambda step: 0.01 / (1 + step))
            return {"optimizer": fm.Adam(lr=schedule)}

        self.compare(path, [20], make)

    def test_between_epochs_in_native_spans(self, path):
        def run(path, stop):
            model = network()
            trainer = fm.Trainer(model, "mse", fm.Adam(), 16)
            hooks = [StopAfterEpoch(stop)]
            x, y = data()
            try:
                history = trainer.fit(
                    x, y, epochs=6, callbacks=hooks, checkpoint=path,
                    checkpoint_every="2 epochs", resume=path is not None,
                )  # fmt: skip
            except Stop:
                return None
            return interrupted.digest(trainer, history)

        expected = run(None, None)
        assert run(path, 3) is None
        trainer = fm.Trainer(network(), "mse", fm.Adam(), 16)
        trainer.load_checkpoint(path)
        assert trainer.optimizer.state_for(trainer.model).epoch == 2
        assert run(path, 5) is None
        assert run(path, None) == expected

    def test_a_stream(self, path):
        x, y = data()

        def batches():
            return ((x[k : k + 30], y[k : k + 30]) for k in range(0, 210, 30))

        def make():
            return {"data": (batches, None), "validation_split": 0.0, "metrics": []}

        self.compare(path, [3, 8, 2], make)

    def test_more_epochs_later(self, path):
        expected = fit(None, None, epochs=6)
        for epochs in (2, 2, 4):
            assert fit(path, None, epochs=epochs) != expected
        assert fit(path, None, epochs=6) == expected
        assert fit(path, None, epochs=6) == expected  # and a finished one stays as it is

    def test_a_training_that_stopped_itself_stays_stopped(self, path):
        def make():
            return {"others": [callbacks.EarlyStopping(patience=0)], "optimizer": fm.SGD(0.9)}

        expected = self.compare(path, [13], make)
        assert fit(path, None, **make()) == expected

    def test_divergence_goes_back_to_the_start_of_the_epoch(self, path):
        # The rate explodes in step 20, in the second of five epochs.
        def make():
            rates = fm.schedules.Constant(1e-3).then(1e30, at=20)
            return {"optimizer": fm.SGD(rates), "others": [callbacks.TerminateOnNaN()]}

        self.compare(path, [16], make)

    def test_divergence_that_has_not_been_seen(self, path):
        # Step 20 makes parameters infinite, which the loss shows one step later.
        def make(stop):
            rates = fm.schedules.Constant(1e-3).then(1e300, at=20)
            others = [callbacks.TerminateOnNaN(), StopBefore(stop)]
            return {"optimizer": fm.SGD(rates), "others": others}

        expected = fit(None, None, **make(None))
        assert fit(path, None, **make(21)) is None
        assert fit(path, None, **make(None)) == expected

    def test_killed(self, path):
        rng = random.Random(0)
        expected = interrupted.train(None, epochs=2)
        found, _ = interrupted.run_killed(path, [rng.uniform(0.02, 0.2) for _ in range(3)], 2)
        assert found == expected
        assert os.listdir(path.parent) == [path.name]


class TestCallbacks:
    def test_a_log_has_no_line_twice(self, path, tmp_path):
        log = tmp_path / "log.csv"
        for stop in (16, 10, None):
            fit(path, stop, others=[callbacks.CSVLogger(log)])
            with open(log, "a") as file:
                file.write("written after the checkpoint\n" if stop is not None else "")
        lines = log.read_text().splitlines()
        assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1", "2", "3", "4"]

    def test_a_state_of_ones_own(self, path):
        class Own(callbacks.Callback):
            def on_train_begin(self, logs=None):
                self.seen = {"list": [], "nan": math.nan, "none": None}

            def on_epoch_end(self, epoch, logs=None):
                self.seen["list"].append(np.full(2, epoch))

            def get_state(self):
                return self.seen

            def set_state(self, state):
                self.seen = state

        fit(path, 30, others=[Own()])
        own = Own()
        fit(path, None, others=[own])
        assert [a.tolist() for a in own.seen["list"]] == [[k, k] for k in range(5)]
        assert math.isnan(own.seen["nan"])
        assert own.seen["none"] is None

    def test_a_state_that_is_no_data(self, path):
        class Odd(callbacks.Callback):
            def get_state(self):
                return {"model": self.model}

        with pytest.raises(TypeError, match="callbacks/1/model is"):
            fit(path, None, others=[Odd()])
        assert not path.exists()

    def test_other_callbacks_are_refused(self, path):
        fit(path, 3)
        with pytest.raises(ValueError, match="callbacks"):
            fit(path, None, others=[callbacks.EarlyStopping()])


class TestAnotherTraining:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"optimizer": fm.Adam(lr=0.5)}, "optimizer"),
            ({"optimizer": fm.SGD()}, "optimizer"),
            ({"data": data(seed=1)}, "with data"),
            ({"data": data(n=300)}, "with data"),
            ({"seed": 9}, "with seed 4"),
            ({"shuffle": False}, "with shuffle True"),
            ({"metrics": []}, "with metrics"),
            ({"backend": "reference"}, "backend 'native'"),
            ({"validation_split": 0.2}, "data"),
            ({"model": network("float64")}, "dtype"),
            ({"model": network(output="tanh")}, "layers"),
            ({"sample_weight": np.ones(210)}, "with data"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_it_is_refused(self, path, changes, message):
        fit(path, 3)
        before = path.read_bytes()
        model = changes.get("model") or network()
        values = model.flat_parameters.array().copy()
        with pytest.raises(ValueError, match=message):
            fit(path, None, **{**changes, "model": model})
        np.testing.assert_array_equal(model.flat_parameters.array(), values)
        assert path.read_bytes() == before

    def test_without_resume_it_is_overwritten(self, path):
        x, y = data()
        fit(path, 3)
        network().fit(x, y, checkpoint=path, epochs=2, progress=False)
        with TensorFile(path) as file:
            assert files.read_description(file)["checkpoint"]["fit"]["epoch"] == 2

    def test_number_of_threads_may_differ(self, path):
        x, y = data()
        results = []
        for threads in (1, 2):
            model = network()
            history = model.fit(x, y, epochs=threads, threads=threads, checkpoint=path, resume=True)
            results.append((model.flat_parameters.array().copy(), history.history["loss"]))
        model = network()
        history = model.fit(x, y, epochs=2)
        np.testing.assert_array_equal(results[1][0], model.flat_parameters.array())
        assert results[1][1] == history.history["loss"]


class TestArguments:
    @pytest.mark.parametrize(
        ("settings", "kind", "message"),
        [
            ({"checkpoint": 3}, TypeError, "checkpoint must be a string or a path"),
            ({"checkpoint": "none/run.ckpt"}, FileNotFoundError, "no folder"),
            ({"checkpoint_every": -1}, ValueError, "checkpoint_every"),
            ({"checkpoint_every": "5 minutes"}, ValueError, "'5 minutes'"),
            ({"checkpoint_every": "0 epochs"}, ValueError, "checkpoint_every"),
            ({"checkpoint_every": None}, TypeError, "checkpoint_every"),
            ({"resume": 1}, TypeError, "resume must be"),
            ({"checkpoint": None, "resume": True}, ValueError, "resume needs checkpoint"),
        ],
    )
    def test_refused(self, path, settings, kind, message):
        x, y = data()
        with pytest.raises(kind, match=message):
            network().fit(x, y, **{"checkpoint": path, **settings})
        assert not path.exists()

    def test_a_file_that_cannot_be_written(self, path, monkeypatch):
        fit(path, 3)
        before = path.read_bytes()

        def fail(*arguments):
            raise OSError("the disk is full")

        monkeypatch.setattr("os.replace", fail)
        with pytest.raises(OSError, match="the disk is full"):
            fit(path, None)
        assert path.read_bytes() == before


class TestTrainer:
    def test_steps_go_on(self, path):
        x, y = data()

        def make():
            model = network()
            model.adapt(x)
            return fm.Trainer(model, "mse", fm.SGD(0.1, momentum=0.9))

        straight, first, second = make(), make(), make()
        for trainer in (straight, first):
            for k in range(20):
                trainer.step(x[k : k + 16], y[k : k + 16])
        first.optimizer.lr = 0.05
        straight.optimizer.lr = 0.05
        first.save_checkpoint(path)
        second.step(x, y)
        second.load_checkpoint(path)
        assert second.optimizer.lr == 0.05
        for trainer in (straight, second):
            trainer.step(x[:16], y[:16])
            trainer.epoch(x, y, seed=1)
            trainer.step(x[:16], y[:16])
        empty = type("H", (), {"epoch": [], "history": {}})
        assert interrupted.digest(straight, empty) == interrupted.digest(second, empty)

    def test_an_unbuilt_model_becomes_that_of_the_file(self, path):
        x, y = data()
        trainer = fm.Trainer(fm.Sequential([fm.Standardize(), fm.Dense(3)], 5), "mse", "adam")
        trainer.epoch(x, y)
        trainer.save_checkpoint(path)
        model = fm.Sequential([fm.Standardize(), fm.Dense(3)])
        other = fm.Trainer(model, "mse", "adam")
        other.load_checkpoint(path)
        np.testing.assert_array_equal(model.predict(x), trainer.model.predict(x))
        assert not model.needs_data

    def test_the_model_in_it(self, path):
        x, y = data()
        trainer = fm.Trainer(network(), "mse", "adam")
        trainer.fit(x, y, epochs=2, checkpoint=path)
        np.testing.assert_array_equal(fm.load(path).predict(x), trainer.model.predict(x))

    def test_a_value_that_cannot_be_is_not_written(self, path):
        trainer = fm.Trainer(network(), "mse", "adam")
        trainer.model.parameters["1.bias"][0] = math.nan
        with pytest.raises(ValueError, match=r"must have 1\.bias finite"):
            trainer.save_checkpoint(path)
        assert not path.exists()

    def test_another_optimizer(self, path):
        trainer = fm.Trainer(network(), "mse", "adam")
        trainer.save_checkpoint(path)
        with pytest.raises(ValueError, match="'adam'; this training has 'sgd'"):
            fm.Trainer(network(), "mse", "sgd").load_checkpoint(path)
        with pytest.raises(ValueError, match="v_max"):
            fm.Trainer(network(), "mse", fm.Adam(amsgrad=True)).load_checkpoint(path)

    def test_fit_wants_a_checkpoint_of_fit(self, path):
        fm.Trainer(network(), "mse", "adam").save_checkpoint(path)
        with pytest.raises(fm.ModelFormatError, match="not by fit"):
            fit(path, None)

    def test_a_model_is_no_checkpoint(self, path):
        network().save(path)
        with pytest.raises(fm.ModelFormatError, match="no checkpoint"):
            fm.Trainer(network()).load_checkpoint(path)


def at(*keys, value):
    """Return a change of one entry of the description."""

    def change(header):
        description = json.loads(header["__metadata__"]["fastmlp"])
        place = description
        for key in keys[:-1]:
            place = place[key]
        if value is KeyError:
            del place[keys[-1]]
        else:
            place[keys[-1]] = value
        header["__metadata__"]["fastmlp"] = json.dumps(description)

    return change


def drop(name):
    return lambda header: header.pop(name)


FIT = ("checkpoint", "fit")
DAMAGES = {
    "no checkpoint": at("checkpoint", value=KeyError),
    "a list": at("checkpoint", value=[]),
    "no optimizer": at("checkpoint", "optimizer", value=KeyError),
    "no steps": at("checkpoint", "optimizer", "step", value=KeyError),
    "negative steps": at("checkpoint", "optimizer", "step", value=-1),
    "steps that no counter holds": at("checkpoint", "optimizer", "step", value=2**70),
    "an odd optimizer": at("checkpoint", "optimizer", "config", value={"name": "adamm"}),
    "an odd rate": at("checkpoint", "optimizer", "config", "lr", value=-3),
    "fit is a number": at("checkpoint", "fit", value=3),
    "no epoch": at(*FIT, "epoch", value=KeyError),
    "an epoch too many": at(*FIT, "epoch", value=3),
    "columns are a number": at(*FIT, "columns", value=3),
    "another column": at(*FIT, "columns", value=["los"]),
    "settings are a number": at(*FIT, "settings", value=3),
    "callbacks are a number": at(*FIT, "callbacks", value=3),
    "a position of strings": at(*FIT, "position", "batches", value="3"),
    "a later start": at(*FIT, "position", "start_step", value=10**6),
    "no position": at(*FIT, "position", value=None),
    "sources that are not": at(*FIT, "position", "sources", value=7),
    "a slot is missing": drop("optimizer/m"),
    "a start is missing": drop("start/1.weight"),
    "losses are missing": drop("epoch/losses"),
    "history is missing": drop("history/loss"),
    "an odd entry": lambda header: header.update({"optimizer/m": 3}),
    "a shape": lambda header: header["optimizer/m"].update(shape=[3]),
}


class TestDamage:
    @pytest.fixture
    def whole(self, path):
        fit(path, 16)
        return path

    @pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES)
    def test_it_is_seen_before_anything_changes(self, whole, change):
        header, rest = split(whole)
        change(header)
        join(whole, header, rest)
        model, optimizer = network(), fm.Adam(lr=fm.schedules.Cosine(0.02, 100))
        optimizer.groups = [("*.bias", {})]
        before = model.flat_parameters.array().copy()
        with pytest.raises(fm.ModelFormatError):
            fit(whole, None, model=model, optimizer=optimizer)
        np.testing.assert_array_equal(model.flat_parameters.array(), before)
        assert optimizer.state_for(model).step == 0

    @pytest.mark.parametrize(
        ("name", "value"), [("1.weight", math.nan), ("start/2.bias", math.inf), ("0.scale", 0.0)]
    )
    def test_a_value_that_cannot_be(self, whole, name, value):
        header, rest = split(whole)
        place = header[name]["data_offsets"][0]
        join(whole, header, rest[:place] + struct.pack("<f", value) + rest[place + 4 :])
        with pytest.raises(fm.ModelFormatError, match=f"{name} must be finite"):
            fit(whole, None)
        trainer = fm.Trainer(network(), "mse", "adam")
        with pytest.raises(fm.ModelFormatError, match=f"{name} must be finite"):
            trainer.load_checkpoint(whole)
        assert np.isfinite(trainer.model.flat_parameters.array()).all()

    def test_cut_off_anywhere(self, whole):
        content = whole.read_bytes()
        for length in np.linspace(0, len(content) - 1, 40).astype(int):
            whole.write_bytes(content[:length])
            with pytest.raises(fm.ModelFormatError):
                fit(whole, None)

    def test_any_byte_of_the_header(self, whole):
        content = whole.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        rng = np.random.default_rng(0)
        for place in rng.integers(0, 8 + length, 150):
            damaged = bytearray(content)
            damaged[place] ^= 1 << rng.integers(0, 7)
            whole.write_bytes(damaged)
            try:
                fit(whole, None, epochs=2)
            except (ValueError, MemoryError):  # ModelFormatError, or another training
                continue
