"""Training: epochs and steps, order of the rows, means, threads, Ctrl-C, progress."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp import _native
from fastmlp.backends.bound import Programs
from fastmlp.callbacks import Callback, LambdaCallback
from fastmlp.spans import Spans
from small import ROWS, X, Y, batches, model, weights_of

# --- fit, epoch, step ---


@pytest.mark.parametrize("optimizer", [lambda: fm.SGD(lr=0.05, momentum=0.9), lambda: fm.Adam()])
def test_fit_is_as_many_epochs_to_the_bit(optimizer, dtype, backend):
    fitted, stepped = model(dtype), model(dtype)
    settings = {"batch_size": 8, "l2": 0.01, "backend": backend}
    history = fitted.fit(X, Y, optimizer=optimizer(), epochs=4, seed=7, **settings)
    trainer = fm.Trainer(stepped, "mse", optimizer(), **settings)
    losses = [trainer.epoch(X, Y, seed=7) for _ in range(4)]
    assert history.history["loss"] == losses
    np.testing.assert_array_equal(weights_of(fitted), weights_of(stepped))


def test_an_epoch_is_its_steps(dtype, backend):
    by_epoch, by_step = model(dtype), model(dtype)
    trainer = fm.Trainer(by_epoch, optimizer=fm.Adam(), batch_size=8, backend=backend)
    loss = trainer.epoch(X, Y, shuffle=False)
    stepper = fm.Trainer(by_step, optimizer=fm.Adam(), backend=backend)
    steps = [stepper.step(X[i : i + 8], Y[i : i + 8]) for i in range(0, ROWS, 8)]
    np.testing.assert_array_equal(weights_of(by_epoch), weights_of(by_step))
    counts = [8] * 6 + [5]  # the last one counts by its samples
    assert loss == pytest.approx(np.dot(steps, counts) / ROWS, rel=1e-12)


def test_a_step_is_forward_loss_backward_update(dtype, backend):
    fused, explicit = model(dtype), model(dtype)
    loss = fm.losses.MSE()
    rules = fm.Adam(lr=0.01, eps=0.01), fm.Adam(lr=0.01, eps=0.01)
    trainer = fm.Trainer(fused, loss, rules[0], backend=backend)
    eps = float(np.finfo(dtype).eps)
    for _ in range(3):
        value = trainer.step(X, Y)
        y_hat = explicit.forward(X, training=True, backend=backend)
        expected, grad = loss(y_hat, Y)
        explicit.backward(grad)
        rules[1].step(explicit)
        assert value == pytest.approx(expected, rel=1e3 * eps)
    np.testing.assert_allclose(weights_of(fused), weights_of(explicit), rtol=0, atol=1e3 * eps)
    assert rules[0].state_for(fused).step == rules[1].state_for(explicit).step == 3


def test_fitting_again_goes_on_with_the_same_optimizer_only(backend):
    settings = {"batch_size": 8, "seed": 3, "backend": backend}
    once, twice, fresh = model(), model(), model()
    once.fit(X, Y, optimizer=fm.Adam(), epochs=4, **settings)
    optimizer = fm.Adam()
    twice.fit(X, Y, optimizer=optimizer, epochs=2, **settings)
    twice.fit(X, Y, optimizer=optimizer, epochs=2, **settings)
    np.testing.assert_array_equal(weights_of(once), weights_of(twice))
    fresh.fit(X, Y, optimizer=fm.Adam(), epochs=2, **settings)
    fresh.fit(X, Y, optimizer=fm.Adam(), epochs=2, **settings)
    assert not np.array_equal(weights_of(once), weights_of(fresh))


def test_one_optimizer_keeps_a_state_for_each_model(backend):
    shared = fm.Adam()
    both = [model(seed=1), model(seed=2)]
    for _ in range(2):
        for network in both:
            network.fit(X, Y, optimizer=shared, backend=backend)
    for network, seed in zip(both, (1, 2), strict=True):
        alone = model(seed=seed)
        alone.fit(X, Y, optimizer=fm.Adam(), epochs=2, backend=backend)
        np.testing.assert_array_equal(weights_of(network), weights_of(alone))


def test_settings_may_change_between_epochs(backend):
    changed, expected = model(), model()
    optimizer = fm.SGD(lr=0.1)
    trainer = fm.Trainer(changed, optimizer=optimizer, batch_size=8, backend=backend)
    trainer.epoch(X, Y)
    optimizer.lr = 0.0
    before = weights_of(changed)
    trainer.epoch(X, Y)
    np.testing.assert_array_equal(weights_of(changed), before)
    fm.Trainer(expected, optimizer=fm.SGD(lr=0.1), batch_size=8, backend=backend).epoch(X, Y)
    np.testing.assert_array_equal(before, weights_of(expected))


def test_layers_may_be_frozen_and_thawed_between_epochs(backend):
    network = model()
    trainer = fm.Trainer(network, optimizer=fm.SGD(lr=0.1), batch_size=8, backend=backend)
    trainer.epoch(X, Y)
    for frozen in (True, False):
        before = network.parameters["0.weight"].copy()
        (network.freeze if frozen else network.unfreeze)(0)
        trainer.epoch(X, Y)
        assert np.array_equal(network.parameters["0.weight"], before) == frozen


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))],
    ids=["deepcopy", "pickle"],
)
def test_a_trainer_that_has_trained_is_copied_with_its_model(copied, backend):
    trainer = fm.Trainer(model(), optimizer=fm.SGD(lr=0.1), batch_size=8, backend=backend)
    trainer.epoch(X, Y, shuffle=False)
    trainer.step(X[:8], Y[:8])
    twin = copied(trainer)
    assert twin.model is not trainer.model
    for one in (trainer, twin):
        one.epoch(X, Y, shuffle=False)
        one.step(X[:8], Y[:8])
    np.testing.assert_array_equal(weights_of(twin.model), weights_of(trainer.model))


@pytest.mark.parametrize(
    "make",
    [
        lambda: fm.optimizers.OPTIMIZERS["rprop"](lr=0.01),
        lambda: fm.optimizers.OPTIMIZERS["adagrad"](lr=0.1, initial_accumulator_value=0.5),
    ],
    ids=["rprop", "adagrad"],
)
def test_slots_of_a_layer_that_was_frozen_at_first_begin_when_it_is_trained(make, dtype, backend):
    network = model(dtype)
    network.freeze(0)
    trainer = fm.Trainer(network, optimizer=make(), batch_size=None, backend=backend)
    trainer.epoch(X, Y)
    network.unfreeze()
    twin = copy.deepcopy(network)
    before = network.parameters["0.weight"].copy()
    trainer.epoch(X, Y)
    assert np.abs(network.parameters["0.weight"] - before).max() > 1e-3
    fm.Trainer(twin, optimizer=make(), batch_size=None, backend=backend).epoch(X, Y)
    for name in ("0.weight", "0.bias"):
        np.testing.assert_array_equal(network.parameters[name], twin.parameters[name])


# --- the same bits ---


def test_the_same_seed_gives_the_same_bits(dtype, backend):
    runs = []
    for _ in range(2):
        network = model(dtype)
        history = network.fit(X, Y, batch_size=8, epochs=3, seed=5, backend=backend)
        runs.append((history.history, weights_of(network).tobytes()))
    assert runs[0] == runs[1]
    other = model(dtype)
    other.fit(X, Y, batch_size=8, epochs=3, seed=6, backend=backend)
    assert weights_of(other).tobytes() != runs[0][1]


@pytest.mark.parametrize("optimizer", [fm.SGD, fm.Adam])
def test_threads_do_not_change_the_bits(optimizer, dtype, isa):
    x, y = cases.inputs(300, 40), cases.targets("real", 300, 7)
    results = set()
    for threads in (1, 2, 3, 7):
        network = cases.mlp(cases.Shape((40, 50, 33, 7), 64), dtype=dtype)
        trainer = fm.Trainer(network, optimizer=optimizer(lr=0.01), batch_size=64, threads=threads)
        losses = [trainer.epoch(x, y) for _ in range(2)]
        output = network.predict(x, threads=threads)
        results.add((tuple(losses), weights_of(network).tobytes(), output.tobytes()))
    assert len(results) == 1


def test_the_seed_of_the_model_decides_unless_another_is_given():
    losses = [
        model(seed=4).fit(X, Y, batch_size=8, **given).history["loss"]
        for given in ({}, {"seed": 4}, {"seed": 5})
    ]
    assert losses[0] == losses[1] != losses[2]


def test_a_seed_that_is_drawn_is_known():
    seeds = {fm.MLP([2, 1], seed=None).seed for _ in range(3)}
    assert len(seeds) == 3


# --- the order of the rows ---


def test_every_epoch_has_a_new_permutation():
    orders = [_native.shuffle(seed, epoch, 1000) for seed in range(3) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(1000))
    assert len({order.tobytes() for order in orders}) == len(orders)


def test_permutations_are_uniform():
    # 6 permutations of 3 rows, 6000 draws: each count is binomial with deviation 28.9.
    counts = {}
    for epoch in range(6000):
        order = bytes(_native.shuffle(11, epoch, 3))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert all(abs(count - 1000) < 5 * 28.9 for count in counts.values())


def test_shuffle_decides_whether_rows_are_taken_in_order(backend):
    class Batches(Callback):
        losses = ()

        def on_train_batch_end(self, batch, logs=None):
            self.losses += (logs["loss"],)

    def losses(**settings):
        seen = Batches()
        still = fm.SGD(lr=0.0)
        model().fit(
            X, Y, optimizer=still, batch_size=8, callbacks=[seen], backend=backend, **settings
        )
        return seen.losses

    network = model()
    starts = range(0, ROWS, 8)
    in_order = [network.evaluate(X[i : i + 8], Y[i : i + 8])["loss"] for i in starts]
    np.testing.assert_allclose(losses(shuffle=False), in_order, rtol=1e-5)
    order = _native.shuffle(9, 0, ROWS)
    mixed = [network.evaluate(X[order[i : i + 8]], Y[order[i : i + 8]])["loss"] for i in starts]
    np.testing.assert_allclose(losses(shuffle=True, seed=9), mixed, rtol=1e-5)


def test_full_batch_is_the_gradient_of_all_rows(backend):
    network = model("float64")
    expected = weights_of(network)
    _, grad = fm.losses.MSE()(network.forward(X, backend=backend), Y)
    network.backward(grad)
    expected -= 0.1 * network.flat_gradients.array()
    for size in (None, "full"):
        fresh = model("float64")
        fresh.fit(X, Y, optimizer=fm.SGD(lr=0.1), batch_size=size, backend=backend)
        np.testing.assert_allclose(weights_of(fresh), expected, rtol=0, atol=1e-14)


# --- weights of samples, penalties ---


def test_a_weight_of_two_is_the_row_twice(backend):
    weight = np.ones(ROWS)
    weight[:20] = 2.0
    doubled = np.r_[np.arange(ROWS), np.arange(20)]
    settings = {"optimizer": fm.SGD(lr=0.1), "batch_size": None, "backend": backend}
    weighted, repeated = model("float64"), model("float64")
    a = weighted.fit(X, Y, sample_weight=weight, **settings)
    b = repeated.fit(X[doubled], Y[doubled], **settings)
    np.testing.assert_allclose(weights_of(weighted), weights_of(repeated), rtol=0, atol=1e-14)
    assert a.history["loss"][0] == pytest.approx(b.history["loss"][0], rel=1e-12)
    both = [
        weighted.evaluate(X, Y, sample_weight=weight, metrics=["mae"], backend=backend),
        weighted.evaluate(X[doubled], Y[doubled], metrics=["mae"], backend=backend),
    ]
    assert both[0] == pytest.approx(both[1], rel=1e-12)


def test_the_mean_of_an_epoch_divides_by_the_sum_of_weights():
    from fastmlp.sources import Source

    weight = np.arange(10.0)
    order = np.arange(10)[::-1]
    source = Source(X[:10], Y[:10], weight)
    np.testing.assert_array_equal(source.batch_weights(order, 4), [9 + 8 + 7 + 6, 14, 1])
    source = Source(X[:10], Y[:10], np.c_[weight, weight, weight])
    np.testing.assert_array_equal(source.batch_weights(None, 4), [6, 22, 17])


def test_a_mask_hides_outputs(backend):
    mask = np.ones((ROWS, 3))
    mask[:, 1] = 0.0
    network = model("float64")
    before = network.parameters["1.bias"].copy()
    network.fit(X, Y, optimizer=fm.SGD(lr=0.1), sample_weight=mask, backend=backend)
    same = network.parameters["1.bias"] == before
    np.testing.assert_array_equal(same, [False, True, False])


def test_penalties_shrink_weights_alone_and_are_no_part_of_the_loss(backend):
    settings = {"batch_size": None, "backend": backend}
    start, plain, l1, l2 = (model("float64") for _ in range(4))
    loss = plain.fit(X, Y, optimizer=fm.SGD(lr=0.1), **settings).history["loss"]
    assert l2.fit(X, Y, optimizer=fm.SGD(lr=0.1), l2=0.3, **settings).history["loss"] == loss
    assert l1.fit(X, Y, optimizer=fm.SGD(lr=0.1), l1=0.2, **settings).history["loss"] == loss
    for name, first in start.parameters.items():
        is_weight = name.endswith("weight")
        np.testing.assert_allclose(
            l2.parameters[name], plain.parameters[name] - is_weight * 0.1 * 0.3 * first, atol=1e-15
        )
        np.testing.assert_allclose(
            l1.parameters[name],
            plain.parameters[name] - is_weight * 0.1 * 0.2 * np.sign(first),
            atol=1e-15,
        )


# --- history, validation, metrics ---


def test_the_history_has_a_value_per_epoch(backend):
    history = model().fit(
        X, Y, epochs=3, validation_data=(X[:9], Y[:9]), metrics=["mae", "r2"], backend=backend
    )
    names = ["loss", "mae", "r2", "val_loss", "val_mae", "val_r2"]
    assert list(history.history) == names
    assert all(len(values) == 3 for values in history.history.values())
    assert history.epoch == [0, 1, 2]
    assert all(seconds > 0 for seconds in history.time)
    rates = [ROWS / seconds for seconds in history.time]
    assert history.samples_per_second == pytest.approx(rates)
    assert "3 epochs" in repr(history)
    assert "val_mae" in repr(history)


def test_validation_is_what_evaluate_says(backend):
    network = model()
    weight = np.linspace(0, 1, 9)
    history = network.fit(
        X, Y, validation_data=(X[:9], Y[:9], weight), metrics=["mae"], backend=backend
    )
    values = network.evaluate(X[:9], Y[:9], metrics=["mae"], sample_weight=weight, backend=backend)
    assert history.history["val_loss"] == [values["loss"]]
    assert history.history["val_mae"] == [values["mae"]]
    training = network.evaluate(X, Y, metrics=["mae"], backend=backend)
    assert history.history["mae"] == [training["mae"]]


def test_validation_split_takes_the_last_rows(backend):
    split, explicit = model(), model()
    rows = int(ROWS * 0.8)
    a = split.fit(X, Y, epochs=2, validation_split=0.2, backend=backend)
    data = (X[rows:], Y[rows:])
    b = explicit.fit(X[:rows], Y[:rows], epochs=2, validation_data=data, backend=backend)
    assert a.history == b.history


def test_classification_reports_accuracy_of_logits_and_probabilities(backend):
    labels = cases.targets("labels", ROWS, 3)
    values = []
    for output in ("identity", "softmax"):
        network = fm.MLP([6, 9, 3], output_activation=output, seed=1)
        settings = {"loss": "cross_entropy", "metrics": ["accuracy", "log_loss"]}
        network.fit(X, labels, epochs=3, backend=backend, **settings)
        values.append(network.evaluate(X, labels, backend=backend, **settings))
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert values[1]["loss"] == pytest.approx(values[1]["log_loss"], rel=1e-5)
    np.testing.assert_allclose(network.predict(X).sum(axis=1), 1.0, atol=1e-5)


# --- threads of the caller, Ctrl-C, progress ---


def test_training_a_model_that_is_being_trained_is_refused(backend):
    network = model()
    trainer = fm.Trainer(network, backend=backend)
    refused = []

    def again(epoch, logs):
        for action in (
            lambda: network.fit(X, Y, backend=backend),
            lambda: trainer.epoch(X, Y),
            lambda: trainer.step(X, Y),
        ):
            with pytest.raises(RuntimeError, match="being trained already"):
                action()
            refused.append(action)

    network.fit(X, Y, callbacks=[LambdaCallback(on_epoch_end=again)], backend=backend)
    assert len(refused) == 3
    trainer.step(X, Y)  # and afterwards it is free


def test_other_threads_may_predict_with_one_model(backend):
    network = model()
    expected = network.predict(X, backend=backend)
    results, errors = [], []

    def predict():
        try:
            for rows in (ROWS, 1, 7) * 20:
                results.append(network.predict(X[:rows], backend=backend))
        except Exception as error:
            errors.append(error)

    workers = [threading.Thread(target=predict) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    assert len(results) == 240
    for result in results:
        np.testing.assert_allclose(result, expected[: len(result)], rtol=0, atol=1e-5)


INTERRUPTED = """
import signal, sys, time
import numpy as np, fastmlp as fm
fm.set_num_threads(2)
x = np.random.default_rng(0).normal(size=(4000, 64)).astype("f4")
y = x[:, :10].copy()
model = fm.MLP([64, 64, 10])
model.fit(x, y, backend=sys.argv[1])
signal.signal(signal.SIGPROF, signal.default_int_handler)
start = time.process_time()
signal.setitimer(signal.ITIMER_PROF, 0.5)
try:
    model.fit(x, y, epochs=10**7, backend=sys.argv[1])
