"""Activation functions: the definition of each, as NumPy formulas.

An element-wise activation maps each pre-activation z to a = f(z) and knows its derivative f'(z).
Softmax maps rows. Formulas are arranged so that finite input gives finite output without warnings;
a result has the dtype of the input (float64 if the input is not floating).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.counterparts import Counterpart, Counterparts
from fastmlp.error_function import erfc
from fastmlp.errors import check_number, shown
from fastmlp.registry import Configurable, build, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from fastmlp.exports.onnx import OnnxGraph
    from fastmlp.graph import Node


def _floating(z: ArrayLike | None) -> NDArray[np.floating]:
    z = np.asarray(z)
    return z if z.dtype.kind == "f" else z.astype(np.float64)


class Activation(Configurable):
    """Base of the activation functions.

    Attributes
    ----------
    name : str
        Name in `ACTIVATIONS`.
    derivative_from : {"output", "input"}
        Which of a and z `derivative` uses.
    rowwise : bool
        False where f acts on each element; True for softmax, which has `backward` instead of
        `derivative`.
    alpha : float
        The one parameter of leaky_relu (slope) and elu (scale); 0.0 where there is none.
    kinks : tuple of float
        The z at which f' jumps. There `derivative` is PyTorch's subgradient.
    initializer : str
        Name of the initializer that suits the weights before it. He's factor 2 makes up for the
        half of the signal that a rectifier cuts off.
    c_code : str
        Body of a C function of `real z` that returns f(z), for `Sequential.export_c`. It is
        written as for double: functions of math.h, numbers and `real` are those of the model's
        precision, and a setting's name stands for its value. Empty: cannot be exported to C.
    counterparts : Counterparts
        What it is in other frameworks.
    """

    derivative_from: str = "output"
    rowwise: bool = False
    alpha: float = 0.0
    kinks: tuple[float, ...] = ()
    initializer: str = "glorot_uniform"
    c_code: str = ""
    counterparts: Counterparts = Counterparts()

    def __call__(self, z: ArrayLike) -> NDArray[np.floating]:
        return self.forward(z)

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        """Return a = f(z), in the shape and dtype of z."""
        raise NotImplementedError

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        """Return f'(z), element by element.

        Parameters
        ----------
        z : array_like or None
            Pre-activations; used if `derivative_from` is "input".
        a : array_like or None
            f(z); used if `derivative_from` is "output".
        """
        raise NotImplementedError

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        """Return f(z) as a node of a computational graph, for `Sequential.graph`.

        Parameters
        ----------
        graph : module
            `fastmlp.graph`, whose functions compute with nodes.
        z : fastmlp.graph.Node, shape (n, m)

        Returns
        -------
        fastmlp.graph.Node, shape (n, m)

        Raises
        ------
        ValueError
            If the activation is not known as a graph function.
        """
        raise ValueError(f"the activation {self!r} is not known as a graph function")

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        """Add f(z) to an ONNX graph, for `Sequential.export_onnx`.

        Parameters
        ----------
        graph : fastmlp.exports.onnx.OnnxGraph
        z : str
            Name of a value of the graph, shape (n, m).

        Returns
        -------
        str
            Name of the result.

        Raises
        ------
        ValueError
            If the activation has no form in ONNX.
        """
        raise ValueError(f"the activation {self!r} has no form in ONNX")


class Identity(Activation):
    """f(z) = z."""

    name = "identity"
    c_code = "return z;"
    counterparts = Counterparts(
        torch=Counterpart("Identity"),
        keras_function=Counterpart("linear"),
        sklearn=Counterpart("identity"),
    )

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        return _floating(z)

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        return np.ones_like(_floating(a))

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return z

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        return z


class ReLU(Activation):
    """f(z) = max(z, 0); f'(0) = 0."""

    name = "relu"
    initializer = "he_uniform"
    kinks = (0.0,)
    c_code = "return z < 0 ? 0 : z;"
    counterparts = Counterparts(
        torch=Counterpart("ReLU"),
        keras=Counterpart(
            "ReLU", fixed={"max_value": None, "negative_slope": 0.0, "threshold": 0.0}
        ),
        keras_function=Counterpart("relu"),
        sklearn=Counterpart("relu"),
    )

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        return np.maximum(z, z.dtype.type(0))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return (a > 0).astype(a.dtype)

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return graph.relu(z)

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        return graph.add("Relu", z)


