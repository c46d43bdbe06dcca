"""A node of a computational graph, and the operations' common registry.

A node holds the value that it was computed with (every intermediate is kept), the operation, and
the nodes that the operation read. Nothing is computed twice: a node that is read by several
others is one object, and its gradient is the sum over its readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One row of the registry: all that the library knows about an operation.

    Attributes
    ----------
    name : str
        Name in the registry.
    forward : callable
        ``forward(*arrays, **attributes) -> array`` on NumPy arrays.
    backward : callable or None
        ``backward(node, upstream, position) -> Node``: what operand `position` receives of the
        gradient `upstream` that reached `node`, written in graph operations, so that it can be
        differentiated again. Its shape may still be the broadcast one: whoever calls sums it to
        the operand's. None where nothing flows (comparisons, sign).
    formula : str
        Text of the operation; ``{0}``, ``{1}`` stand for the operands, ``{all}`` for all of
        them, other names for attributes.
    chain : tuple of str
        Text of what each operand receives; ``{up}`` stands for the gradient of the result and
        ``{out}`` for the result. The last one counts for all further operands.
    symbol : str
        What a drawing shows.
    elementwise : bool
        Whether each element of the result depends on that element of the operands alone.
    lower : str or callable or None
        Opcode of the element-wise program, or ``lower(builder, node) -> register`` for what
        takes several opcodes; None where there is none (see `fastmlp.graph.program`).
    numpy : tuple of callables
        NumPy functions that mean this operation when they are called on a node.
    logical : bool
        Whether operands may be conditions; elsewhere a condition counts as 0 or 1.
    """

    name: str
    forward: Callable[..., np.ndarray]
    backward: Callable[[Node, Node, int], Node] | None
    formula: str
    chain: tuple[str, ...] = ()
    symbol: str = ""
    elementwise: bool = False
    lower: str | Callable[..., int] | None = None
    numpy: tuple[Callable[..., Any], ...] = ()
    logical: bool = False


# The registry, by name. It is filled while the package is imported (elementwise.py, arrays.py)
# and only read afterwards.
OPERATIONS: dict[str, Operation] = {}
# What stands here for a function of NumPy.
NUMPY_FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {}


def register(operation: Operation) -> None:
    """Add a row to the registry."""
    OPERATIONS[operation.name] = operation
    for function in operation.numpy:
        NUMPY_FUNCTIONS[function] = partial(apply, operation.name)


