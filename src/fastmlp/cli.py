"""The command line: ``fastmlp train``, ``fastmlp config``.

The library behind it is argparse: a part of Python, so always there, well kept, and imported in a
few milliseconds.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy as np

    from .history import History

TRAIN_EXAMPLES = """\
examples:
  fastmlp train digits
  fastmlp train digits --hidden 128 64 --activation relu --optimizer adam --seed 7
  fastmlp train mnist --data folder/with/the/four/files
  fastmlp train houses.csv --target price --epochs 50

data:
  digits     1,797 handwritten digits of 8 x 8 pixels, embedded in the package
  mnist      70,000 handwritten digits of 28 x 28 pixels, in the four IDX files of --data
  FILE.csv   a sample a row, with or without a header; --target says what is predicted
  FILE.npz   the arrays x (n, features) and y

Targets that are integers or words are classes; other numbers are values to be predicted.

exit codes: 0 trained, 1 failed, 2 wrong usage, 130 interrupted
"""


@dataclass(frozen=True)
class Recipe:
    """How to train where the user does not say otherwise."""

    hidden: tuple[int, ...]
    activation: str
    output_activation: str
    loss: str
    optimizer: str
    lr: float
    batch_size: int
    epochs: int


# The sigmoid networks with squared error of Nielsen's "Neural Networks and Deep Learning",
# chapter 1; hidden layers and epochs by the mean accuracy over ten seeds (digits: 0.98).
DIGITS = Recipe((100,), "sigmoid", "sigmoid", "quadratic", "sgd", 3.0, 10, 150)
MNIST = Recipe((100,), "sigmoid", "sigmoid", "quadratic", "sgd", 3.0, 10, 30)
CLASSES = Recipe((64, 64), "relu", "softmax", "cross_entropy", "adam", 1e-3, 32, 100)
VALUES = Recipe((64, 64), "relu", "identity", "mse", "adam", 1e-3, 32, 100)
# Output activations that a loss of classes needs; any other loss takes the recipe's.
OUTPUTS = {"cross_entropy": "softmax", "bce": "sigmoid"}


@dataclass
class Problem:
    """Training and test data, and what is to be found: one of `classes`, or (None) values."""

    name: str
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: int | None
    recipe: Recipe
    standardize: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        Exit code: 0 done, 1 failed, 130 interrupted. Wrong usage leaves by SystemExit(2).
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("fastmlp: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has left, as head does; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        named = error.filename and error.strerror
        return _fail(f"{error.filename}: {error.strerror}" if named else error)
    except (ArithmeticError, ImportError, MemoryError, TypeError, ValueError) as error:
        return _fail(error)
    return 0


def _fail(error: object) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"fastmlp: error: {text}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(
        prog="fastmlp", description="Train multilayer perceptrons fast on CPUs."
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train a network, show how well it does, save it, draw its curves",
        description="Train a network and print its test accuracy as the last line.",
        epilog=TRAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_train_options(train)
    train.set_defaults(run=_train)
    config = commands.add_parser("config", help="show instruction set, threads, OpenMP and caches")
    config.set_defaults(run=_config)
    return parser


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="DATA", help="digits, mnist, or a .csv or .npz file")
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="FOLDER", help="where the files of mnist are")
    data.add_argument("--target", metavar="COLUMN", help="name or index in a .csv file (the last)")
    data.add_argument(
        "--test-size", metavar="SHARE", type=float, help="share of the samples for testing (0.2)"
    )
    network = parser.add_argument_group("network")
    network.add_argument("--hidden", metavar="N", type=int, nargs="*", help="hidden layers' units")
    network.add_argument("--activation", metavar="NAME", help="of the hidden layers")
    network.add_argument("--dtype", metavar="NAME", default="float32", help="float32 or float64")
    training = parser.add_argument_group("training")
    training.add_argument("--loss", metavar="NAME", help="as quadratic, mse, cross_entropy")
    training.add_argument("--optimizer", metavar="NAME", help="as sgd, adam")
    training.add_argument("--lr", metavar="RATE", type=float, help="learning rate")
    training.add_argument("--momentum", metavar="M", type=float, help="where the optimizer has it")
    training.add_argument("--epochs", metavar="N", type=int)
    training.add_argument("--batch-size", metavar="N", type=int)
    training.add_argument("--seed", metavar="N", type=int, default=0, help="decides all chance (0)")
    training.add_argument("--threads", metavar="N", type=int, help="by default as many as serve")
    training.add_argument("--backend", metavar="NAME", default="native", help="native, reference")
    output = parser.add_argument_group("output")
    output.add_argument("--model", metavar="FILE", help="the trained model (DATA.safetensors)")
    output.add_argument("--plot", metavar="FILE", help="loss and accuracy curves (DATA.png)")


def _config(options: argparse.Namespace) -> None:
    from .config import show_config

    show_config()


def _train(options: argparse.Namespace) -> None:
    from . import __version__, losses
    from .model import Sequential

    model_path, plot_path = _output_paths(options)
    problem = _problem(options)
    recipe = _recipe(options, problem.recipe)
    loss = losses.get(recipe.loss)
    optimizer, settings = _optimizer(options, recipe)
    (x, y), (x_test, y_test) = problem.train, problem.test
    outputs = problem.classes or (1 if y.ndim == 1 else y.shape[1])
    layers = _layers(recipe, outputs, problem.standardize)
    model = Sequential(layers, x.shape[1], dtype=options.dtype, seed=options.seed)
    metric = "accuracy" if problem.classes else "r2"
    kind = f", {problem.classes} classes" if problem.classes else ""
    print(f"fastmlp {__version__}, {options.backend} backend")
    print(f"data     {problem.name}: {len(x):,} training, {len(x_test):,} test samples{kind}")
    sizes = "-".join(str(size) for size in (x.shape[1], *recipe.hidden, outputs))
    print(f"network  {sizes}, {recipe.activation}, {model.parameter_count:,} parameters")
    method = ", ".join(
        [recipe.optimizer, *(f"{name} {value:g}" for name, value in settings.items())]
    )
    print(f"training {recipe.loss}, {method}, batches of {recipe.batch_size}", flush=True)
    history = model.fit(
        x,
        y,
        loss=loss,
        optimizer=optimizer,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        validation_data=(x_test, y_test),
        metrics=[metric],
        threads=options.threads,
        backend=options.backend,
    )
    _print_table(history, metric, len(x))
    model.save(model_path)
    print(f"saved {model_path}")
    _draw(history, plot_path, f"{problem.name}: {sizes}")
    print(f"test {metric} {history.history[f'val_{metric}'][-1]:.4f}")


def _output_paths(options: argparse.Namespace) -> tuple[Path, Path]:
    stem = Path(options.source).stem
    model_path = Path(options.model or f"{stem}.safetensors")
    plot_path = Path(options.plot or f"{stem}.png")
    for path in (model_path, plot_path):
        if not path.parent.is_dir():  # better said before the training than after it
            raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    return model_path, plot_path


def _problem(options: argparse.Namespace) -> Problem:
    from . import data

    if options.data is not None and options.source != "mnist":
        raise ValueError(f"--data is for mnist only; got it with {options.source}")
    if options.source in ("digits", "mnist") and options.target is not None:
        raise ValueError(f"--target is for .csv files only; got it with {options.source}")
    if options.source == "mnist":
        return _mnist(options)
    test_size = 0.2 if options.test_size is None else options.test_size
    if options.source == "digits":
        x, y = data.load_digits()
        parts = data.train_test_split(x, y, test_size=test_size, seed=options.seed)
        return Problem("digits", parts[::2], parts[1::2], 10, DIGITS)
    if not Path(options.source).suffix:
        from .errors import choose

        choose("DATA without an ending (as .csv, .npz)", options.source, ("digits", "mnist"))
    x, y = data.load_table(options.source, options.target)
    classes = None
    if y.ndim == 1 and y.dtype.kind in "iubUS":
        names, y = _classes(y)
        classes = len(names)
    parts = data.train_test_split(
        x, y, test_size=test_size, seed=options.seed, stratify=classes is not None
    )
    recipe = VALUES if classes is None else CLASSES
    return Problem(Path(options.source).name, parts[::2], parts[1::2], classes, recipe, True)


def _mnist(options: argparse.Namespace) -> Problem:
    import numpy as np

    from . import data

    if options.data is None:
        raise ValueError("mnist needs --data FOLDER with its four files, since fastmlp has no copy")
    if options.test_size is not None:
        raise ValueError("--test-size is not for mnist, which has its own 10,000 test images")
    train, test = data.load_mnist(options.data)
    classes = 1 + int(max(train[1].max(), test[1].max()))
    scale = np.float32(1 / 255)
    (x, y), (x_test, y_test) = train, test
    return Problem("mnist", (x * scale, y), (x_test * scale, y_test), classes, MNIST)


def _classes(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the classes in sorted order, and print that where the numbers are not the names."""
    import numpy as np

    names, y = np.unique(y, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"all targets are {names[0]!s}: there is nothing to learn")
    if names.dtype.kind not in "iu" or not np.array_equal(names, np.arange(len(names))):
        shown = [f"{number}={name}" for number, name in enumerate(names[:20])]
        print("classes  " + ", ".join(shown) + ", ..." * (len(names) > 20))
    return names, y


