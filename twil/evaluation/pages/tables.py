"""Tables of texts and numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from twil.evaluation.pages.elements import Child, Element
from twil.evaluation.pages.numbers import format_number

Cell: TypeAlias = "Element | str | float | None"


@dataclass(frozen=True)
class Table:
    """A table, whose first column names the rows.

    Attributes:
        columns: Their names.
        rows: Their cells.
        title: Above the table.
        figures: Columns whose numbers are written out already.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    figures: Collection[str] = ()

    @property
    def right(self) -> set[int]:
        """The places of the columns that stand to the right: those of numbers."""
        return {
            place
            for place, name in enumerate(self.columns)
            if name in self.figures or any(isinstance(row[place], int | float) for row in self.rows)
        }


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str = "", figures: Collection[str] = ()
) -> Element:
    """Lay out a table, whose first column names the rows. Columns of numbers stand to the right.

    Args:
        columns: Their names.
        rows: Their cells; numbers are written by `format_number`.
        title: Above the table.
        figures: Columns whose numbers are written out already.
    """
    rows = list(rows)
    right = [
        name in figures or any(isinstance(row[place], int | float) for row in rows)
        for place, name in enumerate(columns)
    ]
    kinds = ["number" if is_right else None for is_right in right]
    heads = [Element("th", name, scope="col", class_=kind) for name, kind in zip(columns, kinds, strict=True)]
    body = [
        Element(
            "tr",
            *(
                Element("td" if place else "th", written(cell), class_=kind, scope=None if place else "row")
                for place, (cell, kind) in enumerate(zip(row, kinds, strict=True))
            ),
        )
        for row in rows
    ]
    caption = Element("caption", title) if title else None
    whole = Element("table", caption, Element("thead", Element("tr", *heads)), Element("tbody", *body))
    return Element("div", whole, class_="scroll")  # a wide table is scrolled by itself, not the page


def written(cell: Cell) -> Child:
    """Write a cell that is a number."""
    return format_number(cell) if isinstance(cell, int | float) else cell
