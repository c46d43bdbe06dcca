"""The golden files against the PyTorch that is installed, if one is."""

from __future__ import annotations

import numpy as np
import pytest

from golden.make_golden import FOLDER, MAKERS
from golden.stored import load


@pytest.mark.parametrize("name", MAKERS)
def test_files_are_what_pytorch_computes(name):
    pytest.importorskip("torch")
    stored, made = load(name), MAKERS[name]()
    assert stored.keys() == made.keys()
    for key, array in made.items():
        if array.dtype.kind == "U":
            np.testing.assert_array_equal(stored[key], array)
        else:
            # PyTorch's releases and CPUs differ in the last digits of exp and the like.
            np.testing.assert_allclose(stored[key], array, rtol=1e-11, atol=1e-12)


def test_files_stay_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 200_000
