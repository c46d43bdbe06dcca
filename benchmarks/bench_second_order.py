"""L-BFGS and Levenberg–Marquardt on a smooth regression problem, and Adam in 20 times the time.

Run with ``python benchmarks/bench_second_order.py``. The problem is a function of six variables
that a network of 12 hidden units can represent: the outputs of one with four, float64. Each
optimizer of the whole batch runs until it stops or its iterations are over, and its time is taken.
Adam then gets 20 times that for each learning rate of a grid and each batch size, and its best
training error of all, wherever on its way it was met.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

import fastmlp as fm
import report

FACTOR = 20
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
BATCHES = (None, 30)
SIZES, TEACHER, ROWS = (6, 12, 1), (6, 4, 1), 300
SOLVERS = {
    "L-BFGS": lambda: fm.LBFGS(gtol=0.0, ftol=0.0),
    "Levenberg–Marquardt": lambda: fm.LevenbergMarquardt(gtol=0.0),
}


@dataclass
class Run:
    """One training: the least error on its way, its steps, its seconds."""

    error: float
    steps: int
    seconds: float


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Inputs, uniform in a cube, and the outputs of the teacher."""
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (ROWS, SIZES[0]))
    return x, fm.MLP(TEACHER, activation="tanh", dtype="float64", seed=9).predict(x)


def network() -> fm.MLP:
    """The network, from the same start each time."""
    return fm.MLP(SIZES, activation="tanh", dtype="float64", seed=0)


def solve(optimizer, iterations: int, threads: int | None) -> Run:
    """Train with an optimizer of the whole batch until it stops."""
    x, y = problem()
    model = network()
    start = time.perf_counter()
    history = model.fit(
        x, y, optimizer=optimizer, batch_size=None, epochs=iterations, threads=threads
    )
    seconds = time.perf_counter() - start
    return Run(model.evaluate(x, y)["loss"], len(history.epoch), seconds)


def descend(rate: float, batch: int | None, seconds: float, threads: int | None) -> Run:
    """Train with Adam for so many seconds; the least error of any epoch counts."""
    x, y = problem()
    model, optimizer = network(), fm.Adam(lr=rate)
    best, steps, epochs = float("inf"), 0, 1
    start = last = time.perf_counter()
    while last - start < seconds:
        try:
            # Without callbacks between epochs, which would slow it down.
            losses = model.fit(
                x, y, optimizer=optimizer, batch_size=batch, epochs=epochs, threads=threads
            ).history["loss"]
        except fm.DivergenceError:
            break
        best, steps = min(best, *losses), steps + epochs
        now = time.perf_counter()
        if now - last < 0.02 * seconds:
            epochs *= 2
        last = now
    return Run(best, steps, last - start)


def adam(seconds: float, threads: int | None) -> tuple[str, Run]:
    """The best of all learning rates and batch sizes."""
    runs = {
        f"lr {rate:g}, batch {batch or 'full'}": descend(rate, batch, seconds, threads)
        for rate in RATES
        for batch in BATCHES
    }
    return min(runs.items(), key=lambda item: item[1].error)


def main(argv: list[str] | None = None) -> int:
    """Print a table; fail if Adam gets as far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=2000, help="at most")
    parser.add_argument("--only", choices=SOLVERS, help="one of the two")
    parser.add_argument("--threads", type=int, default=1, help="one serves so small a network best")
    options = parser.parse_args(argv)
    table = [["", "iterations", "time", "error", "Adam's error", "in", "its best settings"]]
    beaten = True
    for name in [options.only] if options.only else SOLVERS:
        run = solve(SOLVERS[name](), options.iterations, options.threads)
        settings, other = adam(FACTOR * run.seconds, options.threads)
        beaten = beaten and run.error < other.error
        cells = [str(run.steps), report.duration(run.seconds), f"{run.error:.1e}"]
        cells += [f"{other.error:.1e}", report.duration(other.seconds), settings]
        table.append([name, *cells])
    print("\n".join(report.lines_up(table)))
    return 0 if beaten else 1


if __name__ == "__main__":
    raise SystemExit(main())
