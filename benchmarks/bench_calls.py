"""What a call from Python takes: predictions of a few rows, single steps.

Run with ``python benchmarks/bench_calls.py``. The network is 8-32-32-1 with tanh, as in control and
reinforcement learning; NumPy is written by hand, PyTorch is eager, where installed, and everything
on one thread. Ways take turns, each for some thousand calls in all; times are medians of groups of
calls. The last line gives shares of the peak of all cores.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from itertools import cycle

import numpy as np

import fastmlp as fm
import harness
import machine
import report
import workloads

SIZES = [8, 32, 32, 1]
#: Rows of a prediction.
ROWS = (1, 4, 32, 128)
#: Rows of a step, and of the other mini-batch where sizes change.
BATCH, OTHER = 32, 24
CLASSES = 3

Way = Callable[[], object]


def data(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, SIZES[0])).astype(np.float32)
    return x, rng.standard_normal((rows, SIZES[-1])).astype(np.float32)


def predictions(rows: int) -> dict[str, Way]:
    """Return the ways to predict so many rows."""
    model = fm.MLP(SIZES, activation="tanh", seed=0)
    x, out = data(rows)
    parameters = [np.array(value) for value in model.parameters.values()]
    (w0, b0), (w1, b1), (w2, b2) = zip(parameters[::2], parameters[1::2], strict=True)
    ways = {
        "predict(x)": lambda: model.predict(x),
        "predict(x, out=out)": lambda: model.predict(x, out=out),
        "NumPy": lambda: np.tanh(np.tanh(x @ w0 + b0) @ w1 + b1) @ w2 + b2,
    }
    try:
        import torch
    except ImportError:
        return ways
    torch.set_num_threads(1)
    peer, tensor = model.to_torch(), torch.from_numpy(x)

    def by_torch() -> object:
        with torch.inference_mode():
            return peer(tensor)

    return ways | {"PyTorch": by_torch}


def steps() -> dict[str, Way]:
    """Return the ways to make a step."""
    x, y = data(BATCH)
    weight = np.linspace(0.5, 2.0, BATCH)
    labels = np.arange(BATCH) % CLASSES
    sizes = cycle([BATCH, OTHER])

    def trainer(outputs: int = SIZES[-1], loss: str = "mse", last: str = "identity") -> fm.Trainer:
        model = fm.MLP([*SIZES[:-1], outputs], "tanh", output_activation=last, seed=0)
        return fm.Trainer(model, loss=loss, optimizer=fm.SGD(lr=1e-3))

    plain, weighted, changing, written = trainer(), trainer(), trainer(), trainer()
    classifier = trainer(CLASSES, "cross_entropy", "softmax")

    def change() -> float:
        rows = next(sizes)
        return changing.step(x[:rows], y[:rows])

    def write() -> float:
        for value in written.model.parameters.values():
            value *= 0.999
        return written.step(x, y)

    ways = {
        "step(x, y)": lambda: plain.step(x, y),
        "step, sample weights": lambda: weighted.step(x, y, weight),
        "step, class indices": lambda: classifier.step(x, labels),
        f"step, {BATCH} and {OTHER} rows in turn": change,
        "step, all parameters written before": write,
    }
    try:
        import torch
    except ImportError:
        return ways
    torch.set_num_threads(1)
    peer = plain.model.to_torch()
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.SGD(peer.parameters(), lr=1e-3)
    mse = torch.nn.MSELoss()

    def by_torch() -> float:
        optimizer.zero_grad()
        loss = mse(peer(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return ways | {"PyTorch": by_torch}


def measure(ways: dict[str, Way], rounds: int, calls: int) -> dict[str, float]:
    """Return the median seconds of a call, by way."""

    def group(way: Way) -> Callable[[int], None]:
        def run(_: int) -> None:
            for _ in range(calls):
                way()

        return run

    seconds = harness.take_turns({name: group(way) for name, way in ways.items()}, rounds)
    return {name: statistics.median(times) / calls for name, times in seconds.items()}


def table_of(title: str, seconds: dict[str, float]) -> list[list[str]]:
    """Return a line a way: its time, and how many times as long peers take."""
    lines = []
    for name, value in seconds.items():
        peers = {peer: seconds[peer] / value for peer in ("NumPy", "PyTorch") if peer in seconds}
        ratios = "" if name in peers else ", ".join(f"{p} {r:.1f} ×" for p, r in peers.items())
        lines.append([title, name, report.duration(value), ratios])
    return lines


def share_of(kind: str, rows: int, seconds: float, peak: float) -> str:
    """Return the share that a call has of a peak in GFLOP/s."""
    flops = workloads.Workload("call", tuple(SIZES), "tanh", rows, kind=kind).flops
    return f"{100 * flops / seconds / (1e9 * peak):.1f} %"


def main(argv: list[str] | None = None) -> int:
    """Print a table of calls and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--calls", type=int, default=100, help="in a group (%(default)s)")
    options = parser.parse_args(argv)
    peak, source = machine.peak()  # before PyTorch is told how many threads there are
    fm.set_num_threads(1)
    table = [["", "call", "time", "peers"]]
    for rows in ROWS:
        predicted = measure(predictions(rows), options.rounds, options.calls)
        table += table_of(f"{rows} rows", predicted)
    stepped = measure(steps(), options.rounds, options.calls)
    table += table_of(f"{BATCH} rows", stepped)
    print("\n".join(report.lines_up(table)))
    prediction = share_of("predict", ROWS[-1], predicted["predict(x)"], peak)
    step = share_of("train", BATCH, stepped["step(x, y)"], peak)
    print(
        f"Of the peak of all cores, {peak:.0f} GFLOP/s ({source}): a prediction of {ROWS[-1]} rows "
        f"{prediction}, a step {step}."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
