"""A small network and its data, which the tests of training share."""

from __future__ import annotations

import numpy as np

import cases
import fastmlp as fm

ROWS = 53
X = cases.inputs(ROWS, 6)
Y = cases.targets("real", ROWS, 3)


def model(dtype: str = "float32", seed: int = 1) -> fm.MLP:
    return cases.mlp(cases.Shape((6, 9, 3), 8), dtype=dtype, seed=seed)


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the data as a stream; the last mini-batch has 5 rows."""
    return [(X[i : i + 8], Y[i : i + 8]) for i in range(0, ROWS, 8)]


def weights_of(network: fm.Sequential) -> np.ndarray:
    return network.flat_parameters.array().copy()
