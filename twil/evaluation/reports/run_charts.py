"""The charts of a report: from what was examined to what is drawn."""

# L labels

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from statistics import fmean

import numpy as np

from twil.config.loop import LOG
from twil.evaluation.pages.axes import Axis, axis_around
from twil.evaluation.pages.bars import bar_chart
from twil.evaluation.pages.chart import Chart
from twil.evaluation.pages.heat import heat_map
from twil.evaluation.pages.lines import Line, histogram, line_chart, point_chart
from twil.evaluation.pages.numbers import format_number
from twil.evaluation.pages.tables import Cell, Table
from twil.evaluation.reports.curves import Curve, Curves, read_curves
from twil.evaluation.reports.examination import Examination
from twil.evaluation.reports.run_record import RunRecord
from twil.scores.calibration import Reliability
from twil.scores.metrics import main_metric
from twil.scores.names import name_metric

SCORES = ("accuracy", "macro_f1", "micro_f1", "jaccard", "mcc", "stance_f1", "pearson", "spearman")
"""Metrics whose curves are drawn, if the run has them."""
ERRORS = ("rmse", "mae")
"""The same, of those in the unit of what is learned."""
MOST_CURVES = 4
"""More lines of one chart are hard to tell apart."""
MOST_STEPS = 60
"""Points of a curve by steps, whose numbers are printed, too; more are averaged."""
MOST_POINTS = 2000
"""Of a cloud: more make a large file, and no other picture."""
PARTS = 10  # of the rows of a regression, in its table

MEASURES = {"precision": "precision", "recall": "recall", "f1": "F1"}


def curve_charts(examined: Examination) -> Iterator[Chart]:
    """Draw the learning curves of a run: losses, scores on dev, and what its log tells of steps."""
    record = examined.record
    across, places = _places(record)
    best = float(record.best_epoch) if record.best_epoch and across.name == "epoch" else None

    def lines(keys: Mapping[str, str]) -> list[Line]:
        points = {
            name: [(x, entry[key]) for x, entry in zip(places, record.history, strict=True) if key in entry]
            for name, key in keys.items()
        }
        return [Line(name, found) for name, found in points.items() if found][:MOST_CURVES]

    monitored = str(record.setting("train", "metric") or main_metric(examined.task))
    scores = [name for name in dict.fromkeys([monitored, *SCORES]) if name not in ("loss", *ERRORS)]
    if examined.task.kind == "class":
        scores = [name for name in scores if name == monitored or name != "micro_f1"]  # it is the accuracy
    for title, up, drawn in (
        ("Loss", "loss", lines({"train": "loss", "dev": "dev_loss"})),
        ("Scores on dev", "score", lines({name_metric(name): f"dev_{name}" for name in scores})),
        ("Errors on dev", "error", lines({name_metric(name): f"dev_{name}" for name in ERRORS})),
    ):
        if drawn:
            yield line_chart(title, drawn, across=across, up=up, best=best)
    log = examined.folder / LOG
    if log.is_file() and log.stat().st_size:  # a model that was taken as it is has taken no steps
        yield from _step_charts(read_curves(log))


def answer_charts(examined: Examination) -> Iterator[Chart]:
    """Draw how answers lie beside the truth, as fits the kind of the task."""
    kind = examined.task.kind
    if kind == "regression":
        yield _truth_chart(examined)
        yield _residual_chart(examined)
        return
    if kind == "class":
        yield confusion_chart(examined)
    else:
        yield together_chart(examined)
    yield label_chart(examined)


def confusion_chart(examined: Examination) -> Chart:
    """Draw true labels against answers."""
    return heat_map(
        "Confusion matrix",
        examined.task.labels,
        examined.report.confusion,
        down="true label",
        across="prediction",
    )


def together_chart(examined: Examination) -> Chart:
    """Draw how many rows have one label in truth and one in the answer, of a task with many labels a row."""
    true = (examined.targets > 0).astype(np.int64)  # (rows, L)
    counts = true.T @ examined.answered  # (L, L)
    return heat_map(
        "Rows by true and predicted labels",
        examined.task.labels,
        counts.tolist(),
        down="true label",
        across="predicted label",
        wholes=true.sum(axis=0).tolist(),
    )


