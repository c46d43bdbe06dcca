"""Model files beyond the model: optimizers, metadata, earlier formats, and files made to harm."""

import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm
import fuzz_files
from fastmlp import files, schedules, tensorfile
from test_files import join, make, split

DATA = Path(__file__).resolve().parent / "data"
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


class TestMetadata:
    def test_comes_back(self, path):
        about = {"classes": '["ja", "nein", "\U0001f600"]', "": ""}
        make().save(path, metadata=about)
        assert fm.load_metadata(path) == about
        make().save(path)
        assert fm.load_metadata(path) == {}

    @pytest.mark.parametrize(
        ("metadata", "exception", "message"),
        [
            ("text", TypeError, "mapping"),
            ({"a": 1}, TypeError, "strings"),
            ({1: "a"}, TypeError, "strings"),
            ({"fastmlp": "{}"}, ValueError, "holds the model"),
            ({"a": "\ud800"}, ValueError, "Unicode"),
            ({"a": "x" * (1 << 20)}, ValueError, "1,048,576"),
        ],
    )
    def test_is_checked(self, path, metadata, exception, message):
        with pytest.raises(exception, match=message):
            make().save(path, metadata=metadata)
        assert not path.exists()


class TestEarlierFormats:
    """One file for each format, as the version that introduced it wrote it."""

    @pytest.mark.parametrize("number", range(1, files.FORMAT + 1))
    def test_loads(self, number):
        path = DATA / f"model_format_{number}.safetensors"
        network = fm.load(path)
        assert [type(layer).__name__ for layer in network.layers] == [
            "Standardize",
            *["Dense"] * 3,
        ]
        x = np.linspace(-1, 1, 24).reshape(8, 3) * [1, 10, 100]
        expected = [[0.47990033, 0.52009964], [0.47588044, 0.52411956]]
        got = network.predict(x[:2], backend="reference")
        np.testing.assert_allclose(got, expected, rtol=4e-7)
        with tensorfile.TensorFile(path) as file:
            assert files.read_description(file)["format"] == number

    def test_the_second_has_an_optimizer(self):
        path = DATA / "model_format_2.safetensors"
        network = fm.load(path)
        optimizer = fm.load_optimizer(path, network)
        assert (
            optimizer.config()
            == fm.AdamW(lr=0.01, groups=[("*.bias", {"weight_decay": 0.0})]).config()
        )
        state = optimizer.state_for(network)
        assert (state.step, state.epoch) == (6, 3)
        assert all(slot.array().any() for slot in state.slots)
        assert fm.load_metadata(path) == {"note": "format 2"}

    def test_a_model_alone_is_written_in_the_first(self, path):
        make().save(path)
        with tensorfile.TensorFile(path) as file:
            assert files.read_description(file)["format"] == 1


def test_mutated_files_load_or_are_refused():
    results = fuzz_files.run(1500, seed=1)
    assert results["refused"] > 1000
    assert results["loaded"] > 20
    assert results["loaded with its optimizer"] > 20


# Headers as long as they may be, of what takes the most memory or time in Python.
LONG = tensorfile.MAX_HEADER - 1000


def described(layers, **more):
    model = {"class": "Sequential", "layers": layers, "input_size": 1, "dtype": "float32"}
    text = json.dumps({"format": 2, "model": model, **more})
    return json.dumps({"__metadata__": {"fastmlp": text}}).encode()


def repeated(text):
    return ",".join([text] * (LONG // (len(text) + 1))).encode()


def entry(shape):
    return b'{"dtype":"F32","shape":[%s],"data_offsets":[0,4]}' % shape


BOMBS = {
    "dicts": lambda: b'{"a":[%s]}' % repeated('{"":[{}]}'),
    "a long shape": lambda: b'{"a":%s}' % entry(repeated("1")),
    "a large shape": lambda: b'{"a":%s}' % entry(repeated("9" * 50)),
    "entries": lambda: json.dumps({f"{i:x}": 0 for i in range(80_000)}).encode(),
    "metadata": lambda: json.dumps(
        {"__metadata__": {f"{i:x}": "" for i in range(80_000)}}
    ).encode(),
    "layers": lambda: described([{"class": "Dense", "units": 1}] * 25_000),
    "a layer's name": lambda: described([{"class": "x" * LONG}]),
    "a pattern": lambda: described(
        [{"class": "Dense", "units": 1}],
        optimizer={
            "config": {"name": "sgd", "groups": [["[" * (LONG - 1000), {}]]},
            "vectors": [],
            "step": 0,
            "epoch": 0,
        },
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_long_headers_take_little_memory_and_time(path, bomb):
    header = BOMBS[bomb]()
    assert len(header) <= tensorfile.MAX_HEADER
    join(path, header, bytes(4))
    del header
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(fm.ModelFormatError):
            fm.load(path)
        memory = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert memory < path.stat().st_size + (64 << 20)
    assert time.process_time() - start < 30


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="memory as POSIX counts it")
def test_a_model_takes_its_size_in_memory(tmp_path):
    network = fm.MLP([4096, 4096, 1])  # 64 MiB, so that a second copy would show
    network.save(tmp_path / "large")
    size = (tmp_path / "large").stat().st_size
    code = """
import sys, fuzz_files, fastmlp as fm
small, large = sys.argv[1:]
fm.load(small)
before = fuzz_files.most_memory()
fm.load(large)
print(fuzz_files.most_memory() - before)
"""
    shutil.copy(DATA / "model_format_1.safetensors", tmp_path / "small")
    folders = [str(Path(__file__).parent), str(Path(fm.__file__).parents[1])]
    result = subprocess.run(
        [sys.executable, "-c", code, "small", "large"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(result.stdout) < size + (16 << 20)
