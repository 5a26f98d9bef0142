"""What a classifier is worth on a labelled set, by the scores that its kind of task has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.config.loop import LOWER_IS_BETTER
from twil.core.errors import ConfigError, ModelError
from twil.core.task import Task, label_values
from twil.scores.label_scores import count_answers, label_metrics, sum_counts, sum_rows
from twil.scores.names import AVERAGES, OF_LABEL, SCORES
from twil.scores.value_scores import ValueScorer

_LABEL_METRICS = ("accuracy", *(f"{average}_{score}" for average in AVERAGES for score in SCORES), "jaccard")
_CORRELATIONS = ("pearson", "spearman")
_REGRESSION_METRICS = ValueScorer.metrics

OwnMetric = Callable[[NDArray[Any], NDArray[np.float32]], float]
"""From targets and scores, as `Task.probabilities` gives them, to one number; more is better."""
_OWN: dict[str, OwnMetric] = {}


@dataclass(frozen=True)
class Report:
    """Scores on a labelled set.

    Attributes:
        rows: How many rows were scored.
        metrics: One number each, by the names that `metric_names` gives.
        labels: precision, recall, F1 and support, by label; of a regression there are none.
        confusion: Rows by true label, columns by answer, in the order of `labels`, where each row has one.
    """

    rows: int
    metrics: dict[str, float]
    labels: dict[str, dict[str, float]]
    confusion: list[list[int]]

    def as_dict(self) -> dict[str, Any]:
        """Describe the report in JSON's types."""
        return asdict(self)


def register_metric(name: str) -> Callable[[OwnMetric], OwnMetric]:
    """Make a function of one's own a metric, from which `train.metric` can choose; for use as a decorator.

    Raises:
        ConfigError: There is such a metric already.
    """
    if name in {*_LABEL_METRICS, *_REGRESSION_METRICS, *_OWN, "loss", "mcc", "stance_f1"} or OF_LABEL in name:
        raise ConfigError(f"the metric '{name}' cannot be added: choose a name that is free, without a colon")

    def register(metric: OwnMetric) -> OwnMetric:
        _OWN[name] = metric
        return metric

    return register


def metric_names(task: Task) -> tuple[str, ...]:
    """Name the metrics of a task, one number each; those of one label are ``f1:LABEL`` and the like."""
    if task.kind == "regression":
        return (*_REGRESSION_METRICS, *_OWN)
    of_labels = (f"{score}{OF_LABEL}{label}" for label in task.labels for score in SCORES)
    extra = ["mcc"] if task.kind == "class" else []
    extra += ["stance_f1"] if task.scored else []
    extra += _CORRELATIONS if ranks_of(task) is not None else []
    return (*_LABEL_METRICS, *extra, *_OWN, *of_labels)


def ranks_of(task: Task) -> NDArray[np.float64] | None:
    """Give the numbers that the labels of a ``class`` task are; None where they are names."""
    values = label_values(task.labels) if task.kind == "class" else None
    return None if values is None else np.array(values)


def main_metric(task: Task) -> str:
    """Name the metric by which a task is judged where nobody chooses another."""
    if task.kind == "regression":
        return "pearson"
    return "stance_f1" if task.scored else "macro_f1"


def higher_is_better(metric: str) -> bool:
    """Tell in which direction a metric improves."""
    return metric not in LOWER_IS_BETTER


def check_metric(name: str, task: Task) -> None:
    """Refuse a metric that a task does not have.

    Raises:
        ConfigError: It lists those that there are.
    """
    known = ("loss", *metric_names(task))
    if name not in known:
        plain = ", ".join(known_name for known_name in known if OF_LABEL not in known_name)
        single = f", or f1{OF_LABEL}LABEL, precision{OF_LABEL}LABEL, recall{OF_LABEL}LABEL of one label"
        raise ConfigError(
            f"there is no metric '{name}' of a {task.kind} task: choose one of {plain}"
            f"{'' if task.kind == 'regression' else single}"
        )


def score_logits(logits: NDArray[np.float32], targets: NDArray[Any], task: Task) -> Report:
    """Decode logits by the task's rule and score them.

    A label without true rows, or without answers, counts with 0 in averages, as scikit-learn does with
    `zero_division=0`; every label of the task counts, whether or not it occurs.

    Args:
        logits: float32 ``(rows, outputs)``.
        targets: As `LabelledSet.targets` gives them.
        task: What was asked.

    Raises:
        ModelError: The logits are not all finite.
    """
    check_finite(logits)
    scores = task.probabilities(logits)
    answers = task.decide(scores)
    own = {name: float(metric(targets, scores)) for name, metric in _OWN.items()}
    if task.kind == "regression":
        return Report(len(targets), {**_score_values(targets, answers, _REGRESSION_METRICS), **own}, {}, [])
    counts = count_answers(targets, answers, task.outputs) if task.kind == "class" else None
    sums = sum_rows(targets, answers) if counts is None else sum_counts(counts)
    found = {name: score(sums).item() for name, score in label_metrics(task).items()}
    metrics = {name: value for name, value in found.items() if OF_LABEL not in name}
    ranks = ranks_of(task)
    if ranks is not None:
        metrics |= _score_values(ranks[targets], ranks[answers], _CORRELATIONS)
    labels = {
        label: {
            **{score: found[f"{score}{OF_LABEL}{label}"] for score in SCORES},
            "support": int(sums.true[0, place]),
        }
        for place, label in enumerate(task.labels)
    }
    confusion = [] if counts is None else counts.tolist()
    return Report(len(targets), {**metrics, **own}, labels, confusion)


def check_finite(logits: NDArray[np.float32]) -> None:
    """Refuse logits float32 ``(rows, L)`` of which there can be no score.

    Raises:
        ModelError: They are not all finite.
    """
    damaged = int((~np.isfinite(logits)).any(axis=1).sum())
    if damaged:
        raise ModelError(
            f"the model gives logits that are not finite for {damaged:,} of {len(logits):,} rows, which have "
            "no score: its weights are damaged, or its training has diverged (train it with a lower learning "
            "rate)"
        )


def _score_values(targets: NDArray[Any], answers: NDArray[Any], metrics: Sequence[str]) -> dict[str, float]:
    scores = ValueScorer(targets, [answers]).score(np.ones((1, len(targets))), metrics)[0, :, 0]
    return dict(zip(metrics, scores.tolist(), strict=True))


def metrics_of(report: Report) -> dict[str, float]:
    """Give every metric of a report by name, those of one label included."""
    return {**report.metrics, **dict(_of_labels(report.labels))}


def _of_labels(labels: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, float]]:
    for label, scores in labels.items():
        yield from ((f"{score}{OF_LABEL}{label}", scores[score]) for score in SCORES)
