"""The network of an estimator: built from its parameters, with scikit-learn's first values."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.activations import Activation
from fastmlp.layers import Dense, Dropout
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
        other = (self.activation, self.dropout) != self._built_with
        if self.__dict__.get("_assigned") or other:
            weights, biases = ([np.asarray(a) for a in p] for p in (self.coefs_, self.intercepts_))
            arrays = [array for pair in zip(weights, biases, strict=True) for array in pair]
            shapes = [array.shape for array in arrays]
            specs = () if model is None else model.parameter_specs
            if other or [spec.shape for spec in specs] != shapes:
                units = [len(weights[0]), *(len(bias) for bias in biases)]
                single = all(array.dtype == np.float32 for array in arrays)
                seed = 0 if model is None else model.seed
                model = self._build(units, "float32" if single else "float64", seed)
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

    def _each_layer(self, name: str, single: type | tuple[type, ...], layers: int) -> list[Any]:
        """Return a parameter that is one for all hidden layers, or a list of one for each."""
        given = getattr(self, name)
        if isinstance(given, single):
            return [given] * layers
        if len(given) != layers:
            raise ValueError(
                f"{name} must be one for all hidden layers, or a list of {layers}, one for "
                f"each; got {given!r}"
            )
        return list(given)

    def _hidden_activations(self, layers: int) -> list[str | Activation]:
        return self._each_layer("activation", (str, Activation), layers)

    def _layers(self, units: list[int]) -> list[Layer]:
        """Return new layers for sizes from input to output."""
        hidden = len(units) - 2
        kinds = [*self._hidden_activations(hidden), self.out_activation_]
        rates = [*self._each_layer("dropout", Real, hidden), 0.0]
        layers: list[Layer] = []
        for size, kind, rate in zip(units[1:], kinds, rates, strict=True):
            layers.append(Dense(size, _NAMES.get(kind, kind) if isinstance(kind, str) else kind))
            if rate != 0.0:
                layers.append(Dropout(rate))
        return layers

    def _build(self, units: list[int], dtype: str, seed: int = 0) -> Sequential:
        """Return a model of these sizes; its parameters are zero."""
        self._built_with = (self.activation, self.dropout)
        model = Sequential(self._layers(units), dtype=dtype, seed=seed)
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
