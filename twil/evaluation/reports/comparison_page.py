"""A comparison of models as one page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twil.core.machine import cpu_name
from twil.evaluation.comparison import Comparison
from twil.evaluation.pages.axes import Axis, axis_around, log_axis_around
from twil.evaluation.pages.bars import IntervalMark, interval_chart
from twil.evaluation.pages.chart import Chart
from twil.evaluation.pages.document import render_page
from twil.evaluation.pages.lines import Line, line_chart
from twil.evaluation.pages.tables import Cell, Table
from twil.evaluation.reports.comparison_tables import (
    MARK,
    UNKNOWN,
    Grid,
    call_metric,
    explain_tests,
    format_p,
    model_grid,
    pair_grid,
    score_grid,
    shown_metrics,
    speed_grid,
)
from twil.scores.intervals import LEVEL
from twil.scores.metrics import higher_is_better

MOST_PAIRS = 15
"""Of more pairs, only those with the first model are drawn; the tables have all."""

_JOINER = "\u2060"  # keeps the ends of an interval on one line


ERRORS = ("rmse", "mae")
"""Metrics in the unit of what is learned, which have an axis of their own."""


def make_comparison_page(comparison: Comparison, *, texts: bool = True) -> str:
    """Lay out a comparison as a page.

    Args:
        comparison: What was found.
        texts: Whether texts are shown of rows that models predict differently; tweets are personal data.
    """
    comparison = replace(comparison, file=Path(comparison.file.name))  # where it lies concerns nobody
    metric, pick = comparison.metric, max if higher_is_better(comparison.metric) else min
    best = pick(comparison.entries, key=lambda entry: entry.intervals[metric].value)
    worse = comparison.worse_than(best.name)
    return render_page(
        "comparison.html",
        comparison=comparison,
        texts=texts,
        metric=call_metric(metric),
        level=f"{100 * LEVEL:.0f} %",
        best=best,
        score=best.intervals[metric],
        worse=worse,
        alike=[entry.name for entry in comparison.entries if entry.name not in (best.name, *worse)],
        score_charts=_score_charts(comparison),
        scores=_table(score_grid(comparison)),
        speed_chart=_speed_chart(comparison),
        speeds=_table(speed_grid(comparison)),
        labels=_label_table(comparison),
        models=_table(model_grid(comparison)),
        processor=cpu_name(),
        **_differences(comparison),
    )


def _score_charts(comparison: Comparison) -> list[Chart]:
    charts = []
    for metric in _metrics(comparison):
        intervals = [
            IntervalMark(entry.name, *entry.intervals[metric], number=number)
            for number, entry in enumerate(comparison.entries)
        ]
        charts.append(interval_chart(_title(metric), intervals, across=_axis(comparison, metric)))
    return charts


def _metrics(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys([comparison.metric, *shown_metrics(comparison.task, comparison.metric)]))


def _title(metric: str) -> str:
    name = call_metric(metric)
    return f"{name[:1].upper()}{name[1:]}"


def _axis(comparison: Comparison, metric: str) -> Axis:
    """Make the axis of a metric, which all metrics of its unit share."""
    alike = [name for name in _metrics(comparison) if (name in ERRORS) == (metric in ERRORS)]
    ends = [end for entry in comparison.entries for name in alike for end in entry.intervals[name]]
    return axis_around(call_metric(metric), ends)


def _speed_chart(comparison: Comparison) -> Chart:
    metric = comparison.metric
    found = [
        (entry.name, entry.texts_per_second, entry.intervals[metric].value) for entry in comparison.entries
    ]
    chart = line_chart(
        f"{_title(metric)} against speed",
        [Line(name, [(speed, score)]) for name, speed, score in found],
        across=log_axis_around("texts per second", [speed for _, speed, _ in found]),
        up=_axis(comparison, metric),
    )
    return replace(chart, numbers=Table(["model", "texts per second", call_metric(metric)], found))


def _differences(comparison: Comparison) -> dict[str, Any]:
    """Show how pairs of models differ, where there are several."""
    pairs = comparison.pairs
    if not pairs:
        return {}
    if len(pairs) > MOST_PAIRS:
        pairs = tuple(pair for pair in pairs if pair.first == comparison.entries[0].name)
    name = call_metric(comparison.metric)
    intervals = [IntervalMark(f"{pair.first} less {pair.second}", *pair.difference) for pair in pairs]
    return {
        "difference_chart": interval_chart(
            f"Differences of {name}", intervals, across=f"difference of {name}", zero=True, first="pair"
        ),
        "matrix": _matrix(comparison),
        "tests": explain_tests(comparison),
        "pairs": _table(pair_grid(comparison)),
    }


def _matrix(comparison: Comparison) -> Table:
    """Tabulate by how much the model of a row is above that of a column."""
    cells: dict[tuple[str, str], str] = {}
    for pair in comparison.pairs:
        p = f"(p {format_p(pair.bootstrap.holm)}{MARK if pair.bootstrap.significant else ''})"
        cells[pair.first, pair.second] = f"{pair.difference.value:+.4f} {p}"
        cells[pair.second, pair.first] = f"{0 - pair.difference.value:+.4f} {p}"
    names = [entry.name for entry in comparison.entries]
    rows: list[list[Cell]] = [
        [name, *(cells.get((name, other), UNKNOWN) for other in names)] for name in names
    ]
    title = f"{call_metric(comparison.metric)}, row less column (corrected p)"
    return Table(["row ↓, column →", *names], rows, title=title, figures=names)


def _label_table(comparison: Comparison) -> Table | None:
    if comparison.task.kind == "regression":
        return None
    rows: list[list[Cell]] = []
    for label in comparison.task.labels:
        scores = [entry.report.labels[label] for entry in comparison.entries]
        rows.append([label, int(scores[0]["support"]), *(of_model["f1"] for of_model in scores)])
    return Table(["label", "rows", *(entry.name for entry in comparison.entries)], rows)


def _table(grid: Grid) -> Table:
    rows = [[cell.replace("–", f"{_JOINER}–{_JOINER}") for cell in row] for row in grid.rows]
    columns = grid.columns
    if columns[:2] == ["#", "model"]:  # one column, which stays where a table is scrolled
        columns = columns[1:]
        rows = [[f"{number}. {name}", *row] for number, name, *row in rows]
    return Table(columns, rows, title=grid.title, figures=grid.figures)
