"""The strongest loop one can fairly write by hand in NumPy.

Mini-batches are kept as columns, (features, batch), with a last row of ones: the bias is then one
more column of W, and neither adding it nor its gradient costs a call of its own. Every result goes
into a buffer made beforehand, products use ``ndarray.dot`` with ``out`` (half the overhead of
``np.matmul`` on small arrays), all weights are one flat vector, so that the optimizer is one pass
over it, cut into pieces that stay in cache, and plain SGD's learning rate is folded into the
gradient of the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from workloads import ADAM_BETAS, ADAM_EPS, MOMENTUM, Data, Workload

from . import Variant

NAME = "NumPy"
REQUIRES = "numpy"
VARIANTS = (Variant("1 thread", threads=1), Variant("all threads"))

#: Elements of a piece of the optimizer's pass. Smaller ones cost more in calls than they save in
#: cache misses: 110,000 weights with Adam took 229, 166 and 159 µs in pieces of 2¹³, 2¹⁵ and whole.
PIECE = 1 << 16


def refuses(workload: Workload, variant: Variant) -> str | None:
    return None


def setup(workload: Workload, data: Data, variant: Variant) -> Callable[[], object]:
    if workload.kind == "predict":
        return _prediction(workload, data)
    return Network(workload, data).epoch


class Network:
    """Weights, gradients and buffers of one workload.

    ``weights`` and ``gradients`` are flat float32 vectors; ``w[l]`` and ``dw[l]`` are their views
    of shape (n_out, n_in + 1), the bias last. ``a[l]`` holds the output of layer l and a row of
    ones, (n_out + 1, batch).
    """

    def __init__(self, workload: Workload, data: Data) -> None:
        batch = workload.batch
        self.workload = workload
        self.order = data.order
        self.weights = np.concatenate([np.vstack([w, b]).T.ravel() for w, b in data.weights])
        self.gradients = np.empty_like(self.weights)
        self.w = _views(self.weights, workload.sizes)
        self.dw = _views(self.gradients, workload.sizes)
        self.wt = [w[:, :-1].T for w in self.w]
        self.update = _optimizer(workload, self.weights, self.gradients)

        ones = np.ones((workload.rows, 1), data.x.dtype)
        self.x = np.hstack([data.x, ones])
        # Targets as columns, mini-batch after mini-batch, each contiguous.
        self.y = data.y if self.order is None else data.y[self.order]
        self.y = [np.ascontiguousarray(y.T) for y in np.split(self.y, workload.batches)]
        if self.order is not None:
            self.gathered = np.empty((batch, self.x.shape[1]), self.x.dtype)
            self.converted = np.empty(self.gathered.shape, np.float32)

        self.a = [np.ones((n + 1, batch), np.float32) for n in workload.sizes[1:]]
        self.outputs = [a[:-1] for a in self.a]
        self.d = [np.empty((n, batch), np.float32) for n in workload.sizes[1:]]
        self.scratch = [np.empty((n, batch), np.float32) for n in workload.sizes[1:]]
        # d(mean squared error)/d(output) = scale (output − y); see _optimizer for the factor lr.
        elements = batch * workload.sizes[-1]
        lr = workload.lr if workload.optimizer == "sgd" else 1.0
        self.scale = np.float32(2.0 * lr / elements)
        layers = range(len(workload.sizes) - 1)
        self.forward_of = [FORWARD[workload.activation_of(layer)] for layer in layers]
        self.backward_of = [BACKWARD[workload.activation_of(layer)] for layer in layers]

    def epoch(self) -> float:
        """All mini-batches, forward, backward and update; returns the mean loss."""
        batch = self.workload.batch
        total = 0.0
        for number, y in enumerate(self.y):
            rows = slice(number * batch, (number + 1) * batch)
            if self.order is None:
                x = self.x[rows]
            else:
                x = self.gathered
                self.x.take(self.order[rows], 0, x, "clip")
                if x.dtype != np.float32:
                    np.copyto(self.converted, x)
                    x = self.converted
            total += self.step(x.T, y)
        return total / (len(self.y) * batch * self.workload.sizes[-1])

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """One mini-batch, columns are samples; returns the sum of squares of its errors."""
        self.forward(x)
        squares = self.backward(x, y)
        self.update()
        return squares

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The outputs, (n_out, batch), for x of shape (n_in + 1, batch) with ones at the end."""
        a, outputs = self.a, self.outputs
        previous = x
        for layer, w in enumerate(self.w):
            w.dot(previous, outputs[layer])
            self.forward_of[layer](outputs[layer])
            previous = a[layer]
        return outputs[-1]

    def backward(self, x: np.ndarray, y: np.ndarray) -> float:
        """Fill ``gradients`` after `forward`; returns the sum of squares of the errors."""
        a, outputs, scratch = self.a, self.outputs, self.scratch
        last = len(self.w) - 1
        d = self.d[last]
        np.subtract(outputs[last], y, d)
        errors = d.ravel()
        squares = errors.dot(errors)
        np.multiply(d, self.scale, d)
        for layer in range(last, -1, -1):
            self.backward_of[layer](outputs[layer], d, scratch[layer])
            d.dot((a[layer - 1] if layer else x).T, self.dw[layer])
            if layer:
                self.wt[layer].dot(d, self.d[layer - 1])
                d = self.d[layer - 1]
        return squares


