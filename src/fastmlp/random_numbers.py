"""Random numbers of Dropout and GaussianNoise: functions of (seed, step, stream, row, column).

Nothing is drawn one after another, so any part of a matrix can be filled by any thread, in any
order and by any backend (csrc/kernels/random.inc does the same), and a mask can be made again in
the backward pass instead of being kept.

Sixteen columns of a row share a 64-bit key, a number of SplitMix64 (G. Steele, D. Lea, C. Flood,
Fast splittable pseudorandom number generators, OOPSLA 2014) in place row + 2³² · ⌊column / 16⌋ of
the sequence that (seed, step, stream) begins. Each column then scrambles half of the key, its
own constant and the other half by two rounds of multiplication and shift with the constants of
C. Wellons, https://github.com/skeeto/hash-prospector ("lowbias32").
"""

from __future__ import annotations

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_LANES = 16
# Coefficients of √2 erf⁻¹(u) / u in w = -log(1 - u²): about w = 2.5, and of √w about 3 beyond 5.
# M. Giles, Approximating the erfinv function, GPU Computing Gems (2011), times √2.
CENTRAL = tuple(
    2.0**0.5 * c
    for c in (
        2.81022636e-08,
        3.43273939e-07,
        -3.5233877e-06,
        -4.39150654e-06,
        0.00021858087,
        -0.00125372503,
        -0.00417768164,
        0.246640727,
        1.50140941,
    )
)
TAIL = tuple(
    2.0**0.5 * c
    for c in (
        -0.000200214257,
        0.000100950558,
        0.00134934322,
        -0.00367342844,
        0.00573950773,
        -0.0076224613,
        0.00943887047,
        1.00167406,
        2.83297682,
    )
)


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _mix_all(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bits(seed: int, step: int, stream: int, rows: int, cols: int) -> np.ndarray:
    """Return 32 random bits for every element, uint32 of shape (rows, cols).

    Parameters
    ----------
    seed, step, stream : int
        0 to 2**64 - 1: of the training, of the mini-batch, of the layer.
    rows, cols : int
    """
    start = _mix((_mix((_mix((seed + _GOLDEN) & _MASK) + step * _GOLDEN) & _MASK) ^ stream) & _MASK)
    groups = np.arange(-(-cols // _LANES), dtype=np.uint64)
    place = np.arange(rows, dtype=np.uint64)[:, None] + (groups << np.uint64(32))
    keys = _mix_all(np.uint64(start) + place * np.uint64(_GOLDEN))[:, :, None]
    lanes = np.arange(1, _LANES + 1, dtype=np.uint32) * np.uint32(0x9E3779B9)
    x = keys.astype(np.uint32) ^ lanes
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x21F0AAAD)
    x ^= x >> np.uint32(15)
    x ^= (keys >> np.uint64(32)).astype(np.uint32)
    x *= np.uint32(0xD35A2D97)
    x ^= x >> np.uint32(15)
    return x.reshape(rows, -1)[:, :cols]


def kept(rate: float, *place: int) -> np.ndarray:
    """Return which elements Dropout keeps; `place` are the arguments of `bits`."""
    return bits(*place) >> np.uint32(8) >= round(rate * 2**24)


def normal(dtype: np.dtype, *place: int) -> np.ndarray:
    """Return numbers from N(0, 1); `place` are the arguments of `bits`.

    Φ⁻¹ of the middles of 2²³ equal intervals, to about seven digits; the largest is 5.3.
    """
    u = ((bits(*place) >> np.uint32(9)).astype(dtype) * 2 - (2**23 - 1)) * dtype.type(2**-23)
    w = -np.log((1 - u) * (1 + u))
    far = w >= 5
    with np.errstate(invalid="ignore"):
        central, tail = w - dtype.type(2.5), np.sqrt(w) - 3
    p, q = np.full_like(w, CENTRAL[0]), np.full_like(w, TAIL[0])
    for c, t in zip(CENTRAL[1:], TAIL[1:], strict=True):
        p, q = p * central + dtype.type(c), q * tail + dtype.type(t)
    return np.where(far, q, p) * u
