"""``fastmlp evaluate``: loss and metrics of a saved model on data with targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .models import SavedModel, features
from .output import print_json, print_table

if TYPE_CHECKING:
    import argparse

    import numpy as np

SUMMARY = "print the loss and metrics of a model on a file"
DESCRIPTION = "Print the loss of a model, and how good it is by other measures."
EXAMPLES = """\
examples:
  fastmlp evaluate digits.safetensors digits
  fastmlp evaluate mnist.safetensors mnist --data folder/with/the/four/files
  fastmlp evaluate houses.safetensors others.csv --target price --metrics rmse r2
  fastmlp evaluate model.safetensors x.npy --targets y.npy --json

data:
  digits     the test samples that train left aside, by the same --seed and --test-size
  mnist      its 10,000 test images, in the folder --data
  FILE.csv   a sample a row, with its target in the column --target, by default the last
  FILE.npz   the arrays x and y
  FILE       any file that predict reads, with targets of their own in the file --targets
  -          a .csv file from the standard input
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fastmlp evaluate``."""
    from .problems import add_data_options

    parser.add_argument("model", metavar="MODEL", help="a file that train or model.save wrote")
    parser.add_argument("source", metavar="DATA", help="samples with targets; see below")
    add_data_options(parser)
    parser.add_argument("--targets", metavar="FILE", help="targets: .csv, .npy, .npz (y) or IDX")
    parser.add_argument("--scale", metavar="FACTOR", type=float, help="multiplies the features")
    parser.add_argument("--loss", metavar="NAME", help="by default that of the training")
    parser.add_argument(
        "--metrics", metavar="NAME", nargs="+", help="as accuracy, f1, rmse, r2, roc_auc"
    )
    parser.add_argument("--threads", metavar="N", type=int, help="by default as many as serve")
    parser.add_argument("--backend", metavar="NAME", default="native", help="native, reference")


def run(options: argparse.Namespace) -> None:
    """Evaluate and print."""
    saved = SavedModel(options.model)
    x, y = _data(options, saved)
    y = saved.numbers_of(y)
    loss = options.loss or saved.loss
    # Integers for a single output are values, as prices, unless its loss is one of classes.
    several = saved.model.output_size > 1 or loss == "bce"
    labels = several and y.ndim == 1 and y.dtype.kind in "iub"
    metrics = options.metrics or (["accuracy"] if labels else ["rmse", "r2"])
    results = saved.model.evaluate(
        x,
        y,
        loss=loss,
        metrics=metrics,
        threads=options.threads,
        backend=options.backend,
    )
    if options.json:
        print_json({"model": options.model, "data": options.source, "samples": len(x), **results})
        return
    print(f"{len(x):,} samples of {options.source}, loss {loss}")
    print_table(["measure", "value"], [[name, f"{v:.6g}"] for name, v in results.items()])


def _data(options: argparse.Namespace, saved: SavedModel) -> tuple[np.ndarray, np.ndarray]:
    from ..data import load_targets
    from .problems import RESERVED, load_problem, load_samples

    for name in ("data", "test_size"):
        if getattr(options, name) is not None and options.source not in RESERVED:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is not for files; got it with {options.source}")
    if options.targets is not None:
        options.data = options.source
        x = features(options, saved)
        return x, load_targets(options.targets)
    if options.source in RESERVED:
        return load_problem(options).test
    if options.source != "-" and Path(options.source).suffix.lower() in (".npy", ".idx", ".gz"):
        raise ValueError(f"{options.source} has no targets: say in which file they are, --targets")
    target = options.target or saved.metadata.get("target")
    x, y = load_samples(options.source, target)
    return saved.scaled(x, options.scale), y
