"""Models from and to PyTorch: the same predictions, the same state, clear refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fastmlp as fm
from cases import ACTIVATIONS, each, inputs
from exported import assert_same, models, trained

torch = pytest.importorskip("torch")
nn = torch.nn

# Sums of the two libraries differ in their order.
TOLERANCES = {"float32": 2e-6, "float64": 1e-14}


def outputs(module, x, dtype):
    with torch.no_grad():
        return module(torch.from_numpy(x.astype(dtype))).numpy()


@pytest.mark.parametrize("make", models())
def test_there_and_back(make, dtype):
    model = make(dtype)
    x = trained(model)
    module = model.to_torch()
    assert not module.training
    expected = model.predict(x)
    assert_same(outputs(module, x, dtype), expected, TOLERANCES[dtype])
    back = fm.from_torch(module)
    np.testing.assert_array_equal(back.predict(x), expected)
    assert not back.needs_data
    for mine, other in ((model.parameters, back.parameters), (model.states, back.states)):
        assert list(mine) == list(other)
        for name in mine:
            np.testing.assert_array_equal(mine[name], other[name])


@pytest.mark.parametrize("activation", [a for _, a in each(ACTIVATIONS)], ids=str)
def test_every_activation_behind_a_linear_and_alone(activation):
    row = activation.counterparts.torch
    make = getattr(nn, row.name)
    linear, norm = nn.Linear(4, 5), nn.LayerNorm(5)
    arguments = row.arguments(activation)
    module = nn.Sequential(linear, make(**arguments), norm, make(**arguments)).eval()
    model = fm.from_torch(module)
    assert len(model.layers) == 2 + (activation.name != "identity")
    assert model.layers[0].activation == activation
    x = inputs(20, 4)
    assert_same(outputs(module, x, "float32"), model.predict(x), 5e-6)


def tower():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(8, 6, bias=False), nn.LayerNorm(6), nn.LeakyReLU(0.2))
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(5, 8),
        nn.BatchNorm1d(8, momentum=0.2, eps=1e-3),
        nn.ReLU(),
        nn.Dropout(0.3),
        inner,
        nn.Identity(),
        nn.Linear(6, 3),
        nn.Softmax(dim=1),
    )


def test_a_nested_module_with_running_statistics(dtype):
    module = tower().to(getattr(torch, dtype))
    x = inputs(40, 5, dtype=dtype)
    module(torch.from_numpy(3 * x + 1))  # in training, so that the statistics move
    module.eval()
    model = fm.from_torch(module, seed=7)
    assert model.seed == 7
    assert [type(layer).__name__ for layer in model.layers] == [
        "Dense", "BatchNorm", "Activation", "Dropout", "Dense", "LayerNorm", "Activation", "Dense"
    ]  # fmt: skip
    assert (model.layers[1].momentum, model.layers[1].eps) == (0.2, 1e-3)
    assert model.layers[3].rate == 0.3
    assert model.layers[-1].activation.name == "softmax"
    assert_same(model.predict(x), outputs(module, x, dtype), TOLERANCES[dtype])
    for name in ("running_mean", "running_var"):
        running = model.states[f"1.{name}"]
        np.testing.assert_array_equal(running, getattr(module[2], name).numpy())
        running[...] += 1  # a copy: the module's stay
        assert not np.array_equal(running, getattr(module[2], name).numpy())


def test_training_goes_on_alike():
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2)).double()
    model = fm.from_torch(module)
    x, y = inputs(32, 4, dtype="float64"), inputs(32, 2, 1, "float64")
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    trainer = fm.Trainer(model, loss="mse", optimizer=fm.Adam(lr=1e-2))
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        assert trainer.step(x, y) == pytest.approx(loss.item(), rel=1e-9)
    assert_same(model.predict(x), outputs(module.eval(), x, "float64"), 1e-9)


def test_frozen_stays_frozen():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)).eval()
    module[0].requires_grad_(False)
    model = fm.from_torch(module)
    # Without weight and bias is with those of 1 and 0, which no training changes.
    assert [layer.trainable for layer in model.layers] == [False, False, True]
    assert_same(model.predict(inputs(9, 3)), outputs(module, inputs(9, 3), "float32"))
    back = model.to_torch()
    assert [p.requires_grad for p in back.parameters()] == [False] * 4 + [True] * 2


def test_sizes_are_known_behind_a_concat_without_parameters():
    layers = [
        fm.Concat([[], [fm.Concat([[fm.Activation("tanh")], []])]]),  # three times its input
        fm.Residual([fm.Concat([[], [], [fm.Activation("relu")]])], projection=True),
        fm.Residual([fm.Concat([[], []]), fm.Dense(27)]),
        fm.Dense(2),
    ]
    model = fm.Sequential(layers, input_size=3)
    back = fm.from_torch(model.to_torch())
    assert back.input_size == 3
    assert list(back.parameters) == list(model.parameters)
    np.testing.assert_array_equal(back.predict(inputs(9, 3)), model.predict(inputs(9, 3)))


def test_copies_share_nothing():
    model = fm.MLP([3, 4, 2])
    module = model.to_torch()
    with torch.no_grad():
        module[0].weight.zero_()
    assert model.parameters["0.weight"].any()
    again = fm.from_torch(module)
    again.parameters["0.weight"][...] = 1
    assert not module[0].weight.any()


def test_a_trained_model_goes_back_into_its_module():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model = fm.from_torch(module)
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    model.fit(x, x[:, :2] * 2, loss="mse", epochs=2)
    module.load_state_dict(model.to_torch().state_dict())
    module.eval()
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)), model.predict(x), atol=1e-5)


def test_a_single_linear_and_a_model_without_sizes():
    assert repr(fm.from_torch(nn.Linear(3, 2)).layers) == "(Dense(2, 'identity'),)"
    assert fm.from_torch(nn.ReLU()).predict([[-1.0, 2.0]]).tolist() == [[0.0, 2.0]]


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 2))


class Usual(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(2, 3), nn.Linear(3, 1)


class Widened(nn.Linear):
    pass


SHARED = nn.Linear(2, 2)
TIED = nn.Linear(2, 2)
TIED.weight = SHARED.weight
REFUSED = {
    "of an unknown class": (
        nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Conv1d(1, 1, 1))),
        r"module\.1\.0 \(Conv1d\) .* these have: BatchNorm1d.* Linear",
    ),
    "of one's own class": (Own(), r"module \(Own\) .* if all it does is net, give that"),
    "with layers of its own": (Usual(), r"Sequential\(module\.fc1, module\.fc2\), with the act"),
    "logarithm of softmax": (nn.LogSoftmax(1), "leave it out: .* 'cross_entropy' takes logits"),
    "of a class derived": (Widened(2, 2), r"Widened has no counterpart"),
    "sizes that do not fit": (
        nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 1)),
        r"module\.1 \(Linear\) takes 2 inputs, but it is given 3",
    ),
    "another GELU": (nn.GELU(approximate="tanh"), r"approximate='tanh' \(only 'none'\)"),
    "another softplus": (nn.Softplus(beta=2), "beta=2"),
    "softmax over rows": (nn.Softmax(dim=0), "dim=0"),
    "dropout of all": (nn.Dropout(1.0), "rate must be .* < 1; got 1.0"),
    "norm without statistics": (nn.BatchNorm1d(2, track_running_stats=False), "track_running"),
    "cumulative statistics": (nn.BatchNorm1d(2, momentum=None), "momentum must be"),
    "norm without bias": (nn.LayerNorm(2, bias=False), "no bias, but other parameters"),
    "norm over two dimensions": (nn.LayerNorm((2, 3)), r"acts on \(2, 3\)"),
    "flatten of some": (nn.Flatten(0), "all dimensions but the first"),
    "half precision": (nn.Linear(2, 2).half(), r"got torch.float16: use module.float\(\)"),
    "mixed precision": (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), "one dtype"),
    "shared module": (nn.Sequential(SHARED, SHARED), r"module\.1 \(Linear\) shares parameters"),
    "shared weight": (nn.Sequential(SHARED, TIED), r"module\.1 \(Linear\) shares parameters"),
    "no values": (nn.Linear(2, 2, device="meta"), "meta"),
    "nothing": (nn.Sequential(nn.Identity()), "no layer that computes anything"),
}


@pytest.mark.parametrize(("module", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_carried_is_refused(module, message):
    with pytest.raises(ValueError, match=message):
        fm.from_torch(module)


def test_what_cannot_go_is_refused():
    own = fm.Sequential([fm.Dense(2, fm.graph.activation(fm.graph.sin))], input_size=2)
    with pytest.raises(ValueError, match=r"layer 0 \(Dense\): the activation .* those of elu, "):
        own.to_torch()
    with pytest.raises(ValueError, match="sizes of the model are not known"):
        fm.Sequential([fm.Dense(2)]).to_torch()
    with pytest.raises(TypeError, match=r"torch.nn.Module; got 3"):
        fm.from_torch(3)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (lambda: fm.from_torch(None), fm.MLP([2, 1]).to_torch):
        with pytest.raises(ImportError, match=r'pip install "fastmlp\[torch\]"'):
            call()
