"""The command line: ``fastmlp train``, ``predict``, ``evaluate``, ``inspect``, ``export``, …

The library behind it is argparse: a part of Python, so always there, well kept, and imported in a
few milliseconds. Each command is a module with `SUMMARY`, `DESCRIPTION`, `EXAMPLES`, `add_options`
and `run`.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = ("train", "predict", "evaluate", "inspect", "export", "bench", "config")
EXIT_CODES = """
exit codes: 0 done, 1 failed (as by a damaged file), 2 wrong usage, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        Exit code: 0 done, 1 failed, 130 interrupted. Wrong usage leaves by SystemExit(2).
    """
    try:
        try:
            options = parser().parse_args(arguments)
            options.run(options)
        finally:  # also where --help leaves
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        # Where it has passed through an exec of a text, as in the making of a dataclass, CPython
        # remembers that and would end by the signal; the next exec clears it.
        exec("")
        print("fastmlp: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has left, as head does; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        named = error.filename and error.strerror
        return _fail(f"{error.filename}: {error.strerror}" if named else error)
    except (ArithmeticError, ImportError, MemoryError, TypeError, ValueError) as error:
        return _fail(error)
    return 0


def _fail(error: object) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"fastmlp: error: {text}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    from importlib import import_module

    from .. import __version__

    whole = argparse.ArgumentParser(
        prog="fastmlp",
        description="Train multilayer perceptrons fast on CPUs, and use them.",
        epilog=f"fastmlp COMMAND --help shows options and examples.\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"fastmlp {__version__}")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f".{name}", __name__)
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES + EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(command)
        command.add_argument("--json", action="store_true", help="print one JSON object instead")
        command.set_defaults(run=module.run)
    return whole
