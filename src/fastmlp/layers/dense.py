"""The fully connected layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp import activations, initializers
from fastmlp.counterparts import Counterpart, Counterparts
from fastmlp.errors import check_flag, check_integer, check_number
from fastmlp.layers.base import LARGEST_SIZE, Layer
from fastmlp.parameters import ParameterSpec

if TYPE_CHECKING:
    from typing import Any

    from fastmlp.activations import Activation
    from fastmlp.initializers import InitializerLike
    from fastmlp.plan import PlanBuilder, Value


class Dense(Layer):
    """Fully connected: f(x W + b).

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str or Activation
        f; "softmax" makes sense in the last layer.
    bias : bool
        Whether b is added.
    initializer : str or callable, optional
        First values of W, shape (n_in, n_out): a name of `fastmlp.initializers.INITIALIZERS`, an
        object from there, or a callable (shape, rng) -> array. By default what suits the
        activation (`fastmlp.initializers.default_for`).
    bias_initializer : str or callable
        First values of b, shape (n_out,).
    max_norm : float, optional
        After each update the weights into a unit, a column w of W, are scaled down to ‖w‖ =
        max_norm where ‖w‖ is larger. Source: G. Hinton et al. (2012), arXiv:1207.0580; Keras'
        MaxNorm over axis 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.
    """

    settings = ("units", "activation", "bias", "initializer", "bias_initializer", "max_norm")
    counterparts = Counterparts(
        torch=Counterpart(
            "Linear",
            {"input_size": "in_features", "units": "out_features", "bias": "bias"},
            arrays={"weight": "weight", "bias": "bias"},
            transposed=("weight",),
        ),
        keras=Counterpart(
            "Dense",
            {"units": "units", "bias": "use_bias"},
            arrays={"weight": "kernel", "bias": "bias"},
        ),
    )

    def __init__(
        self,
        units: int,
        activation: str | Activation = "identity",
        bias: bool = True,
        initializer: InitializerLike | None = None,
        bias_initializer: InitializerLike = "zeros",
        max_norm: float | None = None,
    ):
        super().__init__()
        self.units = check_integer("units", units, low=1, high=LARGEST_SIZE)
        self.activation = activations.get(activation)
        self.bias = check_flag("bias", bias)
        if initializer is None:
            initializer = initializers.default_for(self.activation)
        self.initializer = initializers.get(initializer)
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        if max_norm is not None:
            max_norm = check_number("max_norm", max_norm, low=0.0, open_low=True)
        self.max_norm = max_norm

    def size_after(self, input_size: int) -> int:
        return self.units

    def parameter_specs(self) -> list[ParameterSpec]:
        if self.input_size is None:
            return []
        free = self.trainable
        shape = (self.input_size, self.units)
        first = self.initializer
        specs = [ParameterSpec("weight", shape, first, True, free, max_norm=self.max_norm)]
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
        inside = f"{self.units}, {short(self.activation)}"
        if not self.bias:
            inside += ", bias=False"
        if self.initializer != initializers.default_for(self.activation):
            inside += f", initializer={short(self.initializer)}"
        if self.bias and self.bias_initializer != initializers.get("zeros"):
            inside += f", bias_initializer={short(self.bias_initializer)}"
        if self.max_norm is not None:
            inside += f", max_norm={self.max_norm!r}"
        return f"Dense({inside})"


def short(value: object) -> str:
    """Return the name alone of an object without settings."""
    settings = getattr(value, "settings", None)
    return repr(value.name) if settings == () else repr(value)  # type: ignore[attr-defined]
