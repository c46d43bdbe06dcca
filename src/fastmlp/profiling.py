"""Where the time of a training step goes, and what the machine could do at most.

`profile` times every step of the native program of a mini-batch, as the engine runs it, and sets it
against the peak of the same cores measured in the same breath. The peak is the rate of independent
fused multiply-adds in registers; that it is one is checked against the clock (a chain of dependent
additions, one a cycle) and the vector width: a processor starts at most a few of them a cycle, so
a measurement that was disturbed shows as an odd number of operations per cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import _native
from fastmlp.config import get_num_threads
from fastmlp.errors import check_integer, check_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastmlp.backends.lowering import Lowered, Lowering
    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.optimizer_base import Optimizer

# Rounds of one measurement of the peak, about a millisecond: far above the clock's grain, far below
# a scheduler's patience.
_ROUNDS = 200_000
_REPEATS = 7


@dataclass(frozen=True, slots=True)
class Peak:
    """What the machine can do.

    Attributes
    ----------
    gflops : float
        10⁹ floating-point operations a second of fused multiply-adds, all threads together.
    ghz : float
        Clock of the first core, 10⁹ cycles a second.
    per_cycle : float
        Operations per cycle and thread: 2 × lanes × fused multiply-adds started in a cycle.
    threads : int
    """

    gflops: float
    ghz: float
    per_cycle: float
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.gflops:.1f} GFLOP/s on {self.threads} thread(s): "
            f"{self.per_cycle:.1f} operations a cycle at {self.ghz:.2f} GHz"
        )


def peak(threads: int | None = None, dtype: str = "float32") -> Peak:
    """Measure the peak of fused multiply-adds: the best of several short runs.

    Parameters
    ----------
    threads : int, optional
        By default as many as training would use at most.
    dtype : {"float32", "float64"}

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.
    """
    threads = get_num_threads() if threads is None else check_integer("threads", threads, low=1)
    bits = np.dtype(dtype).itemsize * 8
    memory = _native.Buffer(128 * threads)
    flops = np.frombuffer(memory, np.float64)
    best = clock = 0.0
    for _ in range(_REPEATS):
        seconds = _run_one("fma_peak", _ROUNDS, bits, threads, memory)
        best = max(best, float(flops[::16].sum()) / seconds)
        clock = max(clock, _ROUNDS * 10 / _run_one("clock", _ROUNDS * 10, bits, 1, memory))
    return Peak(best * 1e-9, clock * 1e-9, best / clock / threads, threads)


def _run_one(op: str, rounds: int, bits: int, threads: int, memory: _native.Buffer) -> float:
    from fastmlp.backends.assembly import STEP

    table = np.zeros(1, STEP)
    table["op"], table["at"] = _native.opcodes()[op], -1
    table["at"][0, 3], table["arg"][0, :2] = 0, (rounds, 1)
    parts = np.zeros((1, threads, 4), np.int32)
    parts[0, :, 0], parts[0, :, 1], parts[0, :, 3] = range(threads), range(1, threads + 1), 1
    program = _native.Program(bits, threads, table, parts, [memory], [], 0, 1)
    seconds = np.zeros(1)
    program.run((), seconds=seconds)
    return float(seconds[0])


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step of a mini-batch.

    Attributes
    ----------
    name : str
        Operation and shape.
    seconds : float
        As the first thread saw it, waiting for others included.
    flops : float
        Floating-point operations of its products; 0 for other steps.
    bytes : float
        That it reads and writes at least once.
    barrier : bool
        Whether all threads meet before it.
    """

    name: str
    seconds: float
    flops: float
    bytes: float
    barrier: bool

    @property
    def gflops(self) -> float:
        """10⁹ floating-point operations a second."""
        return self.flops / self.seconds * 1e-9 if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The steps of a mini-batch with their times; printing it gives a table.

    Attributes
    ----------
    steps : list of StepTime
    seconds : float
        Of the whole mini-batch, measured without the clock between steps.
    flops : float
        Of all products.
    peak : Peak
    threads : int
    strategy : str
        How results are cut into parts: along "rows" or "columns", the "first" layer otherwise than
        all else, or by "chunks" of rows that go through all layers (their steps are listed once).
    memory : dict of str to int
        Bytes of parameters, optimizer slots, the snapshot kept for divergence, and the arena.
    """

    steps: list[StepTime]
    seconds: float
    flops: float
    peak: Peak
    threads: int
    strategy: str
    memory: dict[str, int]

    @property
    def share(self) -> float:
        """Share of the peak that the whole mini-batch reaches."""
        return self.flops / self.seconds * 1e-9 / self.peak.gflops

    def __str__(self) -> str:
        lines = [f"{'step':<34}{'µs':>9}{'%':>6}{'GFLOP/s':>9}{'of peak':>9}{'KiB':>10}"]
        total = sum(step.seconds for step in self.steps)
        for step in self.steps:
            rate = f"{step.gflops:.1f}" if step.flops else ""
            share = f"{step.gflops / self.peak.gflops:.0%}" if step.flops else ""
            mark = "| " if step.barrier else "  "
            lines.append(
                f"{mark + step.name:<34}{step.seconds * 1e6:>9.2f}{step.seconds / total:>6.0%}"
                f"{rate:>9}{share:>9}{step.bytes / 1024:>10.1f}"
            )
        memory = ", ".join(f"{name} {size / 1024:.0f} KiB" for name, size in self.memory.items())
        lines += [
            f"a mini-batch takes {self.seconds * 1e6:.2f} µs: "
            f"{self.flops / self.seconds * 1e-9:.1f} GFLOP/s, {self.share:.0%} of the peak",
            f"{self.threads} thread(s), parts along {self.strategy}; | marks a barrier",
            f"peak: {self.peak}",
            f"memory: {memory}",
        ]
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the roofline: rate over operations per byte, one point a product.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            By default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from fastmlp.pictures.canvas import axes, finish

        ax = axes(ax)
        products = [step for step in self.steps if step.flops]
        for step in products:
            ax.plot(step.flops / step.bytes, step.gflops, "o", label=step.name)
        ax.axhline(self.peak.gflops, color="black", linewidth=1)
        ax.annotate("peak", (1, self.peak.gflops), (2, 3), textcoords="offset points")
        ax.set(xscale="log", yscale="log")
        return finish(ax, x="operations per byte", y="GFLOP/s", legend=True)


def profile(
    model: Sequential,
    batch_size: int,
    *,
    loss: str | Loss = "mse",
    optimizer: str | Optimizer = "sgd",
    threads: int | None = None,
    seconds: float = 0.2,
) -> Profile:
    """Time every step of a training step, on random data and a copy of the model.

    Parameters
    ----------
    model : Sequential
        With known sizes; it stays as it is.
    batch_size : int
    loss, optimizer
        As for `Sequential.fit`.
    threads : int, optional
        Exactly so many; by default what is found to be fastest.
    seconds : float
        About how long to measure.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, or the model's sizes are not known.
    """
    import copy
    import time

    from fastmlp.backends.assembly import Structure, assemble, assemble_chunks
    from fastmlp.backends.lowering import HYPER, ChunkLowering
    from fastmlp.sources import Source
    from fastmlp.training import Trainer

    batch_size = check_integer("batch_size", batch_size, low=1)
    seconds = check_number("seconds", seconds, low=0.0, open_low=True)
    if model.input_size is None:
        raise ValueError("model must have known sizes: give input_size, or call model.build(n_in)")
    trainer = Trainer(copy.deepcopy(model), loss, optimizer, batch_size, threads=threads)
    count = max(2, min(64, 2**22 // (batch_size * model.input_size)))
    rng = np.random.default_rng(0)
    x = rng.random((count * batch_size, model.input_size), np.float32)
    y = np.zeros((len(x), model.output_size), np.float32)
    y[np.arange(len(x)), rng.integers(0, model.output_size, len(x))] = 1
    order = rng.permutation(len(x)).astype(np.uint32)
    source, losses, times = Source(x, y), np.empty(count), []
    trainer.epoch(x, y, seed=0)
    executor = trainer.executor
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < _REPEATS:
        start = time.perf_counter()
        executor.train(source, order, batch_size, 0, count, losses)
        times.append((time.perf_counter() - start) / count)
    lowering, program, (threads, strategy), memory = executor.program()
    spent = np.zeros((_REPEATS, program.steps))
    hyper = np.zeros((count, HYPER * (len(trainer.optimizer.groups) + 1)))
    for row in spent:  # with scalars of zero no parameter moves, and the time is the same
        program.run((x, y), order=order, last=count, hyper=hyper, losses=losses, seconds=row)
    grain = _clock_grain()
    step_seconds = np.maximum(np.median(spent, axis=0) / count - grain, 1e-9)
    lowered = lowering.train_steps()
    if isinstance(lowering, ChunkLowering):
        table = assemble_chunks(lowering, threads)[0][: len(lowered)]
    else:
        table = assemble(Structure(lowered, lowering.block), threads, strategy)[0]
    # Steps of a chunk are run once for each, as often as makes up the mini-batch.
    times_run = lowering.samples / lowering.batch
    steps = [
        StepTime(
            _title(step),
            float(t),
            _flops(step) * times_run,
            _bytes(step, lowering),
            bool(barrier),
        )
        for step, t, barrier in zip(lowered, step_seconds, table["barrier"], strict=True)
    ]
    return Profile(
        steps,
        float(np.median(times[len(times) // 2 :])),
        sum(step.flops for step in steps),
        peak(threads, model.dtype.name),
        threads,
        strategy,
        memory,
    )


def _clock_grain() -> float:
    """Seconds that looking at the clock twice adds to the time of a step."""
    import time

    start = time.perf_counter()
    for _ in range(1000):
        time.perf_counter()
    return min((time.perf_counter() - start) / 1000, 5e-8)


def _title(step: Lowered) -> str:
    shape = f"{step.rows} × {step.cols}"
    return f"{step.op} {shape}" + (f", sum of {step.depth}" if step.depth > 1 else "")


def _flops(step: Lowered) -> float:
    products = ("dense", "dense_column", "outer_column", "grad", "grad_column")
    return 2.0 * step.rows * step.cols * max(step.depth, 1) if step.op in products else 0.0


def _bytes(step: Lowered, lowering: Lowering) -> float:
    return float(sum(m.rows * m.cols for m in step.at.values())) * lowering.itemsize
