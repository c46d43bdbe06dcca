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
from fastmlp.callbacks import Callback

FACTOR = 20
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
BATCHES = (None, 30)
SIZES, TEACHER, ROWS = (6, 12, 1), (6, 4, 1), 300
SOLVERS = {
    "L-BFGS": lambda iterations: (fm.LBFGS(history=30, gtol=0.0, ftol=0.0), iterations),
    "Levenberg–Marquardt": lambda iterations: (
        fm.LevenbergMarquardt(gtol=0.0),
        max(1, iterations // 20),
    ),
}


@dataclass
class Run:
    """One training: the least error on its way, its steps, its seconds."""

    error: float
    steps: int
    seconds: float


class Clock(Callback):
    """Stops a training after so many seconds."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def on_train_begin(self, logs=None):
        self.end = time.perf_counter() + self.seconds

    def on_epoch_end(self, epoch, logs=None):
        if time.perf_counter() > self.end:
            self.model.stop_training = True


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Inputs, uniform in a cube, and the outputs of the teacher."""
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (ROWS, SIZES[0]))
    return x, fm.MLP(TEACHER, activation="tanh", dtype="float64", seed=9).predict(x)


def train(optimizer, epochs, batch_size=None, seconds=None, threads=None) -> Run:
    """Train a new network, from the same start each time."""
    x, y = problem()
    model = fm.MLP(SIZES, activation="tanh", dtype="float64", seed=0)
    callbacks = [] if seconds is None else [Clock(seconds)]
    start = time.perf_counter()
    try:
        losses = model.fit(
            x, y, optimizer=optimizer, batch_size=batch_size, epochs=epochs,
            callbacks=callbacks, threads=threads,
        ).history["loss"]  # fmt: skip
    except fm.DivergenceError:
        return Run(float("inf"), 0, time.perf_counter() - start)
    used = time.perf_counter() - start
    last = model.evaluate(x, y)["loss"]
    return Run(min(*losses, last), len(losses), used)


def adam(seconds: float, threads: int | None) -> tuple[str, Run]:
    """The best of all learning rates and batch sizes."""
    runs = {
        f"lr {rate:g}, batch {batch or 'full'}": train(
            fm.Adam(lr=rate), 10**9, batch, seconds, threads
        )
        for rate in RATES
        for batch in BATCHES
    }
    return min(runs.items(), key=lambda item: item[1].error)


def main(argv: list[str] | None = None) -> int:
    """Print a table; fail if Adam gets as far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=2000, help="of L-BFGS")
    parser.add_argument("--threads", type=int, default=1, help="one serves so small a network best")
    options = parser.parse_args(argv)
    table = [["", "iterations", "time", "error", "Adam's error", "in", "its best settings"]]
    beaten = True
    for name, make in SOLVERS.items():
        run = train(*make(options.iterations), threads=options.threads)
        settings, other = adam(FACTOR * run.seconds, options.threads)
        beaten = beaten and run.error < other.error
        cells = [str(run.steps), report.duration(run.seconds), f"{run.error:.1e}"]
        cells += [f"{other.error:.1e}", report.duration(other.seconds), settings]
        table.append([name, *cells])
    print("\n".join(report.lines_up(table)))
    return 0 if beaten else 1


if __name__ == "__main__":
    raise SystemExit(main())
