"""Scores of answers by label: of one set of rows, and of many weighted samples of its rows at once."""

# K rows   S samples   L labels   M models   N metrics

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.core.task import Task
from twil.scores.names import AVERAGES, OF_LABEL, SCORES

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class LabelSums:
    """What the scores come of, summed over the rows of each sample.

    Attributes:
        both: Rows where a label is true and answered, ``(S, L)``.
        true: Rows where it is true, ``(S, L)``.
        given: Rows where it is answered, ``(S, L)``.
        right: Rows whose whole answer is right, ``(S,)``.
        shared: Of each row the share of its labels, true or answered, that are both, ``(S,)``.
        rows: All rows, ``(S,)``.
    """

    both: Float64Array
    true: Float64Array
    given: Float64Array
    right: Float64Array
    shared: Float64Array
    rows: Float64Array

    def accuracy(self) -> Float64Array:
        """Give the share of rows whose whole answer is right, ``(S,)``."""
        return self.right / self.rows

    def by_label(self, score: str) -> Float64Array:
        """Give precision, recall or F1 of each label, ``(S, L)``; 0 where it is not defined."""
        return _score(score, self.both, self.true, self.given)

    def of_label(self, score: str, place: int) -> Float64Array:
        """Give precision, recall or F1 of the label at a place, ``(S,)``."""
        return self.by_label(score)[:, place]

    def average(self, score: str, kind: str) -> Float64Array:
        """Give an average of precision, recall or F1, ``(S,)``."""
        if kind == "micro":
            return _score(score, *(part.sum(axis=1) for part in (self.both, self.true, self.given)))
        if kind == "macro":
            return np.asarray(self.by_label(score).mean(axis=1))
        return _ratio((self.by_label(score) * self.true).sum(axis=1), self.true.sum(axis=1))

    def mean_f1(self, places: Sequence[int]) -> Float64Array:
        """Give the mean F1 of the labels at some places, ``(S,)``."""
        return np.asarray(self.by_label("f1")[:, places].mean(axis=1))

    def jaccard_of_labels(self) -> Float64Array:
        """Give the mean over labels of the share of rows, true or answered, that are both, ``(S,)``."""
        return np.asarray(_ratio(self.both, self.true + self.given - self.both).mean(axis=1))

    def jaccard_of_rows(self) -> Float64Array:
        """Give the mean over rows of the share of labels, true or answered, that are both, ``(S,)``."""
        return self.shared / self.rows

    def correlation(self) -> Float64Array:
        """Give Matthews' correlation, for any number of labels (Gorodkin 2004), ``(S,)``."""
        covariance = self.rows * self.right - (self.true * self.given).sum(axis=1)
        spreads = [self.rows**2 - (part**2).sum(axis=1) for part in (self.true, self.given)]
        return _ratio(covariance, np.sqrt(spreads[0] * spreads[1]))


def count_answers(targets: NDArray[Any], answers: NDArray[Any], labels: int) -> NDArray[np.int64]:
    """Count the rows of a ``class`` task by true label and answer, int64 ``(L, L)``."""
    return np.bincount(targets * labels + answers, minlength=labels**2).reshape(labels, labels)


def sum_counts(counts: NDArray[np.int64]) -> LabelSums:
    """Sum up what `count_answers` gives, as the only sample, S = 1."""
    right = np.trace(counts)
    return _only_sample(counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0), right, right, counts.sum())


def sum_rows(targets: NDArray[Any], answers: NDArray[Any]) -> LabelSums:
    """Sum up the rows ``(K, L)`` of a ``multi-label`` task, as the only sample, S = 1."""
    true, given = np.asarray(targets, dtype=np.bool_), np.asarray(answers, dtype=np.bool_)
    right, shared = _by_row(true, given)
    sums = (part.sum(axis=0) for part in (true & given, true, given, right, shared))
    return _only_sample(*sums, len(true))


