"""Elements of HTML and SVG: a tree whose texts and attributes are escaped in the one place that writes it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import TypeAlias

Child: TypeAlias = "Element | str | None"
Value: TypeAlias = "str | float | bool | None"

_EMPTY = frozenset({"br", "hr", "link", "meta"})  # of HTML: written without an end
_RAW = frozenset({"style"})  # whose content a browser does not unescape
_LINES = frozenset(
    {"head", "body", "header", "main", "section", "table", "tbody", "tr", "dl", "figure", "details", "svg"}
    | {
        "h1",
        "h2",
        "p",
        "dd",
        "div",
        "g",
        "rect",
        "path",
        "circle",
        "meta",
        "link",
        "style",
        "title",
        "footer",
    }
)  # that a line ends after, for whoever reads the source
# A page cannot hold them: control characters, halves of characters, what Unicode keeps for no use.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class Element:
    """One element.

    Args:
        name: Such as ``td``.
        children: Elements and texts in order; None is left out.
        attributes: By name, where ``class_`` stands for ``class`` and ``stroke_width`` for ``stroke-width``.
            One that is None or False is left out, one that is True has no value.
    """

    def __init__(self, name: str, /, *children: Child, **attributes: Value) -> None:
        self.name = name
        self.children = tuple(child for child in children if child is not None)
        self.attributes = attributes

    def __str__(self) -> str:
        """Write it, with every text and attribute escaped."""
        return "".join(_write(self))

    __html__ = __str__


def _write(element: Element) -> Iterator[str]:
    yield f"<{element.name}{''.join(_attributes(element))}>"
    if element.name not in _EMPTY:
        for child in element.children:
            if isinstance(child, Element):
                yield from _write(child)
            elif element.name in _RAW:
                yield _raw(child)
            else:
                yield _escape(child)
        yield f"</{element.name}>"
    if element.name in _LINES:
        yield "\n"


def _attributes(element: Element) -> Iterator[str]:
    for name, value in element.attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            yield f" {name}"
        elif value is not None and value is not False:
            # Two decimals place a point of a drawing finer than any screen.
            text = f"{round(value, 2):.10g}" if isinstance(value, int | float) else value
            yield f' {name}="{_escape(text)}"'


def _escape(text: str) -> str:
    return html.escape(FORBIDDEN.sub("\ufffd", text))


def _raw(text: str) -> str:
    assert "</" not in text, "it would end the element"
    return text
