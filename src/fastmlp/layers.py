"""Layers: what they hold, and the forward steps they emit.

A layer names its parameters and writes down its forward pass; `plan.py` derives the backward pass.
It holds no numbers: parameters live in the flat vector of the model.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import activations, initializers
from fastmlp.errors import check_flag, check_integer, choose, shown
from fastmlp.parameters import ABOVE_ZERO, ParameterSpec
from fastmlp.registry import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastmlp.activations import Activation
    from fastmlp.initializers import InitializerLike
    from fastmlp.network import Network
    from fastmlp.plan import PlanBuilder, Value
    from fastmlp.sources import Moments

# The engine counts rows and columns in 32-bit integers.
LARGEST_SIZE = 2**31 - 1


class Layer:
    """Base of the layers.

    Attributes
    ----------
    settings : tuple of str
        Attributes that are also the constructor's arguments.
    input_size, output_size : int or None
        Columns of what comes in and goes out; None until the layer is built.
    trainable : bool
        False freezes the parameters: no gradient, no update.
    learns : bool
        Whether `learn` has to see the training data before the first training. Such a layer
        stands first.
    """

    settings: tuple[str, ...] = ()
    learns = False

    def __init__(self) -> None:
        self.input_size: int | None = None
        self.output_size: int | None = None
        self._trainable = True
        self._model: weakref.ref[Network] | None = None

    # What a subclass says of itself.

    def size_after(self, input_size: int) -> int:
        """Return the number of outputs for a number of inputs, or raise ValueError."""
        return input_size

    def parameter_specs(self) -> list[ParameterSpec]:
        """Return the parameters, once the layer is built."""
        return []

    def state_specs(self) -> list[ParameterSpec]:
        """Return the vectors that are saved with the model but not trained."""
        return []

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        """Emit the forward steps from `x` and return the result."""
        raise NotImplementedError

    def learn(self, moments: Moments, states: Mapping[str, np.ndarray]) -> None:
        """Fill the states from the training data; only where `learns`."""

    # What the model does with it.

    def build(self, input_size: int) -> None:
        """Fix the sizes."""
        output_size = self.size_after(input_size)
        self.input_size, self.output_size = input_size, output_size

    def attach(self, model: Network) -> None:
        """Tell the layer to which model it belongs.

        Raises
        ------
        ValueError
            If it belongs to another one: a layer's parameters live in one place.
        """
        owner = self._model() if self._model is not None else None
        if owner is not None and owner is not model:
            raise ValueError(
                f"the layer {self!r} belongs to another model already; make a new layer, or a copy "
                "with copy.deepcopy"
            )
        self._model = weakref.ref(model)

    def detach(self, model: Network) -> None:
        """Forget a model that failed to become one."""
        if self._model is not None and self._model() is model:
            self._model = None

    @property
    def output_activation(self) -> str:
        """Name of the activation that is the last step, "identity" if there is none."""
        return "identity"

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = check_flag("trainable", value)
        model = self._model() if self._model is not None else None
        if model is not None:
            model.changed()

    @property
    def parameter_count(self) -> int:
        return sum(spec.size for spec in self.parameter_specs())

    # Plain data.

    def config(self) -> dict[str, Any]:
        """Return the class name and the settings as plain data.

        A function given as an initializer is no data; it is left out, as is what it would give:
        the parameters themselves are saved beside the config.
        """
        settings = {name: plain(getattr(self, name)) for name in self.settings}
        settings = {name: value for name, value in settings.items() if not callable(value)}
        frozen = {} if self._trainable else {"trainable": False}
        return {"class": type(self).__name__, **settings, **frozen}

    @classmethod
    def setting_from(cls, name: str, value: Any) -> Any:
        """Return the constructor's argument for a setting as it stands in `config`."""
        return value

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)
        return f"{type(self).__name__}({inside})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}


