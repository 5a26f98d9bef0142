"""A table of counts as a drawing whose cells are the darker the larger their share of the row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twil.evaluation.pages.chart import LETTER, WIDTH, Chart, cut, draw, label
from twil.evaluation.pages.elements import Element
from twil.evaluation.pages.numbers import ABSENT, format_number
from twil.evaluation.pages.tables import Cell, table

_STRONGEST = 0.75  # opacity of a full share: letters on it stay readable in light and in dark
_SMALLEST, _LARGEST, _TALLEST = 30.0, 76.0, 44.0  # sides of a cell
_NAMES = 110.0  # the most room of the names
_HEAD = 20.0
_MOST_COLUMNS = 12
"""A table of more columns does not go on paper: each row lists its counts in one cell."""


@dataclass(frozen=True)
class _Grid:
    """Where the cells lie: the corner of the first one, and the size of each."""

    left: float
    top: float
    wide: float
    tall: float

    def middle(self, row: int, column: int) -> tuple[float, float]:
        return self.left + self.wide * (column + 0.5), self.top + self.tall * (row + 0.5)


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
    wholes = [sum(row) for row in counts] if wholes is None else wholes
    room = min(_NAMES, LETTER * max(map(len, names)) + 8)
    left = 22 + room
    longest = max(len(format_number(count)) for row in counts for count in row)
    least = max(_SMALLEST, LETTER * longest + 6)
    wide = max(least, min(_LARGEST, (WIDTH - left - 4) / len(names)))
    # Where columns are narrow, their names stand upright.
    upright = any(cut(name, wide - 4) != name for name in names)
    grid = _Grid(left, _HEAD + (room if upright else 14), wide, min(wide, _TALLEST))
    drawing = draw(
        title,
        label(f"{across} →", left, 13),
        _turned(f"← {down}", 12, grid.top, anchor="end"),
        *_names(grid, names, room, upright=upright),
        *_cells(grid, names, counts, wholes, down=down, across=across),
        width=max(WIDTH, left + wide * len(names) + 4),
        height=grid.top + grid.tall * len(names) + 4,
    )
    return Chart(title, drawing, _numbers(names, counts, down=down, across=across))


def _names(grid: _Grid, names: Sequence[str], room: float, *, upright: bool) -> Iterator[Element]:
    for place, name in enumerate(names):
        x, y = grid.middle(place, place)
        if upright:
            yield _turned(name, x + 4, grid.top - 5, room=room)
        else:
            yield label(name, x, grid.top - 5, anchor="middle")
        yield label(name, grid.left - 5, y + 4, anchor="end", room=room)


def _cells(
    grid: _Grid,
    names: Sequence[str],
    counts: Sequence[Sequence[int]],
    wholes: Sequence[int],
    *,
    down: str,
    across: str,
) -> Iterator[Element]:
    for row, (name, values, whole) in enumerate(zip(names, counts, wholes, strict=True)):
        for column, (other, count) in enumerate(zip(names, values, strict=True)):
            share = count / whole if whole else 0.0
            x, y = grid.middle(row, column)
            yield Element(
                "rect",
                Element("title", f"{down} {name}, {across} {other}: {count:,} ({share:.1%})"),
                x=x - grid.wide / 2,
                y=y - grid.tall / 2,
                width=grid.wide,
                height=grid.tall,
                class_="cell",
                fill_opacity=_STRONGEST * share,
            )
            yield label(format_number(count), x, y + 4, anchor="middle")


def _numbers(names: Sequence[str], counts: Sequence[Sequence[int]], *, down: str, across: str) -> Element:
    rows: list[list[Cell]]
    if len(names) <= _MOST_COLUMNS:
        rows = [[name, *values] for name, values in zip(names, counts, strict=True)]
        return table([f"{down} ↓, {across} →", *names], rows)
    rows = []
    for name, values in zip(names, counts, strict=True):
        ranked = sorted(zip(values, names, strict=True), key=lambda pair: -pair[0])
        rows.append([name, ", ".join(f"{other} {count:,}" for count, other in ranked if count) or ABSENT])
    return table([down, f"{across} and rows; others have none"], rows)


def _turned(text: str, x: float, y: float, *, anchor: str = "start", room: float | None = None) -> Element:
    """Write upwards."""
    written = label(text, 0, 0, anchor=anchor, room=room)
    return Element("g", written, transform=f"translate({x:.2f} {y:.2f}) rotate(-90)")
