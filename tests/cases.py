"""What tests and benchmarks walk through: shapes, and a row for every definition.

A new activation, loss or optimizer gets one row here; `test_cases.py` fails if it has none, and
whatever is compared for all rows — the backends, the gradients, the speed — then covers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import activations, losses, optimizers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _pytest.mark import ParameterSet

    from fastmlp.activations import Activation
    from fastmlp.layers import Layer
    from fastmlp.loss_base import Loss
    from fastmlp.optimizer_base import Optimizer


@dataclass(frozen=True)
class Shape:
    """Sizes of a network from input to output, and rows of a mini-batch."""

    sizes: tuple[int, ...]
    batch: int

    def __str__(self) -> str:
        return "-".join(map(str, self.sizes)) + f"x{self.batch}"

    @property
    def roundings(self) -> int:
        """Roundings behind an element of an output or a gradient: its longest chain of sums.

        Every layer sums over its inputs (forward), its outputs (backward) and the rows (the
        gradient of its weights); activation and derivative add a few units each.
        """
        return 2 * sum(self.sizes) + self.batch + 16 * len(self.sizes)


# Ones, odd sizes, a size either side of a vector, a block and a tile; a long sum (above 256) over
# inputs and over rows.
SHAPES = (
    Shape((1, 1), 1),
    Shape((1, 1, 1), 7),
    Shape((3, 2), 1),
    Shape((5, 4, 3), 2),
    Shape((7, 17, 5), 13),
    Shape((8, 16, 32, 1), 6),
    Shape((9, 15, 16, 17), 31),
    Shape((33, 31, 10), 33),
    Shape((300, 8, 3), 5),
    Shape((4, 19, 2), 290),
)
SMALL = Shape((5, 6, 3), 4)
BACKENDS = ("native", "reference")

ACTIVATIONS: dict[str, tuple[Activation, ...]] = {
    "identity": (activations.Identity(),),
    "relu": (activations.ReLU(),),
    "leaky_relu": (activations.LeakyReLU(), activations.LeakyReLU(0.3)),
    "elu": (activations.ELU(), activations.ELU(0.5)),
    "selu": (activations.SELU(),),
    "gelu": (activations.GELU(),),
    "silu": (activations.SiLU(),),
    "mish": (activations.Mish(),),
    "softplus": (activations.Softplus(),),
    "tanh": (activations.Tanh(),),
    "sigmoid": (activations.Sigmoid(),),
    "softmax": (activations.Softmax(),),
}


@dataclass(frozen=True)
class LossCase:
    """A loss, the targets it takes (see `targets`), and the output activations it goes with."""

    loss: Loss
    kind: str
    outputs: tuple[str, ...] = ("identity",)

    def __str__(self) -> str:
        return self.loss.name


LOSSES: dict[str, tuple[LossCase, ...]] = {
    "mse": (LossCase(losses.MSE(), "real", ("identity", "tanh", "softmax")),),
    "quadratic": (LossCase(losses.Quadratic(), "real", ("identity", "sigmoid")),),
    "mae": (LossCase(losses.MAE(), "real"),),
    "huber": (LossCase(losses.Huber(), "real"), LossCase(losses.Huber(0.3), "real")),
    "log_cosh": (LossCase(losses.LogCosh(), "real"),),
    "quantile": (LossCase(losses.Quantile(0.3), "real"),),
    "poisson": (
        LossCase(losses.Poisson(), "count"),
        LossCase(losses.Poisson(log_input=False), "count", ("softplus",)),
    ),
    "bce": (
        LossCase(losses.BCE(), "unit", ("identity", "sigmoid")),
        LossCase(losses.BCE(label_smoothing=0.2, reduction="sum"), "unit"),
    ),
    "cross_entropy": (
        LossCase(losses.CrossEntropy(), "one_hot", ("identity", "softmax")),
        LossCase(losses.CrossEntropy(label_smoothing=0.1), "one_hot"),
    ),
    "hinge": (LossCase(losses.Hinge(), "unit"),),
}

# Settings are away from the defaults, so that each of them is seen to be used. ε is large where it
# stands beside a root: a quotient of two tiny numbers would magnify roundings beyond any bound.
OPTIMIZERS: dict[str, tuple[Callable[[], Optimizer], ...]] = {
    "sgd": (
        lambda: optimizers.SGD(lr=0.1),
        lambda: optimizers.SGD(lr=0.1, weight_decay=0.01),
        lambda: optimizers.SGD(lr=0.05, momentum=0.9),
        lambda: optimizers.SGD(lr=0.05, momentum=0.8, dampening=0.3, weight_decay=0.01),
        lambda: optimizers.SGD(lr=0.05, momentum=0.9, nesterov=True),
    ),
    "adam": (
        lambda: optimizers.Adam(lr=0.01, eps=0.01),
        lambda: optimizers.Adam(lr=0.01, betas=(0.8, 0.9), eps=0.01, weight_decay=0.1),
        lambda: optimizers.Adam(lr=0.01, eps=0.01, amsgrad=True),
    ),
    "adamw": (lambda: optimizers.AdamW(lr=0.01, eps=0.01, weight_decay=0.1),),
    "nadam": (lambda: optimizers.NAdam(lr=0.01, eps=0.01),),
    "radam": (lambda: optimizers.RAdam(lr=0.01, eps=0.01),),
    "adamax": (lambda: optimizers.Adamax(lr=0.01, eps=0.01),),
    "lion": (lambda: optimizers.Lion(lr=0.001),),
    "rmsprop": (
        lambda: optimizers.RMSprop(lr=0.01, eps=0.01),
        lambda: optimizers.RMSprop(lr=0.01, eps=0.01, centered=True),
        lambda: optimizers.RMSprop(lr=0.01, eps=0.01, momentum=0.9),
        lambda: optimizers.RMSprop(
            lr=0.01, eps=0.01, momentum=0.9, centered=True, weight_decay=0.1
        ),
    ),
    "adagrad": (lambda: optimizers.Adagrad(lr=0.01, eps=0.01),),
    "adadelta": (lambda: optimizers.Adadelta(lr=1.0, eps=0.01),),
    "rprop": (lambda: optimizers.Rprop(lr=0.01),),
}

# Stacks of layers that `mlp` does not make, by the class that they are about.
LAYERS: dict[str, Callable[[], list[Layer]]] = {
    "Dense": lambda: [fm.Dense(18, "tanh", bias=False, max_norm=0.5), fm.Dense(3, max_norm=1.5)],
    "Activation": lambda: [
        fm.Activation("tanh"),
        fm.Dense(18),
        fm.Dropout(0.1),
        fm.Activation("silu"),
        fm.Dense(3),
    ],
    "Standardize": lambda: [fm.Standardize(), fm.Dense(6, "relu"), fm.Dense(3)],
    "Dropout": lambda: [fm.Dense(18, "tanh"), fm.Dropout(0.3), fm.Dense(3), fm.Dropout(0.1)],
    "GaussianNoise": lambda: [
        fm.GaussianNoise(0.3),
        fm.Dense(18),
        fm.GaussianNoise(1),
        fm.Dense(3),
    ],
    "BatchNorm": lambda: [
        fm.BatchNorm(),
        fm.Dense(18, "tanh"),
        fm.BatchNorm(0.3, 0.1),
        fm.Dense(3),
    ],
    "LayerNorm": lambda: [fm.LayerNorm(), fm.Dense(18, "sigmoid"), fm.LayerNorm(0.1), fm.Dense(3)],
    "Scale": lambda: [fm.Scale(), fm.Dense(18, "tanh"), fm.Scale(0.5, bias=True), fm.Dense(3)],
    "Residual": lambda: [
        fm.Dense(18, "tanh"),
        fm.Residual([fm.Dense(4, "tanh"), fm.Dense(18), fm.Scale(0.1)]),
        fm.Residual([fm.Residual([fm.Dense(18, "silu")]), fm.Dense(3)], projection=True),
    ],
    "Concat": lambda: [
        fm.Concat([[], [fm.Dense(18, "tanh"), fm.Dense(9)], [fm.Dense(1)], [fm.Dense(20, "tanh")]]),
        fm.Concat([[fm.Dense(2)], [fm.Dense(1, "tanh")]]),
    ],
    "Embedding": lambda: [fm.Embedding(5, 3, column=1), fm.Embedding(40, 17), fm.Dense(3)],
}


def mlp(
    shape: Shape,
    activation: str | Activation = "tanh",
    output_activation: str | Activation = "identity",
    dtype: str = "float32",
    seed: int = 0,
) -> fm.MLP:
    """Return a network of a shape; its biases are not zero, so that they are seen to be used."""
    return fm.MLP(
        shape.sizes,
        activation,
        output_activation,
        dtype,
        seed,
        bias_initializer=fm.initializers.Uniform(-0.5, 0.5),
    )


def inputs(rows: int, columns: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Return inputs of about unit size, rounded to float32 so that both precisions see the same."""
    x = np.random.default_rng([seed, rows, columns]).normal(size=(rows, columns))
    return x.astype(np.float32).astype(dtype)


