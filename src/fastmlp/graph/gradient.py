"""Reverse mode: the chain rule from one node back to everything that it was computed from.

The rules of the registry are written in graph operations, so what comes out are nodes again:
differentiating them gives second derivatives, and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.graph.arrays import sum_to
from fastmlp.graph.node import OPERATIONS, Node, lift

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def ordered(output: Node) -> list[Node]:
    """Return all nodes that `output` depends on and itself, operands before results."""
    order: list[Node] = []
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(output, False)]
    while stack:  # not recursive: a graph may be deeper than Python's stack
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in reversed(node.parents))
    return order


class Backpropagation:
    """One backward pass: what each node received, from whom, and the sums.

    Parameters
    ----------
    output : Node
        Node whose derivatives are taken.
    wrt : sequence of Node, optional
        Nodes whose gradients are wanted; all by default. Paths that lead to none of them are
        not followed.
    seed : array_like, optional
        Gradient that arrives at `output`; ones by default.

    Attributes
    ----------
    order : list of Node
        The nodes of the graph, operands before results.

    Raises
    ------
    ValueError
        If the seed's shape is not that of `output`.
    """

    def __init__(
        self, output: Node, wrt: Sequence[Node] | None = None, seed: object = None
    ) -> None:
        start = lift(np.ones(output.shape, output.dtype) if seed is None else seed, output.dtype)
        if start.shape != output.shape:
            raise ValueError(
                f"seed must have the shape {output.shape} of {output.describe()}; "
                f"got shape {start.shape}"
            )
        self.output = output
        self.order = ordered(output)
        self._total: dict[int, Node] = {}
        self._parts: dict[int, list[tuple[Node, int, Node]]] = {}
        wanted = self._wanted(wrt)
        if id(output) in wanted:
            self._total[id(output)] = start
        for node in reversed(self.order):
            upstream = self._total.get(id(node))
            if upstream is None or not node.differentiable:
                continue
            rule = OPERATIONS[node.operation].backward if node.parents else None
            for position, parent in enumerate(node.parents):
                if rule is None or id(parent) not in wanted:
                    continue
                part = sum_to(rule(node, upstream, position), parent.shape)
                self._parts.setdefault(id(parent), []).append((node, position, part))
                so_far = self._total.get(id(parent))
                self._total[id(parent)] = part if so_far is None else so_far + part

    def _wanted(self, wrt: Sequence[Node] | None) -> set[int]:
        if wrt is None:
            return {id(node) for node in self.order if node.differentiable}
        wanted = {id(node) for node in wrt}
        for node in self.order:
            if node.differentiable and any(id(parent) in wanted for parent in node.parents):
                wanted.add(id(node))
        return wanted

    def total(self, node: Node) -> Node | None:
        """Return the accumulated gradient of a node, None if none reached it."""
        return self._total.get(id(node))

    def parts(self, node: Node) -> list[tuple[Node, int, Node]]:
        """Return (reader, operand position there, gradient received from it) for each reader."""
        return self._parts.get(id(node), [])

    def totals(self) -> Iterator[tuple[Node, Node]]:
        """Yield every node that a gradient reached, with it, results before operands."""
        for node in reversed(self.order):
            if id(node) in self._total:
                yield node, self._total[id(node)]


def gradients(output: Node, wrt: Sequence[Node], seed: object = None) -> list[Node]:
    """Return the gradients of a node with respect to others, as nodes.

    Parameters
    ----------
    output : Node
        Node that is differentiated; if it has several elements, their sum is.
    wrt : sequence of Node
        With respect to what: variables or intermediate nodes.
    seed : array_like, optional
        Gradient that arrives at `output` in place of ones: Σ seed · output is differentiated.

    Returns
    -------
    list of Node
        One per node of `wrt`, of its shape; zeros where `output` does not depend on it.
    """
    passed = Backpropagation(output, wrt, seed)
    totals = [passed.total(node) for node in wrt]
    return [
        lift(np.zeros(node.shape, node.dtype)) if total is None else total
        for node, total in zip(wrt, totals, strict=True)
    ]


def local_gradients(node: Node) -> tuple[np.ndarray | None, ...]:
    """Return the derivative of an operation with respect to each of its operands.

    Parameters
    ----------
    node : Node
        The operation's result.

    Returns
    -------
    tuple of ndarray or None
        For an element-wise operation, the derivative of each element of the result, in the
        result's shape (an operand that was broadcast counts as repeated). Otherwise the
        Jacobian, of shape ``node.shape + operand.shape``. None for an operand that is not
        differentiable.
    """
    if not node.parents:
        return ()
    operation = OPERATIONS[node.operation]
    if operation.backward is None:
        return tuple(None for _ in node.parents)
    result: list[np.ndarray | None] = []
    for position, parent in enumerate(node.parents):
        if not parent.differentiable:
            result.append(None)
        elif operation.elementwise:
            ones = lift(np.ones(node.shape, node.dtype))
            local = operation.backward(node, ones, position).value
            result.append(np.broadcast_to(local, node.shape))
        else:
            rows = [
                sum_to(operation.backward(node, seed, position), parent.shape).value
                for seed in unit_seeds(node)
            ]
            result.append(np.array(rows, node.dtype).reshape(node.shape + parent.shape))
    return tuple(result)


def unit_seeds(node: Node) -> Iterator[Node]:
    """Yield, for each element of a node in row-major order, the gradient that selects it."""
    for k in range(node.size):
        seed = np.zeros(node.size, node.dtype)
        seed[k] = 1
        yield lift(seed.reshape(node.shape))
