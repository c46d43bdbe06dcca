"""An epoch of Adam with each tool of training turned on, beside the plain one.

Run with ``python benchmarks/bench_toolbox.py``. The workload is "mnist" of workloads.py with the
plain form of the loss that a tool belongs to (cross-entropy for label smoothing, otherwise the mean
squared error). Ways take turns, and a ratio is the median of the ratios of each turn, in which both
were measured side by side.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastmlp as fm
import harness
import report
import workloads

COMMON = 1.15


def adam(lr: Any = 1e-3) -> fm.Adam:
    return fm.Adam(lr=lr)


@dataclass(frozen=True)
class Way:
    """One thing turned on.

    Attributes
    ----------
    name : str
    goal : float or None
        What the ratio to the plain epoch shall not exceed.
    optimizer : callable
        Without arguments.
    loss : str or Loss
    settings : dict
        Of the Trainer.
    behind : callable, optional
        Makes the layers that stand behind each hidden layer.
    weighted : bool
        Whether samples have weights.
    plain : str
        The way that it is compared with.
    """

    name: str
    goal: float | None = COMMON
    optimizer: Callable[[], Any] = adam
    loss: Any = "mse"
    settings: dict[str, Any] = field(default_factory=dict)
    behind: Callable[[], Sequence[Any]] = tuple
    weighted: bool = False
    plain: str = "plain Adam"


WAYS = (
    Way("plain Adam", None),
    Way("momentum", optimizer=lambda: fm.SGD(lr=1e-3, momentum=0.9)),
    Way("schedule", optimizer=lambda: adam(fm.schedules.OneCycle(1e-3, 100_000))),
    Way("dropout", behind=lambda: (fm.Dropout(0.1),)),
    Way("l2", settings={"l2": 1e-4}),
    Way("clip_value", settings={"clip_value": 0.1}),
    Way("clip_norm", 1.25, settings={"clip_norm": 1.0}),
    Way("sample weights", weighted=True),
    Way("cross-entropy", None, loss="cross_entropy"),
    Way(
        "label smoothing",
        loss=fm.losses.CrossEntropy(label_smoothing=0.1),
        plain="cross-entropy",
    ),
    Way("ema", 1.25, settings={"ema": 0.999}),
    Way("LayerNorm", 1.5, behind=lambda: (fm.LayerNorm(),)),
    Way("BatchNorm", 1.5, behind=lambda: (fm.BatchNorm(),)),
)


def epoch_of(
    way: Way, workload: workloads.Workload, data: workloads.Data, threads: int | None
) -> Callable[[int], float]:
    """Return a function of a seed that trains for one epoch."""
    layers: list[Any] = []
    *hidden, last = workload.sizes[1:]
    for units in hidden:
        layers += [fm.Dense(units, workload.activation), *way.behind()]
    layers.append(fm.Dense(last))
    model = fm.Sequential(layers, input_size=workload.sizes[0], seed=0)
    y, settings = data.y, dict(way.settings, batch_size=workload.batch, threads=threads)
    if "cross" in getattr(way.loss, "name", way.loss):
        y = np.eye(last, dtype=np.float32)[data.y.argmax(axis=1)]
    weight = np.linspace(0.5, 1.5, len(y)) if way.weighted else None
    trainer = fm.Trainer(model, way.loss, way.optimizer(), **settings)
    return lambda seed: trainer.epoch(data.x, y, seed=seed, sample_weight=weight)


def measure(
    workload: workloads.Workload, ways: Sequence[Way], rounds: int, threads: int | None
) -> dict[str, list[float]]:
    """Return the seconds of the epochs of each way, a number for each turn."""
    data = workload.data()
    epochs = {way.name: epoch_of(way, workload, data, threads) for way in ways}
    return harness.take_turns(epochs, rounds)


def table_of(
    ways: Sequence[Way], seconds: dict[str, list[float]], batches: int
) -> tuple[list[list[str]], bool]:
    """Return a table of steps, ratios and goals, and whether all goals are met."""
    table, met = [["turned on", "a step", "ratio to plain", "goal", ""]], True
    for way in ways:
        times = seconds[way.name]
        cells = [way.name, report.duration(statistics.median(times) / batches)]
        if way.goal is None:
            table.append([*cells, "", "", ""])
            continue
        pairs = zip(times, seconds[way.plain], strict=True)
        ratio = statistics.median(own / plain for own, plain in pairs)
        met &= ratio <= way.goal
        verdict = "" if ratio <= way.goal else "above"
        table.append([*cells, f"{ratio:.2f}", f"{way.goal:g}", verdict])
    return table, met


def main(argv: list[str] | None = None) -> int:
    """Print the table; the exit code is 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25, help="turns (%(default)s)")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(argv)
    workload = workloads.get("mnist")
    seconds = measure(workload, WAYS, options.rounds, options.threads)
    table, met = table_of(WAYS, seconds, workload.batches)
    print("\n".join(report.lines_up(table)))
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
