"""The profile of a training step, and the machine's peak."""

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import _native
from fastmlp.profiling import peak


def test_the_peak_is_a_sensible_number_of_operations_a_cycle():
    # At least one scalar multiply-add in two cycles, at most four 512-bit ones in a cycle.
    measured = peak(1)
    assert 1.0 <= measured.per_cycle <= 2 * 16 * 4
    assert measured.gflops == pytest.approx(measured.per_cycle * measured.ghz)
    assert "GHz" in str(measured)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_profile_lists_every_step_and_leaves_the_model_alone(threads):
    model = fm.MLP([20, 33, 3], activation="tanh", seed=0)
    before = model.parameters["0.weight"].copy()
    profile = fm.profile(model, 16, optimizer="adam", threads=threads, seconds=0.01)
    names = [step.name.split()[0] for step in profile.steps]
    assert {"gather", "dense", "loss", "grad"} <= set(names) <= set(_native.opcodes())
    # 2 · batch · in · out for each product; the first layer has no gradient of its input
    assert profile.flops == 2 * 16 * (2 * 20 * 33 + 3 * 33 * 3)
    assert profile.seconds > 0
    assert profile.share > 0
    assert profile.threads == threads
    assert profile.memory["parameters"] >= 4 * model.parameter_count
    assert "of the peak" in str(profile)
    np.testing.assert_array_equal(model.parameters["0.weight"], before)


def test_a_profile_needs_known_sizes():
    with pytest.raises(ValueError, match="known sizes"):
        fm.profile(fm.Sequential([fm.Dense(3)]), 4)


def test_a_profile_draws_its_roofline():
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    profile = fm.profile(fm.MLP([5, 7, 2], seed=0), 4, seconds=0.01)
    axes = profile.plot()
    assert axes.get_xlabel() == "operations per byte"
    assert len(axes.get_lines()) >= 5  # four products and more, and the peak
    plt.close(axes.figure)
