"""The report of a run as one page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import compress
from pathlib import Path
from typing import Any

from twil.evaluation.pages.document import (
    code,
    entries,
    facts,
    figure,
    figures,
    make_page,
    note,
    paragraph,
    section,
)
from twil.evaluation.pages.elements import Element
from twil.evaluation.pages.numbers import ABSENT, format_number
from twil.evaluation.pages.tables import Cell, table
from twil.evaluation.pages.words import legend_of_words, weighed_texts
from twil.evaluation.reports.examination import Examination
from twil.evaluation.reports.run_charts import MEASURES, answer_charts, calibration_charts, curve_charts
from twil.evaluation.reports.run_record import ExaminedFile
from twil.evaluation.reports.verdict import Baseline, Reference, judge
from twil.scores.intervals import LEVEL
from twil.scores.metrics import main_metric
from twil.scores.names import AVERAGES, name_metric

UNITS = {
    "class": "cross-entropy in nats",
    "multi-label": "mean binary cross-entropy of the labels in nats",
    "regression": "squared difference",
}


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
    source = examined.source
    of = f"the {source.split} file" if source.split else "a file that the run does not know"
    return make_page(
        f"{examined.folder.absolute().name}: report",
        _verdict(examined, baseline),
        _scores(examined),
        _runs(examined),
        _curves(examined),
        _answers(examined),
        _calibration(examined),
        _worst(examined, worst, texts) if worst else None,
        _settings(examined),
        _data(examined),
        _model(examined),
        about=f"On {of}, {source.path.name}: {examined.report.rows:,} rows.",
        contents=True,
    )


def _verdict(examined: Examination, baseline: Baseline | None) -> Element:
    found = judge(examined, baseline)
    name = name_metric(found.metric)
    score, low, high = map(format_number, found.score)
    return section(
        "Verdict",
        Element(
            "p",
            f"{name[:1].upper()}{name[1:]} ",
            Element("strong", score),
            f", {100 * LEVEL:.0f} % interval {low} to {high}, of {found.rows:,} rows.",
            class_="verdict",
        ),
        _caveat(examined.source),
        *(paragraph(_told(reference)) for reference in found.references),
    )


def _told(reference: Reference) -> str:
    """Say how the run stands to what it is held against."""
    beside = f"{reference.name}: {format_number(reference.score)}. "
    if reference.difference is None:
        return (
            beside
            + "Of its answers nothing is known: give its predictions for an interval of the difference."
        )
    value, low, high = reference.difference
    between = f"{value:+.4f} ({low:+.4f} to {high:+.4f})"
    if low > 0:
        return f"{beside}This run is above it by {between}."
    if high < 0:
        return f"{beside}This run is below it by {between}."
    return f"{beside}This run differs from it by {between}, which may be chance."


def _scores(examined: Examination) -> Element:
    report = examined.report
    metrics, main = report.metrics, main_metric(examined.task)
    single = [name for name in metrics if name.partition("_")[0] not in AVERAGES]
    recorded = {name: result.metrics for name, result in examined.record.results.items() if result.metrics}
    whole: list[list[Cell]] = [
        [name_metric(name), metrics[name], *(found.get(name, ABSENT) for found in recorded.values())]
        for name in dict.fromkeys([main, *single])
    ]
    blank = [""] * len(recorded)
    whole.append(["mean loss", float(examined.losses.mean()), *blank])
    if examined.reliability:
        whole.append(["expected calibration error", examined.reliability.error, *blank])
    columns = ["", "here", *(f"{name}, as the run recorded" for name in recorded)]
    rows: list[list[Cell]] = [
        [label, *(scores[measure] for measure in MEASURES), int(scores["support"])]
        for label, scores in report.labels.items()
    ]
    if rows:
        rows += [
            [f"{average} average", *(metrics[f"{average}_{measure}"] for measure in MEASURES), report.rows]
            for average in AVERAGES
        ]
    by_label = table(["", *MEASURES.values(), "rows"], rows) if rows else None
    return section("Scores", table(columns, whole), by_label)


def _caveat(source: ExaminedFile) -> Element | None:
    """Say why scores on a file are not those on texts that nobody has seen; None where they are."""
    if source.split is None:
        return note(f"The run recorded no such file as {source.path.name}: these are not scores of the run.")
    if source.split == "train":
        return note("The model has learned from these rows: on others it is worse.")
    if source.split == "dev":
        return note("The best epoch was chosen on these rows: on others expect somewhat less.")
    return None


def _runs(examined: Examination) -> Element | None:
    series = examined.record.series
    if series is None:
        return None
    spreads = {
        f"{where}, {name_metric(name)}": spread[name]
        for where, spread in (("dev", series.dev), ("test", series.test))
        for name in dict.fromkeys((series.metric, main_metric(examined.task)))
        if name in spread
    }
    rows: list[list[Cell]] = [
        [f"seed {run.seed}", f"{run.best_epoch}", *(spread.values[place] for spread in spreads.values())]
        for place, run in enumerate(series.runs)
    ]
    rows.append(["mean", "", *(spread.mean for spread in spreads.values())])
    rows.append(["standard deviation", "", *(spread.sd for spread in spreads.values())])
    best = series.runs[series.best].seed
    return section(
        "Runs",
        paragraph(f"This is the run with seed {best}, of {len(series.runs)} the best on dev."),
        table(["", "best epoch", *spreads], rows, figures={"best epoch"}),
    )


def _curves(examined: Examination) -> Element | None:
    charts = [figure(chart) for chart in curve_charts(examined)]
    if not charts:
        return None
    said = []
    if examined.record.best_epoch:
        said.append(f"The folder holds the weights of epoch {examined.record.best_epoch}, which is marked.")
    if examined.task.thresholds:
        said.append("The scores of the curves are those before thresholds were tuned.")
    return section("Learning curves", figures(*charts), *map(paragraph, said))


def _answers(examined: Examination) -> Element:
    return section("Answers", figures(*map(figure, answer_charts(examined))))


def _calibration(examined: Examination) -> Element | None:
    found = examined.reliability
    if found is None:
        return None
    charts = calibration_charts(found, many=examined.task.kind == "multi-label")
    bins = len(found.counts)
    return section(
        "Calibration",
        figures(*map(figure, charts)),
        paragraph(
            f"Expected calibration error {format_number(found.error)}: the mean distance from the dashed "
            f"line, over {bins} bins of equal width, each weighted by its rows (Guo et al. 2017). Above the "
            "line the model is more often right than it says, below it less often. The larger a dot, the "
            "more rows it stands for."
        ),
        *_tuned(examined),
    )


def _tuned(examined: Examination) -> Iterator[Element]:
    """Tell of the temperature and the thresholds that were found on dev, and what they changed there."""
    task, decision = examined.task, examined.record.decision
    told: list[tuple[str, Cell]] = []
    if task.temperature != 1:
        told.append(("temperature of the probabilities", task.temperature))
    if task.thresholds:
        names = task.labels if task.kind == "multi-label" else task.labels[1:]
        each = ", ".join(f"{name} {at:.4f}" for name, at in zip(names, task.thresholds, strict=True))
        told.append(("from which probability a label holds", each))
    if told:
        yield facts(told)
    if decision:
        columns = ["on dev", name_metric(decision.metric), "calibration error"]
        measured = (("before tuning", decision.before), ("after tuning", decision.after))
        yield table(columns, [[name, found.score, found.calibration_error] for name, found in measured])


def _worst(examined: Examination, count: int, texts: bool) -> Element:
    chosen = examined.worst(count)
    wrong = int(examined.wrong.sum())
    if examined.task.kind == "regression":
        title = f"The {len(chosen)} rows of the largest loss"
    elif chosen:
        title = f"{len(chosen)} of {wrong:,} wrong rows, those of the largest loss"
    else:
        return section("Wrong rows", paragraph("There is none."))
    return section(
        title,
        paragraph(f"The loss of a row is the {UNITS[examined.task.kind]}."),
        legend_of_words() if texts else paragraph("Their texts were left out of this page."),
        entries(*(_row(examined, row, texts) for row in chosen)),
    )


def _row(examined: Examination, row: int, texts: bool) -> Element:
    labelled = examined.labelled
    true, answer = _true_and_answer(examined, row)
    told: list[tuple[str, Cell]] = [
        ("line", f"{labelled.lines[row]:,}"),
        ("true", true),
        ("answer", answer),
        ("loss", float(examined.losses[row])),
    ]
    if not texts:
        return Element("div", facts(told))
    explanation = examined.explain(row)
    heavy = [f"{word.text} {word.weight:+.2f}" for word in explanation.heaviest(HEAVIEST)]
    told.append((f"weighed most for {explanation.label}", " · ".join(heavy) or ABSENT))
    return Element("div", *weighed_texts(explanation), facts(told))


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


def _settings(examined: Examination) -> Element | None:
    files = {f"data.{name}" for name in examined.record.data}  # which have a table of their own
    settings = [(name, value) for name, value in _flatten(examined.record.config) if name not in files]
    return section("Settings", facts(settings)) if settings else None


def _data(examined: Examination) -> Element:
    record, source, labelled = examined.record, examined.source, examined.labelled
    rows: list[list[Cell]] = [
        [name, Path(entry.file).name, entry.rows, code(entry.sha256)] for name, entry in record.data.items()
    ]
    if source.split is None:
        rows.append(["this report's", source.path.name, len(labelled), code(source.sha256)])
    told: list[tuple[str, Cell]] = [
        ("rows cut at the longest length", f"{examined.truncated:,} of {len(labelled):,}")
    ]
    if labelled.blank:
        told.append(("blank lines left out", f"{labelled.blank:,}"))
    return section("Data", table(["set", "file", "rows", "SHA-256"], rows), facts(told))


def _model(examined: Examination) -> Element:
    task = examined.task
    kind = f"{'stance' if task.scored else task.kind} of {', '.join(task.labels)}"
    told: list[tuple[str, Cell]] = [
        ("task", kind),
        ("input", "pairs of texts" if task.pair else "single texts"),
        *examined.facts.items(),
        ("longest row", f"{examined.max_length} tokens"),
    ]
    if examined.record.versions:
        versions = ", ".join(f"{name} {version}" for name, version in examined.record.versions.items())
        told.append(("trained with", versions))
    return section("Model", facts(told))


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
