"""The process in which one variant of one peer runs: ``python worker.py`` is started by harness.py.

It reads messages, one JSON object a line, and answers each with one line:

    {"do": "setup", "peer": …, "variant": {…}, "workload": {…}, "seed": 0}
        → {"seconds": time of the set-up and the first call, "value": the first call's mean loss, or
           mean output, "memory": …}
    {"do": "measure", "seconds": 0.3}  → {"mean": seconds per call, "best": …, "calls": n, "memory"}
    {"do": "peak"}  → {"gflops": …, "source": …}
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from itertools import repeat

import numpy as np

import machine
import peers
from workloads import Workload

#: Calls are timed in groups of at least this many seconds, so that reading the clock costs nothing.
GROUP_SECONDS = 0.001


def memory() -> dict:
    """Resident bytes now (0 where the system does not say) and at the highest."""
    now = 0
    try:
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return {"now": now, "highest": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


class Worker:
    def __init__(self) -> None:
        self.call = None
        self.once = 0.0
        self.group = 1

    def setup(self, message: dict) -> dict:
        workload = Workload(**message["workload"])
        variant = peers.Variant(**message["variant"])
        peer = peers.load(message["peer"])
        data = workload.data(message["seed"])
        before = memory()
        start = time.perf_counter()
        self.call = peer.setup(workload, data, variant)
        value = float(np.mean(self.call()))
        seconds = time.perf_counter() - start
        return {
            "seconds": seconds,
            "value": value,
            "memory_before": before,
            "memory": memory(),
        }

    def measure(self, message: dict) -> dict:
        call, best, calls = self.call, float("inf"), 0
        # Others have run since the last call: one to find caches and threads again, where it is
        # short. Where it is not, neither matters.
        if self.once < message["seconds"]:
            start = time.perf_counter()
            call()
            self.once = time.perf_counter() - start
            self.group = max(1, round(GROUP_SECONDS / self.once))
        start = time.perf_counter()
        end = start + message["seconds"]
        while True:
            begun = time.perf_counter()
            for _ in repeat(None, self.group):
                call()
            now = time.perf_counter()
            best = min(best, (now - begun) / self.group)
            calls += self.group
            if now >= end:
                break
        return {"mean": (now - start) / calls, "best": best, "calls": calls, "memory": memory()}

    def peak(self, message: dict) -> dict:
        gflops, source = machine.peak()
        return {"gflops": gflops, "source": source}


def main() -> None:
    # Libraries may print: answers get the original stdout, everything else goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = getattr(worker, message["do"])(message)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
