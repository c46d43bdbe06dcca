"""Threads and the machine: how many threads are used, and what the engine found to run on."""

from __future__ import annotations

import os
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from fastmlp import _native
from fastmlp.errors import check_integer, choose

if TYPE_CHECKING:
    from typing import Any

# More threads than any machine has cores are a mistake, and would only take memory.
MOST_THREADS = 1024
# Seconds for which a quota is trusted, since it stands in several files.
_PERIOD = 0.25
# Versions of the OpenMP specification by their dates, as the macro _OPENMP has them.
_OPENMP_VERSIONS = {
    200203: "2.0",
    200505: "2.5",
    200805: "3.0",
    201107: "3.1",
    201307: "4.0",
    201511: "4.5",
    201811: "5.0",
    202011: "5.1",
    202111: "5.2",
    202411: "6.0",
}


def check_threads(threads: object) -> int | None:
    """Return a number of threads, or None for as many as serve.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer from 1 to 1024, or the system does not give so many.
    """
    if threads is None:
        return None
    number = check_integer("threads", threads, 1, MOST_THREADS)
    if number > usable_cores():
        _check_given(number)
    return number


_most_given = 0  # threads that the system is known to give


def _check_given(threads: int) -> None:
    """Refuse more threads than the system gives: OpenMP would end the process."""
    global _most_given
    if threads <= _most_given:
        return
    import threading

    done, started = threading.Event(), []
    try:
        for _ in range(threads - 1):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError) as error:
        raise ValueError(
            f"threads must be at most {len(started) + 1}, which is what the system gives "
            f"(its limits of memory or processes); got {threads}"
        ) from error
    finally:
        done.set()
        for thread in started:
            thread.join()
    _most_given = threads


def set_num_threads(threads: int | None) -> None:
    """Set how many threads a call uses at most, where it is not told exactly with `threads=`.

    Parameters
    ----------
    threads : int or None
        None goes back to what environment and machine allow.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer from 1 to 1024.
    """
    _native.set_thread_limit(check_threads(threads) or 0)


def get_num_threads() -> int:
    """Return how many threads a call uses at most, where it is not told exactly.

    What `set_num_threads` said; otherwise FASTMLP_NUM_THREADS; otherwise what OpenMP would use
    (OMP_NUM_THREADS, threadpoolctl), but no more than the cores that this process may run on and
    the processor time that its container is given.

    Raises
    ------
    ValueError
        If FASTMLP_NUM_THREADS is not an integer from 1 to 1024.
    """
    limit = _native.thread_limit()
    if limit:
        return limit
    text = os.environ.get("FASTMLP_NUM_THREADS", "").strip()
    if text:
        if not text.isdecimal() or not 1 <= int(text) <= MOST_THREADS:
            raise ValueError(
                f"FASTMLP_NUM_THREADS must be an integer from 1 to {MOST_THREADS}; got {text!r}"
            )
        return int(text)
    _, _, threads = _native.openmp()
    return max(1, min(threads, usable_cores(), MOST_THREADS))


def usable_cores() -> int:
    """Return the number of cores that this process may use: affinity, and the container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota_of_period(int(time.monotonic() / _PERIOD))
    return cores if quota is None else max(1, min(cores, int(quota + 0.5)))


def _read(path: str) -> str:
    """Return the text of a file of the system, empty if there is none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


@lru_cache(maxsize=1)
def _quota_of_period(number: int) -> float | None:
    """Return the quota, looked at once in each period."""
    return _quota()


def _quota() -> float | None:
    """Return the processor time per time that Linux' control groups allow, None if unlimited.

    The least quota of the process's group and of all groups around it holds. A container sees its
    own group as the root; elsewhere /proc tells which one it is, in either form of control groups.
    """
    quotas = []
    for line in _read("/proc/self/cgroup").split("\n") or [""]:
        _, _, line = line.partition(":")
        controllers, _, group = line.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        names = [name for name in group.split("/") if name]
        for depth in range(len(names) + 1):
            path = "".join(f"/{name}" for name in names[:depth])
            quotas += [_quota_of(path), _old_quota_of(path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_of(group: str) -> float | None:
    """Return the quota of a control group, version 2."""
    return _ratio(*_read(f"/sys/fs/cgroup{group}/cpu.max").partition(" ")[::2])


def _old_quota_of(group: str) -> float | None:
    """Return the quota of a control group, version 1."""
    folder = f"/sys/fs/cgroup/cpu{group}/cpu.cfs_"
    return _ratio(_read(f"{folder}quota_us"), _read(f"{folder}period_us"))


def _ratio(limit: str, period: str) -> float | None:
    if not limit.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None  # "max", or -1 in the older form
    return int(limit) / int(period)


def _openmp() -> str:
    """Return the version of OpenMP that fastmlp was built with, and the library that runs it."""
    built, date, threads = _native.openmp()
    if not built:
        return "built without"
    version = _OPENMP_VERSIONS.get(date, "unknown version")
    # Linux tells which libraries a process has loaded.
    files = {line.rpartition("/")[2] for line in _read("/proc/self/maps").splitlines()}
    runtimes = sorted(name for name in files if re.match(r"lib(g|i|)omp(-\w+|\d+)*\.so", name))
    runtime = f"{', '.join(runtimes)}, " if runtimes else ""
    return f"{runtime}OpenMP {version} ({date}), up to {threads} threads"


def _processor() -> str:
    """Return what the processor calls itself, on Linux; otherwise what Python knows."""
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    import platform

    return platform.processor() or "unknown"


def _caches() -> dict[str, str]:
    """Return the sizes of the first core's data caches, as Linux tells them."""
    sizes = {}
    for index in range(8):
        folder = f"/sys/devices/system/cpu/cpu0/cache/index{index}"
        level, size = _read(f"{folder}/level"), _read(f"{folder}/size")
        if level and size and _read(f"{folder}/type") != "Instruction":
            sizes[f"L{level}"] = f"{size}iB"
    return sizes


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Show what fastmlp runs on: instruction set, threads, OpenMP, caches, versions.

    This belongs into a report of a problem.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print it, or return it.

    Raises
    ------
    ValueError
        If the mode is another.
    """
    import platform

    import numpy

    import fastmlp

    choose("mode", mode, ("stdout", "dicts"))
    variables = ("FASTMLP_ISA", "FASTMLP_NUM_THREADS", "OMP_NUM_THREADS")
    chosen = {
        "fastmlp": fastmlp.__version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "instruction set": _native.isa(),
        "instruction sets": {
            name: trouble or "usable" for name, trouble in _native.isa_table().items()
        },
        "threads": get_num_threads(),
        "usable cores": usable_cores(),
        "openmp": _openmp(),
        "caches": _caches(),
        "environment": {name: os.environ[name] for name in variables if name in os.environ},
    }
    if mode == "dicts":
        return chosen
    for name, value in chosen.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}: {item}" for key, item in value.items()) or "none"
        print(f"{name:<18}{value}")
    return None
