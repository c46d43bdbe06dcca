"""The `timed` fixture of the benchmarks, and the table of ratios at the end of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

_MEDIANS = pytest.StashKey[dict[str, dict[str, float]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEDIANS] = {}


@pytest.fixture
def timed(benchmark, request):
    """``timed(group, way, function)`` measures a function; ways of a group are compared."""

    def measure(group: str, way: str, function) -> None:
        benchmark.group = group
        benchmark.name = way
        benchmark(function)
        if benchmark.stats is not None:  # None under --benchmark-disable
            medians = request.config.stash[_MEDIANS].setdefault(group, {})
            medians[way] = benchmark.stats.stats.median

    return measure


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Print the median of every way, and how many times as long as native each takes."""
    groups = config.stash[_MEDIANS]
    if not groups:
        return
    import report

    ways = list(dict.fromkeys(way for medians in groups.values() for way in medians))
    heading = [""]
    for way in ways:
        heading += [way] if way == "native" else [way, "ratio"]
    table = [heading]
    for group, medians in groups.items():
        cells = [group]
        native = medians.get("native")
        for way in ways:
            seconds = medians.get(way)
            cells.append("–" if seconds is None else report.duration(seconds))
            if way != "native":
                both = seconds is not None and native is not None
                cells.append(report.ratio(seconds / native if both else None))
        table.append(cells)
    terminalreporter.section("medians, and ratios to native")
    for line in report.lines_up(table):
        terminalreporter.write_line(line)
