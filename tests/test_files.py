"""Model files: what comes back, also of earlier formats, what is refused, all-or-nothing saves."""

import json
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fastmlp as fm
from fastmlp import errors, files, initializers, layers, model, tensorfile
from saved import join, make, split

DATA = Path(__file__).resolve().parent / "data"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_everything_comes_back(self, path, dtype):
        network = make(dtype)
        network.save(path)
        loaded = files.load(path)
        assert loaded.config() == network.config()
        assert loaded.dtype == dtype
        assert not loaded.needs_data
        assert [layer.trainable for layer in loaded.layers] == [True, False, True, True]
        for ours, theirs in (
            (network.parameters, loaded.parameters),
            (network.states, loaded.states),
        ):
            assert list(ours) == list(theirs)
            for name in ours:
                np.testing.assert_array_equal(ours[name], theirs[name])
        x = np.random.default_rng(1).normal(size=(7, 3))
        ours, theirs = (m.predict(x, backend="reference") for m in (network, loaded))
        np.testing.assert_array_equal(ours, theirs)

    def test_any_reader_of_safetensors_can_read_it(self, path):
        network = make()
        network.save(str(path))
        tensors = load_file(path)
        assert tensors.keys() == {*network.parameters, *network.states}
        np.testing.assert_array_equal(tensors["1.weight"], network.parameters["1.weight"])
        metadata = split(path)[0]["__metadata__"]
        assert json.loads(metadata["fastmlp"]) == {"format": 1, "model": network.config()}

    def test_what_was_written_into_parameters_is_saved(self, path):
        network = make()
        network.parameters["1.bias"][:] = [1, 2, 3, 4]
        network.save(path)
        assert files.load(path).parameters["1.bias"].tolist() == [1, 2, 3, 4]

    def test_a_function_as_initializer_is_no_obstacle(self, path):
        stack = [layers.Dense(2, initializer=lambda shape, rng: np.full(shape, 0.5))]
        model.Sequential(stack, 2).save(path)
        assert files.load(path).parameters["0.weight"].tolist() == [[0.5, 0.5]] * 2

    def test_an_overflowing_initializer_is_no_obstacle(self, path):
        # Loading draws no first values: only those of the file count.
        huge = initializers.Normal(1e300)
        network = model.Sequential([layers.Dense(2, initializer=huge)], 2, dtype="float64")
        network.save(path)
        header, _ = split(path)
        description = json.loads(header["__metadata__"]["fastmlp"])
        description["model"]["dtype"] = "float32"
        tensors = {n: np.ones(v["shape"], "f4") for n, v in header.items() if n[0] != "_"}
        save_file(tensors, path, {"fastmlp": json.dumps(description)})
        assert files.load(path).parameters["0.weight"].tolist() == [[1, 1], [1, 1]]


class TestSaving:
    def test_sizes_must_be_known(self, path):
        with pytest.raises(ValueError, match="sizes"):
            model.Sequential([layers.Dense(2)]).save(path)
        assert not path.exists()

    def test_values_must_be_finite(self, path):
        network = make()
        network.parameters["1.bias"][1] = np.inf
        with pytest.raises(ValueError, match=r"1\.bias"):
            network.save(path)
        assert not path.exists()

    def test_scales_must_be_positive(self, path):
        network = make()
        with pytest.raises(ValueError, match=r"0\.scale must be finite and > 0"):
            network.states["0.scale"] = [1, 0, 1]
        network.states["0.scale"][0] = 0
        with pytest.raises(ValueError, match=r"0\.scale finite and > 0"):
            network.save(path)
        network.states["0.scale"] = [1, 1, np.float32(1e-45)]
        network.save(path)

    @pytest.mark.parametrize("fault", ["safetensors.numpy.save", "os.replace", "os.fsync"])
    def test_a_failed_save_leaves_the_old_file_and_no_other(self, path, monkeypatch, fault):
        make(seed=1).save(path)
        before = path.read_bytes()

        def fail(*arguments):
            raise OSError("the disk is full")

        monkeypatch.setattr(fault, fail)
        with pytest.raises(OSError, match="the disk is full"):
            make(seed=2).save(path)
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]

    def test_a_save_overwrites_and_leaves_no_other_file(self, path):
        make(seed=1).save(path)
        make(seed=2).save(path)
        assert files.load(path).seed == 2
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
    def test_permissions_and_links_are_as_of_any_file(self, path):
        plain = path.with_name("plain")
        plain.touch()
        link = path.with_name("link")
        link.symlink_to(path)
        make().save(link)
        assert link.is_symlink()
        assert path.stat().st_mode == plain.stat().st_mode

    def test_no_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            make().save(tmp_path / "none" / "model.safetensors")

    def test_a_folder_is_not_overwritten(self, tmp_path):
        (tmp_path / "folder").mkdir()
        with pytest.raises(OSError, match="folder"):
            make().save(tmp_path / "folder")
        assert os.listdir(tmp_path) == ["folder"]