class Node:
    """A value in a computational graph: a variable, a constant, or the result of an operation.

    Nodes are made by `variable`, `constant` and by computing with nodes: with the operators
    ``+ - * / ** @``, comparisons, indexing, the functions of `fastmlp.graph`, and NumPy's
    functions of the same meaning (``np.exp(node)``, ``np.sum(node)``).

    Attributes
    ----------
    value : ndarray
        The value, read-only; float64 unless the data were float32.
    operation : str
        Name of the operation, "variable" or "constant".
    parents : tuple of Node
        The operands.
    attributes : dict
        Further arguments of the operation, such as ``axis``.
    name : str or None
        Name in messages, drawings and traces.
    differentiable : bool
        Whether the value depends on a variable.
    gradient : Node or None
        After `backward` on a node further on: the derivative of that node with respect to this
        one, a node itself, so that it can be differentiated.
    """

    __slots__ = (
        "__weakref__",
        "_value",
        "attributes",
        "differentiable",
        "gradient",
        "name",
        "operation",
        "parents",
        "symbolic",
    )

    def __init__(
        self,
        value: np.ndarray,
        operation: str,
        parents: tuple[Node, ...] = (),
        attributes: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        differentiable: bool = False,
        symbolic: bool = False,
    ) -> None:
        self._value = value
        self.operation = operation
        self.parents = parents
        self.attributes = attributes or {}
        self.name = name
        self.differentiable = differentiable
        self.gradient: Node | None = None
        # A symbolic node stands for any value (see `program`): its own must not be looked at.
        self.symbolic = symbolic

    @property
    def value(self) -> np.ndarray:
        """The value as a read-only array; an array of no dimensions for a scalar."""
        if self.symbolic:
            raise TypeError(
                f"the value of {self.describe()} was asked for while the function is being "
                "translated; a function that looks at values (float(), if) cannot be "
                "translated: write the choice with where()"
            )
        return self._value

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self._value.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions of the value."""
        return self._value.ndim

    @property
    def size(self) -> int:
        """Number of elements of the value."""
        return self._value.size

    @property
    def dtype(self) -> np.dtype:
        """Data type of the value."""
        return self._value.dtype

    @property
    def T(self) -> Node:
        """The transpose, all axes reversed."""
        return apply("transpose", self, axes=None)

    def named(self, name: str) -> Node:
        """Give the node a name for messages, drawings and traces, and return it."""
        self.name = name
        return self

    def item(self) -> float:
        """Return the value of a node of one element as a Python float."""
        return self.value.item()

    def describe(self) -> str:
        """Return the name, or the formula that made the node, for messages."""
        return describe(self)

    def backward(self, seed: object = None) -> Node:
        """Set `gradient` of every node that this one was computed from, and return this one.

        Parameters
        ----------
        seed : array_like, optional
            Gradient that arrives at this node; ones by default: for a node of several elements
            that is the gradient of their sum.
        """
        from fastmlp.graph.gradient import Backpropagation

        for node, gradient in Backpropagation(self, seed=seed).totals():
            node.gradient = gradient
        return self

    def graph(self) -> Any:
        """Return the `Graph` that ends in this node, backpropagated."""
        from fastmlp.graph.graph import Graph

        return Graph(self)

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Node:
        """Sum over axes, all by default."""
        return apply("sum", self, axis=axis, keepdims=bool(keepdims))

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Node:
        """Mean over axes, all by default."""
        return apply("mean", self, axis=axis, keepdims=bool(keepdims))

    def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Node:
        """Largest element over axes, all by default; ties share the gradient evenly."""
        return apply("max", self, axis=axis, keepdims=bool(keepdims))

    def min(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Node:
        """Smallest element over axes, all by default; ties share the gradient evenly."""
        return apply("min", self, axis=axis, keepdims=bool(keepdims))

    def reshape(self, *shape: int | tuple[int, ...]) -> Node:
        """Return the elements in another shape."""
        sizes = shape if _integers(shape) else shape[0]
        return apply("reshape", self, shape=tuple(sizes))

    def transpose(self, *axes: int | tuple[int, ...]) -> Node:
        """Permute the axes; reverse them all by default."""
        order = axes if _integers(axes) else axes[0]
        return apply("transpose", self, axes=tuple(order) if order else None)

    def __getitem__(self, key: Any) -> Node:
        return apply("index", self, key=_index_key(key))

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError(f"{self.describe()} is a scalar and has no length")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __add__(self, other: object) -> Node:
        return apply("add", self, other)

    def __radd__(self, other: object) -> Node:
        return apply("add", other, self)

    def __sub__(self, other: object) -> Node:
        return apply("subtract", self, other)

    def __rsub__(self, other: object) -> Node:
        return apply("subtract", other, self)

    def __mul__(self, other: object) -> Node:
        return apply("multiply", self, other)

    def __rmul__(self, other: object) -> Node:
        return apply("multiply", other, self)

    def __truediv__(self, other: object) -> Node:
        return apply("divide", self, other)

    def __rtruediv__(self, other: object) -> Node:
        return apply("divide", other, self)

    def __pow__(self, other: object) -> Node:
        return apply("power", self, other)

    def __rpow__(self, other: object) -> Node:
        return apply("power", other, self)

    def __matmul__(self, other: object) -> Node:
        return apply("matmul", self, other)

    def __rmatmul__(self, other: object) -> Node:
        return apply("matmul", other, self)

    def __neg__(self) -> Node:
        return apply("negative", self)

    def __pos__(self) -> Node:
        return self

    def __abs__(self) -> Node:
        return apply("abs", self)

    def __lt__(self, other: object) -> Node:
        return apply("less", self, other)

    def __le__(self, other: object) -> Node:
        return apply("less_equal", self, other)

    def __gt__(self, other: object) -> Node:
        return apply("less", other, self)

    def __ge__(self, other: object) -> Node:
        return apply("less_equal", other, self)

    def __eq__(self, other: object) -> Node:  # type: ignore[override]
        return apply("equal", self, other)

    def __ne__(self, other: object) -> Node:  # type: ignore[override]
        return apply("not_equal", self, other)

    def __and__(self, other: object) -> Node:
        return apply("logical_and", self, other)

    def __or__(self, other: object) -> Node:
        return apply("logical_or", self, other)

    def __invert__(self) -> Node:
        return apply("logical_not", self)

    # Nodes compare element by element, and are told apart by identity.
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self.describe()} is a node and has no truth value: write the choice with "
            "where(), or look at its .value"
        )

    def __float__(self) -> float:
        raise TypeError(
            f"float() of {self.describe()} would cut it out of the graph: use the functions of "
            "fastmlp.graph, or .item() for its number"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(
            f"an array of {self.describe()} would cut it out of the graph: use the functions of "
            "fastmlp.graph, or .value for its array"
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise TypeError(
                f"np.{ufunc.__name__} takes nodes as operands only, in plain calls; to change an "
                "array in place, as -= does, take the .value of the node"
            )
        return self.__array_function__(ufunc, (), inputs, {})

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in NUMPY_FUNCTIONS:
            module = (function.__module__ or "numpy").replace("numpy", "np", 1)
            raise TypeError(
                f"{module}.{function.__name__} is not an operation of fastmlp.graph: "
                "dir(fastmlp.graph) lists them, and products of matrices are written a @ b"
            )
        return NUMPY_FUNCTIONS[function](*args, **kwargs)

    def __repr__(self) -> str:
        from fastmlp.graph.text import number_text

        label = f"{self.name}: " if self.name else ""
        value = "symbolic" if self.symbolic else number_text(self._value)
        return f"<{label}{value}, {self.operation}>"

    def _repr_svg_(self) -> str | None:
        return self.graph()._repr_svg_()

    def _repr_html_(self) -> str:
        return self.graph()._repr_html_()


def _integers(sizes: tuple[Any, ...]) -> bool:
    return all(isinstance(size, (int, np.integer)) for size in sizes)


def _index_key(key: Any) -> Any:
    """Return an index with nodes in it replaced by their arrays."""
    if isinstance(key, Node):
        return key.value
    if isinstance(key, tuple):
        return tuple(_index_key(part) for part in key)
    if isinstance(key, list):
        return np.asarray(key)
    return key


def _as_value(value: object, what: str, dtype: np.dtype | None = None) -> np.ndarray:
    """Return data as a float or boolean array, without copying float arrays."""
    if isinstance(value, (bool, int, float)) and dtype is not None and dtype.kind == "f":
        # Python's numbers take the precision of what they are combined with, as in NumPy.
        return np.asarray(value, dtype=dtype if not isinstance(value, bool) else bool)
    array = np.asarray(value)
    if array.dtype.kind in "iu" or array.dtype == np.float16:
        return array.astype(np.float64)
    if array.dtype.kind == "b" or array.dtype in (np.float32, np.float64):
        return array
    raise TypeError(f"{what} must be a number or an array of real numbers; got {shown(value)}")


def _kept(array: np.ndarray) -> np.ndarray:
    """Return a copy that stays as it is, also when the user's array is changed (w -= …)."""
    copy = np.array(array)
    copy.flags.writeable = False
    return copy


