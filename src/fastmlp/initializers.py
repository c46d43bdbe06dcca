"""Initial values of weights and biases.

An initializer is a callable (shape, rng) -> float64 array. Those here are named and are plain data;
any other callable of this form may be used as well. A weight of shape (n_in, n_out) has the
fan-in n_in and the fan-out n_out; a vector of n values has n as both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import activations
from fastmlp.errors import check_integer, check_number, shown
from fastmlp.registry import Configurable, build, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from fastmlp.activations import Activation

    InitializerLike = str | Callable[[tuple[int, ...], np.random.Generator], NDArray[Any]]


class Initializer(Configurable):
    """Base of the named initializers."""

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        """Return new values of the given shape."""
        raise NotImplementedError


class Constant(Initializer):
    """Every value is `value`."""

    name = "constant"
    settings = ("value",)
    value: float

    def __init__(self, value: float = 0.0):
        self._set(value=check_number("value of constant", value))

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return np.full(shape, self.value)


class Zeros(Initializer):
    """Every value is 0."""

    name = "zeros"

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return np.zeros(shape)


class Ones(Initializer):
    """Every value is 1."""

    name = "ones"

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return np.ones(shape)


class Normal(Initializer):
    """Normal distribution; its defaults are PyTorch's and Nielsen's N(0, 1).

    Parameters
    ----------
    mean, std : float
        Mean, and standard deviation >= 0.
    """

    name = "normal"
    settings = ("mean", "std")
    mean: float
    std: float

    def __init__(self, mean: float = 0.0, std: float = 1.0):
        self._set(
            mean=check_number("mean of normal", mean),
            std=check_number("std of normal", std, low=0.0),
        )

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.normal(self.mean, self.std, shape)


class Uniform(Initializer):
    """Uniform distribution on [low, high); its defaults are PyTorch's.

    Parameters
    ----------
    low, high : float
        Bounds, low <= high.
    """

    name = "uniform"
    settings = ("low", "high")
    low: float
    high: float

    def __init__(self, low: float = 0.0, high: float = 1.0):
        low = check_number("low of uniform", low)
        self._set(low=low, high=check_number("high of uniform", high, low=low))

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.uniform(self.low, self.high, shape)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan-in, fan-out) of a parameter of this shape, each at least 1."""
    fan_in, fan_out = (shape[0], shape[-1]) if len(shape) > 0 else (1, 1)
    return max(fan_in, 1), max(fan_out, 1)


class _Scaled(Initializer):
    """Zero mean and the variance 1/n, 2/n or 2/(n_in + n_out) that keeps signals at their size."""

    uniform = False

    def variance(self, fan_in: int, fan_out: int) -> float:
        raise NotImplementedError

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        variance = self.variance(*fans(shape))
        if self.uniform:
            limit = math.sqrt(3.0 * variance)  # the variance of U(-l, l) is l²/3
            return rng.uniform(-limit, limit, shape)
        return rng.normal(0.0, math.sqrt(variance), shape)


class GlorotNormal(_Scaled):
    """Normal with variance 2/(n_in + n_out). Source: X. Glorot, Y. Bengio (AISTATS 2010)."""

    name = "glorot_normal"

    def variance(self, fan_in: int, fan_out: int) -> float:
        return 2.0 / (fan_in + fan_out)


class GlorotUniform(GlorotNormal):
    """Uniform with variance 2/(n_in + n_out), limits ±√(6/(n_in + n_out)).

    Source: X. Glorot, Y. Bengio (AISTATS 2010), equation 16.
    """

    name = "glorot_uniform"
    uniform = True


class HeNormal(_Scaled):
    """Normal with variance 2/n_in. Source: K. He et al. (2015), arXiv:1502.01852, equation 10."""

    name = "he_normal"

    def variance(self, fan_in: int, fan_out: int) -> float:
        return 2.0 / fan_in


