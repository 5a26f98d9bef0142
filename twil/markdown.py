"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

_ESCAPES = str.maketrans({"|": "&#124;", "<": "&lt;", "\n": " ", "\r": " "})


def markdown_table(
    heads: Sequence[str], rows: Iterable[Sequence[Any]], *, figures: Collection[str] = ()
) -> list[str]:
    """Lay rows out as the lines of a table; what a cell holds cannot end it.

    Args:
        heads: The names of the columns.
        rows: Their cells.
        figures: Columns that stand to the right.
    """
    lines = [heads, ["---:" if head in figures else "---" for head in heads], *rows]
    return [f"| {' | '.join(str(cell).translate(_ESCAPES).strip() for cell in line)} |" for line in lines]
