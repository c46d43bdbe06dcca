"""Models that every export is tested on: all activations and layers of `cases`, and a deep one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import cases
import fastmlp as fm

if TYPE_CHECKING:
    from collections.abc import Callable

    from _pytest.mark import ParameterSet

# What exports promise: relative to the largest output, and what float64 can be held to. A float32
# sum of the sizes here has at most 64 roundings of 6e-8 relative to its terms.
TOLERANCES = {"float32": 1e-5, "float64": 1e-13}


def _stack(layers: Callable[[], list[fm.layers.Layer]]) -> Callable[[str], fm.Sequential]:
    return lambda dtype: fm.Sequential(layers(), input_size=5, dtype=dtype, seed=3)


def _with(activation: fm.activations.Activation) -> Callable[[str], fm.Sequential]:
    hidden = "tanh" if activation.rowwise else activation
    return lambda dtype: cases.mlp(cases.Shape((5, 16, 9, 4), 1), hidden, activation, dtype)


def models() -> list[ParameterSet]:
    """Return functions dtype -> model, for `pytest.mark.parametrize`."""
    rows = [(name, _with(fn)) for name, fn in cases.each(cases.ACTIVATIONS)]
    rows += [(name, _stack(layers)) for name, layers in cases.LAYERS.items()]
    return [pytest.param(make, id=name) for name, make in rows]


def graph_activation() -> fm.activations.Activation:
    """Return an activation that uses most opcodes of programs."""
    g = fm.graph

    def wavy(z):
        bump = g.exp(-z * z) + g.sqrt(g.abs(z)) / 3.0 - g.log(1.5 + z * z)
        near = g.where(z < 0.5, g.tanh(z), g.where(z <= 1.0, g.sigmoid(z), g.minimum(z, 1.5)))
        return bump + g.maximum(near, -0.5) * (1.0 + z * z) ** 0.3 + g.where(z == 0.0, 1.0, 0.0)

    return g.activation(wavy)


def trained(model: fm.Sequential, rows: int = 60) -> np.ndarray:
    """Train a model for a moment, so that states are not what they began as; return inputs."""
    embeds = any(isinstance(layer, fm.Embedding) for layer in model.layers)
    name = "Embedding" if embeds else ""
    x = cases.layer_inputs(name, rows, model.input_size, model.dtype.name)
    y = cases.targets("real", rows, model.output_size)
    model.fit(x, y, epochs=2, batch_size=7, optimizer=fm.SGD(lr=0.01))
    return x


def assert_same(actual: np.ndarray, expected: np.ndarray, tolerance: float | None = None) -> None:
    """Compare outputs relative to the largest."""
    assert actual.dtype == expected.dtype
    if tolerance is None:
        tolerance = TOLERANCES[expected.dtype.name]
    bound = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)
