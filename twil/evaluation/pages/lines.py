"""Charts with two axes of numbers: lines, points, and how often values occur."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from twil.evaluation.pages.axes import Axis, Frame, axis_around
from twil.evaluation.pages.chart import Chart
from twil.evaluation.pages.document import draw
from twil.evaluation.pages.numbers import ABSENT, format_number, format_tick
from twil.evaluation.pages.tables import Cell, Table

Point = tuple[float, float]

MARKED = 40
"""A line of more points is drawn without its marks."""
_MARK = 3.5  # half the width of a mark
_LEAST, _LARGEST = 2.0, 9.0  # the same, of counts


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
    numbers = [place if line.number is None else line.number for place, line in enumerate(lines)]
    drawn = [
        (number, _runs(frame, line), _marks(frame, line)) for line, number in zip(lines, numbers, strict=True)
    ]
    legend = tuple(
        (draw("line_sample" if len(line.points) > 1 else "mark_sample", number), line.name)
        for line, number in zip(lines, numbers, strict=True)
    )
    drawing = draw("lines", title, frame, drawn, diagonal, best)
    return Chart(title, drawing, _numbers(across.name, lines), legend if len(lines) > 1 else ())


def point_chart(
    title: str, points: Sequence[Point], numbers: Table, *, across: str, up: str, diagonal: bool = False
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
    return Chart(title, draw("cloud", title, frame, points, diagonal), numbers)


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
    bars = [
        (low, high, count, f"{format_number(low)} to {format_number(high)}")
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    rows: list[list[Cell]] = [[span, count] for _, _, count, span in bars]
    return Chart(title, draw("histogram", title, frame, bars), Table([across, up], rows))


def _runs(frame: Frame, line: Line) -> list[list[Point]]:
    """Place the points of a line, from where it is broken to where it is broken again."""
    runs = groupby(line.points, key=lambda point: all(map(math.isfinite, point)))
    placed = [[(frame.x(x), frame.y(y)) for x, y in run] for drawn, run in runs if drawn]
    return [run for run in placed if len(run) > 1]


def _marks(frame: Frame, line: Line) -> list[tuple[float, float, str, float]]:
    """Give the marks of a line: where each lies, what is said where it is pointed at, and its size."""
    if len(line.points) > MARKED:
        return []
    marks = []
    most = max(line.counts, default=0)
    for place, (x, y) in enumerate(line.points):
        if math.isfinite(x) and math.isfinite(y):
            told = f"{line.name}, {format_tick(x)}: {format_number(y)}"
            size = _MARK
            if most:
                told += f"; {line.counts[place]:,}"
                size = max(_LEAST, _LARGEST * math.sqrt(line.counts[place] / most))
            marks.append((frame.x(x), frame.y(y), told, size))
    return marks


def _numbers(across: str, lines: Sequence[Line]) -> Table:
    """Tabulate lines: a row for each place, a column for each line."""
    places = sorted({x for line in lines for x, _ in line.points})
    found = [dict(line.points) for line in lines]
    rows: list[list[Cell]] = [[format_tick(x), *(values.get(x, ABSENT) for values in found)] for x in places]
    return Table([across, *(line.name for line in lines)], rows, figures={across})
