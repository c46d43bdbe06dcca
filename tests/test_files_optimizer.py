"""An optimizer and its state in a model's file."""

import json

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import schedules
from saved import join, make, split

OPTIMIZERS = {
    "sgd": lambda: fm.SGD(lr=0.1),
    "momentum": lambda: fm.SGD(lr=0.1, momentum=0.9, nesterov=True),
    "adamw": lambda: fm.AdamW(groups=[("*.bias", {"weight_decay": 0.0})]),
    "scheduled": lambda: fm.Adam(lr=schedules.Cosine(0.1, 40), amsgrad=True),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def data():
    rng = np.random.default_rng(1)
    return rng.normal(size=(24, 3)), rng.integers(0, 2, 24)


def train(network, optimizer, epochs):
    x, y = data()
    network.fit(x, y, loss="cross_entropy", optimizer=optimizer, epochs=epochs, batch_size=8)
    return network.flat_parameters.array().tobytes()


class TestOptimizer:
    @pytest.mark.parametrize("name", OPTIMIZERS)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_training_goes_on_with_the_same_bits(self, path, name, dtype):
        network, optimizer = make(dtype), OPTIMIZERS[name]()
        train(network, optimizer, 3)
        network.save(path, optimizer=optimizer)
        expected = train(network, optimizer, 2)
        loaded = fm.load(path)
        restored = fm.load_optimizer(path, loaded)
        assert restored.config() == optimizer.config()
        assert restored.state_for(loaded).step == 9
        assert train(loaded, restored, 2) == expected

    def test_a_checkpoint_has_one_as_well(self, path):
        network, (x, y) = make(), data()
        trainer = fm.Trainer(network, "cross_entropy", fm.Adam(), batch_size=8)
        trainer.epoch(x, y)
        trainer.save_checkpoint(path)
        loaded = fm.load(path)
        ours, theirs = trainer.optimizer, fm.load_optimizer(path, loaded)
        assert theirs.state_for(loaded).step == 3
        for a, b in zip(ours.state_for(network).slots, theirs.state_for(loaded).slots, strict=True):
            np.testing.assert_array_equal(a.array(), b.array())

    def test_which_model(self, path):
        network, optimizer = make(), fm.Adam()
        network.save(path, optimizer=optimizer)
        for other in (make("float64"), fm.MLP([3, 4, 2])):
            with pytest.raises(ValueError, match=r"the parameters that .* was saved with"):
                fm.load_optimizer(path, other)
        make().save(path)
        with pytest.raises(fm.ModelFormatError, match="holds no optimizer"):
            fm.load_optimizer(path, network)

    def test_what_no_file_can_hold_is_refused(self, path):
        network = make()
        with pytest.raises(TypeError, match="optimizer must be an Optimizer"):
            network.save(path, optimizer="adam")
        with pytest.raises(TypeError, match="a function cannot be stored"):
            network.save(path, optimizer=fm.Adam(lr=schedules.Function(lambda step: 0.1)))
        optimizer = fm.Adam()
        optimizer.state_for(network).slots[0].array()[0] = np.nan
        with pytest.raises(ValueError, match=r"finite; optimizer/m"):
            network.save(path, optimizer=optimizer)
        assert not path.exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"step": -1}, "step"),
            ({"epoch": 1.5}, "epoch"),
            ({"vectors": ["m"]}, "keeps"),
            ({"vectors": ["m", "v", "v"]}, "keeps"),
            ({"vectors": ["m", "v", "w"]}, "lacks 'optimizer/w'"),
            ({"vectors": 3}, "list of names"),
            ({"config": {"name": "adan"}}, "adam"),
            ({"config": {"name": "adam", "lr": -1}}, "lr"),
            ({"config": {"name": "sgd"}}, None),
            ({"config": {"name": "adam", "groups": [["none", {}]]}}, "fits none"),
            ({"config": {"name": "adam", "groups": [["[" * 50_000, {}]]}}, "200 characters"),
            ({"config": {"name": "adam", "groups": [["*", {}]] * 1001}}, "at most 1000"),
        ],
    )
    def test_what_is_said_of_it_is_checked(self, path, change, message):
        network = make()
        network.save(path, optimizer=fm.Adam())
        header, content = split(path)
        description = json.loads(header["__metadata__"]["fastmlp"])
        description["optimizer"].update(change)
        header["__metadata__"]["fastmlp"] = json.dumps(description)
        join(path, header, content)
        with pytest.raises(fm.ModelFormatError, match=message):
            fm.load_optimizer(path, network)

    def test_its_values_are_checked(self, path):
        network = make()
        network.save(path, optimizer=fm.Adam())
        header, content = split(path)
        start = header["optimizer/v"]["data_offsets"][0]
        content = content[:start] + b"\xff" * 4 + content[start + 4 :]
        join(path, header, content)
        fm.load(path)
        with pytest.raises(fm.ModelFormatError, match="optimizer/v must be finite"):
            fm.load_optimizer(path, network)
