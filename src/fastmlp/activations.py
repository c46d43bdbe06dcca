"""Activation functions: the definition of each, as NumPy formulas.

An element-wise activation maps each pre-activation z to a = f(z) and knows its derivative f'(z).
Softmax maps rows. Formulas are arranged so that finite input gives finite output without warnings;
a result has the dtype of the input (float64 if the input is not floating).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_number
from fastmlp.registry import Configurable, build, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import ArrayLike, NDArray


# --- the error function ---------------------------------------------------------------------------
#
# Rational minimax approximations on three intervals, numerators and denominators from the highest
# power down. Source: W. J. Cody, "Rational Chebyshev approximations for the error function",
# Mathematics of Computation 23 (1969), 631-637, in the double-precision form of his CALERF.

# erf(x)/x in x², |x| <= 0.46875
_ERF_P = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_ERF_Q = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
# exp(x²)·erfc(x) in x, 0.46875 <= x <= 4
_ERFC_MIDDLE_P = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_ERFC_MIDDLE_Q = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
# (1/√π - x·exp(x²)·erfc(x))·x² in 1/x², x >= 4
_ERFC_TAIL_P = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
_ERFC_TAIL_Q = (
    1.0,
    2.56852019228982242e0,
    1.87295284992346725e0,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total


def _ratio(
    above: tuple[float, ...], below: tuple[float, ...], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    return _polynomial(above, x) / _polynomial(below, x)


def erfc(x: ArrayLike) -> NDArray[np.float64]:
    """Return the complementary error function 1 - erf(x), in float64.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.

    Returns
    -------
    ndarray of float64
        2/√π · ∫ₓ^∞ exp(-t²) dt, accurate to a relative 1e-15 wherever it is a normal number.

    Notes
    -----
    Cody (1969); exp(-x²) is split as exp(-h²)·exp(-(x-h)(x+h)), h a multiple of 1/16, so that the
    rounding of x² is not magnified.
    """
    x = np.asarray(x, np.float64)
    size = np.abs(x)
    near = np.minimum(size, 0.46875)
    small = 1.0 - x * _ratio(_ERF_P, _ERF_Q, near * near)

    middle = np.clip(size, 0.46875, 4.0)
    scaled = _ratio(_ERFC_MIDDLE_P, _ERFC_MIDDLE_Q, middle)
    # exp(-27²) is zero in float64, so the tail needs to be right only as far as that.
    far = np.clip(size, 4.0, 27.5)
    inverse = 1.0 / (far * far)
    tail = (1.0 / math.sqrt(math.pi) - inverse * _ratio(_ERFC_TAIL_P, _ERFC_TAIL_Q, inverse)) / far
    scaled = np.where(size > 4.0, tail, scaled)
    reach = np.clip(size, 0.46875, 27.5)
    head = np.trunc(reach * 16.0) / 16.0
    scaled *= np.exp(-head * head) * np.exp(-(reach - head) * (reach + head))
    large = np.where(x < 0.0, 2.0 - scaled, scaled)
    return np.where(size > 0.46875, large, small)


def erf(x: ArrayLike) -> NDArray[np.float64]:
    """Return the error function 2/√π · ∫₀ˣ exp(-t²) dt, in float64.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.

    Returns
    -------
    ndarray of float64
        Accurate to a relative 1e-15.
    """
    x = np.asarray(x, np.float64)
    near = np.clip(x, -0.46875, 0.46875)
    small = near * _ratio(_ERF_P, _ERF_Q, near * near)
    return np.where(np.abs(x) > 0.46875, 1.0 - erfc(x), small)


# --- the activations ------------------------------------------------------------------------------


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
    """

    derivative_from: str = "output"
    rowwise: bool = False
    alpha: float = 0.0
    kinks: tuple[float, ...] = ()

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


class Identity(Activation):
    """f(z) = z."""

    name = "identity"

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        return _floating(z)

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        return np.ones_like(_floating(a))


