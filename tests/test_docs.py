"""The code in docs/*.rst and in docstrings runs as it stands, and prints what it says.

What it takes as given, such as `model`, `x` and `y`, is laid out by `given`.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import fastmlp as fm

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = [
    page for page in sorted(DOCS.glob("*.rst")) if "code-block:: python" in page.read_text("utf-8")
]
BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)", re.MULTILINE)

# Keras takes seconds to import; test_exports_keras.py makes the same calls.
LEFT_OUT = re.compile(r"(from|to)_keras\(")

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer. Maximum iterations")


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    """Work in a folder of its own, and leave no figures open."""
    monkeypatch.chdir(tmp_path)
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def given(code):
    """Return what a piece of code takes as given: data that fit the network in it, a model, …

    Files that it takes as given are written into the working directory.
    """
    sizes = re.search(r"MLP\(\[(\d+),.*?(\d+)\]", code) or [None, "64", "10"]
    inputs, outputs = int(sizes[1]), int(sizes[2])
    x, y = (part[:40] for part in fm.data.load_digits())
    if (inputs, outputs) != (64, 10):
        x = np.random.default_rng(0).normal(size=(40, inputs))
        y = np.sin(x[:, 0])
    activation = "softmax" if outputs == 10 else "identity"
    # What L-BFGS says in the end depends on the rounding.
    dtype = "float64" if "LBFGS" in code else "float32"

    def model():
        sizes = [inputs, 8, outputs]
        return fm.MLP(sizes, output_activation=activation, dtype=dtype, seed=0)

    names = {"fm": fm, "np": np, "x": x, "y": y, "model": model(), "target": model()}
    names |= {"x_train": x, "y_train": y, "x_test": x, "y_test": y, "x_new": x}
    names |= {"parts": [(np.arange(20), np.arange(20, 40)), (np.arange(20, 40), np.arange(20))]}
    names |= {"optimizer": fm.Adam(), "trainer": fm.Trainer(model(), ema=0.9), "folder": Path()}
    names["model"].save("epoch-1.st")
    if "states" in code:
        rng = np.random.default_rng(0)
        names["state"], names["states"], names["next_states"] = *x[:1], *rng.normal(size=(2, 40, 4))
        names["actions"], names["done"] = rng.integers(0, 2, (2, 40))
        names["rewards"], names["advantages"] = rng.normal(size=(2, 40))
        names["taken"], names["old_log_p"] = np.eye(2)[names["actions"]], np.full(40, -0.7)
    if re.search(r"\br2\b|likelihood|outputs\.mean", code):  # a table with two measurements
        names["x"] = names["x_train"] = names["x_test"] = np.random.default_rng(0).normal(
            size=(40, 20)
        )
        names["y"] = names["y_train"] = names["y_test"] = names["x"][:, :2] * [3e4, 1e-3] + 5
    if re.search(r"\bmodule\b|torch\.", code):
        torch = names["torch"] = pytest.importorskip("torch")
        names["module"] = torch.nn.Sequential(torch.nn.Linear(inputs, outputs))
    if re.search(r"sklearn|Classifier|Regressor", code):
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
        names["classifier"] = fm.MLPClassifier((8,), max_iter=20, tol=1.0).fit(x, y == 1)
        names["MLPRegressor"] = fm.MLPRegressor
        names["model"] = fm.MLP([inputs, 1], output_activation="sigmoid")
    if "onnx" in code:
        pytest.importorskip("onnx")
        names["onnxruntime"] = pytest.importorskip("onnxruntime")
    if "to_dataframe" in code:
        pytest.importorskip("pandas")
    if "plot(" in code or "pictures" in code:
        pytest.importorskip("matplotlib").use("Agg")
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_has_a_title(page):
    title, line = page.read_text("utf-8").splitlines()[:2]
    assert line == "=" * len(title)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages(page, monkeypatch):
    # Graphviz need not be there.
    monkeypatch.setattr(fm.graph.Graph, "draw", lambda graph, file: graph.dot())
    made = {}  # what one block assigns, the next ones find
    for code in map(dedent, BLOCK.findall(page.read_text("utf-8"))):
        if LEFT_OUT.search(code):
            continue
        names = given(code)
        before = {**names, **made}
        after = dict(before)
        exec(compile(code, page.name, "exec"), after)
        made |= {name: value for name, value in after.items() if before.get(name) is not value}


def docstrings():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for found in pkgutil.walk_packages(fm.__path__, "fastmlp."):
        if re.search("_native|__main__|torch_modules", found.name):
            continue
        try:
            module = importlib.import_module(found.name)
        except ImportError:  # it needs what is not installed
            continue
        for test in finder.find(module):
            if test.examples and not LEFT_OUT.search(test.docstring):
                yield test


class Checker(doctest.OutputChecker):
    """Takes any result where the docstring shows none."""

    def check_output(self, want, got, flags):
        return not want or super().check_output(want, got, flags)


@pytest.mark.skipif(np.__version__ < "2", reason="NumPy 1 prints its numbers otherwise")
@pytest.mark.parametrize("test", list(docstrings()), ids=lambda test: test.name)
def test_docstrings(test):
    test.globs |= given(test.docstring)
    output = []
    doctest.DocTestRunner(Checker()).run(test, out=output.append, clear_globs=False)
    assert not output, "".join(output)
