"""Operations that look at more than one element: matmul, reductions, shapes, indexing.

As everywhere, a row holds the forward function, the backward rule in graph operations and the
texts. Where several elements tie for a maximum they share its gradient evenly, as in PyTorch's
``amax``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.graph.elementwise import exp, square, where
from fastmlp.graph.node import NUMPY_FUNCTIONS, Node, Operation, apply, lift, register

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Axis = int | tuple[int, ...] | None


def matmul(a: object, b: object) -> Node:
    """Return the matrix product a @ b with NumPy's rules for vectors and stacks of matrices."""
    return apply("matmul", a, b)


def sum(x: object, axis: Axis = None, keepdims: bool = False) -> Node:
    """Return the sum over axes, all by default."""
    return lift(x).sum(axis, keepdims)


def mean(x: object, axis: Axis = None, keepdims: bool = False) -> Node:
    """Return the mean over axes, all by default."""
    return lift(x).mean(axis, keepdims)


def max(x: object, axis: Axis = None, keepdims: bool = False) -> Node:
    """Return the largest element over axes, all by default."""
    return lift(x).max(axis, keepdims)


def min(x: object, axis: Axis = None, keepdims: bool = False) -> Node:
    """Return the smallest element over axes, all by default."""
    return lift(x).min(axis, keepdims)


def softmax(x: object, axis: int = -1) -> Node:
    """Return exp(x) / Σ exp(x) along an axis, without overflow."""
    return apply("softmax", x, axis=axis)


def logsumexp(x: object, axis: Axis = None, keepdims: bool = False) -> Node:
    """Return log Σ exp(x) over axes, all by default, without overflow."""
    return apply("logsumexp", x, axis=axis, keepdims=bool(keepdims))


def reshape(x: object, shape: int | tuple[int, ...]) -> Node:
    """Return the elements in another shape."""
    return lift(x).reshape(shape)


def transpose(x: object, axes: tuple[int, ...] | None = None) -> Node:
    """Permute the axes; reverse them all by default."""
    return apply("transpose", x, axes=None if axes is None else tuple(axes))


def concatenate(parts: Sequence[object], axis: int = 0) -> Node:
    """Join arrays along an existing axis."""
    return apply("concatenate", *parts, axis=axis)


def broadcast_to(x: object, shape: tuple[int, ...]) -> Node:
    """Repeat along axes of size 1 and new leading axes; `x` itself if that is its shape."""
    node = lift(x)
    return node if node.shape == tuple(shape) else apply("broadcast_to", node, shape=tuple(shape))


def sum_to(x: object, shape: tuple[int, ...]) -> Node:
    """Sum over what broadcasting repeated; `x` itself if it has the shape already."""
    node = lift(x)
    return node if node.shape == tuple(shape) else apply("sum_to", node, shape=tuple(shape))


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None or ndim == 0:  # NumPy lets a number have axis 0 and -1
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def _with_axes(node: Node, reduced: Node) -> Node:
    """Return a reduced value, or its gradient, with the reduced axes of `node` as size 1."""
    operand = node.parents[0]
    axes = _axes(node.attributes["axis"], operand.ndim)
    shape = tuple(1 if a in axes else n for a, n in enumerate(operand.shape))
    return reduced if reduced.shape == shape else apply("reshape", reduced, shape=shape)


def _sum_back(node: Node, up: Node, i: int) -> Node:
    return broadcast_to(_with_axes(node, up), node.parents[0].shape)


def _mean_back(node: Node, up: Node, i: int) -> Node:
    count = node.parents[0].size // (node.size or 1) or 1  # of no elements none receives anything
    return broadcast_to(_with_axes(node, up) * (1.0 / count), node.parents[0].shape)


def _extreme_back(node: Node, up: Node, i: int) -> Node:
    operand = node.parents[0]
    chosen = operand._value == _with_axes(node, node)._value
    axes = _axes(node.attributes["axis"], operand.ndim)
    share = chosen / chosen.sum(axis=axes, keepdims=True).astype(operand.dtype)
    return _with_axes(node, up) * share


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _softmax_back(node: Node, up: Node, i: int) -> Node:
    product = up * node
    return product - node * product.sum(axis=node.attributes["axis"], keepdims=True)


def _logsumexp(x: np.ndarray, axis: Axis, keepdims: bool) -> np.ndarray:
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)  # a row of −∞ is −∞, not NaN
    total = np.exp(x - top).sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        result = np.log(total) + top
    return result if keepdims else result.squeeze(axis=_axes(axis, x.ndim))


def _logsumexp_back(node: Node, up: Node, i: int) -> Node:
    # exp(x − logsumexp(x)) is the softmax, over any set of axes.
    return _with_axes(node, up) * exp(node.parents[0] - _with_axes(node, node))


def _swap(x: Node) -> Node:
    axes = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    return apply("transpose", x, axes=axes)


