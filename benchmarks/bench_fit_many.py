"""Many tiny networks at once against one after another.

    python benchmarks/bench_fit_many.py [--networks 32] [--epochs 20] [--rows 12800] [--rounds 7]

prints the throughput of `fm.fit_many` as a multiple of that of training the same networks one after
another, each on one thread, and each on as many threads as serve it best. The ways take turns, and
a ratio is the median of the ratios of each round.

What the machine allows is found out in the same rounds: one process for each core, which share
nothing and train their part of the networks one after another on one thread each. Cores that are
slower when all of them work keep it below the number of cores, and nothing that trains in one
process can be expected to do better. Beside it stands the share of the cores' time that `fit_many`
worked: what is missing to 100 % is lost by waiting in it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from types import TracebackType

import numpy as np

import fastmlp as fm

#: Of each way the seconds passed and worked.
Times = dict[str, tuple[float, float]]
#: What is printed as a ratio of seconds.
COMPARED = (
    ("fit_many against one after another on one thread:", "one thread", "fit_many"),
    ("fit_many against one after another at its best:", "best threads", "fit_many"),
    ("the bound, processes against one thread:", "one thread", "processes"),
    ("fit_many against the bound:", "processes", "fit_many"),
)


def networks(count: int) -> list[fm.MLP]:
    return [fm.MLP([8, 32, 32, 1], activation="tanh", seed=seed) for seed in range(count)]


def settings(rows: int, epochs: int) -> dict[str, object]:
    """Return the arguments of `fit`."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 8)).astype("float32")
    y = np.sin(x.sum(axis=1)).astype("float32")
    rule = {"loss": "mse", "optimizer": fm.SGD(lr=0.05), "batch_size": 32}
    return {"x": x, "y": y, "epochs": epochs, **rule}


def one_by_one(models: list[fm.MLP], threads: int | None, given: dict[str, object]) -> None:
    for model in models:
        model.fit(threads=threads, **given)


def work_on_request(orders: Connection, rows: int, epochs: int) -> None:
    """Train as many networks as is asked for, until it is none: what each process does."""
    given = settings(rows, epochs)
    while count := orders.recv():
        models = networks(count)
        orders.send("ready")
        orders.recv()
        one_by_one(models, 1, given)
        orders.send("done")


class Processes:
    """One process for each core, which train their part of some networks."""

    def __init__(self, number: int, rows: int, epochs: int):
        context = multiprocessing.get_context("spawn")
        self._ends = []
        for _ in range(number):
            end, other = context.Pipe()
            context.Process(target=work_on_request, args=(other, rows, epochs), daemon=True).start()
            self._ends.append(end)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for end in self._ends:
            end.send(0)

    def seconds(self, count: int) -> float:
        """Return the seconds until all of `count` networks are trained."""
        busy = self._ends[:count]
        for number, end in enumerate(busy):
            end.send(len(range(number, count, len(busy))))
        for end in busy:
            end.recv()
        start = time.perf_counter()
        for end in busy:
            end.send("go")
        for end in busy:
            end.recv()
        return time.perf_counter() - start


def seconds(train: Callable[[list[fm.MLP]], object], count: int) -> tuple[float, float]:
    """Return the seconds that passed, and those that all cores worked."""
    models = networks(count)
    start, worked = time.perf_counter(), time.process_time()
    train(models)
    return time.perf_counter() - start, time.process_time() - worked


def measure(count: int, epochs: int, rows: int, rounds: int) -> list[Times]:
    """Return for each round the seconds of each way, passed and worked."""
    given = settings(rows, epochs)
    ways: dict[str, Callable[[int], tuple[float, float]]] = {
        "one thread": lambda n: seconds(lambda models: one_by_one(models, 1, given), n),
        "best threads": lambda n: seconds(lambda models: one_by_one(models, None, given), n),
        "fit_many": lambda n: seconds(lambda models: fm.fit_many(models, **given), n),
    }
    with ExitStack() as stack:
        number = fm.get_num_threads()
        if number > 1:
            processes = stack.enter_context(Processes(number, rows, epochs))
            ways["processes"] = lambda n: (processes.seconds(n), float("nan"))
        for way in ways.values():
            way(2 * number)
        return [{name: way(count) for name, way in ways.items()} for _ in range(rounds)]


def ratio(rounds: list[Times], before: str, after: str) -> str:
    """Return how many times as long the first way takes as the second."""
    ratios = sorted(times[before][0] / times[after][0] for times in rounds)
    return f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})"


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
    for title, before, after in COMPARED:
        if before in rounds[0] and after in rounds[0]:
            print(f"{title:<52}{ratio(rounds, before, after)}")
    shares = [worked / (threads * passed) for passed, worked in (t["fit_many"] for t in rounds)]
    title = "share of the cores' time that fit_many worked:"
    print(f"{title:<52}{statistics.median(shares):.1%}")


if __name__ == "__main__":
    main()
