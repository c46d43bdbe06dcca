"""An activation as a layer of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp import activations
from fastmlp.layers.base import Layer
from fastmlp.layers.dense import short

if TYPE_CHECKING:
    from typing import Any

    from fastmlp.activations import Activation as Function
    from fastmlp.plan import PlanBuilder, Value


class Activation(Layer):
    """An activation where no Dense layer stands right before it, as behind a BatchNorm.

    Parameters
    ----------
    activation : str or fastmlp.activations.Activation

    Raises
    ------
    TypeError, ValueError
        If it is no activation.

    Examples
    --------
    >>> block = [fm.Dense(64), fm.BatchNorm(), fm.Activation("relu")]
    """

    settings = ("activation",)

    def __init__(self, activation: str | Function):
        super().__init__()
        self.activation = activations.get(activation)

    @property
    def output_activation(self) -> str:
        return self.activation.name

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        if self.activation.name == "identity":
            return x
        op = "softmax" if self.activation.rowwise else "activation"
        return b.emit(op, x, name="a", fn=self.activation)

    @classmethod
    def setting_from(cls, name: str, value: Any) -> Any:
        return activations.from_config(value) if hasattr(value, "keys") else value

    def __repr__(self) -> str:
        return f"Activation({short(self.activation)})"
