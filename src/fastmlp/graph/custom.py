"""Losses and activations that are written as graph functions, with derivatives for nothing.

``loss(f)`` and ``activation(f)`` give objects that `fit(loss=…)` and `Dense(activation=…)` accept,
and work as decorators. What is element-wise is also a program (see `fastmlp.graph.program`),
which the native engine runs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.activations import Activation
from fastmlp.errors import shown
from fastmlp.graph.gradient import gradients, ordered
from fastmlp.graph.node import OPERATIONS, Node, apply, lift, variable
from fastmlp.graph.program import LoweringError, Program, elementwise_program, lower, symbol
from fastmlp.loss_base import Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from fastmlp.exports.onnx import OnnxGraph

    Function = Callable[..., Any]

# Where a kink of an activation is looked for: beyond, pre-activations are rarely met, and f is
# smooth for all activations in use.
_KINK_RANGE = 16.0
_KINK_POINTS = 4097
# Kinks are at round numbers; between two points of the grid they show once.
_KINK_SHIFT = 0.001234567


class GraphLoss(Loss):
    """A loss l(ŷ, y) written in graph operations.

    Made by `fastmlp.graph.loss`, where the forms that the function may take are described.

    Parameters
    ----------
    function : callable
        ``function(y_hat, y)`` on nodes of shape (n, m).

    Raises
    ------
    TypeError
        If it is not callable.
    """

    settings = ("function",)
    function: Function
    kernel = None  # type: ignore[assignment]

    def __init__(self, function: Function) -> None:
        if not callable(function):
            raise TypeError(f"function of a loss must be callable; got {shown(function)}")
        name = getattr(function, "__name__", "loss").replace("<lambda>", "graph loss")
        self._set(function=function, name=name, program=lru_cache(maxsize=8)(self._program))

    def per_sample(self, y_hat: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        given = variable(y_hat, "ŷ")
        rows = sample_losses(self._value(given, y), len(y_hat))
        if rows is None:
            return self._one_by_one(y_hat, y)
        (gradient,) = gradients(rows, [given])
        return rows.value, gradient.value

    def per_output(self, y_hat: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        program = self.program(y_hat.shape[1])
        if program is None:
            return super().per_output(y_hat, y)
        return program.evaluate(y_hat, y)

    def weighs_outputs(self, outputs: int) -> bool:
        return self.program(outputs) is not None

    def _program(self, outputs: int) -> Program | None:
        """Return the element-wise program of the loss, None if it has none.

        Parameters
        ----------
        outputs : int
            How many outputs the model has.

        Returns
        -------
        Program or None
            Takes (ŷ, y); gives l and ∂l/∂ŷ of one output such that a sample's loss is Σ l over
            its outputs and its gradient is ∂l/∂ŷ: a mean over outputs is part of the program.
        """
        shape = (2, outputs)  # two rows: with one, what joins samples could not be seen
        given = [Node(np.full(shape, 0.5), "variable", name=name, differentiable=True,
                      symbolic=True) for name in ("ŷ", "y")]  # fmt: skip
        with np.errstate(all="ignore"):
            try:
                found = _element(lift(self.function(*given)), outputs)
                if found is None:
                    return None
                element, factor = found
                scalars = [symbol("ŷ"), symbol("y")]
                value = _replayed(element, dict(zip(map(id, given), scalars, strict=True)))
                (slope,) = gradients(value, scalars[:1])
                return lower([value, slope], scalars).scaled(factor)
            except (TypeError, ValueError, IndexError):
                # It looks at values, has no opcodes, or needs more rows: errors that are the
                # user's are met again when it is called with data.
                return None

    def _value(self, y_hat: Node, y: np.ndarray) -> Node:
        # The targets are a variable too, so that _row_local sees what becomes of them.
        result = lift(self.function(y_hat, variable(y, "y")))
        if result.dtype.kind != "f" or result.shape not in ((), y.shape, y.shape[:1]):
            raise ValueError(
                f"loss {self.name!r} must return one number, one for each sample or one for each "
                f"output; got shape {result.shape} for predictions of shape {y.shape}"
            )
        return result

    def _one_by_one(self, y_hat: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        losses, slopes = [], []
        for i in range(len(y_hat)):
            given = variable(y_hat[i : i + 1], "ŷ")
            value = self._value(given, y[i : i + 1]).mean()
            losses.append(value.item())
            slopes.append(gradients(value, [given])[0].value)
        return np.array(losses, y_hat.dtype), np.concatenate(slopes)

    def config(self) -> dict[str, Any]:
        """Raise TypeError: a Python function is not plain data."""
        raise TypeError(f"a loss that is a Python function cannot be stored: {self.function!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return GraphLoss, (self.function,)


def _row_local(output: Node, n: int) -> bool:
    """Return whether row i of a node of n rows depends on row i of its operands alone.

    Operations that may join rows are refused; so are shapes that do not begin with n, unless
    they are constants'.
    """
    for node in ordered(output):
        if not node.parents or not node.differentiable:
            continue
        operation = OPERATIONS[node.operation]
        moving = [p for p in node.parents if p.differentiable]
        if node.ndim == 0 or node.shape[0] != n or any(p.ndim == 0 for p in moving):
            return False
        if operation.elementwise:
            # (n,) beside (n, m) would be broadcast as columns.
            if any(p.shape[:1] != (n,) or p.ndim != node.ndim for p in moving):
                return False
        elif node.operation in ("sum", "mean", "max", "min", "logsumexp", "softmax"):
            axis = node.attributes["axis"]
            axes = axis if isinstance(axis, tuple) else (axis,)
            if None in axes or 0 in {a % node.parents[0].ndim for a in axes}:
                return False
        elif node.operation == "matmul":
            if node.parents[1].differentiable or node.ndim != 2:
                return False
        else:
            return False
    return True


def sample_losses(result: Node, n: int) -> Node | None:
    """Return the loss of each sample, shape (n,), of what a function gave for a batch.

    None if it has to be called with one sample at a time.
    """
    if n == 1:
        return result.reshape(-1).mean().reshape(1)
    if result.ndim == 2:
        return result.mean(axis=1) if _row_local(result, n) else None
    if result.ndim == 1:
        return result if _row_local(result, n) else None
    if not result.differentiable:
        return None
    if result.operation in ("sum", "mean") and result.parents[0].ndim in (1, 2):
        # The sum or mean over a batch, asked of one sample.
        inner = result.parents[0]
        if inner.shape[0] != n or not _row_local(inner, n):
            return None
        return inner if inner.ndim == 1 else apply(
            result.operation, inner, axis=1, keepdims=False
        )  # fmt: skip
    if OPERATIONS[result.operation].elementwise and result.parents:
        # Such as 0.5 * mean(…) or sqrt(mean(…)): one number a sample is an array of numbers.
        parts = [sample_losses(p, n) if p.differentiable else p for p in result.parents]
        if any(part is None for part in parts):
            return None
        return apply(result.operation, *parts, **result.attributes)
    return None


def _element(result: Node, outputs: int) -> tuple[Node, float] | None:
    """Return the element-wise part of a loss and the factor before its sum over outputs."""
    if result.ndim == 2:
        return result, 1.0 / outputs
    parents = result.parents
    if result.operation in ("sum", "mean") and parents[0].ndim == 2:
        axis = result.attributes["axis"]
        if axis not in (None, 1, -1):
            return None
        return parents[0], 1.0 / outputs if result.operation == "mean" else 1.0
    if result.operation in ("sum", "mean") and result.attributes["axis"] is None:
        return _element(parents[0], outputs)  # over samples
    known = [p.value.item() if p.size == 1 and not p.symbolic else None for p in parents]
    for moving, other in ((0, 1), (1, 0)):
        if result.operation == "multiply" and known[other] is not None:
            inner = _element(parents[moving], outputs)
            return inner and (inner[0], inner[1] * known[other])
    if result.operation == "divide" and known[1] is not None:
        inner = _element(parents[0], outputs)
        return inner and (inner[0], inner[1] / known[1])
    if result.operation == "negative":
        inner = _element(parents[0], outputs)
        return inner and (inner[0], -inner[1])
    if result.operation in ("add", "subtract"):
        parts = [_element(parent, outputs) for parent in parents]
        if all(parts):
            terms = [element * factor for element, factor in parts]
            return apply(result.operation, *terms), 1.0
    return None


def _replayed(output: Node, replaced: Mapping[int, Node]) -> Node:
    """Return a node computed again, with other nodes in the place of some.

    Raises
    ------
    LoweringError
        If an operation on the way is not element-wise.
    """
    done = dict(replaced)
    for node in ordered(output):
        if id(node) in done:
            continue
        if not node.parents:
            values = np.unique(node.value)
            if values.size != 1:
                raise LoweringError(f"{node.describe()} is an array of different numbers")
            done[id(node)] = Node(values[0], "constant")
        elif not OPERATIONS[node.operation].elementwise:
            raise LoweringError(f"{node.describe()} is not element-wise")
        else:
            parents = [done[id(parent)] for parent in node.parents]
            done[id(node)] = apply(node.operation, *parents, **node.attributes)
    return done[id(output)]


class GraphActivation(Activation):
    """An activation f(z) written in graph operations, element by element.

    Made by `fastmlp.graph.activation`.

    Parameters
    ----------
    function : callable or mapping
        ``function(z)`` on a node, or the program of an activation that was stored in a file.

    Attributes
    ----------
    program : Program or None
        Takes z; gives f(z) and f'(z). None if something in `function` has no opcode.

    Raises
    ------
    TypeError
        If `function` is not callable.
    ValueError
        If it is not element-wise, or no valid program.
    """

    name = "graph"
    settings = ("function",)
    derivative_from = "input"
    function: Function | None
    program: Program | None

    def __init__(self, function: Function | Mapping[str, Any]) -> None:
        if hasattr(function, "keys"):
            program = Program.from_data(function)
            if (program.arguments, len(program.outputs)) != (1, 2):
                raise ValueError("function must be the program of an activation and its derivative")
            self._set(function=None, program=program)
        elif callable(function):
            self._set(function=function, program=None)
            self._check()
            try:
                self._set(program=elementwise_program(function, 1))
            except (LoweringError, TypeError):
                self._set(program=None)
        else:
            raise TypeError(f"function of an activation must be callable; got {shown(function)}")
        self._set(kinks=self._find_kinks())

    def forward(self, z: Any) -> np.ndarray:
        z = _floating(z)
        if self.function is None:
            return self.program.select(0).evaluate(z)[0]
        return self._node(z)[1].value

    def derivative(self, z: Any, a: Any) -> np.ndarray:
        z = _floating(z)
        if self.function is None:
            return self.program.select(1).evaluate(z)[0]
        given, value = self._node(z)
        return gradients(value, [given])[0].value

    @property
    def c_code(self) -> str:  # type: ignore[override]
        """The program as the body of a C function; empty if there is none."""
        from fastmlp.exports.programs import to_c

        return "" if self.program is None else to_c(self.program)

    def to_node(self, graph: ModuleType, z: Node) -> Node:
        if self.function is None:
            return super().to_node(graph, z)
        return lift(self.function(z), z.dtype)

    def to_onnx(self, graph: OnnxGraph, z: str) -> str:
        from fastmlp.exports.programs import to_onnx

        if self.program is None:
            return super().to_onnx(graph, z)
        return to_onnx(self.program, graph, z)

    def _node(self, z: np.ndarray) -> tuple[Node, Node]:
        given = variable(z, "z")
        with np.errstate(all="ignore"):
            return given, lift(self.function(given), z.dtype)

    def _check(self) -> None:
        given, value = self._node(np.linspace(-1.0, 1.0, 6).reshape(2, 3))
        bad = [
            n
            for n in ordered(value)
            if n.parents and n.differentiable and not OPERATIONS[n.operation].elementwise
        ]
        if bad or value.shape != given.shape or value.dtype.kind != "f":
            what = bad[0].describe() if bad else f"a result of shape {value.shape}"
            raise ValueError(f"an activation must act on each element alone; got {what}")

    def _find_kinks(self) -> tuple[float, ...]:
        """Return the z in reach at which f' jumps, found on a grid and closed in by bisection."""
        z = np.linspace(-_KINK_RANGE, _KINK_RANGE, _KINK_POINTS) + _KINK_SHIFT
        slope = self.derivative(z, None)
        with np.errstate(all="ignore"):
            change = np.abs(np.diff(slope))
            # On a smooth curve the change from one point to the next is like its neighbours'.
            usual = np.maximum(np.r_[change[1:], 0], np.r_[0, change[:-1]])
        kinks: list[float] = []
        for k in np.flatnonzero(change > 1e-3 * (1 + np.abs(slope[:-1])) + 4 * usual):
            low, high = z[k], z[k + 1]
            while high - low > 1e-12 * max(1.0, abs(low)):
                middle = 0.5 * (low + high)
                at_low, at, at_high = self.derivative(np.array([low, middle, high]), None)
                low, high = (
                    (low, middle) if abs(at - at_low) > abs(at_high - at) else (middle, high)
                )
            jump = np.abs(np.diff(self.derivative(np.array([low - 1e-9, high + 1e-9]), None)))[0]
            place = round(float(0.5 * (low + high)), 9) + 0.0
            if jump > 0.5 * change[k]:
                kinks.append(place)
        return tuple(kinks)

    def config(self) -> dict[str, Any]:
        """Return the name and the program as plain data.

        Raises
        ------
        TypeError
            If the function has no program: Python code is not stored in files.
        """
        if self.program is None:
            raise TypeError(f"an activation without a program cannot be stored: {self.function!r}")
        return {"name": self.name, "function": self.program.to_data()}

    def _values(self) -> tuple[Any, ...]:
        return (self.function if self.program is None else self.program,)

    def __reduce__(self) -> tuple[Any, ...]:
        function = self.function
        if function is None:
            return GraphActivation, (self.program.to_data(),)
        return GraphActivation, (function,)


