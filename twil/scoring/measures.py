"""Scores of answers, from scikit-learn and SciPy where they have them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as sk

from twil.scoring.metrics import AVERAGES, SCORES, ranks_of
from twil.task import Task


def measure_labels(
    targets: NDArray[Any], answers: NDArray[Any], task: Task
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Score answers by label and over all of them.

    Args:
        targets: Of a task of labels, as `LabelledSet.targets` gives them.
        answers: As `Task.decide` gives them.
        task: What was asked.

    Returns:
        `Report.metrics` and `Report.labels`.
    """
    numbers, true, given = list(range(task.outputs)), targets, answers
    if task.kind == "multi-label" and task.outputs == 1:
        # To scikit-learn a single column is that of two classes, and the label is the second of them.
        numbers, true, given = [1], targets[:, 0], answers[:, 0]
    columns = sk.precision_recall_fscore_support(true, given, labels=numbers, zero_division=0)
    labels = {
        label: {
            **{name: float(column[number]) for name, column in zip(SCORES, columns, strict=False)},
            "support": int(columns[3][number]),
        }
        for number, label in enumerate(task.labels)
    }
    metrics = {"accuracy": float(sk.accuracy_score(true, given))}
    for average in AVERAGES:
        values = sk.precision_recall_fscore_support(
            true, given, labels=numbers, average=average, zero_division=0
        )
        metrics |= {f"{average}_{name}": float(value) for name, value in zip(SCORES, values, strict=False)}
    if task.kind == "multi-label":
        return {**metrics, "jaccard": _shared(targets, answers)}, labels
    metrics["jaccard"] = float(
        sk.jaccard_score(targets, answers, labels=numbers, average="macro", zero_division=0)
    )
    # Scikit-learn warns of one class in all, which correlates with nothing.
    varied = len(np.union1d(targets, answers)) > 1
    metrics["mcc"] = float(sk.matthews_corrcoef(targets, answers)) if varied else 0.0
    if task.scored:
        metrics["stance_f1"] = float(np.mean([labels[label]["f1"] for label in task.scored]))
    ranks = ranks_of(task)
    if ranks is not None:
        metrics |= _correlations(ranks[targets], ranks[answers])
    return metrics, labels


def _shared(targets: NDArray[Any], answers: NDArray[Any]) -> float:
    """Average over rows the share of the labels, true or answered, that are both; 1 where there are none.

    TWilBERT: the original's monitor compares the true labels with probabilities, without a threshold.
    """
    true, given = targets.astype(bool), answers.astype(bool)
    both, either = (true & given).sum(axis=1), (true | given).sum(axis=1)
    return float(np.where(either == 0, 1.0, both / np.maximum(either, 1)).mean())


def count_answers(targets: NDArray[Any], answers: NDArray[Any], task: Task) -> list[list[int]]:
    """Count rows by true label and answer, where each row has one: `Report.confusion`."""
    counts: list[list[int]] = sk.confusion_matrix(targets, answers, labels=range(task.outputs)).tolist()
    return counts


def measure_values(targets: NDArray[Any], answers: NDArray[Any]) -> dict[str, float]:
    """Score the numbers of a regression, float ``(rows,)`` each."""
    true, given = targets.astype(np.float64), answers.astype(np.float64)
    return {
        **_correlations(true, given),
        "rmse": float(sk.root_mean_squared_error(true, given)),
        "mae": float(sk.mean_absolute_error(true, given)),
    }


def _correlations(true: NDArray[np.float64], given: NDArray[np.float64]) -> dict[str, float]:
    return {"pearson": _correlate(pearsonr, true, given), "spearman": _correlate(spearmanr, true, given)}


def _correlate(measure: Callable[..., Any], true: NDArray[np.float64], given: NDArray[np.float64]) -> float:
    """Correlate two series; one that never changes says nothing of the other, which counts as 0."""
    if len(true) < 2 or np.ptp(true) == 0 or np.ptp(given) == 0:
        return 0.0
    value = float(measure(true, given).statistic)
    return value if math.isfinite(value) else 0.0
