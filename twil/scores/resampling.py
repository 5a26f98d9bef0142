"""Scores of several models on the same rows, and on samples that are drawn again from them.

This is the bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993), paired: a sample holds
the same rows for every model. Rows of the same true answer that each model answers alike differ in nothing
that is scored, so that a sample is told by how often each group of them is drawn. These weights are
multinomial, and all samples are scored with them at once.
"""

# R rows   K groups of like rows   S samples   M models   N metrics

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import ConfigError
from twil.core.task import Task
from twil.scores.label_scores import LabelScorer, label_metrics
from twil.scores.names import OF_LABEL
from twil.scores.value_scores import ValueScorer

Float64Array = NDArray[np.float64]

_CELLS = 2**18  # numbers that are drawn at a time: few enough to stay in a CPU's caches
_FEW = 5  # there are few groups where each has more rows


class Scorer(Protocol):
    """Scores models on weighted rows, whose answers it knows."""

    def score(self, weights: Float64Array, metrics: Sequence[str]) -> Float64Array:
        """Score all models with weights float64 ``(S, K)`` of the rows: float64 ``(M, N, S)``."""
        ...


@dataclass(frozen=True)
class Resampled:
    """Scores of several models on a set of rows, and on samples of it.

    Attributes:
        values: By metric, float64 ``(M,)``.
        samples: By metric, float64 ``(M, S)``.
        rows: How many there are in the set, and in each sample.
    """

    values: dict[str, Float64Array]
    samples: dict[str, Float64Array]
    rows: int


def resample(
    targets: NDArray[Any],
    answers: Sequence[NDArray[Any]],
    task: Task,
    *,
    metrics: Sequence[str],
    samples: int,
    seed: int,
) -> Resampled:
    """Score models on a set of rows, and on samples of as many rows, drawn from it with replacement.

    Args:
        targets: What is true, as `LabelledSet.targets` gives it.
        answers: Of each model, as `Task.decide` gives them.
        task: What was asked.
        metrics: Which scores.
        samples: How many samples.
        seed: Decides which rows are drawn.

    Raises:
        ConfigError: There is no such metric of this task.
    """
    for name in metrics:
        check_comparable(name, task)
    firsts, counts = group_rows(targets, answers)
    scorer = make_scorer(targets[firsts], [given[firsts] for given in answers], task)
    values = scorer.score(counts[np.newaxis], metrics)[:, :, 0]  # (M, N)
    parts = [scorer.score(weights, metrics) for weights in draw(counts, samples, seed)]
    scores = np.concatenate(parts, axis=2)  # (M, N, S)
    return Resampled(
        {name: values[:, number] for number, name in enumerate(metrics)},
        {name: scores[:, number] for number, name in enumerate(metrics)},
        len(targets),
    )


def group_rows(
    targets: NDArray[Any], answers: Sequence[NDArray[Any]]
) -> tuple[NDArray[np.int64], Float64Array]:
    """Find the rows that differ in what is true, or in what a model answers.

    Returns:
        One row of each group, int64 ``(K,)``, and how many there are in it, float64 ``(K,)``.
    """
    columns = np.column_stack([np.asarray(part, dtype=np.float64) for part in (targets, *answers)])
    _, firsts, counts = np.unique(columns, axis=0, return_index=True, return_counts=True)
    return firsts, counts.astype(np.float64)


def draw(counts: Float64Array, samples: int, seed: int) -> Iterator[Float64Array]:
    """Draw samples, some at a time: how often each group of rows is in them, float64 ``(some of S, K)``.

    Args:
        counts: Rows of each group, float64 ``(K,)``; a sample has as many in all.
        samples: How many samples.
        seed: Decides them.
    """
    rng = np.random.default_rng(seed)
    rows, groups = round(counts.sum()), len(counts)
    few = _FEW * groups < rows
    step = max(1, _CELLS // (groups if few else rows))
    of_rows = np.repeat(np.arange(groups), counts.astype(np.int64))
    for start in range(0, samples, step):
        size = min(step, samples - start)
        if few:
            weights = rng.multinomial(rows, counts / rows, size=size)
        else:  # the same, and faster where there is about a group for each row
            drawn = of_rows[rng.integers(rows, size=(size, rows))] + groups * np.arange(size)[:, np.newaxis]
            weights = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups)
        yield weights.astype(np.float64)


def make_scorer(targets: NDArray[Any], answers: Sequence[NDArray[Any]], task: Task) -> Scorer:
    """Choose what scores the answers to a task."""
    if task.kind == "regression":
        return ValueScorer(targets, answers)
    return LabelScorer(targets, answers, task)


def comparable_metrics(task: Task) -> tuple[str, ...]:
    """Name the metrics of a task that samples can be scored by."""
    return ValueScorer.metrics if task.kind == "regression" else tuple(label_metrics(task))


def check_comparable(metric: str, task: Task) -> None:
    """Refuse a metric that samples cannot be scored by.

    Raises:
        ConfigError: It lists those that there are.
    """
    known = comparable_metrics(task)
    if metric not in known:
        plain = ", ".join(name for name in known if OF_LABEL not in name)
        single = "" if task.kind == "regression" else f", or f1{OF_LABEL}LABEL and the like of one label"
        raise ConfigError(
            f"{task.kind} models cannot be compared by '{metric}': choose one of {plain}{single}"
        )
