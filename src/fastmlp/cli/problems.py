"""What there is to be learned: data, classes, and a recipe for each kind of data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from ..data.tables import Csv

RESERVED = ("digits", "mnist")


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
# Integers of more kinds, as prices, are values, unless the user says that they are classes.
MOST_CLASSES = 100
# The pixels of MNIST are bytes; networks learn from numbers between 0 and 1.
PIXEL_SCALE = 1 / 255


@dataclass
class Problem:
    """Training and test data, and what is to be found: one of `classes`, or (None) values.

    `metadata` is what a model file should tell about the data, so that the model can be used.
    """

    name: str
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: list[str] | None
    recipe: Recipe
    standardize: bool = False
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.classes is not None:
            self.metadata["classes"] = json.dumps(self.classes)

    @property
    def unusual_classes(self) -> bool:
        """Whether the names of the classes are not their numbers."""
        names = self.classes
        return names is not None and names != [str(number) for number in range(len(names))]


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which data are meant."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", metavar="FOLDER", help="where the files of mnist are")
    group.add_argument("--target", metavar="COLUMN", help="name or index in a .csv file (the last)")
    group.add_argument(
        "--test-size", metavar="SHARE", type=float, help="share of the samples for testing (0.2)"
    )
    group.add_argument("--seed", metavar="N", type=int, default=0, help="decides all chance (0)")


def load_problem(options: argparse.Namespace) -> Problem:
    """Read the data that the options name, and split them."""
    from .. import data

    source = options.source
    if options.data is not None and source != "mnist":
        raise ValueError(f"--data is for mnist only; got it with {source}")
    task = getattr(options, "task", None)  # only training asks for it
    if source in RESERVED and task is not None:
        raise ValueError(f"--task is for tables only; got it with {source}")
    if source in RESERVED and options.target is not None:
        raise ValueError(f"--target is for .csv files only; got it with {source}")
    if source == "mnist":
        return _mnist(options)
    test_size = 0.2 if options.test_size is None else options.test_size
    if source == "digits":
        x, y = data.load_digits()
        parts = data.train_test_split(x, y, test_size=test_size, seed=options.seed)
        return Problem("digits", parts[::2], parts[1::2], [str(n) for n in range(10)], DIGITS)
    x, y = load_samples(source, options.target)
    metadata = {}
    if options.target is not None and not options.target.lstrip("-").isdecimal():
        metadata["target"] = options.target
    classes = None
    if _are_classes(y, task):
        classes, y = _classes(y)
    parts = data.train_test_split(
        x, y, test_size=test_size, seed=options.seed, stratify=classes is not None
    )
    recipe = VALUES if classes is None else CLASSES
    # A title needs Unicode, which the name of a file need not be.
    file = Path(source).name.encode(errors="replace").decode()
    name = "standard input" if source == "-" else file
    return Problem(name, parts[::2], parts[1::2], classes, recipe, True, metadata)


def load_samples(source: str, target: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Read samples and targets from a file, or from a CSV file in the standard input."""
    from ..data.tables import load_table, split_csv

    if source == "-":
        return split_csv(read_standard_input(), target)
    check_ending(source)
    return load_table(source, target)


def check_ending(source: str) -> None:
    """Take a name without an ending for a mistyped reserved one, unless there is such a file."""
    if not Path(source).suffix and not Path(source).exists():
        from ..errors import choose

        choose("DATA without an ending (as .csv, .npz)", source, RESERVED)


def read_standard_input() -> Csv:
    """Read a CSV file from the standard input."""
    import io
    import sys

    from ..data.tables import read_csv

    if sys.stdin is None:
        raise ValueError("the standard input is closed")
    with io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig", newline="") as lines:
        return read_csv(Path("standard input"), lines)


def _mnist(options: argparse.Namespace) -> Problem:
    import numpy as np

    from .. import data

    if options.data is None:
        raise ValueError("mnist needs --data FOLDER with its four files, since fastmlp has no copy")
    if options.test_size is not None:
        raise ValueError("--test-size is not for mnist, which has its own 10,000 test images")
    train, test = data.load_mnist(options.data)
    classes = [str(number) for number in range(1 + int(max(train[1].max(), test[1].max())))]
    scale = np.float32(PIXEL_SCALE)
    (x, y), (x_test, y_test) = train, test
    scaled = (x * scale, y), (x_test * scale, y_test)
    return Problem("mnist", *scaled, classes, MNIST, metadata={"byte_scale": repr(PIXEL_SCALE)})


def _are_classes(y: np.ndarray, task: str | None) -> bool:
    """Return whether targets are classes: as the user says, else words and few integers."""
    import numpy as np

    from ..data.tables import is_number

    words, possible = y.dtype.kind in "US", y.ndim == 1 and y.dtype.kind in "iubUS"
    if task == "values":
        if words:
            texts = [str(text) for text in y.flat]
            word = next((text for text in texts if not is_number(text)), texts[0])
            message = f"--task values needs numbers as targets; the first word is {word}"
            raise ValueError(message)
        return False
    if task == "classes":
        if not possible:
            raise ValueError(
                "--task classes needs integers or words as targets, one for each sample; "
                f"got {y.dtype} of shape {y.shape}"
            )
        return True
    return possible and (words or len(np.unique(y)) <= MOST_CLASSES)


def _classes(y: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Number the classes in sorted order; also return their names."""
    import numpy as np

    names, y = np.unique(y, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"all targets are {names[0]!s}: there is nothing to learn")
    return [str(name) for name in names], y
