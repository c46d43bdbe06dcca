"""The same bits whatever the number of threads, for every optimizer and dtype."""

import hashlib

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import optimizers

# An odd network: partial blocks, more than one chunk of inputs, a smaller last mini-batch.
SIZES, ROWS, BATCH = [290, 47, 20, 5], 101, 40


def digest(optimizer, dtype, threads):
    model = fm.MLP(SIZES, activation="gelu", dtype=dtype, seed=3)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((ROWS, SIZES[0])), rng.standard_normal((ROWS, SIZES[-1]))
    model.fit(x, y, optimizer=optimizer, batch_size=BATCH, epochs=2, seed=1, threads=threads)
    return hashlib.sha256(model.flat_parameters.array().tobytes()).hexdigest()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_threads_do_not_change_bits(name, dtype, isa):
    digests = {digest(optimizers.get(name), dtype, threads) for threads in (1, 2, 3, 7)}
    assert len(digests) == 1


def test_many_threads_and_full_batches(isa):
    def train(threads):
        model = fm.MLP([17, 40, 1], activation="tanh", seed=0)
        rng = np.random.default_rng(1)
        x, y = rng.standard_normal((600, 17)), rng.standard_normal(600)
        model.fit(x, y, optimizer="adam", batch_size=None, epochs=3, threads=threads)
        return model.flat_parameters.array().tobytes()

    assert len({train(threads) for threads in (1, 2, 4, 16)}) == 1