def _views(flat: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
    views, start = [], 0
    for n_in, n_out in pairwise(sizes):
        views.append(flat[start : start + n_out * (n_in + 1)].reshape(n_out, n_in + 1))
        start += n_out * (n_in + 1)
    return views


_ZERO = np.zeros((), np.float32)
_ONE = np.ones((), np.float32)


def _identity(z: np.ndarray) -> None:
    pass


def _relu(z: np.ndarray) -> None:
    np.maximum(z, _ZERO, out=z)


def _tanh(z: np.ndarray) -> None:
    np.tanh(z, z)


def _sigmoid(z: np.ndarray) -> None:
    np.negative(z, z)
    np.exp(z, z)
    np.add(z, _ONE, z)
    np.divide(_ONE, z, z)


def _identity_backward(a: np.ndarray, d: np.ndarray, scratch: np.ndarray) -> None:
    pass


def _relu_backward(a: np.ndarray, d: np.ndarray, scratch: np.ndarray) -> None:
    np.greater(a, _ZERO, scratch, casting="unsafe")
    np.multiply(d, scratch, d)


def _tanh_backward(a: np.ndarray, d: np.ndarray, scratch: np.ndarray) -> None:
    # d (1 − a²)
    np.multiply(a, a, scratch)
    np.multiply(scratch, d, scratch)
    np.subtract(d, scratch, d)


def _sigmoid_backward(a: np.ndarray, d: np.ndarray, scratch: np.ndarray) -> None:
    # d a (1 − a)
    np.multiply(d, a, d)
    np.multiply(d, a, scratch)
    np.subtract(d, scratch, d)


FORWARD = {"identity": _identity, "relu": _relu, "tanh": _tanh, "sigmoid": _sigmoid}
BACKWARD = {
    "identity": _identity_backward,
    "relu": _relu_backward,
    "tanh": _tanh_backward,
    "sigmoid": _sigmoid_backward,
}


def _optimizer(workload: Workload, weights: np.ndarray, gradients: np.ndarray) -> Callable:
    """The update as a function of no arguments, in place, PyTorch's rules."""
    cuts = range(0, weights.size, PIECE)
    pieces = [(weights[i : i + PIECE], gradients[i : i + PIECE]) for i in cuts]

    if workload.optimizer == "sgd":
        # The gradients carry the factor lr already.
        return lambda: np.subtract(weights, gradients, weights)

    if workload.optimizer == "momentum":
        lr, momentum = np.float32(workload.lr), np.float32(MOMENTUM)
        velocity = np.zeros_like(weights)
        rows = [(w, g, velocity[i : i + PIECE]) for i, (w, g) in zip(cuts, pieces, strict=True)]

        def update_momentum() -> None:
            for w, g, v in rows:
                np.multiply(v, momentum, v)
                np.add(v, g, v)
                np.multiply(v, lr, g)
                np.subtract(w, g, w)

        return update_momentum

    # Adam, with m and v kept as m/(1 − β₁) and v/(1 − β₂): two multiplications fewer. Then
    # lr/bias1 · m / (√v/√bias2 + ε) = step · m' / (√v' + ε'), see below.
    beta1, beta2 = map(np.float32, ADAM_BETAS)
    moments = np.zeros((2, weights.size), np.float32)
    scratch = np.empty(PIECE, np.float32)
    rows = [
        (w, g, *moments[:, i : i + PIECE], scratch[: w.size])
        for i, (w, g) in zip(cuts, pieces, strict=True)
    ]
    powers = [1.0, 1.0]

    def update_adam() -> None:
        powers[0] *= ADAM_BETAS[0]
        powers[1] *= ADAM_BETAS[1]
        root = ((1.0 - powers[1]) / (1.0 - ADAM_BETAS[1])) ** 0.5
        step = np.float32(workload.lr * (1.0 - ADAM_BETAS[0]) / (1.0 - powers[0]) * root)
        eps = np.float32(ADAM_EPS * root)
        for w, g, m, v, t in rows:
            np.multiply(m, beta1, m)
            np.add(m, g, m)
            np.multiply(g, g, g)
            np.multiply(v, beta2, v)
            np.add(v, g, v)
            np.sqrt(v, t)
            np.add(t, eps, t)
            np.divide(m, t, t)
            np.multiply(t, step, t)
            np.subtract(w, t, w)

    return update_adam


def _prediction(workload: Workload, data: Data) -> Callable[[], np.ndarray]:
    """One prediction of ``batch`` rows into buffers made beforehand."""
    x = data.x
    rows = []
    for layer, (w, b) in enumerate(data.weights):
        out = np.empty((workload.batch, w.shape[1]), np.float32)
        # Adding arrays of equal shape is quicker than broadcasting.
        b = np.broadcast_to(b, out.shape).copy()
        rows.append((w, b, out, FORWARD[workload.activation_of(layer)]))

    def predict() -> np.ndarray:
        a = x
        for w, b, out, activation in rows:
            a.dot(w, out)
            np.add(out, b, out)
            activation(out)
            a = out
        return a

    return predict
