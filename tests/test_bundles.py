"""Epochs that are trained in one go (`fastmlp.bundles`) against the same ones alone."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.bundles import Bundles
from small import X, Y, model, weights_of


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shuffle": False},
        {"batch_size": "full"},
        {"sample_weight": np.linspace(0.1, 2.0, 48)},
        {"optimizer": lambda: fm.SGD(fm.schedules.Cosine(0.1, 40), momentum=0.9)},
        {"optimizer": lambda: fm.SGD(fm.schedules.Exponential(0.1, 0.9, unit="epoch"))},
        {"batch_size": 7},
        {"batch_size": 7, "shuffle": False},
        {"batch_size": 47, "sample_weight": np.linspace(0.1, 2.0, 48)},
        {"batch_size": 25, "threads": 3},
        {"batch_size": 7, "loss": lambda y_hat, y: (((y_hat - y) ** 2).mean(), y_hat - y)},
        {"batch_size": 7, "backend": "reference"},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_the_same_bits(settings, monkeypatch):
    settings = {"batch_size": 8, "optimizer": fm.Adam, **settings}
    make = settings.pop("optimizer")
    runs = []
    for together in (True, False):
        if not together:
            monkeypatch.setattr("fastmlp.bundles.Bundles.count", lambda *_: 1)
        network, optimizer = model(), make()
        history = network.fit(X[:48], Y[:48], optimizer=optimizer, epochs=60, **settings)
        state = optimizer.state_for(network)
        runs.append((weights_of(network), history.history, (state.step, state.epoch)))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert runs[0][1:] == runs[1][1:]
    assert len(runs[0][1]["loss"]) == 60


@pytest.mark.parametrize("shuffle", [True, False])
def test_short_epochs_are_trained_together(shuffle, monkeypatch):
    counts, run = [], Bundles.run
    monkeypatch.setattr(Bundles, "run", lambda self, n: counts.append(n) or run(self, n))
    model().fit(X[:48], Y[:48], batch_size=8, epochs=60, shuffle=shuffle)
    assert counts  # unless each of the sixty took more than 25 ms, for six mini-batches


def test_a_divergence_is_told_as_ever(monkeypatch):
    rates = fm.schedules.Constant(1e-3).then(1e30, at=6 * 17 + 3)
    found = []
    for together in (True, False):
        if not together:
            monkeypatch.setattr("fastmlp.bundles.Bundles.count", lambda *_: 1)
        network, optimizer = model(), fm.SGD(rates)
        with pytest.raises(fm.DivergenceError) as info:
            network.fit(X[:48], Y[:48], optimizer=optimizer, batch_size=8, epochs=60)
        state = optimizer.state_for(network)
        found.append((weights_of(network).tobytes(), state.step, state.epoch, str(info.value)))
    assert found[0] == found[1]
    assert found[0][1:3] == (6 * 17, 17)
