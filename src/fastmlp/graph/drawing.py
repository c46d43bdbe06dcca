"""Drawings of a graph: DOT and Mermaid text, and pictures through Graphviz where it is there.

Each node has its forward value above and the gradient of the result below, as in the pictures of
Stanford's CS231n. Blue and vermilion are told apart by colour-blind readers (Okabe and Ito,
"Color Universal Design", 2008), and the places tell the same.
"""

from __future__ import annotations

import os
from html import escape
from typing import TYPE_CHECKING

from fastmlp.graph.node import OPERATIONS, formula_text
from fastmlp.graph.text import lines

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    from fastmlp.graph.graph import Graph
    from fastmlp.graph.node import Node

VALUE_COLOR = "#0072B2"
GRADIENT_COLOR = "#D55E00"

TEXT_SUFFIXES = {".dot": "dot", ".gv": "dot", ".mmd": "mermaid"}


def node_label(graph: Graph, node: Node) -> tuple[str, str]:
    """Return what stands in a node's box, and its name where that is something else."""
    if not node.parents:
        return graph.name(node), ""
    operation = OPERATIONS[node.operation]
    # A symbol says little of an index or a shape: there the formula does.
    symbol = operation.symbol
    if node.operation == "index":
        symbol = formula_text("[{key}]", [], node.attributes)
    return symbol, node.name or ""


def _rows(array: np.ndarray | None, digits: int) -> str:
    if array is None:
        return "&nbsp;"
    rows = [escape(line) for line in lines(array, digits)]
    if len(rows) > 1:  # columns keep their places with spaces as wide as digits
        rows = [row.replace(" ", "&#8199;") for row in rows]
    return "<BR/>".join(rows)


def dot(graph: Graph, digits: int) -> str:
    """Return a graph in DOT; see `Graph.dot`."""
    text = [
        "digraph {",
        '  rankdir=LR; nodesep=0.25; ranksep=0.45; bgcolor="white";',
        '  node [shape=plain, fontname="Helvetica,Arial,sans-serif", fontsize=12];',
        '  edge [color="#555555", arrowsize=0.7];',
    ]
    number = {id(node): k for k, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        symbol, name = node_label(graph, node)
        title = f"<B>{escape(symbol)}</B>"
        if name:
            title += f'<BR/><FONT POINT-SIZE="10"><I>{escape(name)}</I></FONT>'
        style = ' STYLE="ROUNDED"' if node.parents else ""
        fill = ' BGCOLOR="#EEEEEE"' if not node.parents and not node.differentiable else ""
        gradient = graph.gradient(node)
        # A constant is named by its number: once is enough.
        repeated = not node.parents and graph.name(node) == node.describe() and node.size == 1
        value = "&nbsp;" if repeated and not node.name else _rows(node.value, digits)
        text.append(
            f'  n{number[id(node)]} [label=<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="2">'
            f'<TR><TD><FONT COLOR="{VALUE_COLOR}">{value}</FONT></TD></TR>'
            f'<TR><TD PORT="p" BORDER="1" CELLPADDING="6"{style}{fill}>{title}</TD></TR>'
            f'<TR><TD><FONT COLOR="{GRADIENT_COLOR}">{_rows(gradient, digits)}</FONT></TD></TR>'
            "</TABLE>>];"
        )
    for node in graph.nodes:
        for parent in node.parents:
            text.append(f"  n{number[id(parent)]}:p:e -> n{number[id(node)]}:p:w;")
    return "\n".join([*text, "}"]) + "\n"


def mermaid(graph: Graph, digits: int) -> str:
    """Return a graph in Mermaid; see `Graph.mermaid`."""
    text = ["flowchart LR"]
    number = {id(node): k for k, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        symbol, name = node_label(graph, node)
        title = f"{symbol} {name}".strip()
        parts = [f"<b>{_mermaid_text(title)}</b>"]
        if node.parents or node.differentiable or node.size > 1:
            parts.insert(0, "<br/>".join(map(_mermaid_text, lines(node.value, digits))))
        gradient = graph.gradient(node)
        if gradient is not None:
            shown = "<br/>".join(map(_mermaid_text, lines(gradient, digits)))
            parts.append(f"<i>{shown}</i>")
        label = "<br/>".join(parts)
        left, right = ("(", ")") if node.parents else ("[", "]")
        text.append(f'  n{number[id(node)]}{left}"{label}"{right}')
    for node in graph.nodes:
        for parent in node.parents:
            text.append(f"  n{number[id(parent)]} --> n{number[id(node)]}")
    return "\n".join(text) + "\n"


def _mermaid_text(text: str) -> str:
    # Mermaid reads #…; as a character and would take marks of its own language.
    return "".join(f"#{ord(c)};" if c in '"#;<>&*_`' else c for c in text)


def draw(graph: Graph, file: Any, digits: int) -> Any:
    """Draw through Graphviz; see `Graph.draw`."""
    if file is None:
        return _source(graph, digits)
    path = os.fspath(file)
    stem, suffix = os.path.splitext(path)
    if not suffix or not stem:
        raise ValueError(f"file must have a suffix such as .svg or .png; got {path!r}")
    kind = TEXT_SUFFIXES.get(suffix.lower())
    if kind is not None:
        text = dot(graph, digits) if kind == "dot" else mermaid(graph, digits)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path
    source = _source(graph, digits)
    import graphviz.backend

    try:
        picture = source.pipe(format=suffix[1:].lower())
    except graphviz.backend.ExecutableNotFound as error:
        raise ImportError(_MISSING_PROGRAM) from error
    with open(path, "wb") as stream:
        stream.write(picture)
    return path


def svg(graph: Graph) -> str | None:
    """Return the picture as SVG for a notebook: Graphviz's, else matplotlib's, else None."""
    try:
        import graphviz.backend

        return graphviz.Source(dot(graph, 4)).pipe(format="svg", encoding="utf-8")
    except ImportError:
        return _plain_svg(graph)
    except graphviz.backend.ExecutableNotFound:
        return _plain_svg(graph)


def _plain_svg(graph: Graph) -> str | None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    from io import StringIO

    from fastmlp.pictures.graphs import draw_on

    figure = Figure(layout="constrained")
    figure.set_size_inches(draw_on(figure.subplots(), graph, digits=3))
    text = StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()


_MISSING_PROGRAM = (
    "drawing needs Graphviz's program dot (apt-get install graphviz, brew install graphviz, "
    "https://graphviz.org); Graph.dot() and Graph.mermaid() give the drawing as text"
)


def _source(graph: Graph, digits: int) -> Any:
    try:
        import graphviz
    except ImportError as error:
        raise ImportError(
            'drawing needs the package graphviz: pip install "fastmlp[graphviz]"; '
            "Graph.dot() and Graph.mermaid() give the drawing as text"
        ) from error
    return graphviz.Source(dot(graph, digits))
