"""Many tiny networks at once against one after another.

    python benchmarks/bench_fit_many.py [--networks 32] [--epochs 20] [--rows 12800] [--rounds 7]

prints the throughput of `fm.fit_many` as a multiple of that of training the same networks one after
another, each on one thread, and each on as many threads as serve it best. The ways take turns, and
a ratio is the median of the ratios of each round. Beside it stands the share of the cores' time
that was worked: what is missing to 100 % is lost by waiting in `fit_many`, what is missing to the
ratio beyond that by cores that are slower when all work.
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


def seconds(train: Callable[[list[fm.MLP]], object], count: int) -> tuple[float, float]:
    """Return the seconds that passed, and those that all cores worked."""
    models = networks(count)
    start, worked = time.perf_counter(), time.process_time()
    train(models)
    return time.perf_counter() - start, time.process_time() - worked


def measure(
    count: int, epochs: int, rows: int, rounds: int
) -> list[dict[str, tuple[float, float]]]:
    """Return for each round the seconds of each way, passed and worked."""
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
    return [{name: seconds(train, count) for name, train in ways.items()} for _ in range(rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=12800)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rounds = measure(options.networks, options.epochs, options.rows, options.rounds)
    steps = options.networks * options.epochs * -(-options.rows // 32)
    threads = fm.get_num_threads()
    print(f"{options.networks} networks 8-32-32-1, {threads} threads, {steps} steps, medians")
    for name in rounds[0]:
        taken = statistics.median(times[name][0] for times in rounds)
        print(f"{name:<14}{taken:8.3f} s {steps / taken:14,.0f} steps/s")
    for title, name in (("on one thread", "one thread"), ("at its best", "best threads")):
        ratios = sorted(times[name][0] / times["fit_many"][0] for times in rounds)
        print(
            f"against one after another {title}: {statistics.median(ratios):.2f} x"
            f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    shares = [worked / (threads * passed) for passed, worked in (t["fit_many"] for t in rounds)]
    print(f"share of the cores' time that fit_many worked: {statistics.median(shares):.1%}")


if __name__ == "__main__":
    main()