def layer_inputs(name: str, rows: int, columns: int, dtype: str = "float32") -> np.ndarray:
    """Return inputs for a row of `LAYERS`: away from zero, or with codes where it wants some."""
    x = inputs(rows, columns, dtype=dtype) * 3 + 1
    if name == "Embedding":
        x[:, 0], x[:, 1] = np.arange(rows) * 7 % 40, np.arange(rows) % 5
    return x


def targets(
    kind: str, rows: int, columns: int, seed: int = 0, dtype: str = "float32"
) -> np.ndarray:
    """Return targets of a kind: "real", "unit" (0 and 1), "count", "one_hot" or "labels"."""
    rng = np.random.default_rng([seed, rows, columns, 1])
    if kind == "real":
        y = rng.normal(size=(rows, columns))
    elif kind == "unit":
        y = rng.integers(0, 2, (rows, columns))
    elif kind == "count":
        y = rng.integers(0, 5, (rows, columns))
    else:
        labels = rng.integers(0, columns, rows)
        if kind == "labels":
            return labels
        y = np.eye(columns)[labels]
    return y.astype(np.float32).astype(dtype)


def each(table: dict[str, Sequence[object]]) -> list[tuple[str, object]]:
    """Return every row of a table with a name of its own."""
    return [
        (name if len(rows) == 1 else f"{name}{number}", row)
        for name, rows in table.items()
        for number, row in enumerate(rows)
    ]


def params(table: dict[str, Sequence[object]]) -> list[ParameterSet]:
    """Return every row of a table under its name, for `pytest.mark.parametrize`."""
    return [pytest.param(row, id=name) for name, row in each(table)]
