"""The native engine runs everything itself, in its own memory, with the same bits on any threads.

What it computes is compared with the reference backend, as in `test_backends.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp import _native, activations, losses, optimizers, plan, schedules
from fastmlp.backends import assembly, native, reference
from fastmlp.sources import Source
from trained import LOSSES, MSE, OPTIMIZERS, compare_training, digest, stacks, train

pytestmark = pytest.mark.usefixtures("native_only")

# --- everything is native -------------------------------------------------------------------------


def loss_kernels():
    return {
        case.loss.behind(output)[0].kernel
        for rows in cases.LOSSES.values()
        for case in rows
        for output in case.outputs
    }


def test_every_definition_has_a_kernel_and_every_kernel_a_case():
    of_activations, of_losses, of_optimizers = map(set, _native.registries())
    # Softmax is an operation of its own.
    assert of_activations == set(activations.ACTIVATIONS) - {"softmax"}
    assert of_losses == loss_kernels()
    made = {make().kernel for rows in cases.OPTIMIZERS.values() for make in rows}
    # "store" writes gradients out.
    assert of_optimizers == made | {"store"}


def test_every_operation_is_lowered():
    reached = set()
    for layers in stacks().values():
        model = fm.Sequential(layers, input_size=5)
        executor = native.Executor(model)
        settings = {"l2": 0.1, "input_gradient": True}
        for training in (False, True):
            settings["training"] = training
            programs = executor._lower(4, loss=MSE.loss, gradients=True, **settings)
            reached |= {step.op for step in programs.lowering.plan.steps}
        executor.optimizer = optimizers.get("adam")
        executor.optimizer.state_for(model).begin_average(model)
        settings |= {"clip_value": 1.0, "clip_norm": 1.0, "average": True, "penalty": True}
        programs = executor._lower(4, loss=MSE.loss, optimizer=executor.optimizer, **settings)
        reached |= {step.op for step in programs.lowering.plan.steps}
    assert reached == set(plan.OPS)


def test_a_value_with_two_readers(dtype, isa):
    x, grad = cases.inputs(9, 5, dtype=dtype), cases.inputs(9, 3, 1, dtype)
    results = []
    for backend in ("native", "reference"):
        model = fm.Sequential(stacks()["skip"], input_size=5, dtype=dtype, seed=0)
        y = model.forward(x, backend=backend)
        results.append([y, model.backward(grad), model.flat_gradients.array().copy()])
    bound = 4 * cases.Shape((5, 6, 3), 9).roundings * np.finfo(dtype).eps
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


# --- optimizers -----------------------------------------------------------------------------------


def with_groups(make):
    """Return an optimizer with a schedule and a parameter group for biases and one for a layer."""
    made = make()
    decay = {"weight_decay": 0.05} if "weight_decay" in made.settings else {}
    made.groups = [("*.bias", {"lr_scale": 0.5}), ("1.*", {"lr": 0.003, **decay})]
    made.lr = schedules.Exponential(made.lr, gamma=0.9)
    return made


@OPTIMIZERS
def test_groups_and_schedules(optimizer, dtype, isa):
    # Eight steps, since RAdam begins to rectify at the sixth.
    shape = cases.Shape((4, 17, 3), 5)
    compare_training(shape, dtype, MSE, lambda: with_groups(optimizer), batches=8)


@OPTIMIZERS
def test_single_steps_have_the_bits_of_a_span(optimizer, dtype):
    # More steps than rows of scalars that are computed at once.
    steps, batch = 300, 2
    x, y = cases.inputs(steps * batch, 4), cases.targets("real", steps * batch, 3)
    results = []
    for single in (False, True):
        model, made = cases.mlp(cases.Shape((4, 5, 3), batch), dtype=dtype), with_groups(optimizer)
        values = np.zeros(steps)
        executor = native.Executor(model, MSE.loss, made, threads=1)
        trainer = fm.Trainer(model, loss="mse", optimizer=made, threads=1)
        for first, last in ((0, 40), (40, steps)):
            if single:
                for i in range(first, last):
                    rows = slice(batch * i, batch * (i + 1))
                    values[i] = trainer.step(x[rows], y[rows])
            else:
                executor.train(Source(x, y), None, batch, first, last, values)
            made.lr = schedules.Exponential(0.005, gamma=0.99)
        results.append([values, model.flat_parameters.array().copy()])
    for span, steps in zip(*results, strict=True):
        np.testing.assert_array_equal(steps, span)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch", [4, 10])
def test_epochs_with_a_rest_have_the_bits_of_their_batches_wherever_a_span_is_cut(
    threads, batch, dtype, isa
):
    n, epochs = 11, 3
    batches = -(-n // batch)
    source = Source(cases.inputs(n, 5, dtype=dtype), cases.targets("real", n, 3))
    rng = np.random.default_rng(2)
    order = np.concatenate([rng.permutation(n) for _ in range(epochs)]).astype(np.uint32)
    ends = {
        "whole": [epochs * batches],
        "cut": [1, batches + 1, epochs * batches],
        "single": range(1, epochs * batches + 1),
    }
    results = {}
    for name, cuts in ends.items():
        layers = [fm.Dense(40, "relu"), fm.Dropout(0.3), fm.LayerNorm(), fm.Dense(20), fm.Dense(3)]
        model = fm.Sequential(layers, input_size=5, dtype=dtype, seed=0)
        optimizer = with_groups(optimizers.Adam)
        executor = native.Executor(model, MSE.loss, optimizer, threads=threads)
        values, first = np.full(epochs * batches, np.nan), 0
        for last in cuts:
            executor.train(source, order, batch, first, last, values)
            first = last
        assert optimizer.state_for(model).step == epochs * batches
        results[name] = [values, model.flat_parameters.array().copy()]
    for name in ("whole", "cut"):
        for found, expected in zip(results[name], results["single"], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_programs_that_do_not_go_together_are_refused():
    model, source = cases.mlp(cases.SMALL), Source(cases.inputs(11, 5), np.zeros((11, 3)))
    executor = native.Executor(model, MSE.loss, optimizers.SGD(), threads=1)
    full, rest = (executor._lower_training(source, rows) for rows in (4, 3))
    arrays = {"hyper": np.zeros((3, 16)), "losses": np.zeros(3), "last": 3, "epoch_rows": 11}
    run = full.training(1, "rows")[1].run
    sources = source.x, source.y, None
    assert run(sources, rest=rest.training(1, "rows")[1], **arrays) == 3
    for other, changed in (
        (rest.training(2, "rows")[1], {}),
        (full.training(1, "rows")[1], {}),
        (rest.training(1, "rows")[1], {"epoch_rows": 10}),
        (rest.training(1, "rows")[1], {"seconds": np.zeros(99)}),
    ):
        with pytest.raises(ValueError, match="does not go with the other one"):
            run(sources, rest=other, **{**arrays, **changed})


def test_rectification_begins(dtype, isa):
    radam = optimizers.OPTIMIZERS["radam"]
    compare_training(
        cases.Shape((4, 5, 3), 5),
        dtype,
        MSE,
        lambda: radam(lr=0.01, betas=(0.9, 0.9), eps=0.01, decoupled_weight_decay=True),
        batches=12,
    )


@OPTIMIZERS
def test_a_rate_of_zero_leaves_the_parameters(optimizer, dtype, isa):
    if optimizer().name == "rprop":  # its rate is the first step size, within bounds
        return
    made = optimizer()
    made.lr = 0.0
    model = cases.mlp(cases.SMALL, dtype=dtype)
    before = model.flat_parameters.array().copy()
    x, y = cases.inputs(8, 5, dtype=dtype), cases.targets("real", 8, 3, dtype=dtype)
    train(native.Executor, model, "mse", made, Source(x, y), 4)
    np.testing.assert_array_equal(model.flat_parameters.array(), before)


# --- losses ---------------------------------------------------------------------------------------


@LOSSES
@pytest.mark.parametrize("kind", ["sample", "output"])
@pytest.mark.parametrize(
    "shape",
    [cases.Shape((3, 5), 1), cases.Shape((5, 4, 1), 7), cases.Shape((3, 4, 33), 20)],
    ids=str,
)
def test_weights_with_every_loss(shape, kind, case, dtype, isa):
    outputs = shape.sizes[-1]
    if case.kind == "one_hot" and outputs == 1:
        return

    def weight(rows, columns):
        drawn = np.random.default_rng(3).uniform(0.0, 2.0, (rows, columns))
        return drawn if kind == "output" else drawn[:, 0]

    def compare():
        for output in case.outputs:
            compare_training(shape, dtype, case, lambda: fm.SGD(lr=0.05), output, weight=weight)

    if kind == "output" and case.loss.name == "cross_entropy":
        with pytest.raises(AssertionError, match="help"):  # the reference backend says why
            compare()
    else:
        compare()


@pytest.mark.parametrize("size", [1e-60, 1e60])
def test_only_ratios_of_weights_matter(size, isa):
    # Beyond the numbers of float32, in which the shares are kept.
    x, y = cases.inputs(6, 3), cases.targets("real", 6, 2)
    results = []
    for factor in (1.0, size):
        model = cases.mlp(cases.Shape((3, 2), 3))
        source = Source(x, y, np.linspace(1.0, 2.0, 6) * factor)
        results.append(train(native.Executor, model, "mse", fm.SGD(lr=0.1), source, 3))
    np.testing.assert_allclose(*(result["parameters"] for result in results), rtol=1e-6)
    np.testing.assert_allclose(*(result["losses"] for result in results), rtol=1e-6)


def loss_of(loss, z, y, dtype):
    """Return the native loss of a row of outputs and its gradient."""
    n = len(z)
    # A rate asks for what cannot be negative.
    activation = "relu" if loss.kernel == "poisson" else "identity"
    model = fm.Sequential([fm.Dense(n, activation)], input_size=n, dtype=dtype)
    model.parameters["0.weight"][...] = np.eye(n)
    optimizer = fm.SGD(lr=0.0, momentum=0.9)
    executor, value = native.Executor(model, loss, optimizer), np.zeros(1)
    source = Source(np.array([z], dtype), np.array([y], dtype))
    executor.train(source, None, 1, 0, 1, value)
    return value[0], optimizer.state_for(model).slots[0].array()[n * n :].copy()


EXTREMES = (
    [1e4, -1e4, 0.0],
    [-1e4, 1e4, 1e4],
    [1e4, 1e4, 1e4],
    [-1e4, -1e4, -1e4],
    [88.0, 0.0, -88.0],
)


@LOSSES
def test_extreme_outputs(case, dtype, isa):
    y = [1.0, 0.0, 0.0]
    loss = case.loss.behind(case.outputs[0])[0]
    for z in EXTREMES:
        if loss.kernel == "poisson":
            z = np.abs(z) + 0.5
        value, gradient = loss_of(loss, z, y, dtype)
        assert np.isfinite(value)
        expected, slopes = loss.per_sample(np.array([z]), np.array([y]))
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(value, expected[0], rtol=8 * eps, atol=8 * eps)
        np.testing.assert_allclose(gradient, slopes[0], rtol=8 * eps, atol=8 * eps)


@LOSSES
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_is_not_lost(case, place, dtype, isa):
    z = np.array([0.5, 1.0, 0.25])
    z[place] = np.nan
    value, _ = loss_of(case.loss.behind(case.outputs[0])[0], z, [1.0, 0.0, 0.0], dtype)
    assert np.isnan(value)


# --- a loss in Python -----------------------------------------------------------------------------


def half_square(y_hat, y):
    """The quadratic cost."""
    error = y_hat - y
    return 0.5 * float((error * error).sum()) / len(error), error / len(error)


CALLED = cases.LossCase(losses.FunctionLoss(half_square), "real")


@pytest.mark.parametrize("shape", cases.SHAPES, ids=str)
def test_training_on_a_function(shape, dtype, isa):
    compare_training(shape, dtype, CALLED, lambda: fm.Adam(lr=0.01, eps=0.01), l1=0.01, l2=0.1)


def test_training_on_a_function_with_weights_and_groups(dtype, isa):
    groups = [("*.bias", {"lr_scale": 2.0})]
    compare_training(
        cases.Shape((5, 4, 3), 6),
        dtype,
        CALLED,
        lambda: fm.SGD(lr=0.05, groups=groups),
        weight=lambda rows, outputs: np.linspace(0.0, 2.0, rows),
    )


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_function_sees_the_mini_batch_whole(backend):
    seen = []

    def spread(y_hat, y):
        seen.append((y_hat.copy(), y.copy()))
        off = y_hat - y_hat.mean()
        return float((off * off).mean()), 2.0 * off / off.size

    x, y = cases.inputs(10, 4), cases.targets("labels", 10, 3)
    model = cases.mlp(cases.Shape((4, 3), 4))
    model.fit(
        x, y, loss=spread, optimizer=fm.SGD(lr=0.1), batch_size=4, epochs=1, shuffle=False,
        backend=backend,
    )  # fmt: skip
    assert [y_hat.shape for y_hat, _ in seen] == [(4, 3), (4, 3), (2, 3)]
    np.testing.assert_array_equal(np.concatenate([y for _, y in seen]), np.eye(3)[y])


class Fourth(losses.Loss):
    """A loss that the engine does not know."""

    name = "fourth"

    def per_sample(self, y_hat, y):
        error = y_hat - y
        return (error**4).sum(axis=1), 4.0 * error**3


def test_a_loss_of_the_users_own(dtype, isa):
    case = cases.LossCase(Fourth(), "real")
    compare_training(cases.Shape((5, 4, 3), 6), dtype, case, lambda: fm.SGD(lr=0.001))


def test_a_function_that_raises_leaves_the_batches_before_it():
    calls = []

    def failing(y_hat, y):
        calls.append(0)
        if len(calls) == 3:
            raise ZeroDivisionError
        return half_square(y_hat, y)

    model, optimizer = cases.mlp(cases.Shape((4, 3), 4)), fm.SGD(lr=0.1)
    executor = native.Executor(model, losses.get(failing), optimizer)
    source = Source(cases.inputs(12, 4), cases.targets("real", 12, 3))
    values = np.full(3, np.nan)
    with pytest.raises(ZeroDivisionError):
        executor.train(source, None, 4, 0, 3, values)
    assert optimizer.state_for(model).step == 2
    assert np.isfinite(values[:2]).all()
    twin = cases.mlp(cases.Shape((4, 3), 4))
    other = native.Executor(twin, losses.get(half_square), fm.SGD(lr=0.1))
    other.train(source, None, 4, 0, 2, values)
    np.testing.assert_array_equal(model.flat_parameters.array(), twin.flat_parameters.array())


def test_a_function_with_everything_frozen():
    model = cases.mlp(cases.Shape((4, 3), 4))
    before = model.flat_parameters.array().copy()
    model.freeze(0)
    source = Source(cases.inputs(8, 4), cases.targets("real", 8, 3))
    result = train(native.Executor, model, half_square, fm.SGD(lr=0.1), source, 4)
    assert (result["losses"] > 0.0).all()
    np.testing.assert_array_equal(result["parameters"], before)


# --- the same bits on any threads -----------------------------------------------------------------


def digests(*args, thorough=False, **kwargs):
    """Return the digests on several numbers of threads, with one strategy each, or with all.

    Every other one has shares in pieces.
    """
    found = set()
    for number, threads in enumerate((1, 2, 3, 7)):
        first = number % len(native.STRATEGIES)
        for strategy in native.STRATEGIES if thorough else native.STRATEGIES[first : first + 1]:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(native, "STRATEGIES", (strategy,))
                if (number // 2 + native.STRATEGIES.index(strategy)) % 2:
                    patch.setattr(assembly, "_PIECE", 1)
                found.add(digest(*args, threads=threads, **kwargs))
    return found


@pytest.mark.parametrize("shape", cases.SHAPES, ids=str)
def test_threads_do_not_change_bits(shape, dtype, isa):
    adam = cases.OPTIMIZERS["adam"][1]
    assert len(digests(shape, dtype, MSE, adam, l1=0.01, thorough=True)) == 1


@pytest.mark.parametrize("seed", range(12))
def test_threads_do_not_change_bits_of_a_random_network(seed, dtype, isa):
    rng = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in rng.integers(1, 130, rng.integers(2, 6)))
    shape = cases.Shape(sizes, int(rng.integers(1, 300)))
    optimizers = cases.OPTIMIZERS["sgd"] + cases.OPTIMIZERS["adam"]
    optimizer = optimizers[seed % len(optimizers)]
    assert len(digests(shape, dtype, MSE, optimizer, thorough=True)) == 1


@OPTIMIZERS
def test_threads_do_not_change_bits_of_any_optimizer(optimizer, dtype, isa):
    shape = cases.Shape((20, 50, 17), 29)
    assert len(digests(shape, dtype, MSE, optimizer)) == 1


@LOSSES
def test_threads_do_not_change_bits_of_any_loss(case, dtype, isa):
    for shape in (cases.Shape((9, 20, 35), 29), cases.Shape((9, 20, 1), 50)):
        if case.kind == "one_hot" and shape.sizes[-1] == 1:
            continue
        args = shape, dtype, case, cases.OPTIMIZERS["sgd"][0]
        for output in case.outputs:
            assert len(digests(*args, output)) == 1
        assert len(digests(*args, weight=lambda rows: np.linspace(0.0, 2.0, rows))) == 1


def test_threads_do_not_change_bits_with_labels(dtype, isa):
    shape, entropy = cases.Shape((9, 20, 35), 29), cases.LOSSES["cross_entropy"][0]
    sgd = cases.OPTIMIZERS["sgd"][0]
    assert len(digests(shape, dtype, entropy, sgd, kind="labels")) == 1


# --- sums -----------------------------------------------------------------------------------------


def mean_square(y_hat, y, sample_weight=None):
    difference = np.asarray(y_hat - y, np.float64)
    return float((difference**2).mean()), (2.0 / y.size * difference).astype(y.dtype)


@pytest.mark.parametrize("loss", ["mse", mean_square])
@pytest.mark.parametrize("batch", [7, 300])
def test_losses_tell_the_penalty(batch, loss, dtype, isa):
    shape = cases.Shape((5, 18, 19, 1), batch)
    rows = 3 * batch + 4
    x, y = cases.inputs(rows, 5, dtype=dtype), cases.targets("real", rows, 1, dtype=dtype)
    strengths = np.array([0.5, 3.0, 0.0, 1.5])
    told = []
    for kind, threads, strategy in [
        (reference.Executor, 1, "rows"),
        *((native.Executor, count, name) for count in (1, 2, 5) for name in assembly.STRATEGIES),
    ]:
        model = cases.mlp(shape, "softplus", dtype=dtype)
        optimizer = fm.Adam(lr=0.01, groups=[("*.bias", {"lr": 0.02})])
        executor = kind(model, losses.get(loss), optimizer, threads=threads, ema=0.9)
        optimizer.state_for(model).begin_average(model)
        values, squares = np.empty((2, 4)), []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "STRATEGIES", (strategy,))
            for step in range(4):
                weights = [model.parameters[f"{i}.weight"].astype(float) for i in range(3)]
                squares.append(sum((w * w).sum() for w in weights))
                executor.snapshot()
                for row, penalty in enumerate((None, lambda first, n: strengths[first - 1 :][:n])):
                    executor.restore()
                    executor.penalty = penalty
                    executor._steady = -1, np.inf, np.zeros((1, 0))
                    executor.train(Source(x, y), None, batch, step, step + 1, values[row])
        # As many roundings as a block of columns has rows.
        bound = 24 * np.finfo(dtype).eps
        expected = values[0] + 0.5 * strengths * np.array(squares)
        np.testing.assert_allclose(values[1], expected, rtol=bound)
        told.append(values[1].tobytes())
    assert len(set(told[1:])) == 1


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch", [5, 49, 73, 300])
def test_a_layer_of_every_size(batch, optimizer, dtype, isa):
    """Every way to cut a gradient into tiles: each number of inputs with some of outputs.

    A step of plain descent from W = 0 shows the gradient g, one of Adam g / (|g| + ε).
    """
    rng = np.random.default_rng(batch)
    x = rng.normal(size=(batch, 41)).astype(dtype)
    y = rng.normal(size=(batch, 41)).astype(dtype)
    epsilon = np.finfo(dtype).eps
    sizes = [(n, 1 + (k * n + batch) % 41) for n in range(1, 42) for k in (1, 7)]
    for inputs, outputs in sizes:
        a, b = x[:, :inputs], y[:, :outputs]
        model = fm.Sequential([fm.Dense(outputs, initializer="zeros")], dtype=dtype)
        made = {"sgd": fm.SGD(lr=1.0), "adam": fm.Adam(lr=1.0)}[optimizer]
        fm.Trainer(model, "mse", made, batch_size=batch, threads=1).step(a, b)
        scale = 2.0 / (batch * outputs)
        descent = scale * (a.T.astype(np.float64) @ b)
        # A sum of n products is off by less than n + 1 roundings of the sum of their sizes; here
        # with those of the error and of the mean.
        unsure = (batch + 4) * epsilon * scale * (np.abs(a.T.astype(np.float64)) @ np.abs(b))
        if optimizer == "adam":
            size = np.abs(descent) + 1e-8
            descent, unsure = descent / size, unsure / size + 16 * epsilon
        assert (np.abs(model.parameters["0.weight"] - descent) <= unsure).all(), (inputs, outputs)
