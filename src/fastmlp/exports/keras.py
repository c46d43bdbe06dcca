"""Models from and to Keras 3, on whichever backend it runs.

What stands for a layer or an activation is told by its `counterparts`: a class of keras.layers, a
function of keras.activations. What they do not cover — Standardize, the layers made of layers — is
written out here.
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown
from fastmlp.exports.reading import Stack, activations_by_name, chosen, layers_by_name
from fastmlp.layers import Activation, Concat, Residual, Standardize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    from fastmlp.activations import Activation as Function
    from fastmlp.counterparts import Counterpart
    from fastmlp.layers import Layer
    from fastmlp.model import Sequential

_DTYPES = ("float32", "float64")


def _keras() -> ModuleType:
    try:
        import keras
    except ImportError as error:
        message = 'carrying models from and to Keras needs it: pip install "fastmlp[keras]"'
        raise ImportError(message) from error
    return keras


# --- from Keras -----------------------------------------------------------------------------------


def from_keras(model: Any, *, seed: int | None = 0) -> Sequential:
    """Return a model that computes what a Keras model computes, as a copy.

    Parameters
    ----------
    model : keras.Sequential or keras.Model
        A built one; a functional model must be a chain. Of Dense, activations, Dropout,
        GaussianNoise, BatchNormalization, LayerNormalization, Normalization and Flatten, also
        nested. Weights and moving statistics are copied; regularizers and constraints are not. A
        model that flattens its input is given rows: ``x.reshape(len(x), -1)``.
    seed : int or None
        Of the model.

    Returns
    -------
    Sequential
        Of the Keras model's dtype.

    Raises
    ------
    ImportError
        If Keras is not installed.
    TypeError
        If it is no Keras model.
    ValueError
        If it is not built, or a layer in it has no counterpart; the message names it and lists
        those that have.

    Examples
    --------
    >>> model = fm.from_keras(keras.saving.load_model("model.keras"))
    """
    keras = _keras()
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model; got {shown(model)}")
    if not model.built:
        raise ValueError("the model is not built yet: give it an Input, or call it once")
    shape = tuple(model.input_shape)[1:] if isinstance(model.input_shape, tuple) else None
    if shape is None or not all(isinstance(size, int) for size in shape):
        raise ValueError(f"the model must have one input of known size; it has {model.input_shape}")
    reader = _Reader(shape)
    reader.read_chain(model)
    dtypes = reader.dtypes or {keras.config.floatx()}
    if len(dtypes) > 1 or not dtypes <= {*_DTYPES}:
        found = ", ".join(sorted(dtypes))
        raise ValueError(f"the layers must all be of float32, or all of float64; they are {found}")
    return reader.stack.model(dtypes.pop(), seed, input_size=math.prod(shape))


class _Reader:
    """Walks through layers and collects ours.

    Parameters
    ----------
    shape : tuple of int
        Of a sample.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.stack = Stack()
        self.dtypes: set[str] = set()
        self._shape = shape
        self._seen: set[int] = set()
        self._layers = layers_by_name("keras")
        self._activations = activations_by_name("keras")
        self._functions = activations_by_name("keras_function")

    @property
    def _names(self) -> set[str]:
        also = {"Activation", "Flatten", "InputLayer", "Normalization", "Sequential"}
        return {*also, *self._layers, *self._activations}

    def read_chain(self, model: Any) -> None:
        """Append the layers of a model, each of which reads what the one before gives."""
        if isinstance(model, _keras().Sequential):
            for layer in model.layers:
                self._read(layer)
            return
        passed: Any = None
        for layer in model.layers:
            first = type(layer).__name__ == "InputLayer"
            if first != (passed is None) or not (first or layer.input is passed):
                raise ValueError(f"the model must be a chain of layers; {layer.name} branches off")
            self._read(layer)
            passed = layer.output

    def _read(self, layer: Any) -> None:
        keras = _keras()
        kind = type(layer)
        name = kind.__name__
        title = f"layer {layer.name} ({name})"
        try:
            if isinstance(layer, keras.Model) and name in ("Sequential", "Functional"):
                self.read_chain(layer)
                return
            if name not in self._names or getattr(keras.layers, name, None) is not kind:
                raise ValueError(
                    f"the class {kind.__module__}.{name} has no counterpart in fastmlp; these "
                    f"have: {', '.join(sorted(self._names))}"
                )
            if id(layer) in self._seen:
                raise ValueError("it is used twice, which fastmlp cannot represent")
            self._seen.add(id(layer))
            if name == "InputLayer":
                return
            if name == "Flatten":
                self._shape = (math.prod(self._shape),)
                return
            if len(self._shape) != 1:
                raise ValueError(f"it acts on samples of shape {self._shape}: flatten them before")
            self._read_one(title, name, layer)
        except (TypeError, ValueError) as error:
            inside = str(error).startswith(("layer ", "the model must be a chain"))
            message = str(error) if inside else f"{title} cannot be carried over: {error}"
            raise ValueError(message) from error

    def _read_one(self, title: str, name: str, layer: Any) -> None:
        if layer.weights:
            self.dtypes |= {layer.compute_dtype, *(str(w.dtype) for w in layer.weights[:2])}
        if name == "Normalization":
            self.stack.add(title, Standardize, {}, _statistics(layer))
        elif name in self._activations:
            ours, row = self._activations[name]
            self.stack.activate(title, ours(**row.settings_from(_attributes(layer, row))))
        elif name == "Activation":
            self.stack.activate(title, self._function(layer.activation))
        else:
            ours, row = self._layers[name]
            self._read_layer(title, layer, ours, row)
            if hasattr(layer, "activation"):
                self.stack.activate(title, self._function(layer.activation))

    def _read_layer(
        self, title: str, layer: Any, ours: type[Layer], counterpart: Counterpart
    ) -> None:
        found = {name: getattr(layer, other) for name, other in counterpart.arrays.items()}
        missing = [
            name
            for name, values in found.items()
            if values is None and name not in counterpart.settings
        ]
        learned = [name for name in found if name in ("weight", "bias")]
        if missing and set(missing) != set(learned):
            raise ValueError(f"it has no {counterpart.arrays[missing[0]]}, but other weights")
        arrays = {name: _array(values) for name, values in found.items() if values is not None}
        trainable = layer.trainable and not missing
        settings = counterpart.settings_from(_attributes(layer, counterpart))
        self.stack.add(title, ours, settings, arrays, trainable=trainable or not found)

    def _function(self, function: Any) -> Function:
        keras = _keras()
        name = getattr(function, "__name__", str(function))
        if name not in self._functions or getattr(keras.activations, name, None) is not function:
            raise ValueError(
                f"the activation {name} has no counterpart in fastmlp; these have: "
                f"{', '.join(sorted(self._functions))}"
            )
        ours, row = self._functions[name]
        return ours(**row.settings_from(_defaults(name)))