def _only_sample(*sums: Any) -> LabelSums:
    return LabelSums(*(np.asarray(part, dtype=np.float64)[np.newaxis] for part in sums))


class LabelScorer:
    """Scores the answers of several models to a task of labels.

    Args:
        targets: What is true, as `LabelledSet.targets` gives it.
        answers: Of each model, as `Task.decide` gives them.
        task: What was asked.
    """

    def __init__(self, targets: NDArray[Any], answers: Sequence[NDArray[Any]], task: Task) -> None:
        self._labels = task.outputs
        self._true = _chosen(targets, task)  # (K, L)
        self._columns = [self._summed(_chosen(given, task)) for given in answers]
        self._metrics = label_metrics(task)

    def score(self, weights: Float64Array, metrics: Sequence[str]) -> Float64Array:
        """Score all models with weights float64 ``(S, K)`` of the rows: float64 ``(M, N, S)``."""
        rows, true = weights.sum(axis=1), weights @ self._true.astype(np.float64)
        sums = [self._sums(weights @ columns, true, rows) for columns in self._columns]
        return np.array([[self._metrics[name](of_model) for name in metrics] for of_model in sums])

    def _summed(self, given: NDArray[np.bool_]) -> Float64Array:
        """Give what is summed up of a model's answers, float64 ``(K, 2 L + 2)``."""
        return np.column_stack([self._true & given, given, *_by_row(self._true, given)]).astype(np.float64)

    def _sums(self, summed: Float64Array, true: Float64Array, rows: Float64Array) -> LabelSums:
        both, given, shares = np.split(summed, [self._labels, 2 * self._labels], axis=1)
        return LabelSums(both, true, given, right=shares[:, 0], shared=shares[:, 1], rows=rows)


def label_metrics(task: Task) -> dict[str, Callable[[LabelSums], Float64Array]]:
    """Give what makes each score of a task, by its name."""
    return dict(_metrics(task))


def _metrics(task: Task) -> Iterator[tuple[str, Callable[[LabelSums], Float64Array]]]:
    yield "accuracy", LabelSums.accuracy
    for kind in AVERAGES:
        for score in SCORES:
            yield f"{kind}_{score}", partial(LabelSums.average, score=score, kind=kind)
    if task.kind == "multi-label":
        yield "jaccard", LabelSums.jaccard_of_rows
    else:
        yield "jaccard", LabelSums.jaccard_of_labels
        yield "mcc", LabelSums.correlation
    if task.scored:
        scored = [task.labels.index(label) for label in task.scored]
        yield "stance_f1", partial(LabelSums.mean_f1, places=scored)
    for place, label in enumerate(task.labels):
        for score in SCORES:
            yield f"{score}{OF_LABEL}{label}", partial(LabelSums.of_label, score=score, place=place)


def _chosen(answers: NDArray[Any], task: Task) -> NDArray[np.bool_]:
    """Tell which labels each row has, bool ``(K, L)``."""
    if task.kind == "multi-label":
        return np.asarray(answers, dtype=np.bool_)
    return np.asarray(answers[:, np.newaxis] == np.arange(task.outputs))


def _by_row(true: NDArray[np.bool_], given: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Float64Array]:
    """Tell of each row ``(K,)`` whether its whole answer is right, and which share of its labels is both.

    TWilBERT: the original's monitor compares the true labels with probabilities, without a threshold.
    """
    both, either = (true & given).sum(axis=1), (true | given).sum(axis=1)
    return (true == given).all(axis=1), np.where(either > 0, both / np.maximum(either, 1), 1.0)


def _score(score: str, both: Float64Array, true: Float64Array, given: Float64Array) -> Float64Array:
    if score == "f1":
        return _ratio(2 * both, true + given)
    return _ratio(both, given if score == "precision" else true)


def _ratio(part: Float64Array, whole: Float64Array) -> Float64Array:
    """Divide; 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
