"""An epoch with regularising and normalising layers, beside the plain one.

Run with ``python benchmarks/bench_layers.py``. The workload is "mnist" of workloads.py, trained by
Adam; ways take turns, and the ratio is that of their medians.
"""

from __future__ import annotations

import argparse
import statistics
from typing import TYPE_CHECKING

import fastmlp as fm
import harness
import report
import workloads

if TYPE_CHECKING:
    from collections.abc import Callable

# What stands behind each hidden layer, and the settings of those layers.
WAYS: dict[str, tuple[Callable[[], list[fm.layers.Layer]], dict[str, float]]] = {
    "plain": (list, {}),
    "Dropout(0.5)": (lambda: [fm.Dropout(0.5)], {}),
    "GaussianNoise(0.1)": (lambda: [fm.GaussianNoise(0.1)], {}),
    "BatchNorm": (lambda: [fm.BatchNorm()], {}),
    "LayerNorm": (lambda: [fm.LayerNorm()], {}),
    "Scale": (lambda: [fm.Scale()], {}),
    "max_norm=2": (list, {"max_norm": 2.0}),
}


def model(workload: workloads.Workload, way: str) -> fm.Sequential:
    """Return the network of the workload with the layers of a way."""
    behind, settings = WAYS[way]
    layers: list[fm.layers.Layer] = []
    for units in workload.sizes[1:-1]:
        layers += [fm.Dense(units, workload.activation, **settings), *behind()]
    layers.append(fm.Dense(workload.sizes[-1]))
    return fm.Sequential(layers, input_size=workload.sizes[0], seed=0)


def measure(workload: workloads.Workload, rounds: int, threads: int | None) -> dict[str, float]:
    """Return the median seconds of an epoch, by way."""
    data = workload.data()
    trainers = {
        way: fm.Trainer(
            model(workload, way),
            optimizer=fm.Adam(lr=workload.lr),
            batch_size=workload.batch,
            threads=threads,
        )
        for way in WAYS
    }
    epochs = {
        way: lambda seed, trainer=trainer: trainer.epoch(data.x, data.y, seed=seed)
        for way, trainer in trainers.items()
    }
    seconds = harness.take_turns(epochs, rounds)
    return {way: statistics.median(times) for way, times in seconds.items()}


def main(argv: list[str] | None = None) -> int:
    """Print a table of epochs and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(argv)
    seconds = measure(workloads.get("mnist"), options.rounds, options.threads)
    table = [["behind each hidden layer", "epoch", "ratio to plain"]]
    for way, value in seconds.items():
        table.append([way, report.duration(value), f"{value / seconds['plain']:.2f}"])
    print("\n".join(report.lines_up(table)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
