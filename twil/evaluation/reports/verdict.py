"""What a run is worth in one number, and beside what is had without it."""

# L labels

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import DataError
from twil.core.storage import read_json
from twil.core.task import Task
from twil.data.tables.tables import TableReader
from twil.evaluation.reports.examination import Examination
from twil.inference.columns import LABEL_COLUMN, VALUE_COLUMN
from twil.scores.intervals import Interval, percentile_interval
from twil.scores.metrics import main_metric
from twil.scores.resampling import resample

SAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Baseline:
    """Another model on the same rows.

    Attributes:
        path: Of the file that tells of it.
        answers: Its answer to each row; None where only scores are known.
        metrics: Its scores by metric; empty where answers are known.
    """

    path: Path
    answers: list[str] | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Reference:
    """What a run is held against.

    Attributes:
        name: What it is.
        score: Its score on the same rows.
        difference: The run's score less this one; the interval is that of samples of the same rows for both.
            None where no answers are known.
    """

    name: str
    score: float
    difference: Interval | None


@dataclass(frozen=True)
class Verdict:
    """What a run is worth.

    Attributes:
        metric: By which the task is judged.
        score: On all rows, with its interval.
        rows: How many there are.
        references: The majority class, where there are classes, and the baseline, where one is given.
    """

    metric: str
    score: Interval
    rows: int
    references: tuple[Reference, ...]


def read_baseline(path: str | Path) -> Baseline:
    """Read what another model predicted, as `twil predict` writes it, or scored, as `twil evaluate --json`.

    Raises:
        DataError: The file is not there, or is neither.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        if not path.is_file():
            raise DataError("there is no such file: check the path", file=path)
        metrics = read_json(path).get("report")
        metrics = metrics.get("metrics") if isinstance(metrics, dict) else None
        if not isinstance(metrics, dict) or not all(
            isinstance(each, int | float) for each in metrics.values()
        ):
            raise DataError("holds no scores as twil evaluate --json prints them: print them anew", file=path)
        return Baseline(path, None, metrics)
    names = TableReader(path).names
    column = next((name for name in (LABEL_COLUMN, VALUE_COLUMN) if name in names), None)
    if column is None:
        raise DataError(
            f"has no column {LABEL_COLUMN} or {VALUE_COLUMN}: give what twil predict wrote for the same rows",
            file=path,
        )
    return Baseline(path, [cell for rows in TableReader(path, [column]) for cell in rows.columns[column]], {})


def judge(examined: Examination, baseline: Baseline | None = None) -> Verdict:
    """Put the score of a run beside what is had without it.

    Raises:
        DataError: The baseline has answers to other rows or with other labels, or has no such score.
    """
    task, targets = examined.task, examined.targets
    metric = main_metric(task)
    answers = {"": task.decide(examined.scores)}
    if (majority := _majority(task, targets)) is not None:
        answers[majority[0]] = majority[1]
    if baseline is not None and baseline.answers is not None:
        answers[baseline.path.name] = _answers(examined, baseline)
    found = resample(targets, list(answers.values()), task, metrics=[metric], samples=SAMPLES, seed=SEED)
    values, samples = found.values[metric], found.samples[metric]
    references = [
        Reference(
            name,
            float(values[place]),
            percentile_interval(values[0] - values[place], samples[0] - samples[place]),
        )
        for place, name in enumerate(answers)
        if place
    ]
    if baseline is not None and baseline.answers is None:
        if metric not in baseline.metrics:
            raise DataError(f"has no score {metric}, by which the run is judged", file=baseline.path)
        references.append(Reference(baseline.path.name, float(baseline.metrics[metric]), None))
    return Verdict(metric, percentile_interval(values[0], samples[0]), len(targets), tuple(references))


def _majority(task: Task, targets: NDArray[Any]) -> tuple[str, NDArray[Any]] | None:
    """Answer every row with the most frequent label of these rows, or none where each is rare."""
    if task.kind == "regression":  # whose constant correlates with nothing
        return None
    if task.kind == "multi-label":
        held = (targets > 0).mean(axis=0) > 0.5  # (L,)
        name = ", ".join(label for label, holds in zip(task.labels, held, strict=True) if holds) or "no label"
        return f"Always {name}", np.broadcast_to(held, targets.shape)
    label = int(np.bincount(targets.astype(np.int64), minlength=task.outputs).argmax())
    return f"Always {task.labels[label]}, the most frequent label", np.full(len(targets), label)


def _answers(examined: Examination, baseline: Baseline) -> NDArray[Any]:
    labelled, given = examined.labelled, baseline.answers or []
    if len(given) != len(labelled):
        raise DataError(
            f"has {len(given):,} rows, and {len(labelled):,} are reported on: give the predictions of these "
            "rows, in their order",
            file=baseline.path,
        )
    columns = replace(labelled.columns, label=LABEL_COLUMN)
    answered = replace(labelled, labels=given, columns=columns)
    try:
        targets = answered.targets(examined.task)
    except DataError as error:
        raise DataError(f"does not fit the rows that are reported on: {error}", file=baseline.path) from None
    return targets if examined.task.kind == "regression" else targets.astype(np.int64)
