"""Element-wise operations: forward, derivative, formula and opcode of each, one row apiece.

At points where a derivative does not exist the rows follow PyTorch: 0 for relu, abs and sign at
0; ties of maximum and minimum share the gradient evenly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import error_function
from fastmlp.graph.node import Node, Operation, apply, lift, register

if TYPE_CHECKING:
    from fastmlp.graph.program import Builder


def add(a: object, b: object) -> Node:
    """Return a + b."""
    return apply("add", a, b)


def subtract(a: object, b: object) -> Node:
    """Return a − b."""
    return apply("subtract", a, b)


def multiply(a: object, b: object) -> Node:
    """Return the element-wise product a · b."""
    return apply("multiply", a, b)


def divide(a: object, b: object) -> Node:
    """Return the element-wise quotient a / b."""
    return apply("divide", a, b)


def power(a: object, b: object) -> Node:
    """Return a to the power b, element by element."""
    return apply("power", a, b)


def negative(x: object) -> Node:
    """Return −x."""
    return apply("negative", x)


def exp(x: object) -> Node:
    """Return e to the power x."""
    return apply("exp", x)


def expm1(x: object) -> Node:
    """Return exp(x) − 1, accurate for small x."""
    return apply("expm1", x)


def log(x: object) -> Node:
    """Return the natural logarithm."""
    return apply("log", x)


def log1p(x: object) -> Node:
    """Return log(1 + x), accurate for small x."""
    return apply("log1p", x)


def sqrt(x: object) -> Node:
    """Return the square root."""
    return apply("sqrt", x)


def square(x: object) -> Node:
    """Return x²."""
    return apply("power", x, 2)


def abs(x: object) -> Node:
    """Return the absolute value; its derivative at 0 is 0."""
    return apply("abs", x)


def sign(x: object) -> Node:
    """Return −1, 0 or 1; its derivative is 0 everywhere."""
    return apply("sign", x)


def sin(x: object) -> Node:
    """Return the sine of x in radians."""
    return apply("sin", x)


def cos(x: object) -> Node:
    """Return the cosine of x in radians."""
    return apply("cos", x)


def tanh(x: object) -> Node:
    """Return the hyperbolic tangent."""
    return apply("tanh", x)


def sigmoid(x: object) -> Node:
    """Return the logistic function 1 / (1 + exp(−x)), without overflow."""
    return apply("sigmoid", x)


def relu(x: object) -> Node:
    """Return max(x, 0); its derivative at 0 is 0."""
    return apply("relu", x)


def softplus(x: object) -> Node:
    """Return log(1 + exp(x)), without overflow."""
    return apply("softplus", x)


def erf(x: object) -> Node:
    """Return the error function 2/√π ∫₀ˣ exp(−t²) dt."""
    return apply("erf", x)


def maximum(a: object, b: object) -> Node:
    """Return the larger of two, element by element."""
    return apply("maximum", a, b)


def minimum(a: object, b: object) -> Node:
    """Return the smaller of two, element by element."""
    return apply("minimum", a, b)


def where(condition: object, a: object, b: object) -> Node:
    """Return `a` where the condition holds, `b` elsewhere; the gradient goes the same way.

    A number as condition holds unless it is 0; no gradient flows into a condition.
    The branch that is not taken is computed too; where its derivative is infinite there, the
    product 0 · ∞ is NaN, as in PyTorch.
    """
    condition = lift(condition)
    # A number with a gradient decides as any other: whether it is 0 or not.
    return apply("where", condition != 0 if condition.differentiable else condition, a, b)


# Backward rules: what operand `i` of `node` receives of the gradient `up`, in graph operations.


def _add_back(node: Node, up: Node, i: int) -> Node:
    return up


def _subtract_back(node: Node, up: Node, i: int) -> Node:
    return -up if i else up


def _multiply_back(node: Node, up: Node, i: int) -> Node:
    return up * node.parents[1 - i]


def _divide_back(node: Node, up: Node, i: int) -> Node:
    return -(up * node) / node.parents[1] if i else up / node.parents[1]


def _power_back(node: Node, up: Node, i: int) -> Node:
    base, exponent = node.parents
    if i:
        # The limit of 0^p · log 0 for p > 0 is 0, and so is that of 0^0 from p > 0.
        inner = where(base == 0, 1.0, base)
        return where((base == 0) & (exponent >= 0), 0.0, up * node * log(inner))
    if exponent.size == 1 and not (exponent.differentiable or exponent.symbolic):
        p = exponent._value.item()
        if p == 2:
            return up * (base * 2)
        if p == 1:
            return up
        if p == 0:
            return up * 0
        return up * (base ** (p - 1) * p)
    # 0 · 0^(0−1) is 0, not NaN: the derivative of x^0 is 0 everywhere.
    return where(
        exponent == 0, 0.0, up * exponent * base ** where(exponent == 0, 1.0, exponent - 1)
    )


def _maximum_back(node: Node, up: Node, i: int) -> Node:
    mine, other = node.parents[i], node.parents[1 - i]
    return where(mine == other, up * 0.5, where(other < mine, up, 0.0))


def _minimum_back(node: Node, up: Node, i: int) -> Node:
    mine, other = node.parents[i], node.parents[1 - i]
    return where(mine == other, up * 0.5, where(mine < other, up, 0.0))


def _where_back(node: Node, up: Node, i: int) -> Node:
    condition = node.parents[0]
    return where(condition, up, 0.0) if i == 1 else where(condition, 0.0, up)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # exp of a negative number only: large arguments lose nothing and overflow nowhere.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def _erf(x: np.ndarray) -> np.ndarray:
    return error_function.erf(x).astype(x.dtype)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


# Lowering of what takes several opcodes; `b` builds, `x` and `y` are registers.


def _lower_expm1(b: Builder, node: Node) -> int:
    # exp(x) − 1 = tanh(x/2) (exp(x) + 1): no cancellation, and it overflows only where exp does.
    x = b.register(node.parents[0])
    half = b.emit("tanh", b.emit("mul", x, b.constant(0.5)))
    return b.emit("mul", half, b.emit("add", b.emit("exp", x), b.constant(1.0)))


def _log1p(b: Builder, x: int) -> int:
    # log(1 + x) · x / ((1 + x) − 1): the rounding of 1 + x cancels; x itself where 1 + x is 1
    # (HP-15C Advanced Functions Handbook, Appendix: Accuracy of Numerical Calculations).
    one = b.constant(1.0)
    u = b.emit("add", one, x)
    ratio = b.emit("div", x, b.emit("sub", u, one))
    return b.emit("select_eq", u, one, x, b.emit("mul", b.emit("log", u), ratio))


def _lower_log1p(b: Builder, node: Node) -> int:
    return _log1p(b, b.register(node.parents[0]))


def _lower_softplus(b: Builder, node: Node) -> int:
    x = b.register(node.parents[0])
    small = b.emit("exp", b.emit("neg", b.emit("abs", x)))
    return b.emit("add", b.emit("max", x, b.constant(0.0)), _log1p(b, small))


def _lower_relu(b: Builder, node: Node) -> int:
    return b.emit("max", b.register(node.parents[0]), b.constant(0.0))


def _lower_sign(b: Builder, node: Node) -> int:
    x, zero = b.register(node.parents[0]), b.constant(0.0)
    negative = b.emit("select_lt", x, zero, b.constant(-1.0), zero)
    return b.emit("select_lt", zero, x, b.constant(1.0), negative)


def _lower_power(b: Builder, node: Node) -> int:
    base, exponent = node.parents
    p = b.known(exponent)
    if p is not None:
        return b.power(b.register(base), p)
    a = b.known(base)
    if a is not None and a > 0:
        return b.emit("exp", b.emit("mul", b.register(exponent), b.constant(float(np.log(a)))))
    raise b.refuse(node, "the exponent must be a number, or the base a positive one")


def _lower_where(b: Builder, node: Node) -> int:
    condition, a, c = node.parents
    return b.choose(condition, b.register(a), b.register(c))


def _lower_condition(b: Builder, node: Node) -> int:
    return b.choose(node, b.constant(1.0), b.constant(0.0))


def _row(name: str, forward, backward, formula: str, chain, symbol: str, lower, *numpy) -> None:
    register(
        Operation(
            name,
            forward,
            backward,
            formula,
            chain,
            symbol,
            elementwise=True,
            lower=lower,
            numpy=numpy,
            logical=name == "where",
        )
    )


def _condition(name: str, forward: np.ufunc, formula: str, symbol: str) -> None:
    # Nothing flows through a condition; conditions of conditions take them as they are.
    register(
        Operation(
            name,
            forward,
            None,
            formula,
            symbol=symbol,
            elementwise=True,
            lower=_lower_condition,
            numpy=(forward,),
            logical=name.startswith("logical"),
        )
    )


_row("add", np.add, _add_back, "{0} + {1}", ("{up}",), "+", "add", np.add)
_row(
    "subtract", np.subtract, _subtract_back, "{0} - {1}", ("{up}", "-{up}"), "−", "sub", np.subtract
)
_row(
    "multiply",
    np.multiply,
    _multiply_back,
    "{0} · {1}",
    ("{up} · {1}", "{up} · {0}"),
    "×",
    "mul",
    np.multiply,
)
_row(
    "divide",
    np.true_divide,
    _divide_back,
    "{0} / {1}",
    ("{up} / {1}", "-{up} · {out} / {1}"),
    "÷",
    "div",
    np.true_divide,
)
_row(
    "power",
    np.power,
    _power_back,
    "{0}^{1}",
    ("{up} · {1} · {0}^({1} - 1)", "{up} · {out} · log({0})"),
    "^",
    _lower_power,
    np.power,
)
_row("negative", np.negative, lambda n, up, i: -up, "-{0}", ("-{up}",), "−", "neg", np.negative)
_row("exp", np.exp, lambda n, up, i: up * n, "exp({0})", ("{up} · {out}",), "exp", "exp", np.exp)
_row(
    "expm1",
    np.expm1,
    lambda n, up, i: up * (n + 1),
    "exp({0}) - 1",
    ("{up} · ({out} + 1)",),
    "exp−1",
    _lower_expm1,
    np.expm1,
)
_row(
    "log",
    np.log,
    lambda n, up, i: up / n.parents[0],
    "log({0})",
    ("{up} / {0}",),
    "log",
    "log",
    np.log,
)
_row(
    "log1p",
    np.log1p,
    lambda n, up, i: up / (n.parents[0] + 1),
    "log(1 + {0})",
    ("{up} / (1 + {0})",),
    "log1p",
    _lower_log1p,
    np.log1p,
)
_row(
    "sqrt",
    np.sqrt,
    lambda n, up, i: up / (n * 2),
    "sqrt({0})",
    ("{up} / (2 · {out})",),
    "√",
    "sqrt",
    np.sqrt,
)
_row(
    "abs",
    np.absolute,
    lambda n, up, i: up * sign(n.parents[0]),
    "|{0}|",
    ("{up} · sign({0})",),
    "|·|",
    "abs",
    np.absolute,
    np.fabs,
)
_row("sign", np.sign, None, "sign({0})", (), "sign", _lower_sign, np.sign)
_row(
    "sin",
    np.sin,
    lambda n, up, i: up * cos(n.parents[0]),
    "sin({0})",
    ("{up} · cos({0})",),
    "sin",
    None,
    np.sin,
)
_row(
    "cos",
    np.cos,
    lambda n, up, i: -(up * sin(n.parents[0])),
    "cos({0})",
    ("-{up} · sin({0})",),
    "cos",
    None,
    np.cos,
)
_row(
    "tanh",
    np.tanh,
    lambda n, up, i: up * (1 - n * n),
    "tanh({0})",
    ("{up} · (1 - {out}²)",),
    "tanh",
    "tanh",
    np.tanh,
)
_row(
    "sigmoid",
    _sigmoid,
    lambda n, up, i: up * (n * (1 - n)),
    "σ({0})",
    ("{up} · {out} · (1 - {out})",),
    "σ",
    "sigmoid",
)
_row(
    "relu",
    lambda x: np.maximum(x, 0),
    lambda n, up, i: where(n.parents[0] > 0, up, 0.0),
    "relu({0})",
    ("{up} · [{0} > 0]",),
    "relu",
    _lower_relu,
)
_row(
    "softplus",
    _softplus,
    lambda n, up, i: up * sigmoid(n.parents[0]),
    "softplus({0})",
    ("{up} · σ({0})",),
    "softplus",
    _lower_softplus,
)
_row(
    "erf",
    _erf,
    lambda n, up, i: up * (exp(-(n.parents[0] ** 2)) * (2.0 / math.sqrt(math.pi))),
    "erf({0})",
    ("{up} · 2/√π · exp(-{0}²)",),
    "erf",
    None,
)
_row(
    "maximum",
    np.maximum,
    _maximum_back,
    "max({0}, {1})",
    ("{up} · [{0} > {1}]", "{up} · [{1} > {0}]"),
    "max",
    "max",
    np.maximum,
)
_row(
    "minimum",
    np.minimum,
    _minimum_back,
    "min({0}, {1})",
    ("{up} · [{0} < {1}]", "{up} · [{1} < {0}]"),
    "min",
    "min",
    np.minimum,
)
_row(
    "where",
    lambda condition, a, b: np.where(condition.astype(bool), a, b),
    _where_back,
    "where({0}, {1}, {2})",
    ("", "{up} · [{0}]", "{up} · [not {0}]"),
    "where",
    _lower_where,
)
# A function's own argument: a name for it that gradients of other arguments do not pass.
_row(
    "identity",
    np.positive,
    lambda n, up, i: up,
    "{0}",
    ("{up}",),
    "=",
    lambda b, node: b.register(node.parents[0]),
    np.positive,
)
_condition("less", np.less, "{0} < {1}", "<")
_condition("less_equal", np.less_equal, "{0} ≤ {1}", "≤")
_condition("equal", np.equal, "{0} = {1}", "=")
_condition("not_equal", np.not_equal, "{0} ≠ {1}", "≠")
_condition("logical_and", np.logical_and, "{0} and {1}", "and")
_condition("logical_or", np.logical_or, "{0} or {1}", "or")
_condition("logical_not", np.logical_not, "not {0}", "not")
