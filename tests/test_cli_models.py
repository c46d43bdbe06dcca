"""The command line with saved models: predict, evaluate, inspect, export; bench and config."""

import csv
import io
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import cli
from interrupting import interrupt


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run in an empty folder, where relative paths go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run a command that succeeds; return what it prints."""

    def run(*arguments):
        assert cli.main([*map(str, arguments)]) == 0
        output = capsys.readouterr()
        assert output.err == ""
        return output.out

    return run


def write_houses(name="houses.csv", n=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    rows = [f"{a},{b},{a + b}" for a, b in x]
    Path(name).write_text("\n".join(["a,b,price", *rows]))
    return x


def write_sides():
    x = np.random.default_rng(0).normal(size=(80, 2))
    rows = [f"{'east' if a > 0 else 'west'},{a},{b}" for a, b in x]
    Path("sides.csv").write_text("\n".join(rows))
    return x


def read_csv(text):
    return list(csv.reader(io.StringIO(text)))


class TestPredict:
    def test_values_and_the_target_found_by_its_name(self, run):
        x = write_houses()
        run("train", "houses.csv", "--target", "price", "--epochs", 2)
        rows = read_csv(run("predict", "houses.safetensors", "houses.csv"))
        assert rows[0] == ["price"]
        expected = fm.load("houses.safetensors").predict(x)
        np.testing.assert_array_equal(np.array(rows[1:], np.float32), expected)
        Path("new.csv").write_text("\n".join(f"{a},{b}" for a, b in x))
        assert read_csv(run("predict", "houses.safetensors", "new.csv")) == rows

    def test_classes_by_name(self, run):
        write_sides()
        run("train", "sides.csv", "--target", 0, "--epochs", 30, "--lr", 0.01)
        text = run("predict", "sides.safetensors", "sides.csv", "--target", 0)
        rows = read_csv(text)
        assert rows[0] == ["class", "east", "west"]
        sides = [line.partition(",")[0] for line in Path("sides.csv").read_text().splitlines()]
        assert np.mean([row[0] == side for row, side in zip(rows[1:], sides, strict=True)]) > 0.9
        found = json.loads(
            run("predict", "sides.safetensors", "sides.csv", "--target", 0, "--json")
        )
        assert found["predicted"] == [row[0] for row in rows[1:]]
        assert np.allclose(np.sum(found["outputs"], axis=1), 1)

    def test_files_in_and_out(self, run, folder):
        model = fm.MLP([3, 4, 2], seed=1)
        model.save("m")
        x = np.random.default_rng(0).normal(size=(5, 3))
        expected = model.predict(x)
        np.save("x.npy", x)
        np.savez("x.npz", y=x[:1], x=x)
        np.savez("one.npz", whatever=x)
        for source in ("x.npy", "x.npz", "one.npz"):
            run("predict", "m", source, "--output", "y.npy")
            np.testing.assert_array_equal(np.load("y.npy"), expected)
        assert "wrote 5 predictions to y.npz" in run("predict", "m", "x.npy", "--output", "y.npz")
        np.testing.assert_array_equal(np.load("y.npz")["outputs"], expected)
        run("predict", "m", "x.npy", "--output", "y.csv")
        rows = read_csv(Path("y.csv").read_text())
        assert rows[0] == ["output_0", "output_1"]
        np.testing.assert_array_equal(np.array(rows[1:], np.float32), expected)
        assert sorted(os.listdir(folder)) == [
            *["m", "one.npz", "x.npy", "x.npz", "y.csv", "y.npy", "y.npz"]
        ]

    def test_names_of_several_lines(self, run):
        names = ["a\r\nb", "c\u2028d"]
        fm.MLP([3, 2], output_activation="softmax").save(
            "m", metadata={"classes": json.dumps(names)}
        )
        np.save("x.npy", np.ones((4, 3)))
        text = run("predict", "m", "x.npy")
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert rows[0] == ["class", *names]
        assert len(rows) == 5
        run("predict", "m", "x.npy", "--output", "y.csv")
        assert Path("y.csv").read_bytes() == text.encode()

    def test_images_are_scaled_as_in_training(self, run):
        model = fm.MLP([4, 3], output_activation="softmax", seed=1)
        model.save("m", metadata={"byte_scale": repr(1 / 255)})
        images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2) * 10
        Path("images-idx3-ubyte").write_bytes(
            struct.pack(">BBBBIII", 0, 0, 8, 3, *images.shape) + images.tobytes()
        )
        found = json.loads(run("predict", "m", "images-idx3-ubyte", "--json"))
        expected = model.predict(images.reshape(6, 4) * np.float32(1 / 255))
        np.testing.assert_allclose(found["outputs"], expected, rtol=1e-6)
        raw = json.loads(run("predict", "m", "images-idx3-ubyte", "--json", "--scale", 1))
        assert not np.allclose(raw["outputs"], expected)

    def test_standard_input(self, run, monkeypatch):
        x = write_houses()
        run("train", "houses.csv", "--epochs", 1)
        text = "\n".join(f"{a},{b}" for a, b in x)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        piped = run("predict", "houses.safetensors", "-")
        Path("new.csv").write_text(text)
        assert piped == run("predict", "houses.safetensors", "new.csv")
        monkeypatch.setattr(
            sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("houses.csv").read_bytes()))
        )
        assert run("train", "-", "--epochs", 1).splitlines()[-1].startswith("test r2")
        assert Path("model.safetensors").exists()


class TestEvaluate:
    def test_digits_on_what_training_has_not_seen(self, run):
        last = run("train", "digits", "--epochs", 2, "--seed", 3).splitlines()[-1]
        found = json.loads(run("evaluate", "digits.safetensors", "digits", "--seed", 3, "--json"))
        assert f"test accuracy {found['accuracy']:.4f}" == last
        assert found["samples"] == 359
        text = run("evaluate", "digits.safetensors", "digits", "--metrics", "f1", "--loss", "mse")
        assert "loss mse" in text
        assert [line.split()[0] for line in text.splitlines()[1:]] == ["measure", "loss", "f1"]

    def test_tables(self, run):
        write_sides()
        run("train", "sides.csv", "--target", 0, "--epochs", 30, "--lr", 0.01)
        command = ("evaluate", "sides.safetensors", "sides.csv", "--target", 0, "--json")
        assert json.loads(run(*command))["accuracy"] > 0.9
        write_houses()
        run("train", "houses.csv", "--target", "price", "--epochs", 30, "--lr", 0.01)
        found = json.loads(run("evaluate", "houses.safetensors", "houses.csv", "--json"))
        assert found["r2"] > 0.9
        assert found["rmse"] ** 2 == pytest.approx(found["loss"], rel=1e-5)

    def test_whole_numbers_are_values_where_these_were_learned(self, run):
        Path("whole.csv").write_text("\n".join(f"{n},{n * n}" for n in range(150)))
        run("train", "whole.csv", "--epochs", 2)
        found = json.loads(run("evaluate", "whole.safetensors", "whole.csv", "--json"))
        assert found["rmse"] ** 2 == pytest.approx(found["loss"], rel=1e-5)
        fm.MLP([1, 1], output_activation="sigmoid").save("m")
        Path("sides.csv").write_text("-1,0\n1,1\n")
        assert "accuracy" in json.loads(run("evaluate", "m", "sides.csv", "--json"))

    def test_targets_in_a_file_of_their_own(self, run):
        model = fm.MLP([3, 2], output_activation="softmax", seed=1)
        model.save("m")
        x = np.random.default_rng(0).normal(size=(50, 3))
        labels = model.predict(x).argmax(axis=1)
        np.save("x.npy", x)
        np.save("y.npy", labels)
        Path("y.csv").write_text("\n".join(["label", *map(str, labels)]))
        for targets in ("y.npy", "y.csv"):
            command = ("evaluate", "m", "x.npy", "--targets", targets, "--json")
            assert json.loads(run(*command))["accuracy"] == 1


class TestInspect:
    def test_everything_is_told(self, run):
        model, optimizer = fm.MLP([3, 4, 2], seed=1), fm.Adam()
        model.fit(np.ones((8, 3)), np.ones((8, 2)), optimizer=optimizer, epochs=2)
        model.save("m", optimizer=optimizer, metadata={"note": "mine"})
        found = json.loads(run("inspect", "m", "--json"))
        assert found["parameters"] == 26
        assert found["optimizer"]["step"] == 2
        assert found["metadata"] == {"note": "mine"}
        assert found["tensors"]["0.weight"]["shape"] == [3, 4]
        weight = model.parameters["0.weight"]
        assert found["tensors"]["0.weight"]["max"] == pytest.approx(float(weight.max()))
        text = run("inspect", "m")
        for part in ("0.weight", "3 x 4", "Dense(2, 'identity')", "adam", "2 steps", "note: mine"):
            assert part in text

    def test_no_text_of_a_file_reaches_the_terminal_as_a_command(self, run):
        fm.MLP([3, 2]).save("m", metadata={"note": "\x1b[2J", "\x1bkey": "naïve"})
        text = run("inspect", "m")
        assert "note: '\\x1b[2J'" in text
        assert "'\\x1bkey': naïve" in text
        assert "\x1b" not in text

    def test_a_checkpoint(self, run):
        model = fm.MLP([3, 2])
        trainer = fm.Trainer(model, "mse", fm.SGD(), batch_size=4)
        trainer.step(np.ones((4, 3)), np.ones((4, 2)))
        trainer.save_checkpoint("c")
        assert "checkpoint, format 2" in run("inspect", "c")


class TestExport:
    def test_c(self, run):
        fm.MLP([64, 5, 10], seed=1).save("m")
        run("export", "m", "net.c", "--name", "mine")
        assert "void mine_predict(" in Path("net.c").read_text()
        found = json.loads(run("export", "m", "net8.c", "--int8", "--data", "digits", "--json"))
        assert found["int8"]
        assert 0 < found["max_error"] < 0.1
        assert found["bytes"] == Path("net8.c").stat().st_size

    def test_onnx(self, run):
        onnx = pytest.importorskip("onnx")
        fm.MLP([3, 2]).save("m")
        assert "wrote net.onnx" in run("export", "m", "net.onnx")
        onnx.checker.check_model(onnx.load("net.onnx"))


class TestBench:
    def test_a_table_and_one_network(self, run):
        text = run("bench", "tiny", "3-5-2", "--seconds", 0.01, "--threads", 1)
        lines = text.splitlines()
        assert lines[0].split()[:3] == ["network", "µs", "a"]
        assert lines[1].split()[:6] == ["tiny", "8-32-32-1,", "tanh,", "batch", "32,", "sgd"]
        assert "3-5-2, relu, batch 32, sgd" in lines[2]
        text = run("bench", "3-5-2", "--seconds", 0.01, "--optimizer", "adam", "--dtype", "float64")
        assert "of the peak" in text
        assert "dense 32" in text

    def test_json(self, run):
        found = json.loads(run("bench", "3-5-2", "--seconds", 0.01, "--batch-size", 7, "--json"))
        (network,) = found["networks"]
        assert network["batch_size"] == 7
        assert network["flops"] == 2 * 7 * (3 * 5 * 2 + 5 * 2 * 3)
        assert network["gflops"] == pytest.approx(network["flops"] / network["seconds"] * 1e-9)
        assert 0 < network["share_of_peak"] < 1
        assert found["machine"]["threads"] == fm.get_num_threads()

    def test_draws_the_roofline(self, run):
        pytest.importorskip("matplotlib")
        run("bench", "3-5-2", "--seconds", 0.01, "--plot", "roof.png")
        assert Path("roof.png").read_bytes().startswith(b"\x89PNG")


def test_config_as_json(run):
    assert json.loads(run("config", "--json")) == fm.show_config("dicts")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_examples_that_parse(command, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "exit codes: 0" in text
    examples = [
        line.strip() for line in text.splitlines() if line.strip().startswith(f"fastmlp {command}")
    ]
    assert examples
    for example in examples:
        arguments = example.partition(" > ")[0].split()[1:]
        assert cli.parser().parse_args(arguments).run


ERRORS = {
    "predict none digits": "none: No such file",
    "predict bad digits": "no safetensors file",
    "predict m digits": r"the model has 3 inputs; got \(1797, 64\)",
    "predict m four.csv": "say --target",
    "predict m words.csv": "'x' is not a number",
    "predict m digit": "did you mean 'digits'",
    "predict m x.txt": "must end in",
    "predict m bad.npy": "cannot be read as an array",
    "predict m flat.npy": "must hold rows",
    "predict m four.csv --target e": "no column 'e'",
    "predict m four.csv --target 3 --output y.txt": "--output must end in",
    "predict m nan.npy": r"nan.npy must be finite; nan.npy\[1, 2\] is nan",
    "predict m large.csv": "must be finite as float32",
    "evaluate m flat.npy": "--targets",
    "evaluate m four.csv --loss msa": "did you mean 'mse'",
    "evaluate m four.csv --metrics acuracy": "did you mean 'accuracy'",
    "evaluate m labels.csv": "the model knows no classes",
    "evaluate m four.csv --test-size 0.5": "--test-size is not for files",
    "evaluate m four.csv --data .": "--data is not for files",
    "inspect bad": "no safetensors file",
    "export m net.txt": "must end in .c or .onnx",
    "export m net.onnx --int8": "--int8 is for C only",
    "export m net.c --data digits": "--data is for --int8 only",
    "bench 3": "did you mean|must be one of",
    "bench 3-0-1": "size",
    "bench 3-1 --optimizer adan": "did you mean 'adam'",
    "bench 3-1 2-1 --plot a.png": "--plot draws one",
    "bench 3-1 --seconds 0": "seconds",
    "bench 3-1 --threads 0": "threads",
}


@pytest.mark.parametrize("arguments", ERRORS)
def test_errors_are_one_line(arguments, capsys):
    fm.MLP([3, 1]).save("m")
    Path("bad").write_bytes(b"no model")
    Path("bad.npy").write_bytes(b"\x93NUMPY no array")
    np.save("flat.npy", np.ones(3))
    np.save("nan.npy", [[1, 2, 3], [4, 5, np.nan]])
    Path("large.csv").write_text("1,2,3\n4,1e99,6\n")
    Path("four.csv").write_text("a,b,c,d\n1,2,3,4\n5,6,7,8\n")
    Path("words.csv").write_text("1,2,3\n4,x,6\n")
    Path("labels.csv").write_text("1,2,3,no\n4,5,6,yes\n")
    assert cli.main(arguments.split()) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("fastmlp: error: ")
    assert output.err.count("\n") == 1
    assert re.search(ERRORS[arguments], output.err), output.err


def start(*arguments, **environment):
    package = Path(fm.__file__).resolve().parent
    return subprocess.Popen(
        [sys.executable, "-m", "fastmlp", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(package.parent), **environment},
    )


def test_a_wrong_environment_is_one_line():
    for name, value in (("FASTMLP_ISA", "mmx"), ("FASTMLP_NUM_THREADS", "many")):
        process = start("config", **{name: value})
        output, errors = process.communicate(timeout=600)
        assert (process.returncode, output) == (1, "")
        assert errors.startswith("fastmlp: error: FASTMLP_")
        assert errors.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_help_into_a_pipe_that_closes():
    process = start("train", "--help")
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=600)
    assert process.returncode in (0, 1)  # argparse itself may have seen it, and not minded
    assert errors == ""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt():
    found = interrupt("bench", "8-8-1", "--seconds", "100000")
    assert found == (130, "fastmlp: interrupted\n")
