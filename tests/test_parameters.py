"""Flat vectors and the named views of them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from fastmlp import _native
from fastmlp.parameters import FlatVector, Parameters, ParameterSpec, place

SPECS = [
    ParameterSpec("a", (2, 3), "zeros"),
    ParameterSpec("b", (4,), "zeros", decay=False),
    ParameterSpec("c", (0,), "zeros"),
]


def test_place_puts_one_behind_the_other():
    placed = place(SPECS, np.dtype("f4"))
    assert [(spec.name, spec.offset, spec.size) for spec in placed] == [
        ("a", 0, 6),
        ("b", 6, 4),
        ("c", 10, 0),
    ]
    assert [spec.matrix_shape for spec in placed] == [(2, 3), (1, 4), (1, 0)]
    with pytest.raises(ValueError, match="1 or 2 dimensions"):
        _ = ParameterSpec("d", (1, 2, 3), "zeros").matrix_shape
    with pytest.raises(ValueError, match=r"sizes overflow: the parameters up to e \(1073741824"):
        place([ParameterSpec("e", (2**30, 2**30), "zeros")], np.dtype("f4"))


@pytest.mark.parametrize("size", [0, 1, 17])
def test_a_vector_is_zeroed_aligned_and_counts_its_arrays(size, dtype):
    vector = FlatVector(size, dtype)
    assert len(vector) == size
    assert vector.exports == 0
    first, second = vector.array(), vector.view(0, (size,))
    assert vector.exports == 2
    assert first.shape == second.shape == (size,)
    assert first.dtype == dtype
    assert not first.any()
    assert first.ctypes.data % 64 == 0
    part = first[:1]
    del first, second
    assert vector.exports == 1
    del part
    assert vector.exports == 0
    assert repr(vector) == f"FlatVector({size}, '{dtype}')"


def test_whoever_has_newer_values_is_asked_first():
    vector = FlatVector(3, "f4")

    class Resident:
        pulled = 0

        def pull(self):
            self.pulled += 1

    vector.touched = False
    vector.resident = Resident()
    vector.array()
    vector.view(1, (2, 1))
    assert vector.resident.pulled == 2
    assert vector.touched


def test_parameters_are_a_mapping_of_live_views():
    vector = FlatVector(10, "f8")
    parameters = Parameters(place(SPECS, vector.dtype), vector)
    assert parameters.names == tuple(parameters) == ("a", "b", "c")
    assert len(parameters) == 3
    assert "a" in parameters
    assert "d" not in parameters
    assert [spec.offset for spec in parameters.specs] == [0, 6, 10]
    view = parameters["a"]
    parameters["b"] = [1, 2, 3, 4]
    view[1, 2] = 7
    np.testing.assert_array_equal(vector.array(), [0, 0, 0, 0, 0, 7, 1, 2, 3, 4])
    with pytest.raises(KeyError, match="no parameter 'd'; there are a, b, c"):
        parameters["d"]
    assert repr(parameters) == "3 arrays of float64:\n  a: (2, 3)\n  b: (4,)\n  c: (0,)"


def test_values_are_kept_and_put_back():
    vector = FlatVector(10, "f8")
    parameters = Parameters(place(SPECS, vector.dtype), vector)
    parameters["b"] = [1, 2, 3, 4]
    kept = [parameters.copy(), copy.deepcopy(parameters), pickle.loads(pickle.dumps(parameters))]
    parameters["b"] = [0, 0, 0, 0]
    for values in kept:
        assert type(values) is dict
        assert list(values) == ["a", "b", "c"]
        np.testing.assert_array_equal(values["b"], [1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"b has shape \(4,\)"):
        parameters.update({"a": np.ones((2, 3)), "b": [1]})
    with pytest.raises(TypeError, match="values must be a mapping"):
        parameters.update([("b", [1, 2, 3, 4])])
    assert not vector.array().any()
    parameters.update({"b": kept[0]["b"]})
    np.testing.assert_array_equal(vector.array(), [0] * 6 + [1, 2, 3, 4])
    other = Parameters(parameters.specs, FlatVector(10, "f4"))
    other.update(parameters)
    np.testing.assert_array_equal(other["b"], [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("name", "values", "exception", "message"),
    [
        ("d", [1], ValueError, "parameter name must be one of"),
        ("b", [1, 2], ValueError, r"b has shape \(4,\); got an array of shape \(2,\)"),
        ("b", 1.0, ValueError, r"got an array of shape \(\)"),
        ("b", ["x"] * 4, TypeError, "real numbers"),
        ("b", [1, 2, 3, np.nan], ValueError, "must be finite as float32"),
        ("b", [1, 2, 3, 1e39], ValueError, "must be finite as float32"),
    ],
)
def test_wrong_values_are_refused(name, values, exception, message):
    vector = FlatVector(10, "f4")
    parameters = Parameters(place(SPECS, vector.dtype), vector)
    with pytest.raises(exception, match=message):
        parameters[name] = values
    assert not vector.array().any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 16, 1000])
def test_one_number_that_is_not_finite_is_found(dtype, n):
    dtype = np.dtype(dtype)
    bits, buffer = 8 * dtype.itemsize, _native.Buffer(n * dtype.itemsize)
    values = np.frombuffer(buffer, dtype)
    values[:] = np.finfo(dtype).max
    values[::2] = -np.finfo(dtype).smallest_subnormal
    assert _native.all_finite(bits, buffer)
    for at in {0, n // 2, n - 1}:
        for bad in (np.inf, -np.inf, np.nan, -np.nan):
            before, values[at] = values[at], bad
            assert not _native.all_finite(bits, buffer)
            values[at] = before
    assert _native.all_finite(bits, buffer)
