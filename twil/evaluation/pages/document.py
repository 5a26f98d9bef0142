"""The page: one HTML file with its style inside, that loads nothing and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twil.core.storage import atomic_file
from twil.core.version import __version__
from twil.evaluation.pages.chart import Chart
from twil.evaluation.pages.elements import FORBIDDEN, Child, Element
from twil.evaluation.pages.tables import Cell, written

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser may load for a page: nothing but the style in it."""


@cache
def templates() -> Environment:
    """Open the templates of pages, which escape whatever is put into them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    opened = Environment(
        autoescape=True,
        loader=PackageLoader("twil.evaluation"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    opened.filters |= {"number": written, "slug": _slug}
    return opened


def render_page(template: str, **view: Any) -> str:
    """Lay out a page.

    Args:
        template: Its file's name in `twil/evaluation/templates`.
        view: What it shows, by the names that it knows.
    """
    page = templates().get_template(template)
    today = datetime.now(UTC).date().isoformat()
    # Sections write their titles into `contents`, which the page links to.
    written = page.render(view, contents=[], policy=POLICY, today=today, version=__version__)
    return FORBIDDEN.sub("\ufffd", written)


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def make_page(title: str, *sections: Element | None, about: str = "", contents: bool = False) -> str:
    """Lay out a page.

    Args:
        title: Its heading, and its name in a browser.
        sections: As `section` makes them; None is left out.
        about: One sentence under the heading.
        contents: List the sections, behind the first one.
    """
    if contents:
        first, *others = filter(None, sections)
        sections = (first, _contents(others), *others)
    today = datetime.now(UTC).date().isoformat()
    head = Element(
        "head",
        Element("meta", charset="utf-8"),
        Element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        Element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        Element("meta", name="color-scheme", content="light dark"),
        Element("meta", name="generator", content=f"twil {__version__}"),
        Element("title", title),
        Element("link", rel="icon", href="data:,"),  # otherwise a browser asks the server for one
        Element(
            "style",
            resources.files("twil.evaluation").joinpath("templates", "style.css").read_text(encoding="utf-8"),
        ),
    )
    body = Element(
        "body",
        Element("header", Element("h1", title), Element("p", about) if about else None),
        Element("main", *sections),
        Element(
            "footer",
            Element("p", f"Written by twil {__version__}, ", Element("time", today, datetime=today), "."),
        ),
    )
    return f"<!doctype html>\n{Element('html', head, body, lang='en')}\n"


def _contents(sections: Iterable[Element]) -> Element:
    """Link to sections."""
    links = []
    for each in sections:
        heading = next(child for child in each.children if isinstance(child, Element))
        links.append(Element("li", Element("a", *heading.children, href=f"#{each.attributes['id']}")))
    return Element("nav", Element("ul", *links), aria_label="contents")


def write_page(path: str | Path, page: str) -> None:
    """Write a page, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def section(title: str, *content: Child) -> Element:
    """Put content under a heading, which links can lead to."""
    return Element("section", Element("h2", title), *content, id=_slug(title))


def paragraph(*content: Child) -> Element:
    """Say something in running text."""
    return Element("p", *content)


def note(text: str) -> Element:
    """Say something that must not be overlooked."""
    return Element("p", text, class_="note", role="note")


def facts(pairs: Iterable[tuple[str, Cell]]) -> Element:
    """List names and what they stand for."""
    parts = (Element("div", Element("dt", name), Element("dd", written(value))) for name, value in pairs)
    return Element("dl", *parts)


def folded(summary: str, *content: Child) -> Element:
    """Hide content until it is asked for; on paper it is shown."""
    return Element("details", Element("summary", summary), *content)


def figure(chart: Chart, *, caption: str = "") -> Element:
    """Show a chart under its title, and its numbers folded below.

    Args:
        chart: What is shown.
        caption: What else there is to know.
    """
    return Element(
        "figure",
        Element("figcaption", chart.title),
        Element("ul", *(Element("li", *entry) for entry in chart.legend), class_="legend")
        if chart.legend
        else None,
        Element("div", chart.drawing, class_="scroll"),
        Element("p", caption, class_="caption") if caption else None,
        folded("Numbers", chart.numbers),
    )


def figures(*shown: Element | None) -> Element:
    """Put figures side by side where there is room."""
    return Element("div", *shown, class_="figures")


def entries(*items: Element) -> Element:
    """Number what has more to say than a row of a table has room for."""
    return Element("ol", *(Element("li", item) for item in items), class_="entries")


def quotation(*content: Child) -> Element:
    """Show a text as somebody wrote it: with its lines, and in the direction of its script."""
    return Element("blockquote", *content, dir="auto")


def code(text: str) -> Element:
    """Show what machines read, such as a checksum; it may be broken anywhere."""
    return Element("code", text)
