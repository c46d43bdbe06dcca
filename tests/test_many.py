"""Many networks at once: the same bits as alone, and no failure loses the others."""

import pickle
import signal
import threading
import time

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import callbacks


def data(n=160, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype("f4")
    return x, np.sin(x.sum(axis=1)).astype("f4")


def networks(count=5):
    return [
        fm.Sequential([fm.Standardize(), fm.Dense(6 + seed, "tanh"), fm.Dense(1)], seed=seed)
        for seed in range(count)
    ]


def assert_same(models, histories, alone):
    for model, history, (other, expected) in zip(models, histories, alone, strict=True):
        np.testing.assert_array_equal(
            model.flat_parameters.array(), other.flat_parameters.array(), strict=True
        )
        assert history.history == expected.history


@pytest.fixture
def _two_threads():
    fm.set_num_threads(2)
    yield
    fm.set_num_threads(None)


@pytest.mark.usefixtures("_two_threads")
class TestTheSameBits:
    @pytest.mark.parametrize("workers", [None, 1, 3])
    def test_as_alone(self, workers, backend):
        x, y = data()
        settings = {
            "optimizer": "adam",
            "batch_size": 12,
            "epochs": 4,
            "metrics": ["rmse"],
            "validation_split": 0.2,
            "backend": backend,
        }
        alone = [(model, model.fit(x, y, **settings)) for model in networks()]
        models = networks()
        assert_same(models, fm.fit_many(models, x, y, workers=workers, **settings), alone)

    def test_settings_of_each(self):
        rows = [np.arange(k, 160, 3) for k in range(3)]
        x, y = data()

        def settings():
            return [
                {"x": x[r], "y": y[r], "optimizer": fm.SGD(0.1 * k), "epochs": k + 1, "seed": k}
                for k, r in enumerate(rows, 1)
            ]

        alone = []
        for model, own in zip(networks(3), settings(), strict=True):
            alone.append((model, model.fit(own.pop("x"), own.pop("y"), **own, batch_size=7)))
        models = networks(3)
        assert_same(models, fm.fit_many(models, settings=settings(), batch_size=7), alone)

    def test_an_optimizer_goes_on(self):
        x, y = data()
        alone, expected = networks(3), fm.Adam(0.01)
        models, optimizer = networks(3), fm.Adam(0.01)
        for _ in range(2):
            first = [model.fit(x, y, optimizer=expected, epochs=2) for model in alone]
            second = fm.fit_many(models, x, y, optimizer=optimizer, epochs=2)
        assert_same(models, second, list(zip(alone, first, strict=True)))
        assert optimizer.state_for(models[0]).epoch == 4

    def test_callbacks_of_one_do_not_touch_the_others(self):
        x, y = data()

        def hooks():
            return [
                callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=0.01),
                callbacks.EarlyStopping("loss", patience=2, min_delta=1e-3),
            ]

        alone = []
        for model in networks():
            made = model.fit(x, y, optimizer=fm.SGD(0.3), epochs=12, callbacks=hooks())
            alone.append((model, made))
        shared = hooks()
        networks(1)[0].fit(x, y, callbacks=shared)  # leaves its model in them
        models, optimizer = networks(), fm.SGD(0.3)
        made = fm.fit_many(models, x, y, optimizer=optimizer, epochs=12, callbacks=shared)
        assert_same(models, made, alone)
        assert optimizer.lr == 0.3

    def test_large_ones_and_few(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(512, 64)), rng.normal(size=(512, 64))

        def make():
            return [fm.MLP([64, width, 64], seed=1) for width in (256, 32, 128)]

        settings = {"optimizer": "adam", "batch_size": 128, "epochs": 3}
        alone = [(model, model.fit(x, y, threads=1, **settings)) for model in make()]
        models = make()
        assert_same(models, fm.fit_many(models, x, y, **settings), alone)


class Crash(callbacks.Callback):
    def __init__(self, content=None):
        self.content = content

    def on_epoch_end(self, epoch, logs=None):
        raise OSError("no disk")