class HeUniform(HeNormal):
    """Uniform with variance 2/n_in, limits ±√(6/n_in). Source: K. He et al. (2015)."""

    name = "he_uniform"
    uniform = True


class LeCunNormal(_Scaled):
    """Normal with variance 1/n_in. Source: Y. LeCun et al., Efficient BackProp (1998)."""

    name = "lecun_normal"

    def variance(self, fan_in: int, fan_out: int) -> float:
        return 1.0 / fan_in


class LeCunUniform(LeCunNormal):
    """Uniform with variance 1/n_in, limits ±√(3/n_in). Source: Y. LeCun et al. (1998)."""

    name = "lecun_uniform"
    uniform = True


INITIALIZERS: dict[str, type[Initializer]] = {
    kind.name: kind
    for kind in (
        Zeros,
        Ones,
        Constant,
        Normal,
        Uniform,
        GlorotNormal,
        GlorotUniform,
        HeNormal,
        HeUniform,
        LeCunNormal,
        LeCunUniform,
    )
}


def default_for(activation: str | Activation) -> Initializer:
    """Return the initializer of a weight whose output goes through an activation.

    he_uniform for relu, leaky_relu, elu, gelu, silu, mish and softplus; lecun_normal for selu;
    glorot_uniform for identity, tanh, sigmoid, softmax and graph functions.

    Raises
    ------
    TypeError, ValueError
        If there is no such activation.
    """
    return INITIALIZERS[activations.get(activation).initializer]()


def get(initializer: InitializerLike, argument: str = "initializer") -> Callable[..., NDArray[Any]]:
    """Return an initializer from its name, or the callable itself.

    Raises
    ------
    TypeError
        If it is neither a string nor a callable (shape, rng) -> array.
    ValueError
        If the name is unknown; the message has the closest one.
    """
    if callable(initializer) and not isinstance(initializer, type):
        return initializer
    return resolve(argument, initializer, INITIALIZERS, Initializer)


def from_config(config: Mapping[str, Any]) -> Initializer:
    """Return the initializer that `Initializer.config()` described.

    Raises
    ------
    TypeError, ValueError
        If the name or a setting is unknown or refused.
    """
    return build("initializer", config, INITIALIZERS)


def generator(seed: int, parameter: str) -> np.random.Generator:
    """Return the random generator of one parameter, such as "0.weight".

    It depends on the seed and the name alone, so that a change to one layer leaves the initial
    values of the others as they were.

    Parameters
    ----------
    seed : int
        0 to 2**64 - 1.
    parameter : str
        Name of the parameter.

    Raises
    ------
    TypeError, ValueError
        If the seed is not an integer in that range.
    """
    import hashlib

    seed = check_integer("seed", seed, low=0, high=2**64 - 1)
    digest = hashlib.blake2b(parameter.encode(), digest_size=8).digest()
    key = np.array([seed, int.from_bytes(digest, "little")], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def initialize(
    initializer: InitializerLike,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    parameter: str = "parameter",
) -> NDArray[np.float64]:
    """Return the values that an initializer gives, checked.

    Parameters
    ----------
    initializer : str or callable
        A name, or a callable (shape, rng) -> array.
    shape : tuple of int
        Shape of the parameter.
    rng : numpy.random.Generator
        Source of randomness.
    parameter : str
        Name for the error messages.

    Returns
    -------
    ndarray of float64, of the given shape

    Raises
    ------
    TypeError
        If the initializer is neither, or gives something else than real numbers.
    ValueError
        If it gives another shape, or values that are not finite.
    """
    given = get(initializer)(shape, rng)
    values = np.asarray(given)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"initializer of {parameter} must return real numbers; got {shown(given)}")
    if values.shape != tuple(shape):
        raise ValueError(
            f"initializer of {parameter} must return shape {tuple(shape)}; got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"initializer of {parameter} must return finite values; got NaN or inf")
    return values.astype(np.float64)
