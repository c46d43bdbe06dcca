"""Layers: what they hold, and the forward steps they emit.

A layer names its parameters and writes down its forward pass; `plan.py` derives the backward pass.
It holds no numbers: parameters live in the flat vector of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.errors import check_flag, choose, shown
from fastmlp.layers.activation import Activation
from fastmlp.layers.base import LARGEST_SIZE, Layer
from fastmlp.layers.composite import Concat, Residual
from fastmlp.layers.dense import Dense
from fastmlp.layers.embedding import Embedding
from fastmlp.layers.noise import Dropout, GaussianNoise
from fastmlp.layers.normalization import BatchNorm, LayerNorm, Scale, Standardize

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = [
    "LARGEST_SIZE",
    "LAYERS",
    "Activation",
    "BatchNorm",
    "Concat",
    "Dense",
    "Dropout",
    "Embedding",
    "GaussianNoise",
    "Layer",
    "LayerNorm",
    "Residual",
    "Scale",
    "Standardize",
    "from_config",
]

LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        Dense,
        Activation,
        Standardize,
        Dropout,
        GaussianNoise,
        BatchNorm,
        LayerNorm,
        Scale,
        Residual,
        Concat,
        Embedding,
    )
}


def from_config(config: Mapping[str, Any]) -> Layer:
    """Return the layer that `Layer.config()` described.

    Raises
    ------
    TypeError, ValueError
        If the class or a setting is unknown or refused.
    """
    if not hasattr(config, "keys") or "class" not in config:
        raise TypeError(f"a layer must be a mapping with a 'class'; got {shown(config)}")
    settings = dict(config)
    kind = LAYERS[choose("layer class", settings.pop("class"), LAYERS)]
    trainable = check_flag("trainable", settings.pop("trainable", True))
    for setting in settings:
        choose(f"setting of {kind.__name__}", setting, kind.settings)
    layer = kind(**{name: kind.setting_from(name, value) for name, value in settings.items()})
    layer._trainable = trainable  # its own: layers inside have said theirs
    return layer
