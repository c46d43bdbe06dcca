"""What predict and evaluate share: a model file with what train wrote beside it, and data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from ..model import Sequential


class SavedModel:
    """A model from a file, and what its metadata say.

    Attributes
    ----------
    model : Sequential
    metadata : dict of str to str
    classes : list of str or None
        Names of the classes, if it tells one class for each sample.
    loss : str
        What it was trained with; where that is not known, what its output activation suggests.
    """

    def __init__(self, path: str):
        from ..files import load, load_metadata

        self.model: Sequential = load(path)
        self.metadata = load_metadata(path)
        self.classes = self._classes()
        ends = {"softmax": "cross_entropy", "sigmoid": "bce"}
        self.loss = self.metadata.get("loss", ends.get(self.model.output_activation, "mse"))

    def _classes(self) -> list[str] | None:
        size = self.model.output_size
        try:
            names = json.loads(self.metadata.get("classes", "null"))
        except (ValueError, RecursionError):
            names = None
        if isinstance(names, list) and len(names) == size:
            return [str(name) for name in names]
        several = self.model.output_activation == "softmax" and size > 1
        return [str(number) for number in range(size)] if several else None

    def scaled(self, x: np.ndarray, scale: float | None) -> np.ndarray:
        """Multiply features by --scale; bytes by what the training multiplied them."""
        import numpy as np

        if scale is None and x.dtype == np.uint8 and "byte_scale" in self.metadata:
            scale = float(self.metadata["byte_scale"])
        return x if scale is None else x * np.asarray(scale, self.model.dtype)

    def numbers_of(self, y: np.ndarray) -> np.ndarray:
        """Turn names of classes into their numbers; targets of other kinds stay as they are."""
        import numpy as np

        if y.ndim != 1 or y.dtype.kind not in "iubUS":
            return y
        if self.classes is None or self.model.output_size == 1:
            if y.dtype.kind in "US":
                raise ValueError(f"targets are words, as {y[0]!s}; the model knows no classes")
            return y
        index = {name: number for number, name in enumerate(self.classes)}
        names = [str(name) for name in y]
        unknown = next((name for name in names if name not in index), None)
        if unknown is not None:
            known = ", ".join(self.classes[:20])
            raise ValueError(f"the target {unknown!r} is none of the model's classes: {known}")
        return np.array([index[name] for name in names])


def features(options: argparse.Namespace, saved: SavedModel) -> np.ndarray:
    """Read the samples that are to be predicted; NaN in them would become a class as any other."""
    from ..data import load_digits, load_features
    from ..data.tables import csv_features, read_csv
    from ..sources import check_finite
    from .problems import check_ending, read_standard_input

    source, target = options.data, options.target
    if source == "digits":
        return load_digits()[0]
    path = Path(source)
    if source == "-" or path.suffix.lower() == ".csv":
        table = read_standard_input() if source == "-" else read_csv(path)
        if target is None and saved.metadata.get("target") in table.first:
            target = saved.metadata["target"]
        x = csv_features(table, target)
    else:
        if not re.search(r"ubyte(\.gz)?$", source):
            check_ending(source)
        x = load_features(source, target)
    inputs = saved.model.input_size
    if x.shape[1] != inputs:
        hint = "; which column is no feature? say --target" * (x.shape[1] == inputs + 1)
        raise ValueError(f"{source} has {x.shape[1]} columns; the model needs {inputs}{hint}")
    x = saved.scaled(x, options.scale)
    check_finite(source, x, saved.model.dtype)
    return x