def change_config(**changes):
    def change(header, data):
        description = json.loads(header["__metadata__"]["fastmlp"])
        description["model"].update(changes)
        header["__metadata__"]["fastmlp"] = json.dumps(description)
        return header, data

    return change


def change_entry(name, **changes):
    def change(header, data):
        header[name].update(changes)
        return header, data

    return change


def change_metadata(metadata):
    return lambda header, data: ({**header, "__metadata__": metadata}, data)


def duplicate(header, data):
    text = json.dumps(header)
    entry = f'"1.bias": {json.dumps(header["1.bias"])}'
    return text.replace(entry, f"{entry}, {entry}").encode(), data


def not_finite(value):
    def change(header, data):
        start = header["2.weight"]["data_offsets"][0]
        return header, data[:start] + struct.pack("<f", value) + data[start + 4 :]

    return change


def scale(value):
    def change(header, data):
        start = header["0.scale"]["data_offsets"][0]
        return header, data[:start] + struct.pack("<f", value) + data[start + 4 :]

    return change


def rename(header, data):
    header["1.biased"] = header.pop("1.bias")
    return header, data


def drop(header, data):
    start, stop = header.pop("3.bias")["data_offsets"]
    for entry in header.values():
        if "data_offsets" in entry and entry["data_offsets"][0] >= stop:
            entry["data_offsets"] = [at - (stop - start) for at in entry["data_offsets"]]
    return header, data[:start] + data[stop:]


def more(header, data):
    end = len(data)
    header["extra"] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}
    return header, data


def hole(header, data):
    del header["0.mean"]
    return header, data


def swap(header, data):
    # Both entries claim the same bytes: sizes fit, but a part of the file belongs to nobody.
    header["0.mean"]["data_offsets"] = header["0.scale"]["data_offsets"]
    return header, data


