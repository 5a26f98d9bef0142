"""Weights in 8 bits, rounded so that products lose least on real inputs."""

# D inputs of a product   N its outputs

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twil.exporting.int8.calibrate import LARGEST, largest_steps

DAMPING = 0.01
"""What is added to the mean square of each input, as a share of the mean of all."""

_BLOCK = 128  # inputs whose errors reach those behind them together


class RoundedWeights(NamedTuple):
    """What is left of weights.

    Attributes:
        numbers: int8 ``(D, N)``.
        steps: Of the columns, float32 ``(N,)``.
    """

    numbers: NDArray[np.int8]
    steps: NDArray[np.float32]


def round_weights(weights: NDArray[np.float32], gram: NDArray[np.float32]) -> RoundedWeights:
    """Round weights input by input, each making up for the errors of those before it.

    This is GPTQ (Frantar et al. 2023): a column's largest number sets its step, and inputs come by their mean
    square, the largest first.

    Args:
        weights: float32 ``(D, N)``.
        gram: The products of each two inputs, summed over many tokens, float32 ``(D, D)``.
    """
    steps = largest_steps(weights, axis=0)  # (1, N)
    squares = np.diag(gram).astype(np.float64)
    order = np.argsort(-squares, kind="stable")
    damped = gram[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices_from(damped)] += DAMPING * squares.mean() + np.finfo(np.float32).tiny
    # Row i tells how an error in input i is made up for by those behind it.
    share = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)  # (D, D), upper
    left = (weights / steps)[order]
    numbers = np.empty_like(left)
    for start in range(0, len(left), _BLOCK):
        end = min(start + _BLOCK, len(left))
        errors = np.empty((end - start, left.shape[1]), np.float32)
        for row in range(start, end):
            numbers[row] = np.clip(np.round(left[row]), -LARGEST, LARGEST)
            errors[row - start] = (left[row] - numbers[row]) / share[row, row]
            left[row + 1 : end] -= np.outer(share[row, row + 1 : end], errors[row - start])
        left[end:] -= share[start:end, end:].T @ errors
    rounded = np.empty(weights.shape, np.int8)
    rounded[order] = numbers.astype(np.int8)
    return RoundedWeights(rounded, steps[0])
