"""Plans: the backward pass that is derived, what is left out of it, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp import losses, optimizers, plan
from fastmlp.backends import reference
from fastmlp.layers import Layer
from fastmlp.plan import PlanBuilder, build

MSE = losses.get("mse")


def ops(steps):
    return [step.op for step in steps]


def test_the_steps_of_a_mini_batch():
    model = fm.MLP([4, 5, 3], activation="tanh", dtype="float64")
    steps = build(model, 7, loss=MSE, optimizer=optimizers.get("adam"), l2=0.1)
    assert ops(steps.forward) == ["dense", "activation", "dense"]
    assert ops(steps.loss) == ["loss"]
    assert ops(steps.backward) == [
        "dense_backward_params",
        "dense_backward_input",
        "activation_backward",
        "dense_backward_params",
    ]
    assert ops(steps.update) == ["penalty"] * 2 + ["update"] * 4
    assert [step.reads[0].name for step in steps.update[:2]] == ["0.weight", "1.weight"]
    assert steps.steps == steps.forward + steps.loss + steps.backward + steps.update
    assert (steps.batch, steps.dtype, steps.training) == (7, np.float64, False)
    assert steps.output.shape == steps.target.shape == (7, 3)
    assert steps.row_loss.shape == (7, 1)
    assert steps.sample_weight is None
    assert steps.input_gradient is None
    assert list(steps.parameters) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert steps.parameters["0.bias"].shape == (1, 5)
    assert {name: grad.shape for name, grad in steps.parameter_gradients.items()} == {
        name: value.shape for name, value in steps.parameters.items()
    }
    assert [slot.name for slot in steps.slots["0.bias"]] == ["m(0.bias)", "v(0.bias)"]
    assert "0.a = activation(0.z) fn=Tanh()" in str(steps)


def test_what_surrounds_the_update():
    model = fm.MLP([4, 5, 3])
    around = {"l2": 0.1, "clip_value": 0.5, "clip_norm": 2.0, "average": True}
    steps = build(model, 7, loss=MSE, optimizer=optimizers.get("sgd"), **around)
    kinds = ["penalty", "clip_value", "clip_value"] * 2
    assert ops(steps.update) == [*kinds, "clip_norm", *["update"] * 4, *["average"] * 4]
    assert set(steps.update[6].writes) == set(steps.parameter_gradients.values())
    assert list(steps.averages) == list(steps.parameters)
    assert build(model, 7, loss=MSE, **around).update == ()


def test_every_value_is_written_once_and_before_it_is_read():
    for kinds in cases.ACTIVATIONS.values():
        model = cases.mlp(cases.SMALL, "tanh", kinds[0])
        steps = build(model, 4, loss=MSE, optimizer=fm.Adam(), l1=0.1, input_gradient=True)
        known = {steps.input, steps.target, *steps.parameters.values()}
        known.update(*steps.slots.values())
        names = set()
        for step in steps.steps:
            assert known.issuperset(step.reads)
            in_place = step.op in ("penalty", "update")
            assert known.isdisjoint(step.writes) or in_place
            known.update(step.writes)
        names = [value.name for value in known]
        assert len(set(names)) == len(names)


def test_parts_are_left_out_where_nobody_asks():
    model = fm.MLP([4, 5, 3])
    predicting = build(model, 2)
    assert ops(predicting.steps) == ["dense", "activation", "dense"]
    assert predicting.output_gradient is None
    evaluating = build(model, 2, loss=MSE, gradients=False)
    assert ops(evaluating.steps) == ["dense", "activation", "dense", "loss"]
    explicit = build(model, 2, gradients=True, input_gradient=True)
    assert explicit.loss == explicit.update == ()
    assert explicit.output_gradient is explicit.backward[0].reads[1]
    assert explicit.input_gradient is explicit.backward[-1].writes[0]


def test_frozen_layers_cut_the_backward_pass():
    model = fm.MLP([4, 5, 6, 3])
    model.freeze(0)
    steps = build(model, 2, loss=MSE, optimizer=fm.SGD())
    assert sorted(steps.parameter_gradients) == ["1.bias", "1.weight", "2.bias", "2.weight"]
    assert ops(steps.backward).count("dense_backward_input") == 1
    model.unfreeze(0)
    model.freeze(1, 2)
    steps = build(model, 2, loss=MSE, optimizer=fm.SGD())
    assert ops(steps.backward).count("dense_backward_input") == 2
    assert ops(steps.update) == ["update", "update"]
    model.freeze()
    assert build(model, 2, loss=MSE, optimizer=fm.SGD()).backward == ()


def test_standardize_needs_no_gradient_unless_the_input_does():
    model = fm.Sequential([fm.Standardize(), fm.Dense(3)], input_size=4)
    assert "standardize_backward" not in ops(build(model, 2, loss=MSE).backward)
    steps = build(model, 2, loss=MSE, input_gradient=True)
    assert ops(steps.backward)[-1] == "standardize_backward"
    assert steps.input_gradient.shape == (2, 4)
    assert list(steps.states) == ["0.mean", "0.scale"]


def test_a_loss_takes_the_place_of_its_activation():
    model = fm.MLP([4, 3], output_activation="softmax")
    steps = build(model, 2, loss=losses.get("cross_entropy"))
    assert ops(steps.forward) == ["dense"]
    assert steps.loss[0].attrs["loss"].from_logits
    assert ops(build(model, 2).forward) == ["dense", "softmax"]
    assert ops(build(model, 2, logits=True).forward) == ["dense"]


@pytest.mark.parametrize(("weight", "columns"), [("sample", 1), ("output", 3)])
def test_weights_of_samples_are_read_by_the_loss(weight, columns):
    steps = build(fm.MLP([4, 3]), 2, loss=MSE, sample_weight=weight)
    assert steps.sample_weight.shape == (2, columns)
    assert steps.loss[0].reads[2] is steps.sample_weight


def test_parameter_groups_are_in_the_updates():
    rule = fm.SGD(groups=[("*.bias", {"lr": 0.5})])
    steps = build(fm.MLP([4, 3]), 2, loss=MSE, optimizer=rule)
    found = {step.attrs["parameter"]: step.attrs["group"] for step in steps.update}
    assert found == {"0.weight": 0, "0.bias": 1}


# --- a layer that is composed of existing steps needs nothing but its forward pass ---


class Fork(Layer):
    """x -> tanh(W x) + sigmoid(W' x) + x: values that are read twice, and two ways that meet."""

    def __init__(self):
        super().__init__()
        self.left, self.right = fm.Dense(4, "tanh"), fm.Dense(4, "sigmoid")

    def build(self, input_size):
        super().build(input_size)
        self.left.build(input_size)
        self.right.build(input_size)

    def parameter_specs(self):
        from dataclasses import replace

        return [
            replace(spec, name=f"{name}.{spec.name}")
            for name, part in (("left", self.left), ("right", self.right))
            for spec in part.parameter_specs()
        ]

    def emit(self, b, x):
        with b.scope("left"):
            left = self.left.emit(b, x)
        with b.scope("right"):
            right = self.right.emit(b, x)
        return b.emit("add", b.emit("add", left, right, name="sum"), x, name="y")


def test_a_composed_layer_gets_its_gradient_derived():
    model = fm.Sequential([fm.Dense(4, "tanh"), Fork(), Fork(), fm.Dense(2)], input_size=3, seed=1)
    assert "1.left.weight" in model.parameters
    x, y = cases.inputs(5, 3), cases.targets("real", 5, 2)
    assert ops(build(model, 5, loss=MSE).steps).count("add") == 2 * (2 + 2)
    assert fm.check_gradients(model, x, y, backend="reference")
    losses = model.fit(x, y, epochs=20, backend="reference").history["loss"]
    assert losses[-1] < losses[0]


def test_a_value_that_is_added_to_itself_has_twice_the_gradient():
    class Double(Layer):
        def emit(self, b, x):
            return b.emit("add", x, x, name="y")

    model = fm.Sequential([Double()], input_size=3, dtype="float64")
    y = model.forward(np.ones((2, 3)), backend="reference")
    np.testing.assert_array_equal(y, 2)
    np.testing.assert_array_equal(model.backward(np.ones((2, 3))), 2)


def test_a_model_without_steps_hands_the_gradient_through():
    class Same(Layer):
        def emit(self, b, x):
            return x

    model = fm.Sequential([Same()], input_size=3, dtype="float64")
    y = model.forward(np.ones((2, 3)), backend="reference")
    np.testing.assert_array_equal(model.backward(3 * y), 3)


# --- what does not fit ---


def value(rows, cols, name="v"):
    return plan.Value(name, rows, cols, "activation")


@pytest.mark.parametrize(
    ("op", "reads", "message"),
    [
        ("dense", (value(2, 3, "x"), value(4, 5, "W")), r"x \(2, 3\), W \(4, 5\)"),
        ("dense", (value(2, 3), value(3, 5), value(1, 4)), "shapes do not fit"),
        ("add", (value(2, 3), value(2, 4, "v")), r"v \(2, 4\) must have the shape"),
        ("standardize", (value(2, 3), value(1, 4, "m"), value(1, 3)), r"m \(1, 4\) must be"),
        ("activation_backward", (value(2, 3), value(2, 3), value(3, 3)), "must have the shape"),
    ],
)
def test_values_that_do_not_fit_are_named(op, reads, message):
    with pytest.raises(ValueError, match=message):
        PlanBuilder().emit(op, *reads, name="y")


def test_builder_refuses_wrong_results_and_shared_parameters():
    b = PlanBuilder()
    with pytest.raises(ValueError, match=r"add writes y as \(2, 3\), but it is \(2, 2\)"):
        b.emit_into("add", (value(2, 3), value(2, 3)), (value(2, 2, "y"),))
    weight = plan.Value("0.weight", 3, 3, "parameter")
    b.parameter_gradient(weight)
    with pytest.raises(ValueError, match="read by two steps"):
        b.parameter_gradient(weight)


def test_what_has_no_backward_pass_is_said():
    b = PlanBuilder()
    x = value(2, 3, "x")
    y = b.emit("softmax_backward", x, x, name="y")
    with pytest.raises(ValueError, match="'softmax_backward' has no backward pass"):
        b.differentiate(b.take(), y, value(2, 3, "g"), {x})


# --- the reference backend, operation by operation, by other means ---


def test_operations_by_formula():
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=(1, 2))
    dz = rng.normal(size=(4, 2))
    run = reference.OPS
    np.testing.assert_allclose(run["dense"]({}, x, w, b)[0], np.einsum("ij,jk->ik", x, w) + b)
    np.testing.assert_allclose(run["dense"]({}, x, w)[0], np.einsum("ij,jk->ik", x, w))
    dw, db = run["dense_backward_params"]({"bias": True}, x, dz)
    np.testing.assert_allclose(dw, np.einsum("ij,ik->jk", x, dz))
    np.testing.assert_allclose(db, np.einsum("ik->k", dz)[None])
    np.testing.assert_allclose(
        run["dense_backward_input"]({}, dz, w)[0], np.einsum("ik,jk->ij", dz, w)
    )
    grad = rng.normal(size=(3, 2))
    expected = grad + 0.2 * w + 0.1 * np.sign(w)
    np.testing.assert_allclose(run["penalty"]({"l1": 0.1, "l2": 0.2}, w, grad)[0], expected)
    mean, scale = rng.normal(size=(1, 3)), rng.uniform(1, 2, (1, 3))
    np.testing.assert_allclose(run["standardize"]({}, x, mean, scale)[0], (x - mean) / scale)


def test_plans_are_kept_but_not_without_end():
    model = fm.MLP([4, 3])
    executor = model.executor("reference")
    for rows in range(1, 50):
        model.predict(np.ones((rows, 4)), backend="reference", batch_size=100)
    assert len(executor._plans) <= 16
    kept = executor._plan(49, logits=False)
    assert executor._plan(49, logits=False) is kept
    model.freeze(0)
    assert executor._plan(49, logits=False) is not kept