def label_chart(examined: Examination) -> Chart:
    """Draw precision, recall and F1 of each label."""
    labels = examined.report.labels
    series = {name: [scores[measure] for scores in labels.values()] for measure, name in MEASURES.items()}
    return bar_chart("Scores by label", list(labels), series, across=Axis("score", 0, 1))


def calibration_charts(found: Reliability, *, many: bool) -> Iterator[Chart]:
    """Draw how often probabilities came true, and how often they were given.

    Args:
        found: The bins.
        many: Whether a row may have any number of labels.
    """
    filled = np.flatnonzero(found.counts).tolist()
    name = "probability of a label" if many else "probability of the likeliest label"
    across, up = Axis(name, 0, 1), Axis("share that is true", 0, 1)
    points = [(float(found.confidence[place]), float(found.accuracy[place])) for place in filled]
    chart = line_chart(
        "Probabilities beside what came true",
        [Line(up.name, points, counts=[int(found.counts[place]) for place in filled])],
        across=across,
        up=up,
        diagonal=True,
    )
    rows: list[list[Cell]] = [
        [f"{found.edges[place]:.3f} to {found.edges[place + 1]:.3f}", int(found.counts[place]), *point]
        for place, point in zip(filled, points, strict=True)
    ]
    numbers = Table(["bin", "given", "mean probability", up.name], rows)
    yield replace(chart, numbers=numbers)
    title = "How often probabilities were given"
    yield histogram(title, found.edges.tolist(), found.counts.tolist(), across=name, up="given")


def _step_charts(curves: Curves) -> Iterator[Chart]:
    """Draw the loss and the learning rate of the steps that a log tells of."""
    for key, title, name in (("loss", "Loss of training steps", "loss"), ("lr", "Learning rate", "rate")):
        series = curves.train.get(key, Curve())
        if len(series) > 1:
            width = -(-len(series) // MOST_STEPS)
            parts = [slice(start, start + width) for start in range(0, len(series), width)]
            points = [(float(series.steps[part][-1]), fmean(series.values[part])) for part in parts]
            across = axis_around("step", [place for place, _ in points], whole=True)
            means = f", means of {width} in a row" if width > 1 else ""
            yield line_chart(f"{title}{means}", [Line(name, points)], across=across, up=name)


def _truth_chart(examined: Examination) -> Chart:
    true, said = examined.targets.astype(np.float64), examined.scores[:, 0].astype(np.float64)
    shown = np.arange(len(true))
    if len(true) > MOST_POINTS:
        shown = np.sort(np.random.default_rng(0).choice(len(true), MOST_POINTS, replace=False))
    points = list(zip(true[shown].tolist(), said[shown].tolist(), strict=True))
    rows: list[list[Cell]] = [
        [
            f"{format_number(float(true[part].min()))} to {format_number(float(true[part].max()))}",
            len(part),
            float(true[part].mean()),
            float(said[part].mean()),
        ]
        for part in np.array_split(np.argsort(true, kind="stable"), PARTS)
        if len(part)
    ]
    numbers = Table(["true value", "rows", "mean true value", "mean prediction"], rows)
    chosen = f", {len(shown):,} rows drawn by lot" if len(shown) < len(true) else ""
    return point_chart(
        f"Answers beside true values{chosen}",
        points,
        numbers,
        across="true value",
        up="prediction",
        diagonal=True,
    )


def _residual_chart(examined: Examination) -> Chart:
    residuals = examined.scores[:, 0].astype(np.float64) - examined.targets
    # Numbers that differ in their last digits alone have no room for bins between them.
    apart = np.ptp(residuals) > 1e-9 * np.abs(residuals).max()
    counts, edges = np.histogram(residuals, bins=20 if apart else 1)
    return histogram("Answers minus true values", edges.tolist(), counts.tolist(), across="difference")


def _places(record: RunRecord) -> tuple[Axis, list[float]]:
    """Say where the evaluations lie: by epoch where each has one of its own, else by step."""
    for key in ("epoch", "step"):
        places = [entry[key] for entry in record.history if key in entry]
        if len(places) == len(set(places)) == len(record.history):
            return axis_around(key, places, whole=True), places
    places = [float(number) for number in range(1, len(record.history) + 1)]
    return axis_around("evaluation", places, whole=True), places
