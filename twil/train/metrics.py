"""What a classifier is worth on a labelled set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from twil.errors import ConfigError
from twil.task import Task

AVERAGES = ("macro", "micro", "weighted")
SCORES = ("precision", "recall", "f1")
METRICS = ("accuracy", *(f"{average}_{score}" for average in AVERAGES for score in SCORES))
"""The names by which one number can be asked for."""


@dataclass(frozen=True)
class Report:
    """Scores of a single-label classifier.

    Attributes:
        rows: How many rows were scored.
        accuracy: Share of right answers.
        averages: precision, recall and F1, by kind of average.
        labels: precision, recall, F1 and support, by label.
        confusion: Rows by true label, columns by answer, in the order of `labels`.
    """

    rows: int
    accuracy: float
    averages: dict[str, dict[str, float]]
    labels: dict[str, dict[str, float]]
    confusion: list[list[int]]

    def metrics(self) -> dict[str, float]:
        """Give the numbers of `METRICS` by name."""
        averages = {
            f"{average}_{score}": value
            for average, scores in self.averages.items()
            for score, value in scores.items()
        }
        return {"accuracy": self.accuracy, **averages}

    def as_dict(self) -> dict[str, Any]:
        """Describe the report in JSON's types."""
        return asdict(self)


def score(true: NDArray[np.int64], answers: NDArray[np.int64], labels: Sequence[str]) -> Report:
    """Score answers against the truth.

    A label without true rows, or without answers, counts with 0 in macro averages, as scikit-learn does
    with `zero_division=0`; every label of the task counts, whether or not it occurs.

    Args:
        true: int64 ``(rows,)``, places in `labels`.
        answers: int64 ``(rows,)``.
        labels: All labels of the task.
    """
    numbers = list(range(len(labels)))
    averages = {}
    for average in AVERAGES:
        values = precision_recall_fscore_support(
            true, answers, labels=numbers, average=average, zero_division=0
        )
        averages[average] = {name: float(value) for name, value in zip(SCORES, values, strict=False)}
    columns = precision_recall_fscore_support(true, answers, labels=numbers, zero_division=0)
    per_label = {
        label: {
            **{name: float(column[number]) for name, column in zip(SCORES, columns, strict=False)},
            "support": int(columns[3][number]),
        }
        for number, label in enumerate(labels)
    }
    return Report(
        rows=len(true),
        accuracy=float(accuracy_score(true, answers)),
        averages=averages,
        labels=per_label,
        confusion=confusion_matrix(true, answers, labels=numbers).tolist(),
    )


def score_logits(logits: NDArray[np.float32], targets: NDArray[np.int64], task: Task) -> Report:
    """Decode logits by the task's rule and score them."""
    place = {label: number for number, label in enumerate(task.labels)}
    answers = np.array([place[label] for label in task.decode(logits).labels], dtype=np.int64)
    return score(targets, answers, task.labels)


def check_metric(name: str) -> None:
    """Refuse a metric that does not exist.

    Raises:
        ConfigError: It lists those that do.
    """
    if name not in METRICS:
        raise ConfigError(f"there is no metric '{name}': choose one of {', '.join(METRICS)}")
