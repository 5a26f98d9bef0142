"""Precision, recall, F1 and Jaccard on probabilities: smooth, so that they can be trained on.

A count of answers becomes a sum of probabilities. Each function takes probabilities float ``(B, L)`` and
targets float ``(B, L)`` of 0 and 1, and gives the metric itself, which a loss negates: one number for the
batch, or one per row. In a class task the three micro ones are the mean probability of the true labels. A
label that the batch lacks counts with 0 in macro averages, as scikit-learn has it with ``zero_division=0``.
"""

# B batch   L labels

from __future__ import annotations

from torch import Tensor

EPSILON = 1e-7
"""Stands in for a denominator of 0, so that values and gradients stay finite."""


def micro_precision(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Compute precision over all labels together, a scalar."""
    return _ratio((targets * probabilities).sum(), probabilities.sum())


def micro_recall(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Compute recall over all labels together, a scalar."""
    return _ratio((targets * probabilities).sum(), targets.sum())


def micro_f1(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Compute F1 over all labels together, a scalar."""
    return _ratio(2 * (targets * probabilities).sum(), probabilities.sum() + targets.sum())


def macro_precision(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean of the labels' precisions, a scalar."""
    return _precisions(probabilities, targets).mean()


def macro_recall(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean of the labels' recalls, a scalar."""
    return _recalls(probabilities, targets).mean()


def macro_f1(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean of the labels' F1, a scalar."""
    return _f1s(probabilities, targets).mean()


def f1_of_averages(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Compute the harmonic mean of macro precision and macro recall, a scalar.

    It is the other of the two that go by the name of macro F1 (Opitz and Burst 2019).
    """
    precision, recall = macro_precision(probabilities, targets), macro_recall(probabilities, targets)
    return _ratio(2 * precision * recall, precision + recall)


def label_precision(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Give each row the sum of its labels' precisions in the batch, ``(B,)``."""
    return (targets * _precisions(probabilities, targets)).sum(1)


def label_recall(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Give each row the sum of its labels' recalls in the batch, ``(B,)``."""
    return (targets * _recalls(probabilities, targets)).sum(1)


def label_f1(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Give each row the sum of its labels' F1 in the batch, ``(B,)``."""
    return (targets * _f1s(probabilities, targets)).sum(1)


def jaccard(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Compute each row's intersection over union, ``(B,)``.

    TWilBERT: one number per row, so that their mean divides by the rows and class weights weigh each row;
    the original divides the sum by 16, whatever the batch, and scales it by the mean weight.
    """
    intersection = (targets * probabilities).sum(1)  # (B,)
    return _ratio(intersection, targets.sum(1) + probabilities.sum(1) - intersection)


def _precisions(probabilities: Tensor, targets: Tensor) -> Tensor:
    return _ratio((targets * probabilities).sum(0), probabilities.sum(0))  # (L,)


def _recalls(probabilities: Tensor, targets: Tensor) -> Tensor:
    return _ratio((targets * probabilities).sum(0), targets.sum(0))  # (L,)


def _f1s(probabilities: Tensor, targets: Tensor) -> Tensor:
    return _ratio(2 * (targets * probabilities).sum(0), probabilities.sum(0) + targets.sum(0))  # (L,)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return numerator / denominator.clamp(min=EPSILON)
