"""Print coefficients.inc, the polynomials of elementary.inc: python minimax.py > coefficients.inc

Each table approximates a function with the smallest possible largest error (minimax), found by
Remez's exchange algorithm (E. Remez, 1934; E. W. Cheney, Introduction to Approximation Theory,
chapters 3 and 5) on a dense grid in 160-bit arithmetic. The comment over a table gives that error
after rounding the coefficients to the precision. Needs mpmath; takes a few seconds.
"""

import textwrap
from collections.abc import Callable, Sequence

import mpmath as mp

mp.mp.prec = 160
GRID = 600
EXCHANGES = 40  # at most; ten are usual
CLOSE = mp.mpf("1.001")  # largest error over levelled error: near enough to the optimum

Real = mp.mpf
Function = Callable[[Real], Real]


def grid(low: Real, high: Real) -> list[Real]:
    """Chebyshev points: dense towards the ends, as the extrema of a minimax error are."""
    middle, half = (low + high) / 2, (high - low) / 2
    return [middle - half * mp.cos(mp.pi * i / (GRID - 1)) for i in range(GRID)]


def extrema(error: Sequence[Real], count: int) -> list[int]:
    """Indices of `count` extrema with alternating signs, the largest error among them."""
    peaks: list[int] = []
    for i, value in enumerate(error):
        if peaks and (value > 0) == (error[peaks[-1]] > 0):
            if abs(value) > abs(error[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > count:
        peaks.pop(0 if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else -1)
    return peaks


def evaluate(c: Sequence[Real], x: Real) -> Real:
    """c_0 + c_1 x + ..."""
    return mp.polyval(list(reversed(c)), x)


def rounded(value: Real, bits: int) -> Real:
    """The number of `bits` significant bits nearest to value."""
    with mp.workprec(bits):
        return +value


def polynomial(
    f: Function, degree: int, weight: Function, low: Real, high: Real, bits: int
) -> tuple[list[Real], Real]:
    """Rounded c that make |f(x) - Σ c_j x^j|·weight(x) small, and its maximum."""
    points = grid(low, high)
    values, weights = [f(x) for x in points], [weight(x) for x in points]

    def errors(c: Sequence[Real]) -> list[Real]:
        return [(v - evaluate(c, x)) * w for x, v, w in zip(points, values, weights, strict=True)]

    reference = [(GRID - 1) * i // (degree + 1) for i in range(degree + 2)]
    for _ in range(EXCHANGES):
        rows = [
            [*(points[i] ** j for j in range(degree + 1)), (-1) ** k / weights[i]]
            for k, i in enumerate(reference)
        ]
        *c, level = mp.lu_solve(mp.matrix(rows), mp.matrix([values[i] for i in reference]))
        error = errors(c)
        if max(map(abs, error)) <= abs(level) * CLOSE:
            break
        reference = extrema(error, degree + 2)
    c = [rounded(value, bits) for value in c]
    return c, max(map(abs, errors(c)))


def rational(
    f: Function, above: int, below: int, low: Real, high: Real, bits: int
) -> tuple[list[Real], list[Real], Real]:
    """Rounded p and q of these degrees, q_0 = 1, so that p(x)/q(x) is near f(x); the error."""
    points = grid(low, high)
    values = [f(x) for x in points]
    count = above + below + 2

    def errors(p: Sequence[Real], q: Sequence[Real]) -> list[Real]:
        return [
            evaluate(p, x) / evaluate(q, x) / v - 1 for x, v in zip(points, values, strict=True)
        ]

    reference = [(GRID - 1) * i // (count - 1) for i in range(count)]
    level, q = mp.mpf(0), [mp.mpf(1)]
    for _ in range(EXCHANGES):
        for _ in range(EXCHANGES):
            # p(x) - f(x) (1 ± level) q(x) = 0, the change of level times the previous q.
            rows, right = [], []
            for k, i in enumerate(reference):
                x, sign = points[i], (-1) ** k
                v = values[i] * (1 + sign * level)
                rows.append(
                    [x**j for j in range(above + 1)]
                    + [-v * x**j for j in range(1, below + 1)]
                    + [-values[i] * sign * evaluate(q, x)]
                )
                right.append(v)
            solution = list(mp.lu_solve(mp.matrix(rows), mp.matrix(right)))
            p, q, change = solution[: above + 1], [1, *solution[above + 1 : -1]], solution[-1]
            level += change
            if abs(change) <= abs(level) / 1000:
                break
        error = errors(p, q)
        if max(map(abs, error)) <= abs(level) * CLOSE:
            break
        reference = extrema(error, count)
    p, q = [rounded(value, bits) for value in p], [rounded(value, bits) for value in q]
    return p, q, max(map(abs, errors(p, q)))


LOG_2 = mp.log(2)
# Remainders |r| <= ln(2)/2, and a little more, because n is rounded from an inexact product.
REACH = LOG_2 / 2 * mp.mpf("1.002")


def exp_remainder(r: Real) -> Real:
    """(e^r - 1 - r) / r²"""
    return (mp.expm1(r) - r) / r**2 if r else mp.mpf(1) / 2


def exp_weight(r: Real) -> Real:
    """About |r|, for the error relative to e^r - 1; a weight with a zero has no minimax theory."""
    return mp.hypot(r, REACH / 5)


def log1p_remainder(z: Real) -> Real:
    """(log(1 + f) - 2s) / s³ where s = f/(2 + f) and z = s²; log(1 + f) = 2 artanh s"""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / s**3 if z > mp.mpf("1e-9") else mp.mpf(2) / 3 + 2 * z / 5


def log1p_weight(z: Real) -> Real:
    """About z/2, for the error relative to log(1 + f); without the zero."""
    return z / 2 + mp.mpf(1) / 50


def scaled_normal_tail(u: Real) -> Real:
    """e^(u²/2) Φ(-u), Φ the normal distribution"""
    return mp.exp(u * u / 2) * mp.erfc(u / mp.sqrt(2)) / 2


class Precision:
    """The tables of one precision."""

    def __init__(self, bits: int, digits: int, exponent_bits: int) -> None:
        self.bits, self.digits, self.exponent_bits = bits, digits, exponent_bits

    def text(self, value: Real) -> str:
        return mp.nstr(rounded(value, self.bits), self.digits)

    def constant(self, name: str, value: Real) -> None:
        print(f"#define {name} ((real){self.text(value)})")

    def array(self, name: str, values: Sequence[Real]) -> None:
        line = f"static const real {name}[] = {{{', '.join(map(self.text, values))}}};"
        print(textwrap.fill(line, 110, subsequent_indent="    "))

    def logarithms(self) -> None:
        """ln 2 in one part, and in two of which n times the first is exact for every exponent n."""
        high = rounded(LOG_2, self.bits - self.exponent_bits)
        self.constant("LOG2E", 1 / LOG_2)
        self.constant("LN2", LOG_2)
        self.constant("LN2_HIGH", high)
        self.constant("LN2_LOW", LOG_2 - high)

    def exp(self, degree: int) -> None:
        c, error = polynomial(exp_remainder, degree, exp_weight, -REACH, REACH, self.bits)
        print(f"/* e^r = 1 + r + r² p(r), |r| <= ln(2)/2; error {size(error)} of e^r - 1 */")
        self.array("EXP_POLY", c)

    def log1p(self, degree: int) -> None:
        end = mp.mpf(1) / 9
        c, error = polynomial(log1p_remainder, degree, log1p_weight, mp.mpf(0), end, self.bits)
        print(
            f"/* log(1 + f) = 2s + s³ p(s²), s = f/(2 + f), 0 <= s² <= 1/9; error {size(error)} */"
        )
        self.array("LOG1P_POLY", c)

    def tail(self, above: int, below: int, end: str) -> None:
        p, q, error = rational(scaled_normal_tail, above, below, mp.mpf(0), mp.mpf(end), self.bits)
        print(f"/* e^(u²/2) Φ(-u) = above(u) / below(u), 0 <= u <= {end}; error {size(error)} */")
        self.array("TAIL_ABOVE", p)
        self.array("TAIL_BELOW", q)


def size(error: Real) -> str:
    return f"2^{mp.nstr(mp.log(error, 2), 3)}"


if __name__ == "__main__":
    print("/* Made by minimax.py, which says how. Lowest power first; errors are relative. */")
    print("/* clang-format off */")
    print("#if FM_REAL_BITS == 32")
    single = Precision(24, 9, 10)
    single.logarithms()
    single.exp(4)
    single.log1p(3)
    single.tail(4, 5, "14.4")
    print("#else")
    double = Precision(53, 17, 12)
    double.logarithms()
    double.exp(10)
    double.log1p(9)
    double.tail(10, 11, "38.6")
    print("#endif")
    print("/* clang-format on */")
