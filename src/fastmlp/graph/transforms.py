"""From a Python function written in graph operations to its derivatives, as functions again."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown
from fastmlp.graph.gradient import gradients, unit_seeds
from fastmlp.graph.node import Node, apply, lift, variable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """Return the names of a function's first `count` arguments, x0, x1, … where it has none."""
    code = getattr(getattr(f, "__wrapped__", f), "__code__", None)
    names = list(code.co_varnames[: code.co_argcount]) if code is not None else []
    if names and hasattr(f, "__self__"):
        names = names[1:]
    return [names[i] if i < len(names) else f"x{i}" for i in range(count)]


def _depends_on_others(output: Node, variables: Sequence[Node]) -> bool:
    """Return whether a node has derivatives with respect to other variables than these."""
    seen = set(map(id, variables))
    stack = [output]
    while stack:
        node = stack.pop()
        if id(node) in seen or not node.differentiable:
            continue
        if node.operation == "variable":
            return True
        seen.add(id(node))
        stack.extend(node.parents)
    return False


class Call:
    """One call of a function with some arguments made variables."""

    def __init__(
        self, f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], argnums: Any
    ) -> None:
        self.single = isinstance(argnums, (int, np.integer))
        positions = (argnums,) if self.single else tuple(argnums)
        if not positions or any(p not in range(-len(args), len(args)) for p in positions):
            raise ValueError(
                f"argnums must name positional arguments, counted from 0, of the {len(args)} "
                f"given; got {argnums!r}"
            )
        positions = tuple(p % len(args) for p in positions)
        names = argument_names(f, len(args))
        given = list(args)
        self.variables: list[Node] = []
        for p in positions:
            if isinstance(given[p], Node):
                # A node of one's own: the gradient of this argument must not count the other
                # uses that the outer function makes of the same node.
                given[p] = apply("identity", given[p])
                given[p].name, given[p].differentiable = names[p], True
            else:
                given[p] = variable(given[p], names[p])
            self.variables.append(given[p])
        self.output = lift(f(*given, **kwargs))
        # Where derivatives are nested, nodes come in, as arguments or from outside: nodes go out.
        self.nested = any(isinstance(arg, Node) for arg in args) or _depends_on_others(
            self.output, self.variables
        )
        if self.output.dtype.kind != "f":
            raise TypeError(f"f must return a real node; got {shown(self.output)}")
        self.function = getattr(f, "__name__", "f").replace("<lambda>", "f")

    def out(self, node: Node) -> Any:
        return node if self.nested else node.value.copy()[()]

    def outs(self, nodes: Sequence[Node]) -> Any:
        results = tuple(self.out(node) for node in nodes)
        for x in self.variables:
            if not x.parents:  # for whoever differentiates the results, it is a number
                x.operation = "constant"
        return results[0] if self.single else results

    def scalar(self, what: str) -> Node:
        if self.output.size != 1:
            raise ValueError(
                f"{what} needs a function with one number as result; {self.function} returned "
                f"{self.output.describe()} of shape {self.output.shape}: sum it, or use jacobian"
            )
        return self.output


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0
) -> Callable[..., tuple[Any, Any]]:
    """Return a function that gives the value of `f` and its gradient.

    Parameters
    ----------
    f : callable
        Function of positional arrays, written in graph operations, with one number as result.
    argnums : int or sequence of int
        Which arguments the gradient is taken with respect to.

    Returns
    -------
    callable
        Takes the arguments of `f`; returns ``(value, gradient)``, NumPy numbers and arrays.
        The gradient has the argument's shape; a tuple of them if `argnums` is a sequence.
        Where an argument is a node, or `f` uses a variable from outside, it returns nodes, so
        that derivatives can be nested.

    Raises
    ------
    ValueError
        On a call, if `f` returns more than one number or an argument is missing.

    Examples
    --------
    >>> import fastmlp as fm
    >>> value, gradient = fm.value_and_grad(lambda w: fm.graph.sum(w * w))([1.0, 2.0])
    >>> value, gradient
    (np.float64(5.0), array([2., 4.]))
    """

    @wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        call = Call(f, args, kwargs, argnums)
        output = call.scalar("a gradient")
        return call.out(output), call.outs(gradients(output, call.variables))

    return differentiated


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return a function that gives the gradient of `f`; see `value_and_grad`.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.grad(fm.grad(lambda x: x**3))(2.0)
    np.float64(12.0)
    """

    @wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        call = Call(f, args, kwargs, argnums)
        return call.outs(gradients(call.scalar("a gradient"), call.variables))

    return differentiated


def jacobian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return a function that gives all partial derivatives of `f`.

    Parameters
    ----------
    f : callable
        Function of positional arrays, written in graph operations, with any array as result.
    argnums : int or sequence of int
        Which arguments the derivative is taken with respect to.

    Returns
    -------
    callable
        Returns an array of shape ``result.shape + argument.shape`` (a tuple of them if
        `argnums` is a sequence): element [i…, j…] is ∂f_i/∂x_j. It costs one backward pass per
        element of the result.
    """

    @wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        call = Call(f, args, kwargs, argnums)
        output = call.output
        rows = [gradients(output, call.variables, seed) for seed in unit_seeds(output)]
        result = []
        for k, x in enumerate(call.variables):
            shape = output.shape + x.shape
            if not rows:
                result.append(lift(np.zeros(shape, x.dtype)))
                continue
            stacked = apply("concatenate", *[row[k].reshape(1, *x.shape) for row in rows], axis=0)
            result.append(stacked.reshape(shape))
        return call.outs(result)

    return differentiated


def hvp(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Return a function that multiplies the Hessian of `f` by a vector.

    Parameters
    ----------
    f : callable
        Function of positional arrays, written in graph operations, with one number as result.
    argnums : int
        Which argument.

    Returns
    -------
    callable
        ``product(*args, v)``, `v` of the argument's shape: returns H·v in that shape, exact, at
        the cost of about two gradients; H itself, ∂²f/∂x_i∂x_j, is never formed (Pearlmutter,
        "Fast exact multiplication by the Hessian", Neural Computation 6, 1994).

    Raises
    ------
    ValueError
        On a call, if `v` has another shape than the argument.
    """
    if not isinstance(argnums, int):
        raise TypeError(f"argnums must be an integer; got {argnums!r}")

    @wraps(f)
    def product(*args: Any, **kwargs: Any) -> Any:
        *point, vector = args
        call = Call(f, point, kwargs, argnums)
        call.nested |= isinstance(vector, Node)
        (x,) = call.variables
        v = lift(vector, x.dtype)
        if v.shape != x.shape:
            raise ValueError(
                f"v must have the shape {x.shape} of {x.describe()}; got shape {v.shape}"
            )
        (first,) = gradients(call.scalar("a Hessian"), [x])
        return call.outs(gradients((first * v).sum(), [x]))

    return product
