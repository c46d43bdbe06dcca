"""Networks nobody tuned for: ``python benchmarks/random_networks.py``.

Draws networks from a seed (depth 1–8, widths 1–700, batch 1–400; see workloads.random_workloads),
measures fastmlp and the peers on each, in turn, and prints how many times as long as fastmlp the
fastest peer takes: the worst, the median and the best of all networks. torch.compile, which needs
some ten seconds a network, takes part with --compiled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

import harness
import machine
import report
from run import arguments, header, headline, progress
from workloads import random_workloads


def table(results: list[harness.Result]) -> list[list[str]]:
    """One line a network: fastmlp, the fastest peer, and how many times as long it takes."""
    lines = [["", "fastmlp", "of peak", "best peer", "", "times best peer", "times PyTorch"]]
    for result in results:
        mine, peer = report.own(result), report.best_peer(result)
        lines.append(
            [
                result.workload.title,
                report.duration(mine.median) if mine else "–",
                f"{100 * result.share(mine):.0f} %" if mine else "–",
                report.duration(peer.median) if peer else "–",
                f"{peer.name}, {peer.variant.label}" if peer else "",
                report.ratio(report.times(result, peer)),
                report.ratio(report.times(result, report.fastest(result.of("pytorch")))),
            ]
        )
    return lines


def verdict(results: list[harness.Result]) -> str:
    """The sentence that counts: worst, median and best ratio, and where fastmlp was slower."""
    ratios = {
        result.workload.name: value
        for result in results
        if (value := report.times(result, report.best_peer(result))) is not None
    }
    if not ratios:
        return "No ratio: fastmlp or all peers are missing."
    worst = min(ratios, key=ratios.get)
    slower = [name for name, value in ratios.items() if value < 1.0]
    text = (
        f"The fastest peer takes {report.ratio(ratios[worst])} times as long as fastmlp at worst "
        f"({worst}), {report.ratio(statistics.median(ratios.values()))} times in the median, "
        f"{report.ratio(max(ratios.values()))} times at best, over {len(ratios)} networks."
    )
    return text + (f" Slower than a peer: {', '.join(slower)}." if slower else "")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments(parser, rounds=3, seconds=0.15)
    parser.add_argument("--seed", type=int, default=0, help="of the networks (%(default)s)")
    parser.add_argument("--count", type=int, default=30, help="how many (%(default)s)")
    parser.add_argument("--compiled", action="store_true", help="with torch.compile")
    options = parser.parse_args(argv)

    variants, missing = harness.contestants(tuple(options.peers), options.compiled)
    # These two are for other questions: they only cost time here.
    variants = [
        (name, variant)
        for name, variant in variants
        if name != "pure_python" and "backend" not in variant.options
    ]
    facts = header(variants)
    print(headline(facts))
    for peer, variant, reason in missing:
        print(f"skipped: {peer}{', ' if variant else ''}{variant}: {reason}")

    quietness = machine.Quietness()
    results = []
    peak_process = harness.Process()
    try:
        for workload in random_workloads(options.seed, options.count):
            result = harness.compare(
                workload,
                variants,
                rounds=options.rounds,
                seconds=options.seconds,
                quietness=quietness,
                peak_process=peak_process,
                say=progress,
            )
            progress("")
            results.append(result)
            for peer, variant, reason in result.skipped:
                if reason.startswith("failed"):
                    print(f"{workload.name}: {peer}, {variant} {reason}")
            for sentence in report.disagreements(result):
                print(f"{workload.name}: {sentence}")
    finally:
        peak_process.close()

    lines = table(results)
    print()
    print("\n".join(report.lines_up(lines)))
    print()
    print(verdict(results))
    print(f"Medians of {options.rounds} rounds, seed {options.seed}. {quietness.sentence()}")
    if options.json:
        record = facts | {
            "seed": options.seed,
            "quietness": quietness.as_dict(),
            "results": [result.as_dict() for result in results],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
