"""A loss or a parameter that is not finite: what is said, and what the model is then."""

from __future__ import annotations

import math

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp.callbacks import LambdaCallback
from small import X, Y, model, weights_of


def exploding(epochs_before):
    """Return a callback that makes the learning rate explode after some epochs."""

    def explode(epoch, logs):
        if epoch == epochs_before - 1:
            holder.optimizer.lr = 1e300

    holder = LambdaCallback(on_epoch_end=explode)
    return holder


@pytest.mark.parametrize("optimizer", [lambda: fm.SGD(lr=0.1, momentum=0.9), lambda: fm.Adam()])
def test_divergence_restores_the_last_good_epoch(optimizer, dtype, backend):
    good, diverged = model(dtype), model(dtype)
    settings = {"batch_size": 8, "backend": backend}
    rules = optimizer(), optimizer()
    good.fit(X, Y, optimizer=rules[0], epochs=2, **settings)
    with pytest.raises(fm.DivergenceError, match="smaller learning rate") as caught:
        diverged.fit(X, Y, optimizer=rules[1], epochs=9, callbacks=[exploding(2)], **settings)
    error = caught.value
    assert error.epoch >= 2
    assert 0 <= error.batch < 7
    assert not math.isfinite(error.loss)
    assert f"mini-batch {error.batch}" in str(error)
    assert f"epoch {error.epoch}" in str(error)
    if error.epoch == 2:
        np.testing.assert_array_equal(weights_of(diverged), weights_of(good))
        states = [rules[0].state_for(good), rules[1].state_for(diverged)]
        assert states[0].step == states[1].step == 14
        assert states[0].epoch == states[1].epoch == 2
        for a, b in zip(states[0].slots, states[1].slots, strict=True):
            np.testing.assert_array_equal(a.array(), b.array())
    assert np.isfinite(weights_of(diverged)).all()
    # It goes on from there as if nothing had been.
    rules[1].lr = rules[0].lr
    if error.epoch == 2:
        good.fit(X, Y, optimizer=rules[0], **settings)
        diverged.fit(X, Y, optimizer=rules[1], **settings)
        np.testing.assert_array_equal(weights_of(diverged), weights_of(good))


def test_an_epoch_that_ends_with_infinite_parameters_is_not_good(backend):
    network = model()
    before = weights_of(network)
    # One batch: its loss is finite, and what its update leaves is not.
    with pytest.raises(fm.DivergenceError, match="a parameter is not finite"):
        network.fit(X, Y, optimizer=fm.SGD(lr=1e45), batch_size=None, backend=backend)
    np.testing.assert_array_equal(weights_of(network), before)


@pytest.mark.parametrize(("name", "place"), [("xb", 0), ("yb", 1)])
def test_a_step_says_that_data_are_not_finite(name, place):
    trainer = fm.Trainer(fm.MLP([3, 1], seed=0), "mse", fm.SGD(lr=0.1))
    data = [np.ones((4, 3), np.float32), np.ones((4, 1), np.float32)]
    data[place][2, 0] = np.inf
    for _ in range(3):
        with pytest.raises(fm.DivergenceError, match=f"NaN or infinity is in {name}."):
            trainer.step(*data)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(3, 4, 1), (3, 1, 1), (3, 20, 5), (20, 33, 17, 1)])
def test_parameters_that_are_put_back_after_a_step_are_all_there_is(sizes, dtype):
    model = fm.MLP(list(sizes), seed=3, dtype=dtype)
    trainer = fm.Trainer(model, "mse", fm.SGD(lr=0.01))
    x = cases.inputs(6, sizes[0], dtype=dtype)
    y = cases.targets("real", 6, sizes[-1], dtype=dtype)
    trainer.step(x, y)
    kept, outputs = model.parameters.copy(), model.predict(x)
    loss = trainer.step(x, y)
    with pytest.raises(fm.DivergenceError, match=r"is in yb\. The parameters are not fin"):
        trainer.step(x, y * np.nan)
    with pytest.raises(fm.DivergenceError, match="The parameters are not finite any more"):
        trainer.step(x, y)
    model.parameters.update(kept)
    np.testing.assert_array_equal(model.predict(x), outputs)
    assert trainer.step(x, y) == loss


def test_divergence_in_a_step_is_said(backend):
    trainer = fm.Trainer(model(), optimizer=fm.SGD(lr=1e30), backend=backend)
    trainer.step(X, Y)
    with pytest.raises(fm.DivergenceError, match="its update has been made"):
        trainer.step(X, Y)


def test_divergence_advises_scaling_where_inputs_are_large(backend):
    with pytest.raises(fm.DivergenceError, match=r"Standardize \(here up to"):
        model().fit(X * 1e10, Y, optimizer=fm.SGD(lr=1e5), epochs=20, backend=backend)


def test_nan_in_data_that_were_changed_since_is_a_divergence(backend):
    network, x = model(), X.copy()
    trainer = fm.Trainer(network, batch_size=8, backend=backend)
    trainer.epoch(x, Y)
    before = weights_of(network)
    x[3, 3] = np.nan
    with pytest.raises(fm.DivergenceError):
        trainer.epoch(x, Y)
    np.testing.assert_array_equal(weights_of(network), before)


def test_a_model_recovers_when_its_parameters_are_put_back(backend):
    network = model()
    before, expected = weights_of(network), network.predict(X, backend=backend)
    trainer = fm.Trainer(network, optimizer=fm.SGD(lr=1e300), backend=backend)
    trainer.step(X, Y)
    with pytest.raises(fm.DivergenceError):
        trainer.step(X, Y)
    network.flat_parameters.array()[...] = before
    np.testing.assert_array_equal(network.predict(X, backend=backend), expected)
    y = network.forward(X, backend=backend)
    assert np.isfinite(network.backward(np.ones_like(y))).all()
    fm.Trainer(network, optimizer=fm.SGD(lr=0.1), backend=backend).epoch(X, Y)
    assert np.isfinite(weights_of(network)).all()


def test_slots_that_a_callback_brings_in_the_midst_of_an_epoch_go_back_to_zeros(backend, tmp_path):
    network, rule = model(), fm.SGD(lr=0.1)
    before = weights_of(network)

    def change(batch, logs):
        rule.momentum = 0.9
        rule.lr = 1e300 if batch == 2 else 0.1

    with pytest.raises(fm.DivergenceError):
        network.fit(
            X, Y, optimizer=rule, batch_size=8, backend=backend,
            callbacks=[LambdaCallback(on_train_batch_end=change)],
            checkpoint=tmp_path / "run.ckpt", checkpoint_every=0.0,
        )  # fmt: skip
    np.testing.assert_array_equal(weights_of(network), before)
    state = rule.state_for(network)
    assert (state.step, state.names) == (0, ("momentum",))
    assert not state.slots[0].array().any()
