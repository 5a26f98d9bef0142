"""The scores of scikit-learn and SciPy, which twil's own are held to."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as sk

from twil.core.task import Task
from twil.scores.metrics import ranks_of
from twil.scores.names import AVERAGES, OF_LABEL, SCORES


def scikit_scores(targets: NDArray[Any], answers: NDArray[Any], task: Task) -> dict[str, float]:
    """Give every score of a task, of answers as `Task.decide` gives them."""
    if task.kind == "regression":
        true, given = targets.astype(float), answers.astype(float)
        errors = {
            "rmse": sk.root_mean_squared_error(true, given),
            "mae": sk.mean_absolute_error(true, given),
        }
        return {**_correlations(true, given), **errors}
    numbers, true, given = list(range(task.outputs)), targets, answers
    if task.kind == "multi-label" and task.outputs == 1:
        # To scikit-learn a single column is that of two classes, and the label is the second of them.
        numbers, true, given = [1], targets[:, 0], answers[:, 0]
    scores = {"accuracy": sk.accuracy_score(true, given)}
    measure = partial(sk.precision_recall_fscore_support, true, given, labels=numbers, zero_division=0)
    for average in AVERAGES:
        for name, value in zip(SCORES, measure(average=average), strict=False):
            scores[f"{average}_{name}"] = value
    for name, values in zip(SCORES, measure(), strict=False):
        scores |= {
            f"{name}{OF_LABEL}{label}": value for label, value in zip(task.labels, values, strict=True)
        }
    if task.kind == "multi-label":
        return {**scores, "jaccard": np.mean(list(map(_shared, targets > 0, answers > 0)))}
    scores["jaccard"] = sk.jaccard_score(true, given, labels=numbers, average="macro", zero_division=0)
    # Scikit-learn warns of one class in all, which correlates with nothing.
    scores["mcc"] = sk.matthews_corrcoef(true, given) if len(np.union1d(true, given)) > 1 else 0
    if task.scored:
        scores["stance_f1"] = np.mean([scores[f"f1{OF_LABEL}{label}"] for label in task.scored])
    ranks = ranks_of(task)
    return scores if ranks is None else scores | _correlations(ranks[true], ranks[given])


def _shared(true: NDArray[np.bool_], given: NDArray[np.bool_]) -> float:
    """Give the share of a row's labels, true or answered, that are both; 1 where there are none."""
    return (true & given).sum() / (true | given).sum() if (true | given).any() else 1


def _correlations(true: NDArray[np.float64], given: NDArray[np.float64]) -> dict[str, float]:
    varied = len(true) > 1 and np.ptp(true) > 0 and np.ptp(given) > 0
    measures = {"pearson": pearsonr, "spearman": spearmanr}
    return {name: measure(true, given).statistic if varied else 0 for name, measure in measures.items()}