except KeyboardInterrupt:
    print(time.process_time() - start)
    assert np.isfinite(model.predict(x)).all()
    model.fit(x, y, backend=sys.argv[1])
    print("usable")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals and their timers are POSIX'")
def test_interrupt_is_seen_soon_and_leaves_the_model_usable(backend):
    command = [sys.executable, "-c", INTERRUPTED, backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    seconds, usable = done.stdout.split()
    # The signal comes after half a second of the processor, whatever else runs on the machine; 100
    # ms and a step are promised, of each thread. Without spans it would be hours.
    assert float(seconds) < 4.0
    assert usable == "usable"


def test_spans_are_measured_to_last_fifty_milliseconds():
    spans = Spans()
    spans.measured(1, 1e-3)
    assert spans.length == 16  # 50 would fit, but one measurement is not trusted so far
    spans.measured(16, 16e-3)
    assert spans.length == 50
    spans.measured(50, 5.0)
    assert spans.length == 1


def test_progress_is_shown_if_asked_for_and_silent_in_a_pipe(capsys, backend):
    model().fit(X, Y, epochs=3, backend=backend)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    model().fit(X, Y, epochs=3, batch_size=8, progress=True, backend=backend)
    shown = capsys.readouterr().err
    assert "epoch 3/3" in shown
    assert "loss" in shown
    model().fit(batches, epochs=2, progress=True, backend=backend)
    assert "epoch 2/2" in capsys.readouterr().err


def test_progress_in_a_terminal_appears_only_when_work_is_long(monkeypatch, capsys):
    from fastmlp import progress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "_PATIENCE_SECONDS", 3600.0)  # however busy the machine is
    model().fit(X, Y, epochs=2, batch_size=8)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_PATIENCE_SECONDS", 0.0)
    model().fit(X, Y, epochs=2, batch_size=8)
    assert "batch" in capsys.readouterr().err


