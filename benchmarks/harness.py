"""Runs the variants of peers on a workload, each in its own process, in turn, several rounds."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import peers
from machine import Quietness
from workloads import Workload

#: Seconds between two measurements: the threads of the one before must have stopped spinning
#: (Intel's OpenMP spins for 0.2 s, the others for less).
SETTLE = 0.25

#: See `compare`.
HOPELESS = 4.0

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "FASTMLP_NUM_THREADS")


class WorkerFailure(RuntimeError):
    """A worker answered with an error or died."""


class Process:
    """A worker process; see worker.py for what it understands."""

    def __init__(self, threads: int | None = None, environment: dict | None = None) -> None:
        env = {name: value for name, value in os.environ.items() if name not in _THREADS}
        if threads is not None:
            env.update(dict.fromkeys(_THREADS, str(threads)))
        env.update(environment or {})
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=env,
        )

    def ask(self, **message: object) -> dict:
        """Send a message, wait for the answer.

        Raises
        ------
        WorkerFailure
            If the answer is an error or none comes.
        """
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            tail = self._log.read().strip().splitlines()[-3:]
            raise WorkerFailure(" ".join(["the process died.", *tail]))
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailure(answer["error"])
        return answer

    def close(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


def take_turns(
    ways: Mapping[str, Callable[[int], object]], rounds: int, unmeasured: int = 2
) -> dict[str, list[float]]:
    """Call functions of this process in turn, A B C A B C …; return the seconds of each call.

    Parameters
    ----------
    ways : mapping of str to callable
        Each is given the number of the turn, from 0.
    rounds : int
        Turns that are measured.
    unmeasured : int
        Turns before them, in which the engine looks for its best program.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(unmeasured + rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(turn)
            if turn >= unmeasured:
                seconds[name].append(time.perf_counter() - start)
    return seconds


@dataclass
class Row:
    """What was measured of one variant: seconds per step (or per prediction), one entry a round."""

    peer: str
    variant: peers.Variant
    version: str
    means: list[float] = field(default_factory=list)
    setup_seconds: float = 0.0
    value: float = 0.0
    memory_before: int = 0
    memory_first: int = 0
    memory_last: int = 0
    memory_highest: int = 0

    @property
    def name(self) -> str:
        return peers.load(self.peer).NAME

    @property
    def median(self) -> float:
        return statistics.median(self.means)

    @property
    def best(self) -> float:
        return min(self.means)

    def as_dict(self) -> dict:
        return {
            "peer": self.name,
            "variant": self.variant.label,
            "version": self.version,
            "median": self.median,
            "best": self.best,
            "rounds": self.means,
            "setup_seconds": self.setup_seconds,
            "value": self.value,
            "memory_before": self.memory_before,
            "memory_first": self.memory_first,
            "memory_last": self.memory_last,
            "memory_highest": self.memory_highest,
        }


@dataclass
class Result:
    """All rows of a workload; ``skipped`` holds (name, variant, reason)."""

    workload: Workload
    rows: list[Row]
    skipped: list[tuple[str, str, str]]
    peak: float
    peak_source: str

    def of(self, peer: str) -> list[Row]:
        """The rows of one peer."""
        return [row for row in self.rows if row.peer == peer]

    def share(self, row: Row) -> float:
        """The part of the measured peak that a row's median reaches."""
        return self.gflops(row) / self.peak if self.peak else float("nan")

    def gflops(self, row: Row) -> float:
        return 1e-9 * self.workload.flops / row.median

    def as_dict(self) -> dict:
        rows = []
        for row in self.rows:
            rows.append(
                row.as_dict() | {"gflops": self.gflops(row), "share_of_peak": self.share(row)}
            )
        return {
            "workload": self.workload.as_dict(),
            "title": self.workload.title,
            "flops": self.workload.flops,
            "peak_gflops": self.peak,
            "peak_source": self.peak_source,
            "rows": rows,
            "skipped": [
                {"peer": peer, "variant": variant, "reason": reason}
                for peer, variant, reason in self.skipped
            ],
        }


def contestants(
    names: tuple[str, ...], compiled: bool = True
) -> tuple[list[tuple[str, peers.Variant]], list[tuple[str, str, str]]]:
    """The variants to run of the named peers, and those that are skipped, with the reason.

    ``compiled=False`` leaves out variants that compile for many seconds.
    """
    chosen, skipped = [], []
    for name in names:
        peer = peers.load(name)
        if peers.version(name) is None:
            skipped.append((peer.NAME, "", f"{peer.REQUIRES} is not installed"))
            continue
        for variant in peer.VARIANTS:
            if variant.options.get("compile") and not compiled:
                skipped.append((peer.NAME, variant.label, "left out"))
            else:
                chosen.append((name, variant))
    return chosen, skipped


def compare(
    workload: Workload,
    variants: list[tuple[str, peers.Variant]],
    *,
    rounds: int = 5,
    seconds: float = 0.3,
    quietness: Quietness | None = None,
    peak_process: Process | None = None,
    seed: int = 0,
    say=lambda text: None,
) -> Result:
    """Measure every variant on the workload, in turn: A B C A B C …

    The fastest variant of a peer counts: one that is `HOPELESS` times as slow as another of the
    same peer is measured once only, unless it is the peer's first, which stands for the default.

    Parameters
    ----------
    workload : Workload
    variants : list of (peer module name, Variant)
    rounds : int
        How often each is measured; the tables show the median and the best.
    seconds : float
        The least time of one measurement (at least one epoch).
    quietness : Quietness, optional
        Gets a sample before each round.
    peak_process : Process, optional
        Measures the machine's peak once a round; the best counts.
    say : callable
        Receives a line of progress.
    """
    skipped, running = [], []
    peak, source = 0.0, ""
    fastest: dict[str, float] = {}
    steps = workload.batches if workload.kind == "train" else 1
    try:
        for name, variant in variants:
            peer = peers.load(name)
            if reason := peer.refuses(workload, variant):
                skipped.append((peer.NAME, variant.label, reason))
                continue
            say(f"{workload.name}: {peer.NAME}, {variant.label}: setting up")
            process = Process(variant.threads)
            row = Row(name, variant, peers.version(name) or "")
            try:
                answer = process.ask(
                    do="setup",
                    peer=name,
                    variant=vars(variant),
                    workload=workload.as_dict(),
                    seed=seed,
                )
            except WorkerFailure as failure:
                skipped.append((peer.NAME, variant.label, f"failed: {failure}"))
                process.close()
                continue
            row.setup_seconds, row.value = answer["seconds"], answer["value"]
            row.memory_before = answer["memory_before"]["now"]
            running.append((row, process))

        for number in range(rounds):
            say(f"{workload.name}: round {number + 1} of {rounds}")
            time.sleep(SETTLE)
            if quietness is not None:
                quietness.sample()
            if peak_process is not None:
                answer = peak_process.ask(do="peak")
                source = answer["source"]
                peak = max(peak, answer["gflops"])
                time.sleep(SETTLE)
            for row, process in list(running):
                slow = number > 0 and row.best > HOPELESS * fastest[row.peer]
                if slow and row.variant != peers.load(row.peer).VARIANTS[0]:
                    continue
                try:
                    answer = process.ask(do="measure", seconds=seconds)
                except WorkerFailure as failure:
                    skipped.append((row.name, row.variant.label, f"failed: {failure}"))
                    running.remove((row, process))
                    process.close()
                    continue
                row.means.append(answer["mean"] / steps)
                fastest[row.peer] = min(row.means[-1], fastest.get(row.peer, float("inf")))
                if number == 0:
                    row.memory_first = answer["memory"]["now"]
                row.memory_last = answer["memory"]["now"]
                row.memory_highest = answer["memory"]["highest"]
                time.sleep(SETTLE)
    finally:
        for _, process in running:
            process.close()
    return Result(workload, [row for row, _ in running], skipped, peak, source)