class TestFailures:
    def run(self, **settings):
        x, y = data()
        models = networks(4)
        own = [{}, {"optimizer": fm.SGD(1e30)}, {"callbacks": [Crash()]}, {}]
        return models, fm.fit_many(models, x, y, settings=own, epochs=3, **settings)

    def test_the_others_run_to_their_end(self):
        models, results = self.run(errors="return")
        assert isinstance(results[1], fm.DivergenceError)
        assert isinstance(results[2], OSError)
        x, y = data()
        alone = [(model, model.fit(x, y, epochs=3)) for model in networks(4)]
        for k in (0, 3):
            assert_same([models[k]], [results[k]], [alone[k]])

    def test_raised_in_the_end(self):
        with pytest.raises(
            fm.ManyError, match=r"2 of 4 .* models\[1\], by DivergenceError"
        ) as info:
            self.run()
        assert set(info.value.errors) == {1, 2}
        assert len(info.value.results[3].history["loss"]) == 3
        assert isinstance(info.value.__cause__, fm.DivergenceError)
        assert "2 of 4" in str(pickle.loads(pickle.dumps(info.value)))

    def test_an_interrupt_ends_all_soon(self):
        x, y = data(2000)
        models = networks(6)
        before = set(threading.enumerate())

        class Interrupt(callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                if epoch == 0:
                    signal.raise_signal(signal.SIGINT)

        own = [{"callbacks": [Interrupt()]}] + [{}] * 5
        # What a shell starts in the background ignores interrupts.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        start = time.perf_counter()
        try:
            with pytest.raises(KeyboardInterrupt):
                fm.fit_many(models, x, y, settings=own, epochs=10**6, workers=2)
        finally:
            signal.signal(signal.SIGINT, handler)
        assert time.perf_counter() - start < 60  # all epochs take many minutes
        for thread in set(threading.enumerate()) - before:
            thread.join(60)
            assert not thread.is_alive()
        models[5].fit(x, y)  # and nothing is locked


class TestArguments:
    @pytest.mark.parametrize(
        ("models", "settings", "kind", "message"),
        [
            (lambda m: m[0], {}, TypeError, "models must be a list"),
            (lambda m: [], {}, ValueError, "at least one"),
            (lambda m: [m[0], 3], {}, TypeError, r"models\[1\]"),
            (lambda m: [m[0], m[1], m[0]], {}, ValueError, "different objects"),
            (lambda m: m, {"settings": [{}]}, ValueError, "one dict for each of 2"),
            (lambda m: m, {"settings": {}}, TypeError, "list of dicts"),
            (lambda m: m, {"settings": [{}, 3]}, TypeError, r"settings\[1\]"),
            (lambda m: m, {"settings": [{}, {"epoch": 3}]}, ValueError, "'epochs'"),
            (lambda m: m, {"epoch": 3}, ValueError, "did you mean 'epochs'"),
            (lambda m: m, {"workers": 0}, ValueError, "workers"),
            (lambda m: m, {"errors": "ignore"}, ValueError, "errors"),
            (lambda m: m, {"progress": 3}, TypeError, "progress"),
            (lambda m: m, {"checkpoint": "a"}, ValueError, "checkpoint must be given in settings"),
            (lambda m: m, {"x": None}, TypeError, "x is missing"),
            (lambda m: m, {"x": iter([]), "y": None}, ValueError, "iterator"),
            (
                lambda m: m,
                {"callbacks": [Crash(threading.Lock())]},
                TypeError,
                "cannot be copied",
            ),
        ],
    )
    def test_refused_before_anything_begins(self, models, settings, kind, message):
        x, y = data()
        made = networks(2)
        with pytest.raises(kind, match=message):
            fm.fit_many(models(made), **{"x": x, "y": y, **settings})
        assert all(model.input_size is None for model in made)

    def test_a_bar_for_all(self, capsys):
        x, y = data()
        fm.fit_many(networks(3), x, y, epochs=4, progress=True)
        assert "12/12" in capsys.readouterr().err

    def test_own_checkpoints(self, tmp_path):
        x, y = data()
        models = networks(2)
        own = [{"checkpoint": tmp_path / f"{k}.ckpt", "resume": True} for k in range(2)]
        fm.fit_many(models, x, y, settings=own, epochs=2)
        again = networks(2)
        histories = fm.fit_many(again, x, y, settings=own, epochs=4)
        alone = [(model, model.fit(x, y, epochs=4)) for model in networks(2)]
        assert_same(again, histories, alone)
