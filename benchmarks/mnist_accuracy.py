"""Reach published accuracies on MNIST: ``python benchmarks/mnist_accuracy.py``.

- "nielsen": 784-100-10 of sigmoids, cross-entropy summed over the outputs, plain SGD at rate 0.1,
  λ = 5, mini-batches of 10, 60 epochs of the first 50,000 images; judged on the 10,000 validation
  images behind them. Published as 98.04 % (M. Nielsen, Neural Networks and Deep Learning, chapter
  3): its highest epoch; the goal is the median of five seeds within 0.2 of it.
- "dropout": 784-800-10 with ReLU, dropout of 0.2 on the inputs and 0.5 on the hidden layer, Adam on
  a one-cycle schedule, all 60,000 images, judged on the 10,000 of the test after the last epoch.
  The goal is an error of at most 1.4 %.

Where PyTorch is installed, an epoch of the same training in it is timed beside ours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nielsen_table
import report

#: Beside the repository; the environment variable FASTMLP_MNIST says otherwise.
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"

Data = dict[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """One training: accuracy in per cent as it is judged, and seconds of an epoch."""

    accuracy: float
    seconds: float


def nielsen(data: Data, seed: int, epochs: int) -> Run:
    """Train the published network; `data` as `nielsen_table.load` returns it."""
    from dataclasses import replace

    row = next(row for row in nielsen_table.ROWS if row.name == "cross_entropy_60")
    row = replace(row, epochs=epochs)
    history, seconds = nielsen_table.accuracies(row, data, seed)
    return Run(100.0 * max(history), seconds / epochs)


def dropout(data: Data, seed: int, epochs: int) -> Run:
    """Train the wide network with dropout."""
    import fastmlp as fm

    x, y = everything(data)
    model = fm.Sequential(
        [fm.Dropout(0.2), fm.Dense(800, "relu"), fm.Dropout(0.5), fm.Dense(10)],
        input_size=784,
        seed=seed,
    )
    steps = epochs * -(-len(x) // 128)
    optimizer = fm.Adam(lr=fm.schedules.OneCycle(2e-3, steps))
    history = model.fit(
        x, y, loss="cross_entropy", optimizer=optimizer, batch_size=128, epochs=epochs, seed=seed
    )
    right = model.predict(data["x_test"]).argmax(axis=1) == data["y_test"]
    return Run(100.0 * float(right.mean()), statistics.median(history.time))


def everything(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return all 60,000 images and their labels."""
    labels = np.concatenate([data["y"].argmax(axis=1), data["y_val"]])
    return np.concatenate([data["x"], data["x_val"]]), labels


def torch_epoch(name: str, data: Data) -> float:
    """Return the seconds of an epoch of the same training in PyTorch, with all its threads."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if name == "nielsen":
        x, y, size = torch.from_numpy(data["x"]), torch.from_numpy(data["y"]).float(), 10
        model = nn.Sequential(nn.Linear(784, 100), nn.Sigmoid(), nn.Linear(100, 10))
        bce = nn.BCEWithLogitsLoss(reduction="sum")
        weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
        biases = [layer.bias for layer in model if isinstance(layer, nn.Linear)]
        groups = [{"params": weights, "weight_decay": nielsen_table.L2}, {"params": biases}]
        optimizer = torch.optim.SGD(groups, lr=0.1)
        schedule = None

        def loss(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return bce(z, t) / len(z)
    else:
        images, labels = everything(data)
        x, y, size = torch.from_numpy(images), torch.from_numpy(labels), 128
        model = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(784, 800), nn.ReLU(), nn.Dropout(0.5), nn.Linear(800, 10)
        )
        loss = nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        total = 1000 + -(-len(x) // size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=total)
    order = torch.randperm(len(x))
    start = time.perf_counter()
    for first in range(0, len(x), size):
        rows = order[first : first + size]
        optimizer.zero_grad()
        loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Task:
    """A row: how it is trained, for how many epochs and seeds, and the least accuracy."""

    name: str
    train: Callable[[Data, int, int], Run]
    epochs: int
    seeds: int
    published: str
    least: float


TASKS = (
    Task("nielsen", nielsen, 60, 5, "98.04", 97.84),
    Task("dropout", dropout, 40, 1, "–", 98.6),
)


def table_of(rows: Sequence[tuple[Task, list[Run], float | None]]) -> tuple[list[list[str]], bool]:
    """Return a table of medians, and whether all goals are met."""
    heading = ["accuracy in %", "published", "median", "lowest", "highest", "goal"]
    table, met = [[*heading, "s an epoch", "PyTorch"]], True
    for task, runs, seconds in rows:
        found = [run.accuracy for run in runs]
        median = statistics.median(found)
        met &= median >= task.least
        cells = [f"{value:.2f}" for value in (median, min(found), max(found), task.least)]
        own = statistics.median(run.seconds for run in runs)
        peer = "–" if seconds is None else f"{seconds:.2f} ({seconds / own:.1f} ×)"
        table.append([task.name, task.published, *cells, f"{own:.2f}", peer])
    return table, met


def main(argv: list[str] | None = None) -> int:
    """Print the table; the exit code is 1 if a goal is missed."""
    folder = Path(os.environ.get("FASTMLP_MNIST", DATA))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=folder, help="with the four files of MNIST")
    parser.add_argument("--tasks", nargs="+", choices=[task.name for task in TASKS])
    parser.add_argument("--seeds", type=int, help="runs of each row")
    parser.add_argument("--epochs", type=int, help="instead of those that were published")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    options = parser.parse_args(argv)
    data = nielsen_table.load(options.data)
    rows: list[Any] = []
    for task in TASKS:
        if options.tasks and task.name not in options.tasks:
            continue
        runs = []
        for seed in range(options.seeds or task.seeds):
            runs.append(task.train(data, seed, options.epochs or task.epochs))
            text = f"{task.name}, seed {seed}: {runs[-1].accuracy:.2f} %"
            print(f"{text}, {runs[-1].seconds:.2f} s an epoch", file=sys.stderr, flush=True)
        seconds = None
        if not options.no_torch:
            try:
                seconds = torch_epoch(task.name, data)
            except ImportError:
                print("PyTorch is not installed", file=sys.stderr)
        rows.append((task, runs, seconds))
    table, met = table_of(rows)
    print("\n".join(report.lines_up(table)))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
