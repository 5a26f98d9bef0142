"""What every chart is: a drawing that follows the page's colours, its legend, and its numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twil.evaluation.pages.elements import Child, Element

WIDTH = 360.0
"""Of a drawing, in its own units: about a phone's, so that its letters are readable there."""
WIDEST = 480.0
"""A wider drawing is scrolled where there is no room for it; others shrink."""
LETTER = 6.0  # mean width of a letter in these units; a browser's font is not known here
SERIES = 6
"""How many colours the style has; further series start again, told apart by their marks."""
MARK = 3.5
"""Half the width of a mark."""
DASHES = (None, "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: What it shows.
        drawing: Its SVG.
        numbers: A table of what is drawn.
        legend: For each series its sample and its name; empty where there is one.
    """

    title: str
    drawing: Element
    numbers: Element
    legend: tuple[tuple[Element, str], ...] = ()


def draw(title: str, *parts: Child, width: float = WIDTH, height: float) -> Element:
    """Put the parts of a drawing together.

    Args:
        title: What is read out in place of the drawing.
        parts: Of SVG.
        width: In its own units.
        height: In the same.
    """
    return Element(
        "svg",
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=width,
        height=height,
        class_="wide" if width > WIDEST else None,
        role="img",
        aria_label=title,
    )


def colour(number: int) -> str:
    """Name the class of a series: the style gives it a colour, in light and in dark."""
    return f"s{number % SERIES}"


def label(text: str, x: float, y: float, *, anchor: str = "start", room: float | None = None) -> Element:
    """Write into a drawing.

    Args:
        text: What.
        x: Where its anchor is.
        y: Its base line.
        anchor: ``start``, ``middle`` or ``end``.
        room: The width that there is: a longer text is cut, and shown whole where it is pointed at.
    """
    shown = cut(text, room) if room is not None else text
    whole = Element("title", text) if shown != text else None
    return Element("text", shown, whole, x=x, y=y, text_anchor=anchor)


def cut(text: str, room: float) -> str:
    """Cut a text at about so many units of a drawing."""
    letters = max(2, int(room / LETTER))
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def mark(number: int, x: float, y: float, told: str, *, size: float = MARK) -> Element:
    """Draw a point of a series, in the shape of that series.

    Args:
        number: Of the series.
        x: Its middle.
        y: Its middle.
        told: What is said where it is pointed at.
        size: Half its width.
    """
    title, kind = Element("title", told) if told else None, f"mark {colour(number)}"
    shape = number % 4
    if shape == 0:
        return Element("circle", title, cx=x, cy=y, r=size, class_=kind)
    if shape == 1:
        return Element("rect", title, x=x - size, y=y - size, width=2 * size, height=2 * size, class_=kind)
    far = 1.35 * size
    corners = {
        2: ((0, -far), (far, size), (-far, size)),
        3: ((0, -far), (far, 0), (0, far), (-far, 0)),
    }[shape]
    return Element("path", title, d=path([(x + dx, y + dy) for dx, dy in corners], closed=True), class_=kind)


def path(points: Sequence[tuple[float, float]], *, closed: bool = False) -> str:
    """Write a line through points as SVG takes it."""
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points) + ("Z" if closed else "")


def line_sample(number: int) -> Element:
    """Draw the sample of a line for a legend."""
    stroke = Element("path", d="M0 5L24 5", class_=f"line {colour(number)}", stroke_dasharray=dashes(number))
    return Element("svg", stroke, mark(number, 12, 5, ""), width=24.0, height=10.0, aria_hidden="true")


def mark_sample(number: int) -> Element:
    """Draw the sample of a point for a legend."""
    return Element("svg", mark(number, 6, 6, ""), width=12.0, height=12.0, aria_hidden="true")


def area_sample(number: int) -> Element:
    """Draw the sample of a bar for a legend."""
    square = Element("rect", width=10.0, height=10.0, class_=f"area {colour(number)}")
    return Element("svg", square, width=10.0, height=10.0, aria_hidden="true")


def dashes(number: int) -> str | None:
    """Give the dashes of a line of a series."""
    return DASHES[number % len(DASHES)]
