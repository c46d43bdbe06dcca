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


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_the_result_is_put_where_it_is_wanted(model, rows, dtype):
    x = (10 * X[:rows]).astype(dtype)
    frame = np.full((rows + 2, 5), 7.0, "float32")
    assert taken(model, x, frame[1:-1].copy())
    assert np.shares_memory(model.predict(x, out=frame[1:-1]), frame)
    np.testing.assert_array_equal(frame[1:-1], model.predict(x, batch_size=rows))
    np.testing.assert_array_equal(frame[[0, -1]], 7.0)


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
