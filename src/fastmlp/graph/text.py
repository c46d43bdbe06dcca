"""Numbers and arrays as short text, for drawings, traces and messages."""

from __future__ import annotations

import numpy as np

# Arrays of more elements than this are described, not listed: a 6 × 6 matrix can be read.
LISTED = 36


def number_text(value: np.ndarray | float, digits: int = 4) -> str:
    """Return a number, or an array in brackets; a large array's shape and range."""
    array = np.asarray(value)
    if array.ndim == 0:
        return _one(array[()], digits)
    if array.size > LISTED or array.size == 0:
        return summary(array, digits)
    return "[" + ", ".join(number_text(part, digits) for part in array) + "]"


def lines(value: np.ndarray | float, digits: int = 4) -> list[str]:
    """Return the rows of a matrix as one text each, columns aligned; others as one line."""
    array = np.asarray(value)
    if array.ndim != 2 or array.size > LISTED or array.size == 0:
        return [number_text(array, digits)]
    cells = [[_one(x, digits) for x in row] for row in array]
    widths = [max(len(row[j]) for row in cells) for j in range(array.shape[1])]
    return [
        "[" + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + "]"
        for row in cells
    ]


def summary(array: np.ndarray, digits: int = 4) -> str:
    """Return the shape and the range of an array."""
    shape = "×".join(map(str, array.shape))
    if array.size == 0:
        return f"{shape}, empty"
    return f"{shape}, {_one(array.min(), digits)} … {_one(array.max(), digits)}"


def in_formula(value: np.ndarray | float, digits: int = 4) -> str:
    """Return a number as an operand: negative ones in parentheses."""
    text = number_text(value, digits)
    return f"({text})" if text.startswith("-") or " … " in text else text


def _one(x: np.generic, digits: int) -> str:
    if x.dtype.kind == "b" if hasattr(x, "dtype") else isinstance(x, bool):
        return "true" if x else "false"
    # + 0.0 makes −0 a 0, which a reader would take for a mistake.
    return f"{float(x) + 0.0:.{digits}g}"
