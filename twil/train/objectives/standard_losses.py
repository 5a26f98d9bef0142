"""The field's losses: cross-entropies, focal losses and squared errors.

Logits are float ``(B, L)``; targets are int64 ``(B,)`` of a class task, or float ``(B, L)`` of 0 and 1 of a
multi-label task. Squared errors take predictions, which may be probabilities, in place of logits.
"""

# B batch   L labels

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from twil.train.objectives.soft_metrics import EPSILON

FOCAL_GAMMA = 2.0
"""The strength that Lin et al. (2017) found best."""


def cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Compute the cross-entropy of each row, ``(B,)``; smoothing spreads its share evenly over all labels."""
    return F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Compute the mean of each row's binary cross-entropies, ``(B,)``; smoothing pulls targets towards ½."""
    smooth = targets * (1 - label_smoothing) + label_smoothing / 2
    terms = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")  # (B, L)
    return _weigh_positives(terms, targets, positive_weights).mean(1)


def softmax_focal(logits: Tensor, targets: Tensor, *, focal_gamma: float = FOCAL_GAMMA) -> Tensor:
    """Compute the focal loss of each row, ``(B,)`` (Lin et al. 2017, equation 4)."""
    return _focus(cross_entropy(logits, targets), focal_gamma)


def sigmoid_focal(
    logits: Tensor,
    targets: Tensor,
    *,
    focal_gamma: float = FOCAL_GAMMA,
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Compute the mean of each row's focal losses over the labels, ``(B,)`` (Lin et al. 2017, equation 4)."""
    terms = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")  # (B, L)
    return _weigh_positives(_focus(terms, focal_gamma), targets, positive_weights).mean(1)


def squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean of each row's squared errors, ``(B,)``, of predictions and targets ``(B, L)``."""
    return (predictions - targets).square().mean(1)


def row_rmse(predictions: Tensor, targets: Tensor) -> Tensor:
    """Compute the root of the mean of each row's squared errors, ``(B,)``."""
    return _root(squared_error(predictions, targets))


def rmse(predictions: Tensor, targets: Tensor) -> Tensor:
    """Compute the root of the mean squared error of the batch, a scalar.

    TWilBERT: the root of the batch's mean, as the measure is defined; the original takes that of each row,
    which for a single number is the absolute error.
    """
    return _root(squared_error(predictions, targets).mean())


def _focus(negative_log: Tensor, gamma: float) -> Tensor:
    """Weigh -log p by (1 - p)^γ, whose slope at p = 1 would be infinite for γ below 1."""
    return (-torch.expm1(-negative_log)).clamp(min=EPSILON) ** gamma * negative_log


def _root(squares: Tensor) -> Tensor:
    """Take the root, whose slope at 0 would be infinite."""
    return squares.clamp(min=EPSILON**2).sqrt()


def _weigh_positives(terms: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return terms
    return terms * torch.where(targets > 0, weights.to(terms.device), 1.0)
