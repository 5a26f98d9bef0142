"""A table of counts as a drawing whose cells are the darker the larger their share of the row."""

from __future__ import annotations

from collections.abc import Sequence

from twil.evaluation.pages.chart import LETTER, WIDTH, Chart, cut
from twil.evaluation.pages.document import draw
from twil.evaluation.pages.numbers import ABSENT, format_number
from twil.evaluation.pages.tables import Cell, Table

_SMALLEST, _LARGEST, _TALLEST = 30.0, 76.0, 44.0  # sides of a cell
_NAMES = 110.0  # the most room of the names
_HEAD = 20.0
_MOST_COLUMNS = 12
"""A table of more columns does not go on paper: each row lists its counts in one cell."""


def heat_map(
    title: str,
    names: Sequence[str],
    counts: Sequence[Sequence[int]],
    *,
    down: str,
    across: str,
    wholes: Sequence[int] | None = None,
) -> Chart:
    """Draw counts by two kinds of names.

    Args:
        title: What they show.
        names: Of rows and columns alike.
        counts: A row for each name.
        down: What the rows are.
        across: What the columns are.
        wholes: What each row's counts are shares of; their sum when None.
    """
    room = min(_NAMES, LETTER * max(map(len, names)) + 8)
    left = 22 + room
    longest = max(len(format_number(count)) for row in counts for count in row)
    least = max(_SMALLEST, LETTER * longest + 6)
    wide = max(least, min(_LARGEST, (WIDTH - left - 4) / len(names)))
    # Where columns are narrow, their names stand upright.
    upright = any(cut(name, wide - 4) != name for name in names)
    drawing = draw(
        "heat",
        title,
        names,
        counts,
        [sum(row) for row in counts] if wholes is None else wholes,
        down,
        across,
        left=left,
        top=_HEAD + (room if upright else 14),
        wide=wide,
        tall=min(wide, _TALLEST),
        room=room,
        upright=upright,
        width=max(WIDTH, left + wide * len(names) + 4),
    )
    return Chart(title, drawing, _numbers(names, counts, down=down, across=across))


def _numbers(names: Sequence[str], counts: Sequence[Sequence[int]], *, down: str, across: str) -> Table:
    rows: list[list[Cell]]
    if len(names) <= _MOST_COLUMNS:
        rows = [[name, *values] for name, values in zip(names, counts, strict=True)]
        return Table([f"{down} ↓, {across} →", *names], rows)
    rows = []
    for name, values in zip(names, counts, strict=True):
        ranked = sorted(zip(values, names, strict=True), key=lambda pair: -pair[0])
        rows.append([name, ", ".join(f"{other} {count:,}" for count, other in ranked if count) or ABSENT])
    return Table([down, f"{across} and rows; others have none"], rows)