class LeakyReLU(Activation):
    """f(z) = z where z > 0, otherwise α·z; f'(0) = α.

    Parameters
    ----------
    alpha : float
        Slope α >= 0 on the negative side (PyTorch's `negative_slope`).

    Raises
    ------
    TypeError, ValueError
        If alpha is not a finite number >= 0.
    """

    name = "leaky_relu"
    initializer = "he_uniform"
    settings = ("alpha",)
    c_code = "return z > 0 ? z : alpha * z;"
    counterparts = Counterparts(
        torch=Counterpart("LeakyReLU", {"alpha": "negative_slope"}),
        keras=Counterpart("LeakyReLU", {"alpha": "negative_slope"}),
        keras_function=Counterpart("leaky_relu", {"alpha": "negative_slope"}),
    )

    def __init__(self, alpha: float = 0.01):
        # With a negative slope the derivative could not be told from the output's sign.
        alpha = check_number("alpha of leaky_relu", alpha, low=0.0)
        self._set(alpha=alpha, kinks=() if alpha == 1.0 else (0.0,))

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        return np.where(z > 0, z, self.alpha * z)

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return np.where(a > 0, a.dtype.type(1), a.dtype.type(self.alpha))

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return graph.where(z > 0, z, self.alpha * z)

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        if graph.single:
            return graph.add("LeakyRelu", z, alpha=self.alpha)
        below = graph.add("Min", z, graph.number(0.0))
        return graph.add("Add", graph.positive(z), graph.scaled(below, self.alpha))


class ELU(Activation):
    """f(z) = z where z > 0, otherwise α·(exp(z) - 1); f'(0) = α.

    Source: D.-A. Clevert, T. Unterthiner, S. Hochreiter (2016), arXiv:1511.07289.

    Parameters
    ----------
    alpha : float
        Scale α >= 0 of the negative side.

    Raises
    ------
    TypeError, ValueError
        If alpha is not a finite number >= 0.
    """

    name = "elu"
    initializer = "he_uniform"
    settings = ("alpha",)
    c_code = "return z > 0 ? z : alpha * expm1(z);"
    counterparts = Counterparts(
        torch=Counterpart("ELU", {"alpha": "alpha"}),
        keras=Counterpart("ELU", {"alpha": "alpha"}),
        keras_function=Counterpart("elu", {"alpha": "alpha"}),
    )

    def __init__(self, alpha: float = 1.0):
        alpha = check_number("alpha of elu", alpha, low=0.0)
        self._set(alpha=alpha, kinks=() if alpha == 1.0 else (0.0,))

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        return np.where(z > 0, z, self.alpha * np.expm1(np.minimum(z, 0)))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return np.where(a > 0, a.dtype.type(1), a + self.alpha)

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return graph.where(z > 0, z, self.alpha * graph.expm1(graph.minimum(z, 0.0)))

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        return graph.elu(z, self.alpha)


# Solutions of the fixed-point equations for zero mean and unit variance:
# G. Klambauer et al., "Self-normalizing neural networks" (2017), arXiv:1706.02515, equation 14.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


class SELU(Activation):
    """f(z) = λ·z where z > 0, otherwise λ·α·(exp(z) - 1), with α ≈ 1.6733 and λ ≈ 1.0507.

    Source: G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter (2017), arXiv:1706.02515.
    """

    name = "selu"
    initializer = "lecun_normal"  # the variance 1/n_in for which it is derived
    kinks = (0.0,)
    c_code = f"return {_SELU_SCALE!r} * (z > 0 ? z : {_SELU_ALPHA!r} * expm1(z));"
    counterparts = Counterparts(torch=Counterpart("SELU"), keras_function=Counterpart("selu"))

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        negative = (_SELU_SCALE * _SELU_ALPHA) * np.expm1(np.minimum(z, 0))
        return np.where(z > 0, _SELU_SCALE * z, negative)

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return np.where(a > 0, a.dtype.type(_SELU_SCALE), a + _SELU_SCALE * _SELU_ALPHA)

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        negative = _SELU_ALPHA * graph.expm1(graph.minimum(z, 0.0))
        return _SELU_SCALE * graph.where(z > 0, z, negative)

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        return graph.scaled(graph.elu(z, _SELU_ALPHA), _SELU_SCALE)


