"""The mean of several models, as of the last epochs of a training or of networks trained apart."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from fastmlp.model import Sequential


def average(models: Iterable[Sequential]) -> Sequential:
    """Return a new model whose parameters and states are the means of those of some models.

    It makes sense where they lie in one valley of the loss: snapshots of one training (P. Izmailov
    et al. (2018), "Averaging weights leads to wider optima and better generalization"), or models
    tuned from a common start. Networks from different first values are no better for it.

    Parameters
    ----------
    models : iterable of Sequential
        With equal layers, sizes and dtype. They stay as they are.

    Returns
    -------
    Sequential
        A copy of the first one with the means, which are taken in float64.

    Raises
    ------
    TypeError, ValueError
        If there is no model, one is no `Sequential`, or their architectures differ.

    Examples
    --------
    >>> model = fm.average([fm.load(path) for path in sorted(folder.glob("epoch-*.st"))])
    """
    from fastmlp.model import check_models

    models = check_models(models)
    for index, model in enumerate(models):
        if model.input_size is None:
            raise ValueError(f"models[{index}] has no parameters yet: its sizes are not known")
        if model.needs_data:
            raise ValueError(f"models[{index}] has still to learn from data: call adapt or fit")
        _compare(models[0], model, index)
    twin = copy.deepcopy(models[0])
    for vector in ("flat_parameters", "flat_states"):
        total = np.zeros(len(getattr(twin, vector)))
        for model in models:
            total += getattr(model, vector).array()
        getattr(twin, vector).array()[...] = total / len(models)
    return twin


def _compare(first: Sequential, other: Sequential, index: int) -> None:
    """Raise ValueError unless two models compute the same function of their parameters."""
    if first.dtype != other.dtype:
        raise ValueError(
            f"models must have one dtype; models[0] has {first.dtype.name}, models[{index}] "
            f"{other.dtype.name}"
        )
    if first.input_size != other.input_size or len(first.layers) != len(other.layers):
        raise ValueError(
            f"models must have one architecture; models[0] has {len(first.layers)} layers and "
            f"{first.input_size} inputs, models[{index}] {len(other.layers)} and "
            f"{other.input_size}"
        )
    for number, (ours, theirs) in enumerate(zip(first.layers, other.layers, strict=True)):
        if _function(ours.config()) != _function(theirs.config()):
            raise ValueError(
                f"models must have one architecture; layer {number} is {ours!r} in models[0] and "
                f"{theirs!r} in models[{index}]"
            )


def _function(config: Any) -> Any:
    """Return a layer's config without what only says how it began, and what of it is trained."""
    if isinstance(config, dict):
        return {
            name: _function(value)
            for name, value in config.items()
            if not name.endswith("initializer") and name != "trainable"
        }
    return [_function(item) for item in config] if isinstance(config, list) else config
