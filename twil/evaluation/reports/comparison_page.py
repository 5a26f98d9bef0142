"""A comparison of models as one page."""

from __future__ import annotations

from collections.abc import Iterator

from twil.core.machine import cpu_name
from twil.evaluation.comparison import Comparison
from twil.evaluation.pages.bars import IntervalMark, interval_chart
from twil.evaluation.pages.document import facts, figure, figures, make_page, paragraph, section
from twil.evaluation.pages.elements import Element
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

MOST_PAIRS = 15
"""Of more pairs, only those with the first model are drawn; the tables have all."""

_JOINER = "\u2060"  # keeps the ends of an interval on one line


def make_comparison_page(comparison: Comparison) -> str:
    """Lay out a comparison as a page."""
    names = ", ".join(entry.name for entry in comparison.entries)
    return make_page(
        f"Comparison on {comparison.file.name}",
        _scores(comparison),
        *_differences(comparison),
        *_labels(comparison),
        _models(comparison),
        _conditions(comparison),
        about=f"{comparison.rows:,} rows answered by {names}.",
    )


def _scores(comparison: Comparison) -> Element:
    main = comparison.metric
    metrics = dict.fromkeys([main, *shown_metrics(comparison.task, comparison.metric)])
    charts = []
    for metric in metrics:
        intervals = [IntervalMark(entry.name, *entry.intervals[metric]) for entry in comparison.entries]
        name = call_metric(metric)
        charts.append(figure(interval_chart(f"{name[:1].upper()}{name[1:]}", intervals, across=name)))
    told = (
        f"Bars are {100 * LEVEL:.0f} % intervals: percentiles of {comparison.resamples:,} bootstrap samples. "
        "Whether two models differ is told by their differences, not by whether their intervals overlap."
    )
    return section("Scores", figures(*charts), paragraph(told), _table(score_grid(comparison)))


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


def _models(comparison: Comparison) -> Element:
    return section("Models", _table(model_grid(comparison)), _table(speed_grid(comparison)))


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
    return table(grid.columns, rows, title=grid.title, figures=grid.figures)
