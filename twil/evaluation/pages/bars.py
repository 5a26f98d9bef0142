"""Charts of what has names: bars side by side, and figures with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twil.evaluation.pages.axes import Axis, axis_around
from twil.evaluation.pages.chart import WIDTH, Chart
from twil.evaluation.pages.document import draw
from twil.evaluation.pages.tables import Cell, Table


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


@dataclass(frozen=True)
class Scale:
    """Where the numbers of an axis lie in a drawing whose figures stand to the right."""

    axis: Axis
    left: float = 14.0
    right: float = WIDTH - 52

    def x(self, value: float) -> float:
        """Place a number."""
        return self.left + self.axis.share(value) * (self.right - self.left)


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
    rows: list[list[Cell]] = [
        [name, *(values[place] for values in series.values())] for place, name in enumerate(names)
    ]
    legend = tuple((draw("area_sample", number), name) for number, name in enumerate(series))
    drawing = draw("bars", title, Scale(across), names, series)
    return Chart(title, drawing, Table([first, *series], rows), legend if len(series) > 1 else ())


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
    rows: list[list[Cell]] = [[figure.name, figure.value, figure.low, figure.high] for figure in figures]
    drawing = draw("intervals", title, Scale(across), figures, zero)
    return Chart(title, drawing, Table([first, "value", "low", "high"], rows))
