"""Fixtures of all tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fastmlp import _native
from fastmlp.backends import native

if TYPE_CHECKING:
    from collections.abc import Iterator

# Their assertions tell as much as those of the tests.
pytest.register_assert_rewrite("compiled", "trained")

# What is set for all of a user's programs is not under test; colours break argparse's words up.
for _name in ("FASTMLP_NUM_THREADS", "FORCE_COLOR", "PYTHON_COLORS"):
    os.environ.pop(_name, None)

USABLE = [name for name, trouble in _native.isa_table().items() if not trouble]


@pytest.fixture(params=USABLE)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once on every instruction set that this processor has."""
    before = _native.isa()
    _native.choose_isa(request.param)
    yield request.param
    _native.choose_isa(before)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Run the test once in each precision."""
    return request.param


@pytest.fixture(params=["native", "reference"])
def backend(request: pytest.FixtureRequest) -> str:
    """Run the test once on each backend."""
    return request.param


@pytest.fixture
def native_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing fall back to the reference backend."""

    def refuse(executor: native.Executor) -> None:
        raise AssertionError("the engine asked the reference backend for help")

    monkeypatch.setattr(native.Executor, "_reference_executor", refuse)