class Dense(Layer):
    """Fully connected: f(x W + b).

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str or Activation
        f. "softmax" makes sense in the last layer.
    bias : bool
        Whether b is added.
    initializer : str or callable, optional
        First values of W, shape (n_in, n_out): a name of `fastmlp.initializers.INITIALIZERS`, an
        object from there, or a callable (shape, rng) -> array. By default what suits the
        activation (`fastmlp.initializers.default_for`).
    bias_initializer : str or callable
        First values of b, shape (n_out,).

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.
    """

    settings = ("units", "activation", "bias", "initializer", "bias_initializer")

    def __init__(
        self,
        units: int,
        activation: str | Activation = "identity",
        bias: bool = True,
        initializer: InitializerLike | None = None,
        bias_initializer: InitializerLike = "zeros",
    ):
        super().__init__()
        self.units = check_integer("units", units, low=1, high=LARGEST_SIZE)
        self.activation = activations.get(activation)
        self.bias = check_flag("bias", bias)
        if initializer is None:
            initializer = initializers.default_for(self.activation.name)
        self.initializer = initializers.get(initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def size_after(self, input_size: int) -> int:
        return self.units

    def parameter_specs(self) -> list[ParameterSpec]:
        if self.input_size is None:
            return []
        free = self.trainable
        shape = (self.input_size, self.units)
        specs = [ParameterSpec("weight", shape, self.initializer, True, free)]
        if self.bias:
            specs.append(ParameterSpec("bias", shape[1:], self.bias_initializer, False, free))
        return specs

    @property
    def output_activation(self) -> str:
        return self.activation.name

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        parameters = [b.parameter(spec.name) for spec in self.parameter_specs()]
        z = b.emit("dense", x, *parameters, name="z")
        if self.activation.name == "identity":
            return z
        op = "softmax" if self.activation.rowwise else "activation"
        return b.emit(op, z, name="a", fn=self.activation)

    @classmethod
    def setting_from(cls, name: str, value: Any) -> Any:
        if name == "activation" and hasattr(value, "keys"):
            return activations.from_config(value)
        if name.endswith("initializer") and hasattr(value, "keys"):
            return initializers.from_config(value)
        return value

    def __repr__(self) -> str:
        inside = f"{self.units}, {_short(self.activation)}"
        if not self.bias:
            inside += ", bias=False"
        if self.initializer != initializers.default_for(self.activation.name):
            inside += f", initializer={_short(self.initializer)}"
        if self.bias and self.bias_initializer != initializers.get("zeros"):
            inside += f", bias_initializer={_short(self.bias_initializer)}"
        return f"Dense({inside})"


class Standardize(Layer):
    """Inputs of zero mean and unit variance: (x - mean) / scale, column by column.

    Mean and standard deviation (over n, as scikit-learn's StandardScaler) are learned from the
    training data when the model is first fitted, or by `Sequential.adapt`, and are saved with the
    model; until then inputs pass unchanged. A column that does not vary has scale 1. The layer
    stands first in its model.
    """

    learns = True

    def state_specs(self) -> list[ParameterSpec]:
        if self.input_size is None:
            return []
        shape = (self.input_size,)
        return [
            ParameterSpec("mean", shape, initializers.Zeros(), False, False),
            ParameterSpec("scale", shape, initializers.Ones(), False, False, minimum=ABOVE_ZERO),
        ]

    def learn(self, moments: Moments, states: Mapping[str, np.ndarray]) -> None:
        states["mean"][...] = moments.mean
        # A deviation that is zero in the model's dtype divides nothing.
        scale = moments.deviation.astype(states["scale"].dtype)
        states["scale"][...] = np.where(scale > 0, scale, 1)

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        return b.emit("standardize", x, b.state("mean"), b.state("scale"), name="y")


LAYERS: dict[str, type[Layer]] = {kind.__name__: kind for kind in (Dense, Standardize)}


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
    layer.trainable = trainable
    return layer


def _short(value: object) -> str:
    """Return the name alone of an object without settings."""
    settings = getattr(value, "settings", None)
    return repr(value.name) if settings == () else repr(value)  # type: ignore[attr-defined]
