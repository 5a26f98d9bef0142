"""Whether probabilities mean what they say: of all answers given with 0.8, are 80 % right?"""

# B bins   L labels   N probabilities

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""As in the paper's experiments."""


@dataclass(frozen=True)
class Reliability:
    """Probabilities beside how often they came true, in bins of equal width.

    Attributes:
        edges: float64 ``(B + 1,)`` from 0 to 1; a bin holds its upper edge, the first one 0, too.
        counts: int64 ``(B,)``: how many probabilities lie in each.
        confidence: float64 ``(B,)``: their mean; NaN in an empty bin.
        accuracy: float64 ``(B,)``: the share that came true; NaN in an empty bin.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap of the bins, each weighted by what lies in it."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy - self.confidence)[filled]
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())


def reliability(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[Any], *, bins: int = BINS
) -> Reliability:
    """Compare probabilities with what came true.

    See Guo et al. 2017, "On Calibration of Modern Neural Networks". Of a task with one label a row, the
    likeliest label counts. Where a row may have any number of labels, each label is a question of its own,
    and every probability counts.

    Args:
        probabilities: ``(rows, L)``, at least one row.
        targets: Integers ``(rows,)``, the place of each row's label; or 0 and 1 ``(rows, L)``.
        bins: How many, of equal width.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if targets.ndim == 1:
        given = probabilities.max(axis=1)  # (N,)
        right = probabilities.argmax(axis=1) == targets
    else:
        given, right = probabilities.ravel(), targets.ravel() > 0
    edges = np.linspace(0, 1, bins + 1)
    places = np.searchsorted(edges[1:-1], given, side="left")  # (N,)
    counts = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        confidence = np.bincount(places, weights=given, minlength=bins) / counts
        accuracy = np.bincount(places, weights=right, minlength=bins) / counts
    return Reliability(edges, counts, confidence, accuracy)


def expected_calibration_error(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[Any], *, bins: int = BINS
) -> float:
    """Give the expected calibration error, 0 where probabilities are as good as their word.

    Takes what `reliability` takes.
    """
    return reliability(probabilities, targets, bins=bins).error
