"""A stack of layers and its parameters: sizes, first values, freezing, copies, plain data.

What a model does with them — predict, train — stands in `model.py`.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import initializers
from fastmlp.errors import check_flag, check_integer, choose, shown
from fastmlp.layers import LARGEST_SIZE, Embedding, Layer
from fastmlp.layers import from_config as layer_from_config
from fastmlp.layers.composite import check_stack, sizes_after, trace
from fastmlp.parameters import FlatVector, Parameters, place
from fastmlp.sources import Moments, check_finite, check_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Self

    from numpy.typing import ArrayLike, DTypeLike

    from fastmlp.parameters import ParameterSpec
    from fastmlp.plan import PlanBuilder, Value

DTYPES = ("float32", "float64")
LARGEST_SEED = 2**64 - 1


class Network:
    """A stack of layers, their parameters in one flat vector; the base of `Sequential`.

    Parameters
    ----------
    layers : sequence of Layer
    input_size : int, optional
    dtype : {"float32", "float64"}
    seed : int or None

    Attributes
    ----------
    layers : tuple of Layer
    input_size : int or None
        None until known.
    dtype : numpy.dtype
    seed : int
    revision : int
        Grows when something changes that plans depend on: sizes, frozen layers.
    training_passes : int
        How often `forward(training=True)` was called; it numbers the random numbers of layers.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_size: int | None = None,
        dtype: DTypeLike = "float32",
        seed: int | None = 0,
    ):
        self.layers = _check_layers(layers)
        self.dtype = _check_dtype(dtype)
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        self.seed = check_integer("seed", seed, low=0, high=LARGEST_SEED)
        self.input_size: int | None = None
        self._start()
        if input_size is not None:
            input_size = check_integer("input_size", input_size, low=1, high=LARGEST_SIZE)
            self.sizes_after(input_size)
        try:
            for layer in self.layers:
                layer.attach(self)
            if input_size is not None:
                self.build(input_size)
        except BaseException:
            for layer in self.layers:
                layer.detach(self)
            raise

    def _start(self) -> None:
        """Set what is neither copied nor saved."""
        self.revision = self.training_passes = 0
        self._codes: tuple[int, list[tuple[int, Embedding]]] = 0, []
        self.parameter_specs: tuple[ParameterSpec, ...] = ()
        self.state_specs: tuple[ParameterSpec, ...] = ()
        self._adapted = not any(layer.learns for layer in self.layers)
        self._weights: FlatVector | None = None
        self._states: FlatVector | None = None
        self._gradients: FlatVector | None = None

    # --- sizes and parameters ---

    def sizes_after(self, input_size: int) -> list[int]:
        """Return the output size of every layer for an input size, changing nothing.

        Raises
        ------
        ValueError
            If a layer cannot take its input.
        """
        return sizes_after(self.layers, input_size)

    def layout(self, input_size: int) -> tuple[list[ParameterSpec], list[ParameterSpec]]:
        """Fix the sizes of the layers and return their parameters and states; takes no memory yet.

        Raises
        ------
        ValueError
            If a layer cannot take its input, or sizes overflow.
        """
        sizes = [input_size, *self.sizes_after(input_size)]
        for layer, size in zip(self.layers, sizes, strict=False):
            layer.build(size)
        self.codes(input_size)
        parameters = place(_named(self.layers, "parameter_specs"), self.dtype)
        return parameters, place(_named(self.layers, "state_specs"), self.dtype)

    def _walk(self) -> Iterator[tuple[str, Layer]]:
        """Go through all layers, those inside others included, with their names."""
        for index, layer in enumerate(self.layers):
            for inner, part in layer.walk():
                yield f"{index}.{inner}" if inner else str(index), part

    def codes(self, input_size: int) -> list[tuple[int, Embedding]]:
        """Return the columns of the input that hold codes, each with the layer that reads it."""
        if self._codes[0] != input_size:
            found: list[tuple[int, Embedding]] = []
            if any(isinstance(layer, Embedding) for _, layer in self._walk()):
                trace(self.layers, list(range(input_size)), found)
            self._codes = input_size, found
        return self._codes[1]

    def check_codes(self, x: np.ndarray) -> None:
        """Check the columns of inputs that Embedding layers read.

        Raises
        ------
        ValueError
            If a code is not an integer in the layer's range.
        """
        for column, layer in self.codes(x.shape[1]):
            values = x[:, column]
            good = (values >= 0) & (values < layer.categories)
            if values.dtype.kind == "f":
                good &= values == np.floor(values)
            if not good.all():
                row = int(good.argmin())
                raise ValueError(
                    f"column {column} of x must hold the codes 0 … {layer.categories - 1} of "
                    f"{layer!r}, as integers; row {row} has {values[row]}"
                )

    def check_batch(self, rows: int) -> None:
        """Check that all layers can be trained on mini-batches of so many rows.

        Raises
        ------
        ValueError
            If one cannot.
        """
        for name, layer in self._walk():
            if rows < layer.smallest_batch:
                raise ValueError(
                    f"{type(layer).__name__} (layer {name}) needs at least "
                    f"{layer.smallest_batch} rows in a mini-batch of training; got one of {rows}: "
                    "choose another batch_size, or leave out a row"
                )

    def build(self, input_size: int, *, draw: bool = True) -> None:
        """Fix the sizes and draw the first parameters, unless this was done already.

        Parameters
        ----------
        input_size : int
            Columns of the input.
        draw : bool
            Whether the first values are drawn; otherwise they are zeros, for a reader of values.

        Raises
        ------
        TypeError, ValueError
            If the model has another input size, a layer cannot take its input, or an initializer
            gives something unusable.
        """
        input_size = check_integer("input_size", input_size, low=1, high=LARGEST_SIZE)
        if self.input_size is not None:
            if self.input_size != input_size:
                raise ValueError(f"the model has {self.input_size} inputs; got {input_size}")
            return
        parameters, states = self.layout(input_size)
        weights = self._vector(parameters, draw)
        values = self._vector(states, draw)
        # From here on nothing fails.
        self._weights, self._states = weights, values
        self.input_size = input_size
        self.changed()

    def _vector(self, specs: Sequence[ParameterSpec], draw: bool) -> FlatVector:
        vector = FlatVector(sum(spec.size for spec in specs), self.dtype)
        if not draw:
            return vector
        flat = vector.array()
        for spec in specs:
            rng = initializers.generator(self.seed, spec.name)
            values = initializers.initialize(spec.initializer, spec.shape, rng, spec.name)
            with np.errstate(over="ignore"):
                part = values.ravel().astype(self.dtype)
            if not np.isfinite(part).all():
                raise ValueError(f"initializer of {spec.name} overflows {self.dtype.name}")
            flat[spec.offset : spec.offset + spec.size] = part
        return vector

    def changed(self) -> None:
        """Take note of a change of the layers that plans depend on."""
        if self.input_size is not None:
            self.parameter_specs = tuple(place(_named(self.layers, "parameter_specs"), self.dtype))
            self.state_specs = tuple(place(_named(self.layers, "state_specs"), self.dtype))
        if self._gradients is not None:
            self._gradients.array()[...] = 0  # nothing will fill those of frozen layers
        self.revision += 1

    def _built(self) -> None:
        if self.input_size is None:
            raise ValueError(
                "the sizes of the model are not known yet: give input_size, call build(n_in), or "
                "show it data"
            )

    @property
    def output_size(self) -> int | None:
        return self.layers[-1].output_size if self.input_size is not None else None

    @property
    def output_activation(self) -> str:
        """Name of the activation that is the model's last step, "identity" if there is none."""
        return self.layers[-1].output_activation

    @property
    def flat_parameters(self) -> FlatVector:
        """All parameters, one after another."""
        self._built()
        return self._weights

    @property
    def flat_states(self) -> FlatVector:
        """All state vectors, one after another."""
        self._built()
        return self._states

    @property
    def flat_gradients(self) -> FlatVector:
        """All gradients, one after another; zeros until `backward` fills them."""
        self._built()
        if self._gradients is None:
            self._gradients = FlatVector(len(self._weights), self.dtype)
        return self._gradients

    @property
    def parameters(self) -> Parameters:
        """Live arrays of the parameters by name, "0.weight" (n_in, n_out), "0.bias" (n_out,)."""
        return Parameters(self.parameter_specs, self.flat_parameters)

    @property
    def gradients(self) -> Parameters:
        """Live arrays of the gradients that `backward` filled, named as the parameters."""
        return Parameters(self.parameter_specs, self.flat_gradients, "gradient")

    @property
    def states(self) -> Parameters:
        """Live arrays of what is saved with the model but not trained, as "0.mean"."""
        return Parameters(self.state_specs, self.flat_states, "state")

    @property
    def parameter_count(self) -> int:
        """Number of parameters, frozen ones included."""
        return len(self.flat_parameters)

    def trainable_slices(self) -> list[slice]:
        """Return the parts of the flat vector that training changes, neighbours joined."""
        parts: list[slice] = []
        for spec in self.parameter_specs:
            if not spec.trainable:
                continue
            if parts and parts[-1].stop == spec.offset:
                parts[-1] = slice(parts[-1].start, spec.offset + spec.size)
            else:
                parts.append(slice(spec.offset, spec.offset + spec.size))
        return parts

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        """Emit the forward steps of all layers."""
        for index, layer in enumerate(self.layers):
            with b.scope(str(index)):
                x = layer.emit(b, x)
        return x

    def freeze(self, *which: int | Layer) -> None:
        """Exclude layers from training: some, by index or as objects, or all.

        A layer inside another one is given as an object.

        Raises
        ------
        TypeError, ValueError
            If one of them is no layer of this model.
        """
        self._set_trainable(which, False)

    def unfreeze(self, *which: int | Layer) -> None:
        """Train layers again: some, by index or as objects, or all.

        Steps are counted by the optimizer, not by each parameter as in PyTorch: Adam's corrections
        of the first steps are over when a layer is thawed late. A new optimizer begins anew.
        """
        self._set_trainable(which, True)

    def _set_trainable(self, which: Sequence[int | Layer], trainable: bool) -> None:
        chosen = []
        for item in which:
            if isinstance(item, Layer):
                if not any(item is layer for _, layer in self._walk()):
                    raise ValueError(f"the layer {item!r} is not in this model")
                chosen.append(item)
            else:
                last = len(self.layers) - 1
                chosen.append(self.layers[check_integer("layer", item, low=-last - 1, high=last)])
        for layer in chosen or self.layers:
            layer.trainable = trainable

    def adapt(self, x: ArrayLike) -> None:
        """Let layers such as Standardize learn from data now, instead of from the first `fit`.

        Parameters
        ----------
        x : array_like, shape (n, n_in)

        Raises
        ------
        TypeError, ValueError
            If `x` is refused, or varies by so much that its variance is beyond float64.
        """
        x = check_inputs(x, self.input_size)
        check_finite("x", x, self.dtype)
        self.build(x.shape[1])
        moments = Moments(x.shape[1])
        moments.add(x)
        self.learn(moments)

    @property
    def needs_data(self) -> bool:
        """Whether a layer has still to learn from the training data."""
        return not self._adapted

    def learn(self, moments: Moments) -> None:
        """Give the moments of the training data to the layers that learn from them."""
        wild = ~np.isfinite(moments.deviation)
        if wild.any():
            column = wild.argmax()
            raise ValueError(f"the variance of column {column} is beyond float64: scale it down")
        states = self.states
        for index, layer in enumerate(self.layers):
            if layer.learns:
                names = [spec.name for spec in layer.state_specs()]
                layer.learn(moments, {name: states[f"{index}.{name}"] for name in names})
        self.learned()

    def learned(self) -> None:
        """Take note that layers know what they have to learn from data, if only from a file."""
        self._adapted = True

    # --- copies and plain data ---

    def __getstate__(self) -> dict[str, Any]:
        blank = type(self).__new__(type(self))
        blank.layers = self.layers
        blank._start()
        ours = {*vars(blank), "dtype", "seed", "input_size"}
        state = {
            "layers": self.layers,
            "dtype": self.dtype.name,
            "seed": self.seed,
            "input_size": self.input_size,
            "adapted": self._adapted,
            # what a subclass of the user's, or the user, has put there
            "attributes": {name: value for name, value in vars(self).items() if name not in ours},
        }
        if self.input_size is not None:
            state["parameters"] = self.flat_parameters.array().copy()
            state["states"] = self.flat_states.array().copy()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.layers = tuple(state["layers"])
        self.dtype = np.dtype(state["dtype"])
        self.seed = state["seed"]
        self.input_size = state["input_size"]
        self._start()
        vars(self).update(state["attributes"])
        self._adapted = state["adapted"]
        for layer in self.layers:
            layer.attach(self)
        if self.input_size is not None:
            self._weights = FlatVector(len(state["parameters"]), self.dtype)
            self._states = FlatVector(len(state["states"]), self.dtype)
            self._weights.array()[...] = state["parameters"]
            self._states.array()[...] = state["states"]
        self.changed()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        import copy

        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def __copy__(self) -> Self:
        # Two models on one set of parameters would train each other; a copy is its own model.
        return self.__deepcopy__({})

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a copy in another dtype.

        Raises
        ------
        TypeError, ValueError
            If it is neither float32 nor float64.
        """
        import copy

        state = copy.deepcopy(self.__getstate__())
        state["dtype"] = _check_dtype(dtype).name
        twin = type(self).__new__(type(self))
        twin.__setstate__(state)
        return twin

    def config(self) -> dict[str, Any]:
        """Return everything but the numbers in the vectors, as plain data."""
        return {
            "class": "Sequential",
            "layers": [layer.config() for layer in self.layers],
            "input_size": self.input_size,
            "dtype": self.dtype.name,
            "seed": self.seed,
            "adapted": self._adapted,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a new model that `config` described; its parameters are drawn anew.

        Raises
        ------
        TypeError, ValueError
            If something in it is missing, unknown or refused.
        """
        if not hasattr(config, "keys"):
            raise TypeError(f"config must be a mapping; got {shown(config)}")
        settings = dict(config)
        choose("model class", settings.pop("class", None), ("Sequential",))
        adapted = check_flag("adapted", settings.pop("adapted", False))
        for name in settings:
            choose("setting of Sequential", name, ("layers", "input_size", "dtype", "seed"))
        if not isinstance(settings.get("layers"), (list, tuple)):
            raise TypeError(f"layers must be a list; got {shown(settings.get('layers'))}")
        settings["layers"] = [layer_from_config(layer) for layer in settings["layers"]]
        model = cls(**settings)
        model._adapted = model._adapted or adapted
        return model

    # --- what it looks like ---

    def summary(self) -> None:
        """Print a table of the layers, their outputs and their parameters."""
        print(self)

    def __str__(self) -> str:
        rows = [("", "layer", "output", "parameters")]
        for name, layer in self._walk():
            size = "?" if layer.output_size is None else str(layer.output_size)
            count = "?" if layer.input_size is None else f"{layer.parameter_count:,}"
            frozen = "" if layer.trainable else " frozen"
            inside = "  " * name.count(".")
            rows.append((name, inside + layer.title, size, count + frozen))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = []
        for index, name, size, count in rows:
            line = f"{index:>{widths[0]}}  {name:<{widths[1]}}  {size:>{widths[2]}}  {count}"
            lines.append(line.rstrip())
        inputs = "unknown" if self.input_size is None else str(self.input_size)
        total = "unknown" if self.input_size is None else f"{self.parameter_count:,}"
        lines.append(f"inputs: {inputs}, parameters: {total} of {self.dtype.name}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.layers))
        return (
            f"Sequential([{inside}], input_size={self.input_size}, dtype={self.dtype.name!r}, "
            f"seed={self.seed})"
        )


def _check_layers(given: Sequence[Layer]) -> tuple[Layer, ...]:
    stack = check_stack("layers", given)
    if not stack:
        raise ValueError("layers must hold at least one layer; got none")
    seen: set[int] = set()
    for index, top in enumerate(stack):
        for name, layer in top.walk():
            place = f"layers[{index}]" + (f" (its layer {name})" if name else "")
            if id(layer) in seen:
                raise ValueError(f"{place} is in the model twice: {layer!r}; make two layers")
            seen.add(id(layer))
            if layer.learns and (index > 0 or name):
                raise ValueError(
                    f"{layer!r} must be the first layer, since it learns from the data"
                )
    return stack


def _check_dtype(dtype: DTypeLike) -> np.dtype:
    if dtype is not None:
        with contextlib.suppress(TypeError):
            dtype = np.dtype(dtype).name
    return np.dtype(choose("dtype", dtype, DTYPES))


def _named(stack: Sequence[Layer], what: str) -> list[ParameterSpec]:
    """Return the specs of all layers, under the names that they have in the model."""
    return [
        replace(spec, name=f"{index}.{spec.name}")
        for index, layer in enumerate(stack)
        for spec in getattr(layer, what)()
    ]
