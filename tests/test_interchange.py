"""Arrays in and out: DLPack, the buffer protocol, tensors and data frames, without copies."""

from __future__ import annotations

import array

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.sources import as_real_array

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(12, 3)).astype("float32")


def model():
    return fm.MLP([4, 5, 3], seed=1)


def address(values):
    return values.__array_interface__["data"][0]


class Capsule:
    """What has DLPack and nothing else."""

    def __init__(self, values, device=None):
        self._values = values
        self._device = device

    def __dlpack__(self, **settings):
        return self._values.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self._device or self._values.__dlpack_device__()


def check_training(x, y):
    """Train on x and y in each way, and on the arrays X and Y, to the same bits."""
    results = []
    for inputs, targets in ((x, y), (X, Y)):
        one, two = model(), model()
        history = one.fit(
            inputs, targets, batch_size=5, epochs=2, validation_data=(inputs, targets)
        )
        trainer = fm.Trainer(two, batch_size=5)
        loss = trainer.epoch(inputs, targets), trainer.step(inputs, targets)
        score = two.evaluate(inputs, targets)
        results.append([one.predict(inputs), one.forward(inputs), history.history, loss, score])
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_equal(actual, expected)


# --- in -------------------------------------------------------------------------------------------


def test_dlpack_alone_is_read_where_it_lies():
    assert address(as_real_array("x", Capsule(X))) == address(X)
    check_training(Capsule(X), Capsule(Y))


def test_buffers_are_read_where_they_lie():
    values = array.array("d", range(12))
    view = memoryview(values).cast("B").cast("d", (3, 4))
    assert address(as_real_array("x", view)) == values.buffer_info()[0]
    check_training(memoryview(X), memoryview(Y))


@pytest.mark.parametrize(("device", "name"), [(2, "CUDA"), (8, "Metal"), (99, "number 99")])
def test_other_devices_are_refused(device, name):
    with pytest.raises(TypeError, match=rf"memory of the CPU; .* {name}.* x\.cpu\(\)"):
        model().predict(Capsule(X, (device, 0)))
    with pytest.raises(TypeError, match=r"y must be in the memory of the CPU"):
        model().fit(X, Capsule(Y, (device, 0)))


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    x, y = torch.from_numpy(X.copy()), torch.from_numpy(Y.copy())
    assert address(as_real_array("x", x)) == x.data_ptr()
    transposed = torch.from_numpy(X.T.copy()).t()
    assert address(as_real_array("x", transposed)) == transposed.data_ptr()
    check_training(x, y)
    check_training(transposed, y)
    np.testing.assert_array_equal(model().predict(x.half()), model().predict(X.astype("float16")))
    labels = torch.arange(12) % 3
    assert model().fit(x, labels, loss="cross_entropy").history["loss"][0] > 0


def test_torch_tensors_that_cannot_be_read():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(X.copy())
    for bad, message in (
        (x.clone().requires_grad_(), r"x is a Tensor that requires grad.* give x\.detach\(\)"),
        (torch.nn.Parameter(x), r"x is a Parameter that requires grad"),
        (x.bfloat16(), "x cannot be read as an array: .*BFloat16"),
        (x.to_sparse(), "x cannot be read as an array: .*to_dense"),
        (x.to("meta"), "x cannot be read as an array: .*meta"),
        (x.to(torch.complex64), "x must hold real numbers"),
    ):
        with pytest.raises(TypeError, match=message):
            model().fit(bad, Y)
    with pytest.raises(TypeError, match="y is a Tensor that requires grad"):
        model().fit(X, torch.from_numpy(Y.copy()).requires_grad_())
    assert model().predict(x.clone().requires_grad_().detach()).shape == (12, 3)


