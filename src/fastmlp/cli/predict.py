"""``fastmlp predict``: the outputs of a saved model for each sample of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .models import SavedModel, features
from .output import print_json

if TYPE_CHECKING:
    import argparse

    import numpy as np

SUMMARY = "print or save a model's outputs for the samples of a file"
DESCRIPTION = "Print a model's outputs as CSV, a sample a row; of a classifier, the class first."
EXAMPLES = """\
examples:
  fastmlp predict houses.safetensors new.csv
  fastmlp predict houses.safetensors new.csv --output prices.npy
  fastmlp predict digits.safetensors digits --json
  cat new.csv | fastmlp predict houses.safetensors - > prices.csv

data:
  FILE.csv   a sample a row, with or without a header; without the column --target, if there is
             one (the one that the model was trained to predict is found by its name)
  FILE.npy   an array (n, features)
  FILE.npz   the array x, or the only one
  FILE.idx   or *-ubyte, also with .gz: IDX, as the images of MNIST
  digits     the embedded digits
  -          a .csv file from the standard input

Columns are taken by their places: the names in a header are not compared with those of the
training. A value that is missing or not finite is an error.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fastmlp predict``."""
    parser.add_argument("model", metavar="MODEL", help="a file that train or model.save wrote")
    parser.add_argument("data", metavar="DATA", help="samples: .csv, .npy, .npz, IDX, digits, or -")
    parser.add_argument("--target", metavar="COLUMN", help="column of a .csv file that is left out")
    parser.add_argument("--scale", metavar="FACTOR", type=float, help="multiplies the features")
    parser.add_argument("--output", metavar="FILE", help="write to a .csv, .npy or .npz file")
    parser.add_argument("--threads", metavar="N", type=int, help="by default as many as serve")
    parser.add_argument("--backend", metavar="NAME", default="native", help="native, reference")


def run(options: argparse.Namespace) -> None:
    """Predict and print."""
    import numpy as np

    path = None if options.output is None else Path(options.output)
    if path is not None and path.suffix.lower() not in (".csv", ".npy", ".npz"):
        raise ValueError(f"--output must end in .csv, .npy or .npz; got {str(path)!r}")
    saved = SavedModel(options.model)
    x = features(options, saved)
    outputs = saved.model.predict(x, threads=options.threads, backend=options.backend)
    classes = None if saved.classes is None else outputs.argmax(axis=1)
    if path is not None:
        from ..atomic import replacing

        with replacing(path) as temporary, temporary.open("wb") as file:
            if path.suffix.lower() == ".csv":
                file.write(_csv(saved, outputs, classes).encode())
            elif path.suffix.lower() == ".npy":
                np.save(file, outputs)
            else:
                named = {} if classes is None else {"class": np.array(saved.classes)[classes]}
                np.savez(file, outputs=outputs, **named)
    if options.json:
        print_json(
            {
                "model": options.model,
                "samples": len(outputs),
                "classes": saved.classes,
                "output": options.output,
                **({} if path else {"outputs": outputs, "predicted": _names(saved, classes)}),
            }
        )
    elif path is None:
        print(_csv(saved, outputs, classes), end="")
    else:
        print(f"wrote {len(outputs):,} predictions to {path}")


def _names(saved: SavedModel, classes: np.ndarray | None) -> list[str] | None:
    return None if classes is None else [saved.classes[number] for number in classes]


def _csv(saved: SavedModel, outputs: np.ndarray, classes: np.ndarray | None) -> str:
    """Return a header and a row for each sample, as CSV."""
    import csv
    import io

    if saved.classes is not None:
        header = ["class", *saved.classes]
    elif outputs.shape[1] == 1:
        header = [saved.metadata.get("target", "output")]
    else:
        header = [f"output_{number}" for number in range(outputs.shape[1])]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    names = _names(saved, classes)
    for number, row in enumerate(outputs):
        cells = [str(value) for value in row]  # the shortest that reads back as the same number
        writer.writerow(cells if names is None else [names[number], *cells])
    return text.getvalue()
