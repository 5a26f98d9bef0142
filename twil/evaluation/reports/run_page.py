"""The report of a run as one page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import compress
from pathlib import Path
from typing import Any

from twil.evaluation.pages.document import render_page
from twil.evaluation.pages.numbers import ABSENT
from twil.evaluation.pages.tables import Cell, Table
from twil.evaluation.reports.examination import Examination
from twil.evaluation.reports.explanation_page import shaded_texts
from twil.evaluation.reports.run_charts import MEASURES, answer_charts, calibration_charts, curve_charts
from twil.evaluation.reports.verdict import Baseline, judge
from twil.scores.intervals import LEVEL
from twil.scores.metrics import main_metric
from twil.scores.names import AVERAGES, name_metric
from twil.train.series import Series

HEAVIEST = 3
"""Words of a wrong row that are named."""


def make_report(
    examined: Examination, *, worst: int = 20, texts: bool = True, baseline: Baseline | None = None
) -> str:
    """Lay out what a run is worth as a page.

    Args:
        examined: The run, and what its model answers on a file.
        worst: How many of the wrong rows with the largest losses are shown.
        texts: Whether their texts are shown, with the words that weighed; tweets are personal data.
        baseline: Another model, which the run is held against.

    Raises:
        DataError: The baseline does not fit the rows.
    """
    record, found, series = examined.record, examined.reliability, examined.record.series
    verdict = judge(examined, baseline)
    metric = name_metric(verdict.metric)
    many = examined.task.kind == "multi-label"
    return render_page(
        "report.html",
        examined=examined,
        record=record,
        source=examined.source,
        task=examined.task,
        name=examined.folder.absolute().name,
        verdict=verdict,
        metric=f"{metric[:1].upper()}{metric[1:]}",
        level=f"{100 * LEVEL:.0f} %",
        scores=_scores(examined),
        label_scores=_label_scores(examined),
        series=series,
        runs=_runs(series, main_metric(examined.task)) if series else None,
        curves=list(curve_charts(examined)),
        answers=list(answer_charts(examined)),
        calibration=list(calibration_charts(found, many=many)) if found else [],
        thresholds=_thresholds(examined),
        tuning=_tuning(examined),
        worst=[_row(examined, row, texts) for row in examined.worst(worst)] if worst else None,
        wrong=int(examined.wrong.sum()),
        texts=texts,
        settings=_settings(examined),
        data=_data(examined),
        versions=", ".join(f"{name} {version}" for name, version in record.versions.items()),
    )


def _scores(examined: Examination) -> Table:
    metrics, main = examined.report.metrics, main_metric(examined.task)
    single = [name for name in metrics if name.partition("_")[0] not in AVERAGES]
    recorded = {name: result.metrics for name, result in examined.record.results.items() if result.metrics}
    rows: list[list[Cell]] = [
        [name_metric(name), metrics[name], *(found.get(name, ABSENT) for found in recorded.values())]
        for name in dict.fromkeys([main, *single])
    ]
    blank = [""] * len(recorded)
    rows.append(["mean loss", float(examined.losses.mean()), *blank])
    if examined.reliability:
        rows.append(["expected calibration error", examined.reliability.error, *blank])
    return Table(["", "here", *(f"{name}, as the run recorded" for name in recorded)], rows)


def _label_scores(examined: Examination) -> Table | None:
    report = examined.report
    if not report.labels:
        return None
    rows: list[list[Cell]] = [
        [label, *(scores[measure] for measure in MEASURES), int(scores["support"])]
        for label, scores in report.labels.items()
    ]
    rows += [
        [f"{average} average", *(report.metrics[f"{average}_{each}"] for each in MEASURES), report.rows]
        for average in AVERAGES
    ]
    return Table(["", *MEASURES.values(), "rows"], rows)


def _runs(series: Series, main: str) -> Table:
    spreads = {
        f"{where}, {name_metric(name)}": spread[name]
        for where, spread in (("dev", series.dev), ("test", series.test))
        for name in dict.fromkeys((series.metric, main))
        if name in spread
    }
    rows: list[list[Cell]] = [
        [f"seed {run.seed}", f"{run.best_epoch}", *(spread.values[place] for spread in spreads.values())]
        for place, run in enumerate(series.runs)
    ]
    rows.append(["mean", "", *(spread.mean for spread in spreads.values())])
    rows.append(["standard deviation", "", *(spread.sd for spread in spreads.values())])
    return Table(["", "best epoch", *spreads], rows, figures={"best epoch"})


def _thresholds(examined: Examination) -> str:
    task = examined.task
    if not task.thresholds:
        return ""
    names = task.labels if task.kind == "multi-label" else task.labels[1:]
    return ", ".join(f"{name} {at:.4f}" for name, at in zip(names, task.thresholds, strict=True))


def _tuning(examined: Examination) -> Table | None:
    """Tell what the temperature and the thresholds that were found on dev changed there."""
    decision = examined.record.decision
    if not decision:
        return None
    columns = ["on dev", name_metric(decision.metric), "calibration error"]
    measured = (("before tuning", decision.before), ("after tuning", decision.after))
    return Table(columns, [[name, found.score, found.calibration_error] for name, found in measured])


def _row(examined: Examination, row: int, texts: bool) -> dict[str, Any]:
    true, answer = _true_and_answer(examined, row)
    shown = {
        "line": examined.labelled.lines[row],
        "true": true,
        "answer": answer,
        "loss": float(examined.losses[row]),
    }
    if not texts:
        return shown
    explanation = examined.explain(row)
    return shown | {
        "texts": shaded_texts(explanation),
        "label": explanation.label,
        "heaviest": [f"{word.text} {word.weight:+.2f}" for word in explanation.heaviest(HEAVIEST)],
    }


def _true_and_answer(examined: Examination, row: int) -> tuple[str, str]:
    """Write what is true of a row and what the model says; one chosen label has its probability beside it."""
    task = examined.task
    true, answer = examined.labelled.labels[row], examined.answers[row]
    if task.kind == "class":
        scores = dict(zip(task.labels, examined.scores[row].tolist(), strict=True))
        true, answer = (f"{label} ({scores[label]:.4f})" for label in (true, answer))
    elif task.kind == "multi-label":
        chosen = (examined.targets[row] > 0, examined.answered[row] > 0)
        true, answer = (", ".join(compress(task.labels, flags)) or ABSENT for flags in chosen)
    return true, answer


def _settings(examined: Examination) -> list[tuple[str, str]]:
    files = {f"data.{name}" for name in examined.record.data}  # which have a table of their own
    return [(name, value) for name, value in _flatten(examined.record.config) if name not in files]


def _data(examined: Examination) -> Table:
    source = examined.source
    rows: list[list[Cell]] = [
        [name, Path(entry.file).name, entry.rows, entry.sha256]
        for name, entry in examined.record.data.items()
    ]
    if source.split is None:
        rows.append(["this report's", source.path.name, len(examined.labelled), source.sha256])
    return Table(["set", "file", "rows", "SHA-256"], rows)


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name each setting that is given by its sections and its key."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    elif value is not None and value != []:
        if isinstance(value, str):  # of a file its name: where it lay says nothing elsewhere
            yield prefix, Path(value).name if Path(value).is_absolute() else value
        else:
            yield prefix, json.dumps(value, ensure_ascii=False)
