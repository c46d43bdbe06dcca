"""Predictions and steps by the shortest way: the same results, the same errors."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.backends.bound import Programs

X = np.random.default_rng(0).standard_normal((8, 5)).astype("float32")


@pytest.fixture
def model():
    """A model that has predicted, so that the shortest way is known."""
    model = fm.MLP([5, 7, 5], activation="tanh", seed=1)
    model.predict(X[:1])
    assert model._fast_predict is not None
    return model


def taken(model, x, out):
    """Whether the shortest way is gone."""
    return model._fast_predict(x, out) is not None


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 63, 64, 65, 128, 150])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_the_result_is_put_where_it_is_wanted(model, rows, dtype):
    x = np.tile(10 * X, (19, 1))[:rows].astype(dtype)
    first = model.predict(x)  # makes the plans of so many rows
    assert taken(model, x, None)
    np.testing.assert_array_equal(model.predict(x), first)
    frame = np.full((rows + 2, 5), 7.0, "float32")
    assert taken(model, x, frame[1:-1].copy())
    assert np.shares_memory(model.predict(x, out=frame[1:-1]), frame)
    np.testing.assert_array_equal(frame[1:-1], model.predict(x, batch_size=rows))
    np.testing.assert_array_equal(frame[[0, -1]], 7.0)


def test_rows_that_stand_anywhere(model):
    wide = np.tile(X, (20, 3))
    for x in (wide[::2, 4:9], wide[::-1, 5:10], wide[:, 10:0:-2], np.asfortranarray(wide[:, 2:7])):
        for rows in (1, 7, 70):
            expected = model.predict(x[:rows].copy(), batch_size=3)
            for _ in range(2):
                np.testing.assert_array_equal(model.predict(x[:rows]), expected)
            assert taken(model, x[:rows], None)


def test_much_work_is_for_several_threads(model):
    x = np.tile(X, (3000, 1))
    for _ in range(2):
        model.predict(x)
        model.predict(x, threads=1)
    assert not taken(model, x, None)


def limited(model, threads):
    """Put a model's executor under a limit of threads, whatever the machine has."""
    executor = model.executor()
    executor.share = lambda: threads
    return executor


def test_what_would_take_the_shortest_way_is_no_work_for_several_threads():
    model = fm.MLP([4, 64, 64, 2], seed=0)
    x = np.ones((64, 4), "float32")  # 286,000 multiply-adds
    limited(model, 4)
    model.predict(x)
    assert taken(model, x, None)


@pytest.mark.parametrize("slow", [1, 2])
def test_threads_that_predict_slowly_are_left_out(monkeypatch, slow):
    model = fm.MLP([4, 64, 64, 2], seed=0)
    executor, tried = limited(model, 2), []

    def predict(x, out, chunk, count, threads, logits):
        tried.append(threads)
        return len(x) * (1e-3 if threads == slow else 1e-5)

    monkeypatch.setattr(executor, "_predict", predict)
    x, out = np.ones((1024, 4), "float32"), np.empty((1024, 2), "float32")
    for _ in range(20):
        executor.predict(x, out, None)
    assert set(tried) == {1, 2}
    assert set(tried[10:]) == {3 - slow}


@pytest.mark.parametrize("slow", [1, 2])
def test_threads_that_are_slow_are_left_out_where_python_is_between(monkeypatch, slow):
    clock, tried, get = [0.0], {}, Programs.get

    class Timed:
        def __init__(self, program, use, threads):
            self.run_it, self.use, self.threads = program.run, use, threads

        def run(self, *sources, **call):
            tried.setdefault(self.use, []).append(self.threads)
            clock[0] += 1.0 if self.threads == slow else 1e-3
            self.run_it(*sources, **call)

    def timed(self, use, steps, threads, *rest):
        return Timed(get(self, use, steps, threads, *rest), use, threads)

    def loss(y_hat, y):
        return float(((y_hat - y) ** 2).mean()), 2.0 / y.size * (y_hat - y)

    monkeypatch.setattr(Programs, "get", timed)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    model = fm.MLP([40, 91, 91, 4 + slow], seed=0)
    trainer = fm.Trainer(model, loss, fm.SGD(0.01))
    x, y = np.ones((200, 40), "float32"), np.ones((200, 4 + slow), "float32")
    trainer.prepare(40).share = lambda: 2
    limited(model, 2)
    for _ in range(20):
        model.backward(model.forward(x))
        trainer.step(x, y)
    assert set(tried) >= {"forward", "backward", "backward and update"}
    for use in ("backward", "backward and update"):
        assert set(tried[use]) == {1, 2}
        assert set(tried[use][10:]) == {3 - slow}
    assert set(tried["forward"][20:]) == {3 - slow}


