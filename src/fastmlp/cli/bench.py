"""``fastmlp bench``: how fast training steps are here, and where their time goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .output import print_json, print_table

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..profiling import Profile

SUMMARY = "measure how fast networks train here, step by step"
DESCRIPTION = (
    "Time a training step (forward, backward, update) of networks on random data, and compare it\n"
    "with the peak of fused multiply-adds, measured in the same breath on the same cores."
)
EXAMPLES = """\
examples:
  fastmlp bench
  fastmlp bench tiny nielsen --steps
  fastmlp bench 784-128-64-10 --batch-size 128 --activation relu --optimizer adam
  fastmlp bench 100-256-1 --threads 1 --plot roofline.png
  fastmlp bench all --json

networks:
  tiny       8-32-32-1, tanh, batch 32, SGD
  nielsen    784-30-10, sigmoid, batch 10, SGD
  digits     64-128-64-10, ReLU, batch 64, Adam
  mnist      784-128-64-10, ReLU, batch 128, Adam
  tab        100-512-256-128-1, ReLU, batch 256, Adam
  wide       1024-2048-2048-1024, ReLU, batch 512, SGD (takes a while; not among the default ones)
  all        all of these
  A-B-…-Z    a network of these sizes, with the options' activation, batch size, optimizer

Share of the peak counts the arithmetic of the products alone. Times of a busy machine say little.
"""


@dataclass(frozen=True)
class Workload:
    """A network and how it is trained."""

    name: str
    sizes: tuple[int, ...]
    activation: str
    output_activation: str
    batch_size: int
    optimizer: str


WORKLOADS = (
    Workload("tiny", (8, 32, 32, 1), "tanh", "identity", 32, "sgd"),
    Workload("nielsen", (784, 30, 10), "sigmoid", "sigmoid", 10, "sgd"),
    Workload("digits", (64, 128, 64, 10), "relu", "identity", 64, "adam"),
    Workload("mnist", (784, 128, 64, 10), "relu", "identity", 128, "adam"),
    Workload("tab", (100, 512, 256, 128, 1), "relu", "identity", 256, "adam"),
    Workload("wide", (1024, 2048, 2048, 1024), "relu", "identity", 512, "sgd"),
)
BY_DEFAULT = tuple(workload.name for workload in WORKLOADS[:-1])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fastmlp bench``."""
    parser.add_argument("networks", metavar="NETWORK", nargs="*", help="names or sizes; see below")
    network = parser.add_argument_group("networks given by sizes")
    network.add_argument(
        "--activation", metavar="NAME", default="relu", help="hidden layers' (relu)"
    )
    network.add_argument(
        "--output-activation", metavar="NAME", default="identity", help="(identity)"
    )
    network.add_argument("--batch-size", metavar="N", type=int, default=32, help="(32)")
    network.add_argument("--optimizer", metavar="NAME", default="sgd", help="(sgd)")
    parser.add_argument("--loss", metavar="NAME", default="mse", help="(mse)")
    parser.add_argument("--dtype", metavar="NAME", default="float32", help="float32 or float64")
    parser.add_argument("--threads", metavar="N", type=int, help="by default what is found fastest")
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=0.3, help="to measure each network (0.3)"
    )
    parser.add_argument("--steps", action="store_true", help="show every step of each network")
    parser.add_argument("--plot", metavar="FILE", help="draw the roofline of one network")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    from ..model import MLP
    from ..profiling import profile

    workloads = [
        workload for name in options.networks or BY_DEFAULT for workload in _find(name, options)
    ]
    if options.plot is not None and len(workloads) != 1:
        raise ValueError(f"--plot draws one network; got {len(workloads)}")
    if options.plot is not None and not Path(options.plot).parent.is_dir():
        raise FileNotFoundError(f"there is no folder {Path(options.plot).parent} to draw to")
    # All are checked before the first is measured.
    models = [
        MLP(w.sizes, w.activation, w.output_activation, dtype=options.dtype) for w in workloads
    ]
    rows, results = [], []
    alone = len(workloads) == 1
    for workload, model in zip(workloads, models, strict=True):
        measured = profile(
            model,
            workload.batch_size,
            loss=options.loss,
            optimizer=workload.optimizer,
            threads=options.threads,
            seconds=options.seconds,
        )
        results.append(_plain(workload, measured, options))
        rows.append(_row(workload, measured))
        if (options.steps or alone) and not options.json:
            print(f"{_title(workload)}\n{measured}\n")
        if options.plot is not None:
            kind = Path(options.plot).suffix[1:] or "png"
            measured.plot().figure.savefig(options.plot, format=kind)
    if options.json:
        print_json({"machine": _machine(), "networks": results})
        return
    if not alone:
        titles = ["network", "", "µs a step", "GFLOP/s", "of peak", "threads", "parts along"]
        print_table(titles, rows, left=2)
        print(f"\npeak: {measured.peak}")
    machine = _machine()
    print(
        f"{machine['instruction set']}, {options.dtype}, {machine['usable cores']} usable core(s)"
    )
    if options.plot is not None:
        print(f"drew {options.plot}")


def _find(name: str, options: argparse.Namespace) -> list[Workload]:
    from ..errors import check_integer, choose

    if name == "all":
        return list(WORKLOADS)
    words = name.split("-")
    if not all(word.isdecimal() for word in words) or len(words) < 2:
        named = {workload.name: workload for workload in WORKLOADS}
        return [named[choose("NETWORK (or sizes, as 8-32-1)", name, [*named, "all"])]]
    sizes = tuple(check_integer("size", int(word), low=1) for word in words)
    return [
        Workload(
            name,
            sizes,
            options.activation,
            options.output_activation,
            check_integer("--batch-size", options.batch_size, low=1),
            options.optimizer,
        )
    ]


def _title(workload: Workload) -> str:
    sizes = "-".join(map(str, workload.sizes))
    return f"{sizes}, {workload.activation}, batch {workload.batch_size}, {workload.optimizer}"


def _row(workload: Workload, measured: Profile) -> list[str]:
    rate = measured.flops / measured.seconds * 1e-9
    return [
        workload.name if workload.name[0].isalpha() else "",
        _title(workload),
        f"{measured.seconds * 1e6:,.2f}",
        f"{rate:.1f}",
        f"{measured.share:.0%}",
        str(measured.threads),
        measured.strategy,
    ]


def _plain(workload: Workload, measured: Profile, options: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **asdict(workload),
        "loss": options.loss,
        "dtype": options.dtype,
        "seconds": measured.seconds,
        "flops": measured.flops,
        "gflops": measured.flops / measured.seconds * 1e-9,
        "share_of_peak": measured.share,
        "peak": asdict(measured.peak),
        "threads": measured.threads,
        "strategy": measured.strategy,
        "memory": measured.memory,
        "steps": [{**asdict(step), "gflops": step.gflops} for step in measured.steps],
    }


def _machine() -> dict[str, Any]:
    from ..config import show_config

    return show_config("dicts") or {}
