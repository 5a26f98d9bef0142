"""The documentation site: `sphinx-build -W -c docs . site` in a clone; with `-b man` the man page.

The whole repository is the source, so that links to results, recipes and CONTRIBUTING.md lead somewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

from twil.core.version import __version__

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))

project = "twil"
author = "the founders of twil"
copyright = "2026, the founders of twil; Apache-2.0"  # noqa: A001 (the name that Sphinx reads)
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "benchmarks/results/*.md",
    "recipes/**README.md",
    "README*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
suppress_warnings = ["toc.not_included"]  # results and recipes are reached from the pages that tell of them

myst_heading_anchors = 3
default_role = "code"  # a single backtick in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "description"

man_pages = [("docs/cli", "twil", "train, ship and run text classifiers", [author], 1)]

html_theme = "furo"
html_title = f"twil {__version__}"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["site.css"]
html_css_files = ["site.css"]


def setup(app: Sphinx) -> None:
    """Write the reference of the commands before pages are read."""
    from commands import write_reference

    app.connect("builder-inited", lambda _: write_reference(ROOT / "docs" / "cli.md"))
