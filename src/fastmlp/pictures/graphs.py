"""A computational graph on matplotlib axes, for where Graphviz is not to be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.graph.drawing import GRADIENT_COLOR, VALUE_COLOR, node_label
from fastmlp.graph.text import lines
from fastmlp.pictures.canvas import axes, bare

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastmlp.graph import Graph, Node


def graph(graph: Graph, ax: Axes | None = None, *, digits: int = 3) -> Axes:
    """Draw a graph from left to right, values above the nodes and gradients below.

    Parameters
    ----------
    graph : Graph
        `Graph.draw` makes a finer picture of it through Graphviz.
    ax : matplotlib Axes, optional
        Where to draw; new axes by default.
    digits : int
        Significant digits of the numbers.

    Returns
    -------
    matplotlib Axes
    """
    if ax is None:
        ax = axes(None)
        ax.figure.set_size_inches(draw_on(ax, graph, digits))
    else:
        draw_on(ax, graph, digits)
    return ax


def draw_on(ax: Axes, graph: Graph, digits: int) -> tuple[float, float]:
    """Draw a graph on axes, and return how many inches wide and high its figure should be."""
    places = _places(graph)
    columns = 1 + max(column for column, _ in places.values())
    height = max(abs(row) for _, row in places.values()) * 2 + 1.6
    for node in graph.nodes:
        for parent in node.parents:
            (x0, y0), (x1, y1) = places[id(parent)], places[id(node)]
            ax.annotate(
                "",
                (x1 - 0.2, y1),
                (x0 + 0.2, y0),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "0.5",
                    "lw": 1,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )
    for node in graph.nodes:
        _draw(ax, graph, node, places[id(node)], digits)
    ax.set_xlim(-0.6, columns - 0.4)
    ax.set_ylim(-height / 2, height / 2)
    bare(ax)
    return max(4.0, 1.35 * columns), max(2.6, height)


def _draw(ax: Axes, graph: Graph, node: Node, place: tuple[float, float], digits: int) -> None:
    x, y = place
    symbol, name = node_label(graph, node)
    text = f"{symbol}\n{name}" if name else symbol
    shape = "round,pad=0.35" if node.parents else "square,pad=0.35"
    fill = "#EEEEEE" if not node.parents and not node.differentiable else "white"
    box = {"boxstyle": shape, "fc": fill, "ec": "black", "lw": 1}
    ax.text(x, y, text, ha="center", va="center", bbox=box, fontsize="medium")
    gap = 0.24 if name else 0.2
    if node.parents or node.differentiable or node.size > 1 or node.name:
        value = "\n".join(lines(node.value, digits))
        ax.text(x, y + gap, value, ha="center", va="bottom", color=VALUE_COLOR, fontsize="small")
    gradient = graph.gradient(node)
    if gradient is not None:
        text = "\n".join(lines(gradient, digits))
        ax.text(x, y - gap, text, ha="center", va="top", color=GRADIENT_COLOR, fontsize="small")


def _places(graph: Graph) -> dict[int, tuple[float, float]]:
    """Return column and row of each node: columns by depth, rows near those of the readers."""
    depth: dict[int, int] = {}
    for node in graph.nodes:
        depth[id(node)] = 1 + max((depth[id(p)] for p in node.parents), default=-1)
    # What is read first one step further on stands right before its reader.
    for node in reversed(graph.nodes):
        readers = [n for n in graph.nodes if any(p is node for p in n.parents)]
        if readers and not node.parents:
            depth[id(node)] = min(depth[id(n)] for n in readers) - 1
    columns: dict[int, list[Node]] = {}
    for node in graph.nodes:
        columns.setdefault(depth[id(node)], []).append(node)
    tall = max(len(lines(node.value)) for node in graph.nodes)
    spacing = 1.0 + 0.3 * (tall - 1)
    row = {id(graph.output): 0.0}
    for column in sorted(columns, reverse=True):
        nodes = columns[column]

        def wish(node: Node) -> float:
            heights = []
            for reader in graph.nodes:
                parents = list(reader.parents)
                for position, parent in enumerate(parents):
                    if parent is node and id(reader) in row:
                        # The first operand above the second.
                        shift = 0.5 * (len(parents) - 1) - position
                        heights.append(row[id(reader)] + 0.5 * shift)
            return sum(heights) / len(heights) if heights else 0.0

        wishes = {id(node): wish(node) for node in nodes}
        ordered = sorted(nodes, key=lambda node: -wishes[id(node)])
        middle = sum(wishes.values()) / len(nodes)
        for place, node in enumerate(ordered):
            row[id(node)] = middle + spacing * (0.5 * (len(nodes) - 1) - place)
    centre = 0.5 * (max(row.values()) + min(row.values()))
    return {key: (float(depth[key]), height - centre) for key, height in row.items()}
