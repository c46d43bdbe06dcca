"""scikit-learn's own checks and tests, with our classes in place of its own."""

from __future__ import annotations

import importlib.util
from unittest import mock

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp as fm

# Its tests let pass that a few epochs do not converge.
pytestmark = pytest.mark.filterwarnings("default", "ignore::sklearn.exceptions.ConvergenceWarning")

# It calls scikit-learn's private `_loss_grad_lbfgs`; gradients are checked in test_gradients.py.
PRIVATE = {"test_gradient"}


def swapped() -> dict[str, object]:
    """Return the tests of scikit-learn's test_mlp.py, of our classes."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if spec is None:
        return {}
    module = importlib.util.module_from_spec(spec)
    with mock.patch.multiple(
        "sklearn.neural_network", MLPClassifier=fm.MLPClassifier, MLPRegressor=fm.MLPRegressor
    ):
        spec.loader.exec_module(module)
    return {
        name: item
        for name, item in vars(module).items()
        if name.startswith("test_") and name not in PRIVATE
    }


globals().update(swapped())


@pytest.fixture
def global_random_seed():
    return 42


@parametrize_with_checks([fm.MLPClassifier(), fm.MLPRegressor()])
def test_estimator_checks(estimator, check):
    check(estimator)
