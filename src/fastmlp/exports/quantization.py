"""Weights as integers of 8 bits, and what that costs in accuracy."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.plan import build
from fastmlp.sources import check_finite, check_inputs

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp.model import Sequential

# Symmetric: -128 is not used, so that a weight and its negative are equally exact.
_LARGEST = 127
_ROWS = 1000


@dataclass(frozen=True)
class Quantized:
    """A matrix as integers with one scale a column: W[:, j] ≈ scale[j] · values[:, j].

    Attributes
    ----------
    values : ndarray of int8, shape (n_in, n_out)
    scale : ndarray, shape (n_out,)
        The largest weight of a column, divided by 127.
    """

    values: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray) -> Quantized:
        """Round a matrix to the nearest integers."""
        scale = np.abs(weight).max(axis=0) / weight.dtype.type(_LARGEST)
        # A column that is zero, or so small that its scale is, becomes zeros.
        steps = weight / np.where(scale > 0, scale, 1)
        values = np.clip(np.rint(steps), -_LARGEST, _LARGEST)
        return cls(np.where(scale > 0, values, 0).astype(np.int8), scale)

    def matrix(self) -> np.ndarray:
        """Return the matrix that it stands for."""
        return self.values * self.scale


@dataclass(frozen=True)
class QuantizationLoss:
    """The integer weights of a model, and what they change.

    Attributes
    ----------
    weights : dict of str to Quantized
    errors : (float, float, float)
        Largest and mean change of an output, and the largest output, on the sample.
    sample : str
        What the sample was.
    """

    weights: dict[str, Quantized]
    errors: tuple[float, float, float]
    sample: str


def quantize(model: Sequential, x: ArrayLike | None = None) -> QuantizationLoss:
    """Return the weights of all dense steps as integers, and measure what that changes.

    Parameters
    ----------
    model : Sequential
    x : array_like, shape (n, n_in), optional
        The sample of inputs to measure on. By default normal random numbers, of the mean and
        scale that a Standardize in the first place has learned, and random codes for Embedding.

    Raises
    ------
    TypeError, ValueError
        If `x` is refused.
    """
    if x is None:
        sample = f"{_ROWS} rows of normal random numbers"
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(_ROWS, model.input_size))
        if model.layers[0].learns:
            rows = rows * model.states["0.scale"] + model.states["0.mean"]
        # Of layers that read the same column the one with the fewest categories decides.
        codes = [(-layer.categories, column) for column, layer in model.codes(model.input_size)]
        for categories, column in sorted(codes):
            rows[:, column] = rng.integers(-categories, size=_ROWS)
    else:
        rows = check_inputs(x, model.input_size)
        check_finite("x", rows, model.dtype)
        sample = f"{len(rows)} rows that were given"
    names = [step.reads[1].name for step in build(model, 1).forward if step.op == "dense"]
    weights = {name: Quantized.of(model.parameters[name]) for name in names}
    rounded = copy.deepcopy(model)
    for name, weight in weights.items():
        rounded.parameters[name] = weight.matrix()
    outputs = model.predict(rows).astype(np.float64)
    change = np.abs(rounded.predict(rows) - outputs)
    errors = float(change.max()), float(change.mean()), float(np.abs(outputs).max())
    return QuantizationLoss(weights, errors, sample)