def _matmul_back(node: Node, up: Node, i: int) -> Node:
    a, b = node.parents
    # A vector counts as a row on the left and as a column on the right; the result lacks that axis.
    rows = a if a.ndim > 1 else a.reshape(1, -1)
    columns = b if b.ndim > 1 else b.reshape(-1, 1)
    stack = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    full = up.reshape(*stack, rows.shape[-2], columns.shape[-1])
    if i == 0:
        return sum_to(full @ _swap(columns), rows.shape).reshape(a.shape)
    return sum_to(_swap(rows) @ full, columns.shape).reshape(b.shape)


def _transpose_back(node: Node, up: Node, i: int) -> Node:
    axes = node.attributes["axes"]
    inverse = (
        None if axes is None else tuple(int(a) for a in np.argsort([a % up.ndim for a in axes]))
    )
    return apply("transpose", up, axes=inverse)


def _scatter(x: np.ndarray, key: Any, shape: tuple[int, ...]) -> np.ndarray:
    result = np.zeros(shape, x.dtype)
    np.add.at(result, key, x)  # an element that was read twice receives both
    return result


def _concatenate_back(node: Node, up: Node, i: int) -> Node:
    axis = node.attributes["axis"] % up.ndim
    ends = np.cumsum([parent.shape[axis] for parent in node.parents]).tolist()
    key = [slice(None)] * up.ndim
    key[axis] = slice(ends[i] - node.parents[i].shape[axis], ends[i])
    return up[tuple(key)]


def _sum_to(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    leading = x.ndim - len(shape)
    repeated = tuple(
        a for a in range(x.ndim) if a < leading or (shape[a - leading] == 1 and x.shape[a] != 1)
    )
    return x.sum(axis=repeated).reshape(shape)


register(
    Operation(
        "matmul",
        np.matmul,
        _matmul_back,
        "{0} @ {1}",
        ("{up} @ {1}ᵀ", "{0}ᵀ @ {up}"),
        "@",
        numpy=(np.matmul,),
    )
)
register(Operation("sum", np.sum, _sum_back, "sum({0})", ("{up} for each",), "Σ"))
register(Operation("mean", np.mean, _mean_back, "mean({0})", ("{up} / {count} for each",), "mean"))
register(Operation("max", np.max, _extreme_back, "max({0})", ("{up} where largest",), "max"))
register(Operation("min", np.min, _extreme_back, "min({0})", ("{up} where smallest",), "min"))
register(
    Operation(
        "softmax",
        _softmax,
        _softmax_back,
        "softmax({0})",
        ("{out} · ({up} - Σ {up} · {out})",),
        "softmax",
    )
)
register(
    Operation(
        "logsumexp",
        _logsumexp,
        _logsumexp_back,
        "log Σ exp({0})",
        ("{up} · softmax({0})",),
        "logsumexp",
    )
)
register(
    Operation(
        "reshape",
        lambda x, shape: np.reshape(x, shape),
        lambda node, up, i: up.reshape(node.parents[0].shape),
        "reshape({0}, ({shape}))",
        ("reshape({up})",),
        "reshape",
    )
)
register(Operation("transpose", np.transpose, _transpose_back, "{0}ᵀ", ("{up}ᵀ",), "T"))
register(
    Operation(
        "index",
        lambda x, key: x[key],
        lambda node, up, i: apply(
            "scatter", up, key=node.attributes["key"], shape=node.parents[0].shape
        ),
        "{0}[{key}]",
        ("{up} at [{key}], 0 elsewhere",),
        "[ ]",
    )
)
register(
    Operation(
        "scatter",
        _scatter,
        lambda node, up, i: up[node.attributes["key"]],
        "zeros({shape}) + {0} at [{key}]",
        ("{up}[{key}]",),
        "scatter",
    )
)
register(
    Operation(
        "concatenate",
        lambda *parts, axis: np.concatenate(parts, axis),
        _concatenate_back,
        "concatenate({all})",
        ("its part of {up}",),
        "concat",
    )
)
register(
    Operation(
        "broadcast_to",
        np.broadcast_to,
        lambda node, up, i: sum_to(up, node.parents[0].shape),
        "broadcast({0})",
        ("Σ {up}",),
        "broadcast",
    )
)
register(
    Operation(
        "sum_to",
        _sum_to,
        lambda node, up, i: broadcast_to(up, node.parents[0].shape),
        "sum({0})",
        ("{up} for each",),
        "Σ",
    )
)

NUMPY_FUNCTIONS.update(
    {
        np.sum: sum,
        np.mean: mean,
        np.max: max,
        np.amax: max,
        np.min: min,
        np.amin: min,
        np.reshape: reshape,
        np.transpose: transpose,
        np.concatenate: concatenate,
        np.broadcast_to: broadcast_to,
        np.where: where,
        np.square: square,
        np.greater: lambda a, b: apply("less", b, a),
        np.greater_equal: lambda a, b: apply("less_equal", b, a),
    }
)
