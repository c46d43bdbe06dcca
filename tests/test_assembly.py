"""How steps are cut into parts, and what equal networks share."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.backends.assembly import STRATEGIES, Structure, assemble, barriers, cut, parts_of
from fastmlp.backends.native import Executor


def lowering(sizes, batch=32, **settings):
    model = fm.MLP(sizes, activation="tanh", seed=0, **settings)
    executor = Executor(model, fm.losses.get("mse"), fm.Adam())
    return executor._lower(
        batch, training=True, loss=executor.loss, optimizer=executor.optimizer
    ).lowering


def structure(low):
    return Structure(low.train_steps(), low.block)


@pytest.mark.parametrize("count", [0, 1, 7, 16, 100])
@pytest.mark.parametrize("unit", [1, 6, 16])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_a_cut_covers_everything_once(count, unit, parts):
    edges = cut(count, unit, parts)
    assert len(edges) == parts
    assert [k for start, end in edges for k in range(start, end)] == list(range(count))
    assert all(start % unit == 0 or start == count for start, _ in edges)


@pytest.mark.parametrize("strategy", STRATEGIES[:3])
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_what_is_kept_for_equal_networks_is_right_for_them(threads, strategy):
    first = lowering([8, 33, 17, 1])
    _, kept = assemble(structure(first), threads, strategy)
    second = lowering([8, 33, 17, 1])
    assert structure(second) == structure(first)
    table, parts = assemble(structure(second), threads, strategy)
    assert parts is kept
    own = [parts_of(step, threads, strategy) for step in second.train_steps()]
    np.testing.assert_array_equal(parts, np.stack(own))
    assert table["barrier"].tolist() == barriers(second.train_steps(), own, second.block)


@pytest.mark.parametrize(
    "other",
    [
        {"sizes": [8, 33, 18, 1]},
        {"sizes": [8, 33, 17, 2]},
        {"sizes": [8, 33, 17, 1], "batch": 33},
        {"sizes": [8, 33, 17, 1], "dtype": "float64"},
        {"sizes": [8, 33, 17, 1], "output_activation": "tanh"},
    ],
    ids=str,
)
def test_what_differs_is_not_taken_for_equal(other):
    assert structure(lowering(**other)) != structure(lowering([8, 33, 17, 1]))
