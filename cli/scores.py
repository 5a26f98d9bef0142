"""How the scores of a classifier look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import RenderableType

from twil.cli.console import make_table
from twil.scores.names import AVERAGES, name_metric

if TYPE_CHECKING:  # imported where it is needed: NumPy takes its time
    from twil.scores.metrics import Report


def report_tables(report: Report, title: str) -> list[RenderableType]:
    """Lay out a report: scores by label and average, single figures, then the confusion matrix."""
    if not report.labels:
        rows = [[name_metric(name), value] for name, value in report.metrics.items()]
        return [make_table(title, ["", f"{report.rows:,} rows"], rows)]
    tables = [make_table(title, ["", "precision", "recall", "F1", "rows"], _score_rows(report))]
    if report.confusion:
        labels = list(report.labels)
        confusion = [[label, *counts] for label, counts in zip(labels, report.confusion, strict=True)]
        tables.append(make_table("true label ↓, predicted →", ["", *labels], confusion))
    return tables


def _score_rows(report: Report) -> list[list[object]]:
    rows: list[list[object]] = [
        [label, scores["precision"], scores["recall"], scores["f1"], scores["support"]]
        for label, scores in report.labels.items()
    ]
    rows += [[f"{average} average", *_average(report.metrics, average), report.rows] for average in AVERAGES]
    single = {
        name: value
        for name, value in report.metrics.items()
        if not name.startswith(tuple(f"{average}_" for average in AVERAGES))
    }
    return rows + [[name_metric(name), "", "", value, ""] for name, value in single.items()]


def _average(metrics: Mapping[str, float], average: str) -> list[float]:
    return [metrics[f"{average}_{score}"] for score in ("precision", "recall", "f1")]