def test_what_a_trainer_is_made_from_stays():
    x, y = np.ones((4, 2)), np.ones((4, 1))
    model, optimizer = fm.MLP([2, 3, 1]), fm.SGD(lr=0.1)
    trainer = fm.Trainer(model, loss="mse", optimizer=optimizer)
    changes = {"optimizer": fm.Adam(), "loss": fm.losses.MAE(), "clip_norm": 1.0, "lr": 0.01}
    for name, value in changes.items():
        with pytest.raises(AttributeError, match=f"{name}.*(new Trainer|trainer.optimizer.lr)"):
            setattr(trainer, name, value)
    trainer.step(x, y)
    before = model.parameters.copy()
    trainer.optimizer.lr = 0.0  # this is heeded, and so are attributes of the user's
    trainer.best = trainer.step(x, y)
    np.testing.assert_array_equal(model.parameters["0.weight"], before["0.weight"])


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "all", [8]])
def test_a_batch_size_set_later_is_checked(size):
    trainer = fm.Trainer(model(), batch_size=8)
    with pytest.raises((TypeError, ValueError), match="batch_size"):
        trainer.batch_size = size
    assert trainer.batch_size == 8
    trainer.batch_size = "full"
    assert trainer.epoch(X, Y) == pytest.approx(model().evaluate(X, Y)["loss"], rel=1e-6)


