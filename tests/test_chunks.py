"""Training chunk by chunk: the same bits as every other way, whatever the chunks, and no more
memory.
"""

import hashlib

import numpy as np
import pytest

import cases
import fastmlp as fm
from fastmlp import losses
from fastmlp.backends import native
from fastmlp.backends.lowering import chunk_starts, largest_chunk
from fastmlp.sources import Source


def run(model, loss, optimizer, source, batch, *, threads, strategy, order=None, **settings):
    """Train for two epochs by one strategy; return its digest, and whether it was followed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "STRATEGIES", (strategy,))
        executor = native.Executor(model, losses.get(loss), optimizer, threads=threads, **settings)
        count = -(-source.n // batch)
        values = np.zeros(2 * count)
        for epoch in range(2):
            executor.train(source, order, batch, 0, count, values[epoch * count :])
        used = {p.tuners[s].best.strategy for p in executor._cache.values() for s in p.tuners}
    state = optimizer.state_for(model).vectors().values()
    arrays = [values, model.flat_parameters.array(), *(vector.array() for vector in state)]
    assert all(np.isfinite(array).all() for array in arrays)
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest(), strategy in used


def compare(make, loss, optimizer, source, batch, *, threads=(1, 2, 3, 7), **settings):
    """Check that chunks are followed and give the bits of rows on one thread."""
    expected, _ = run(
        make(), loss, optimizer(), source, batch, threads=1, strategy="rows", **settings
    )
    for count in threads:
        for strategy in ("chunks", "columns"):
            found, followed = run(
                make(),
                loss,
                optimizer(),
                source,
                batch,
                threads=count,
                strategy=strategy,
                **settings,
            )
            assert followed or (strategy == "columns" and count == 1)
            assert found == expected, (strategy, count)


def arrays(rows, sizes, dtype="float32"):
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, sizes[0])).astype(dtype)
    return x, rng.standard_normal((rows, sizes[-1])).astype(dtype)


def mlp(sizes, dtype="float32", activation="tanh", **settings):
    return lambda: fm.MLP(sizes, activation=activation, dtype=dtype, seed=3, **settings)


@pytest.mark.parametrize("rows", [1, 16, 255, 256, 257, 511, 512, 513, 1000, 4097, 10_001, 60_000])
def test_chunks_cover_the_rows(rows):
    starts = chunk_starts(rows)
    sizes = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] == rows
    assert (starts[:-1] % 16 == 0).all()
    assert (sizes > 0).all()
    assert largest_chunk(starts) == sizes.max() <= 256
    assert (len(starts) - 1).bit_count() == 1
    assert len(starts) == 2 or -(-rows // 16) > 16 * (len(starts) - 1) // 2


@pytest.mark.parametrize("rows", [257, 1000, 10_001])
@pytest.mark.parametrize("sizes", [(4, 32, 16, 4), (5, 33, 1), (100, 70, 3)], ids=str)
def test_bits_of_odd_batches(rows, sizes, dtype, isa):
    if isa == "portable" and rows > 1000:
        pytest.skip("slow, and it takes the same way")
    source = Source(*arrays(rows, sizes, dtype))
    compare(mlp(sizes, dtype), "mse", fm.Adam, source, rows, threads=(1, 2, 7))


@pytest.mark.parametrize("optimizer", cases.OPTIMIZERS)
def test_bits_of_every_optimizer(optimizer, dtype):
    sizes = (6, 20, 17, 3)
    source = Source(*arrays(700, sizes, dtype))
    for make in cases.OPTIMIZERS[optimizer]:
        compare(mlp(sizes, dtype), "mse", make, source, 300, threads=(2, 3))


@pytest.mark.parametrize(
    "settings",
    [
        {"l1": 0.01, "l2": 0.1},
        {"clip_value": 0.001, "l2": 0.1},
        {"clip_norm": 0.01},
        {"clip_norm": 0.01, "l2": 0.1, "clip_value": 0.01},
    ],
    ids=str,
)
def test_bits_with_what_surrounds_the_update(settings, dtype):
    sizes = (6, 40, 17, 3)
    source = Source(*arrays(600, sizes, dtype))
    compare(mlp(sizes, dtype), "mse", fm.Adam, source, 600, threads=(1, 3), **settings)


@pytest.mark.parametrize("kind", ["uint8", "float16", "float64", "int32", "strided"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_bits_of_any_input(kind, shuffled):
    sizes, rows = (30, 20, 4), 1500
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 3, (rows, 60)).astype(kind if kind != "strided" else "f4"), None
    x = x[:, ::2] if kind == "strided" else np.ascontiguousarray(x[:, :30])
    y = rng.standard_normal((rows, 4)).astype("float32")
    order = rng.permutation(rows).astype(np.uint32) if shuffled else None
    compare(mlp(sizes), "mse", fm.SGD, Source(x, y), 700, threads=(1, 2), order=order)


def test_bits_with_sample_weights_and_labels(dtype):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((1100, 7)).astype(dtype)
    weight = rng.random(1100) * (rng.random(1100) < 0.7)  # many rows are masked out
    labels = rng.integers(0, 5, 1100)
    for batch in (1100, 600):
        source = Source(x, labels, weight, 5)
        compare(mlp((7, 24, 5), dtype), "cross_entropy", fm.Adam, source, batch, threads=(1, 3))
        real = Source(x, x[:, :1].copy(), weight)
        compare(mlp((7, 24, 1), dtype), "huber", fm.Adam, real, batch, threads=(1, 3))


def test_bits_of_averages():
    x, y = arrays(600, (6, 17, 3))
    found = set()
    for strategy in ("rows", "chunks"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "STRATEGIES", (strategy,))
            model = mlp((6, 17, 3))()
            model.fit(x, y, optimizer="adam", batch_size=600, epochs=3, ema=0.9, threads=2)
            found.add(model.flat_parameters.array().tobytes())
    assert len(found) == 1


def test_a_profile_counts_all_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "STRATEGIES", ("chunks",))
        profile = fm.profile(mlp((4, 32, 16, 4))(), 1000, threads=2, seconds=0.01)
    assert profile.strategy == "chunks"
    assert profile.flops == pytest.approx((6 * (128 + 512 + 64) - 2 * 128) * 1000)
    assert sum(step.barrier for step in profile.steps) >= 2


def test_bits_of_random_layers(dtype):
    def make():
        layers = [fm.GaussianNoise(0.1), fm.Dense(40, "relu"), fm.Dropout(0.3), fm.Dense(3)]
        return fm.Sequential(layers, input_size=9, dtype=dtype, seed=1)

    source = Source(*arrays(900, (9, 3), dtype))
    compare(make, "mse", fm.Adam, source, 900)


def test_bits_of_other_layers(dtype):
    def make():
        inner = [fm.Dense(18, "gelu"), fm.Dense(18)]
        layers = [fm.Dense(18, "silu"), fm.Residual(inner), fm.Dense(3, "softmax")]
        return fm.Sequential(layers, input_size=9, dtype=dtype, seed=1)

    source = Source(*arrays(900, (9, 3), dtype))
    compare(make, "mse", fm.Adam, source, 900, threads=(1, 2))


def test_bits_of_functions_of_the_user(dtype):
    loss = fm.graph.loss(lambda y_hat, y: fm.graph.abs(y_hat - y) ** 1.5)
    function = fm.graph.activation(lambda z: z / (1 + fm.graph.abs(z)))
    for outputs in (1, 3):
        sizes = (9, 20, outputs)
        source = Source(*arrays(900, sizes, dtype))
        make = mlp(sizes, dtype, function, output_activation=function)
        compare(make, loss, fm.Adam, source, 900, threads=(1, 2))


def test_batch_norm_needs_the_whole_mini_batch():
    layers = [fm.Dense(20, "relu"), fm.BatchNorm(), fm.Dense(3)]
    model = fm.Sequential(layers, input_size=9, seed=1)
    source = Source(*arrays(900, (9, 3)))
    _, followed = run(model, "mse", fm.Adam(), source, 900, threads=2, strategy="chunks")
    assert not followed


def test_chunks_take_no_more_memory():
    """Partial gradients of a wide network would be larger than the activations they replace."""
    for sizes, batch, expected in (
        ((4, 32, 16, 4), 10_000, True),
        ((300, 700, 500, 3), 300, False),
    ):
        source = Source(*arrays(batch, sizes))
        model = mlp(sizes)()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "STRATEGIES", ("rows", "chunks"))
            executor = native.Executor(model, losses.get("mse"), fm.SGD(), threads=2)
            executor.train(source, None, batch, 0, 1, np.zeros(1))
        (programs,) = executor._cache.values()
        assert (programs.chunked is not None) == expected
        assert programs.arena_bytes <= 2 * programs.lowering.arena_bytes


def test_agrees_with_the_reference(dtype):
    """By the rounding of sums of as many terms as there are rows; SGD passes it on linearly."""
    sizes, rows = (4, 32, 16, 4), 3000
    x, y = arrays(rows, sizes, dtype)
    native_model, reference = mlp(sizes, dtype)(), mlp(sizes, dtype)()
    settings = {"loss": "mse", "batch_size": rows, "epochs": 3, "shuffle": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "STRATEGIES", ("chunks",))
        native_model.fit(x, y, optimizer=fm.SGD(lr=0.1), threads=2, **settings)
    reference.fit(x, y, optimizer=fm.SGD(lr=0.1), backend="reference", **settings)
    eps = np.finfo(dtype).eps
    a, b = native_model.flat_parameters.array(), reference.flat_parameters.array()
    np.testing.assert_allclose(a, b, rtol=0, atol=100 * eps * np.abs(b).max())


def test_fewer_workers_than_asked_for():
    """Inside a parallel region of somebody else's the runtime may grant one worker alone."""
    sizes = (4, 32, 16, 4)
    source = Source(*arrays(2000, sizes))
    many, _ = run(mlp(sizes)(), "mse", fm.Adam(), source, 2000, threads=40, strategy="chunks")
    one, _ = run(mlp(sizes)(), "mse", fm.Adam(), source, 2000, threads=1, strategy="chunks")
    assert many == one


def test_rests_of_other_programs(dtype):
    """Whole mini-batches by chunks, or gathered, and a rest by rows, or in place: same bits."""
    for sizes, rows, batch in (((4, 32, 16, 4), 1000, 600), ((50, 300, 3), 202, 64)):
        x, y = arrays(rows, sizes, dtype)
        found = set()
        for strategy in ("rows", "columns", "chunks"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(native, "STRATEGIES", (strategy,))
                model = mlp(sizes, dtype)()
                trainer = fm.Trainer(model, optimizer="adam", batch_size=batch, threads=2)
                for _ in range(8):
                    trainer.epoch(x, y, seed=0)
                found.add(model.flat_parameters.array().tobytes())
        assert len(found) == 1
