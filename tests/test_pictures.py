"""Pictures: drawn on the axes given, labelled, and showing the numbers that they are about."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import descent
from fastmlp import graph as g

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

from fastmlp import pictures  # noqa: E402


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def digits():
    x, y = fm.data.load_digits()
    return x[:200], y[:200]


@pytest.fixture
def model():
    return fm.MLP([64, 12, 10], activation="relu", output_activation="softmax", seed=0)


@pytest.fixture
def plane():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    return x, (x[:, 0] > 0).astype(int)


def small():
    return fm.MLP([2, 4, 3, 1], activation="tanh", output_activation="sigmoid", seed=1)


def paths():
    f = descent.RAVINE
    return {
        "SGD": descent.minimize(f, f.start, fm.SGD(lr=0.05), 20),
        "too large": descent.minimize(f, f.start, fm.SGD(lr=1e200), 20),
    }


def histories():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 1))
    return {
        name: fm.MLP([3, 8, 1], seed=0).fit(
            x[:20], y[:20], validation_data=(x[20:], y[20:]), epochs=5, progress=False, l2=l2
        )
        for name, l2 in [("plain", 0.0), ("l2", 0.1)]
    }


def charts(model, digits, plane):
    """Every chart with axes that have units, by name."""
    x, y = digits
    u, v = plane
    targets = v.astype(float)
    curve = descent.minimize(lambda x: (x**4).named("x⁴") - x, 2.0, fm.SGD(lr=0.05), 10)
    return {
        "descent on a curve": lambda ax: pictures.descent(curve, ax),
        "descent on contours": lambda ax: pictures.descent(paths(), ax),
        "gradient error": lambda ax: pictures.gradient_error(lambda x: g.sum(g.exp(x)), [1.0], ax),
        "learning rates": lambda ax: pictures.learning_rates(
            small(), u, targets, {"good": 0.5, "huge": 1e30}, ax, epochs=3
        ),
        "batch sizes": lambda ax: pictures.batch_sizes(
            small(), u, targets, [None, 8, 1], ax, epochs=2, against="updates"
        ),
        "gradient noise": lambda ax: pictures.gradient_noise(
            small(), u, targets, ax, sizes=(1, 4, 16, 1000), repeats=4
        ),
        "overfitting": lambda ax: pictures.overfitting(histories(), ax),
        "activations": lambda ax: pictures.activations(model, x, ax),
        "gradients": lambda ax: pictures.gradients(model, x, y, ax, loss="cross_entropy"),
        "updates": lambda ax: pictures.updates(model, x, y, ax, loss="cross_entropy"),
        "decision boundary": lambda ax: pictures.decision_boundary(small(), u, v, ax),
        "confusion": lambda ax: pictures.confusion(model, x, y, ax),
        "landscape": lambda ax: pictures.landscape(small(), u, targets, ax, size=5),
    }


def bare(model, digits, plane):
    x, y = digits
    graph = g.Graph.of(lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0)
    return {
        "graph": lambda ax: pictures.graph(graph, ax),
        "weights": lambda ax: pictures.weights(model, (8, 8), ax),
        "mistakes": lambda ax: pictures.mistakes(model, x, y, (8, 8), ax),
        "network": lambda ax: pictures.network(small(), ax),
        "network, asked": lambda ax: pictures.network(small(), ax, x=[0.5, -1.0], y=1.0),
        "large network": lambda ax: pictures.network(model, ax, x=x[0], y=3, loss="cross_entropy"),
    }


CHARTS = [*charts(None, (None, None), (np.zeros((1, 2)), np.zeros(1)))]
BARE = [*bare(None, (None, None), None)]


@pytest.mark.parametrize("name", CHARTS)
def test_charts_are_labelled(name, model, digits, plane):
    model.build(64)
    _, ax = plt.subplots()
    result = charts(model, digits, plane)[name](ax)
    assert result is ax
    assert ax.get_xlabel()
    # The rows of these are named instead.
    assert ax.get_ylabel() or [tick.get_text() for tick in ax.get_yticklabels()]
    ax.figure.canvas.draw()
    assert charts(model, digits, plane)[name](None) is not ax


@pytest.mark.parametrize("name", BARE)
def test_pictures_without_axes(name, model, digits, plane):
    model.build(64)
    _, ax = plt.subplots()
    assert bare(model, digits, plane)[name](ax) is ax
    ax.figure.canvas.draw()
    assert not ax.get_xticks().size
    assert bare(model, digits, plane)[name](None) is not ax


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_graph_shows_its_numbers():
    graph = g.Graph.of(lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0)
    found = texts(pictures.graph(graph))
    for expected in ("x", "×\nf", "+", "-12", "3", "-4"):
        assert expected in found


def test_divergence_is_shown(plane):
    x, y = plane
    model = fm.MLP([2, 8, 1], activation="relu", seed=0)
    ax = pictures.learning_rates(model, x, y.astype(float), [0.01, 1e6], epochs=3)
    labels = [line.get_label() for line in ax.lines]
    assert "λ = 0.01" in labels
    assert "λ = 1e+06, diverges" in labels
    assert "diverges" in " ".join(
        t.get_text() for t in pictures.descent(paths()).get_legend().texts
    )


@pytest.mark.parametrize(("metric", "best"), [("accuracy", 1), ("mae", 3), ("loss", 3), ("own", 3)])
def test_overfitting_marks_the_best_epoch(metric, best):
    history = fm.history.History()
    for value in (0.9, 0.8, 0.7):
        history.add({metric: 1.0, f"val_{metric}": value}, 0.0, 1)
    ax = pictures.overfitting({"falling": history}, metric=metric)
    (dot,) = (line for line in ax.lines if line.get_marker() == "o")
    assert dot.get_xdata().tolist() == [best]


def test_models_are_left_alone(plane):
    x, labels = plane
    y = labels.astype(float)
    model = small()
    model.build(2)
    before = model.flat_parameters.array().copy()
    pictures.landscape(model, x, y, size=3)
    pictures.learning_rates(model, x, y, [0.1], epochs=1)
    pictures.batch_sizes(model, x, y, [8], epochs=1)
    pictures.updates(model, x, y)
    pictures.network(model, x=x[0], y=y[0])
    np.testing.assert_array_equal(model.flat_parameters.array(), before)


def test_path_through_the_landscape(plane):
    x, y = plane
    model, path = small(), pictures.Path()
    model.fit(x, y.astype(float), loss="bce", epochs=6, callbacks=[path], progress=False)
    assert len(path.points) == 7
    ax = pictures.landscape(model, x, y.astype(float), path=path, loss="bce", size=5)
    line = ax.lines[0].get_xydata()
    assert line.shape == (7, 2)
    np.testing.assert_allclose(line[-1], 0, atol=1e-12)  # the model is the centre
    assert "variance" in ax.get_title()


def test_requested_changes_are_the_gradients():
    model = small()
    model.build(2)
    x, y = np.array([[0.5, -1.0]]), np.array([[1.0]])
    graph = model.graph(x, y)
    asked = {graph.name(n): -graph.gradient(n) for n in graph.variables if n.ndim == 2}
    ax = pictures.network(model, x=x[0], y=y[0])
    for collection, name in zip(ax.collections, ("0.weight", "1.weight", "2.weight"), strict=False):
        drawn = np.sort(np.asarray(collection.get_array()))
        np.testing.assert_allclose(drawn, np.sort(asked[name].reshape(-1)), rtol=1e-6)


def test_confusion_counts(digits):
    x, y = digits
    model = fm.MLP([64, 12, 10], seed=0)
    model.build(64)
    ax = pictures.confusion(model, x, y)
    given = model.predict(x).argmax(axis=1)
    assert sum(int(text) for text in texts(ax)) == len(x)
    assert f"{np.mean(given == y):.2%}" in ax.get_title()


def test_dead_units_are_counted(digits):
    x, _ = digits
    model = fm.MLP([64, 10, 3], activation="relu", seed=0)
    model.build(64)
    model.parameters["0.bias"][:4] = -1e3
    ax = pictures.activations(model, x)
    z = x @ model.parameters["0.weight"] + model.parameters["0.bias"]
    assert f"{(z <= 0).all(axis=0).mean():.0%} dead" in ax.get_yticklabels()[0].get_text()


def test_errors(model, digits):
    x, y = digits
    model.build(64)
    with pytest.raises(ValueError, match="64 pixels"):
        pictures.weights(model, (8, 9))
    with pytest.raises(ValueError, match="two columns"):
        pictures.decision_boundary(model, x, y)
    with pytest.raises(ValueError, match="'epochs', 'updates', 'seconds'"):
        pictures.batch_sizes(model, x, y, [1], against="minutes")
    with pytest.raises(ValueError, match="one descent"):
        pictures.descent({})
    with pytest.raises(ValueError, match="of one or of two"):
        pictures.descent(descent.minimize(lambda x: g.sum(x), np.ones(3), steps=1))
    with pytest.raises(ValueError, match="gradient is zero"):
        pictures.gradient_error(lambda x: x * x, 0.0)
    with pytest.raises(ValueError, match="built"):
        pictures.network(fm.Sequential([fm.Dense(3)]))
    with pytest.raises(ValueError, match="one example"):
        pictures.network(model, x=x[:2])


def test_nothing_is_imported_until_it_is_used():
    code = "import sys; import fastmlp.pictures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
