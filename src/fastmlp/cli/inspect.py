"""``fastmlp inspect``: what is in a model file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from .output import print_json, print_table

if TYPE_CHECKING:
    import argparse
    from typing import Any

    import numpy as np

SUMMARY = "show what is in a model file"
DESCRIPTION = "Show the layers, the parameters and everything else in a model file; it is checked."
EXAMPLES = """\
examples:
  fastmlp inspect digits.safetensors
  fastmlp inspect digits.safetensors --json
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fastmlp inspect``."""
    parser.add_argument("model", metavar="MODEL", help="a file that train or model.save wrote")


def run(options: argparse.Namespace) -> None:
    """Read everything, and print it."""
    from ..files import load, load_metadata, read_description
    from ..tensorfile import TensorFile

    model = load(options.model)
    with TensorFile(options.model) as file:
        description = read_description(file)
        names = list(file.entries)
    metadata = load_metadata(options.model)
    arrays = {**model.parameters, **model.states}
    optimizer = _optimizer(description)
    if options.json:
        print_json(
            {
                "file": options.model,
                "bytes": Path(options.model).stat().st_size,
                "format": description["format"],
                "model": model.config(),
                "parameters": model.parameter_count,
                "tensors": {name: _numbers(array) for name, array in arrays.items()},
                "optimizer": optimizer,
                "checkpoint": "checkpoint" in description,
                "metadata": metadata,
            }
        )
        return
    size = Path(options.model).stat().st_size
    kind = "checkpoint" if "checkpoint" in description else "model"
    print(f"{options.model}: {kind}, format {description['format']}, {size:,} bytes")
    print(model)
    rows = []
    for name, array in arrays.items():
        numbers = _numbers(array)
        shape = " x ".join(map(str, array.shape))
        rows.append(
            [name, shape, *(f"{numbers[key]:.4g}" for key in ("min", "max", "mean", "std"))]
        )
    if rows:
        print()
        print_table(["tensor", "shape", "min", "max", "mean", "std"], rows, left=2)
    if optimizer is not None:
        config = optimizer["config"] or {"name": optimizer["name"]}
        settings = ", ".join(f"{key} {json.dumps(value)}" for key, value in config.items())
        print(f"\noptimizer: {settings}")
        print(f"after {optimizer['step']:,} steps, {optimizer['epoch']:,} epochs")
    more = sorted(set(names) - arrays.keys())
    if more:
        print(f"\nbeside the model: {', '.join(map(_printable, more))}")
    lines = [f"{_printable(key)}: {_printable(text)}" for key, text in metadata.items()]
    if lines:
        print("", *lines, sep="\n")


def _optimizer(description: dict[str, Any]) -> dict[str, Any] | None:
    if "checkpoint" in description:
        return description["checkpoint"].get("optimizer")
    return description.get("optimizer")


def _printable(text: str) -> str:
    """Return a text of the file without what a terminal would obey."""
    return text if text.isprintable() else repr(text)


def _numbers(array: np.ndarray) -> dict[str, Any]:
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "min": float(array.min()),
        "max": float(array.max()),
        "mean": float(array.mean(dtype="f8")),
        "std": float(array.std(dtype="f8")),
    }
