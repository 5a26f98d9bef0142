"""Pages and drawings, from templates: one HTML file with its style inside, that loads and runs nothing."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twil.core.storage import atomic_file
from twil.core.version import __version__
from twil.evaluation.pages.chart import cut
from twil.evaluation.pages.numbers import format_number, format_tick

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser may load for a page: nothing but the style in it."""
# A page cannot hold them: control characters, halves of characters, what Unicode keeps for no use.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@cache
def templates() -> Environment:
    """Open the templates of pages, which escape whatever is put into them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    opened = Environment(
        autoescape=True,
        keep_trailing_newline=True,
        loader=PackageLoader("twil.evaluation"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    opened.filters |= {"at": _at, "cut": cut, "number": _number, "slug": _slug, "tick": format_tick}
    opened.tests["finite"] = math.isfinite
    return opened


def render_page(template: str | Template, **view: Any) -> str:
    """Lay out a page.

    Args:
        template: Its file's name in `twil/evaluation/templates`, or the template itself.
        view: What it shows, by the names that it knows.
    """
    page = templates().get_template(template)
    today = datetime.now(UTC).date().isoformat()
    # Sections write their titles into `contents`, which the page links to.
    written = page.render(view, contents=[], policy=POLICY, today=today, version=__version__)
    return _FORBIDDEN.sub("\ufffd", written)


def draw(kind: str, *arguments: Any, **named: Any) -> Markup:
    """Draw, by a macro of `charts.svg`."""
    drawn: Markup = getattr(templates().get_template("charts.svg").module, kind)(*arguments, **named)
    return drawn


def write_page(path: str | Path, page: str) -> None:
    """Write a page, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _at(place: float) -> str:
    """Write a place in a drawing: two decimals are finer than any screen."""
    return f"{round(place, 2):.10g}"


def _number(value: Any) -> Any:
    """Write what is a number; None is nothing."""
    return "" if value is None else format_number(value) if isinstance(value, int | float) else value


def _slug(title: str) -> str:
    """Make the name of a section that links can lead to."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")
