"""Models as C: compiled without a warning, and with the numbers of `predict`."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest

import cases
import fastmlp as fm
from exported import assert_same, graph_activation, models, trained
from fastmlp import plan
from fastmlp.exports import c as c_export
from fastmlp.exports import onnx as onnx_export
from fastmlp.exports import programs
from fastmlp.exports.quantization import Quantized
from fastmlp.graph.program import OPCODES

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
FLAGS = "-std=c99 -Wall -Wextra -Werror -pedantic -Wshadow -Wconversion -Wdouble-promotion"
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def compiled(source):
    """Return a function x -> y out of a C file."""
    library = source.with_suffix(".so")
    command = [COMPILER, *FLAGS.split(), "-shared", "-fPIC", source, "-o", library, "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return ctypes.CDLL(str(library))


def predictions(export, x, dtype):
    predict = getattr(compiled(export.path), export.function)
    y = np.full((len(x), export.outputs + 1), 77, dtype)
    kind = ctypes.POINTER({"float": ctypes.c_float, "double": ctypes.c_double}[export.dtype])
    for row, out in zip(np.ascontiguousarray(x, dtype), y, strict=True):
        predict(row.ctypes.data_as(kind), out.ctypes.data_as(kind))
    assert (y[:, -1] == 77).all()  # it writes no more than it says
    return y[:, :-1]


@needs_compiler
@pytest.mark.parametrize("make", models())
def test_c_predicts_what_the_model_predicts(make, dtype, tmp_path):
    model = make(dtype)
    x = trained(model)
    export = model.export_c(tmp_path / "model.c")
    assert export.function == "model_predict"
    assert (export.inputs, export.outputs) == (model.input_size, model.output_size)
    assert_same(predictions(export, x, dtype), model.predict(x))


@needs_compiler
def test_an_activation_of_ones_own(dtype, tmp_path):
    model = fm.Sequential(
        [fm.Dense(7, graph_activation()), fm.Dense(2, fm.graph.activation(lambda z: 0 * z + 2.5))],
        input_size=5,
        dtype=dtype,
    )
    x = np.random.default_rng(0).normal(size=(50, 5))
    assert_same(predictions(model.export_c(tmp_path / "own.c"), x, dtype), model.predict(x))


@needs_compiler
def test_far_inputs_neither_overflow_nor_lose_digits(tmp_path):
    z = np.array([-1e4, -90, -20, -5, -1e-3, 0, 1e-3, 5, 20, 90, 1e4], np.float32)[:, None]
    for name in ("gelu", "silu", "mish", "softplus", "elu", "selu", "sigmoid", "tanh"):
        model = fm.Sequential([fm.Dense(1, name)], input_size=1)
        model.parameters["0.weight"] = np.ones((1, 1))
        actual = predictions(model.export_c(tmp_path / f"{name}.c"), z, "float32")
        # erfc magnifies the rounding of its argument by twice its square, which is 12.5 at -5.
        np.testing.assert_allclose(actual, model.predict(z), rtol=5e-6, atol=1e-30)


@needs_compiler
def test_a_model_that_only_standardizes_and_one_without_bias(tmp_path):
    for layers in ([fm.Standardize()], [fm.Dense(3, bias=False)], [fm.Dense(1)]):
        model = fm.Sequential(layers, input_size=4)
        x = np.random.default_rng(1).normal(3, 2, (20, 4)).astype("float32")
        if model.needs_data:
            model.adapt(x)
        export = model.export_c(tmp_path / f"m{len(list(tmp_path.iterdir()))}.c")
        assert_same(predictions(export, x, "float32"), model.predict(x))


@needs_compiler
def test_wide_layers_use_static_buffers(tmp_path):
    model = mlp_of(3, 20_000, 2)
    export = model.export_c(tmp_path / "wide.c")
    assert export.buffer_bytes == 80_000
    assert "static float a0[20000];" in export.path.read_text()
    x = np.ones((1, 3), np.float32)
    # Sums of 20,000 terms, in another order than the engine's.
    np.testing.assert_allclose(predictions(export, x, "float32"), model.predict(x), atol=1e-4)


def mlp_of(*sizes, **settings):
    return fm.MLP(sizes, seed=5, **settings)


# --- int8 -----------------------------------------------------------------------------------------


@needs_compiler
def test_int8_loses_what_it_says(dtype, tmp_path):
    model = fm.Sequential(
        [fm.Standardize(), fm.Dense(30, "relu"), fm.Dense(4, "softmax")], input_size=12, dtype=dtype
    )
    x = trained(model)
    full = model.export_c(tmp_path / "full.c")
    export = model.export_c(tmp_path / "small.c", int8=True, x=x)
    change = np.abs(predictions(export, x, dtype) - model.predict(x))
    assert 0 < change.max() < 0.05
    # The arithmetic's own rounding is far below the quantization's.
    assert change.max() == pytest.approx(export.max_error, rel=1e-2)
    assert change.mean() == pytest.approx(export.mean_error, rel=1e-2)
    weights = 12 * 30 + 30 * 4
    size = model.dtype.itemsize
    assert full.weight_bytes - export.weight_bytes == weights * (size - 1) - size * (30 + 4)
    text = export.path.read_text()
    assert f"{export.max_error:.2g}" in text
    assert "60 rows that were given" in str(export)
    assert full.max_error is None


def test_int8_without_a_sample_gives_codes_to_embeddings(tmp_path):
    branches = [[fm.Embedding(3, 2, column=1)], [fm.Embedding(9, 2, column=1)], [fm.Dense(2)]]
    model = fm.Sequential([fm.Concat(branches), fm.Dense(1)], input_size=3, seed=0)
    assert model.export_c(tmp_path / "m.c", int8=True).max_error > 0


def test_int8_without_a_sample_says_what_it_measured_on(tmp_path):
    export = mlp_of(4, 8, 2).export_c(tmp_path / "m.c", int8=True)
    assert export.max_error > export.mean_error > 0
    assert "normal random numbers" in export.sample


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quantization_is_symmetric_by_column_and_exact_where_it_can_be(dtype):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(40, 5)).astype(dtype) * np.array([1, 1e-3, 0, 1e-45, 1e30], dtype)
    quantized = Quantized.of(weight)
    assert quantized.values.dtype == np.int8
    assert (quantized.values >= -127).all()
    np.testing.assert_array_equal(Quantized.of(-weight).values, -quantized.values)
    bound = 0.5001 * quantized.scale + np.finfo(dtype).tiny
    assert (np.abs(quantized.matrix() - weight) <= bound).all()
    whole = np.array([[127.0, -3.0], [-127.0, 127.0]])
    np.testing.assert_array_equal(Quantized.of(whole).matrix(), whole)


# --- the file -------------------------------------------------------------------------------------


@needs_compiler
def test_the_example_in_the_comment_is_a_program(tmp_path):
    model = mlp_of(3, 4, 2)
    text = model.export_c(tmp_path / "net.c").path.read_text()
    comment = text[: text.index("*/")]
    lines = [line[3:] for line in comment.splitlines()]
    start = lines.index("    #include <stdio.h>")
    end = lines.index("    }", start)
    program = "\n".join(line[4:] for line in lines[start : end + 1])
    (tmp_path / "main.c").write_text(program + "\n")
    (command,) = re.findall(r" \* {5}(cc .*)", comment)
    flags = command.split()[1:]
    subprocess.run([COMPILER, *FLAGS.split(), *flags, "-o", "net"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "net"], check=True, capture_output=True, text=True).stdout
    expected = model.predict(np.zeros((1, 3)))[0]
    assert_same(np.array(printed.split(), np.float32), expected)


@needs_compiler
def test_two_models_in_one_program(tmp_path):
    for name, seed in (("first", 1), ("second", 2)):
        fm.MLP([2, 3, 1], seed=seed).export_c(tmp_path / f"{name}.c")
    main = '#include "first.c"\n#include "second.c"\nint main(void) { float y[SECOND_OUTPUTS]; '
    main += "first_predict(first_0_weight, y); second_predict(first_0_weight, y); return 0; }\n"
    (tmp_path / "main.c").write_text(main)
    command = [COMPILER, "-std=c99", "-Wall", "-Wextra", "-Werror", "main.c", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_literals_are_exact_and_need_no_locale(tmp_path):
    model = mlp_of(4, 5, 3)
    values = np.array([0.1, -0.0, 1e-45, 3.4028235e38, 1 / 3], np.float32)
    model.parameters["0.bias"][...] = values
    text = model.export_c(tmp_path / "m.c").path.read_text()
    (body,) = re.findall(r"m_0_bias\[5\] = \{(.*?)\}", text, re.DOTALL)
    literals = [item.strip() for item in body.split(",")]
    assert all(item.endswith("f") and ("." in item or "e" in item) for item in literals)
    read = np.array([item[:-1] for item in literals], np.float32)
    np.testing.assert_array_equal(read.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize(
    ("file", "function"),
    [
        ("digits.c", "digits_predict"),
        ("my-net v2.c", "my_net_v2_predict"),
        ("7segments.c", "model_7segments_predict"),
        ("größe.c", "gr__e_predict"),
        ("_.c", "model_predict"),
        ("int.c", "int_predict"),
    ],
)
def test_names_are_identifiers(file, function, tmp_path):
    export = mlp_of(2, 1).export_c(tmp_path / file)
    assert export.function == function
    assert f"void {function}(const float *x, float *y)" in export.path.read_text()


class Injection(fm.activations.Identity):
    """An activation with a name that wants out of the comment."""

    name = '*/ int main; /* \\\n ??/ "é'


@needs_compiler
def test_nothing_gets_out_of_the_comment(tmp_path):
    model = fm.Sequential(
        [fm.Dense(2, Injection(), initializer="normal"), fm.Dense(1)], input_size=2
    )
    text = model.export_c(tmp_path / "m.c").path.read_text(encoding="ascii")
    assert text.count("/*") == text.count("*/") == 2  # the first, and the one of dense
    compiled(tmp_path / "m.c")


def nan_bias(model):
    model.parameters["0.bias"][...] = np.nan


class Unknown(fm.activations.Activation):
    name = "unknown"

    def forward(self, z):
        return np.asarray(z)

    def derivative(self, z, a):
        return np.ones_like(a)


BAD = {
    "a name that is none": ({"name": "a b"}, ValueError, "C identifier"),
    "a name with code": ({"name": "a; int b"}, ValueError, "C identifier"),
    "a name of bytes": ({"name": b"a"}, TypeError, "name must be a string"),
    "int8 a number": ({"int8": 1}, TypeError, "int8 must be True or False"),
    "x too narrow": ({"int8": True, "x": np.ones((3, 2))}, ValueError, "3 inputs"),
    "x not finite": ({"int8": True, "x": np.full((1, 3), np.nan)}, ValueError, "finite"),
}


@pytest.mark.parametrize(("settings", "exception", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_write_nothing(settings, exception, message, tmp_path):
    with pytest.raises(exception, match=message):
        mlp_of(3, 2).export_c(tmp_path / "m.c", **settings)
    assert not list(tmp_path.iterdir())


def test_bad_models_write_nothing(tmp_path):
    model = mlp_of(3, 2)
    nan_bias(model)
    for bad, message in (
        (model, "finite; 0.bias is not"),
        (fm.Sequential([fm.Dense(2)]), "sizes of the model are not known"),
        (
            fm.Sequential([fm.Dense(2, Unknown(), initializer="normal")], input_size=2),
            "has no form in C",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            bad.export_c(tmp_path / "m.c")
    assert not list(tmp_path.iterdir())


# --- the tables are whole -------------------------------------------------------------------------


def test_every_forward_operation_has_a_row():
    needed = {"dense", "activation", "softmax"}
    for stack in cases.LAYERS.values():
        model = fm.Sequential(stack(), input_size=5)
        needed |= {step.op for step in plan.build(model, 1).forward}
    assert set(c_export.OPS) == set(onnx_export.OPS) == needed


def test_every_opcode_has_a_row():
    assert set(programs.OPCODES) == set(OPCODES) - {"arg", "const"}


def test_every_activation_says_what_it_is_elsewhere():
    for kind in fm.activations.ACTIVATIONS.values():
        assert kind.c_code or kind.rowwise
        assert kind.to_onnx is not fm.activations.Activation.to_onnx
        assert kind.counterparts.torch
        assert kind.counterparts.keras_function