def variable(value: object, name: str | None = None) -> Node:
    """Return a node that gradients are taken with respect to.

    Parameters
    ----------
    value : array_like
        A number, vector, matrix or array, which is copied; float32 stays, everything else
        becomes float64.
    name : str, optional
        Name in messages, drawings and traces.

    Raises
    ------
    TypeError
        If `value` is not real numbers.
    """
    array = _as_value(value, "value")
    if array.dtype.kind == "b":
        array = array.astype(np.float64)
    return Node(_kept(array), "variable", name=name, differentiable=True)


def constant(value: object, name: str | None = None) -> Node:
    """Return a node that no gradient flows into; numbers and arrays become one by themselves.

    Parameters and errors are those of `variable`; boolean arrays stay conditions.
    """
    return Node(_kept(_as_value(value, "value")), "constant", name=name)


def lift(value: object, dtype: np.dtype | None = None) -> Node:
    """Return a node as it is, and anything else as a constant."""
    if isinstance(value, Node):
        return value
    return Node(_as_value(value, "an operand", dtype), "constant")


def apply(name: str, *operands: object, **attributes: Any) -> Node:
    """Compute an operation and return its node.

    Parameters
    ----------
    name : str
        Name in the registry.
    *operands : Node or array_like
        What is computed with.
    **attributes
        Further arguments of the operation.

    Raises
    ------
    ValueError
        If the operands' shapes do not fit; the message names the nodes.
    """
    operation = OPERATIONS[name]
    dtype = next((x.dtype for x in operands if isinstance(x, Node) and x.dtype.kind == "f"), None)
    parents = tuple(lift(operand, dtype) for operand in operands)
    values: Sequence[np.ndarray] = [parent._value for parent in parents]
    if not operation.logical:
        values = [v.astype(dtype or np.float64) if v.dtype.kind == "b" else v for v in values]
    try:
        value = np.asarray(operation.forward(*values, **attributes))
    except (ValueError, IndexError) as error:
        raise type(error)(_mismatch(operation, parents, attributes, error)) from None
    value.flags.writeable = False
    differentiable = operation.backward is not None and any(p.differentiable for p in parents)
    symbolic = any(parent.symbolic for parent in parents)
    return Node(value, name, parents, attributes, differentiable=differentiable, symbolic=symbolic)


