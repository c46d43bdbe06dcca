"""How cost grows: ``python benchmarks/scaling.py``.

One property is varied while the others stay: batch size, width, depth, threads or the number of
rows. Each curve prints time per step, time per sample, GFLOP/s and memory (what the process
holds beyond its data after the first measurement, by how much that grew until the last, and the
highest), beside a fit of the exponent: time ~ size^p between neighbouring points.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import harness
import machine
import peers
import report
from run import arguments, header, headline, progress
from workloads import Workload

#: The middle of all curves.
BASE = Workload("base", (64, 128, 128, 10), "relu", 64, "adam", 50, lr=1e-3)

CURVES: dict[str, tuple[int, ...]] = {
    "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    "width": (8, 17, 32, 64, 100, 128, 256, 333, 512, 1024),
    "depth": (1, 2, 3, 4, 6, 8, 16),
    "threads": (1, 2, 3, 4, 8),
    "rows": (640, 2_000, 6_400, 20_000, 64_000, 200_000),
}


def point(curve: str, value: int) -> Workload:
    """The workload at one point of a curve; epochs hold about the same number of samples.

    Raises
    ------
    ValueError
        If there is no such curve.
    """
    if curve == "batch":
        return replace(BASE, name=f"batch {value}", batch=value, batches=max(4, 3200 // value))
    if curve == "width":
        sizes = (BASE.sizes[0], value, value, BASE.sizes[-1])
        return replace(BASE, name=f"width {value}", sizes=sizes)
    if curve == "depth":
        sizes = (BASE.sizes[0], *([128] * (value - 1)), BASE.sizes[-1])
        return replace(BASE, name=f"depth {value}", sizes=sizes)
    if curve == "threads":
        # Enough work in a step that more threads can pay.
        return replace(BASE, name=f"threads {value}", sizes=(256, 512, 512, 10), batch=256)
    if curve == "rows":
        return replace(BASE, name=f"rows {value}", batches=max(1, value // BASE.batch))
    raise ValueError(f"curve {curve!r} is none of {', '.join(CURVES)}")


def with_threads(variants: list[tuple[str, peers.Variant]]) -> list[tuple[str, peers.Variant]]:
    """Those whose number of threads can be set."""
    return [row for row in variants if row[0] not in ("jax_scan", "pure_python")]


def variant_at(curve: str, value: int, variant: peers.Variant) -> peers.Variant:
    """The variant of a peer at one point: on the curve of threads, with so many."""
    if curve != "threads":
        return variant
    return replace(variant, threads=value, label=f"{variant.label}, {value} threads")


def megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def table(curve: str, results: list[tuple[int, harness.Result]]) -> list[list[str]]:
    """Lines of one curve, every peer under the other."""
    lines = [
        [
            curve,
            "",
            "per step",
            "per sample",
            "GFLOP/s",
            "of peak",
            "exponent",
            "memory",
            "growth",
            "highest",
        ]
    ]
    names = dict.fromkeys(row.name for _, result in results for row in result.rows)
    for name in names:
        previous = None
        for value, result in results:
            for row in result.rows:
                if row.name != name:
                    continue
                exponent = "–"
                if previous is not None and curve != "threads":
                    size, seconds = previous
                    exponent = f"{math.log(row.median / seconds) / math.log(value / size):.2f}"
                previous = (value, row.median)
                lines.append(
                    [
                        str(value),
                        name,
                        report.duration(row.median),
                        report.duration(row.median / result.workload.batch),
                        f"{result.gflops(row):.3g}",
                        f"{100 * result.share(row):.0f} %",
                        exponent,
                        megabytes(row.memory_first - row.memory_before),
                        megabytes(row.memory_last - row.memory_first),
                        megabytes(row.memory_highest),
                    ]
                )
    return lines


def plot(curves: dict[str, list[tuple[int, harness.Result]]], path: Path, caption: str) -> None:
    """Draw time per sample over each varied property, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3.6), squeeze=False)
    for axis, (curve, results) in zip(axes.flat, curves.items(), strict=True):
        names = dict.fromkeys(row.name for _, result in results for row in result.rows)
        for name in names:
            points = [
                (value, 1e6 * row.median / result.workload.batch)
                for value, result in results
                for row in result.rows
                if row.name == name
            ]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axis.set_xscale("log")
        axis.set_yscale("log")
        values = [value for value, _ in results]
        # Every other value is labelled where they are many.
        axis.set_xticks(values[:: 1 + len(values) // 7])
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.set_xlabel(curve)
        axis.grid(True, alpha=0.3)
    axes[0, 0].set_ylabel("µs per sample")
    axes[0, 0].legend(fontsize=8)
    caption = "\n".join(textwrap.wrap(caption, 70 * len(curves)))
    figure.text(0.01, 0.01, caption, size=7, color="#555555")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--curves", nargs="+", choices=CURVES, default=list(CURVES), help="only these"
    )
    arguments(parser, rounds=3, seconds=0.15)
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw them (needs matplotlib)")
    parser.set_defaults(peers=["fastmlp_trainer"])
    options = parser.parse_args(argv)

    # One variant a peer: the curves compare sizes, run.py compares peers.
    variants, missing = [], []
    for name in options.peers:
        chosen, skipped = harness.contestants((name,), compiled=False)
        variants += chosen[-1:] if name != "fastmlp_trainer" else chosen[:1]
        missing += skipped
    facts = header(variants)
    print(headline(facts))
    for peer, variant, reason in missing:
        print(f"skipped: {peer}{', ' if variant else ''}{variant}: {reason}")
    if not variants:
        return 1

    quietness = machine.Quietness()
    curves: dict[str, list[tuple[int, harness.Result]]] = {}
    peak_process = harness.Process()
    try:
        for curve in options.curves:
            curves[curve] = []
            for value in CURVES[curve]:
                obedient = variants if curve != "threads" else with_threads(variants)
                result = harness.compare(
                    point(curve, value),
                    [(name, variant_at(curve, value, variant)) for name, variant in obedient],
                    rounds=options.rounds,
                    seconds=options.seconds,
                    quietness=quietness,
                    peak_process=peak_process,
                    say=progress,
                )
                curves[curve].append((value, result))
            progress("")
            print()
            print("\n".join(report.lines_up(table(curve, curves[curve]), left=2)), flush=True)
    finally:
        peak_process.close()

    print()
    print(f"Medians of {options.rounds} rounds. {quietness.sentence()}")
    if options.json:
        record = facts | {
            "quietness": quietness.as_dict(),
            "curves": {
                curve: [{"value": value} | result.as_dict() for value, result in results]
                for curve, results in curves.items()
            },
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.plot:
        plot(curves, options.plot, f"{headline(facts)}. {quietness.sentence()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
