"""The C engine's elementary functions and activations: accuracy, limits, and the same bits.

Each target and precision is compiled (`compiled.py`) into a small filter (csrc/elementary.c) of its
own.
"""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import mpmath
import numpy as np
import pytest

from compiled import COMPILER, CSRC, FLAGS, HERE, TARGETS, X86, read_flags
from fastmlp.activations import ACTIVATIONS, get

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(
    COMPILER is None or not CSRC.is_dir(), reason="needs a C compiler and the C sources"
)

# Every function keeps to 2 units in the last place. Where multiply-adds round twice, all float32
# numbers give at most 2.18.
ULPS = {"portable": 2.2}
DTYPES = {32: np.dtype(np.float32), 64: np.dtype(np.float64)}


class Filters:
    """The compiled filters, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, target: str, bits: int, function: str, x: NDArray, alpha: float = 0.0) -> NDArray:
        assert x.dtype == DTYPES[bits]
        command = [*TARGETS[target].run, self.build(target, bits), function, repr(alpha)]
        done = subprocess.run(command, input=x.tobytes(), capture_output=True, check=True)
        return np.frombuffer(done.stdout, x.dtype)

    def build(self, target: str, bits: int) -> str:
        program = self.folder / f"{target}_{bits}"
        if not program.exists():
            compiler, *flags = TARGETS[target].compile
            defines = [
                f"-DFM_REAL_BITS={bits}",
                f'-DTARGET_HEADER="isa/{TARGETS[target].header}.h"',
            ]
            subprocess.run(
                [
                    compiler,
                    *FLAGS,
                    *flags,
                    *defines,
                    f"-I{CSRC}",
                    str(HERE / "elementary.c"),
                    "-o",
                    str(program),
                ],
                check=True,
            )
        return str(program)


@pytest.fixture(scope="module")
def filters(tmp_path_factory: pytest.TempPathFactory) -> Filters:
    return Filters(tmp_path_factory.mktemp("filters"))


@pytest.fixture(params=sorted(TARGETS))
def target(request: pytest.FixtureRequest) -> str:
    """Run the test once on every target that can run here."""
    if TARGETS[request.param].trouble:
        pytest.skip(TARGETS[request.param].trouble)
    return request.param


@pytest.fixture(params=[32, 64])
def bits(request: pytest.FixtureRequest) -> int:
    return request.param


# --- references -----------------------------------------------------------------------------------


def wide_sigmoid(x: NDArray) -> NDArray:
    return np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x)))


# In float64, for float32; in mpmath's arithmetic, for float64.
REFERENCES: dict[str, tuple[Callable, Callable]] = {
    "exp": (np.exp, mpmath.exp),
    "exp_nonpositive": (np.exp, mpmath.exp),
    "tanh": (np.tanh, mpmath.tanh),
    "sigmoid": (wide_sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
    "log": (np.log, mpmath.log),
    "log1p": (np.log1p, mpmath.log1p),
    "softplus": (lambda x: np.logaddexp(0, x), lambda x: mpmath.log1p(mpmath.exp(x))),
}
DOMAINS = {"exp_nonpositive": (-np.inf, 0.0), "log": (0.0, np.inf), "log1p": (-1.0, np.inf)}


def within_domain(name: str, x: NDArray) -> NDArray:
    low, high = DOMAINS.get(name, (-np.inf, np.inf))
    return x[(x >= low) & (x <= high)]


def float32_sweep(stride: int) -> NDArray[np.float32]:
    """Every stride-th bit pattern: all signs, exponents, subnormal numbers, infinities, NaN."""
    patterns = np.arange(0, 1 << 32, stride, dtype=np.int64).astype(np.uint32)
    return np.concatenate([patterns.view(np.float32), np.float32([0.0, -0.0, np.inf, -np.inf])])


def float64_samples(count: int) -> NDArray[np.float64]:
    """Random bit patterns, and numbers where the functions are neither 0 nor saturated."""
    rng = np.random.default_rng(7)
    patterns = rng.integers(0, 1 << 64, count // 4, np.uint64).view(np.float64)
    return np.concatenate(
        [
            patterns[np.isfinite(patterns)],
            rng.uniform(-2, 2, count // 4),
            rng.uniform(-40, 40, count // 4),
            rng.uniform(-750, 750, count // 4),
            rng.choice([-1, 1], count // 4) * 2.0 ** rng.uniform(-60, 6, count // 4),
            [0.0, -0.0, np.inf, -np.inf, 5e-324, -5e-324, 1.7976931348623157e308, 2.3e-308],
        ]
    )


# --- accuracy -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_float32_is_within_2_ulp(name: str, target: str, filters: Filters) -> None:
    x = within_domain(name, float32_sweep(4099))
    y = filters.run(target, 32, name, x).astype(np.float64)
    with np.errstate(all="ignore"):
        exact = REFERENCES[name][0](x.astype(np.float64))
        nearest = exact.astype(np.float32)
    assert not np.isnan(y).any()
    # Where the exact value is beyond the numbers, infinity or the largest number.
    over = np.isinf(nearest) | np.isinf(y)
    top = np.finfo(np.float32).max
    assert (np.abs(y[over]) >= top).all()
    assert (np.abs(exact[over]) >= top * (1 - 2.0**-24)).all()
    ulp = 2.0 ** np.maximum(np.frexp(exact[~over])[1] - 24, -149)
    error = np.abs(y[~over] - exact[~over]) / ulp
    worst = int(error.argmax())
    assert error[worst] <= ULPS.get(target, 2.0), (
        f"{error[worst]} ulp at {float(x[~over][worst]).hex()}"
    )


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_float64_is_within_2_ulp(name: str, target: str, filters: Filters) -> None:
    x = within_domain(name, float64_samples(4000))
    y = filters.run(target, 64, name, x)
    worst, where = 0.0, 0.0
    with mpmath.workprec(200):
        for argument, result in zip(x.tolist(), y.tolist(), strict=True):
            if math.isinf(argument) or (name == "log" and argument == 0):
                continue  # test_limits
            exact = REFERENCES[name][1](mpmath.mpf(argument))
            if abs(exact) >= 2**1024:
                assert math.isinf(result), argument
                continue
            exponent = mpmath.frexp(exact)[1] if exact else -2000
            error = abs(result - exact) / mpmath.mpf(2) ** max(exponent - 53, -1074)
            if error > worst:
                worst, where = float(error), argument
    assert worst <= ULPS.get(target, 2.0), f"{worst} ulp at {where.hex()}"


LIMITS = {
    "exp": [(-np.inf, 0), (-2000, 0), (0, 1), (2000, np.inf), (np.inf, np.inf)],
    "exp_nonpositive": [(-np.inf, 0), (-2000, 0), (0, 1)],
    "tanh": [(-np.inf, -1), (-30, -1), (-0.0, -0.0), (0, 0), (30, 1), (np.inf, 1)],
    "sigmoid": [(-np.inf, 0), (-2000, 0), (0, 0.5), (60, 1), (np.inf, 1)],
    "log": [(-1, np.nan), (-0.0, -np.inf), (0, -np.inf), (1, 0), (np.inf, np.inf)],
    "log1p": [(-2, np.nan), (-1, -np.inf), (0, 0), (np.inf, np.inf)],
    "softplus": [(-np.inf, 0), (-2000, 0), (100, 100), (np.inf, np.inf)],
}


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_limits(name: str, target: str, bits: int, filters: Filters) -> None:
    x, expected = np.array([*LIMITS[name], (np.nan, np.nan)], DTYPES[bits]).T
    y = filters.run(target, bits, name, x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(np.signbit(y[:-1]), np.signbit(expected[:-1]))


def test_every_nan_propagates(target: str, bits: int, filters: Filters) -> None:
    # All payloads' bits in turn: none may be mistaken for an exponent.
    unsigned = DTYPES[bits].str.replace("f", "u")
    mantissa = np.finfo(DTYPES[bits]).nmant
    infinity = int(np.array(np.inf, DTYPES[bits]).view(unsigned))
    patterns = [infinity | 1 << bit for bit in range(mantissa)] + [infinity | (1 << mantissa) - 1]
    x = np.array(patterns, unsigned).view(DTYPES[bits])
    x = np.concatenate([x, -x])
    for name in REFERENCES:
        assert np.isnan(filters.run(target, bits, name, x)).all(), name
    for name in elementwise():
        assert np.isnan(filters.run(target, bits, f"forward:{name}", x, 0.5)).all(), name


def test_switching_subnormals_off_changes_nothing_else(
    target: str, bits: int, filters: Filters
) -> None:
    x = float32_sweep(40009) if bits == 32 else float64_samples(4000)
    smallest = np.finfo(x.dtype).tiny
    x = x[(np.abs(x) >= smallest) | (x == 0)]
    for name in REFERENCES:
        inside = within_domain(name, x)
        on = filters.run(target, bits, name, inside)
        off = filters.run(target, bits, f"flush:{name}", inside)
        different = on != off
        # Intermediate results may be subnormal where the result is not: down to an eighth of it.
        assert (np.abs(on[different]) <= 10 * smallest).all(), name
        assert (np.abs(off[different]) <= 10 * smallest).all(), name


# --- activations ----------------------------------------------------------------------------------


def elementwise() -> list[str]:
    return sorted(name for name, kind in ACTIVATIONS.items() if not kind.rowwise)


def activation_arguments(bits: int) -> NDArray:
    rng = np.random.default_rng(11)
    samples = [
        rng.uniform(-3, 3, 20000),
        rng.uniform(-30, 30, 20000),
        rng.uniform(-200, 200, 5000),
        rng.choice([-1, 1], 5000) * 10.0 ** rng.uniform(-30, 30, 5000),
        [0.0, -0.0],
    ]
    return np.concatenate(samples).astype(DTYPES[bits])


def test_activations_are_those_of_python(target: str, filters: Filters) -> None:
    program = [*TARGETS[target].run, filters.build(target, 32), "names"]
    lines = subprocess.run(program, capture_output=True, check=True, text=True).stdout.split("\n")
    assert dict(line.split() for line in lines if line) == {
        name: str(int(ACTIVATIONS[name].derivative_from == "input")) for name in elementwise()
    }


def alpha_of(name: str) -> float:
    return {"leaky_relu": 0.01, "elu": 0.75}.get(name, 0.0)


def definition(name: str):
    return ACTIVATIONS[name](alpha_of(name)) if alpha_of(name) else get(name)


@pytest.mark.parametrize("name", elementwise())
def test_activation_matches_its_definition(
    name: str, target: str, bits: int, filters: Filters
) -> None:
    z = activation_arguments(bits)
    a = filters.run(target, bits, f"forward:{name}", z, alpha_of(name))
    exact = definition(name).forward(z.astype(np.float64))
    eps, tiny = np.finfo(z.dtype).eps, np.finfo(z.dtype).tiny
    error = np.abs(a - exact)
    # At most five roundings after an elementary function; the definition has its own in float64,
    # and rounds the argument of gelu's erfc, which the tail magnifies z² times.
    roundings = 6 if bits == 32 else 16 + (z**2 if name == "gelu" else 0)
    limit = roundings * eps * np.abs(exact) + tiny
    worst = int((error / limit).argmax())
    assert error[worst] <= limit[worst], (float(z[worst]), float(a[worst]), float(exact[worst]))


@pytest.mark.parametrize("name", elementwise())
def test_activation_derivative_matches_its_definition(
    name: str, target: str, bits: int, filters: Filters
) -> None:
    s = activation_arguments(bits)
    if name in ("tanh", "sigmoid"):
        s = s[np.abs(s) <= 1]
    if name in ("sigmoid", "softplus"):
        s = np.abs(s)
    if name in ("elu", "selu"):
        s = s[s > -1]
    slope = filters.run(target, bits, f"backward:{name}", s, alpha_of(name)) / 2
    wide = s.astype(np.float64)
    exact = definition(name).derivative(wide, wide)
    limit = (4 if bits == 32 else 16) * np.finfo(s.dtype).eps * np.maximum(1, np.abs(exact))
    error = np.abs(slope - exact)
    worst = int((error / limit).argmax())
    assert error[worst] <= limit[worst], (float(s[worst]), float(slope[worst]), exact[worst])


@pytest.mark.parametrize("name", elementwise())
def test_activation_has_the_limits_of_its_definition(
    name: str, target: str, bits: int, filters: Filters
) -> None:
    top = float(np.finfo(DTYPES[bits]).max)
    limits = {
        "identity": (-top, top),
        "relu": (0, top),
        "leaky_relu": (-top * 0.01, top),
        "elu": (-0.75, top),
        "selu": (-1.0507009873554805 * 1.6732632423543772, np.inf),
        "tanh": (-1, 1),
        "sigmoid": (0, 1),
    }
    x = np.array([-top, top, -np.inf, np.inf], DTYPES[bits])
    y = filters.run(target, bits, f"forward:{name}", x, alpha_of(name))
    low, high = limits.get(name, (0, top))
    eps = np.finfo(x.dtype).eps
    np.testing.assert_allclose(y[:2], [low, high], rtol=2 * eps)
    unbounded = {"identity": -np.inf, "leaky_relu": -np.inf}
    np.testing.assert_allclose(y[2], unbounded.get(name, low), rtol=2 * eps)
    assert y[3] == (1 if high == 1 else np.inf)


# --- the same bits --------------------------------------------------------------------------------


def bit_patterns(y: NDArray) -> NDArray:
    """The bits, with one pattern for all NaN: which of two is handed on is up to the compiler."""
    canonical = np.where(np.isnan(y), y.dtype.type(np.nan), y)
    return canonical.view(y.dtype.str.replace("f", "u"))


@pytest.mark.parametrize("other", ["avx512", "avx512-emulated", "neon"])
def test_targets_with_fused_multiply_add_agree_to_the_bit(
    other: str, bits: int, filters: Filters
) -> None:
    for name in ("avx2", other):
        if name not in TARGETS or TARGETS[name].trouble:
            pytest.skip(f"{name}: {TARGETS[name].trouble if name in TARGETS else 'no compiler'}")
    x = float32_sweep(10007) if bits == 32 else float64_samples(40000)
    calls = [*REFERENCES]
    for name in elementwise():
        calls += [f"forward:{name}", f"backward:{name}"]
    for call in calls:
        ours, theirs = (filters.run(name, bits, call, x, 0.3) for name in ("avx2", other))
        different = bit_patterns(ours) != bit_patterns(theirs)
        assert not different.any(), (call, x[different][:5], ours[different][:5])


# --- vocabulary and build -------------------------------------------------------------------------


def test_transpose_block(target: str, bits: int, filters: Filters) -> None:
    size = 512 // bits
    source = np.arange(size * (size + 1), dtype=DTYPES[bits]).reshape(size, size + 1) + 1
    result = filters.run(target, bits, "transpose", source.ravel()).reshape(size, size + 3)
    np.testing.assert_array_equal(result[:, :size], source[:, :size].T)
    np.testing.assert_array_equal(result[:, size:], 0)


def test_lanes(target: str, bits: int, filters: Filters) -> None:
    block = 512 // bits
    source = np.arange(1, 2 * block + 1, dtype=DTYPES[bits])
    result = filters.run(target, bits, "lanes", source)
    lanes = next(n for n in (2, 4, 8, 16) if (n + 1) * (2 + n + 2 * block) == result.size)
    for n, row in enumerate(result.reshape(lanes + 1, -1)):
        part = source[n : 2 * n]
        total, largest, loaded, stored = np.split(row, [1, 2, 2 + lanes])
        assert total == part.sum()
        assert largest == max(part, default=0)
        np.testing.assert_array_equal(loaded, [*part, *[0] * (lanes - n)])
        np.testing.assert_array_equal(stored, [7, *part, *[7] * (2 * block - n - 1)])


@pytest.mark.skipif(not X86, reason="flags of another architecture")
@pytest.mark.parametrize("name", ["portable", "avx2", "avx512"])
def test_compiles_without_warnings_and_calls_no_mathematics(
    name: str, bits: int, tmp_path: Path
) -> None:
    """Also where the CPU cannot run it: AVX-512 is compiled with its real flags."""
    flags = read_flags()[name]
    command = [
        str(COMPILER),
        *FLAGS,
        *flags,
        f"-DFM_REAL_BITS={bits}",
        f'-DTARGET_HEADER="isa/{name}.h"',
        f"-I{CSRC}",
        "-S",
        str(HERE / "elementary.c"),
        "-o",
        str(tmp_path / "elementary.s"),
    ]
    subprocess.run(command, check=True)
    assembly = (tmp_path / "elementary.s").read_text()
    called = set(re.findall(r"\b(?:call|jmp)\s+([A-Za-z_]\w*)", assembly))
    assert not called & {
        f"{function}{suffix}"
        for function in ("exp", "expm1", "log", "log1p", "tanh", "erf", "sqrt", "fma")
        for suffix in ("", "f")
    }
    if name == "avx512":
        assert "zmm" in assembly