def describe(node: Node, depth: int = 3) -> str:
    """Return a node's name, or the formula that made it, nested at most `depth` deep."""
    if node.name:
        return node.name
    if not node.parents:
        if node.size == 1 and not node.symbolic:
            return f"{node._value.item():.4g}"
        return f"the {node.operation}"
    if depth == 0:
        return "…"
    operation = OPERATIONS[node.operation]
    inner = []
    for parent in node.parents:
        text = describe(parent, depth - 1)
        inner.append(f"({text})" if " " in text and parent.parents else text)
    return formula_text(operation.formula, inner, node.attributes)


def formula_text(template: str, operands: Sequence[str], attributes: dict[str, Any]) -> str:
    """Fill a formula of the registry with texts for its operands."""
    shown_attributes = {key: _attribute_text(value) for key, value in attributes.items()}
    return template.format(*operands, all=", ".join(operands), **shown_attributes)


def _attribute_text(value: Any) -> str:
    if isinstance(value, slice):
        ends = ["" if end is None else str(end) for end in (value.start, value.stop)]
        return ":".join(ends) + (f":{value.step}" if value.step is not None else "")
    if value is Ellipsis:
        return "…"
    if isinstance(value, tuple):
        return ", ".join(_attribute_text(part) for part in value)
    if isinstance(value, np.ndarray):
        return f"array of {value.size}" if value.size > 4 else str(value.tolist())
    return str(value)


def _mismatch(
    operation: Operation, parents: tuple[Node, ...], attributes: dict[str, Any], error: Exception
) -> str:
    nodes = " and ".join(f"{describe(parent)} of shape {parent.shape}" for parent in parents)
    extra = ", ".join(
        f"{key}={_attribute_text(value)}" for key, value in attributes.items() if value is not None
    )
    where = f" with {extra}" if extra else ""
    return f"{operation.name} cannot take {nodes}{where}: {error}"
