"""The table of workloads: one row each, the same for every peer.

A workload says what is computed, never how. ``Workload.data`` makes the arrays from a seed, so that
every process sees the same numbers, and ``Workload.flops`` counts the arithmetic as all figures of
this folder do: 6·Σ(in·out)·batch for a training step, less 2·(in·out)·batch for the first layer,
whose input needs no gradient, and 2·Σ(in·out) for a one-row prediction. Biases, activations, the
loss and the optimizer are not counted.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import numpy as np

ACTIVATIONS = ("relu", "tanh", "sigmoid", "identity")
OPTIMIZERS = ("sgd", "momentum", "adam")

MOMENTUM = 0.9
ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8


@dataclass(frozen=True)
class Data:
    """The arrays of a workload.

    Attributes
    ----------
    x : ndarray, shape (rows, n_in)
        float32, or uint8 where the workload says so.
    y : ndarray of float32, shape (rows, n_out)
    weights : tuple of (W, b)
        Start values of every layer, W of shape (n_in, n_out) and b of shape (n_out,), float32.
    order : ndarray of int64, shape (rows,), or None
        The order in which the rows are visited; None where they are taken as they stand.
    """

    x: np.ndarray
    y: np.ndarray
    weights: tuple[tuple[np.ndarray, np.ndarray], ...]
    order: np.ndarray | None


@dataclass(frozen=True)
class Workload:
    """One row of the table; plain data, so that it travels to another process as JSON.

    ``kind`` is "train" (one call is an epoch of ``batches`` mini-batches) or "predict" (one call is
    one prediction of ``batch`` rows). The loss is the mean squared error. ``shuffled`` asks every
    peer to visit the rows in ``Data.order``; without it peers may read the mini-batches in place.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    batch: int
    optimizer: str = "sgd"
    batches: int = 1
    output_activation: str = "identity"
    lr: float = 0.01
    kind: str = "train"
    x_dtype: str = "float32"
    shuffled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))

    @property
    def rows(self) -> int:
        """The number of samples in the data set."""
        return self.batch * self.batches

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        return sum((i + 1) * o for i, o in pairwise(self.sizes))

    @property
    def flops(self) -> int:
        """Floating-point operations of one step (or of one prediction)."""
        products = [i * o for i, o in pairwise(self.sizes)]
        if self.kind == "predict":
            return 2 * sum(products) * self.batch
        return (6 * sum(products) - 2 * products[0]) * self.batch

    @property
    def title(self) -> str:
        """One line that says everything: ``tiny 8-32-32-1, tanh, batch 32, sgd, 400 batches``."""
        sizes = "-".join(map(str, self.sizes))
        if self.kind == "predict":
            rows = "one row" if self.batch == 1 else f"{self.batch} rows"
            return f"{self.name} {sizes}, {self.activation}, predict {rows}"
        parts = [f"{self.name} {sizes}", self.activation, f"batch {self.batch}", self.optimizer]
        parts.append(f"{self.batches} batch{'es' if self.batches > 1 else ''}")
        if self.shuffled:
            parts.append("shuffled")
        if self.x_dtype != "float32":
            parts.append(self.x_dtype)
        return ", ".join(parts)

    def activation_of(self, layer: int) -> str:
        """The activation of layer number ``layer``, counted from 0."""
        return self.output_activation if layer == len(self.sizes) - 2 else self.activation

    def as_dict(self) -> dict:
        """Plain data; ``Workload(**row)`` is the way back."""
        return asdict(self)

    def data(self, seed: int = 0) -> Data:
        """Make the arrays: inputs N(0, 1) (bytes: uniform), targets N(0, 1), or in (0, 1) behind a
        sigmoid, weights N(0, 1/n_in), biases N(0, 0.01).

        Byte inputs keep their values 0 … 255; the first layer's weights carry the 1/255 instead, so
        that no peer pays for a scaling the others skip.
        """
        rng = np.random.Generator(np.random.Philox(seed))
        shape = (self.rows, self.sizes[0])
        if self.x_dtype == "uint8":
            x = rng.integers(0, 256, shape, np.uint8)
        else:
            x = rng.standard_normal(shape, np.float32)
        shape = (self.rows, self.sizes[-1])
        if self.output_activation == "sigmoid":
            y = rng.random(shape, np.float32)
        else:
            y = rng.standard_normal(shape, np.float32)
        weights = []
        for layer, (n_in, n_out) in enumerate(pairwise(self.sizes)):
            scale = n_in**-0.5 / (255.0 if layer == 0 and self.x_dtype == "uint8" else 1.0)
            w = rng.standard_normal((n_in, n_out), np.float32) * np.float32(scale)
            b = rng.standard_normal(n_out, np.float32) * np.float32(0.1)
            weights.append((w, b))
        order = rng.permutation(self.rows) if self.shuffled else None
        return Data(x, y, tuple(weights), order)


