"""Reading the golden files."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def load(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of one golden file."""
    with np.load(Path(__file__).parent / f"{name}.npz") as stored:
        return dict(stored)
