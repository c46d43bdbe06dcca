"""Instructions per training step: ``python benchmarks/instruction_counts.py``.

Counted by valgrind (callgrind) inside `fm_run`, on AVX2 and one thread, so that the figures are
those of the engine and not of the machine: a regression is seen anywhere. Two runs that differ only
in the number of epochs are subtracted, which leaves the steps alone. Some two minutes of processor
time. The record beside this file is compared with:

    python benchmarks/instruction_counts.py            # count, compare, fail if more than 2 % worse
    python benchmarks/instruction_counts.py --record   # count, and write the new record
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import peers
import report
import workloads

RECORD = Path(__file__).with_name("instruction_counts.json")
WORKLOADS = ("tiny", "nielsen")
#: Growth that fails: compilers and Python versions move the count by less.
TOLERANCE = 0.02
#: Mini-batches of an epoch under valgrind, and epochs of the shorter and the longer run.
BATCHES = 400
EPOCHS = (1, 3)
ISA = "avx2"
#: What executes a span of mini-batches. Python around it is left out: under valgrind's slow clock
#: spans are short, so that its part is not what it is elsewhere.
FUNCTION = "fm_run"


def train(name: str, epochs: int) -> None:
    """What runs under valgrind: so many epochs of the workload, one thread."""
    workload = replace(workloads.get(name), batches=BATCHES)
    peer = peers.load("fastmlp_trainer")
    epoch = peer.setup(workload, workload.data(), peers.Variant("counted", threads=1))
    for _ in range(epochs):
        epoch()


def total(output: str) -> int:
    """The number of instructions that callgrind reports at its end.

    Raises
    ------
    ValueError
        If the text holds none, or `FUNCTION` was never seen.
    """
    found = re.search(r"Collected\s*:\s*(\d+)", output)
    if found is None or found.group(1) == "0":
        raise ValueError(f"no instruction count in valgrind's output: {output[-500:]!r}")
    return int(found.group(1))


def count(name: str, epochs: int) -> int:
    """Instructions inside `FUNCTION` of a process that trains so many epochs.

    Raises
    ------
    RuntimeError
        If the process fails under valgrind; its output is in the message.
    """
    environment = os.environ | {
        "FASTMLP_ISA": ISA,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        command.append(f"--toggle-collect={FUNCTION}")
        command += [sys.executable, __file__, "--train", name, str(epochs)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-1500:]}")
    return total(done.stderr)


def per_step(name: str) -> float:
    """Instructions of one training step of the workload."""
    few, many = (count(name, epochs) for epochs in EPOCHS)
    return (many - few) / ((EPOCHS[1] - EPOCHS[0]) * BATCHES)


def compare(counts: dict[str, float], record: dict[str, float]) -> tuple[list[list[str]], bool]:
    """A table of counts beside the recorded ones, and whether one grew beyond the tolerance."""
    table = [["", "instructions a step", "recorded", "change", "per kFLOP"]]
    worse = False
    for name, counted in counts.items():
        before = record.get(name)
        change = "new"
        if before is not None:
            change = f"{100 * (counted / before - 1):+.1f} %"
            worse = worse or counted > before * (1 + TOLERANCE)
        kiloflops = workloads.get(name).flops / 1000
        cells = [f"{counted:,.0f}", f"{before:,.0f}" if before is not None else "–", change]
        table.append([name, *cells, f"{counted / kiloflops:.1f}"])
    return table, worse


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    parser.add_argument("--train", nargs=2, metavar=("NAME", "EPOCHS"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.train:
        train(options.train[0], int(options.train[1]))
        return 0
    if shutil.which("valgrind") is None:
        print("valgrind is not installed", file=sys.stderr)
        return 1

    # Once without valgrind, so that no counted run compiles Python's bytecode.
    subprocess.run([sys.executable, __file__, "--train", WORKLOADS[0], "1"], check=True)
    counts = {name: per_step(name) for name in WORKLOADS}
    record = json.loads(RECORD.read_text())["counts"] if RECORD.exists() else {}
    table, worse = compare(counts, record)
    print("\n".join(report.lines_up(table)))
    if options.record:
        rounded = {name: round(counted) for name, counted in counts.items()}
        content = {"isa": ISA, "threads": 1, "counts": rounded}
        RECORD.write_text(json.dumps(content, indent=1) + "\n")
        return 0
    if worse:
        print(f"More than {100 * TOLERANCE:.0f} % above the record.", file=sys.stderr)
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
