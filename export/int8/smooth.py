"""Divisors by channel, which leave what products read easier to round and their weights harder to.

A few channels of a pretrained encoder hold numbers a hundred times those of the others, and take all the
steps of 8 bits. Divided by what they hold, raised to a strength between 0 and 1, while the weights that they
meet are multiplied by it, they leave a product as it was (Xiao et al. 2023, SmoothQuant).
"""

# D inputs of a product   N its outputs

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from twil.exporting.int8.calibrate import Seen, Way

STRENGTHS = (0.5, 0.7)
"""How much of what a channel holds is moved into the weights."""
WORTH = 0.8
"""Divisors cost a pass over the tensor, and must leave no more than this part of the loss."""

_LEAST = 1e-5  # that a channel or its weights are taken to hold


def smooth(seen: Seen, weights: Sequence[NDArray[np.float32]]) -> Seen:
    """Divide what a tensor holds, where the products that read it then lose less by rounding it.

    Args:
        seen: What it holds.
        weights: Of the products that read it, each ``(D, N)``.
    """
    held = np.maximum(np.maximum(-seen.low, seen.high), _LEAST)  # (D,)
    met = np.maximum(np.max([np.abs(each).max(axis=1) for each in weights], axis=0), _LEAST)  # (D,)
    best, least = seen, WORTH * _loss(seen, weights)
    for strength in STRENGTHS:
        divisors = held**strength / met ** (1 - strength)
        found = seen.divided(divisors.astype(np.float32))
        if (loss := _loss(found, weights)) < least:
            best, least = found, loss
    return best


def _loss(seen: Seen, weights: Sequence[NDArray[np.float32]]) -> float:
    """Tell how much of what products give is lost in both ways, as the product of its shares."""
    lost = [sum(np.square(seen.lost(each, way)).sum() for each in weights) for way in get_args(Way)]
    return float(np.prod(lost))
