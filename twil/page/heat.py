"""A table of counts as a drawing whose cells are the darker the larger their share of the row."""

from __future__ import annotations

from collections.abc import Sequence

from twil.page.chart import LETTER, WIDTH, Chart, cut, draw, label
from twil.page.elements import Element
from twil.page.numbers import format_number
from twil.page.tables import Cell, table

_STRONGEST = 0.75  # opacity of a full share: letters on it stay readable in light and in dark
_SMALLEST, _LARGEST = 30.0, 76.0  # sides of a cell
_NAMES = 110.0  # the most room of the names
_HEAD = 20.0


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
    side = max(least, min(_LARGEST, (WIDTH - left - 4) / len(names)))
    # Where columns are narrow, their names stand upright.
    upright = any(cut(name, side - 4) != name for name in names)
    top = _HEAD + (room if upright else 14)
    tall = min(side, 44.0)
    width, height = max(WIDTH, left + side * len(names) + 4), top + tall * len(names) + 4
    middle = top + tall * len(names) / 2
    parts = [
        label(f"{across} →", left + side * len(names) / 2, 13, anchor="middle"),
        Element(
            "text", f"← {down}", text_anchor="middle", transform=f"translate(12 {middle:.2f}) rotate(-90)"
        ),
    ]
    for place, name in enumerate(names):
        x = left + side * (place + 0.5)
        if upright:
            turned = f"translate({x + 4:.2f} {top - 5:.2f}) rotate(-90)"
            parts.append(Element("g", label(name, 0, 0, room=room), transform=turned))
        else:
            parts.append(label(name, x, top - 5, anchor="middle"))
        parts.append(label(name, left - 5, top + tall * (place + 0.5) + 4, anchor="end", room=room))
    for row, (name, values, whole) in enumerate(zip(names, counts, wholes, strict=True)):
        for column, (other, count) in enumerate(zip(names, values, strict=True)):
            share = count / whole if whole else 0.0
            told = f"{down} {name}, {across} {other}: {count:,} ({share:.1%})"
            x, y = left + side * column, top + tall * row
            parts += [
                Element(
                    "rect",
                    Element("title", told),
                    x=x,
                    y=y,
                    width=side,
                    height=tall,
                    class_="cell",
                    fill_opacity=_STRONGEST * share,
                ),
                label(format_number(count), x + side / 2, y + tall / 2 + 4, anchor="middle"),
            ]
    rows: list[list[Cell]] = [[name, *values] for name, values in zip(names, counts, strict=True)]
    drawing = draw(title, *parts, width=width, height=height)
    return Chart(title, drawing, table([f"{down} ↓, {across} →", *names], rows))