def test_new_parameters_count(model):
    x = np.tile(X, (9, 1))
    before = model.predict(x)
    bias = model.parameters["1.bias"]
    for more in (1.0, 1.0, 1.0):  # an array that stays, and is written to again
        bias += more
        before += more
        assert taken(model, x, None)
        np.testing.assert_allclose(model.predict(x), before, rtol=1e-5, atol=1e-6)
    model.parameters["1.bias"] += 1.0
    before += 1.0
    np.testing.assert_allclose(model.predict(x), before, rtol=1e-5, atol=1e-6)
    model.fit(x, before, epochs=1, batch_size=8)
    after = model.predict(x, backend="reference")
    for _ in range(2):
        np.testing.assert_allclose(model.predict(x), after, rtol=1e-5, atol=1e-6)


def test_several_threads_predict_at_once(model):
    from concurrent.futures import ThreadPoolExecutor

    sizes = [1, 3, 5, 17, 64, 100, 200]
    inputs = [np.tile(X, (25, 1))[:rows] + np.float32(rows) for rows in sizes]
    expected = [model.predict(x, batch_size=1) for x in inputs]

    def look(seed):
        for i in np.random.default_rng(seed).integers(0, len(sizes), 300):
            np.testing.assert_array_equal(model.predict(inputs[i]), expected[i])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look, range(4)))


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.empty((2, 5), "float32"), r"out must have shape \(1, 5\) and dtype float32"),
        (np.empty((1, 6), "float32"), r"out must have shape \(1, 5\) and dtype float32"),
        (np.empty(5, "float32"), r"out must have shape \(1, 5\) and dtype float32"),
        (np.empty((1, 5)), r"out must have shape \(1, 5\) and dtype float32"),
        (np.empty((1, 5), "int32"), r"out must have shape \(1, 5\) and dtype float32"),
        (np.empty((1, 10), "float32")[:, ::2], "out must be C-contiguous and writable"),
        (np.broadcast_to(np.float32(0), (1, 5)), "out must be C-contiguous and writable"),
        (np.empty((1, 5), "M8[s]"), r"out must have shape \(1, 5\) and dtype float32"),
    ],
)
def test_what_cannot_hold_the_result_is_refused(model, out, words):
    before = out.copy()
    with pytest.raises(ValueError, match=words):
        model.predict(X[:1], out=out)
    assert out.tobytes() == before.tobytes()


def test_a_read_only_result_is_refused(model):
    out = np.zeros((1, 5), "float32")
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out must be C-contiguous and writable"):
        model.predict(X[:1], out=out)
    np.testing.assert_array_equal(out, 0.0)
    with pytest.raises(TypeError, match="out must be an array"):
        model.predict(X[:1], out=[0.0] * 5)


@pytest.mark.parametrize(
    ("read", "written", "apart"),
    [
        (np.s_[2:4], np.s_[4:6], True),
        (np.s_[2:4], np.s_[0:2], True),
        (np.s_[2:4], np.s_[2:4], False),
        (np.s_[2:4], np.s_[3:5], False),
        (np.s_[3:1:-1], np.s_[3:5], False),
        (np.s_[3:1:-1], np.s_[4:6], True),
        (np.s_[0:7:3], np.s_[3:6], False),
    ],
)
def test_inputs_are_read_before_they_are_overwritten(model, read, written, apart):
    both = X.copy()
    expected = model.predict(both[read].copy(), batch_size=1)
    assert taken(model, both.copy()[read], np.empty_like(expected))
    result = both[written]
    x = both[read]
    assert taken(model, x, result) == apart
    both[...] = X
    model.predict(x, out=result)
    np.testing.assert_array_equal(result, expected)


def test_a_wrong_batch_size_is_refused_for_a_single_row_too(model):
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1"):
        model.predict(X[:1], batch_size=0)


# --- steps ----------------------------------------------------------------------------------------

