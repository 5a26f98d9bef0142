"""Charts with two axes of numbers: lines, points, and how often values occur."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from twil.evaluation.pages.axes import Axis, Frame, axis_around
from twil.evaluation.pages.chart import (
    MARK,
    Chart,
    colour,
    dashes,
    draw,
    line_sample,
    mark,
    mark_sample,
    path,
)
from twil.evaluation.pages.elements import Element
from twil.evaluation.pages.numbers import ABSENT, format_number, format_tick
from twil.evaluation.pages.tables import Cell, table

Point = tuple[float, float]

MARKED = 40
"""A line of more points is drawn without its marks."""
_LEAST, _LARGEST = 2.0, 9.0  # marks of counts


@dataclass(frozen=True)
class Line:
    """One series.

    Attributes:
        name: In the legend.
        points: In the order in which they are joined; where one is no finite number, the line is broken.
        number: Of its colour; its place among the lines when None.
        counts: Of what each point tells: the area of its mark grows with it. All marks are alike without.
    """

    name: str
    points: Sequence[Point]
    number: int | None = None
    counts: Sequence[int] = ()


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    across: Axis | str,
    up: Axis | str,
    diagonal: bool = False,
    best: float | None = None,
) -> Chart:
    """Draw lines.

    Args:
        title: What they show.
        lines: The series.
        across: The axis along the bottom, or its name.
        up: The axis on the left, or its name.
        diagonal: Draw where both axes are equal.
        best: A number of the axis along the bottom that is marked as the best.
    """
    points = [point for line in lines for point in line.points]
    across = axis_around(across, [x for x, _ in points]) if isinstance(across, str) else across
    up = axis_around(up, [y for _, y in points]) if isinstance(up, str) else up
    frame = Frame(across, up)
    parts: list[Element] = [frame.draw()]
    if diagonal:
        parts.append(_diagonal(frame))
    if best is not None:
        told = Element("title", f"best: {format_tick(best)}")
        place = f"M{frame.x(best):.2f} {frame.top:.2f}V{frame.bottom:.2f}"
        parts.append(Element("path", told, d=place, class_="reference"))
    numbers = [place if line.number is None else line.number for place, line in enumerate(lines)]
    legend = []
    for line, number in zip(lines, numbers, strict=True):
        parts += _line(frame, line, number)
        sample = line_sample if len(line.points) > 1 else mark_sample
        legend.append((sample(number), line.name))
    drawing = draw(title, *parts, height=frame.height)
    shown = tuple(legend) if len(lines) > 1 else ()
    return Chart(title, drawing, _numbers(across.name, lines), shown)


def point_chart(
    title: str, points: Sequence[Point], numbers: Element, *, across: str, up: str, diagonal: bool = False
) -> Chart:
    """Draw a cloud of points.

    Args:
        title: What they show.
        points: All of them; those that are no finite numbers are left out.
        numbers: A table that sums them up.
        across: The name of the axis along the bottom.
        up: The name of the axis on the left.
        diagonal: Draw where both axes are equal, and give both the same numbers.
    """
    points = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    both = xs + ys
    frame = Frame(
        axis_around(across, both if diagonal else xs),
        axis_around(up, both if diagonal else ys),
        height=320 if diagonal else 240,
    )
    dots = [Element("circle", cx=frame.x(x), cy=frame.y(y), r=2.5) for x, y in points]
    parts = [frame.draw(), _diagonal(frame) if diagonal else None, Element("g", *dots, class_="cloud s0")]
    return Chart(title, draw(title, *parts, height=frame.height), numbers)


def histogram(
    title: str, edges: Sequence[float], counts: Sequence[int], *, across: str, up: str = "rows"
) -> Chart:
    """Draw how often values lie between edges.

    Args:
        title: What they are.
        edges: In ascending order, one more than counts.
        counts: How many lie from one edge to the next.
        across: The name of the values.
        up: What is counted.
    """
    frame = Frame(Axis(across, edges[0], edges[-1]), axis_around(up, counts, whole=True, zero=True))
    rows: list[list[Cell]] = []
    bars = []
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        span = f"{format_number(low)} to {format_number(high)}"
        rows.append([span, count])
        x, y = frame.x(low), frame.y(count)
        bars.append(
            Element(
                "rect",
                Element("title", f"{span}: {count:,}"),
                x=x + 0.5,
                y=y,
                width=max(0.5, frame.x(high) - x - 1),
                height=frame.bottom - y,
                class_="area s0",
            )
        )
    drawing = draw(title, frame.draw(), *bars, height=frame.height)
    return Chart(title, drawing, table([across, up], rows))


def _line(frame: Frame, line: Line, number: int) -> list[Element]:
    parts = []
    for drawn, run in groupby(line.points, key=lambda point: all(map(math.isfinite, point))):
        places = [(frame.x(x), frame.y(y)) for x, y in run] if drawn else []
        if len(places) > 1:
            kind = f"line {colour(number)}"
            parts.append(Element("path", d=path(places), class_=kind, stroke_dasharray=dashes(number)))
    if len(line.points) <= MARKED:
        most = max(line.counts, default=0)
        for place, (x, y) in enumerate(line.points):
            if math.isfinite(x) and math.isfinite(y):
                told = f"{line.name}, {format_tick(x)}: {format_number(y)}"
                size = MARK
                if most:
                    told += f"; {line.counts[place]:,}"
                    size = max(_LEAST, _LARGEST * math.sqrt(line.counts[place] / most))
                parts.append(mark(number, frame.x(x), frame.y(y), told, size=size))
    return parts


def _diagonal(frame: Frame) -> Element:
    low = max(frame.across.low, frame.up.low)
    high = min(frame.across.high, frame.up.high)
    ends = [(frame.x(value), frame.y(value)) for value in (low, high)]
    return Element("path", d=path(ends), class_="reference")


def _numbers(across: str, lines: Sequence[Line]) -> Element:
    """Tabulate lines: a row for each place, a column for each line."""
    places = sorted({x for line in lines for x, _ in line.points})
    found = [dict(line.points) for line in lines]
    rows: list[list[Cell]] = [[format_tick(x), *(values.get(x, ABSENT) for values in found)] for x in places]
    return table([across, *(line.name for line in lines)], rows, figures={across})
