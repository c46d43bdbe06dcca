"""scikit-learn's estimators against fastmlp's: ``python benchmarks/bench_estimators.py``.

Both are fitted with the same settings and the same `random_state`, so they compute the same
numbers; what is timed is the whole of `fit`. They take turns, some rounds, in one process; the
table shows the median time of an epoch and how many times as long scikit-learn takes. The goal is 4
times in float64 and 8 times in float32. "of peak" is the share of the processor's fused
multiply-adds that fastmlp reaches, and "bound" how many times as long as that peak scikit-learn
takes: a goal above it is out of reach of anything that computes the same numbers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

import machine
import report

GOALS = {"float64": 4.0, "float32": 8.0}
HIDDEN = ((100,), (256, 128))
#: Seconds between two fits: the threads of the one before must have stopped spinning.
SETTLE = 0.25


@dataclass(frozen=True)
class Task:
    """Data to classify.

    Attributes
    ----------
    name : str
    x : ndarray of float64, shape (n, n_in)
    y : ndarray of int, shape (n,)
    epochs : int
        Of one fit: enough that what is done once does not count.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    epochs: int

    def flops(self, hidden: tuple[int, ...]) -> int:
        """Of an epoch, the matrix products alone; the inputs have no gradient."""
        units = [self.x.shape[1], *hidden, int(self.y.max()) + 1]
        products = [fan_in * fan_out for fan_in, fan_out in pairwise(units)]
        return len(self.x) * (6 * sum(products) - 2 * products[0])


def tasks() -> list[Task]:
    """scikit-learn's digits, and a table of 50,000 rows, 100 columns and 10 classes."""
    from sklearn.datasets import load_digits, make_classification

    images, digits = load_digits(return_X_y=True)
    table, classes = make_classification(
        50_000, 100, n_informative=30, n_classes=10, random_state=0
    )
    return [
        Task("digits", images / 16.0, digits, 40),
        Task("50,000 × 100", table, classes, 10),
    ]


def fit(
    kind: type, task: Task, x: np.ndarray, hidden: tuple[int, ...], solver: str, alpha: float
) -> float:
    """Return the seconds of an epoch of a fit."""
    model = kind(
        hidden,
        solver=solver,
        alpha=alpha,
        max_iter=task.epochs,
        n_iter_no_change=np.inf,
        random_state=0,
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged is what was asked for
        model.fit(x, task.y)
    return (time.perf_counter() - start) / task.epochs


def measure(
    task: Task,
    dtype: str,
    hidden: tuple[int, ...],
    solver: str,
    alpha: float,
    rounds: int,
    peak: float,
) -> dict:
    """Return the median seconds of an epoch of both, their ratio, and its bound.

    `peak` is in GFLOP/s, of float32.
    """
    from sklearn.neural_network import MLPClassifier

    import fastmlp as fm

    x = task.x.astype(dtype)
    times: dict[str, list[float]] = {"scikit-learn": [], "fastmlp": []}
    for _ in range(rounds):
        for name, kind in (("scikit-learn", MLPClassifier), ("fastmlp", fm.MLPClassifier)):
            time.sleep(SETTLE)
            times[name].append(fit(kind, task, x, hidden, solver, alpha))
    medians = {name: statistics.median(values) for name, values in times.items()}
    least = 1e-9 * task.flops(hidden) / (peak if dtype == "float32" else peak / 2)
    return {
        "data": task.name,
        "hidden": list(hidden),
        "dtype": dtype,
        "solver": solver,
        "alpha": alpha,
        "seconds": medians,
        "ratio": medians["scikit-learn"] / medians["fastmlp"],
        "share_of_peak": least / medians["fastmlp"],
        "bound": medians["scikit-learn"] / least,
    }


def lines(results: list[dict]) -> list[list[str]]:
    """The table: one line a measurement."""
    head = ["", "hidden", "dtype", "solver", "scikit-learn", "fastmlp"]
    table = [[*head, "of peak", "times", "bound", "goal"]]
    for result in results:
        goal = GOALS[result["dtype"]]
        if result["ratio"] >= goal:
            verdict = f"{goal:g}: reached"
        else:
            verdict = f"{goal:g}: {'missed' if result['bound'] >= goal else 'out of reach'}"
        table.append(
            [
                result["data"],
                "-".join(map(str, result["hidden"])),
                result["dtype"],
                result["solver"],
                *(report.duration(seconds) for seconds in result["seconds"].values()),
                f"{100 * result['share_of_peak']:.0f} %",
                f"{result['ratio']:.1f}",
                f"{result['bound']:.1f}",
                verdict,
            ]
        )
    return table


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="fits of each (%(default)s)")
    parser.add_argument("--solver", choices=("adam", "sgd"), default="adam")
    parser.add_argument(
        "--alpha", type=float, default=1e-4, help="strength of the penalty (%(default)s)"
    )
    parser.add_argument(
        "--task",
        dest="tasks",
        type=int,
        choices=(0, 1),
        nargs="+",
        default=(0, 1),
        help="0: digits, 1: the table (both)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures")
    options = parser.parse_args(argv)
    quietness = machine.Quietness()
    peak, source = machine.peak()
    results = []
    for number in options.tasks:
        task = tasks()[number]
        for hidden in HIDDEN:
            for dtype in GOALS:
                ways = options.solver, options.alpha, options.rounds
                results.append(measure(task, dtype, hidden, *ways, peak))
                quietness.sample()
    print("\n".join(report.lines_up(lines(results), left=4)))
    print(f"The peak is {peak:.0f} GFLOP/s in float32 ({source}), half of it in float64.")
    print(quietness.sentence())
    if options.json:
        facts = {"machine": machine.describe() | {"peak_gflops": peak}}
        facts["quietness"] = quietness.as_dict()
        options.json.write_text(json.dumps(facts | {"results": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
