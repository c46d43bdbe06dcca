"""Layers: against PyTorch and formulas, random numbers, states, nesting, and what is refused."""

from __future__ import annotations

import copy
import hashlib
import pickle

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp import random_numbers
from fastmlp.layers import from_config
from fastmlp.plan import build

X, Y = cases.inputs(12, 5, dtype="float64"), cases.targets("real", 12, 3, dtype="float64")


def model_of(*layers, dtype="float64", inputs=5, seed=3):
    return fm.Sequential(layers, input_size=inputs, dtype=dtype, seed=seed)


# --- against PyTorch ---


def normed(kind):
    return {
        "BatchNorm": lambda: fm.BatchNorm(momentum=0.2, eps=1e-3),
        "LayerNorm": lambda: fm.LayerNorm(eps=1e-3),
    }[kind]()


@pytest.mark.parametrize("kind", ["BatchNorm", "LayerNorm"])
def test_normalization_is_pytorchs(kind, backend):
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)
    try:
        norms = {
            "BatchNorm": lambda: torch.nn.BatchNorm1d(7, momentum=0.2, eps=1e-3),
            "LayerNorm": lambda: torch.nn.LayerNorm(7, eps=1e-3),
        }
        theirs = torch.nn.Sequential(torch.nn.Linear(5, 7), norms[kind](), torch.nn.Linear(7, 3))
    finally:
        torch.set_default_dtype(torch.float32)
    model = model_of(fm.Dense(7), normed(kind), fm.Dense(3))
    with torch.no_grad():
        for index in (0, 1, 2):
            weight = model.parameters[f"{index}.weight"]
            weight[...] += 0.1 * np.cos(np.arange(weight.size)).reshape(weight.shape)
            theirs[index].weight.copy_(torch.tensor(weight.T.copy()))
            theirs[index].bias.copy_(torch.tensor(model.parameters[f"{index}.bias"].copy()))
    rule = torch.optim.Adam(theirs.parameters(), lr=0.01, eps=1e-3)
    trainer = fm.Trainer(model, optimizer=fm.Adam(lr=0.01, eps=1e-3), backend=backend)
    for _ in range(20):
        rule.zero_grad()
        loss = ((theirs(torch.tensor(X)) - torch.tensor(Y)) ** 2).mean()
        loss.backward()
        rule.step()
        assert trainer.step(X, Y) == pytest.approx(loss.item(), rel=1e-10)
    for index in (0, 1, 2):
        found = model.parameters[f"{index}.weight"].T
        np.testing.assert_allclose(found, theirs[index].weight.detach().numpy(), atol=1e-10)
    theirs.eval()
    expected = theirs(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(model.predict(X, backend=backend), expected, atol=1e-10)
    if kind == "BatchNorm":
        for name in ("running_mean", "running_var"):
            running = getattr(theirs[1], name).numpy()
            np.testing.assert_allclose(model.states[f"1.{name}"], running, atol=1e-12)


def test_embedding_and_residual_are_pytorchs(backend):
    torch = pytest.importorskip("torch")
    x = cases.layer_inputs("Embedding", 12, 5, "float64")
    model = model_of(
        fm.Embedding(40, 3),
        fm.Residual([fm.Dense(9, "tanh"), fm.Dense(7)]),
        fm.Concat([[fm.Dense(2)], []]),
        fm.Dense(3),
    )
    y = model.forward(x, backend=backend)
    model.backward(np.ones_like(y))
    p = {name: torch.tensor(a.copy(), requires_grad=True) for name, a in model.parameters.items()}
    table = torch.nn.functional.embedding(torch.tensor(x[:, 0]).long(), p["0.weight"])
    a = torch.cat([torch.tensor(x[:, 1:]), table], 1)
    inner = torch.tanh(a @ p["1.0.weight"] + p["1.0.bias"]) @ p["1.1.weight"] + p["1.1.bias"]
    a = a + inner
    a = torch.cat([a @ p["2.0.0.weight"] + p["2.0.0.bias"], a], 1)
    expected = a @ p["3.weight"] + p["3.bias"]
    expected.sum().backward()
    np.testing.assert_allclose(y, expected.detach().numpy(), atol=1e-12)
    for name, value in p.items():
        np.testing.assert_allclose(model.gradients[name], value.grad.numpy(), atol=1e-12)


# --- random numbers ---


def test_random_bits_are_uniform_and_independent():
    k = random_numbers.bits(5, 7, 11, 400, 500)
    near = 4.0 / np.sqrt(k.size)  # four standard deviations of a mean of ±1
    for bit in range(32):
        signs = 2.0 * ((k >> np.uint32(bit)) & 1) - 1.0
        assert abs(signs.mean()) < near
        for other in (signs[:, 1:] * signs[:, :-1], signs[1:] * signs[:-1]):
            assert abs(other.mean()) < near * 1.1
    u = k / 2.0**31 - 1.0
    for place in ((6, 7, 11), (5, 8, 11), (5, 7, 12)):
        other = random_numbers.bits(*place, 400, 500) / 2.0**31 - 1.0
        assert abs((u * other).mean()) < near
    # A number depends on its row and column alone.
    np.testing.assert_array_equal(random_numbers.bits(5, 7, 11, 30, 40), k[:30, :40])


def test_normal_numbers_are_normal():
    n = random_numbers.normal(np.dtype("f8"), 1, 2, 3, 400, 500)
    root = np.sqrt(n.size)
    assert abs(n.mean()) * root < 4
    assert abs((n**2).mean() - 1) * root < 4 * np.sqrt(2)
    assert abs((n**4).mean() - 3) * root < 4 * np.sqrt(96)
    assert 4 < np.abs(n).max() < 5.4


def mask_of(model, x, backend):
    return model.forward(x, training=True, backend=backend)


@pytest.mark.parametrize("columns", [1, 5, 16, 37])
def test_masks_are_the_same_everywhere(columns, dtype, isa):
    x = np.ones((9, columns), dtype)
    both = [model_of(fm.Dropout(0.4), inputs=columns, dtype=dtype) for _ in range(2)]
    seen = []
    for _ in range(3):
        masks = [mask_of(model, x, name) for model, name in zip(both, cases.BACKENDS, strict=True)]
        np.testing.assert_array_equal(*masks)
        seen.append(masks[0])
        grads = [model.backward(x) for model in both]
        np.testing.assert_array_equal(grads, masks)
        assert set(np.unique(masks[0])) <= {0.0, np.dtype(dtype).type(1 / 0.6)}
    if columns > 1:
        assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(both[0].predict(x), x)
    np.testing.assert_array_equal(both[0].forward(x), x)


def test_noise_is_the_same_everywhere(dtype, isa):
    x = np.zeros((9, 37), dtype)
    noise = [
        mask_of(model_of(fm.GaussianNoise(0.5), inputs=37, dtype=dtype), x, name)
        for name in cases.BACKENDS
    ]
    np.testing.assert_allclose(*noise, rtol=0, atol=16 * np.finfo(dtype).eps)
    assert 0.4 < noise[0].std() < 0.6


def test_layers_and_seeds_have_masks_of_their_own():
    x = np.ones((8, 50))
    model = model_of(fm.Dropout(0.5), fm.Dropout(0.5), inputs=50)
    assert 0.05 < (mask_of(model, x, "native") > 0).mean() < 0.45  # about a quarter
    others = [model_of(fm.Dropout(0.5), inputs=50, seed=seed) for seed in (0, 1)]
    assert not np.array_equal(*(mask_of(other, x, "native") for other in others))


def stack():
    return [
        fm.GaussianNoise(0.1),
        fm.Dense(20, "relu", max_norm=1.0),
        fm.BatchNorm(),
        fm.Dropout(0.3),
        fm.Residual([fm.LayerNorm(), fm.Dense(20, "tanh"), fm.Scale(0.1)]),
        fm.Concat([[fm.Dense(3)], []]),
        fm.Dense(3),
    ]


def numbers(model):
    vectors = model.flat_parameters, model.flat_states
    return np.concatenate([vector.array() for vector in vectors])


def test_fit_is_so_many_epochs_and_so_many_steps(backend):
    settings = {"optimizer": "adam", "batch_size": 6, "backend": backend}
    fitted, stepped = model_of(*stack()), model_of(*stack())
    fitted.fit(X, Y, epochs=3, seed=5, **settings)
    trainer = fm.Trainer(stepped, **settings)
    for _ in range(3):
        trainer.epoch(X, Y, seed=5)
    np.testing.assert_array_equal(numbers(fitted), numbers(stepped))
    # Without shuffling, an epoch is its steps; they take the model's seed.
    whole, single = model_of(*stack()), model_of(*stack())
    fm.Trainer(whole, **settings).epoch(X, Y, shuffle=False)
    trainer = fm.Trainer(single, **settings)
    for start in (0, 6):
        trainer.step(X[start : start + 6], Y[start : start + 6])
    np.testing.assert_array_equal(numbers(whole), numbers(single))


def test_the_seed_of_a_fit_decides_the_masks():
    results = []
    for seed in (1, 2):
        model = model_of(fm.Dense(20, "relu"), fm.Dropout(0.5), fm.Dense(3))
        model.fit(X, Y, shuffle=False, seed=seed)
        results.append(numbers(model))
    assert not np.array_equal(*results)


def test_many_single_steps_are_a_span():
    # So many that the step is bound once and for all.
    settings = {"optimizer": "adam", "batch_size": 6, "threads": 1}
    span, single = (model_of(*stack(), dtype="float32") for _ in range(2))
    x, y = X.astype("f4"), Y.astype("f4")
    trainers = [fm.Trainer(model, **settings) for model in (span, single)]
    for _ in range(60):
        trainers[0].epoch(x, y, shuffle=False)
        for start in (0, 6):
            trainers[1].step(x[start : start + 6], y[start : start + 6])
    np.testing.assert_array_equal(numbers(span), numbers(single))


def test_the_explicit_way_draws_the_same_numbers(backend):
    fused, explicit = model_of(*stack()), model_of(*stack())
    rule, loss = fm.SGD(lr=0.1), fm.losses.MSE()
    trainer = fm.Trainer(fused, optimizer=fm.SGD(lr=0.1), backend=backend)
    for _ in range(5):
        trainer.step(X, Y)
        _, grad = loss(explicit.forward(X, training=True, backend=backend), Y)
        explicit.backward(grad)
        rule.step(explicit)
    np.testing.assert_allclose(numbers(explicit), numbers(fused), rtol=1e-10, atol=1e-12)


def test_a_resumed_run_draws_the_same_numbers(tmp_path):
    settings = {"optimizer": "adam", "batch_size": 6}
    whole = model_of(*stack())
    whole.fit(X, Y, epochs=4, seed=9, **settings)
    first, second = model_of(*stack()), model_of(*stack())
    path = tmp_path / "run.ckpt"
    first.fit(X, Y, epochs=2, seed=9, checkpoint=path, **settings)
    second.fit(X, Y, epochs=4, seed=9, checkpoint=path, resume=True, **settings)
    np.testing.assert_array_equal(numbers(second), numbers(whole))


def trained(threads, dtype, codes=False):
    layers = stack()
    x = X
    if codes:
        layers, x = [fm.Embedding(40, 17), *layers[1:]], cases.layer_inputs("Embedding", 12, 5)
    model = model_of(*layers, dtype=dtype)
    model.fit(x, Y, epochs=2, batch_size=5, optimizer="adam", l2=0.01, threads=threads)
    return hashlib.sha256(numbers(model).tobytes()).hexdigest()


@pytest.mark.parametrize("codes", [False, True])
def test_threads_do_not_change_bits(codes, dtype, isa):
    assert len({trained(threads, dtype, codes) for threads in (1, 2, 3, 7)}) == 1


def test_a_wide_instruction_set_does_not_change_bits(dtype):
    from conftest import USABLE
    from fastmlp import _native

    before, seen = _native.isa(), set()
    for name in USABLE:
        if name != "portable":
            _native.choose_isa(name)
            seen.add(trained(2, dtype))
    _native.choose_isa(before)
    assert len(seen) <= 1


# --- batch normalization and its states ---


def test_running_statistics_by_formula(backend):
    model = model_of(fm.BatchNorm(momentum=0.25), fm.Dense(3))
    model.forward(X, training=True, backend=backend)
    np.testing.assert_allclose(model.states["0.running_mean"], 0.25 * X.mean(axis=0), atol=1e-14)
    expected = 0.75 + 0.25 * X.var(axis=0, ddof=1)
    np.testing.assert_allclose(model.states["0.running_var"], expected, atol=1e-14)
    before = numbers(model)
    model.forward(X, backend=backend)
    model.predict(X, backend=backend)
    np.testing.assert_array_equal(numbers(model), before)


def test_a_long_batch_normalizes_exactly(dtype, isa):
    x = (cases.inputs(900, 40) * 3 + 100).astype(dtype)
    y = model_of(fm.BatchNorm(), inputs=40, dtype=dtype).forward(x, training=True)
    eps = np.finfo(dtype).eps
    assert np.abs(y.mean(axis=0)).max() < 100 * 8 * eps
    assert np.abs(y.astype("f8").std(axis=0) - 1).max() < 1e-5 + 100 * eps


def test_frozen_normalization_keeps_its_weights_and_follows_the_data(backend):
    model = model_of(fm.BatchNorm(), fm.Dense(3))
    model.freeze(0)
    model.fit(X, Y, batch_size=6, backend=backend)
    np.testing.assert_array_equal(model.parameters["0.weight"], 1)
    assert np.abs(model.states["0.running_mean"]).max() > 0


def test_states_come_back_after_divergence(backend):
    model = model_of(fm.Dense(4, "relu"), fm.BatchNorm(), fm.Dense(3))
    trainer = fm.Trainer(model, optimizer=fm.SGD(lr=0.01), batch_size=4, backend=backend)
    trainer.epoch(X, Y)
    before = numbers(model).copy()
    trainer.optimizer.lr = 1e200
    with pytest.raises(fm.DivergenceError):
        trainer.epoch(X, Y)
    np.testing.assert_array_equal(numbers(model), before)


def test_early_stopping_restores_states():
    model = model_of(fm.BatchNorm(), fm.Dense(3))
    kept = {}

    class Watch(fm.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept[epoch] = numbers(self.model).copy()

    stopping = fm.callbacks.EarlyStopping(monitor="loss", restore_best_weights=True, patience=50)
    model.fit(X, Y, epochs=6, callbacks=[Watch(), stopping], optimizer=fm.SGD(lr=0.8))
    np.testing.assert_array_equal(numbers(model), kept[stopping.best_epoch])


@pytest.mark.parametrize("batch_size", [1, 11])
def test_a_batch_of_one_row_is_refused_before_anything_changes(batch_size, backend):
    model = model_of(fm.Residual([fm.BatchNorm(), fm.Dense(5)]), fm.Dense(3))
    before = numbers(model).copy()
    with pytest.raises(ValueError, match=r"BatchNorm \(layer 0.0\) needs at least 2 rows"):
        model.fit(X, Y, batch_size=batch_size, backend=backend)
    with pytest.raises(ValueError, match="at least 2 rows"):
        fm.Trainer(model, backend=backend).step(X[:1], Y[:1])
    with pytest.raises(ValueError, match="at least 2 rows"):
        model.forward(X[:1], training=True, backend=backend)
    np.testing.assert_array_equal(numbers(model), before)
    assert model.predict(X[:1], backend=backend).shape == (1, 3)


# --- max-norm ---


@pytest.mark.parametrize("units", [1, 3, 20])
def test_max_norm_by_formula(units, dtype, backend):
    plain, limited = (
        model_of(fm.Dense(18, "tanh"), fm.Dense(units, max_norm=limit), dtype=dtype)
        for limit in (None, 0.3)
    )
    y = cases.targets("real", 12, units, dtype=dtype)
    for model in (plain, limited):
        model.fit(X, y, batch_size=12, optimizer=fm.SGD(lr=0.1), backend=backend)
    w = plain.parameters["1.weight"]
    norms = np.linalg.norm(w.astype("f8"), axis=0)
    expected = w * np.minimum(1, 0.3 / norms)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(limited.parameters["1.weight"], expected, rtol=32 * eps, atol=eps)
    np.testing.assert_array_equal(limited.parameters["1.bias"], plain.parameters["1.bias"])
    # What the next step reads backward is the limited weight.
    limited.fit(X, y, batch_size=12, epochs=3, optimizer=fm.SGD(lr=0.1), backend=backend)
    assert np.linalg.norm(limited.parameters["1.weight"], axis=0).max() <= 0.3 * (1 + 32 * eps)


def test_max_norm_of_the_explicit_step_and_of_frozen_layers():
    model = model_of(fm.Dense(4, max_norm=0.1), fm.Dense(3, max_norm=0.1))
    model.freeze(1)
    before = model.parameters["1.weight"].copy()
    model.forward(X)
    model.backward(np.zeros((12, 3)))
    fm.SGD(lr=0.1).step(model)
    norms = np.linalg.norm(model.parameters["0.weight"], axis=0)
    np.testing.assert_allclose(norms, 0.1, rtol=1e-14)
    np.testing.assert_array_equal(model.parameters["1.weight"], before)


# --- nesting, plain data, copies, files ---


def test_nested_names_and_summary():
    block = fm.Residual([fm.Dense(7, "relu"), fm.Residual([fm.Dense(7)])], projection=True)
    model = model_of(fm.Dense(4), block, fm.Concat([[], [fm.BatchNorm(), fm.Dense(2)]]))
    assert list(model.parameters) == [
        "0.weight",
        "0.bias",
        "1.0.weight",
        "1.0.bias",
        "1.1.0.weight",
        "1.1.0.bias",
        "1.projection.weight",
        "2.1.0.weight",
        "2.1.0.bias",
        "2.1.1.weight",
        "2.1.1.bias",
    ]
    assert list(model.states) == ["2.1.0.running_mean", "2.1.0.running_var"]
    assert model.output_size == 9
    lines = str(model).splitlines()
    assert len(lines) == 1 + 9 + 1
    assert "Residual(projection=True)" in lines[2]
    assert "Residual([Dense(7, 'relu'), Residual([Dense(7, 'identity')])], proj" in repr(model)


@pytest.mark.parametrize("name", cases.LAYERS)
def test_layers_survive_copies_files_and_plain_data(name, tmp_path):
    x = cases.layer_inputs(name, 12, 5)
    model = fm.Sequential(cases.LAYERS[name](), seed=2)
    model.fit(x, Y, batch_size=6)
    expected = model.predict(x)
    model.save(tmp_path / "m.safetensors")
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for twin in (*twins, fm.load(tmp_path / "m.safetensors")):
        np.testing.assert_array_equal(twin.predict(x), expected)
        assert repr(twin) == repr(model)
        assert twin.config() == model.config()
        twin.fit(x, Y, batch_size=6)
        assert not np.array_equal(twin.predict(x), expected)
    np.testing.assert_array_equal(model.predict(x), expected)
    for layer in model.layers:
        assert repr(from_config(layer.config())) == repr(layer)


def test_freezing_what_is_inside(backend):
    inner = fm.Dense(5, "tanh")
    model = model_of(fm.Residual([inner, fm.Scale(0.5)]), fm.Residual([fm.Dense(3)], True))
    model.freeze(inner, 1)
    assert model.layers[0].trainable
    assert not model.layers[1].trainable
    twin = fm.Sequential.from_config(model.config())
    assert [spec.trainable for spec in twin.parameter_specs] == [False, False, True] + [False] * 3
    before = {name: array.copy() for name, array in model.parameters.items()}
    model.fit(X, Y, backend=backend)
    moved = [name for name, a in model.parameters.items() if not np.array_equal(a, before[name])]
    assert moved == ["0.1.weight"]
    model.unfreeze()
    assert all(spec.trainable for spec in model.parameter_specs)


def test_a_frozen_scale_is_a_fixed_factor(backend):
    scale = fm.Scale(3.0)
    scale.trainable = False
    model = model_of(scale, fm.Dense(3))
    plan = build(model, 4, loss=fm.losses.MSE(), optimizer=fm.SGD())
    assert "scale_backward_params" not in [step.op for step in plan.steps]
    model.fit(X, Y, backend=backend)
    np.testing.assert_array_equal(model.parameters["0.weight"], 3)


def test_no_penalty_on_what_scales():
    model = model_of(*stack(), fm.Scale(bias=True))
    decayed = {spec.name for spec in model.parameter_specs if spec.decay}
    assert decayed == {"1.weight", "4.1.weight", "5.0.0.weight", "6.weight"}


def test_dropout_behind_the_only_output():
    # In training the output is no longer that of the layer of one output.
    for behind in (fm.Dropout(0.5), fm.GaussianNoise(0.1), fm.BatchNorm(), fm.Scale()):
        results = []
        for backend in cases.BACKENDS:
            model = model_of(fm.Dense(4, "tanh"), fm.Dense(1), copy.deepcopy(behind))
            rule = fm.SGD(lr=0.1)
            model.fit(X, Y[:, :1], batch_size=6, epochs=2, optimizer=rule, backend=backend)
            results.append([numbers(model), model.predict(X, backend=backend).ravel()])
        for actual, expected in zip(*results, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", cases.LAYERS)
def test_graphs_and_jacobians(name):
    x = cases.layer_inputs(name, 4, 5, "float64")
    model = fm.Sequential(cases.LAYERS[name](), input_size=5, dtype="float64", seed=1)
    graph = model.graph(x, Y[:4])
    y = model.predict(x)
    assert graph.output.item() == pytest.approx(((y - Y[:4]) ** 2).mean(), rel=1e-12)
    slopes = model.jacobian(x)
    assert slopes.shape == (4, 3, 5)
    step = 1e-6
    moved = x.copy()
    moved[:, 4] += step
    numerical = (model.predict(moved) - y) / step
    np.testing.assert_allclose(slopes[:, :, 4], numerical, atol=1e-4)
    if name != "Embedding":
        assert model.jacobian(x, "parameters").shape == (4, 3, model.parameter_count)


def test_profile_shows_the_steps():
    text = str(fm.profile(model_of(*stack(), dtype="float32"), 8, seconds=0.01))
    for op in ("dropout", "batch_norm_backward", "layer_norm", "max_norm", "columns", "update"):
        assert op in text


# --- codes ---

CODES = cases.layer_inputs("Embedding", 12, 5)


def coded():
    return fm.Sequential(cases.LAYERS["Embedding"](), seed=1)


@pytest.mark.parametrize(
    ("column", "value"), [(0, 40), (0, -1), (1, 5), (1, 2.5), (0, np.nan), (0, np.inf), (1, 1e30)]
)
def test_wrong_codes_are_refused_before_anything_changes(column, value, backend):
    x = CODES.copy()
    x[7, column] = value
    model = coded()
    with pytest.raises(ValueError, match=f"column {column} of x|NaN|finite"):
        model.fit(x, Y, backend=backend)
    assert model.input_size is None
    trainer = fm.Trainer(model, backend=backend)
    for _ in range(40):  # until the step is bound for good, if it is
        trainer.step(CODES, Y)
    before = numbers(model).copy()
    message = (
        f"column {column} of x must hold the codes 0 … {(39, 4)[column]} .*; row 7 has [-0-9ni]"
    )
    for call in (
        lambda: trainer.step(x, Y),
        lambda: trainer.epoch(x, Y),
        lambda: model.predict(x, backend=backend),
        lambda: model.predict(x[7:8], backend=backend),
        lambda: model.forward(x, backend=backend),
        lambda: model.evaluate(x, Y, backend=backend),
    ):
        with pytest.raises(ValueError, match=r"must hold the codes|NaN|finite"):
            call()
    with pytest.raises(ValueError, match=message):
        trainer.step(x, Y)
    np.testing.assert_array_equal(numbers(model), before)


@pytest.mark.parametrize("kind", ["i1", "u1", "i4", "i8", "f4", "?"])
def test_codes_of_any_type(kind, backend):
    codes = (np.arange(12) % 2).astype(kind)[:, None]
    model = fm.Sequential([fm.Embedding(2, 3)], dtype="float64", seed=1)
    y = model.predict(codes, backend=backend)
    np.testing.assert_array_equal(y, model.parameters["0.weight"][codes[:, 0].astype(int)])


def test_the_engine_never_leaves_its_table(isa):
    model = coded()
    model.build(5)
    executor = model.executor("native")
    x = CODES.copy()
    x[:6, 0] = [np.nan, np.inf, -np.inf, 1e30, -7, 39.7]
    out = np.empty((12, 3), "f4")
    executor.predict(x, out, None)
    assert np.isfinite(out[6:]).all()


def test_embedding_reads_the_models_own_columns():
    for layers in (
        [fm.Dense(5), fm.Embedding(3, 2)],
        [fm.Embedding(3, 2), fm.Embedding(3, 2, column=-1)],
        [fm.Concat([[fm.Scale(), fm.Embedding(3, 2)], []])],
    ):
        with pytest.raises(ValueError, match="one of the model's own input columns"):
            fm.Sequential(layers, input_size=4)
    nested = fm.Sequential([fm.Concat([[fm.Embedding(3, 2, column=2)], []])], input_size=4)
    assert [column for column, _ in nested.codes(4)] == [2]
    with pytest.raises(ValueError, match="column of Embedding"):
        fm.Sequential([fm.Embedding(3, 2, column=4)], input_size=4)


# --- what is refused ---


@pytest.mark.parametrize(
    ("make", "exception", "message"),
    [
        (lambda: fm.Dropout(1.0), ValueError, "rate must be a finite number >= 0 and < 1"),
        (lambda: fm.Dropout("a"), TypeError, "rate"),
        (lambda: fm.GaussianNoise(-1), ValueError, "std"),
        (lambda: fm.BatchNorm(momentum=2), ValueError, "momentum"),
        (lambda: fm.BatchNorm(eps=0), ValueError, "eps"),
        (lambda: fm.LayerNorm(eps=0), ValueError, "eps"),
        (lambda: fm.Scale(bias=1), TypeError, "bias"),
        (lambda: fm.Dense(3, max_norm=0), ValueError, "max_norm"),
        (lambda: fm.Residual([]), ValueError, "at least one layer"),
        (lambda: fm.Residual(fm.Dense(3)), TypeError, "must be a sequence of layers"),
        (lambda: fm.Residual([3]), TypeError, r"layers of Residual\[0\] must be a layer"),
        (lambda: fm.Concat([]), ValueError, "at least one branch"),
        (lambda: fm.Concat([fm.Dense(3)]), TypeError, r"branches\[0\] must be a sequence"),
        (lambda: fm.Concat(3), TypeError, "list of lists"),
        (lambda: fm.Embedding(0, 3), ValueError, "categories"),
        (lambda: fm.Embedding(2**25, 3), ValueError, "categories"),
        (lambda: fm.Embedding(3, 0), ValueError, "units"),
        (lambda: fm.Embedding(3, 2, column=0.5), TypeError, "column"),
        (lambda: model_of(fm.Residual([fm.Dense(4)])), ValueError, "give projection=True"),
        (
            lambda: model_of(fm.Residual([fm.Standardize()])),
            ValueError,
            "must be the first layer",
        ),
    ],
)
def test_wrong_arguments(make, exception, message):
    with pytest.raises(exception, match=message):
        make()


def test_a_layer_stands_in_one_place_only():
    layer = fm.Dense(5)
    with pytest.raises(ValueError, match=r"layers\[1\] \(its layer 0\) is in the model twice"):
        model_of(layer, fm.Residual([layer]))
    first = model_of(fm.Residual([layer]))
    with pytest.raises(ValueError, match="belongs to another model"):
        model_of(layer)
    del first


@pytest.mark.parametrize("columns", [1, 3, 19, 300])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: fm.LayerNorm(),
        lambda n: fm.BatchNorm(),
        lambda n: fm.Scale(0.5, bias=True),
        lambda n: fm.GaussianNoise(0.1),
        lambda n: fm.Dropout(0.3),
        lambda n: fm.Residual([fm.LayerNorm(), fm.Dense(n, "softplus")]),
        lambda n: fm.Concat([[], [fm.Dense(3, "sigmoid"), fm.LayerNorm()], [fm.Dense(2)]]),
    ],
)
def test_columns_that_do_not_exist_do_not_count(make, columns, dtype, isa):
    # Behind such an activation the padding of the engine's matrices is not zero.
    results = []
    for backend in cases.BACKENDS:
        model = model_of(fm.Dense(columns, "sigmoid"), make(columns), fm.Dense(3), dtype=dtype)
        found = []
        for training in (False, True):
            y = model.forward(X, training=training, backend=backend)
            found += [y, model.backward(np.cos(y)), model.flat_gradients.array().copy()]
        results.append([*found, model.predict(X, backend=backend), numbers(model)])
    # Of one column LayerNorm takes everything away, and what is left is divided by √eps.
    bound = 1000 * cases.Shape((5, columns, columns, 3), 12).roundings * np.finfo(dtype).eps
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


def test_a_layer_that_emits_nothing_is_told_how():
    class Square(fm.layers.Layer):
        pass

    with pytest.raises(NotImplementedError, match=r"Square must emit its steps in emit\(b, x\)"):
        model_of(Square(), fm.Dense(3)).predict(X)
