"""Charts of what has names: bars side by side, and figures with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twil.evaluation.pages.axes import Axis, axis_around
from twil.evaluation.pages.chart import WIDTH, Chart, area_sample, colour, draw, label, mark
from twil.evaluation.pages.elements import Element
from twil.evaluation.pages.numbers import format_number, format_tick
from twil.evaluation.pages.tables import Cell, table

_NAME, _BAR, _GAP, _FOOT = 16.0, 13.0, 8.0, 36.0  # heights
_LEFT, _RIGHT = 14.0, WIDTH - 52  # of the bars; their figures stand to the right


@dataclass(frozen=True)
class IntervalMark:
    """A named figure and where it may as well lie.

    Attributes:
        name: Whose it is.
        value: The figure.
        low: The lower end.
        high: The upper end.
        number: Of its colour and its mark.
    """

    name: str
    value: float
    low: float
    high: float
    number: int = 0


def bar_chart(
    title: str,
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    across: Axis | str,
    first: str = "label",
) -> Chart:
    """Draw bars, those of a name below each other.

    Args:
        title: What they show.
        names: Each has its own bars, under its name.
        series: For each series a figure of every name, none below 0.
        across: The axis of the figures, or its name.
        first: What the names are, over their column of the table.
    """
    if isinstance(across, str):
        across = axis_around(across, [value for values in series.values() for value in values], zero=True)
    tall = _NAME + _BAR * len(series) + _GAP
    parts = [_grid(across, tall * len(names))]
    for place, name in enumerate(names):
        y = tall * place + _NAME
        parts.append(label(name, _LEFT, y - 4, room=_RIGHT - _LEFT))
        for number, (kind, values) in enumerate(series.items()):
            parts += _bar(across, y + _BAR * number, number, values[place], f"{name}, {kind}")
    rows: list[list[Cell]] = [
        [name, *(values[place] for values in series.values())] for place, name in enumerate(names)
    ]
    legend = tuple((area_sample(number), name) for number, name in enumerate(series))
    drawing = draw(title, *parts, height=tall * len(names) + _FOOT)
    return Chart(title, drawing, table([first, *series], rows), legend if len(series) > 1 else ())


def interval_chart(
    title: str,
    figures: Sequence[IntervalMark],
    *,
    across: Axis | str,
    zero: bool = False,
    first: str = "model",
) -> Chart:
    """Draw figures as points, each with its interval as a bar.

    Args:
        title: What they show.
        figures: From top to bottom.
        across: The axis of the figures, or its name.
        zero: Draw where 0 is, as for differences.
        first: What the names are, over their column of the table.
    """
    if isinstance(across, str):
        ends = [end for figure in figures for end in (figure.value, figure.low, figure.high)]
        across = axis_around(across, [*ends, 0.0] if zero else ends)
    tall = _NAME + 1.5 * _BAR
    parts = [_grid(across, tall * len(figures))]
    if zero:
        parts.append(
            Element("path", d=f"M{_x(across, 0):.2f} 0V{tall * len(figures):.2f}", class_="reference")
        )
    for place, figure in enumerate(figures):
        y = tall * place + _NAME
        parts.append(label(figure.name, _LEFT, y - 4, room=_RIGHT - _LEFT))
        if not all(map(math.isfinite, (figure.value, figure.low, figure.high))):
            continue
        low, high, middle = _x(across, figure.low), _x(across, figure.high), y + _BAR * 0.7
        told = (
            f"{figure.name}: {format_number(figure.value)}, "
            f"{format_number(figure.low)} to {format_number(figure.high)}"
        )
        whisker = (
            f"M{low:.2f} {middle - 4:.2f}v8M{low:.2f} {middle:.2f}H{high:.2f}M{high:.2f} {middle - 4:.2f}v8"
        )
        parts += [
            Element("path", Element("title", told), d=whisker, class_=f"line {colour(figure.number)}"),
            mark(figure.number, _x(across, figure.value), middle, told),
            label(format_number(figure.value), _RIGHT + 4, middle + 4),
        ]
    rows: list[list[Cell]] = [[figure.name, figure.value, figure.low, figure.high] for figure in figures]
    drawing = draw(title, *parts, height=tall * len(figures) + _FOOT)
    return Chart(title, drawing, table([first, "value", "low", "high"], rows))


def _bar(across: Axis, y: float, number: int, value: float, told: str) -> list[Element]:
    written = label(format_number(value), _RIGHT + 4, y + _BAR - 3)
    if not math.isfinite(value):
        return [written]
    start = _x(across, max(across.low, 0))
    bar = Element(
        "rect",
        Element("title", f"{told}: {format_number(value)}"),
        x=start,
        y=y,
        width=max(0.0, _x(across, value) - start),
        height=_BAR - 2,
        class_=f"area {colour(number)}",
    )
    return [bar, written]


def _grid(across: Axis, height: float) -> Element:
    parts = []
    for tick in across.ticks:
        x = _x(across, tick)
        parts += [
            Element("path", d=f"M{x:.2f} 0V{height:.2f}", class_="grid"),
            label(format_tick(tick), x, height + 14, anchor="middle"),
        ]
    parts.append(label(across.name, (_LEFT + _RIGHT) / 2, height + 29, anchor="middle"))
    return Element("g", *parts, class_="axes")


def _x(across: Axis, value: float) -> float:
    return _LEFT + (value - across.low) / (across.high - across.low) * (_RIGHT - _LEFT)
