"""Predictions of a row or a few by the shortest way: the same results, the same errors."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm

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


def test_new_parameters_count(model):
    x = np.tile(X, (9, 1))
    before = model.predict(x)
    model.parameters["1.bias"] += 1.0
    np.testing.assert_allclose(model.predict(x), before + 1.0, rtol=1e-6)
    np.testing.assert_allclose(model.predict(x), before + 1.0, rtol=1e-6)
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
