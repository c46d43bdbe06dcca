"""The network of an estimator: built from its parameters, with scikit-learn's first values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.activations import Activation
from fastmlp.layers import Dense
from fastmlp.model import Sequential

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from fastmlp.layers import Layer

# scikit-learn's names of activations that have another one here. The exponential behind a
# logarithmic link is not part of the network.
_NAMES = {"logistic": "sigmoid", "exp": "identity"}


class LiveArrays(list):
    """Live arrays of a model's parameters; assigning to an item writes into the model."""

    def __setitem__(self, index: Any, value: Any) -> None:
        several = isinstance(index, slice)
        arrays, values = (self[index], value) if several else ([self[index]], [value])
        for array, new in zip(arrays, values, strict=True):
            array[...] = np.broadcast_to(new, array.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ([array.copy() for array in self],)


class NetworkMixin:
    """The estimator's `model_`, and its parameters as scikit-learn shows them."""

    model_: Sequential
    out_activation_: str
    _built_with: Any = None
    _random_state: np.random.RandomState

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Weights of each layer, live: what is written into them the next prediction uses."""
        return self._arrays("coefs_", 2)

    @coefs_.setter
    def coefs_(self, arrays: Iterable[Any]) -> None:
        self._assign("coefs_", arrays)

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Biases of each layer, live."""
        return self._arrays("intercepts_", 1)

    @intercepts_.setter
    def intercepts_(self, arrays: Iterable[Any]) -> None:
        self._assign("intercepts_", arrays)

    def _assign(self, name: str, arrays: Iterable[Any]) -> None:
        # They come one after the other, so the network takes them when it is used.
        self.__dict__.setdefault("_assigned", {})[name] = list(arrays)

    def _arrays(self, name: str, dimensions: int) -> list[np.ndarray]:
        assigned = self.__dict__.get("_assigned", {})
        if name in assigned:
            return assigned[name]
        if "model_" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        parameters = self.model_.parameters
        return LiveArrays(
            parameters[s.name] for s in parameters.specs if len(s.shape) == dimensions
        )

    def _network(self) -> Sequential:
        """Return the model, with what was assigned to `coefs_` and `intercepts_`.

        As in scikit-learn, the activation that it is used with is the present one.
        """
        model = self.__dict__.get("model_")
        if self.__dict__.get("_assigned") or self.activation != self._built_with:
            weights, biases = ([np.asarray(a) for a in p] for p in (self.coefs_, self.intercepts_))
            arrays = [array for pair in zip(weights, biases, strict=True) for array in pair]
            shapes = [array.shape for array in arrays]
            specs = () if model is None else model.parameter_specs
            if self.activation != self._built_with or [spec.shape for spec in specs] != shapes:
                units = [len(weights[0]), *(len(bias) for bias in biases)]
                single = all(array.dtype == np.float32 for array in arrays)
                model = self._build(units, "float32" if single else "float64")
            for spec, array in zip(model.parameter_specs, arrays, strict=True):
                model.parameters[spec.name] = array
            self.model_ = model
            self.__dict__.pop("_assigned", None)
        return model

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _hidden_activations(self, layers: int) -> list[str | Activation]:
        kinds = self.activation
        if isinstance(kinds, (str, Activation)):
            return [kinds] * layers
        if len(kinds) != layers:
            raise ValueError(
                f"activation must be one for all hidden layers, or a list of {layers}, one for "
                f"each; got {kinds!r}"
            )
        return list(kinds)

    def _layers(self, units: list[int]) -> list[Layer]:
        """Return new layers for sizes from input to output."""
        hidden = self._hidden_activations(len(units) - 2)
        kinds = [*hidden, self.out_activation_]
        return [
            Dense(size, _NAMES.get(kind, kind) if isinstance(kind, str) else kind)
            for size, kind in zip(units[1:], kinds, strict=True)
        ]

    def _build(self, units: list[int], dtype: str) -> Sequential:
        """Return a model of these sizes; its parameters are zero."""
        self._built_with = self.activation
        model = Sequential(self._layers(units), dtype=dtype)
        model.build(units[0], draw=False)
        return model

    def _draw(self, model: Sequential, units: list[int], dtype: Any) -> None:
        """Draw the parameters as scikit-learn does: weights, then biases, layer by layer.

        They are rounded to the dtype of the inputs, even where training is in double precision.
        """
        kinds = self._hidden_activations(len(units) - 2)
        # The output layer follows the rule of the layer before it.
        kinds.append(kinds[-1] if kinds else self.activation)
        specs = iter(model.parameter_specs)
        for fan_in, fan_out, kind in zip(units[:-1], units[1:], kinds, strict=True):
            name = getattr(kind, "name", kind)
            factor = 2.0 if name in ("logistic", "sigmoid") else 6.0
            bound = np.sqrt(factor / (fan_in + fan_out))
            for shape in ((fan_in, fan_out), fan_out):
                drawn = self._random_state.uniform(-bound, bound, shape)
                model.parameters[next(specs).name] = drawn.astype(dtype)
