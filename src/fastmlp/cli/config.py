"""``fastmlp config``: what fastmlp runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .output import print_json

if TYPE_CHECKING:
    import argparse

SUMMARY = "show instruction set, threads, OpenMP and caches"
DESCRIPTION = "Show what fastmlp runs on: instruction set, threads, OpenMP, caches, versions."
EXAMPLES = """\
examples:
  fastmlp config
  FASTMLP_ISA=portable FASTMLP_NUM_THREADS=1 fastmlp config --json
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """There are none beside --json."""


def run(options: argparse.Namespace) -> None:
    """Print the configuration."""
    from ..config import show_config

    if options.json:
        print_json(show_config("dicts"))
    else:
        show_config()
