"""Plain Python: lists of floats and nested loops, for networks where that is bearable.

No tricks but the ones a careful author would use: rows of W are lists, inner products are sums over
``zip``, names are local. It stands in the tables to show what the textbook's loop costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from workloads import ADAM_BETAS, ADAM_EPS, MOMENTUM, Data, Workload

from . import Variant

NAME = "plain Python"
REQUIRES = None
VARIANTS = (Variant("loops", threads=1),)

#: Operations of one epoch above which nobody waits for plain Python (about 0.1 GFLOP/s).
LIMIT = 200_000_000


def refuses(workload: Workload, variant: Variant) -> str | None:
    if workload.flops * workload.batches > LIMIT:
        return "too large for plain Python"
    return None


def setup(workload: Workload, data: Data, variant: Variant) -> Callable[[], object]:
    w = weights_of(data)
    activations = [workload.activation_of(layer) for layer in range(len(w))]
    order = range(workload.rows) if data.order is None else data.order.tolist()
    x, y = data.x.tolist(), data.y.tolist()

    if workload.kind == "predict":
        return lambda: [forward(w, activations, row)[-1] for row in x]

    update = optimizer(workload)
    batch = workload.batch
    scale = 2.0 / (batch * workload.sizes[-1])

    def epoch() -> float:
        total = 0.0
        for start in range(0, workload.rows, batch):
            gradients = [[[0.0] * len(row) for row in layer] for layer in w]
            for i in order[start : start + batch]:
                outputs = forward(w, activations, x[i])
                errors = [a - t for a, t in zip(outputs[-1], y[i], strict=True)]
                total += sum(e * e for e in errors)
                backward(w, activations, outputs, [scale * e for e in errors], gradients)
            update(w, gradients)
        return total / (workload.rows * workload.sizes[-1])

    return epoch


def weights_of(data: Data) -> list[list[list[float]]]:
    """Start weights as lists: ``w[layer][j]`` holds those into output j, the bias last."""
    return [
        [[*column, bias] for column, bias in zip(w.T.tolist(), b.tolist(), strict=True)]
        for w, b in data.weights
    ]


def forward(w: list, activations: list[str], row: list[float]) -> list[list[float]]:
    """The input and the output of every layer, for one sample."""
    outputs = [row]
    for layer, name in zip(w, activations, strict=True):
        a = outputs[-1]
        # zip stops before the bias, which has no input.
        z = [row[-1] + sum([p * q for p, q in zip(row, a, strict=False)]) for row in layer]
        if name == "tanh":
            z = [math.tanh(v) for v in z]
        elif name == "sigmoid":
            z = [1.0 / (1.0 + math.exp(-v)) for v in z]
        elif name == "relu":
            z = [v if v > 0.0 else 0.0 for v in z]
        outputs.append(z)
    return outputs


def backward(
    w: list, activations: list[str], outputs: list, delta: list[float], gradients: list
) -> None:
    """Add one sample's gradients; ``delta`` is the gradient of the loss in the output."""
    for number in range(len(w) - 1, -1, -1):
        a, name = outputs[number + 1], activations[number]
        if name == "tanh":
            delta = [d * (1.0 - v * v) for d, v in zip(delta, a, strict=True)]
        elif name == "sigmoid":
            delta = [d * v * (1.0 - v) for d, v in zip(delta, a, strict=True)]
        elif name == "relu":
            delta = [d if v > 0.0 else 0.0 for d, v in zip(delta, a, strict=True)]
        before = [*outputs[number], 1.0]
        for j, d in enumerate(delta):
            row = gradients[number][j]
            gradients[number][j] = [g + d * v for g, v in zip(row, before, strict=True)]
        if number:
            below = [0.0] * (len(before) - 1)
            for row, d in zip(w[number], delta, strict=True):
                below = [s + d * v for s, v in zip(below, row, strict=False)]
            delta = below


def optimizer(workload: Workload) -> Callable[[list, list], None]:
    """The update of one row of weights after another, PyTorch's rules."""
    lr = workload.lr
    state: dict[tuple[int, int], tuple[list[float], list[float]]] = {}
    powers = [1.0, 1.0]
    beta1, beta2 = ADAM_BETAS

    def update_row(key: tuple[int, int], row: list[float], g: list[float]) -> list[float]:
        if workload.optimizer == "sgd":
            return [p - lr * q for p, q in zip(row, g, strict=True)]
        m, v = state.get(key, ([0.0] * len(row), [0.0] * len(row)))
        if workload.optimizer == "momentum":
            m = [MOMENTUM * s + q for s, q in zip(m, g, strict=True)]
            state[key] = (m, v)
            return [p - lr * s for p, s in zip(row, m, strict=True)]
        m = [beta1 * s + (1.0 - beta1) * q for s, q in zip(m, g, strict=True)]
        v = [beta2 * s + (1.0 - beta2) * q * q for s, q in zip(v, g, strict=True)]
        state[key] = (m, v)
        step, root = lr / (1.0 - powers[0]), math.sqrt(1.0 - powers[1])
        return [
            p - step * a / (math.sqrt(b) / root + ADAM_EPS)
            for p, a, b in zip(row, m, v, strict=True)
        ]

    def update(w: list, gradients: list) -> None:
        powers[0] *= beta1
        powers[1] *= beta2
        for number, layer in enumerate(w):
            for j, g in enumerate(gradients[number]):
                layer[j] = update_row((number, j), layer[j], g)

    return update
