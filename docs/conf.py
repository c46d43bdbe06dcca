"""How the documentation is built.

    pip install ".[docs]" && python -m sphinx -W docs docs/_build

The gallery runs every script of examples/ and shows it with its pictures; the reference comes from
the docstrings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import fastmlp

if TYPE_CHECKING:
    from typing import Any

    from sphinx.application import Sphinx

project = "fastmlp"
author = "The fastmlp developers"
copyright = author
version = release = fastmlp.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "sg_execution_times.rst", "gallery/sg_execution_times.rst"]
html_theme = "furo"
html_title = f"fastmlp {release}"
html_show_sphinx = False
templates_path: list[str] = []

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # types stand in the docstrings, with shapes and what they mean
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes of a class in its own text, not a second time as members
default_role = "code"
# Activation is a function and a layer; a type in a signature says which by its module.
suppress_warnings = ["ref.python"]

# Links into other projects' documentation need the network; without it they stay plain text.
intersphinx_mapping: dict[str, tuple[str, None]] = {}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "plot_gallery": True,
    "min_reported_time": 1_000_000,  # times of this machine say nothing to a reader
    "show_signature": False,
    "reset_modules": ("matplotlib",),
}


def _plain_text(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Take bars and last underscores in docstrings as they stand.

    Docstrings are written for help(), too: |e| is an absolute value there, "val_" a prefix.
    """
    for k, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        parts = re.split(r"(``.*?``|`.*?`)", line)  # what is code stays
        parts[::2] = [re.sub(r"\||_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
        lines[k] = "".join(parts)


def _one_by_one(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Give each of two attributes that are described together an entry, as napoleon does not."""
    entry = re.compile(r"^(\w+), (\w+) : (.*(?:\n +.*)*)", re.MULTILINE)
    lines[:] = entry.sub(r"\1 : \3\n\2 : \3", "\n".join(lines)).split("\n")


def setup(app: Sphinx) -> None:
    """Connect with Sphinx; before napoleon, whose priority is the usual 500."""
    app.connect("autodoc-process-docstring", _one_by_one, priority=400)
    app.connect("autodoc-process-docstring", _plain_text, priority=410)