class GELU(Activation):
    """f(z) = z·Φ(z), Φ the normal distribution function: the exact form, not the tanh one.

    f'(z) = Φ(z) + z·φ(z). Computed in float64 and rounded to the dtype of z.
    Source: D. Hendrycks, K. Gimpel (2016), arXiv:1606.08415.
    """

    name = "gelu"
    initializer = "he_uniform"
    derivative_from = "input"
    c_code = f"return 0.5 * z * erfc(z * {-math.sqrt(0.5)!r});"
    counterparts = Counterparts(
        torch=Counterpart("GELU", fixed={"approximate": "none"}),
        keras_function=Counterpart("gelu", fixed={"approximate": False}),
    )

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        wide = z.astype(np.float64)
        # erfc keeps full relative accuracy on the left, where 1 + erf cancels.
        return (0.5 * wide * erfc(wide * -math.sqrt(0.5))).astype(z.dtype)

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        z = _floating(z)
        wide = z.astype(np.float64)
        # φ is zero in float64 beyond 40; the bound keeps z² from overflowing.
        near = np.clip(wide, -40.0, 40.0)
        density = math.sqrt(0.5 / math.pi) * np.exp(-0.5 * near * near)
        return (0.5 * erfc(wide * -math.sqrt(0.5)) + near * density).astype(z.dtype)

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return 0.5 * z * (1.0 + graph.erf(z * math.sqrt(0.5)))

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        one_and_erf = graph.add(
            "Add", graph.erf(graph.scaled(z, math.sqrt(0.5))), graph.number(1.0)
        )
        return graph.scaled(graph.add("Mul", z, one_and_erf), 0.5)


def _sigmoid(z: NDArray[np.floating]) -> NDArray[np.floating]:
    decay = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, decay) / (1 + decay)


