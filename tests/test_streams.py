"""Training on streams of mini-batches."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm
from small import X, Y, batches, model, weights_of


@pytest.mark.parametrize(
    "stream",
    [batches, batches(), tuple(batches()), lambda: iter(batches()), lambda: (b for b in batches())],
    ids=["function", "list", "tuple", "function of iterators", "function of generators"],
)
def test_a_stream_is_trained_batch_by_batch(stream, backend):
    streamed, whole = model(), model()
    a = streamed.fit(stream, epochs=3, backend=backend)
    b = whole.fit(X, Y, batch_size=8, shuffle=False, epochs=3, backend=backend)
    np.testing.assert_array_equal(weights_of(streamed), weights_of(whole))
    assert a.history["loss"] == pytest.approx(b.history["loss"], rel=1e-12)


def test_a_stream_may_have_weights_and_an_iterator_serves_once(backend):
    weighted = ((x, y, np.full(len(x), 2.0)) for x, y in batches())
    streamed, whole = model(), model()
    streamed.fit(weighted, backend=backend)
    whole.fit(X, Y, batch_size=8, shuffle=False, backend=backend)
    np.testing.assert_allclose(weights_of(streamed), weights_of(whole), rtol=0, atol=1e-6)


def test_a_model_without_sizes_learns_them_and_its_scale_from_a_stream(backend):
    def build():
        return fm.Sequential([fm.Standardize(), fm.Dense(3)], seed=1)

    streamed, whole = build(), build()
    streamed.fit(batches, backend=backend)
    whole.fit(X, Y, batch_size=8, shuffle=False, backend=backend)
    np.testing.assert_allclose(streamed.states["0.mean"], X.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(weights_of(streamed), weights_of(whole), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="Standardize learns from them first"):
        build().fit(iter(batches()))


def test_bad_batches_are_named(backend):
    later = [*batches(), (X[:3, :2], Y[:3])]
    with pytest.raises(ValueError, match="batch 7: x must have shape"):
        model().fit(later, backend=backend)
    used_up = iter(batches())
    with pytest.raises(ValueError, match="used up"):
        model().fit(lambda: used_up, epochs=2, backend=backend)
    with pytest.raises(ValueError, match="do not go with a stream"):
        model().fit(batches, validation_split=0.5, backend=backend)
    with pytest.raises(ValueError, match="validation_data, which is missing"):
        model().fit(batches, metrics=["mae"], backend=backend)
