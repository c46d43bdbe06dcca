"""``fastmlp train``: train a network, show how well it does, save it, draw its curves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .output import print_json, print_table
from .problems import OUTPUTS, Recipe, add_data_options, load_problem

if TYPE_CHECKING:
    import argparse
    from typing import Any

    import numpy as np

    from ..history import History

# Losses whose values are learned standardized: a network starts near 0 ± 1, far from prices.
IN_DEVIATIONS = ("mse", "quadratic", "mae", "huber", "log_cosh", "quantile")

SUMMARY = "train a network, show how well it does, save it, draw its curves"
DESCRIPTION = "Train a network; the last line says how good it is on samples it has not seen."
EXAMPLES = """\
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
  -          a .csv file from the standard input

Targets that are words, or integers of at most 100 kinds, are classes; other numbers are values
to be predicted. --task says it otherwise. A value that is missing (nothing, ?, NA) is an error
with its line: fill it in, or leave the row out.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fastmlp train``."""
    parser.add_argument("source", metavar="DATA", help="digits, mnist, a .csv or .npz file, or -")
    add_data_options(parser)
    network = parser.add_argument_group("network")
    network.add_argument("--hidden", metavar="N", type=int, nargs="*", help="hidden layers' units")
    network.add_argument("--activation", metavar="NAME", help="of the hidden layers")
    network.add_argument("--dtype", metavar="NAME", default="float32", help="float32 or float64")
    training = parser.add_argument_group("training")
    training.add_argument(
        "--task", choices=("classes", "values"), help="what the targets of a table are"
    )
    training.add_argument("--loss", metavar="NAME", help="as quadratic, mse, cross_entropy")
    training.add_argument("--optimizer", metavar="NAME", help="as sgd, adam")
    training.add_argument("--lr", metavar="RATE", type=float, help="learning rate")
    training.add_argument("--momentum", metavar="M", type=float, help="where the optimizer has it")
    training.add_argument("--epochs", metavar="N", type=int)
    training.add_argument("--batch-size", metavar="N", type=int)
    training.add_argument("--threads", metavar="N", type=int, help="by default as many as serve")
    training.add_argument("--backend", metavar="NAME", default="native", help="native, reference")
    output = parser.add_argument_group("output")
    output.add_argument("--model", metavar="FILE", help="the trained model (DATA.safetensors)")
    output.add_argument("--plot", metavar="FILE", help="loss and accuracy curves (DATA.png)")


def run(options: argparse.Namespace) -> None:
    """Train, save, draw, and print."""
    from .. import __version__, losses
    from ..evaluation import Evaluator
    from ..layers import Standardize
    from ..model import Sequential

    say = _silent if options.json else _say
    model_path, plot_path = _output_paths(options)
    problem = load_problem(options)
    recipe = _recipe(options, problem.recipe)
    loss = losses.get(recipe.loss)
    optimizer, settings = _optimizer(options, recipe)
    (x, y), (x_test, y_test) = problem.train, problem.test
    classes = len(problem.classes or ())
    outputs = classes or (1 if y.ndim == 1 else y.shape[1])
    layers = _layers(recipe, outputs, problem.standardize)
    model = Sequential(layers, x.shape[1], dtype=options.dtype, seed=options.seed)
    units = None
    if not classes and recipe.loss in IN_DEVIATIONS and recipe.output_activation == "identity":
        Evaluator(model, loss).check(x, y)
        units = Sequential([Standardize()], dtype="float64")
        y, y_test = (part.reshape(len(part), -1) for part in (y, y_test))
        units.adapt(y)
        _check_spread(y, units.states["0.mean"], units.states["0.scale"], model.dtype)
        y, y_test = units.predict(y), units.predict(y_test)
    metric = "accuracy" if classes else "r2"
    kind = f", {classes} classes" if classes else ""
    sizes = "-".join(str(size) for size in (x.shape[1], *recipe.hidden, outputs))
    method = ", ".join(
        [recipe.optimizer, *(f"{name} {value:g}" for name, value in settings.items())]
    )
    if problem.classes is not None and problem.unusual_classes:
        shown = [f"{number}={name}" for number, name in enumerate(problem.classes[:20])]
        say("classes  " + ", ".join(shown) + ", ..." * (classes > 20))
    say(f"fastmlp {__version__}, {options.backend} backend")
    say(f"data     {problem.name}: {len(x):,} training, {len(x_test):,} test samples{kind}")
    say(f"network  {sizes}, {recipe.activation}, {model.parameter_count:,} parameters")
    standardized = " of standardized targets" if units else ""
    say(f"training {recipe.loss}{standardized}, {method}, batches of {recipe.batch_size}")
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
    if not options.json:
        _print_epochs(history, metric, len(x))
    if units:  # the last layer gives them back
        weight, bias = list(model.parameters.values())[-2:]
        weight *= units.states["0.scale"]
        bias[:] = bias * units.states["0.scale"] + units.states["0.mean"]
    model.save(model_path, metadata={**problem.metadata, "loss": recipe.loss})
    say(f"saved {model_path}")
    trouble = _draw(history, plot_path, f"{problem.name}: {sizes}")
    say(trouble or f"drew {plot_path}")
    result = history.history[f"val_{metric}"][-1]
    if not options.json:
        print(f"test {metric} {result:.4f}")
        return
    print_json(
        {
            "data": problem.name,
            "training_samples": len(x),
            "test_samples": len(x_test),
            "classes": problem.classes,
            "network": sizes,
            "parameters": model.parameter_count,
            "history": {name.replace("val_", "test_"): v for name, v in history.history.items()},
            "seconds": sum(history.time),
            "model": str(model_path),
            "plot": None if trouble else str(plot_path),
            f"test_{metric}": result,
        }
    )


def _say(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    """Say nothing: JSON stands alone."""


def _output_paths(options: argparse.Namespace) -> tuple[Path, Path]:
    stem = "model" if options.source == "-" else Path(options.source).stem
    model_path = Path(options.model or f"{stem}.safetensors")
    plot_path = Path(options.plot or f"{stem}.png")
    for path in (model_path, plot_path):  # better said before the training than after it
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    if not os.access(Path(os.path.realpath(model_path)).parent, os.W_OK):
        raise PermissionError(f"{model_path} cannot be written: its folder is read-only")
    return model_path, plot_path


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
    from ..errors import choose
    from ..optimizers import OPTIMIZERS

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
    from ..layers import Dense, Standardize

    first = [Standardize()] if standardize else []
    hidden = [Dense(units, recipe.activation) for units in recipe.hidden]
    return [*first, *hidden, Dense(outputs, recipe.output_activation)]


def _check_spread(y: np.ndarray, mean: np.ndarray, scale: np.ndarray, dtype: np.dtype) -> None:
    """Refuse values that are well learned standardized, but that the model's dtype would round."""
    import numpy as np

    info = np.finfo(dtype)
    for column in np.flatnonzero((y != y[0]).any(axis=0)):
        if scale[column] < 10 * max(abs(mean[column]) * info.eps, info.tiny):
            raise ValueError(
                f"the targets {mean[column]:.4g} ± {scale[column]:.4g} are too close together for "
                f"{dtype}: subtract their mean, or give --dtype float64"
            )


def _print_epochs(history: History, metric: str, samples: int) -> None:
    """Print about ten epochs of so many samples, the last among them, and how long all took."""
    columns = ["loss", metric, "val_loss", f"val_{metric}"]
    titles = ["epoch", *(name.replace("val_", "test ") for name in columns)]
    count = len(history.epoch)
    step = -(-count // 10)
    rows = [
        [str(row + 1), *(f"{history.history[name][row]:.4f}" for name in columns)]
        for row in sorted({0, *range(step - 1, count, step), count - 1})
    ]
    print()
    print_table([title.rjust(8) for title in titles], rows, left=0)
    seconds = max(sum(history.time), 1e-9)  # a clock may be too coarse for a tiny training
    epochs = "epoch" if count == 1 else "epochs"
    rate = samples * count / seconds
    print(f"\ntrained {count} {epochs} in {seconds:.2f} s, {rate:,.0f} samples/s")


def _draw(history: History, path: Path, title: str) -> str | None:
    """Draw the curves; return why that was not possible, None if it was."""
    from .. import plots

    try:
        figure = plots.training_curves(history, validation_name="test", title=title)
    except ImportError as error:
        return f"no curves drawn: {error}"
    figure.savefig(path, format=path.suffix[1:] or "png")
    return None
