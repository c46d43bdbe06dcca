"""Optimizers: PyTorch's trajectories, hyper rows, groups, state per model, errors."""

from __future__ import annotations

import copy
import gc
import inspect
import json
import pickle

import numpy as np
import pytest

from fastmlp import optimizers, schedules
from fastmlp.optimizer_base import power
from fastmlp.optimizers import (
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)
from fastmlp.parameters import FlatVector, Parameters, ParameterSpec, place
from golden.make_golden import START, STEPS, gradient
from golden.stored import load

GOLDEN = load("optimizers")
EVERY = [json.loads(config) for config in GOLDEN["configs"]]


def run(optimizer, steps=STEPS, dtype=np.float64, span=None):
    """Parameters after each step on the golden problem, hyper rows taken in spans."""
    w = START.astype(dtype)
    slots = [np.zeros_like(w) for _ in optimizer.slots]
    trajectory = []
    for first in range(1, steps + 1, span or steps):
        rows = optimizer.hyper(first, min(span or steps, steps + 1 - first))
        for step, row in enumerate(rows, first):
            optimizer.update(w, gradient(w.astype(float), step).astype(dtype), slots, row)
            trajectory.append(w.copy())
    return np.array(trajectory)


class Model:
    """As much of a model as an optimizer sees."""

    def __init__(self, shapes=((3, 2), (2,), (2, 1), (1,)), dtype=np.float64, frozen=()):
        names = [f"{i // 2}.{'bias' if i % 2 else 'weight'}" for i in range(len(shapes))]
        specs = [ParameterSpec(n, s, "zeros") for n, s in zip(names, shapes, strict=True)]
        self.parameter_specs = place(specs, np.dtype(dtype))
        self.frozen = frozen
        size = sum(spec.size for spec in self.parameter_specs)
        self.flat_parameters = FlatVector(size, dtype)
        self.flat_gradients = FlatVector(size, dtype)
        self.parameters = Parameters(self.parameter_specs, self.flat_parameters)
        self.flat_parameters.array()[...] = np.linspace(-1.0, 1.0, size)

    def trainable_slices(self):
        free = [spec for spec in self.parameter_specs if spec.name not in self.frozen]
        return [slice(spec.offset, spec.offset + spec.size) for spec in free]

    def backward(self, step):
        w = self.flat_parameters.array()
        self.flat_gradients.array()[...] = w + np.sin(step + np.arange(len(w)))


# --- the rules ---


def test_every_optimizer_has_a_golden_trajectory():
    assert {config["name"] for config in EVERY} == set(OPTIMIZERS)
    kernels = {optimizers.from_config(config).kernel for config in EVERY}
    assert {"sgd", "momentum", "adam", "amsgrad", "rmsprop_mean_momentum"} <= kernels


