"""Reproduce a published table of MNIST: ``python benchmarks/nielsen_table.py --data FOLDER``.

The figures are those of M. Nielsen, Neural Networks and Deep Learning, chapters 1 and 3: sigmoid
networks, weights and biases drawn from N(0, 1), pixels in [0, 1], the first 50,000 training images,
mini-batches of 10, plain SGD. Single runs vary, and the published ones are single runs at their
best epoch: beside them stand the best of the first three seeds and the median of all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import report

#: Training images; the 10,000 behind them are for validation.
TRAINING = 50_000
#: Nielsen's λ is divided by the number of training images; fastmlp's l2 is not.
L2 = 5.0 / TRAINING


@dataclass(frozen=True)
class Row:
    """A line of the published table; ``validation``: judged on the validation images."""

    name: str
    hidden: int
    lr: float
    published: str
    loss: str = "quadratic"
    l2: float = 0.0
    epochs: int = 30
    validation: bool = False

    @property
    def title(self) -> str:
        text = f"784-{self.hidden}-10, {self.loss}, η = {self.lr:g}"
        text += ", λ = 5" if self.l2 else ""
        text += f", {self.epochs} epochs"
        return text + (" (validation)" if self.validation else "")


ROWS = (
    Row("base", 30, 3.0, "95.42, first epoch 91.29"),
    Row("hidden100", 100, 3.0, "96.59"),
    Row("too_small", 100, 0.001, "11.39 rising to 21.42"),
    Row("too_large", 30, 100.0, "about 10"),
    Row("cross_entropy", 30, 0.5, "95.49", "cross-entropy"),
    Row("cross_entropy_l2", 30, 0.5, "96.49", "cross-entropy", L2),
    Row("cross_entropy_60", 100, 0.1, "98.04", "cross-entropy", L2, 60, True),
)


def accuracies(
    row: Row, data: dict[str, np.ndarray], seed: int, backend: str = "native"
) -> tuple[list[float], float]:
    """Train once; the accuracy after each epoch, and the seconds that training took.

    Parameters
    ----------
    row : Row
    data : dict
        As `load` returns it.
    seed : int
        Of the weights and of the order of the images.
    backend : {"native", "reference"}
    """
    import fastmlp as fm

    model = fm.MLP(
        [784, row.hidden, 10],
        activation="sigmoid",
        output_activation="sigmoid",
        initializer=fm.initializers.Normal(),
        bias_initializer=fm.initializers.Normal(),
        seed=seed,
    )
    # The textbook's cross-entropy is summed over the outputs.
    loss = fm.losses.BCE(reduction="sum") if row.loss == "cross-entropy" else row.loss
    trainer = fm.Trainer(
        model, loss=loss, optimizer=fm.SGD(lr=row.lr), batch_size=10, l2=row.l2, backend=backend
    )
    images, labels = ("x_val", "y_val") if row.validation else ("x_test", "y_test")
    history, seconds = [], 0.0
    for _ in range(row.epochs):
        start = time.perf_counter()
        trainer.epoch(data["x"], data["y"], seed=seed)
        seconds += time.perf_counter() - start
        right = model.predict(data[images]).argmax(axis=1) == data[labels]
        history.append(float(right.mean()))
    return history, seconds


def load(folder: Path) -> dict[str, np.ndarray]:
    """Read MNIST from IDX files: pixels in [0, 1] as float32, training labels one-hot."""
    import fastmlp as fm

    (x, y), (x_test, y_test) = fm.data.load_mnist(folder)
    x, x_test = x / np.float32(255), x_test / np.float32(255)
    return {
        "x": x[:TRAINING],
        "y": fm.data.one_hot(y[:TRAINING], 10),
        "x_val": x[TRAINING:],
        "y_val": y[TRAINING:],
        "x_test": x_test,
        "y_test": y_test,
    }


def summary(runs: list[list[float]]) -> dict[str, float]:
    """First epoch, last epoch and best epoch, in per cent: medians, and the best of three runs."""
    last = [run[-1] for run in runs]
    peak = [max(run) for run in runs]
    figures = {
        "first": statistics.median(run[0] for run in runs),
        "last_median": statistics.median(last),
        "last_best_of_three": max(last[:3]),
        "peak_median": statistics.median(peak),
        "peak_best_of_three": max(peak[:3]),
    }
    return {name: 100.0 * value for name, value in figures.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="with the four files of MNIST"
    )
    parser.add_argument("--seeds", type=int, default=5, help="runs of each row (%(default)s)")
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW",
        choices=[row.name for row in ROWS],
        default=[row.name for row in ROWS],
        help="only these: " + ", ".join(row.name for row in ROWS),
    )
    parser.add_argument("--backend", choices=("native", "reference"), default="native")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all runs")
    options = parser.parse_args(argv)
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, not {options.seeds}")

    data = load(options.data)
    heading = ["test accuracy in %", "published", "first epoch", "last epoch", "best of 3"]
    table = [[*heading, "best epoch", "best of 3", "s a run"]]
    record = []
    for row in ROWS:
        if row.name not in options.rows:
            continue
        runs, times = [], []
        for seed in range(options.seeds):
            history, seconds = accuracies(row, data, seed, options.backend)
            runs.append(history)
            times.append(seconds)
        figures = summary(runs)
        record.append({"row": row.title, "published": row.published, "runs": runs} | figures)
        cells = [f"{value:.2f}" for value in figures.values()]
        table.append([row.title, row.published, *cells, f"{statistics.median(times):.1f}"])
        print(f"{row.title}: {', '.join(cells)}", file=sys.stderr, flush=True)
    print("\n".join(report.lines_up(table, left=2)))
    print(
        f"Medians of {options.seeds} seeds, and the best of the first three; "
        "“best epoch” is the highest accuracy of a run, as it was published."
    )
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