def _attributes(layer: Any, counterpart: Counterpart) -> dict[str, Any]:
    # Earlier versions lack what is False by default in later ones.
    return {name: getattr(layer, name, False) for name in counterpart.attributes}


def _defaults(name: str) -> dict[str, Any]:
    """Return the defaults of a function of keras.activations."""
    parameters = inspect.signature(getattr(_keras().activations, name)).parameters
    return {key: value.default for key, value in parameters.items()}


def _array(variable: Any) -> np.ndarray:
    return np.asarray(_keras().ops.convert_to_numpy(variable))


def _statistics(layer: Any) -> dict[str, np.ndarray]:
    if layer.invert:
        raise ValueError("it has invert=True, which fastmlp cannot represent")
    mean, variance = (_array(values).ravel() for values in (layer.mean, layer.variance))
    return {"mean": mean, "scale": np.maximum(np.sqrt(variance), _keras().config.epsilon())}


# --- to Keras -------------------------------------------------------------------------------------


def to_keras(model: Sequential) -> Any:
    """Return a model as a Keras model; see `Sequential.to_keras`."""
    keras = _keras()
    writer = _Writer(model)
    start = keras.Input((model.input_size,), dtype=model.dtype.name)
    if not any(layer.children() for layer in model.layers):
        layers = [
            part
            for index, layer in enumerate(model.layers)
            for part in writer.written(layer, str(index))
        ]
        network = keras.Sequential([start, *layers])
    else:
        network = keras.Model(start, writer.applied(model.layers, "", start))
    # Otherwise it would round float64 inputs to Keras' default.
    network.dtype_policy = keras.DTypePolicy(model.dtype.name)
    writer.fill()
    return network