def _recipe(options: argparse.Namespace, recipe: Recipe) -> Recipe:
    """Put what the user said into the recipe of the data."""
    from dataclasses import fields, replace

    said: dict[str, Any] = {
        field.name: value
        for field in fields(recipe)
        if (value := getattr(options, field.name, None)) is not None
    }
    if "hidden" in said:
        said["hidden"] = tuple(said["hidden"])
    if said.get("loss", recipe.loss) != recipe.loss:
        said["output_activation"] = OUTPUTS.get(said["loss"], _plain_output(recipe))
    return replace(recipe, **said)


def _plain_output(recipe: Recipe) -> str:
    # Squared errors of a softmax are no usual cost; of sigmoids they are the textbooks'.
    return "sigmoid" if recipe.output_activation == "softmax" else recipe.output_activation


def _optimizer(options: argparse.Namespace, recipe: Recipe) -> tuple[Any, dict[str, float]]:
    """Return the optimizer, and those of its settings that are not its defaults."""
    from .errors import choose
    from .optimizers import OPTIMIZERS

    kind = OPTIMIZERS[choose("--optimizer", recipe.optimizer, OPTIMIZERS)]
    settings = {}
    if options.lr is not None or options.optimizer is None:
        settings["lr"] = recipe.lr  # another optimizer has its own default
    if options.momentum is not None:
        if not hasattr(kind, "momentum"):
            raise ValueError(f"--momentum is not a setting of {recipe.optimizer}")
        settings["momentum"] = options.momentum
    return kind(**settings), settings