def _floating(z: Any) -> np.ndarray:
    z = np.asarray(z)
    return z if z.dtype.kind == "f" else z.astype(np.float64)


def loss(function: Function) -> GraphLoss:
    """Make a loss of a graph function; its gradient is derived.

    Parameters
    ----------
    function : callable
        ``function(y_hat, y)`` on predictions and targets of shape (n, m). The loss of a batch is
        the mean over its samples of what the function gives for each sample by itself, so it may
        return

        - one number for each output, shape (n, m): averaged over outputs, as mse is;
        - one number for each sample, shape (n,), such as ``sum(…, axis=1)``;
        - one number, such as ``mean((y_hat - y) ** 2)``; one that joins samples in another way is
          called with one sample at a time, which is slow.

        An element-wise one is called once and becomes a program, which trains at the speed of
        built-in losses: numbers from outside are those of that moment.

    Returns
    -------
    GraphLoss
        For `fit(loss=…)`, and to be called as ``(value, gradient) = loss(y_hat, y)``.

    Raises
    ------
    TypeError
        If it is not callable.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fourth = fm.graph.loss(lambda y_hat, y: (y_hat - y) ** 4)
    >>> fourth([[3.0], [0.0]], [[1.0], [1.0]])
    (8.5, array([[16.],
           [-2.]]))
    """
    return GraphLoss(function)


def activation(function: Function) -> GraphActivation:
    """Make an activation of an element-wise graph function; its derivative is derived.

    Parameters
    ----------
    function : callable
        ``function(z)`` on a node of any shape.

    Returns
    -------
    GraphActivation
        For `Dense(activation=…)`. It can be saved with a model if its operations have opcodes
        (see `fastmlp.graph.program`): what is stored is the program, no Python code.

    Raises
    ------
    TypeError
        If it is not callable.
    ValueError
        If it is not element-wise.

    Examples
    --------
    >>> import fastmlp as fm
    >>> bump = fm.graph.activation(lambda z: fm.graph.exp(-z * z))
    >>> bump.derivative([1.0], None)
    array([-0.73575888])
    """
    return GraphActivation(function)
