"""Results as text, Markdown and pictures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from pathlib import Path

from harness import Result, Row

OWN = "fastmlp_trainer"
#: Columns of the summary: heading, module names of the peers whose fastest variant stands there.
COLUMNS = (
    ("NumPy", "numpy_loop"),
    ("scikit-learn", "scikit_learn"),
    ("PyTorch", "pytorch"),
    ("JAX", "jax_scan"),
)


def duration(seconds: float) -> str:
    """Three significant digits with a unit: ``2.47 µs``."""
    if seconds >= 0.9995:
        value, unit = seconds, "s"
    elif seconds >= 0.9995e-3:
        value, unit = seconds * 1e3, "ms"
    else:
        value, unit = seconds * 1e6, "µs"
    digits = max(0, 3 - len(str(int(value))))
    return f"{value:.{digits}f} {unit}"


def ratio(value: float | None) -> str:
    """``2.41`` or ``117``; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2f}" if value < 9.95 else f"{value:.1f}"


def fastest(rows: Iterable[Row]) -> Row | None:
    """The row with the smallest median."""
    return min(rows, key=lambda row: row.median, default=None)


def own(result: Result) -> Row | None:
    """fastmlp as a user gets it: the first of its variants."""
    rows = result.of(OWN)
    return rows[0] if rows else None


def best_peer(result: Result) -> Row | None:
    """The fastest row that is not fastmlp's."""
    return fastest(row for row in result.rows if row.peer != OWN)


def times(result: Result, row: Row | None) -> float | None:
    """How many times as long as fastmlp a row takes, medians."""
    mine = own(result)
    return row.median / mine.median if row is not None and mine is not None else None


def lines_up(table: list[list[str]], left: int = 1) -> list[str]:
    """Lines of a table whose first ``left`` columns are left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def markdown(table: list[list[str]], left: int = 1) -> list[str]:
    """The same as a Markdown table."""
    rule = ["---" if i < left else "---:" for i in range(len(table[0]))]
    return ["| " + " | ".join(row) + " |" for row in [table[0], rule, *table[1:]]]


def detail_table(result: Result) -> list[list[str]]:
    """Every variant of one workload, the fastest first."""
    step = "step" if result.workload.kind == "train" else "call"
    heading = ["", "", f"median per {step}", "best", "GFLOP/s", "of peak", "times fastmlp"]
    table = [heading]
    for row in sorted(result.rows, key=lambda row: row.median):
        table.append(
            [
                row.name,
                row.variant.label,
                duration(row.median),
                duration(row.best),
                f"{result.gflops(row):.3g}",
                f"{100 * result.share(row):.1f} %",
                ratio(times(result, row)),
            ]
        )
    return table


def disagreements(result: Result) -> list[str]:
    """Sentences on rows whose first value (mean loss, mean output) is not the common one.

    Shuffled epochs differ a little from those in order: 5 % is allowed.
    """
    values = sorted(row.value for row in result.rows if math.isfinite(row.value))
    if not values:
        return [f"{row.name}, {row.variant.label}: not finite" for row in result.rows]
    common = values[len(values) // 2]
    what = "mean loss of the first epoch" if result.workload.kind == "train" else "mean output"
    return [
        f"{row.name}, {row.variant.label}: {what} {row.value:.5g} where most have {common:.5g}"
        for row in result.rows
        if not abs(row.value - common) <= 0.05 * abs(common)
    ]


def detail(result: Result) -> list[str]:
    """The text for one workload."""
    lines = [result.workload.title + f": {result.workload.flops / 1e6:.4g} MFLOP"]
    if result.rows:
        lines += ["  " + line for line in lines_up(detail_table(result), left=2)]
    for peer, variant, reason in result.skipped:
        lines.append(f"  skipped: {peer}{', ' if variant else ''}{variant}: {reason}")
    lines += [f"  note: {sentence}" for sentence in disagreements(result)]
    return lines


def summary_table(results: list[Result]) -> list[list[str]]:
    """One line a workload: the fastest of every peer, ratios, share of the peak."""
    heading = ["", *(name for name, _ in COLUMNS), "fastmlp", "(best)", "of peak"]
    table = [[*heading, "times best peer", "times PyTorch"]]
    for result in results:
        mine = own(result)
        cells = [result.workload.name]
        for _, peer in COLUMNS:
            row = fastest(result.of(peer))
            cells.append(duration(row.median) if row else "–")
        cells += (
            [duration(mine.median), duration(mine.best), f"{100 * result.share(mine):.0f} %"]
            if mine
            else ["–", "–", "–"]
        )
        cells.append(ratio(times(result, best_peer(result))))
        cells.append(ratio(times(result, fastest(result.of("pytorch")))))
        table.append(cells)
    return table


def plot(results: list[Result], path: str | Path, caption: str) -> None:
    """Draw the fastest variant of every peer as a multiple of fastmlp's time, one panel a workload.

    Where fastmlp was not measured: as a multiple of the time of the fastest peer.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(3, len(results))
    lines = -(-len(results) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.2 * columns, 0.5 + 2.1 * lines), squeeze=False
    )
    for axis in axes.flat[len(results) :]:
        axis.set_visible(False)
    for axis, result in zip(axes.flat, results, strict=False):
        names = [OWN, *(peer for _, peer in COLUMNS), "pure_python"]
        rows = [own(result), *(fastest(result.of(name)) for name in names[1:])]
        rows = [row for row in rows if row is not None]
        rows.sort(key=lambda row: row.median, reverse=True)
        if not rows:
            axis.set_visible(False)
            continue
        unit = (own(result) or rows[-1]).median
        values = [row.median / unit for row in rows]
        colours = ["#c44e52" if row.peer == OWN else "#8c9bb0" for row in rows]
        bars = axis.barh([row.name for row in rows], values, color=colours)
        labels = [
            f"{duration(row.median)}  ×{ratio(value)}"
            for row, value in zip(rows, values, strict=True)
        ]
        axis.bar_label(bars, labels, padding=3, fontsize=8)
        axis.set_xscale("log")
        axis.set_xlim(min(0.8, 0.8 * min(values)), max(values) ** 1.6 * 4)
        sizes = "-".join(map(str, result.workload.sizes))
        axis.set_title(f"{result.workload.name}  {sizes}, batch {result.workload.batch}", size=9)
        axis.tick_params(labelsize=8)
        axis.set_xticks([])
        axis.minorticks_off()
        for side in ("top", "right", "bottom"):
            axis.spines[side].set_visible(False)
    whose = "fastmlp's" if any(map(own, results)) else "the fastest's"
    figure.suptitle(
        f"Time per step, and as a multiple of {whose} (logarithmic; shorter is faster)", size=11
    )
    caption = "\n".join(textwrap.wrap(caption, 70 * columns))
    figure.text(0.01, 0.005, caption, size=7, color="#555555")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)
