"""Measure fastmlp and its peers on the table of workloads: ``python benchmarks/run.py``.

Every variant of every peer runs in its own process, in turn, several rounds; tables show the median
and the best. What is not installed is named as skipped. See workloads.py for what is computed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import harness
import machine
import peers
import report
import workloads


def arguments(parser: argparse.ArgumentParser, rounds: int = 5, seconds: float = 0.3) -> None:
    """Add the options that all scripts of comparisons share."""
    parser.add_argument(
        "--peers",
        nargs="+",
        metavar="PEER",
        choices=peers.PEERS,
        default=list(peers.PEERS),
        help="only these: " + ", ".join(peers.PEERS),
    )
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="how often each is measured (%(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=seconds,
        help="the least time of one measurement (%(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures")


def header(variants: list[tuple[str, peers.Variant]]) -> dict:
    """Machine and versions, as plain data."""
    versions = {peers.load(name).NAME: peers.version(name) for name, _ in variants}
    return machine.describe() | {"versions": {name: v for name, v in versions.items() if v}}


def progress(text: str) -> None:
    """A line that overwrites itself in a terminal, and nothing in a pipe."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def headline(facts: dict) -> str:
    """The machine and the versions in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['processor']} ({facts['architecture']}), {facts['processors']} processors; "
        f"Python {facts['python']}; {versions}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--workloads",
        nargs="+",
        metavar="NAME",
        choices=workloads.WORKLOADS,
        default=list(workloads.WORKLOADS),
        help="only these: " + ", ".join(workloads.WORKLOADS),
    )
    arguments(parser)
    parser.add_argument(
        "--quick", action="store_true", help="the six main workloads, nothing compiled, 3 rounds"
    )
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the tables")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw them (needs matplotlib)")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds = min(options.rounds, 3)
        options.workloads = [name for name in options.workloads if name in workloads.SIX]

    variants, missing = harness.contestants(tuple(options.peers), compiled=not options.quick)
    facts = header(variants)
    print(headline(facts))
    for peer, variant, reason in missing:
        print(f"skipped: {peer}{', ' if variant else ''}{variant}: {reason}")

    quietness = machine.Quietness()
    results = []
    peak_process = harness.Process()
    try:
        for name in options.workloads:
            result = harness.compare(
                workloads.get(name),
                variants,
                rounds=options.rounds,
                seconds=options.seconds,
                quietness=quietness,
                peak_process=peak_process,
                say=progress,
            )
            progress("")
            results.append(result)
            print()
            print("\n".join(report.detail(result)), flush=True)
    finally:
        peak_process.close()

    peak = max(result.peak for result in results)
    footer = [
        f"Peak of all cores: {peak:.0f} GFLOP/s float32 ({results[0].peak_source}), "
        "measured in this run, once a round.",
        f"Medians of {options.rounds} rounds. {quietness.sentence()}",
    ]
    table = report.summary_table(results)
    print()
    print("\n".join(report.lines_up(table)))
    print()
    print("\n".join(footer))

    if options.json:
        record = facts | {
            "quietness": quietness.as_dict(),
            "peak_gflops": peak,
            "missing": [" ".join(filter(None, row)) for row in missing],
            "results": [result.as_dict() for result in results],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.markdown:
        parts = [headline(facts), "", *report.markdown(table), "", *footer]
        for result in results:
            if not result.rows:
                continue
            parts += ["", f"### {result.workload.title}", ""]
            parts += report.markdown(report.detail_table(result), left=2)
        options.markdown.write_text("\n".join(parts) + "\n")
    if options.plot:
        report.plot(results, options.plot, f"{headline(facts)}. {quietness.sentence()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
