"""Models: sizes, names, live arrays, freezing, copies, plain data, what they look like."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import weakref

import numpy as np
import pytest

import cases
import fastmlp as fm
from small import weights_of

X = cases.inputs(20, 4)
Y = cases.targets("real", 20, 3)


# --- sizes and names ---


def test_an_mlp_is_dense_layers():
    model = fm.MLP([4, 5, 6, 3], activation="tanh", output_activation="sigmoid")
    assert [layer.units for layer in model.layers] == [5, 6, 3]
    assert [layer.activation.name for layer in model.layers] == ["tanh", "tanh", "sigmoid"]
    assert (model.input_size, model.output_size) == (4, 3)
    assert model.output_activation == "sigmoid"
    assert model.parameter_count == 4 * 5 + 5 + 5 * 6 + 6 + 6 * 3 + 3


def test_parameters_are_named_by_layer():
    model = fm.Sequential([fm.Standardize(), fm.Dense(5, bias=False), fm.Dense(3)], input_size=4)
    assert list(model.parameters) == ["1.weight", "2.weight", "2.bias"]
    assert {name: array.shape for name, array in model.parameters.items()} == {
        "1.weight": (4, 5),
        "2.weight": (5, 3),
        "2.bias": (3,),
    }
    assert list(model.states) == ["0.mean", "0.scale"]
    flat = np.concatenate([array.ravel() for array in model.parameters.values()])
    np.testing.assert_array_equal(model.flat_parameters.array(), flat)


@pytest.mark.parametrize(
    "show",
    [
        lambda model: model.predict(X),
        lambda model: model.forward(X),
        lambda model: model.evaluate(X, Y),
        lambda model: model.fit(X, Y),
        lambda model: fm.Trainer(model).step(X, Y),
        lambda model: fm.Trainer(model).epoch(X, Y),
        lambda model: model.adapt(X),
        lambda model: model.build(4),
    ],
)
def test_sizes_are_inferred_from_the_first_data(show):
    model = fm.Sequential([fm.Dense(5, "relu"), fm.Dense(3)], seed=2)
    assert model.input_size is None
    assert model.output_size is None
    with pytest.raises(ValueError, match="sizes of the model are not known yet"):
        model.parameters  # noqa: B018
    show(model)
    assert (model.input_size, model.output_size) == (4, 3)
    model.build(4)
    with pytest.raises(ValueError, match="the model has 4 inputs; got 5"):
        model.build(5)


def test_sizes_given_or_inferred_give_the_same_parameters():
    given = fm.MLP([4, 5, 3], seed=2)
    inferred = fm.Sequential([fm.Dense(5, "relu"), fm.Dense(3)], seed=2)
    inferred.build(4)
    np.testing.assert_array_equal(weights_of(given), weights_of(inferred))


def test_one_layer_more_leaves_the_first_values_of_the_others():
    short = fm.MLP([4, 5, 3], activation="identity", seed=2)
    long = fm.MLP([4, 5, 3, 7], activation="identity", seed=2)
    for name, array in short.parameters.items():
        np.testing.assert_array_equal(long.parameters[name], array)
    assert not np.array_equal(weights_of(short), weights_of(fm.MLP([4, 5, 3], seed=3)))


def test_both_precisions_start_at_the_same_values():
    single, double = fm.MLP([4, 5, 3], seed=2), fm.MLP([4, 5, 3], dtype="float64", seed=2)
    np.testing.assert_array_equal(weights_of(single), weights_of(double).astype(np.float32))


def test_initializers_may_be_functions():
    seen = []

    def ramp(shape, rng):
        seen.append((shape, type(rng)))
        return np.arange(np.prod(shape)).reshape(shape)

    model = fm.Sequential(
        [fm.Dense(3, initializer=ramp, bias_initializer="ones")], input_size=2, dtype="float64"
    )
    np.testing.assert_array_equal(model.parameters["0.weight"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(model.parameters["0.bias"], [1, 1, 1])
    assert seen == [((2, 3), np.random.Generator)]


def test_an_initializer_that_fails_leaves_the_layer_free():
    calls = []

    def flaky(shape, rng):
        calls.append(shape)
        if len(calls) == 1:
            raise RuntimeError("not yet")
        return np.ones(shape)

    layer = fm.Dense(3, initializer=flaky)
    with pytest.raises(RuntimeError, match="not yet"):
        fm.Sequential([layer], input_size=2)
    assert fm.Sequential([layer], input_size=2).parameter_count == 9


# --- live arrays ---


def test_parameters_are_live_at_call_boundaries(backend, dtype):
    model = fm.MLP([4, 5, 3], dtype=dtype, seed=1)
    weight, bias = model.parameters["0.weight"], model.parameters["1.bias"]
    trainer = fm.Trainer(model, batch_size=5, backend=backend)
    for _ in range(3):
        before = weight.copy(), bias.copy()
        trainer.epoch(X, Y)
        # What a call computed is seen in arrays that were taken before it …
        assert not np.array_equal(weight, before[0])
        assert not np.array_equal(bias, before[1])
        np.testing.assert_array_equal(weight, model.parameters["0.weight"])
    # … and what is written into them is used by the next call.
    weight[...] = 0
    bias[...] = [1, 2, 3]
    model.parameters["1.weight"][...] = 0
    np.testing.assert_array_equal(model.predict(X, backend=backend), [[1, 2, 3]] * 20)
    np.testing.assert_array_equal(model.forward(X, backend=backend), [[1, 2, 3]] * 20)
    still = fm.Trainer(model, optimizer=fm.SGD(lr=0.0), backend=backend)
    still.epoch(X, Y)
    np.testing.assert_array_equal(bias, [1, 2, 3])


def test_an_array_may_be_written_long_after_it_was_taken(backend):
    model = fm.MLP([4, 5, 3], seed=1)
    bias = model.parameters["1.bias"]
    for value in range(3):
        model.predict(X, backend=backend)
        bias += value
        moved = model.predict(X, backend=backend)
        bias -= value
        np.testing.assert_allclose(
            moved - model.predict(X, backend=backend), value, rtol=0, atol=1e-5
        )


def test_nobody_holds_an_array_after_a_call(backend):
    model = fm.MLP([4, 5, 3], seed=1)
    optimizer = fm.Adam()
    model.fit(X, Y, optimizer=optimizer, epochs=2, validation_data=(X, Y), backend=backend)
    model.predict(X, backend=backend)
    model.backward(model.forward(X, backend=backend))
    slots = optimizer.state_for(model).slots
    vectors = [model.flat_parameters, model.flat_gradients, model.flat_states, *slots]
    assert [vector.exports for vector in vectors] == [0] * len(vectors)
    view = model.parameters["0.weight"][1:, ::2]
    assert model.flat_parameters.exports == 1
    del view
    assert model.flat_parameters.exports == 0


def test_assigning_copies_into_place(backend):
    model = fm.MLP([4, 5, 3], seed=1)
    values = np.arange(3.0)
    live = model.parameters["1.bias"]
    model.parameters["1.bias"] = values
    values[:] = 9
    np.testing.assert_array_equal(live, [0, 1, 2])
    model.parameters["1.weight"] = np.zeros((5, 3), int)
    np.testing.assert_array_equal(model.predict(X, backend=backend), [[0, 1, 2]] * 20)


def test_backward_overwrites_gradients_and_training_does_not(backend):
    model = fm.MLP([4, 5, 3], seed=1)
    assert not any(array.any() for array in model.gradients.values())
    y = model.forward(X, backend=backend)
    for _ in range(2):
        grad_x = model.backward(np.ones_like(y))
        first = model.gradients["0.weight"].copy()
        assert grad_x.shape == X.shape
    model.backward(np.ones_like(y))
    np.testing.assert_array_equal(model.gradients["0.weight"], first)
    assert model.backward(np.ones_like(y), input_gradient=False) is None
    np.testing.assert_array_equal(model.gradients["0.weight"], first)
    model.fit(X, Y, backend=backend)
    np.testing.assert_array_equal(model.gradients["0.weight"], first)


def test_gradients_of_frozen_layers_are_zero(backend):
    model = fm.MLP([4, 5, 3], seed=1)
    model.backward(np.ones_like(model.forward(X, backend=backend)))
    model.freeze(0)
    model.backward(np.ones_like(model.forward(X, backend=backend)))
    assert not model.gradients["0.weight"].any()
    assert model.gradients["1.weight"].any()


def test_backward_after_a_change_of_the_layers_needs_a_new_forward(backend):
    model = fm.MLP([4, 5, 3], seed=1)
    y = model.forward(X, backend=backend)
    model.freeze(1)
    with pytest.raises(RuntimeError, match="call forward"):
        model.backward(y)


# --- freezing ---


def test_trainable_slices_are_joined():
    model = fm.MLP([4, 5, 6, 3])
    sizes = [4 * 5 + 5, 5 * 6 + 6, 6 * 3 + 3]
    assert model.trainable_slices() == [slice(0, sum(sizes))]
    model.freeze(1)
    assert model.trainable_slices() == [slice(0, sizes[0]), slice(sum(sizes[:2]), sum(sizes))]
    model.freeze(0, -1)
    assert model.trainable_slices() == []
    model.unfreeze(model.layers[1])
    assert model.trainable_slices() == [slice(sizes[0], sum(sizes[:2]))]
    model.unfreeze()
    assert model.trainable_slices() == [slice(0, sum(sizes))]
    with pytest.raises(ValueError, match="not in this model"):
        model.freeze(fm.Dense(3))


def test_a_layer_can_be_frozen_before_it_has_a_size():
    model = fm.Sequential([fm.Dense(5, "relu"), fm.Dense(3)])
    model.layers[0].trainable = False
    model.build(4)
    before = model.parameters["0.weight"].copy()
    model.fit(X, Y)
    np.testing.assert_array_equal(model.parameters["0.weight"], before)
    with pytest.raises(TypeError, match="trainable must be True or False"):
        model.layers[0].trainable = 1


# --- copies and plain data ---


def trained():
    model = fm.Sequential(
        [fm.Standardize(), fm.Dense(5, fm.activations.ELU(0.5)), fm.Dense(3, bias=False)], seed=3
    )
    model.fit(X, Y, epochs=2)
    model.freeze(1)
    return model


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: copy.deepcopy([model, model])[1],
    ],
    ids=["copy", "deepcopy", "pickle", "in a list"],
)
def test_copies_are_equal_and_independent(duplicate):
    model = trained()
    twin = duplicate(model)
    assert type(twin) is type(model)
    assert repr(twin) == repr(model)
    assert twin.config() == model.config()
    assert twin.trainable_slices() == model.trainable_slices()
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
    before = model.predict(X)
    twin.fit(X, Y, optimizer=fm.SGD(lr=0.1))
    assert not np.array_equal(twin.predict(X), before)
    np.testing.assert_array_equal(model.predict(X), before)
    twin.unfreeze(1)
    assert not model.layers[1].trainable


def test_copies_of_a_model_without_sizes():
    model = fm.Sequential([fm.Dense(3)], seed=5)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.input_size is None
        np.testing.assert_array_equal(twin.predict(X), fm.MLP([4, 3], seed=5).predict(X))


def test_an_mlp_stays_one():
    assert isinstance(copy.deepcopy(fm.MLP([4, 3])), fm.MLP)


class Noted(fm.Sequential):
    def __init__(self, layers):
        super().__init__(layers, input_size=4, seed=0)
        self.notes = ["mine"]


@pytest.mark.parametrize(
    "twin_of",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), lambda m: m.astype("float64")],
    ids=["deepcopy", "pickle", "astype"],
)
def test_copies_have_the_attributes_of_a_subclass(twin_of):
    model = Noted([fm.Dense(3)])
    model.predict(X)
    twin = twin_of(model)
    assert twin.notes == ["mine"]
    assert twin.notes is not model.notes


def test_a_layer_can_be_copied_into_another_model():
    model = trained()
    layer = copy.deepcopy(model.layers[1])
    other = fm.Sequential([layer, fm.Dense(1)], input_size=7)
    assert other.parameters["0.weight"].shape == (7, 5)
    assert model.parameters["1.weight"].shape == (4, 5)


def test_the_optimizer_of_a_model_that_is_gone_forgets_it():
    model, optimizer = fm.MLP([4, 3]), fm.Adam()
    model.fit(X, Y, optimizer=optimizer)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert not optimizer._states


def test_config_is_plain_data_and_makes_the_same_model():
    model = trained()
    config = json.loads(json.dumps(model.config()))
    twin = fm.Sequential.from_config(config)
    assert twin.config() == model.config()
    assert repr(twin) == repr(model)
    assert not twin.layers[1].trainable
    assert not twin.needs_data
    fresh = fm.Sequential(
        [fm.Dense(5, "tanh", initializer="ones"), fm.Dense(3)], input_size=4, seed=8
    )
    redrawn = fm.Sequential.from_config(fresh.config())
    np.testing.assert_array_equal(weights_of(redrawn), weights_of(fresh))


def test_config_leaves_out_functions():
    model = fm.Sequential(
        [fm.Dense(3, initializer=lambda shape, rng: np.ones(shape))], input_size=4
    )
    (layer,) = json.loads(json.dumps(model.config()))["layers"]
    assert "initializer" not in layer


@pytest.mark.parametrize(
    ("change", "exception", "message"),
    [
        ({"class": "Sequentail"}, ValueError, "Sequential"),
        ({"layers": None}, TypeError, "layers must be a list"),
        ({"layers": [{"class": "Dens", "units": 3}]}, ValueError, "did you mean 'Dense'"),
        ({"layers": [{"class": "Dense", "unit": 3}]}, ValueError, "did you mean 'units'"),
        ({"layers": [{"units": 3}]}, TypeError, "with a 'class'"),
        ({"layers": [3]}, TypeError, "with a 'class'"),
        ({"layers": [{"class": "Dense", "units": 3, "trainable": 0}]}, TypeError, "trainable"),
        ({"depth": 3}, ValueError, "setting of Sequential"),
        ({"dtype": "float16"}, ValueError, "dtype"),
    ],
)
def test_damaged_configs_are_refused(change, exception, message):
    config = {**fm.MLP([4, 3]).config(), **change}
    with pytest.raises(exception, match=message):
        fm.Sequential.from_config(config)


def test_astype_converts_everything():
    model = trained()
    double = model.astype("float64")
    assert double.dtype == np.float64
    assert double.parameters["1.weight"].dtype == np.float64
    np.testing.assert_array_equal(weights_of(double), weights_of(model).astype(np.float64))
    np.testing.assert_allclose(double.predict(X), model.predict(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(double.astype(np.float32).predict(X), model.predict(X))


def test_save_and_load(tmp_path):
    model = trained()
    model.save(tmp_path / "m.safetensors")
    twin = fm.load(tmp_path / "m.safetensors")
    assert twin.config() == model.config()
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
    with pytest.raises(ValueError, match="sizes of the model are not known"):
        fm.Sequential([fm.Dense(3)]).save(tmp_path / "n.safetensors")


# --- Standardize ---


def test_standardize_learns_at_the_first_fit_and_not_again(backend):
    model = fm.Sequential([fm.Standardize(), fm.Dense(3)], dtype="float64")
    x = X * [1, 10, 100, 0] + [0, 5, -3, 7]
    model.fit(x, Y, backend=backend)
    np.testing.assert_allclose(model.states["0.mean"], x.mean(axis=0), rtol=1e-12, atol=1e-15)
    scale = x.std(axis=0)
    scale[3] = 1.0
    np.testing.assert_allclose(model.states["0.scale"], scale, rtol=1e-12)
    model.fit(x * 50, Y, backend=backend)
    np.testing.assert_allclose(model.states["0.scale"], scale, rtol=1e-12)
    model.adapt(x * 50)
    np.testing.assert_allclose(model.states["0.scale"][0], 50 * scale[0], rtol=1e-12)


@pytest.mark.parametrize("largest", [1e160, 1.7e308])
def test_a_variance_beyond_float64_is_refused(largest):
    model = fm.Sequential([fm.Standardize(), fm.Dense(3)], dtype="float64", seed=0)
    x = np.where(X > 0, 1.0, [1.0, 1.0, -largest / 1e8, -largest])
    x[0, 3] = largest
    for learn in (model.adapt, lambda x: model.fit(x, Y)):
        with pytest.raises(ValueError, match=r"variance of column [23] is beyond float64"):
            learn(x)
    np.testing.assert_array_equal(model.states["0.scale"], 1)
    np.testing.assert_array_equal(model.states["0.mean"], 0)
    model.fit(X, Y)  # it learns from the first data that can be learned from
    np.testing.assert_allclose(model.states["0.scale"], X.std(axis=0, dtype="f8"), rtol=1e-12)


def test_standardized_inputs_have_mean_zero_and_deviation_one(backend):
    identity = fm.Dense(4, bias=False, initializer=lambda shape, rng: np.eye(4))
    model = fm.Sequential([fm.Standardize(), identity], dtype="float64")
    x = cases.inputs(1000, 4) * 3 + 40
    model.adapt(x)
    y = model.predict(x, backend=backend)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-12)


def test_moments_of_many_rows_in_chunks():
    from fastmlp.sources import Moments

    x = np.random.default_rng(0).normal(1e6, 1e-3, (70_000, 7))
    x[:, 3] = 0.1
    moments = Moments(7)
    for part in np.array_split(x, [1, 2, 50, 40_000]):
        moments.add(part)
    shifted = x - x[0]
    np.testing.assert_allclose(moments.mean, x[0] + shifted.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(moments.deviation, shifted.std(axis=0), rtol=1e-10)
    assert moments.deviation[3] == 0.0


# --- what it looks like ---


def test_repr_makes_the_model_again():
    model = fm.Sequential(
        [
            fm.Standardize(),
            fm.Dense(5, fm.activations.LeakyReLU(0.2), initializer="glorot_normal"),
            fm.Dense(3, bias=False),
        ],
        input_size=4,
        dtype="float64",
        seed=7,
    )
    names = {**vars(fm.activations), **vars(fm), "Standardize": fm.Standardize}
    assert eval(repr(model), names).config() == model.config()


def test_summary_is_a_table(capsys):
    model = fm.Sequential([fm.Dense(128, "relu"), fm.Dense(10)])
    model.summary()
    assert "?" in capsys.readouterr().out
    model.build(784)
    model.freeze(0)
    model.summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "output", "parameters"]
    assert lines[1].split() == ["0", "Dense(128,", "'relu')", "128", "100,480", "frozen"]
    assert lines[2].split() == ["1", "Dense(10,", "'identity')", "10", "1,290"]
    assert lines[3] == "inputs: 784, parameters: 101,770 of float32"


# --- prediction and evaluation ---


def test_predictions_of_any_number_of_rows_agree(backend, dtype):
    model = fm.MLP([4, 9, 3], activation="tanh", dtype=dtype, seed=1)
    x = cases.inputs(2100, 4)
    whole = model.predict(x, backend=backend)
    np.testing.assert_allclose(
        model.forward(x, backend=backend), whole, rtol=0, atol=32 * np.finfo(dtype).eps
    )
    for rows in (1, 2, 7, 64, 1025):
        part = model.predict(x[:rows], backend=backend)
        np.testing.assert_allclose(part, whole[:rows], rtol=0, atol=32 * np.finfo(dtype).eps)


def test_one_row_again_and_again(backend):
    model = fm.MLP([4, 9, 3], seed=1)
    whole = model.predict(X, backend=backend)
    for _ in range(3):
        for row in range(20):
            np.testing.assert_allclose(
                model.predict(X[row : row + 1], backend=backend)[0], whole[row], atol=1e-6
            )
    for form in (X[3:4].astype(np.float64), X[3:4].tolist(), np.asfortranarray(X[3:4])):
        np.testing.assert_allclose(model.predict(form, backend=backend)[0], whole[3], atol=1e-6)
    model.fit(X, Y, backend=backend)
    moved = model.predict(X[:1], backend=backend)
    np.testing.assert_allclose(moved, model.predict(X, backend=backend)[:1], atol=1e-6)
    assert not np.allclose(moved, whole[:1], atol=1e-6)
    with pytest.raises(ValueError, match="the model has 4 inputs"):
        model.predict(X[:1, :3], backend=backend)


def test_predictions_are_new_arrays(backend):
    model = fm.MLP([4, 3], seed=1)
    results = [model.predict(X[:1], backend=backend) for _ in range(4)]
    assert len({array.ctypes.data for array in results}) == 4
    results[0][...] = 9
    assert (results[1] != 9).all()


def test_evaluate_returns_loss_and_metrics(backend):
    model = fm.MLP([4, 3], dtype="float64", seed=1)
    y_hat = model.predict(X, backend=backend)
    values = model.evaluate(X, Y, "quadratic", ["mae", fm.metrics.get("rmse")], backend=backend)
    assert list(values) == ["loss", "mae", "rmse"]
    assert values["loss"] == pytest.approx(((y_hat - Y) ** 2).sum() / 40)
    assert values["mae"] == pytest.approx(np.abs(y_hat - Y).mean())
    assert all(type(value) is float for value in values.values())
