"""The error function and its complement, in float64: NumPy has neither.

Rational minimax approximations on three intervals, numerators and denominators from the highest
power down. Source: W. J. Cody, "Rational Chebyshev approximations for the error function",
Mathematics of Computation 23 (1969), 631-637, in the double-precision form of his CALERF.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

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
