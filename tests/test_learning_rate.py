"""The learning-rate range test."""

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.learning_rate import LearningRateTest

X, Y = fm.data.load_digits()
X, Y = X[:640], Y[:640]


def network(dtype="float32"):
    stack = [fm.Standardize(), fm.Dense(20, "relu"), fm.Dense(10, "softmax")]
    return fm.Sequential(stack, dtype=dtype, seed=1)


def find(model=None, **settings):
    settings = {"loss": "cross_entropy", "optimizer": fm.SGD(momentum=0.9), **settings}
    return fm.find_learning_rate(model or network(), X, Y, **settings)


def test_it_is_what_steps_by_hand_give(backend):
    """64 rows a step and no shuffling of them: against Trainer.step at each rate."""
    test = find(batch_size="full", steps=12, lowest=1e-3, highest=1.0, backend=backend)
    model, optimizer = network(), fm.SGD(momentum=0.9)
    model.adapt(X)
    trainer = fm.Trainer(model, "cross_entropy", optimizer, backend=backend)
    for rate, loss in zip(test.learning_rates, test.losses, strict=True):
        optimizer.lr = rate
        assert trainer.step(X, Y) == loss
    np.testing.assert_allclose(test.learning_rates[[0, -1]], [1e-3, 1.0], rtol=1e-12)


def test_the_suggestion_works():
    test = find(steps=150)
    assert 1e-3 < test.suggestion < 1.0
    losses = {}
    for factor in (1 / 100, 1.0):
        optimizer = fm.SGD(test.suggestion * factor, momentum=0.9)
        history = network().fit(X, Y, loss="cross_entropy", optimizer=optimizer, epochs=5)
        losses[factor] = history.history["loss"][-1]
    assert losses[1.0] < 0.25 * losses[1 / 100]


def test_nothing_changes():
    model, optimizer = network(), fm.Adam(0.01)
    model.fit(X, Y, loss="cross_entropy", optimizer=optimizer, epochs=1)
    state = optimizer.state_for(model)

    def all_of_it():
        return (
            model.flat_parameters.array().tobytes(),
            model.flat_states.array().tobytes(),
            [slot.array().tobytes() for slot in state.slots],
            (state.step, state.epoch, optimizer.lr, model.seed),
            np.random.get_state()[1].tobytes(),  # noqa: NPY002 - the global state is what is meant
        )

    before = all_of_it()
    find(model, optimizer=optimizer, steps=50)
    assert all_of_it() == before
    unbuilt = network()
    find(unbuilt, steps=20)
    assert unbuilt.input_size is None
    assert unbuilt.needs_data


def test_the_same_each_time():
    first, second = find(steps=60), find(steps=60, threads=1)
    np.testing.assert_array_equal(first.losses, second.losses)
    assert find(steps=60, seed=5).losses[3] != first.losses[3]


def test_it_stops_when_the_loss_blows_up():
    early = find(steps=300, highest=1e6)
    assert len(early.losses) < 300
    assert len(early.losses) == len(early.learning_rates) == len(early.smoothed)
    assert np.isfinite(early.losses).all()
    assert len(find(steps=300, highest=1e6, stop_factor=2.0).losses) <= len(early.losses)


def test_a_loss_that_does_not_fall():
    test = find(steps=200, lowest=1e-12, highest=1e-10)
    assert test.suggestion is None
    assert "did not fall" in repr(test)
    # Nor does one that blows up at once, however far it was from where it then came to.
    assert LearningRateTest([1e-6, 1.1e-6], [1.0, 1e30], 20).suggestion is None


def test_smoothing_does_not_move_a_line():
    test = LearningRateTest(np.geomspace(1, 10, 30), np.linspace(3, 1, 30), 9)
    np.testing.assert_allclose(test.smoothed, test.losses, rtol=1e-12)
    # The last two are smoothed over too few.
    assert test.suggestion == test.learning_rates[27] / 10
    assert repr(test) == "LearningRateTest of 30 rates from 1 to 10, suggestion: 0.85"


def test_a_picture():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ax = find(steps=60).plot()
    _, labels = ax.get_legend_handles_labels()
    assert labels[:2] == ["each mini-batch", "smoothed"]
    assert find(steps=20, lowest=1e-12, highest=1e-10).plot(ax) is ax
    plt.close("all")


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"lowest": 0.0}, ValueError, "lowest"),
        ({"lowest": 1.0, "highest": 0.5}, ValueError, "highest"),
        ({"steps": 3}, ValueError, "steps"),
        ({"stop_factor": 1.0}, ValueError, "stop_factor"),
        ({"optimizer": fm.LBFGS(), "batch_size": None}, ValueError, "no learning rate"),
        ({"optimizer": "adm"}, ValueError, "'adam'"),
        ({"threads": 0}, ValueError, "threads"),
        ({"epochs": 3}, TypeError, "epochs"),
        ({"seed": -1}, ValueError, "seed"),
        ({"lowest": 1e30, "highest": 1e31}, fm.DivergenceError, "smaller `lowest`"),
    ],
)
def test_refused(settings, kind, message):
    with pytest.raises(kind, match=message):
        find(**settings)