@pytest.mark.parametrize("number", range(len(EVERY)), ids=[str(config) for config in EVERY])
def test_fifty_steps_equal_pytorch(number):
    trajectory = run(optimizers.from_config(EVERY[number]))
    expected = GOLDEN["trajectories"][number]
    np.testing.assert_allclose(trajectory, expected, rtol=1e-9, atol=1e-9)
    assert np.abs(expected[-1] - START).max() > 1e-3


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_float32_stays_near_float64(config):
    optimizer = optimizers.from_config(config)
    narrow, wide = run(optimizer, 10, np.float32), run(optimizer, 10)
    assert narrow.dtype == np.float32
    # Ten steps of fewer than 16 roundings each, at most doubled by each step of the problem; a
    # sign that flips on a rounded gradient does not happen within these ten.
    np.testing.assert_allclose(narrow, wide, rtol=0, atol=2**10 * 16 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_gradients_and_rows_are_left_alone(config):
    optimizer = optimizers.from_config(config)
    w, g = START.copy(), gradient(START, 1)
    slots, row = [np.zeros_like(w) for _ in optimizer.slots], optimizer.hyper(1, 1)[0]
    before = g.copy(), row.copy()
    optimizer.update(w, g, slots, row)
    np.testing.assert_array_equal(g, before[0])
    np.testing.assert_array_equal(row, before[1])


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_updates_are_element_wise(config):
    optimizer = optimizers.from_config(config)
    row = optimizer.hyper(1, 1)[0]
    shape = (2, 3)
    w, g = np.arange(6.0).reshape(shape), np.sin(np.arange(6.0)).reshape(shape)
    whole, slots = w.copy(), [np.zeros(shape) for _ in optimizer.slots]
    optimizer.update(whole, g, slots, row)
    for i in range(6):
        part, own = w.ravel()[i : i + 1].copy(), [np.zeros(1) for _ in optimizer.slots]
        optimizer.update(part, g.ravel()[i : i + 1], own, row)
        assert part[0] == whole.ravel()[i]


# --- hyper rows ---


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_rows_do_not_depend_on_the_span(config):
    optimizer = optimizers.from_config(config)
    whole = optimizer.hyper(1, 1000)
    assert whole.shape == (1000, len(optimizer.hyper_names))
    assert whole.shape[1] <= 8
    assert len(optimizer.slots) <= 3
    assert whole.dtype == np.float64
    assert np.isfinite(whole).all()
    for size in (1, 7, 333):
        parts = [optimizer.hyper(a, min(size, 1001 - a)) for a in range(1, 1001, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(run(optimizer, span=7), run(optimizer))
    assert optimizer.hyper(5, 0).shape == (0, whole.shape[1])
    assert not any(optimizer.hyper(a, n).flags.writeable for a in (1, 5, 250) for n in (1, 9, 999))


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_rows_far_out_are_finite(config):
    optimizer = optimizers.from_config(config)
    rows = optimizer.hyper(10**6, 3)
    assert np.isfinite(rows).all()


def test_fixed_rows():
    row = SGD(0.1, 0.9, dampening=0.3, weight_decay=0.2).hyper(1, 2)
    np.testing.assert_array_equal(row, [[0.1, 0.9, 1.0, 0.0, 0.2], [0.1, 0.9, 1 - 0.3, 0.0, 0.2]])
    np.testing.assert_array_equal(SGD(0.1, 0.9, True).hyper(3, 1), [[0.1, 0.9, 1, 1, 0]])
    expected = [0.1 / (1 - 0.9**3), 0.9, 0.999, 1e-8, np.sqrt(1 - 0.999**3), 0.2, 1.0]
    row = Adam(0.1, weight_decay=0.2).hyper(3, 1)[0]
    np.testing.assert_allclose(row, expected, rtol=1e-15)
    row = AdamW(0.1, weight_decay=0.2).hyper(3, 1)[0]
    np.testing.assert_allclose(row, [*expected[:5], 0.0, 1 - 0.1 * 0.2], rtol=1e-15)


def test_slots_and_kernels():
    table = {
        SGD(): ("sgd", ()),
        SGD(momentum=0.9): ("momentum", ("momentum",)),
        Adam(): ("adam", ("m", "v")),
        AdamW(): ("adam", ("m", "v")),
        AdamW(amsgrad=True): ("amsgrad", ("m", "v", "v_max")),
        RMSprop(): ("rmsprop", ("v",)),
        RMSprop(momentum=0.9): ("rmsprop_momentum", ("v", "momentum")),
        RMSprop(centered=True): ("rmsprop_mean", ("v", "mean")),
        RMSprop(centered=True, momentum=0.9): (
            "rmsprop_mean_momentum",
            ("v", "mean", "momentum"),
        ),
    }
    for optimizer, expected in table.items():
        assert (optimizer.kernel, optimizer.slots) == expected


def test_rows_hold_schedules_per_step_and_per_epoch():
    by_step = SGD(schedules.Exponential(0.1, 0.5))
    np.testing.assert_allclose(by_step.hyper(1, 3)[:, 0], [0.1, 0.05, 0.025])
    np.testing.assert_allclose(by_step.hyper(3, 1, epoch=7)[:, 0], [0.025])
    by_epoch = SGD(schedules.Exponential(0.1, 0.5, unit="epoch"))
    np.testing.assert_allclose(by_epoch.hyper(1, 3)[:, 0], [0.1, 0.1, 0.1])
    np.testing.assert_allclose(by_epoch.hyper(9, 2, epoch=2)[:, 0], [0.025, 0.025])


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_a_constant_schedule_is_a_number(config):
    plain = optimizers.from_config(config)
    scheduled = optimizers.from_config(config)
    scheduled.lr = schedules.Constant(plain.lr)
    np.testing.assert_array_equal(scheduled.hyper(1, 9), plain.hyper(1, 9))


def test_nadam_multiplies_all_momenta():
    optimizer = NAdam(1.0, betas=(0.9, 0.99), momentum_decay=0.01)
    mu = [0.9 * (1 - 0.5 * 0.96 ** (0.01 * t)) for t in range(1, 2002)]
    product = np.cumprod(mu)
    expected = [(1 - mu[t]) / (1 - product[t]) for t in range(2000)]
    np.testing.assert_allclose(optimizer.hyper(1, 2000)[:, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(NAdam(betas=(0.0, 0.9)).hyper(1, 3)[:, 7], 0.0)


def test_radam_is_rectified_from_the_sixth_step_on():
    rows = RAdam().hyper(1, 10)
    np.testing.assert_array_equal(rows[:, 7], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("base", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_power(base):
    exponents = np.array([0, 1, 2, 3, 10, 255, 4096])
    expected = [base ** int(k) for k in exponents]
    np.testing.assert_allclose(power(base, exponents), expected, rtol=4096 * 2.3e-16, atol=1e-300)


def test_powers_do_not_depend_on_the_span():
    exponents = np.arange(200, 600)
    whole = power(0.9, exponents)
    assert [power(0.9, exponents[i : i + 1])[0] for i in range(400)] == whole.tolist()


def test_rows_follow_a_change_of_settings():
    optimizer = Adam(lr=0.1, groups=[("*.bias", {"lr_scale": 0.5})])
    first = optimizer.hyper(250, 20, group=1)
    optimizer.lr = 0.2
    np.testing.assert_allclose(optimizer.hyper(250, 20, group=1)[:, 0], 2.0 * first[:, 0])
    with pytest.raises(ValueError, match="read-only"):  # rows are kept for the next call
        optimizer.hyper(250, 20)[...] = 0.0
    assert len(optimizer.hyper(3, 600)) == 600
    np.testing.assert_array_equal(optimizer.hyper(3, 600)[247:267], optimizer.hyper(250, 20))


def test_programs_depend_on_what_rows_cannot_say():
    optimizer = Adam(groups=[("*.bias", {"lr_scale": 0.5})])
    before = optimizer.structure
    optimizer.lr, optimizer.betas = 0.1, (0.5, 0.6)
    optimizer.groups = [("*.bias", {"eps": 1e-3})]
    assert optimizer.structure == before
    optimizer.groups = [("0.bias", {"eps": 1e-3})]
    assert optimizer.structure != before
    optimizer.groups, optimizer.amsgrad = [("*.bias", {})], True
    assert optimizer.structure != before


# --- groups ---

GROUPS = [("*.bias", {"weight_decay": 0.0}), ("0.*", {"lr_scale": 0.5})]


def test_first_matching_pattern_wins():
    optimizer = AdamW(groups=GROUPS)
    names = ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert [optimizer.group_of(name) for name in names] == [2, 1, 0, 1]
    assert SGD().group_of("0.weight") == 0


def test_groups_have_rows_of_their_own():
    optimizer = AdamW(0.1, weight_decay=0.2, groups=GROUPS)
    np.testing.assert_array_equal(optimizer.hyper(3, 2), AdamW(0.1, weight_decay=0.2).hyper(3, 2))
    np.testing.assert_array_equal(
        optimizer.hyper(3, 2, group=1), AdamW(0.1, weight_decay=0.0).hyper(3, 2)
    )
    np.testing.assert_array_equal(
        optimizer.hyper(3, 2, group=2), AdamW(0.05, weight_decay=0.2).hyper(3, 2)
    )
    with pytest.raises(ValueError, match="group must be an integer >= 0 and <= 2; got 3"):
        optimizer.hyper(1, 1, group=3)


def test_groups_take_schedules():
    optimizer = SGD(0.1, groups=[("0.*", {"lr": schedules.Exponential(0.4, 0.5), "lr_scale": 2})])
    np.testing.assert_allclose(optimizer.hyper(1, 2)[:, 0], [0.1, 0.1])
    np.testing.assert_allclose(optimizer.hyper(1, 2, group=1)[:, 0], [0.8, 0.4])


def test_a_step_treats_each_group_by_its_rules():
    grouped, plain, undecayed = Model(), Model(), Model()
    together = AdamW(0.1, weight_decay=0.5, groups=[("*.bias", {"weight_decay": 0.0})])
    apart = AdamW(0.1, weight_decay=0.5), AdamW(0.1, weight_decay=0.0)
    for step in range(3):
        for model, optimizer in ((grouped, together), (plain, apart[0]), (undecayed, apart[1])):
            model.backward(step)
            optimizer.step(model)
    for name in grouped.parameters:
        expected = undecayed if name.endswith("bias") else plain
        np.testing.assert_array_equal(grouped.parameters[name], expected.parameters[name])


def test_groups_change_the_version():
    optimizer = SGD()
    version = optimizer.version
    optimizer.groups = GROUPS[1:]
    assert optimizer.version > version
    assert optimizer.groups == (("0.*", {"lr_scale": 0.5}),)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ("*.bias", TypeError, "groups must be a list"),
        (3, TypeError, "groups must be a list"),
        (["*.bias"], TypeError, r"a group must be \(pattern of parameter names"),
        ([("*.bias", 0.1)], TypeError, "a group must be"),
        ([(3, {})], TypeError, "a group must be"),
        ([("*", {"weigth_decay": 0})], ValueError, "did you mean 'weight_decay'"),
        ([("*", {"momentum": 0.5})], ValueError, r"override of group '\*' must be one of"),
        ([("*", {"lr_scale": -1})], ValueError, r"lr_scale of group '\*' must be .* >= 0"),
        ([("*", {"weight_decay": -1})], ValueError, "weight_decay of sgd must be"),
        ([("*", {"nesterov": True})], ValueError, "nesterov of sgd needs momentum > 0"),
    ],
)
def test_bad_groups(groups, error, message):
    optimizer = SGD()
    with pytest.raises(error, match=message):
        optimizer.groups = groups
    assert optimizer.groups == ()
    with pytest.raises(error, match=message):
        SGD(groups=groups)


def test_patterns_that_fit_nothing_are_told():
    model, optimizer = Model(), SGD(groups=[("7.*", {"lr_scale": 0.0})])
    before = model.flat_parameters.array().copy()
    with pytest.raises(ValueError, match=r"pattern '7\.\*' .* fits none of 0.weight, 0.bias"):
        optimizer.step(model)
    np.testing.assert_array_equal(model.flat_parameters.array(), before)


# --- steps and state ---


@pytest.mark.parametrize("config", EVERY, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_step_is_update_on_the_flat_vector(config, dtype):
    model, optimizer = Model(dtype=dtype), optimizers.from_config(config)
    w = model.flat_parameters.array().copy()
    slots = [np.zeros_like(w) for _ in optimizer.slots]
    for step in range(1, 6):
        model.backward(step)
        optimizer.update(w, model.flat_gradients.array(), slots, optimizer.hyper(step, 1)[0])
        assert optimizer.step(model) is None
        np.testing.assert_array_equal(model.flat_parameters.array(), w)
    state = optimizer.state_for(model)
    assert (state.step, state.epoch, state.names) == (5, 0, optimizer.slots)
    for vector, slot in zip(state.slots, slots, strict=True):
        assert vector.dtype == dtype
        np.testing.assert_array_equal(vector.array(), slot)


@pytest.mark.parametrize("groups", [(), [("*.bias", {"lr_scale": 1.0})]])
def test_frozen_parameters_stay(groups):
    model, free = Model(frozen=("0.weight", "0.bias")), Model()
    optimizer = Adam(0.1, weight_decay=0.1, groups=groups)
    for step in range(3):
        for one in (model, free):
            one.backward(step)
            optimizer.step(one)
    for name in ("0.weight", "0.bias"):
        np.testing.assert_array_equal(model.parameters[name], Model().parameters[name])
    np.testing.assert_array_equal(model.parameters["1.weight"], free.parameters["1.weight"])


def test_state_belongs_to_the_pair():
    first, second, optimizer = Model(), Model(), SGD(0.1, momentum=0.9)
    first.backward(1)
    optimizer.step(first)
    assert optimizer.state_for(first) is optimizer.state_for(first)
    assert (optimizer.state_for(first).step, optimizer.state_for(second).step) == (1, 0)
    assert SGD(0.1, momentum=0.9).state_for(first).step == 0


def test_state_does_not_keep_a_model_alive():
    model, optimizer = Model(), Adam()
    optimizer.state_for(model)
    assert len(optimizer._states) == 1
    del model
    gc.collect()
    assert len(optimizer._states) == 0


def test_copies_start_fresh():
    model, optimizer = Model(), Adam(0.3, groups=GROUPS)
    optimizer.state_for(model).step = 7
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert twin.config() == optimizer.config()
        assert twin.state_for(model).step == 0
    assert optimizer.state_for(model).step == 7


def test_slots_appear_and_go_with_the_settings():
    model, optimizer = Model(), Adam()
    model.backward(1)
    optimizer.step(model)
    before = optimizer.state_for(model)
    optimizer.amsgrad = True
    after = optimizer.state_for(model)
    assert after.names == ("m", "v", "v_max")
    assert after.slots[:2] == before.slots
    assert after.step == 1
    optimizer.amsgrad = False
    assert optimizer.state_for(model).slots == before.slots


# --- settings ---


def test_attributes_are_checked_and_move_the_version():
    optimizer = SGD(0.1, momentum=0.9)
    version = optimizer.version
    optimizer.lr = 1
    assert type(optimizer.lr) is float
    assert optimizer.version > version
    version = optimizer.version
    with pytest.raises(ValueError, match=r"momentum of sgd must be .* >= 0 and <= 1; got"):
        optimizer.momentum = 1.5
    assert (optimizer.momentum, optimizer.version) == (0.9, version)
    optimizer.nesterov = True
    with pytest.raises(ValueError, match="needs momentum > 0 and dampening = 0"):
        optimizer.momentum = 0.0
    assert optimizer.momentum == 0.9


def test_the_learning_rate_has_one_name():
    optimizer = SGD(0.1)
    with pytest.raises(AttributeError, match="SGD has no learning_rate: it is called lr"):
        optimizer.learning_rate = 0.2
    assert not hasattr(optimizer, "learning_rate")


def test_learning_rates_are_numbers_schedules_or_configs():
    schedule = schedules.Cosine(0.1, 50)
    assert Adam(schedule).lr == schedule
    assert Adam(schedule.config()).lr == schedule
    optimizer = Adam(schedule)
    optimizer.lr = optimizer.lr * 0.5
    np.testing.assert_array_equal(optimizer.lr(3), 0.5 * schedule(3))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_settings_are_the_arguments_of_the_constructor(name):
    kind = OPTIMIZERS[name]
    assert set(inspect.signature(kind).parameters) == {*kind.settings, "groups"}
    assert optimizers.get(name).hyper(1, 1).shape == (1, len(kind.hyper_names))


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_config_and_repr(config):
    optimizer = optimizers.from_config(config)
    stored = json.loads(json.dumps(optimizer.config()))
    assert config.items() <= stored.items()
    twin = optimizers.from_config(stored)
    assert twin is not optimizer
    assert twin.config() == optimizer.config()
    assert repr(twin) == repr(optimizer)
    assert eval(repr(optimizer), vars(optimizers)).config() == optimizer.config()


def test_config_holds_schedules_and_groups():
    optimizer = Lion(schedules.Exponential(0.1, 0.9), groups=[("0.*", {"lr": 0.5})])
    stored = json.loads(json.dumps(optimizer.config()))
    assert stored["lr"] == {"name": "exponential", "lr": 0.1, "gamma": 0.9, "unit": "step"}
    assert stored["groups"] == [["0.*", {"lr": 0.5}]]
    twin = optimizers.from_config(stored)
    np.testing.assert_array_equal(twin.hyper(1, 5, group=1), optimizer.hyper(1, 5, group=1))
    assert "groups=[('0.*', {'lr': 0.5})]" in repr(optimizer)


def test_get():
    optimizer = SGD()
    assert optimizers.get(optimizer) is optimizer
    assert optimizers.get("adam") is not optimizers.get("adam")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optimizers.get("adamm"), ValueError, "did you mean 'adam'"),
        (lambda: optimizers.get(0.1), TypeError, "or of type Optimizer; got 0.1"),
        (lambda: optimizers.get(SGD), TypeError, "got the class SGD, not an object"),
        (lambda: SGD(-0.1), ValueError, r"lr of sgd \(or a schedule\) must be .* >= 0; got -0.1"),
        (lambda: SGD("0.1"), TypeError, "lr of sgd"),
        (lambda: SGD(float("nan")), ValueError, "got nan"),
        (lambda: SGD(momentum=-0.1), ValueError, "momentum of sgd"),
        (lambda: SGD(nesterov=1, momentum=0.9), TypeError, "nesterov of sgd must be True or False"),
        (lambda: SGD(nesterov=True), ValueError, "nesterov of sgd needs momentum > 0"),
        (lambda: SGD(dampening=2), ValueError, "dampening of sgd"),
        (lambda: SGD(weight_decay=-1), ValueError, "weight_decay of sgd"),
        (lambda: Adam(betas=(0.9, 1.0)), ValueError, r"betas of adam\[1\] must be .* < 1; got 1.0"),
        (lambda: Adam(betas=(0.9,)), TypeError, "betas of adam must be a pair of numbers"),
        (lambda: Adam(betas=0.9), TypeError, "betas of adam must be a pair of numbers; got 0.9"),
        (lambda: Adam(eps=-1e-8), ValueError, "eps of adam"),
        (lambda: AdamW(amsgrad="yes"), TypeError, "amsgrad of adamw must be True or False"),
        (lambda: NAdam(momentum_decay=-1), ValueError, "momentum_decay of nadam"),
        (lambda: RMSprop(alpha=1.0), ValueError, "alpha of rmsprop must be .* >= 0 and < 1"),
        (lambda: Adagrad(lr_decay=-1), ValueError, "lr_decay of adagrad"),
        (lambda: optimizers.get("adadelta").__class__(eps=0), ValueError, "eps of adadelta .* > 0"),
        (lambda: Rprop(etas=(1.0, 1.2)), ValueError, r"etas of rprop\[0\] must be .* < 1"),
        (lambda: Rprop(etas=(0.5, 1.0)), ValueError, r"etas of rprop\[1\] must be .* > 1"),
        (lambda: Rprop(step_sizes=(2.0, 1.0)), ValueError, "step_sizes of rprop must be"),
        (lambda: SGD().hyper(0, 1), ValueError, "first_step must be an integer >= 1; got 0"),
        (lambda: SGD().hyper(1, -1), ValueError, "count must be an integer >= 0; got -1"),
        (
            lambda: optimizers.from_config({"name": "sgd", "learning_rate": 1}),
            ValueError,
            "setting of sgd must be one of 'lr'",
        ),
        (lambda: Adam({"name": "cosin"}), ValueError, "did you mean 'cosine'"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