N = len(X)
WEIGHT = np.linspace(0.5, 2.0, N)
LABELS = np.arange(N) % 5
# Name: loss, output activation, outputs, mini-batches that come in turn.
STEPS = {
    "values": ("mse", "identity", 5, [(X, X)]),
    "one output": ("mse", "identity", 1, [(X, X[:, 0]), (X, X[:, :1])]),
    "other dtypes": ("mse", "identity", 5, [(X.astype("f8"), X), (X, X.astype("f2"))]),
    "sizes": ("mse", "identity", 5, [(X, X), (X[:3], X[:3]), (X[:7], X[:7])]),
    "weights": ("huber", "identity", 5, [(X, X, WEIGHT), (X, X, WEIGHT.astype("f4"))]),
    "weights of outputs": ("mse", "identity", 5, [(X, X, np.abs(X))]),
    "with and without": ("mse", "identity", 5, [(X, X, WEIGHT), (X, X), (X, X)]),
    "labels": ("cross_entropy", "softmax", 5, [(X, LABELS), (X, LABELS.astype("u1"))]),
    "weighted labels": ("cross_entropy", "softmax", 5, [(X, LABELS, WEIGHT)]),
    "probabilities": ("cross_entropy", "softmax", 5, [(X, np.eye(5)[LABELS])]),
    "two classes": ("bce", "sigmoid", 1, [(X, LABELS > 2), (X, (LABELS > 2).astype("i8"))]),
    "signs": ("hinge", "identity", 5, [(X, LABELS), (X, np.sign(X))]),
    "counts": ("poisson", "identity", 5, [(X, np.abs(X).round())]),
}


def stepper(name, **settings):
    loss, activation, outputs, _ = STEPS[name]
    model = fm.MLP([5, 7, outputs], output_activation=activation, seed=1)
    return fm.Trainer(model, loss, fm.Adam(0.01), batch_size=N, threads=1, **settings)


def warm(trainer, batches):
    """Make steps until all kinds are at hand; return how many."""
    for count, batch in zip(range(1, 1000), cycle(batches), strict=False):
        trainer.step(*batch)
        if count % len(batches) == 0 and len(trainer._fast_steps) == len(kinds(batches)):
            return count
    raise AssertionError("the shortest way was never found")


def kinds(batches):
    """Mini-batches with plans of their own: by size, weights, and the form of targets."""
    return {(len(b[0]), len(b), b[1].ndim > 1 or b[1].max() <= 1) for b in batches}


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_the_same_as_by_the_general_way(name):
    batches = STEPS[name][3]
    trainer, other = stepper(name), stepper(name)
    count = warm(trainer, batches)
    losses = [trainer.step(*batch) for _, batch in zip(range(300), cycle(batches), strict=False)]
    expected = []
    for _, batch in zip(range(count + 300), cycle(batches), strict=False):
        other._fast_steps = []
        expected.append(other.step(*batch))
    assert losses == expected[count:]
    np.testing.assert_array_equal(
        trainer.model.flat_parameters.array(), other.model.flat_parameters.array()
    )


@pytest.mark.parametrize("held", [False, True], ids=["in passing", "held"])
@pytest.mark.parametrize("optimizer", [fm.SGD, fm.Adam])
def test_what_is_written_between_steps_counts(monkeypatch, optimizer, held):
    models = [fm.MLP([5, 37, 7, 5], seed=1) for _ in range(2)]
    trainers = [fm.Trainer(m, "mse", optimizer(0.01), batch_size=N, threads=1) for m in models]
    warm(trainers[0], [(X, X)])
    for values, other in zip(
        models[0].parameters.values(), models[1].parameters.values(), strict=True
    ):
        other[...] = values
    slots = [t.optimizer.state_for(m) for t, m in zip(trainers, models, strict=True)]
    for ours, others in zip(slots[0].slots, slots[1].slots, strict=True):
        others.array()[...] = ours.array()
    slots[1].step = slots[0].step
    arrays = [list(model.parameters.values()) if held else [] for model in models]
    monkeypatch.setattr(trainers[0], "_step", None)
    for _ in range(5):
        for model in models:
            for name in model.parameters:
                model.parameters[name] *= 1.01
        trainers[1]._fast_steps = []
        assert trainers[0].step(X, X) == trainers[1].step(X, X)
        for ours, others in zip(*arrays, strict=True):
            np.testing.assert_array_equal(ours, others)
    np.testing.assert_array_equal(*(model.flat_parameters.array() for model in models))
    np.testing.assert_array_equal(*(model.predict(X) for model in models))


def test_the_shortest_way_is_taken(monkeypatch):
    for name, (*_, batches) in STEPS.items():
        trainer = stepper(name)
        warm(trainer, batches)
        monkeypatch.setattr(trainer, "_step", None)
        for batch in batches:
            if batch[1].dtype != np.float16:
                assert np.isfinite(trainer.step(*batch)), name


