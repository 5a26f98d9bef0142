"""The page: one HTML file with its style inside, that loads nothing and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from twil.core.storage import atomic_file
from twil.core.version import __version__
from twil.evaluation.pages.chart import Chart
from twil.evaluation.pages.elements import Child, Element
from twil.evaluation.pages.tables import Cell, written

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser may load for a page: nothing but the style in it."""


_FEW = 4  # sections that are found without contents


def make_page(title: str, *sections: Element | None, about: str = "") -> str:
    """Lay out a page.

    Args:
        title: Its heading, and its name in a browser.
        sections: As `section` makes them; None is left out.
        about: One sentence under the heading.
    """
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
            resources.files("twil.evaluation.pages").joinpath("style.css").read_text(encoding="utf-8"),
        ),
    )
    listed = [part for part in sections if part is not None and part.attributes.get("id")]
    body = Element(
        "body",
        Element("header", Element("h1", title), Element("p", about) if about else None),
        _contents(listed) if len(listed) >= _FEW else None,
        Element("main", *sections),
        Element("footer", Element("p", f"Written by twil {__version__}.")),
    )
    return f"<!doctype html>\n{Element('html', head, body, lang='en')}\n"


def write_page(path: str | Path, page: str) -> None:
    """Write a page, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def section(title: str, *content: Child, listed: bool = True) -> Element:
    """Put content under a heading, to which the page's contents lead unless it is not to be listed there."""
    place = re.sub(r"\W+", "-", title.lower()).strip("-")
    return Element("section", Element("h2", title), *content, id=place if listed else None)


def _contents(sections: Iterable[Element]) -> Element:
    links: list[Child] = []
    for part in sections:
        title = part.children[0]
        assert isinstance(title, Element)
        links += [Element("a", *title.children, href=f"#{part.attributes['id']}"), " "]
    return Element("nav", *links, aria_label="contents")


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


def quotation(text: str) -> Element:
    """Show a text as somebody wrote it: with its lines, and in the direction of its script."""
    return Element("blockquote", text, dir="auto")


def code(text: str) -> Element:
    """Show what machines read, such as a checksum; it may be broken anywhere."""
    return Element("code", text)