_NIELSEN = Workload(
    "nielsen", (784, 30, 10), "sigmoid", 10, batches=400, output_activation="sigmoid", lr=0.1
)

WORKLOADS: dict[str, Workload] = {
    row.name: row
    for row in (
        Workload("tiny", (8, 32, 32, 1), "tanh", 32, batches=400),
        _NIELSEN,
        Workload("digits", (64, 128, 64, 10), "relu", 64, "adam", 200, lr=1e-3),
        Workload("mnist", (784, 128, 64, 10), "relu", 128, "adam", 100, lr=1e-3),
        Workload("tab", (100, 512, 256, 128, 1), "relu", 256, "adam", 40, lr=1e-3),
        Workload("wide", (1024, 2048, 2048, 1024), "relu", 512, "sgd", 4),
        # The gradient of the first layer is 255 times as large as its inputs would make it, its
        # weights 255 times as small: hence the learning rate.
        replace(
            _NIELSEN,
            name="nielsen_uint8",
            batches=5000,
            lr=1e-6,
            x_dtype="uint8",
            shuffled=True,
        ),
        Workload("simplechains", (4, 32, 16, 4), "tanh", 10_000, "adam", 1, lr=1e-3),
        Workload("predict_tiny", (8, 32, 32, 1), "tanh", 1, kind="predict"),
        Workload("predict_mnist", (784, 128, 64, 10), "relu", 1, kind="predict"),
    )
}

#: The six rows that every comparison shows.
SIX = ("tiny", "nielsen", "digits", "mnist", "tab", "wide")


def get(name: str) -> Workload:
    """The workload of that name.

    Raises
    ------
    ValueError
        If there is none; the message gives the closest name.
    """
    if name in WORKLOADS:
        return WORKLOADS[name]
    close = difflib.get_close_matches(name, WORKLOADS, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"workload {name!r} is none of {', '.join(WORKLOADS)}{hint}")


def random_workloads(seed: int = 0, count: int = 30, prefix: str = "random") -> list[Workload]:
    """Draw networks that nobody tuned for.

    Depth 1 to 8 (layers with weights), widths 1 to 700 and batches 1 to 400 are drawn so that small
    ones are as likely as large ones (uniform in the logarithm for half of the draws, uniform for
    the other half: a power of two is a rare accident). Activation and optimizer are drawn too. The
    number of mini-batches makes an epoch of about 2 GFLOP, 4 to 500 mini-batches and at most 32 MB
    of data.

    Parameters
    ----------
    seed : int
        The same seed gives the same networks on every machine.
    count : int
        How many.
    prefix : str
        Their names are ``prefix-00``, ``prefix-01``, …
    """
    rng = np.random.Generator(np.random.Philox(seed))

    def draw(highest: int) -> int:
        if rng.random() < 0.5:
            return int(rng.integers(1, highest + 1))
        return min(highest, int(np.exp(rng.random() * np.log(highest + 1))))

    rows = []
    for number in range(count):
        depth = int(rng.integers(1, 9))
        sizes = tuple(draw(700) for _ in range(depth + 1))
        row = Workload(
            f"{prefix}-{number:02d}",
            sizes,
            ("relu", "tanh", "sigmoid")[rng.integers(3)],
            draw(400),
            OPTIMIZERS[rng.integers(3)],
            lr=1e-3,
        )
        by_memory = 32_000_000 // (4 * row.batch * (sizes[0] + sizes[-1]))
        batches = max(4, min(500, by_memory, 2_000_000_000 // row.flops))
        rows.append(replace(row, batches=batches))
    return rows
