"""Many tiny networks at once against one after another.

    python benchmarks/bench_fit_many.py [--networks 32] [--epochs 20] [--rows 12800] [--rounds 3]

prints the throughput of `fm.fit_many` as a multiple of that of training the same networks one after
another, each on one thread, and each on as many threads as serve it best.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

import fastmlp as fm


def networks(count: int) -> list[fm.MLP]:
    return [fm.MLP([8, 32, 32, 1], activation="tanh", seed=seed) for seed in range(count)]


def data(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 8)).astype("float32")
    return x, np.sin(x.sum(axis=1)).astype("float32")


def seconds(train: Callable[[list[fm.MLP]], object], count: int) -> float:
    models = networks(count)
    start = time.perf_counter()
    train(models)
    return time.perf_counter() - start


def measure(count: int, epochs: int, rows: int, rounds: int) -> dict[str, float]:
    """Return the seconds of each way, the medians of some rounds."""
    x, y = data(rows)
    settings = {"loss": "mse", "optimizer": fm.SGD(lr=0.05), "batch_size": 32, "epochs": epochs}

    def one_by_one(models: list[fm.MLP], threads: int | None) -> None:
        for model in models:
            model.fit(x, y, threads=threads, **settings)

    ways = {
        "one thread": lambda models: one_by_one(models, 1),
        "best threads": lambda models: one_by_one(models, None),
        "fit_many": lambda models: fm.fit_many(models, x, y, **settings),
    }
    for train in ways.values():
        train(networks(2))
    times = [{name: seconds(train, count) for name, train in ways.items()} for _ in range(rounds)]
    return {name: statistics.median(t[name] for t in times) for name in ways}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=12800)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    times = measure(options.networks, options.epochs, options.rows, options.rounds)
    steps = options.networks * options.epochs * -(-options.rows // 32)
    print(f"{options.networks} networks 8-32-32-1, {fm.get_num_threads()} threads, {steps} steps")
    for name, taken in times.items():
        print(f"{name:<14}{taken:8.3f} s {steps / taken:14,.0f} steps/s")
    many = times["fit_many"]
    print(f"against one after another on one thread: {times['one thread'] / many:.2f} x")
    print(f"against one after another at its best:   {times['best threads'] / many:.2f} x")


if __name__ == "__main__":
    main()