DAMAGES = {
    "no model": (change_metadata({}), "no fastmlp model"),
    "metadata are a list": (change_metadata(["fastmlp"]), "damaged metadata"),
    "description is no JSON": (change_metadata({"fastmlp": "{"}), "damaged metadata"),
    "description is a list": (change_metadata({"fastmlp": "[]"}), "no format number"),
    "description is deep": (change_metadata({"fastmlp": "[" * 100_000}), "damaged metadata"),
    "format is true": (change_metadata({"fastmlp": '{"format": true}'}), "no format number"),
    "of the future": (change_metadata({"fastmlp": '{"format": 3, "model": {}}'}), "upgrade"),
    "no model in it": (change_metadata({"fastmlp": '{"format": 1}'}), "no model"),
    "an entry of the future": (
        change_metadata({"fastmlp": '{"format": 1, "model": {}, "optimizer": {}}'}),
        "unknown 'optimizer'",
    ),
    "a checkpoint that is a list": (
        change_metadata({"fastmlp": '{"format": 2, "model": {}, "checkpoint": []}'}),
        "the checkpoint is",
    ),
    "a key twice in the description": (
        change_metadata({"fastmlp": '{"format": 1, "format": 1, "model": {}}'}),
        "twice",
    ),
    "NaN in the description": (change_metadata({"fastmlp": '{"format": NaN}'}), "not JSON"),
    "infinity in the description": (
        change_metadata({"fastmlp": '{"format": 1e999}'}),
        "not a finite number",
    ),
    "a number of many digits": (change_metadata({"fastmlp": "1" * 5000}), "damaged metadata"),
    "metadata that are no strings": (change_metadata({"fastmlp": "{}", "x": 1}), "damaged"),
    "no layers": (change_config(layers=[]), "no valid model"),
    "layers of a wrong type": (change_config(layers=7), "no valid model"),
    "unknown layer": (change_config(layers=[{"class": "Dens"}]), "Dense"),
    "unknown setting": (change_config(layers=[{"class": "Dense", "unit": 3}]), "units"),
    "unknown dtype": (change_config(dtype="float16"), "dtype"),
    "odd dtype": (change_config(dtype="{"), "no valid model"),
    "other dtype": (change_config(dtype="float64"), "is float32 of shape"),
    "no input size": (change_config(input_size=None), "input_size"),
    "input size 0": (change_config(input_size=0), "input_size"),
    "other input size": (change_config(input_size=4), "of shape"),
    "sizes overflow": (
        change_config(layers=[{"class": "Dense", "units": 2**31 - 1}] * 9, input_size=2**31 - 1),
        "overflow",
    ),
    "sizes too large for the file": (
        change_config(
            layers=[{"class": "Standardize"}, *[{"class": "Dense", "units": 50_000}] * 3]
        ),
        "model",
    ),
    "a tensor lacks": (drop, r"lacks '3\.bias'"),
    "a tensor is for nobody": (more, "its model does not: 'extra'"),
    "a hole": (hole, "does not begin where another ends"),
    "a tensor has another name": (rename, r"1\.bias"),
    "a tensor stands twice": (duplicate, "twice"),
    "a tensor's entry is a number": (lambda h, d: ({**h, "1.bias": 3}, d), r"1\.bias"),
    "a tensor of another type": (change_entry("1.bias", dtype="I32"), r"1\.bias is int32"),
    "a tensor of another shape": (change_entry("1.bias", shape=[2, 2]), r"1\.bias"),
    "a shape of floats": (change_entry("1.bias", shape=[4.0]), "damaged header"),
    "a shape of booleans": (change_entry("3.bias", shape=[2, True]), "damaged header"),
    "a shape below zero": (change_entry("1.bias", shape=[-4]), "damaged header"),
    "an unknown type": (change_entry("1.bias", dtype="F7"), "F7"),
    "a field too many": (change_entry("1.bias", stride=[1]), "damaged header"),
    "offsets overlap": (swap, "damaged"),
    "offsets beyond the end": (change_entry("1.bias", data_offsets=[0, 1 << 60]), "damaged"),
    "truncated": (lambda h, d: (h, d[:-1]), "its header says"),
    "more than it should": (lambda h, d: (h, d + b"\0"), "its header says"),
    "NaN": (not_finite(np.nan), "finite"),
    "infinity": (not_finite(-np.inf), "finite"),
    "a scale of zero": (scale(0.0), r"0\.scale must be finite and > 0"),
    "a scale below zero": (scale(-1.0), r"0\.scale must be finite and > 0"),
    "adapted is no flag": (change_config(adapted=1), "adapted"),
    "header is a list": (lambda h, d: (b"[1]", d), "not a JSON object"),
    "header is not JSON": (lambda h, d: (b"}", d), "no safetensors file"),
    "header is not UTF-8": (lambda h, d: (b'"\xff"', d), "no safetensors file"),
    "header is deep": (lambda h, d: (b"[" * 100_000, d), "no safetensors file"),
    "header is long": (lambda h, d: (b" " * (2 << 20), d), "header of 2,097,152 bytes"),
}


class TestLoading:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_refuses(self, path, damage):
        make().save(path)
        change, message = DAMAGES[damage]
        join(path, *change(*split(path)))
        with pytest.raises(errors.ModelFormatError, match=message) as error:
            files.load(path)
        assert str(path) in str(error.value)

    @pytest.mark.parametrize(
        "content",
        [b"", b"1234567", bytes(8), b"\xff" * 8, b"\xff" * 100, b"PK\x03\x04" + bytes(99)],
    )
    def test_refuses_what_is_no_safetensors_file(self, path, content):
        path.write_bytes(content)
        with pytest.raises(errors.ModelFormatError, match=r"no safetensors file|header of"):
            files.load(path)

    def test_refuses_a_model_of_others(self, path):
        save_file({"0.weight": np.ones((2, 2), np.float32)}, path, {"format": "pt"})
        with pytest.raises(errors.ModelFormatError, match="no fastmlp model"):
            files.load(path)

    def test_files_that_cannot_be_read(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            files.load(tmp_path / "none")
        with pytest.raises(OSError, match=r"directory|denied"):
            files.load(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
    def test_a_pipe_does_not_hang(self, path):
        os.mkfifo(path)
        with pytest.raises(errors.ModelFormatError, match="regular file"):
            files.load(path)

    def test_a_claim_of_much_costs_little(self, path):
        make().save(path)
        header, data = split(path)
        description = json.loads(header["__metadata__"]["fastmlp"])
        description["model"]["layers"][1]["units"] = 1 << 26
        header["__metadata__"]["fastmlp"] = json.dumps(description)
        for name, shape in (("1.weight", [3, 1 << 26]), ("1.bias", [1 << 26])):
            header[name]["shape"] = shape
        header["2.weight"]["shape"] = [1 << 26, 5]
        join(path, header, data)
        tracemalloc.start()
        try:
            with pytest.raises(errors.ModelFormatError, match="is damaged"):
                files.load(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 << 20


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