def test_the_shortest_way_is_taken_with_arrays_in_hand(monkeypatch):
    trainer = stepper("values")
    arrays = list(trainer.model.parameters.values())
    warm(trainer, [(X, X)])
    monkeypatch.setattr(trainer, "_step", None)
    before = [array.copy() for array in arrays]
    trainer.step(X, X)
    assert not any(np.array_equal(*both) for both in zip(arrays, before, strict=True))


@pytest.mark.parametrize(
    ("name", "bad", "error", "words"),
    [
        ("two classes", (X, 3.0 * (LABELS > 2)), ValueError, "y must be between 0 and 1 for bce"),
        ("two classes", (X, np.full(N, np.nan)), ValueError, "y must be between 0 and 1 for bce"),
        ("counts", (X, X), ValueError, "y must be >= 0 for poisson"),
        ("probabilities", (X, 2 * np.eye(5)[LABELS]), ValueError, "row 0 sums to 2"),
        ("signs", (X, 2 * X), ValueError, "y must be -1 and 1"),
        ("labels", (X, LABELS + 1), ValueError, "labels must be between 0 and 4"),
        ("labels", (X, LABELS - 1), ValueError, "labels must be between 0 and 4"),
        ("labels", (X, LABELS.astype("f8")), ValueError, "class indices must be integers"),
        ("labels", (X, LABELS > 2), ValueError, "class indices must be integers"),
        ("weights", (X, X, -WEIGHT), ValueError, "sample_weight must be finite and >= 0"),
        ("weights", (X, X, WEIGHT * np.inf), ValueError, "sample_weight must be finite and >= 0"),
        ("weights", (X, X, 0 * WEIGHT), ValueError, "must not be zero for all"),
        ("weights", (X, X, WEIGHT[:5]), ValueError, "sample_weight must have shape"),
        ("values", (X, X[:, :4]), ValueError, "y must have the shape"),
        ("values", (X[:5], X), ValueError, "same number of rows"),
        ("values", (X.astype(str), X), TypeError, "real numbers"),
    ],
)
def test_a_step_refuses_what_the_first_one_would(name, bad, error, words):
    trainer = stepper(name)
    with pytest.raises(error, match=words):
        trainer.step(*bad)
    warm(trainer, STEPS[name][3])
    before = trainer.model.flat_parameters.array().copy()
    with pytest.raises(error, match=words):
        trainer.step(*bad)
    np.testing.assert_array_equal(trainer.model.flat_parameters.array(), before)


def test_weights_of_classes_are_heeded():
    weights = {0: 1.0, 1: 3.0, 2: 0.5, 3: 1.0, 4: 2.0}
    trainer, other = stepper("labels", class_weight=weights), stepper("labels")
    for _ in range(60):
        expected = other.step(X, LABELS, np.vectorize(weights.get)(LABELS))
        assert trainer.step(X, LABELS) == expected


def test_another_seed_is_heeded():
    layers = [[fm.Dense(7, "tanh"), fm.layers.Dropout(0.5), fm.Dense(5)] for _ in range(2)]
    models = [fm.Sequential(each, 5, seed=1) for each in layers]
    trainer, other = (fm.Trainer(each, "mse", fm.SGD(0.01), threads=1) for each in models)
    losses, expected = [], []
    for seed in (1, 2):
        for model in models:
            model.seed = seed
        for _ in range(40):
            other._fast_steps = []
            losses.append(trainer.step(X, X))
            expected.append(other.step(X, X))
    assert trainer._fast_steps
    assert losses == expected


def test_a_rate_of_the_epoch_is_heeded():
    trainer, other = stepper("values"), stepper("values")
    expected, losses = [], []
    for each in (trainer, other):
        each.optimizer.lr = fm.schedules.Exponential(0.01, gamma=0.5, unit="epoch")
    for _ in range(3):
        for _ in range(40):
            other._fast_steps = []
            losses.append(trainer.step(X, X))
            expected.append(other.step(X, X))
        assert trainer.epoch(X, X) == other.epoch(X, X)
    assert losses == expected


def test_an_average_begun_afresh_is_heeded():
    found = []
    for by_the_general_way in (False, True):
        model, optimizer = fm.MLP([5, 7, 5], seed=1), fm.SGD(0.01)
        averaging, other = (fm.Trainer(model, "mse", optimizer, ema=ema) for ema in (0.9, None))
        for trainer in (averaging, other, averaging):
            for _ in range(40):
                if by_the_general_way:
                    trainer._fast_steps = []
                trainer.step(X, X)
            with averaging.averaged_weights():
                found.append(model.flat_parameters.array().copy())
    for ours, others in zip(found[:3], found[3:], strict=True):
        np.testing.assert_array_equal(ours, others)