def test_repr_of_a_trainer_says_what_it_trains():
    text = repr(fm.Trainer(model(), "mse", fm.SGD(lr=0.5), batch_size=None))
    assert "loss=MSE()" in text
    assert "lr=0.5" in text
    assert "batch_size=None" in text


class Watched:
    """A program whose runs another thread looks into."""

    def __init__(self, program, look):
        self.program, self.look = program, look

    def run(self, *args, **kwargs):
        result = self.program.run(*args, **kwargs)
        self.look()
        return result


@pytest.mark.parametrize("held", [False, True], ids=["in passing", "held"])
def test_looking_into_a_training_does_not_undo_it(monkeypatch, held):
    networks = [model(), model()]
    watched = networks[1]
    arrays = list(watched.parameters.values()) if held else []
    x, y = X[:48], Y[:48]
    networks[0].fit(x, y, epochs=3, batch_size=8, seed=1)

    def look():
        watched.parameters["0.weight"].sum()
        watched.predict(X[:5])

    training = Programs.training
    monkeypatch.setattr(
        Programs, "training", lambda *args: (training(*args)[0], Watched(training(*args)[1], look))
    )
    watched.fit(x, y, epochs=3, batch_size=8, seed=1)
    np.testing.assert_array_equal(*(network.flat_parameters.array() for network in networks))
    for array, values in zip(arrays, watched.parameters.values(), strict=False):
        np.testing.assert_array_equal(array, values)