def test_jax_arrays():
    jnp = pytest.importorskip("jax.numpy")
    x, y = jnp.asarray(X), jnp.asarray(Y)
    assert address(as_real_array("x", x)) == x.unsafe_buffer_pointer()
    check_training(x, y)
    with pytest.raises(TypeError, match=r"x must hold real numbers .*bfloat16"):
        model().predict(x.astype("bfloat16"))


def test_pandas_frames():
    pandas = pytest.importorskip("pandas")
    x, y = pandas.DataFrame(X, columns=list("abcd")), pandas.DataFrame(Y)
    assert np.shares_memory(as_real_array("x", x), x.to_numpy())
    check_training(x, y)
    mixed = pandas.DataFrame({"a": [1, 2], "b": [True, False], "c": [0.5, 1.5], "d": [3, 4]})
    expected = model().predict(mixed.astype("float64").to_numpy())
    np.testing.assert_array_equal(model().predict(mixed), expected)
    np.testing.assert_array_equal(model().predict(mixed.convert_dtypes()), expected)
    series = pandas.Series(np.arange(12) % 3, dtype="Int64")
    assert model().fit(x, series, loss="cross_entropy").history["loss"][0] > 0
    mixed["b"], mixed["d"] = ["yes", "no"], pandas.Categorical(["u", "v"])
    with pytest.raises(TypeError, match=r"do not hold numbers: 'b' \(.*\), 'd' \(category\); enc"):
        model().predict(mixed)
    lacking = x.convert_dtypes()
    lacking.iloc[3, 1] = pandas.NA
    with pytest.raises(ValueError, match=r"x must be finite; x\[3, 1\] is nan"):
        model().fit(lacking, Y)
    twice = pandas.DataFrame([[1, True, 2.0, 3]], columns=["a", "a", "b", "b"])
    assert as_real_array("x", twice).tolist() == [[1.0, 1.0, 2.0, 3.0]]


def test_polars_frames():
    polars = pytest.importorskip("polars")
    check_training(polars.DataFrame(X), polars.DataFrame(Y))
    mixed = polars.DataFrame({"a": [1, 2], "b": [True, False], "c": [0.5, 1.5], "d": [3, 4]})
    expected = [[1.0, 1.0, 0.5, 3.0], [2.0, 0.0, 1.5, 4.0]]
    np.testing.assert_array_equal(as_real_array("x", mixed), expected)
    with pytest.raises(TypeError, match=r"do not hold numbers: 'b' \(String\); encode"):
        model().predict(mixed.with_columns(b=polars.Series(["yes", "no"])))
    with pytest.raises(ValueError, match=r"x must be finite; x\[0, 0\] is nan"):
        model().fit(mixed.with_columns(a=polars.Series([None, 1])), Y[:2])


# --- out ------------------------------------------------------------------------------------------


def test_parameters_are_shared_with_numpy_and_memoryview():
    trained = model()
    weight = trained.parameters["0.weight"]
    for taken in (np.from_dlpack(weight), np.asarray(memoryview(weight))):
        assert address(taken) == address(weight)
        before = trained.predict(X)
        taken[...] *= 2
        assert not np.array_equal(trained.predict(X), before)
        trained.fit(X, Y)
        np.testing.assert_array_equal(taken, trained.parameters["0.weight"])


def test_parameters_are_shared_with_torch(dtype):
    torch = pytest.importorskip("torch")
    trained = fm.MLP([4, 5, 3], dtype=dtype, seed=1)
    tensors = {name: torch.from_dlpack(trained.parameters[name]) for name in trained.parameters}
    assert tensors["0.weight"].data_ptr() == address(trained.parameters["0.weight"])
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.mul_(0.5)
    expected = fm.MLP([4, 5, 3], dtype=dtype, seed=1)
    expected.flat_parameters.array()[...] *= 0.5
    np.testing.assert_array_equal(trained.predict(X), expected.predict(X))
    trained.fit(X, Y, epochs=2)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.numpy(), trained.parameters[name])
    del trained  # the memory lives as long as somebody looks at it
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
