"""How much each label counts in training, for sets where some labels are rare."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.config.losses import ClassWeights
from twil.core.errors import ConfigError
from twil.core.task import Task


def label_counts(targets: NDArray[Any], task: Task) -> NDArray[np.int64]:
    """Count the rows of each label, int64 ``(L,)``.

    Args:
        targets: int64 ``(rows,)`` of a class task, float ``(rows, L)`` of 0 and 1 of a multi-label task.
        task: Whose labels they are.
    """
    if task.kind == "multi-label":
        return np.asarray(np.count_nonzero(targets, axis=0), dtype=np.int64)
    return np.asarray(np.bincount(targets, minlength=task.outputs), dtype=np.int64)


def class_weights(choice: ClassWeights, targets: NDArray[Any], task: Task) -> NDArray[np.float32] | None:
    """Give each label its weight, float32 ``(L,)``; None where there are none.

    - ``balanced`` gives every label the same sum of weights: rows / (labels · rows of the label). In a
      multi-label task, where a weight is that of the rows with the label beside those without it, rows
      without / rows with.
    - ``max-ratio`` is the original's ``auto``: rows of the most frequent label / rows of the label.
    - Weights by name leave all other labels at 1.

    A rule has nothing to go by for a label that no row of a multi-label task has, or that all have: its
    weight is 1.

    Args:
        choice: The rule, or weights by label name.
        targets: Those of the training set, as for `label_counts`.
        task: What is learned.

    Raises:
        ConfigError: The task is a regression, no row of a class task has one of the labels, there is no such
            label, or a weight is none.
    """
    if choice == "none":
        return None
    if task.kind == "regression":
        raise ConfigError("a regression has no labels to weigh: leave the class weights out")
    if isinstance(choice, Mapping):
        return _by_name(choice, task)
    if choice not in ("balanced", "max-ratio"):
        raise ConfigError(f"there are no class weights '{choice}': choose one of none, balanced, max-ratio")
    counts = label_counts(targets, task)
    if task.kind == "class" and not counts.all():
        missing = ", ".join(task.labels[place] for place in np.flatnonzero(counts == 0))
        raise ConfigError(
            f"class weights '{choice}' need rows of every label, and there are none of {missing}"
        )
    against: Any  # what the rows of a label are set against
    if choice == "max-ratio":
        against = counts.max()
    elif task.kind == "class":
        against = len(targets) / task.outputs
    else:
        against = len(targets) - counts
    usable = (counts > 0) & (against > 0)
    weights = np.divide(against, counts, out=np.ones(task.outputs), where=usable)
    return np.asarray(weights, dtype=np.float32)


def _by_name(weights: Mapping[str, float], task: Task) -> NDArray[np.float32]:
    if unknown := [label for label in weights if label not in task.labels]:
        raise ConfigError(
            f"class weights: there is no label '{unknown[0]}': choose among {', '.join(task.labels)}"
        )
    for label, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(f"class weights: that of '{label}' is a number above 0, not {weight:g}")
    return np.array([weights.get(label, 1.0) for label in task.labels], dtype=np.float32)
