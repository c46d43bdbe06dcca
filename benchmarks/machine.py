"""What is known about the machine of a run: its processor, its peak, and whether it is quiet."""

from __future__ import annotations

import os
import platform
import statistics
import time

import numpy as np

#: A pinned calibration loop of about this many seconds: long enough to see a time slice lost.
LOOP_SECONDS = 0.004
#: How often each processor runs it.
LOOP_REPEATS = 8
#: Above these the machine counts as busy: spread of the calibration loop (median over best), and
#: processor time taken by others while this run sleeps, in cores.
SPREAD_LIMIT = 0.10
OTHERS_LIMIT = 0.15


def processors() -> list[int]:
    """The processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def describe() -> dict:
    """Model, counts and versions, as plain data."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    model = line.partition(":")[2].strip()
                    break
    except OSError:
        pass
    return {
        "processor": model,
        "architecture": platform.machine(),
        "processors": len(processors()),
        "system": platform.system(),
        "python": platform.python_version(),
    }


class Quietness:
    """Samples taken between measurements; says at the end whether the machine was quiet.

    Two signs are read. A short loop of integer arithmetic is run on each processor in turn: its
    median over its best time shows time slices lost and changing clocks. And while the run sleeps,
    /proc/stat shows what everybody else uses.
    """

    def __init__(self) -> None:
        self._iterations = 2000
        while self._loop() < LOOP_SECONDS / 2:
            self._iterations *= 2
        self.loops: list[float] = []
        self.others: list[float] = []

    def _loop(self) -> float:
        start = time.perf_counter()
        total = 0
        for i in range(self._iterations):
            total += i
        return time.perf_counter() - start

    def sample(self, sleep: float = 0.2) -> None:
        """Take one sample: ``sleep`` seconds of rest, then the loops."""
        before = _busy_seconds()
        start = time.perf_counter()
        time.sleep(sleep)
        elapsed = time.perf_counter() - start
        if before is not None:
            self.others.append(max(0.0, _busy_seconds() - before) / elapsed)
        allowed = processors()
        pin = hasattr(os, "sched_setaffinity")
        try:
            for processor in allowed[:8] if pin else [None]:
                if pin:
                    os.sched_setaffinity(0, {processor})
                self.loops.extend(self._loop() for _ in range(LOOP_REPEATS))
        finally:
            if pin:
                os.sched_setaffinity(0, allowed)

    @property
    def spread(self) -> float:
        """Median over best of the loops, less 1."""
        return statistics.median(self.loops) / min(self.loops) - 1.0 if self.loops else 0.0

    @property
    def busy_cores(self) -> float:
        """Cores that others used, the median of the samples; 0 where the system does not say."""
        return statistics.median(self.others) if self.others else 0.0

    @property
    def quiet(self) -> bool:
        return self.spread <= SPREAD_LIMIT and self.busy_cores <= OTHERS_LIMIT

    def as_dict(self) -> dict:
        return {
            "quiet": self.quiet,
            "spread": round(self.spread, 4),
            "busy_cores": round(self.busy_cores, 3),
            "samples": len(self.others) or len(self.loops),
        }

    def sentence(self) -> str:
        """One sentence for the reader of the figures."""
        facts = (
            f"the calibration loop varied by {100 * self.spread:.0f} %, "
            f"others used {self.busy_cores:.2f} cores"
        )
        if self.quiet:
            return f"The machine was quiet: {facts}."
        return f"THE MACHINE WAS BUSY: {facts}. Take the times as provisional; ratios suffer less."


def _busy_seconds() -> float | None:
    """Processor seconds that were not idle since boot, stolen ones included; None if unknown."""
    try:
        with open("/proc/stat") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    # user nice system idle iowait irq softirq steal
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def gemm_peak(seconds: float = 0.2, size: int = 1024) -> float:
    """GFLOP/s of NumPy's float32 matrix product, the best of as many as fit."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size, size), np.float32)
    out = np.empty_like(a)
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() >= end:
            return 2e-9 * size**3 / best


def peak() -> tuple[float, str]:
    """The peak of all usable cores in GFLOP/s (float32), and what measured it.

    The engine's own fused-multiply-add loop where fastmlp is installed and has it; otherwise
    NumPy's matrix product, which is not a peak but the best that is at hand.
    """
    try:
        from fastmlp.profiling import peak as measure
    except ImportError:
        return gemm_peak(), "NumPy GEMM"
    return measure().gflops, "fma peak"
