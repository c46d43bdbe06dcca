"""``fastmlp export``: a saved model as C or ONNX."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .models import SavedModel, features
from .output import print_json

if TYPE_CHECKING:
    import argparse

SUMMARY = "write a model as one C file, or as ONNX"
DESCRIPTION = "Write a model for other programs: as one C99 file without dependencies, or as ONNX."
EXAMPLES = """\
examples:
  fastmlp export digits.safetensors digits.c
  fastmlp export digits.safetensors digits.c --int8 --data digits
  fastmlp export digits.safetensors digits.onnx
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fastmlp export``."""
    parser.add_argument("model", metavar="MODEL", help="a file that train or model.save wrote")
    parser.add_argument("output", metavar="OUTPUT", help="a file that ends in .c or .onnx")
    group = parser.add_argument_group("C")
    group.add_argument("--name", help="begins all names in the file (by default the file's name)")
    group.add_argument("--int8", action="store_true", help="store weights in 8 bits")
    group.add_argument(
        "--data", metavar="DATA", help="samples, as for predict, on which int8's error is measured"
    )
    parser.set_defaults(target=None, scale=None)


def run(options: argparse.Namespace) -> None:
    """Write the file and say what is in it."""
    path = Path(options.output)
    suffix = path.suffix.lower()
    if suffix not in (".c", ".onnx"):
        raise ValueError(f"OUTPUT must end in .c or .onnx; got {str(path)!r}")
    for option in ("name", "int8", "data"):
        if suffix == ".onnx" and getattr(options, option):
            raise ValueError(f"--{option} is for C only")
    if options.data is not None and not options.int8:
        raise ValueError("--data is for --int8 only")
    saved = SavedModel(options.model)
    about: dict[str, object] = {"model": options.model, "output": options.output}
    if suffix == ".c":
        x = None if options.data is None else features(options, saved)
        report = saved.model.export_c(path, name=options.name, int8=options.int8, x=x)
        about |= asdict(report)
        text = str(report)
    else:
        saved.model.export_onnx(path)
        text = f"wrote {path}"
    about["bytes"] = path.stat().st_size
    if options.json:
        print_json({name: str(v) if isinstance(v, Path) else v for name, v in about.items()})
    else:
        print(text)
