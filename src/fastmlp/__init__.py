"""Fast training of multilayer perceptrons on CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from fastmlp import _native as _native
except ValueError as error:  # FASTMLP_ISA is wrong: the command line says so in a line
    import os.path
    import sys

    _program = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    if _program == "fastmlp" or (_program == "-m" and "fastmlp" in sys.orig_argv):
        sys.exit(f"fastmlp: error: {error}")
    raise

from fastmlp import activations, initializers, losses, optimizers
from fastmlp.config import get_num_threads, set_num_threads, show_config
from fastmlp.errors import DivergenceError, ManyError, ModelFormatError
from fastmlp.layers import (
    Activation,
    BatchNorm,
    Concat,
    Dense,
    Dropout,
    Embedding,
    GaussianNoise,
    LayerNorm,
    Residual,
    Scale,
    Standardize,
)
from fastmlp.model import MLP, Sequential
from fastmlp.optimizers import LBFGS, SGD, Adam, AdamW, LevenbergMarquardt
from fastmlp.training import Trainer

if TYPE_CHECKING:  # what _LAZY says, for type checkers and editors
    from typing import Any

    from fastmlp import callbacks as callbacks
    from fastmlp import data as data
    from fastmlp import descent as descent
    from fastmlp import graph as graph
    from fastmlp import metrics as metrics
    from fastmlp import pictures as pictures
    from fastmlp import plots as plots
    from fastmlp import schedules as schedules
    from fastmlp import search as search
    from fastmlp.averaging import average as average
    from fastmlp.descent import minimize as minimize
    from fastmlp.estimators import MLPClassifier as MLPClassifier
    from fastmlp.estimators import MLPRegressor as MLPRegressor
    from fastmlp.exports.keras import from_keras as from_keras
    from fastmlp.exports.sklearn import from_sklearn as from_sklearn
    from fastmlp.exports.torch import from_torch as from_torch
    from fastmlp.files import load as load
    from fastmlp.files import load_metadata as load_metadata
    from fastmlp.files import load_optimizer as load_optimizer
    from fastmlp.gradients import check_gradients as check_gradients
    from fastmlp.gradients import numerical_gradient as numerical_gradient
    from fastmlp.graph import grad as grad
    from fastmlp.graph import hvp as hvp
    from fastmlp.graph import jacobian as jacobian
    from fastmlp.graph import value_and_grad as value_and_grad
    from fastmlp.learning_rate import find_learning_rate as find_learning_rate
    from fastmlp.many import fit_many as fit_many
    from fastmlp.profiling import profile as profile
    from fastmlp.search import grid_search as grid_search
    from fastmlp.search import random_search as random_search

__version__ = "0.1.0"  # the only place that says it: the build reads it here

# What is imported when it is first used: name -> module. A module is its own name.
_LAZY = {
    "MLPClassifier": "fastmlp.estimators",
    "MLPRegressor": "fastmlp.estimators",
    "average": "fastmlp.averaging",
    "callbacks": "fastmlp.callbacks",
    "check_gradients": "fastmlp.gradients",
    "data": "fastmlp.data",
    "descent": "fastmlp.descent",
    "from_keras": "fastmlp.exports.keras",
    "from_sklearn": "fastmlp.exports.sklearn",
    "from_torch": "fastmlp.exports.torch",
    "grad": "fastmlp.graph",
    "grid_search": "fastmlp.search",
    "graph": "fastmlp.graph",
    "hvp": "fastmlp.graph",
    "jacobian": "fastmlp.graph",
    "find_learning_rate": "fastmlp.learning_rate",
    "fit_many": "fastmlp.many",
    "load": "fastmlp.files",
    "load_metadata": "fastmlp.files",
    "load_optimizer": "fastmlp.files",
    "metrics": "fastmlp.metrics",
    "minimize": "fastmlp.descent",
    "numerical_gradient": "fastmlp.gradients",
    "pictures": "fastmlp.pictures",
    "plots": "fastmlp.plots",
    "profile": "fastmlp.profiling",
    "random_search": "fastmlp.search",
    "schedules": "fastmlp.schedules",
    "search": "fastmlp.search",
    "value_and_grad": "fastmlp.graph",
}

__all__ = [
    "LBFGS",
    "MLP",
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "BatchNorm",
    "Concat",
    "Dense",
    "DivergenceError",
    "Dropout",
    "Embedding",
    "GaussianNoise",
    "LayerNorm",
    "LevenbergMarquardt",
    "ManyError",
    "ModelFormatError",
    "Residual",
    "Scale",
    "Sequential",
    "Standardize",
    "Trainer",
    "activations",
    "average",
    "callbacks",
    "check_gradients",
    "data",
    "descent",
    "find_learning_rate",
    "fit_many",
    "from_keras",
    "from_sklearn",
    "from_torch",
    "get_num_threads",
    "grad",
    "graph",
    "grid_search",
    "hvp",
    "initializers",
    "jacobian",
    "load",
    "load_metadata",
    "load_optimizer",
    "losses",
    "metrics",
    "minimize",
    "numerical_gradient",
    "optimizers",
    "pictures",
    "plots",
    "profile",
    "random_search",
    "schedules",
    "search",
    "set_num_threads",
    "show_config",
    "value_and_grad",
]


def __getattr__(name: str) -> Any:
    module_name = _LAZY.get(name)
    import importlib

    if module_name is None:
        message = f"module 'fastmlp' has no attribute {name!r}"
        if name[:1].isupper():  # a class that a user looks for, rather than a program for a name
            for place in ("optimizers", "losses", "callbacks", "schedules", "metrics", "search"):
                if hasattr(importlib.import_module(f"fastmlp.{place}"), name):
                    message += f"; did you mean fastmlp.{place}.{name}?"
        raise AttributeError(message)
    module = importlib.import_module(module_name)
    value = module if module_name == f"fastmlp.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