class ReLU(Activation):
    """f(z) = max(z, 0); f'(0) = 0."""

    name = "relu"
    kinks = (0.0,)

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        return np.maximum(z, z.dtype.type(0))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return (a > 0).astype(a.dtype)


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
    settings = ("alpha",)

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
    settings = ("alpha",)

    def __init__(self, alpha: float = 1.0):
        alpha = check_number("alpha of elu", alpha, low=0.0)
        self._set(alpha=alpha, kinks=() if alpha == 1.0 else (0.0,))

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        return np.where(z > 0, z, self.alpha * np.expm1(np.minimum(z, 0)))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return np.where(a > 0, a.dtype.type(1), a + self.alpha)


# Solutions of the fixed-point equations for zero mean and unit variance:
# G. Klambauer et al., "Self-normalizing neural networks" (2017), arXiv:1706.02515, equation 14.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


class SELU(Activation):
    """f(z) = λ·z where z > 0, otherwise λ·α·(exp(z) - 1), with α ≈ 1.6733 and λ ≈ 1.0507.

    Source: G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter (2017), arXiv:1706.02515.
    """

    name = "selu"
    kinks = (0.0,)

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        negative = (_SELU_SCALE * _SELU_ALPHA) * np.expm1(np.minimum(z, 0))
        return np.where(z > 0, _SELU_SCALE * z, negative)

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return np.where(a > 0, a.dtype.type(_SELU_SCALE), a + _SELU_SCALE * _SELU_ALPHA)


class GELU(Activation):
    """f(z) = z·Φ(z), Φ the normal distribution function: the exact form, not the tanh one.

    f'(z) = Φ(z) + z·φ(z). Computed in float64 and rounded to the dtype of z.
    Source: D. Hendrycks, K. Gimpel (2016), arXiv:1606.08415.
    """

    name = "gelu"
    derivative_from = "input"

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
    derivative_from = "input"

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        return z * _sigmoid(z)

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        z = _floating(z)
        # 1 - σ(z) is σ(-z), which does not cancel.
        return _sigmoid(z) * (1 + z * _sigmoid(-z))


class Mish(Activation):
    """f(z) = z·t with t = tanh(softplus(z)).

    f'(z) = t + z·(1 - t²)·σ(z). Source: D. Misra (2019), arXiv:1908.08681.
    """

    name = "mish"
    derivative_from = "input"

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        z = _floating(z)
        return z * np.tanh(_softplus(z))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        z = _floating(z)
        t = np.tanh(_softplus(z))
        return t + z * (1 - t * t) * _sigmoid(z)


class Softplus(Activation):
    """f(z) = log(1 + exp(z)); f'(z) = σ(z) = 1 - exp(-f(z)).

    PyTorch returns z itself beyond 20, where f(z) - z < 2.1e-9; this is the exact function.
    """

    name = "softplus"

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        return _softplus(_floating(z))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        return -np.expm1(-_floating(a))


class Tanh(Activation):
    """f(z) = tanh(z); f'(z) = 1 - f(z)²."""

    name = "tanh"

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        return np.tanh(_floating(z))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return 1 - a * a


class Sigmoid(Activation):
    """f(z) = 1/(1 + exp(-z)); f'(z) = f(z)·(1 - f(z))."""

    name = "sigmoid"

    def forward(self, z: ArrayLike) -> NDArray[np.floating]:
        return _sigmoid(_floating(z))

    def derivative(self, z: ArrayLike | None, a: ArrayLike | None) -> NDArray[np.floating]:
        a = _floating(a)
        return a * (1 - a)


class Softmax(Activation):
    """a_j = exp(z_j) / Σ_k exp(z_k) along the last axis.

    The gradient is dz = a·(da - Σ_k a_k·da_k). An output activation: its derivative is no
    element-wise function.
    """

    name = "softmax"
    rowwise = True

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