class _Writer:
    """Makes the layers of Keras, and fills them once they are built."""

    def __init__(self, model: Sequential) -> None:
        self._arrays = {**model.parameters, **model.states}
        self._dtype = model.dtype.name
        self._waiting: list[tuple[Layer, str, Any]] = []

    def applied(self, layers: Sequence[Layer], prefix: str, x: Any) -> Any:
        """Return the symbolic result of layers, those made of layers included."""
        keras = _keras()
        for index, layer in enumerate(layers):
            place = f"{prefix}{index}"
            if isinstance(layer, Residual):
                way = dict(layer.children()).get("projection")
                around = x if way is None else self.written(way, f"{place}.projection")[0](x)
                inner = self.applied(layer.layers, f"{place}.", x)
                x = keras.layers.Add(dtype=self._dtype)([inner, around])
            elif isinstance(layer, Concat):
                parts = [
                    self.applied(branch, f"{place}.{number}.", x)
                    for number, branch in enumerate(layer.branches)
                ]
                merged = keras.layers.Concatenate(axis=-1, dtype=self._dtype)
                x = merged(parts) if len(parts) > 1 else parts[0]
            else:
                for part in self.written(layer, place):
                    x = part(x)
        return x

    def written(self, layer: Layer, place: str) -> list[Any]:
        """Return what stands for a layer, and where Keras needs it one for its activation."""
        try:
            return self._written(layer, place)
        except ValueError as error:
            raise ValueError(f"layer {place} ({type(layer).__name__}): {error}") from error

    def _written(self, layer: Layer, place: str) -> list[Any]:
        keras = _keras()
        if isinstance(layer, Standardize):
            return [self._normalization(place)]
        function = getattr(layer, "activation", None)
        own: Any = None
        name = "linear"
        if function is not None:
            name, own = _activation(function, self._dtype)
        if isinstance(layer, Activation):
            return [own or keras.layers.Activation(name, dtype=self._dtype)]
        row = layer.counterparts.keras
        if row is None:
            raise ValueError("it has no counterpart in Keras")
        also = {} if function is None else {"activation": name}
        part = getattr(keras.layers, row.name)(**row.arguments(layer), **also, dtype=self._dtype)
        part.trainable = layer.trainable
        self._waiting.append((layer, place, part))
        return [part] if own is None else [part, own]

    def _normalization(self, place: str) -> Any:
        keras = _keras()
        scale = self._arrays[f"{place}.scale"].astype(np.float64)
        variance = (scale**2).astype(self._dtype)
        least = keras.config.epsilon()
        if scale.min() < least or not np.isfinite(variance).all():
            raise ValueError(
                f"Keras' Normalization represents scales from {least:g}, and squares of them in "
                f"{self._dtype}; the scales go from {scale.min():g} to {scale.max():g}"
            )
        mean = self._arrays[f"{place}.mean"]
        return keras.layers.Normalization(
            axis=-1, mean=mean.copy(), variance=variance, dtype=self._dtype
        )

    def fill(self) -> None:
        """Copy the arrays into the layers, which have been built by now."""
        for layer, place, part in self._waiting:
            for name, attribute in layer.counterparts.keras.arrays.items():
                values = self._arrays.get(f"{place}.{name}")
                if values is not None:  # a layer without bias has none
                    getattr(part, attribute).assign(values.copy())


def _activation(function: Function, dtype: str) -> tuple[str, Any]:
    """Return the name of a function of Keras, or "linear" and a layer for what has other settings.

    Raises
    ------
    ValueError
        If neither stands for the activation.
    """
    row = chosen("keras_function", function)
    defaults = _defaults(row.name)
    if all(defaults[name] == value for name, value in row.arguments(function).items()):
        return row.name, None
    row = chosen("keras", function)
    return "linear", getattr(_keras().layers, row.name)(**row.arguments(function), dtype=dtype)
