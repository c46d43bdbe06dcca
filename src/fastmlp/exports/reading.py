"""What the readers of other frameworks' models share: layers collected, checked and filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.layers import LAYERS, Dense, Layer
from fastmlp.layers.composite import sizes_after

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastmlp.counterparts import Counterpart
    from fastmlp.model import Sequential

# Arrays of a layer by our names, as "weight"; of the layers inside it as "0.weight".
Arrays = dict[str, np.ndarray]


def layers_by_name(framework: str) -> dict[str, tuple[type[Layer], Counterpart]]:
    """Return our layers by what stands for them in a framework."""
    return _by_name(LAYERS, framework)


def activations_by_name(framework: str) -> dict[str, tuple[type[Activation], Counterpart]]:
    """Return our activations by what stands for them in a framework."""
    return _by_name(ACTIVATIONS, framework)


def _by_name(registry: Mapping[str, type[Any]], framework: str) -> dict[str, Any]:
    rows = ((kind, getattr(kind.counterparts, framework)) for kind in registry.values())
    return {row.name: (kind, row) for kind, row in rows if row is not None}


def chosen(framework: str, activation: Activation) -> Counterpart:
    """Return what an activation is in a framework.

    Raises
    ------
    ValueError
        If nothing there stands for it.
    """
    counterpart = getattr(activation.counterparts, framework)
    if counterpart is None:
        known = ", ".join(sorted(kind.name for kind, _ in activations_by_name(framework).values()))
        raise ValueError(
            f"the activation {activation!r} has no counterpart there; those of {known} have one"
        )
    return counterpart


class Stack:
    """Layers that are read from another framework, and their arrays.

    Attributes
    ----------
    layers : list of Layer
    arrays : list of dict of str to ndarray
        Of each layer.
    input_sizes : list of int or None
        What each layer takes there, None where it does not say.
    names : list of str
        What each layer is called there, for messages.
    """

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.arrays: list[Arrays] = []
        self.input_sizes: list[int | None] = []
        self.names: list[str] = []

    def add(
        self,
        name: str,
        kind: type[Layer],
        settings: Mapping[str, Any],
        arrays: Arrays | None = None,
        *,
        trainable: bool = True,
    ) -> None:
        """Append a layer; `input_size` may be among its settings."""
        settings = dict(settings)
        self.input_sizes.append(settings.pop("input_size", None))
        layer = kind(**settings)
        layer.trainable = trainable
        self.layers.append(layer)
        self.arrays.append(arrays or {})
        self.names.append(name)

    def activate(self, name: str, activation: Activation) -> None:
        """Apply an activation: in the Dense layer that stands last, or as a layer of its own."""
        if activation.name == "identity":
            return
        last = self.layers[-1] if self.layers else None
        if isinstance(last, Dense) and last.activation.name == "identity":
            renewed = Dense(last.units, activation, last.bias)
            renewed.trainable = last.trainable
            self.layers[-1] = renewed
        else:
            self.add(name, LAYERS["Activation"], {"activation": activation})

    def named(self) -> Arrays:
        """Return all arrays under the names that they have in a model of these layers."""
        return {
            f"{index}.{name}": values
            for index, arrays in enumerate(self.arrays)
            for name, values in arrays.items()
        }

    @property
    def input_size(self) -> int | None:
        """What the first layer takes, as the first one says that says it; None if none does."""
        known = (pair for pair in enumerate(self.input_sizes) if pair[1] is not None)
        number, size = next(known, (0, None))
        if size is None or number == 0:
            return size
        # Layers without parameters keep sizes, or multiply them: a Concat that repeats its input.
        return max(size // sizes_after(self.layers[:number], 1)[-1], 1)

    def model(self, dtype: str, seed: int | None, input_size: int | None = None) -> Sequential:
        """Return a model of the layers, filled with their arrays.

        Parameters
        ----------
        dtype : {"float32", "float64"}
        seed : int or None
        input_size : int, optional
            By default what the first layer says that says it; where none does the model is not
            built yet.

        Raises
        ------
        ValueError
            If there are no layers, their sizes do not fit, or a value is not finite.
        """
        from fastmlp.model import Sequential

        if not self.layers:
            raise ValueError("there is no layer that computes anything")
        model = Sequential(self.layers, dtype=dtype, seed=seed)
        input_size = self.input_size if input_size is None else input_size
        if input_size is None:
            if self.named():
                raise ValueError("no layer says how many inputs it takes")
            return model
        model.build(input_size)
        for name, size, layer in zip(self.names, self.input_sizes, self.layers, strict=True):
            if size is not None and size != layer.input_size:
                raise ValueError(f"{name} takes {size} inputs, but it is given {layer.input_size}")
        for name, values in self.named().items():
            (model.states if name in model.states else model.parameters)[name] = values
        model.learned()
        return model
