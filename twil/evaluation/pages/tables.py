"""Tables of texts and numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Cell: TypeAlias = "str | float | None"


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
