"""A graph from its variables to one result: the nodes in order, with names and gradients."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fastmlp.graph.gradient import Backpropagation
from fastmlp.graph.node import lift, variable
from fastmlp.graph.transforms import argument_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    import numpy as np

    from fastmlp.graph.node import Node


class Graph:
    """All nodes that a result was computed from, backpropagated; draws and explains itself.

    Parameters
    ----------
    output : Node
        The result.
    seed : array_like, optional
        Gradient that arrives at `output`; ones by default: for a result of several elements
        the gradients are those of their sum.

    Attributes
    ----------
    output : Node
        The result.
    nodes : tuple of Node
        All nodes, operands before results.

    Examples
    --------
    >>> from fastmlp.graph import Graph
    >>> g = Graph.of(lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0)
    >>> {g.name(node): float(g.gradient(node)) for node in g.variables}
    {'x': -4.0, 'y': -4.0, 'z': 3.0}
    """

    def __init__(self, output: Node, seed: object = None) -> None:
        self.output = output
        self._passed = Backpropagation(output, seed=seed)
        self.nodes = tuple(self._passed.order)
        self._names = self._unique_names()

    @classmethod
    def of(cls, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Graph:
        """Return the graph of one call of a function.

        Parameters
        ----------
        f : callable
            Function written in graph operations.
        *args : array_like or Node
            Its arguments; those that are no nodes become variables, named as the function
            names them.
        **kwargs
            Passed on as they are.
        """
        names = argument_names(f, len(args))
        # A constant is given as a node; lift leaves nodes as they are.
        given = [
            arg if hasattr(arg, "operation") else variable(arg, name)
            for arg, name in zip(args, names, strict=True)
        ]
        output = lift(f(*given, **kwargs))
        if output.name is None and output.parents:
            output.name = getattr(f, "__name__", "f").replace("<lambda>", "f")
        return cls(output)

    @property
    def variables(self) -> tuple[Node, ...]:
        """The variables, in the order of their first use."""
        return tuple(node for node in self.nodes if node.operation == "variable")

    def name(self, node: Node) -> str:
        """Return a node's name in this graph: its own, or v1, v2, … in order of computation."""
        return self._names[id(node)]

    def gradient(self, node: Node) -> np.ndarray | None:
        """Return ∂output/∂node, of the node's shape; None where no gradient flows."""
        total = self._passed.total(node)
        return None if total is None else total.value

    def contributions(self, node: Node) -> list[tuple[Node, int, np.ndarray]]:
        """Return what each reader of a node sent back.

        Returns
        -------
        list of (Node, int, ndarray)
            The reader, the position among its operands, and the gradient from there; the sum
            of the gradients is `gradient(node)`.
        """
        return [(reader, i, part.value) for reader, i, part in self._passed.parts(node)]

    def _unique_names(self) -> dict[int, str]:
        names: dict[int, str] = {}
        taken = {node.name for node in self.nodes if node.name}
        used: set[str] = set()
        for node in self.nodes:
            if node.name:
                base, count = node.name, 1
                while (text := base if count == 1 else f"{base}_{count}") in used or (
                    count > 1 and text in taken
                ):
                    count += 1
            elif not node.parents and node.operation == "constant" and node.size == 1:
                names[id(node)] = node.describe()  # a number is its own name
                continue
            else:
                letter = "v" if node.parents else "c" if node.operation == "constant" else "x"
                count = 1
                while (text := f"{letter}{count}") in used or text in taken:
                    count += 1
            used.add(text)
            names[id(node)] = text
        return names

    def dot(self, digits: int = 4) -> str:
        """Return the drawing in DOT, the language of Graphviz.

        Parameters
        ----------
        digits : int
            Significant digits of the numbers.

        Returns
        -------
        str
            A directed graph from left to right; each node shows its value above, its name or
            operation, and below the gradient of the result with respect to it.
        """
        from fastmlp.graph.drawing import dot

        return dot(self, digits)

    def mermaid(self, digits: int = 4) -> str:
        """Return the drawing in Mermaid, which Markdown viewers and JupyterLab show."""
        from fastmlp.graph.drawing import mermaid

        return mermaid(self, digits)

    def draw(self, file: Any = None, *, digits: int = 4) -> Any:
        """Draw with Graphviz.

        Parameters
        ----------
        file : path, optional
            Picture to write; the suffix decides (.svg, .png, .pdf, …). ``.dot``, ``.gv`` and
            ``.mmd`` (Mermaid) are text and need no Graphviz.
        digits : int
            Significant digits of the numbers.

        Returns
        -------
        graphviz.Source or str
            Without `file`, an object that a notebook shows; otherwise the path written.

        Raises
        ------
        ImportError
            If Graphviz is needed and missing; the message says what to install.
        """
        from fastmlp.graph.drawing import draw

        return draw(self, file, digits)

    def trace(self, file: TextIO | None = None, *, digits: int = 4) -> None:
        """Print the forward pass, then the chain rule line by line, with numbers and formulas.

        Parameters
        ----------
        file : text file, optional
            Where to; standard output by default.
        digits : int
            Significant digits of the numbers.
        """
        from fastmlp.graph.trace import trace

        print(trace(self, digits), file=file or sys.stdout)

    def __str__(self) -> str:
        from fastmlp.graph.trace import trace

        return trace(self, 4)

    def __repr__(self) -> str:
        count = len(self.nodes)
        return f"<Graph of {self.name(self.output)}: {count} nodes>"

    def _repr_svg_(self) -> str | None:
        from fastmlp.graph.drawing import svg

        return svg(self)

    def _repr_html_(self) -> str:
        # Notebooks prefer the picture; where there is no Graphviz they show the trace.
        from html import escape

        return self._repr_svg_() or f"<pre>{escape(str(self))}</pre>"
