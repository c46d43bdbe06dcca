"""The command line that says when it trains, and an interrupt that reaches it then.

One that comes during an import may be lost in a callback of the import system, or become another
error.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

TRAINS = "trains\n"


def interrupt(*arguments: str) -> tuple[int, str]:
    """Interrupt a command while it trains; return its exit code and its standard error."""
    import fastmlp

    package = Path(fastmlp.__file__).resolve().parent
    with subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(package.parent)},
    ) as process:
        try:
            if TRAINS in process.stdout:
                process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=600)
        finally:
            process.kill()
    return process.returncode, errors


def main() -> int:
    from fastmlp import cli
    from fastmlp.backends.native import Executor

    # What a shell starts in the background ignores interrupts, and so do all its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    train, spans = Executor.train, iter(range(20, -1, -1))

    def telling(*settings: object) -> None:
        train(*settings)
        if next(spans, None) == 0:  # by now all is imported
            sys.stdout.write(TRAINS)
            sys.stdout.flush()

    Executor.train = telling
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
