"""The command line: the main job from end to end, tables, errors in one line, exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import cli
from interrupting import interrupt
from test_data import MNIST, write_mnist


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run in an empty folder, where relative paths go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(capsys, *arguments):
    """Run ``fastmlp train`` and return the lines it prints."""
    assert cli.main(["train", *map(str, arguments)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out.splitlines()


class TestDigits:
    def test_the_main_job(self, capsys, folder):
        lines = train(capsys, "digits")
        assert re.fullmatch(r"test accuracy 0\.\d{4}", lines[-1])
        assert "saved digits.safetensors" in lines
        assert float(lines[-1].split()[-1]) > 0.95
        model = fm.load(folder / "digits.safetensors")
        x, y = fm.data.load_digits()
        accuracy = np.mean(model.predict(x).argmax(axis=1) == y)
        assert accuracy > 0.98

    def test_mean_accuracy_over_five_seeds(self, capsys):
        last = [train(capsys, "digits", "--seed", seed, "--threads", 1)[-1] for seed in range(5)]
        assert np.mean([float(line.split()[-1]) for line in last]) >= 0.97

    def test_draws_the_curves(self, capsys, folder):
        pytest.importorskip("matplotlib")
        lines = train(capsys, "digits", "--epochs", 2, "--plot", "curves.png")
        assert "drew curves.png" in lines
        assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")

    def test_draws_to_the_file_that_it_names(self, capsys, folder):
        pytest.importorskip("matplotlib")
        lines = train(capsys, "digits", "--epochs", 1, "--plot", "curves")
        assert "drew curves" in lines
        assert (folder / "curves").read_bytes().startswith(b"\x89PNG")

    def test_without_matplotlib_it_says_so_and_goes_on(self, capsys, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        lines = train(capsys, "digits", "--epochs", 1)
        assert any("pip install" in line and "no curves" in line for line in lines)
        assert lines[-1].startswith("test accuracy")
        assert sorted(os.listdir(folder)) == ["digits.safetensors"]

    def test_options_reach_the_network(self, capsys, folder):
        options = "--hidden 7 5 --activation relu --dtype float64 --optimizer adam --loss mse"
        lines = train(capsys, "digits", "--epochs", 3, "--model", "m", *options.split())
        model = fm.load(folder / "m")
        assert [layer.units for layer in model.layers] == [7, 5, 10]
        assert [layer.activation.name for layer in model.layers] == ["relu", "relu", "sigmoid"]
        assert model.dtype == np.float64
        assert "training mse, adam, batches of 10" in lines
        assert sum(line.split()[:1] in (["1"], ["2"], ["3"]) for line in lines) == 3

    def test_same_seed_same_result(self, capsys):
        first, again, other = (
            train(capsys, "digits", "--epochs", 2, "--seed", seed)[4:8] for seed in (5, 5, 6)
        )
        assert first == again
        assert first != other

    def test_reference_backend_and_cross_entropy(self, capsys, folder):
        options = ["--backend", "reference", "--loss", "cross_entropy", "--lr", 0.1, "--hidden"]
        train(capsys, "digits", "--epochs", 1, *options)
        (layer,) = fm.load(folder / "digits.safetensors").layers
        assert layer.activation.name == "softmax"


class TestMnist:
    def test_reads_the_folder(self, capsys, tmp_path):
        write_mnist(tmp_path)
        lines = train(capsys, "mnist", "--data", tmp_path, "--epochs", 1)
        assert any("6 training, 2 test samples, 10 classes" in line for line in lines)
        assert lines[-1].startswith("test accuracy")

    @pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST in {MNIST} (FASTMLP_MNIST)")
    def test_learns_the_real_one(self, capsys):
        lines = train(capsys, "mnist", "--data", MNIST, "--epochs", 1)
        assert float(lines[-1].split()[-1]) > 0.85


class TestTables:
    def test_values(self, capsys, folder):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 2)) * [1, 100]
        rows = [f"{a},{b},{a + b / 100}" for a, b in x]
        (folder / "sums.csv").write_text("\n".join(["a,b,sum", *rows]))
        lines = train(capsys, "sums.csv", "--target", "sum", "--epochs", 30, "--lr", 0.01)
        assert re.fullmatch(r"test r2 0\.9\d{3}", lines[-1])
        assert isinstance(fm.load("sums.safetensors").layers[0], fm.Standardize)

    def test_classes_with_names(self, capsys, folder):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 2))
        rows = [f"{'east' if a > 0 else 'west'},{a},{b}" for a, b in x]
        (folder / "sides.csv").write_text("\n".join(rows))
        lines = train(capsys, "sides.csv", "--target", "0", "--epochs", 30, "--lr", 0.01)
        assert "classes  0=east, 1=west" in lines
        assert float(lines[-1].removeprefix("test accuracy ")) > 0.9

    @pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
    def test_values_far_from_zero(self, capsys, folder, loss):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(400, 2))
        y = np.column_stack([3e5 + 8e4 * x[:, 0], 0.5 + 1e-3 * x[:, 1]])  # prices, and metres
        np.savez(folder / "far.npz", x=x, y=y)
        lines = train(capsys, "far.npz", "--epochs", 20, "--lr", 0.01, "--loss", loss)
        assert float(lines[-1].removeprefix("test r2 ")) > 0.95
        model = fm.load("far.safetensors")
        assert model.evaluate(x, y, metrics=["r2"])["r2"] > 0.95  # in the units of the targets

    @pytest.mark.parametrize(
        ("mean", "deviation", "dtype"),
        [(1.7e9, 100, "float32"), (1e-30, 1e-39, "float32"), (1e15, 0.5, "float64")],
    )
    def test_values_that_the_outputs_would_round(self, capsys, folder, mean, deviation, dtype):
        # They were learned standardized, and said to be right; the saved model rounded them.
        x = np.random.default_rng(0).normal(size=(60, 2))
        np.savez(folder / "near.npz", x=x, y=np.column_stack([x[:, 0], mean + deviation * x[:, 1]]))
        assert cli.main(["train", "near.npz", "--dtype", dtype]) == 1
        assert f"too close together for {dtype}" in capsys.readouterr().err
        assert not Path("near.safetensors").exists()
        # One that does not vary is what the bias says.
        np.savez(folder / "near.npz", x=x, y=np.column_stack([x[:, 0], np.full(60, mean)]))
        train(capsys, "near.npz", "--dtype", dtype, "--epochs", 1)

    def test_values_that_are_not_finite_are_named(self, capsys, folder):
        np.savez(folder / "nan.npz", x=np.ones((9, 2)), y=np.full(9, np.nan))
        assert cli.main(["train", "nan.npz"]) == 1
        assert "y must be finite" in capsys.readouterr().err

    def test_values_of_poisson_keep_their_unit(self, capsys, folder):
        x = np.random.default_rng(0).normal(size=(200, 1))
        np.savez(folder / "counts.npz", x=x, y=np.exp(1 + x[:, 0]))
        lines = train(capsys, "counts.npz", "--epochs", 1, "--loss", "poisson")
        assert not any("standardized targets" in line for line in lines)

    def test_integers_are_classes_or_values(self, capsys, folder):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(300, 2))
        for name, y in (("few", x[:, 0] > 0), ("many", 1000 * x[:, 0] + 5000)):
            np.savetxt(f"{name}.csv", np.column_stack([x, y.astype(int)]), "%g", ",")
        assert train(capsys, "few.csv", "--epochs", 1)[-1].startswith("test accuracy")
        assert train(capsys, "many.csv", "--epochs", 1)[-1].startswith("test r2")
        lines = train(capsys, "few.csv", "--epochs", 1, "--task", "values")
        assert lines[-1].startswith("test r2")
        assert "classes" not in fm.load_metadata(folder / "few.safetensors")
        lines = train(capsys, "many.csv", "--epochs", 1, "--task", "classes", "--test-size", 0.9)
        assert lines[-1].startswith("test accuracy")

    def test_npz_with_several_values(self, capsys, folder):
        x = np.random.default_rng(0).normal(size=(50, 3))
        np.savez(folder / "a.npz", x=x, y=x[:, :2])
        lines = train(capsys, folder / "a.npz", "--epochs", 2, "--test-size", 0.5)
        assert any("25 training, 25 test samples" in line for line in lines)
        assert fm.load("a.safetensors").output_size == 2
        assert lines[-1].startswith("test r2 ")


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("digit", "did you mean 'digits'"),
            ("none.csv", "none.csv: No such file"),
            ("some.txt", r"\.csv or \.npz"),
            ("empty.csv", "is empty"),
            ("same.csv", "nothing to learn"),
            ("mnist", "--data FOLDER"),
            ("mnist --data none", "train-images"),
            ("mnist --data . --test-size 0.5", "--test-size"),
            ("digits --data .", "--data is for mnist"),
            ("digits --target x", "--target is for"),
            ("digits --task values", "--task is for tables"),
            ("words.csv --task values", "--task values needs numbers .* the first word is cat"),
            ("gap.csv", "gap.csv, line 3: '' is a missing value"),
            ("parts.csv --task classes", "--task classes needs integers or words"),
            ("digits --test-size 2", "test_size"),
            ("digits --optimizer adan", "did you mean 'adam'"),
            ("digits --loss quadratc", "did you mean 'quadratic'"),
            ("digits --activation rely", "did you mean 'relu'"),
            ("digits --backend numpy", "backend"),
            ("digits --dtype float16", "dtype"),
            ("digits --hidden 0", "units"),
            ("digits --lr nan", "lr"),
            ("digits --optimizer adam --momentum 0.9", "--momentum"),
            ("digits --epochs 0", "epochs"),
            ("digits --batch-size 0", "batch_size"),
            ("digits --seed -1", "seed"),
            ("digits --threads 0", "threads"),
            ("digits --model none/m", "no folder none"),
            ("digits --plot none/p.png", "no folder none"),
            ("digits --model .", "is a folder"),
            ("digits --plot .", "is a folder"),
        ],
    )
    def test_are_one_line_and_leave_nothing(self, capsys, folder, arguments, message):
        (folder / "empty.csv").touch()
        (folder / "same.csv").write_text("1,0\n2,0\n")
        (folder / "words.csv").write_text("1,1.5\n2,cat\n3,dog\n")
        (folder / "gap.csv").write_text("1,0.5\n2,0.25\n3,\n")
        (folder / "parts.csv").write_text("1,0.5\n2,0.25\n")
        before = sorted(os.listdir(folder))
        assert cli.main(["train", *arguments.split()]) == 1
        error = capsys.readouterr().err
        assert re.search(message, error)
        assert re.fullmatch(r"fastmlp: error: .+\n", error)
        assert sorted(os.listdir(folder)) == before

    def test_a_folder_that_is_read_only(self, capsys, folder, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may write to any, as in tests
        assert cli.main(["train", "digits"]) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert "digits.safetensors cannot be written: its folder is read-only" in output.err
        assert os.listdir(folder) == []

    def test_closed_input(self, capsys, monkeypatch):
        monkeypatch.setattr(sys, "stdin", None)  # as Python has it after <&-
        assert cli.main(["train", "-"]) == 1
        assert capsys.readouterr().err == "fastmlp: error: the standard input is closed\n"

    def test_divergence(self, capsys):
        options = "--activation relu --loss mse --lr 1e30 --hidden 8 --epochs 2"
        x = np.repeat([[1.0, 2], [3, 4]], 20, axis=0)
        np.savez("a.npz", x=x, y=np.linspace(0, 1, 40))
        code = cli.main(["train", "a.npz", "--optimizer", "sgd", *options.split()])
        assert code == 1
        assert re.fullmatch(r"fastmlp: error: .*(epoch|finite).*\n", capsys.readouterr().err)

    @pytest.mark.parametrize(
        "arguments", [[], ["tran"], ["train"], ["train", "digits", "--lr", "x"]]
    )
    def test_wrong_usage(self, capsys, arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2
        assert "usage: fastmlp" in capsys.readouterr().err


class TestProcess:
    """What only a process of its own shows."""

    def start(self, *arguments, module="fastmlp", stdout=subprocess.PIPE):
        command = [sys.executable, "-m", module, *arguments]
        # The tests run in another folder, where a relative PYTHONPATH would lead nowhere.
        package = Path(fm.__file__).resolve().parent
        return subprocess.Popen(
            command,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": str(package.parent)},
        )

    def test_version_help_and_config(self):
        for arguments, expected in (
            (["--version"], f"fastmlp {fm.__version__}\n"),
            (["train", "--help"], "fastmlp train mnist --data"),
            (["config"], "threads"),
        ):
            process = self.start(*arguments)
            output, errors = process.communicate(timeout=600)
            assert (process.returncode, errors) == (0, "")
            assert expected in output

    def test_silence_beside_the_results_in_a_pipe(self):
        process = self.start("train", "digits", "--epochs", "3")
        output, errors = process.communicate(timeout=600)
        assert (process.returncode, errors) == (0, "")
        assert output.splitlines()[-1].startswith("test accuracy 0.")

    @pytest.mark.skipif(sys.platform != "linux", reason="names of files that are no Unicode")
    def test_a_name_that_is_no_unicode(self, folder):
        name = os.fsdecode(b"\xff.csv")
        Path(name).write_text("1,0.5\n2,0.25\n3,0.75\n")
        process = self.start("train", name, "--epochs", "1", "--test-size", "0.4", "--json")
        output, errors = process.communicate(timeout=600)
        assert (process.returncode, errors) == (0, "")
        assert output.isascii()
        assert json.loads(output)["data"] == "?.csv"
        assert fm.load(json.loads(output)["model"]).input_size == 1

    @pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
    def test_interrupt(self, folder):
        code, errors = interrupt("train", "digits", "--epochs", "1000000")
        assert (code, errors) == (130, "fastmlp: interrupted\n")
        assert os.listdir(folder) == []

    @pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
    def test_an_interrupt_in_an_exec_of_a_text(self, folder):
        (folder / "interrupted.py").write_text(
            "import sys\n"
            "from fastmlp.cli import config, main\n"
            "config.run = lambda options: exec('raise KeyboardInterrupt')\n"
            "sys.exit(main(['config']))\n"
        )
        process = self.start(module="interrupted")
        _, errors = process.communicate(timeout=600)
        assert (process.returncode, errors) == (130, "fastmlp: interrupted\n")

    @pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
    def test_a_reader_that_leaves(self):
        reader, writer = os.pipe()
        os.close(reader)
        process = self.start("train", "digits", "--epochs", "3", stdout=writer)
        os.close(writer)
        _, errors = process.communicate(timeout=600)
        assert (process.returncode, errors) == (1, "")
