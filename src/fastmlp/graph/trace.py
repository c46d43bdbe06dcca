"""The two passes through a graph as text: each step as formula, with numbers, and its result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fastmlp.graph.node import OPERATIONS, formula_text
from fastmlp.graph.text import in_formula, number_text

if TYPE_CHECKING:
    from fastmlp.graph.graph import Graph
    from fastmlp.graph.node import Node


def trace(graph: Graph, digits: int) -> str:
    """Return the forward pass, then the chain rule, line by line; see `Graph.trace`."""
    return "\n".join(["Forward", *_forward(graph, digits), "", "Backward", *_back(graph, digits)])


def _is_number(node: Node) -> bool:
    return not node.parents and node.operation == "constant" and not node.name and node.size == 1


def _forward(graph: Graph, digits: int) -> list[str]:
    rows = []
    for node in graph.nodes:
        if _is_number(node):
            continue
        name, value = graph.name(node), number_text(node.value, digits)
        if not node.parents:
            rows.append((name, value, "", ""))
            continue
        template = OPERATIONS[node.operation].formula
        names = formula_text(template, [graph.name(p) for p in node.parents], node.attributes)
        numbers = ""
        if all(parent.size == 1 for parent in node.parents):
            shown = [in_formula(p.value.item(), digits) for p in node.parents]
            numbers = formula_text(template, shown, node.attributes)
        rows.append((name, names, numbers, value))
    return _aligned(rows)


def _back(graph: Graph, digits: int) -> list[str]:
    top = graph.name(graph.output)
    start = graph.gradient(graph.output)
    if start is None:
        return [f"  {top} does not depend on a variable"]
    # ∂L/∂x for a number L; several results are taken as their sum.
    of = top if graph.output.size == 1 else f"Σ{top}"
    rows = [(f"∂{of}/∂{top}", number_text(start, digits), "", "")]
    for node in reversed(graph.nodes):
        gradient = graph.gradient(node)
        if gradient is None or node is graph.output:
            continue
        name = f"∂{of}/∂{graph.name(node)}"
        parts = graph.contributions(node)
        for reader, position, part in parts:
            formula, numbers = _chain(graph, of, reader, position, digits)
            label = name if len(parts) == 1 else f"{name} via {graph.name(reader)}"
            rows.append((label, formula, numbers, number_text(part, digits)))
        if len(parts) > 1:
            shown = ""
            if gradient.size == 1:
                shown = " + ".join(in_formula(part, digits) for _, _, part in parts)
            rows.append((name, "sum of these", shown, number_text(gradient, digits)))
    return _aligned(rows)


def _chain(graph: Graph, of: str, reader: Node, position: int, digits: int) -> tuple[str, str]:
    """Return what an operand receives, as a formula of names and, for scalars, of numbers."""
    operation = OPERATIONS[reader.operation]
    template = operation.chain[min(position, len(operation.chain) - 1)]
    operand = reader.parents[position]
    values = dict(reader.attributes, count=operand.size // max(reader.size, 1))
    names = [graph.name(parent) for parent in reader.parents]
    formula = formula_text(
        template, names, dict(values, up=f"∂{of}/∂{graph.name(reader)}", out=graph.name(reader))
    )
    if operation.elementwise and operand.shape != reader.shape:
        formula += ", summed over what was repeated"
    if reader.size != 1 or any(parent.size != 1 for parent in reader.parents):
        return formula, ""
    upstream = in_formula(graph.gradient(reader).item(), digits)
    shown = [in_formula(parent.value.item(), digits) for parent in reader.parents]
    out = in_formula(reader.value.item(), digits)
    return formula, formula_text(template, shown, dict(values, up=upstream, out=out))


def _tidy(text: str) -> str:
    """Return a formula with known exponents worked out and no doubled parentheses."""
    text = re.sub(r"\^\((\d+) - 1\)", lambda m: _exponent(int(m[1]) - 1), text)
    return re.sub(r"\((\(-[^()]*\))\)", r"\1", text)


def _exponent(p: int) -> str:
    return "" if p == 1 else f"^{p}"


def _aligned(rows: list[tuple[str, str, str, str]]) -> list[str]:
    """Return rows "name = formula = numbers = value" with the first two columns aligned."""
    # Long formulas do not push everybody's numbers to the right.
    names = max((len(row[0]) for row in rows), default=0)
    lengths = [len(_tidy(row[1])) for row in rows if row[2] or row[3]]
    formulas = max((length for length in lengths if length <= 40), default=0)
    result = []
    for name, formula, numbers, value in rows:
        text = f"  {name:<{names}} = "
        numbers = _tidy(numbers)
        # A gradient that is passed on as it is needs no second number.
        rest = [part for part in (numbers, value) if part and part != f"({value})"]
        rest = rest[-1:] if numbers == value else rest
        formula = _tidy(formula)
        text += f"{formula:<{formulas}} = " + " = ".join(rest) if rest else formula
        result.append(text)
    return result
