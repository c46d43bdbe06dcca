"""JAX at its strongest: the whole epoch is one jitted ``lax.scan`` whose carry is donated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workloads import ADAM_BETAS, ADAM_EPS, MOMENTUM, Data, Workload

from . import Variant

NAME = "JAX"
REQUIRES = "jax"
VARIANTS = (Variant("scan, all threads"),)


def refuses(workload: Workload, variant: Variant) -> str | None:
    return None


def setup(workload: Workload, data: Data, variant: Variant) -> Callable[[], object]:
    import jax
    import jax.numpy as jnp

    activations = {
        "relu": jax.nn.relu,
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
        "identity": lambda z: z,
    }

    def forward(weights, x):
        a = x.astype(jnp.float32)
        for layer, (w, b) in enumerate(weights):
            a = activations[workload.activation_of(layer)](a @ w + b)
        return a

    def loss_of(weights, x, y):
        return jnp.mean((forward(weights, x) - y) ** 2)

    weights = jax.tree.map(jnp.asarray, data.weights)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)

    if workload.kind == "predict":
        # Weights that are constants of the compiled function need not be passed.
        predict = jax.jit(lambda x: forward(weights, x))
        return lambda: predict(x).block_until_ready()

    update = _optimizer(workload)

    def train(carry, batch):
        weights, state = carry
        if data.order is not None:
            # The gather belongs to every mini-batch: here "batch" holds row numbers.
            batch = (x_all[batch], y_all[batch])
        loss, gradients = jax.value_and_grad(loss_of)(weights, *batch)
        return update(weights, gradients, state), loss

    zeros = jax.tree.map(jnp.zeros_like, weights)
    state = {
        "sgd": (),
        "momentum": zeros,
        "adam": (zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), jnp.float32)),
    }[workload.optimizer]

    if data.order is None:
        shape = (workload.batches, workload.batch, -1)
        batches = (x.reshape(shape), y.reshape(shape))
        x_all = y_all = None
    else:
        batches = jnp.asarray(data.order.astype(np.int32).reshape(workload.batches, -1))
        x_all, y_all = x, y

    def run(carry, batches):
        carry, losses = jax.lax.scan(train, carry, batches)
        return carry, losses.mean()

    scan = jax.jit(run, donate_argnums=0)
    carry = jax.block_until_ready((weights, state))

    def epoch() -> float:
        nonlocal carry
        carry, loss = scan(carry, batches)
        # Reading the loss waits for the end of the epoch.
        return float(loss)

    return epoch


def _optimizer(workload: Workload) -> Callable:
    """(weights, gradients, state) → (weights, state), PyTorch's rules."""
    import jax
    import jax.numpy as jnp

    lr = workload.lr
    beta1, beta2 = ADAM_BETAS

    def sgd(weights, gradients, state):
        return jax.tree.map(lambda w, g: w - lr * g, weights, gradients), state

    def momentum(weights, gradients, state):
        state = jax.tree.map(lambda v, g: MOMENTUM * v + g, state, gradients)
        return jax.tree.map(lambda w, v: w - lr * v, weights, state), state

    def adam(weights, gradients, state):
        m, v, count = state
        count = count + 1
        m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, gradients)
        v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, gradients)
        step = lr / (1 - beta1**count)
        root = jnp.sqrt(1 - beta2**count)
        weights = jax.tree.map(
            lambda w, m, v: w - step * m / (jnp.sqrt(v) / root + ADAM_EPS), weights, m, v
        )
        return weights, (m, v, count)

    return {"sgd": sgd, "momentum": momentum, "adam": adam}[workload.optimizer]
