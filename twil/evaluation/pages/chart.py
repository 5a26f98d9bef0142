"""What every chart is: a drawing that follows the page's colours, its legend, and its numbers as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twil.evaluation.pages.tables import Table

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH = 360.0
"""Of a drawing, in its own units: about a phone's, so that its letters are readable there."""
LETTER = 6.0  # mean width of a letter in these units; a browser's font is not known here


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
    drawing: Markup
    numbers: Table
    legend: tuple[tuple[Markup, str], ...] = ()


def cut(text: str, room: float) -> str:
    """Cut a text at about so many units of a drawing."""
    letters = max(2, int(room / LETTER))
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
