"""The tables of cases are complete, and agree with the registries that they are about."""

from __future__ import annotations

import inspect

import pytest

import cases
from fastmlp import Sequential, activations, backends, layers, losses, optimizers, plan
from fastmlp.backends import native, reference


@pytest.mark.parametrize(
    ("table", "registry"),
    [
        (cases.ACTIVATIONS, activations.ACTIVATIONS),
        (cases.LOSSES, losses.LOSSES),
        (cases.OPTIMIZERS, optimizers.OPTIMIZERS),
        (cases.LAYERS, layers.LAYERS),
    ],
    ids=["activations", "losses", "optimizers", "layers"],
)
def test_every_definition_has_a_case(table, registry):
    assert sorted(table) == sorted(registry)


def test_rows_stand_under_their_names():
    assert all(row.name == name for name, rows in cases.ACTIVATIONS.items() for row in rows)
    assert all(row.loss.name == name for name, rows in cases.LOSSES.items() for row in rows)
    assert all(row().name == name for name, rows in cases.OPTIMIZERS.items() for row in rows)


def test_every_operation_is_defined_by_the_reference_backend():
    assert sorted(plan.OPS) == sorted(reference.OPS)


def test_the_cases_reach_every_operation():
    mse, adam = losses.get("mse"), optimizers.get("adam")
    reached = set()
    models = [cases.mlp(cases.SMALL, kinds[0]) for kinds in cases.ACTIVATIONS.values()]
    models += [Sequential(stack(), input_size=5) for stack in cases.LAYERS.values()]
    for model in models:
        for training in (False, True):
            settings = {"training": training, "l2": 0.1, "input_gradient": True}
            settings |= {"clip_value": 1.0, "clip_norm": 1.0, "average": True, "penalty": True}
            steps = plan.build(model, 4, loss=mse, optimizer=adam, **settings).steps
            reached |= {step.op for step in steps}
    assert reached == set(plan.OPS)


@pytest.mark.parametrize("name", ["train", "predict", "forward", "backward", "snapshot", "restore"])
def test_backends_have_the_same_methods(name):
    base = inspect.signature(getattr(backends.BaseExecutor, name))
    for module in (native, reference):
        signature = inspect.signature(getattr(module.Executor, name))
        assert list(signature.parameters) == list(base.parameters)
        assert [p.default for p in signature.parameters.values()] == [
            p.default for p in base.parameters.values()
        ]
