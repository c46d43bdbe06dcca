"""Models as ONNX: accepted by its checker, and with the numbers of `predict` in onnxruntime."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fastmlp as fm
from exported import assert_same, graph_activation, models, trained

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# In float64 GELU's erf has the exactness of float32.
LOOSE = {"gelu": 1e-6}


def predictions(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("make", models())
def test_onnxruntime_predicts_what_the_model_predicts(make, dtype, tmp_path, request):
    model = make(dtype)
    x = trained(model)
    model.export_onnx(tmp_path / "model.onnx")
    name = request.node.callspec.id.rsplit("-", 1)[-1]
    loose = LOOSE.get(name) if dtype == "float64" else None
    for rows in (x, x[:1], x[:7]):
        assert_same(predictions(tmp_path / "model.onnx", rows), model.predict(rows), loose)


def test_an_activation_of_ones_own(dtype, tmp_path):
    constant = fm.graph.activation(lambda z: 0 * z + 2.5)
    model = fm.Sequential(
        [fm.Dense(7, graph_activation()), fm.Dense(2, constant), fm.Dense(2)],
        input_size=5,
        dtype=dtype,
    )
    x = np.random.default_rng(0).normal(size=(50, 5)).astype(dtype)
    model.export_onnx(tmp_path / "own.onnx")
    assert_same(predictions(tmp_path / "own.onnx", x), model.predict(x))


def test_the_file_says_what_it_is(tmp_path):
    model = fm.MLP([4, 5, 3])
    model.export_onnx(tmp_path / "model.onnx")
    read = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(read, full_check=True)
    assert read.producer_name == "fastmlp"
    assert [opset.version for opset in read.opset_import] == [13]
    (x,), (y,) = read.graph.input, read.graph.output
    assert (x.name, y.name) == ("x", "y")
    for end, columns in ((x, 4), (y, 3)):
        rows, cols = end.type.tensor_type.shape.dim
        assert rows.dim_param == "rows"  # any number of them
        assert cols.dim_value == columns
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in read.graph.initializer}
    assert set(stored) == set(model.parameters)
    for name, values in model.parameters.items():
        np.testing.assert_array_equal(stored[name], values)


def test_a_model_that_passes_its_input_on(tmp_path):
    model = fm.Sequential([fm.Standardize()], input_size=3)
    model.export_onnx(tmp_path / "m.onnx")
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(predictions(tmp_path / "m.onnx", x), x)


class Unknown(fm.activations.Identity):
    name = "unknown"
    to_onnx = fm.activations.Activation.to_onnx


def test_what_has_no_form_is_refused(tmp_path):
    unknown = fm.Sequential([fm.Dense(2, Unknown(), initializer="normal")], input_size=2)
    for model, message in (
        (fm.Sequential([fm.Dense(2)]), "sizes of the model are not known"),
        (unknown, r"Unknown\(\) has no form in ONNX"),
    ):
        with pytest.raises(ValueError, match=message):
            model.export_onnx(tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "fastmlp\[onnx\]"'):
        fm.MLP([2, 1]).export_onnx(tmp_path / "m.onnx")
