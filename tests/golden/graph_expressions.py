"""Random expressions, the same from the same seed everywhere, for fastmlp.graph and for PyTorch.

    python tests/golden/graph_expressions.py

writes graph_gradients.npz: PyTorch's values and gradients of the first 200 in float64.

An expression is a list of steps (operation, operands, settings) on a pool of arrays that begins
with its variables. Arguments stay where functions are smooth and bounded, so that finite
differences mean something: what grows is bent by tanh, and operations with kinks are taken only
away from them.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = Path(__file__).with_name("graph_gradients.npz")
COUNT = 200

SHAPES = [(), (3,), (2, 3), (2, 1), (1, 3), (3, 2)]
SMOOTH = [
    "negative", "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "sigmoid", "softplus",
    "square", "cube", "root", "reciprocal",
]  # fmt: skip
KINKED = ["abs", "relu"]
BINARY = ["add", "subtract", "multiply", "divide", "power"]
KINKED_BINARY = ["maximum", "minimum", "where"]
WHOLE = ["sum", "mean", "logsumexp", "softmax", "max", "min"]
SHAPING = ["reshape", "transpose", "index", "gather", "concatenate", "matmul"]
KINDS = [SMOOTH, SMOOTH, KINKED, BINARY, BINARY, BINARY, KINKED_BINARY, WHOLE, SHAPING]

Step = tuple[str, tuple[int, ...], dict[str, Any]]


class Expression:
    """A random expression: `start` holds its variables' values, `steps` what is done with them."""

    def __init__(self, seed: int) -> None:
        # random.random() is the one stream that Python promises never to change.
        self._random = random.Random(seed).random
        self.start = [self._array(self._choice(SHAPES)) for _ in range(3)]
        self.steps: list[Step] = []
        self._pool = list(self.start)
        while len(self.steps) < 10 + int(8 * self._random()):
            self._grow()

    def _choice(self, options: Any) -> Any:
        return options[int(self._random() * len(options))]

    def _array(self, shape: tuple[int, ...]) -> np.ndarray:
        values = [4.0 * self._random() - 2.0 for _ in range(int(np.prod(shape)))]
        return np.array(values).reshape(shape)

    def _operand(self) -> int:
        # Recent arrays more often, so that expressions get deep; any, so that they are shared.
        size = len(self._pool)
        return size - 1 - int(size * self._random() ** 2)

    def _grow(self) -> None:
        name = self._choice(self._choice(KINDS))
        i, j = self._operand(), self._operand()
        a, b = self._pool[i], self._pool[j]
        settings: dict[str, Any] = {}
        operands: tuple[int, ...] = (i,)
        if name in BINARY + KINKED_BINARY:
            operands = (i, j)
            try:
                np.broadcast_shapes(a.shape, b.shape)
            except ValueError:
                return
            if name in KINKED_BINARY and np.abs(a - b).min() < 0.02:
                return
        elif name in KINKED and np.abs(a).min() < 0.02:
            return
        elif name in WHOLE:
            if a.ndim == 0:
                return
            axis = int(self._random() * a.ndim)
            settings = {"axis": axis} if name == "softmax" else {
                "axis": None if self._random() < 0.3 else axis, "keepdims": self._random() < 0.5
            }  # fmt: skip
            if name in ("max", "min"):
                part = np.sort(a, axis=settings["axis"]).reshape(-1)
                if part.size > 1 and np.diff(np.sort(part)).min() < 0.02:
                    return
        elif name == "reshape":
            settings = {"shape": (a.size,) if a.ndim == 2 else (1, a.size)}
        elif name == "transpose" and a.ndim < 2:
            return
        elif name in ("index", "gather"):
            if a.ndim == 0:
                return
            last = a.shape[0] - 1
            key = [slice(None, None, -1), last, (slice(None), None)] if name == "index" else [
                [0, last, 0]
            ]  # fmt: skip
            settings = {"key": self._choice(key)}
        elif name == "concatenate":
            if a.ndim == 0 or a.shape != b.shape:
                return
            operands, settings = (i, j), {"axis": int(self._random() * a.ndim)}
        elif name == "matmul":
            if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
                return
            operands = (i, j)
        self._add(name, operands, settings)
        if self._pool[-1].size > 24:
            self._add("mean", (len(self._pool) - 1,), {"axis": 0, "keepdims": False})
        while np.abs(self._pool[-1]).max() > 3.0:
            self._add("tanh", (len(self._pool) - 1,), {})

    def _add(self, name: str, operands: tuple[int, ...], settings: dict[str, Any]) -> None:
        self.steps.append((name, operands, settings))
        with np.errstate(all="ignore"):
            self._pool.append(NUMPY[name](*[self._pool[k] for k in operands], **settings))

    def evaluate(self, table: dict[str, Callable[..., Any]], arrays: list[Any]) -> Any:
        """Return the mean of the last array plus the means of the two before it."""
        pool = list(arrays)
        for name, operands, settings in self.steps:
            pool.append(table[name](*[pool[k] for k in operands], **settings))
        return table["mean"](pool[-1]) + table["mean"](pool[-2]) + table["mean"](pool[-3])