def _softplus(z: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


class SiLU(Activation):
    """f(z) = z·σ(z), also called swish.

    f'(z) = σ(z)·(1 + z·(1 - σ(z))). Source: S. Elfwing, E. Uchibe, K. Doya (2017),
    arXiv:1702.03118.
    """

    name = "silu"
    initializer = "he_uniform"
    derivative_from = "input"
    c_code = "real t = exp(-fabs(z)); return z * ((z < 0 ? t : 1) / (1 + t));"
    counterparts = Counterparts(torch=Counterpart("SiLU"), keras_function=Counterpart("silu"))

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        return z * _sigmoid(z)

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        z = _floating(z)
        # 1 - σ(z) is σ(-z), which does not cancel.
        return _sigmoid(z) * (1 + z * _sigmoid(-z))

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return z * graph.sigmoid(z)

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        return graph.add("Mul", z, graph.add("Sigmoid", z))


class Mish(Activation):
    """f(z) = z·t with t = tanh(softplus(z)).

    f'(z) = t + z·(1 - t²)·σ(z). Source: D. Misra (2019), arXiv:1908.08681.
    """

    name = "mish"
    initializer = "he_uniform"
    derivative_from = "input"
    c_code = "return z * tanh((z < 0 ? 0 : z) + log1p(exp(-fabs(z))));"
    counterparts = Counterparts(torch=Counterpart("Mish"), keras_function=Counterpart("mish"))

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        return z * np.tanh(_softplus(z))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        z = _floating(z)
        t = np.tanh(_softplus(z))
        return t + z * (1 - t * t) * _sigmoid(z)

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return z * graph.tanh(graph.softplus(z))

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        return graph.add("Mul", z, graph.add("Tanh", graph.softplus(z)))


class Softplus(Activation):
    """f(z) = log(1 + exp(z)); f'(z) = σ(z) = 1 - exp(-f(z)).

    PyTorch returns z itself beyond 20, where f(z) - z < 2.1e-9; this is the exact function.
    """

    name = "softplus"
    initializer = "he_uniform"
    c_code = "return (z < 0 ? 0 : z) + log1p(exp(-fabs(z)));"
    counterparts = Counterparts(
        torch=Counterpart("Softplus", fixed={"beta": 1.0, "threshold": 20.0}),
        keras_function=Counterpart("softplus"),
    )

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        return _softplus(_floating(z))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        return -np.expm1(-_floating(a))

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return graph.softplus(z)

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        return graph.softplus(z)


class Tanh(Activation):
    """f(z) = tanh(z); f'(z) = 1 - f(z)²."""

    name = "tanh"
    c_code = "return tanh(z);"
    counterparts = Counterparts(
        torch=Counterpart("Tanh"),
        keras_function=Counterpart("tanh"),
        sklearn=Counterpart("tanh"),
    )

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        return np.tanh(_floating(z))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return 1 - a * a

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return graph.tanh(z)

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        return graph.add("Tanh", z)


class Sigmoid(Activation):
    """f(z) = 1/(1 + exp(-z)); f'(z) = f(z)·(1 - f(z))."""

    name = "sigmoid"
    c_code = "real t = exp(-fabs(z)); return (z < 0 ? t : 1) / (1 + t);"
    counterparts = Counterparts(
        torch=Counterpart("Sigmoid"),
        keras_function=Counterpart("sigmoid"),
        sklearn=Counterpart("logistic"),
    )

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        return _sigmoid(_floating(z))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return a * (1 - a)

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return graph.sigmoid(z)

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        return graph.add("Sigmoid", z)


class Softmax(Activation):
    """a_j = exp(z_j) / Σ_k exp(z_k) along the last axis.

    The gradient is dz = a·(da - Σ_k a_k·da_k). An output activation: its derivative is no
    element-wise function.
    """

    name = "softmax"
    rowwise = True
    counterparts = Counterparts(
        torch=Counterpart("Softmax", fixed={"dim": (1, -1)}),
        keras=Counterpart("Softmax", fixed={"axis": (1, -1)}),
        keras_function=Counterpart("softmax"),
        sklearn=Counterpart("softmax"),
    )

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        if z.ndim == 0 or z.shape[-1] == 0:
            raise ValueError(f"softmax needs rows of at least one element; got shape {z.shape}")
        a = np.exp(z - z.max(axis=-1, keepdims=True))
        a /= a.sum(axis=-1, keepdims=True)
        return a

    def backward(self, a: ArrayLike, da: ArrayLike) -> NDArray[np.floating]:
        """Return dz, given the output a = softmax(z) and the gradient `da` with respect to it."""
        a, da = _floating(a), _floating(da)
        return a * (da - (a * da).sum(axis=-1, keepdims=True))

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        return graph.softmax(z, axis=1)

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        return graph.add("Softmax", z, axis=1)


ACTIVATIONS: dict[str, type[Activation]] = {
    kind.name: kind
    for kind in (
        Identity,
        ReLU,
        LeakyReLU,
        ELU,
        SELU,
        GELU,
        SiLU,
        Mish,
        Softplus,
        Tanh,
        Sigmoid,
        Softmax,
    )
}


def get(activation: str | Activation) -> Activation:
    """Return an activation object from its name, or the object itself.

    Raises
    ------
    TypeError
        If it is neither a string nor an `Activation`.
    ValueError
        If the name is unknown; the message has the closest one.
    """
    if callable(activation) and not isinstance(activation, (Activation, type)):
        raise TypeError(
            f"activation must be a name or an Activation; got the function {shown(activation)}: "
            "fastmlp.graph.activation makes an activation of it, and finds the derivative"
        )
    return resolve("activation", activation, ACTIVATIONS, Activation)


def from_config(config: Mapping[str, Any]) -> Activation:
    """Return the activation that `Activation.config()` described.

    Raises
    ------
    TypeError, ValueError
        If the name or a setting is unknown or refused.
    """
    if hasattr(config, "get") and config.get("name") == "graph":
        from fastmlp.graph.custom import GraphActivation  # only who stored one needs graphs

        return build("activation", config, {"graph": GraphActivation})
    return build("activation", config, ACTIVATIONS)
