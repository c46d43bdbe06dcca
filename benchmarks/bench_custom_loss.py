"""An epoch with a loss or an activation written as a graph function, beside built-in ones.

Run with ``python benchmarks/bench_custom_loss.py``. The workload is "mnist" of workloads.py; ways
take turns, and the ratio is that of their medians.
"""

from __future__ import annotations

import argparse
import statistics

import fastmlp as fm
import harness
import report
import workloads
from fastmlp import graph as g

WAYS = {
    "mse, relu": ("mse", "relu"),
    "(ŷ − y)², relu": (g.loss(lambda y_hat, y: (y_hat - y) ** 2), "relu"),
    "mse, max(z, 0)": ("mse", g.activation(lambda z: g.maximum(z, 0.0))),
    "mse, silu": ("mse", "silu"),
    "mse, z σ(z)": ("mse", g.activation(lambda z: z * g.sigmoid(z))),
}
BUILT_IN = {
    "(ŷ − y)², relu": "mse, relu",
    "mse, max(z, 0)": "mse, relu",
    "mse, z σ(z)": "mse, silu",
}


def measure(workload: workloads.Workload, rounds: int, threads: int | None) -> dict[str, float]:
    """Return the median seconds of an epoch, by way."""
    data = workload.data()
    trainers = {
        way: fm.Trainer(
            fm.MLP(workload.sizes, activation, seed=0),
            loss=loss,
            optimizer=fm.Adam(lr=workload.lr),
            batch_size=workload.batch,
            threads=threads,
        )
        for way, (loss, activation) in WAYS.items()
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
    workload = workloads.get("mnist")
    seconds = measure(workload, options.rounds, options.threads)
    table = [["loss, activation", "epoch", "ratio to built-in"]]
    for way, value in seconds.items():
        built_in = BUILT_IN.get(way)
        ratio = f"{value / seconds[built_in]:.2f}" if built_in else ""
        table.append([way, report.duration(value), ratio])
    print("\n".join(report.lines_up(table)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