def _layers(recipe: Recipe, outputs: int, standardize: bool) -> list[Any]:
    from .layers import Dense, Standardize

    first = [Standardize()] if standardize else []
    hidden = [Dense(units, recipe.activation) for units in recipe.hidden]
    return [*first, *hidden, Dense(outputs, recipe.output_activation)]


def _print_table(history: History, metric: str, samples: int) -> None:
    """Print about ten epochs of so many samples, the last among them, and how long all took."""
    columns = ["loss", metric, "val_loss", f"val_{metric}"]
    titles = ["epoch", *(name.replace("val_", "test ") for name in columns)]
    widths = [max(len(title), 8) for title in titles]
    print()
    print("  ".join(title.rjust(width) for title, width in zip(titles, widths, strict=True)))
    count = len(history.epoch)
    step = -(-count // 10)
    for row in sorted({0, *range(step - 1, count, step), count - 1}):
        cells = [str(row + 1), *(f"{history.history[name][row]:.4f}" for name in columns)]
        print("  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))
    seconds = max(sum(history.time), 1e-9)  # a clock may be too coarse for a tiny training
    epochs = "epoch" if count == 1 else "epochs"
    rate = samples * count / seconds
    print(f"\ntrained {count} {epochs} in {seconds:.2f} s, {rate:,.0f} samples/s")


def _draw(history: History, path: Path, title: str) -> None:
    from . import plots

    try:
        figure = plots.training_curves(history, validation_name="test", title=title)
    except ImportError as error:
        print(f"no curves drawn: {error}")
        return
    figure.savefig(path)
    print(f"drew {path}")
