"""The record of a training as a table."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.history import History


def test_a_row_for_each_epoch():
    pytest.importorskip("pandas")
    x, y = np.ones((8, 2)), np.ones((8, 1))
    history = fm.MLP([2, 1], seed=0).fit(x, y, epochs=3, metrics=["mae"], validation_data=(x, y))
    table = history.to_dataframe()
    assert list(table.columns) == ["loss", "mae", "val_loss", "val_mae"]
    assert table.index.name == "epoch"
    assert list(table.index) == [0, 1, 2]
    for name, values in history.history.items():
        assert list(table[name]) == values


def test_what_is_missing_is_nan():
    pytest.importorskip("pandas")
    history = History()
    history.add({"loss": 1.0, "early": 2.0}, 1.0, 10)
    history.add({"loss": 0.5, "late": 3.0}, 1.0, 10)
    table = history.to_dataframe()
    assert list(table["loss"]) == [1.0, 0.5]
    assert table["early"][0] == 2.0
    assert math.isnan(table["early"][1])
    assert math.isnan(table["late"][0])
    assert History().to_dataframe().empty


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_dataframe needs pandas: pip install pandas"):
        History().to_dataframe()
