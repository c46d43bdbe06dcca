"""The peers: one module each, all with the same interface.

``NAME``          what tables call it
``REQUIRES``      the package that must be installed, or None
``VARIANTS``      its ways to run, see `Variant`; all are measured and the fastest counts
``refuses(workload, variant)``
                  a reason why this workload is not for it, or None
``setup(workload, data, variant)``
                  a callable of no arguments: one epoch, which returns the mean loss, or one
                  prediction, which returns the array that the peer hands out

Modules import their package inside ``setup``, so that naming a peer costs nothing. Whatever a user
of the peer would prepare once (placing arrays, compiling, converting) is done in ``setup`` and not
measured; whatever belongs to every mini-batch is done in the callable.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass, field
from types import ModuleType


@dataclass(frozen=True)
class Variant:
    """A way to run a peer; ``threads`` None: as many as it likes; ``options`` are its own."""

    label: str
    threads: int | None = None
    options: dict = field(default_factory=dict)


#: Module names, in the order of tables.
PEERS = ("fastmlp_trainer", "numpy_loop", "scikit_learn", "pytorch", "jax_scan", "pure_python")


def load(peer: str) -> ModuleType:
    """The module of a peer."""
    return importlib.import_module(f"peers.{peer}")


def version(peer: str) -> str | None:
    """The version of the package a peer needs ("" if it needs none), or None if it is missing."""
    package = load(peer).REQUIRES
    if package is None:
        return ""
    if importlib.util.find_spec(package) is None:
        return None
    distribution = {"sklearn": "scikit-learn"}.get(package, package)
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        # Importable but not installed: from a source tree on the path.
        return importlib.import_module(package).__version__