def table(f: Any) -> dict[str, Callable[..., Any]]:
    """Return every operation by name, written with the functions of a library."""
    return {
        "negative": lambda a: -a,
        "exp": lambda a: f.exp(0.5 * a),
        "expm1": lambda a: f.expm1(0.5 * a),
        "log": lambda a: f.log(a * a + 0.5),
        "log1p": lambda a: f.log1p(a * a),
        "sqrt": lambda a: f.sqrt(a * a + 0.3),
        "sin": f.sin,
        "cos": f.cos,
        "tanh": f.tanh,
        "sigmoid": f.sigmoid,
        "softplus": f.softplus,
        "square": lambda a: a**2,
        "cube": lambda a: a**3,
        "root": lambda a: (a * a + 0.5) ** 1.7,
        "reciprocal": lambda a: 1 / (a * a + 0.7),
        "abs": abs,
        "relu": f.relu,
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b,
        "divide": lambda a, b: a / (b * b + 0.7),
        "power": lambda a, b: (a * a + 0.5) ** f.tanh(b),
        "maximum": f.maximum,
        "minimum": f.minimum,
        "where": lambda a, b: f.where(a < b, 2 * a, b * b),
        "sum": f.sum,
        "mean": f.mean,
        "max": f.max,
        "min": f.min,
        "logsumexp": f.logsumexp,
        "softmax": f.softmax,
        "reshape": lambda a, shape: a.reshape(shape),
        "transpose": lambda a: a.T,
        "index": f.index,
        "gather": lambda a, key: a[key],
        "concatenate": lambda a, b, axis: f.concatenate([a, b], axis),
        "matmul": lambda a, b: a @ b,
    }


class _NumPy:
    """NumPy under the names above, to look at values while an expression grows."""

    exp, expm1, log, log1p, sqrt = np.exp, np.expm1, np.log, np.log1p, np.sqrt
    sin, cos, tanh, maximum, minimum, where = (
        np.sin, np.cos, np.tanh, np.maximum, np.minimum, np.where
    )  # fmt: skip
    sum, mean, max, min, concatenate = np.sum, np.mean, np.max, np.min, np.concatenate
    sigmoid = staticmethod(lambda a: 1 / (1 + np.exp(-a)))
    softplus = staticmethod(lambda a: np.log1p(np.exp(a)))
    relu = staticmethod(lambda a: np.maximum(a, 0))
    index = staticmethod(lambda a, key: a[key])
    logsumexp = staticmethod(
        lambda a, axis=None, keepdims=False: np.log(np.exp(a).sum(axis=axis, keepdims=keepdims))
    )
    softmax = staticmethod(lambda a, axis: np.exp(a) / np.exp(a).sum(axis=axis, keepdims=True))


NUMPY = table(_NumPy)


def torch_table() -> dict[str, Callable[..., Any]]:
    """Return the operations in PyTorch."""
    import torch

    def over(reduce: Callable[..., Any]) -> Callable[..., Any]:
        def reduced(a: Any, axis: int | None = None, keepdims: bool = False) -> Any:
            axes = tuple(range(a.ndim)) if axis is None else (axis,)
            return reduce(a, dim=axes, keepdim=keepdims) if axes else a

        return reduced

    def index(a: Any, key: Any) -> Any:
        return torch.flip(a, (0,)) if key == slice(None, None, -1) else a[key]

    class Functions:
        exp, expm1, log, log1p, sqrt = torch.exp, torch.expm1, torch.log, torch.log1p, torch.sqrt
        sin, cos, tanh, sigmoid, relu = (
            torch.sin, torch.cos, torch.tanh, torch.sigmoid, torch.relu
        )  # fmt: skip
        maximum, minimum, where = torch.maximum, torch.minimum, torch.where
        # torch.nn.functional.softplus is the identity beyond 20: the formula is exact.
        softplus = staticmethod(lambda a: torch.logaddexp(a, torch.zeros_like(a)))
        sum, mean = staticmethod(over(torch.sum)), staticmethod(over(torch.mean))
        max, min = staticmethod(over(torch.amax)), staticmethod(over(torch.amin))
        logsumexp = staticmethod(over(torch.logsumexp))
        softmax = staticmethod(lambda a, axis: torch.softmax(a, axis))
        concatenate = staticmethod(lambda parts, axis: torch.cat(parts, axis))

    Functions.index = staticmethod(index)
    return table(Functions)


def torch_gradient(expression: Expression) -> tuple[float, np.ndarray]:
    """Return PyTorch's value and the gradients with respect to all variables, one after another."""
    import torch

    arrays = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in expression.start]
    value = expression.evaluate(torch_table(), arrays)
    grads = [torch.zeros_like(a) for a in arrays]
    if value.requires_grad:
        found = torch.autograd.grad(value, arrays, allow_unused=True)
        grads = [z if g is None else g for g, z in zip(found, grads, strict=True)]
    return value.item(), np.concatenate([g.numpy().reshape(-1) for g in grads])


if __name__ == "__main__":
    results = [torch_gradient(Expression(seed)) for seed in range(COUNT)]
    np.savez_compressed(
        FILE,
        values=np.array([value for value, _ in results]),
        gradients=np.concatenate([gradient for _, gradient in results]),
    )
