"""A comparison of models as one page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from twil.core.machine import cpu_name
from twil.evaluation.comparison import Comparison
from twil.evaluation.pages.axes import Axis, axis_around, log_axis_around
from twil.evaluation.pages.bars import IntervalMark, interval_chart
from twil.evaluation.pages.document import (
    entries,
    facts,
    figure,
    figures,
    make_page,
    paragraph,
    quotation,
    section,
)
from twil.evaluation.pages.elements import Element
from twil.evaluation.pages.lines import Line, line_chart
from twil.evaluation.pages.numbers import ABSENT, format_number
from twil.evaluation.pages.tables import Cell, table
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
    names = ", ".join(entry.name for entry in comparison.entries)
    return make_page(
        f"Comparison on {comparison.file.name}",
        _verdict(comparison),
        _scores(comparison),
        _speed(comparison),
        *_differences(comparison),
        *_labels(comparison),
        *_differing(comparison, texts=texts),
        _models(comparison),
        _conditions(comparison),
        about=f"{comparison.rows:,} rows answered by {names}.",
        contents=True,
    )


def _verdict(comparison: Comparison) -> Element:
    metric, pick = comparison.metric, max if higher_is_better(comparison.metric) else min
    best = pick(comparison.entries, key=lambda entry: entry.intervals[metric].value)
    score, low, high = map(format_number, best.intervals[metric])
    others = [entry.name for entry in comparison.entries if entry.name != best.name]
    worse = comparison.worse_than(best.name)
    alike = [name for name in others if name not in worse]
    told = []
    if worse:
        told.append(f"It is better than {', '.join(worse)} by more than chance.")
    if alike:
        told.append(f"From {', '.join(alike)} it is not told apart.")
    return section(
        "Verdict",
        Element(
            "p",
            f"{best.name}: {call_metric(metric)} ",
            Element("strong", score),
            f", {100 * LEVEL:.0f} % interval {low} to {high}, of {comparison.rows:,} rows.",
            class_="verdict",
        ),
        *map(paragraph, told),
    )


def _scores(comparison: Comparison) -> Element:
    main = comparison.metric
    metrics = dict.fromkeys([main, *shown_metrics(comparison.task, comparison.metric)])
    charts = []
    for metric in metrics:
        intervals = [
            IntervalMark(entry.name, *entry.intervals[metric], number=number)
            for number, entry in enumerate(comparison.entries)
        ]
        name, across = call_metric(metric), _axis(comparison, metric)
        charts.append(figure(interval_chart(f"{name[:1].upper()}{name[1:]}", intervals, across=across)))
    told = (
        f"Bars are {100 * LEVEL:.0f} % intervals: percentiles of {comparison.resamples:,} bootstrap samples. "
        "Whether two models differ is told by their differences, not by whether their intervals overlap."
    )
    return section("Scores", figures(*charts), paragraph(told), _table(score_grid(comparison)))


def _axis(comparison: Comparison, metric: str) -> Axis:
    """Make the axis of a metric, which all metrics of its unit share."""
    metrics = dict.fromkeys([comparison.metric, *shown_metrics(comparison.task, comparison.metric)])
    alike = [name for name in metrics if (name in ERRORS) == (metric in ERRORS)]
    ends = [end for entry in comparison.entries for name in alike for end in entry.intervals[name]]
    return axis_around(call_metric(metric), ends)


def _speed(comparison: Comparison) -> Element:
    metric = comparison.metric
    rows: list[list[Cell]] = [
        [entry.name, entry.texts_per_second, entry.intervals[metric].value] for entry in comparison.entries
    ]
    speeds = [entry.texts_per_second for entry in comparison.entries]
    lines = [
        Line(entry.name, [(entry.texts_per_second, entry.intervals[metric].value)])
        for entry in comparison.entries
    ]
    title, name = f"{call_metric(metric)} against speed", call_metric(metric)
    chart = line_chart(
        f"{title[:1].upper()}{title[1:]}",
        lines,
        across=log_axis_around("texts per second", speeds),
        up=_axis(comparison, metric),
    )
    numbers = table(["model", "texts per second", name], rows)
    return section(
        "Quality and speed", figures(figure(replace(chart, numbers=numbers))), _table(speed_grid(comparison))
    )


def _differences(comparison: Comparison) -> Iterator[Element]:
    if not comparison.pairs:
        return
    name = call_metric(comparison.metric)
    pairs = comparison.pairs
    if len(pairs) > MOST_PAIRS:
        pairs = tuple(pair for pair in pairs if pair.first == comparison.entries[0].name)
    intervals = [IntervalMark(f"{pair.first} less {pair.second}", *pair.difference) for pair in pairs]
    chart = interval_chart(
        f"Differences of {name}", intervals, across=f"difference of {name}", zero=True, first="pair"
    )
    yield section(
        "Differences",
        figures(figure(chart)),
        _matrix(comparison),
        paragraph(explain_tests(comparison)),
        _table(pair_grid(comparison)),
    )


def _matrix(comparison: Comparison) -> Element:
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
    return table(["row ↓, column →", *names], rows, title=title, figures=names)


def _labels(comparison: Comparison) -> Iterator[Element]:
    labels = comparison.task.labels
    if comparison.task.kind == "regression":
        return
    rows: list[list[Cell]] = []
    for label in labels:
        scores = [entry.report.labels[label] for entry in comparison.entries]
        rows.append([label, int(scores[0]["support"]), *(of_model["f1"] for of_model in scores)])
    columns = ["label", "rows", *(entry.name for entry in comparison.entries)]
    yield section("F1 by label", table(columns, rows))


def _differing(comparison: Comparison, *, texts: bool) -> Iterator[Element]:
    rows = comparison.differing
    if not rows:
        return
    first = comparison.entries[0].name
    order = (
        "Those come first whose answers are farthest apart."
        if comparison.task.kind == "regression"
        else f"Those come first that {first} has wrong and another right; right answers have a tick."
    )
    items = []
    for row in rows:
        told: list[tuple[str, Cell]] = [("line", f"{row.line:,}"), ("true", row.true or ABSENT)]
        told += [
            (name, f"{answer or ABSENT}{' ✓' if name in row.right else ''}")
            for name, answer in row.answers.items()
        ]
        items.append(Element("div", *(map(quotation, row.texts) if texts else ()), facts(told)))
    yield section("Rows that models predict differently", paragraph(order), entries(*items))


def _models(comparison: Comparison) -> Element:
    return section("Models", _table(model_grid(comparison)))


def _conditions(comparison: Comparison) -> Element:
    task = comparison.task
    return section(
        "Conditions",
        facts(
            [
                ("file", str(comparison.file)),
                ("rows", comparison.rows),
                ("task", f"{task.kind} of {', '.join(task.labels)}"),
                ("pairs compared by", call_metric(comparison.metric)),
                ("bootstrap", f"{comparison.resamples:,} samples, seed {comparison.seed}"),
                ("processor", cpu_name()),
                ("measured", comparison.measured),
            ]
        ),
    )


def _table(grid: Grid) -> Element:
    rows = [[cell.replace("–", f"{_JOINER}–{_JOINER}") for cell in row] for row in grid.rows]
    columns = grid.columns
    if columns[:2] == ["#", "model"]:  # one column, which stays where a table is scrolled
        columns = columns[1:]
        rows = [[f"{number}. {name}", *row] for number, name, *row in rows]
    return table(columns, rows, title=grid.title, figures=grid.figures)
