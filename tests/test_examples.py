"""The gallery: every script runs, in time, ends with a picture, and says what to see."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("[0-9]*.py"))


def test_the_gallery_is_whole():
    assert [path.name[:2] for path in EXAMPLES] == [f"{k:02}" for k in range(1, 20)]


@pytest.fixture
def _one_thread():
    """Processor time of the one thread is the script's own, whatever else runs on the machine."""
    fm.set_num_threads(1)
    yield
    fm.set_num_threads(None)


@pytest.fixture
def _one_thread_of_blas():
    """The same for scikit-learn, which brings threadpoolctl."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, capsys, monkeypatch, request):
    if "optuna" in path.stem:
        pytest.importorskip("optuna")
    import matplotlib.pyplot as plt

    if "scikit_learn" in path.stem:
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
        request.getfixturevalue("_one_thread_of_blas")
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.close("all")
    start = time.thread_time()
    runpy.run_path(str(path), run_name="__main__")
    seconds = time.thread_time() - start
    figures = [plt.figure(number) for number in plt.get_fignums()]
    assert figures
    for figure in figures:
        figure.canvas.draw()
        assert np.ptp(np.asarray(figure.canvas.buffer_rgba())) > 0  # something is drawn
    plt.close("all")
    assert "\nSee: " in "\n" + capsys.readouterr().out
    # What the gallery promises for two cores; all take a fraction of it.
    assert seconds < 20