@pytest.fixture
def eager_threads():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def squares(y_hat, y):
    error = y_hat - y
    return float((error * error).mean()), 2 * error / error.size


@pytest.mark.parametrize("held", [False, True], ids=["in passing", "held"])
@pytest.mark.parametrize("units", [8, 256])  # with the lock of Python held, and without
@pytest.mark.parametrize("loss", ["mse", squares])
def test_looking_into_steps_does_not_undo_them(eager_threads, loss, units, held):
    x = np.random.default_rng(1).standard_normal((256, 16), np.float32)
    found, arrays = [], []
    for looks in (False, True):
        layers = [fm.Dense(units, "relu"), fm.BatchNorm(), fm.Dense(units, "tanh"), fm.Dense(1)]
        network = fm.Sequential(layers, 16, seed=1)
        arrays += [*network.parameters.values(), *network.states.values()] if held else []
        trainer = fm.Trainer(network, loss, "adam", threads=1)
        done = threading.Event()

        def read(network=network, done=done):
            while not done.is_set():
                for values in (network.parameters, network.states):
                    values.copy()

        def predict(network=network, done=done):
            while not done.is_set():
                network.predict(x[:2])

        watchers = [threading.Thread(target=look) for look in (read, predict, predict)]
        for watcher in watchers if looks else []:
            watcher.start()
        losses = [trainer.step(x, x[:, :1]) for _ in range(60)]
        done.set()
        for watcher in watchers if looks else []:
            watcher.join()
        assert bool(trainer._fast_steps) == (loss == "mse")
        found.append([losses, weights_of(network), network.flat_states.array().copy()])
    for ours, others in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, others)
