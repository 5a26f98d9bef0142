"""Scores of numbers, on many weighted samples of rows at once."""

# K rows   S samples   M models   N metrics   V different values

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

_CONSTANT = 1e-10  # of the largest value: what a series varies less is the rounding of its mean


class ValueScorer:
    """Scores the numbers that several models give.

    Args:
        targets: The true ones, ``(K,)``.
        answers: Of each model, ``(K,)``.
    """

    metrics = ("pearson", "spearman", "rmse", "mae")

    def __init__(self, targets: NDArray[Any], answers: Sequence[NDArray[Any]]) -> None:
        self._true = targets.astype(np.float64)
        self._given = [given.astype(np.float64) for given in answers]

    def score(self, weights: Float64Array, metrics: Sequence[str]) -> Float64Array:
        """Score all models with weights float64 ``(S, K)`` of the rows: float64 ``(M, N, S)``."""
        measures = {
            "pearson": self._pearson,
            "spearman": self._spearman,
            "rmse": self._root_mean_square,
            "mae": self._mean_absolute,
        }
        return np.stack([measures[name](weights) for name in metrics], axis=1)

    def _pearson(self, weights: Float64Array) -> Float64Array:
        return np.stack([_correlate(weights, self._true, given) for given in self._given])

    def _spearman(self, weights: Float64Array) -> Float64Array:
        middle = (weights.sum(axis=1) + 1) / 2  # the mean of ranks, whatever ties
        weights = np.ascontiguousarray(weights.T)  # (K, S): a sample is a column, and rows are moved whole
        true = rank(weights, self._true) - middle
        weighted = weights * true
        spread = _sums(weighted, true)
        correlations = []
        for values in self._given:
            given = rank(weights, values) - middle
            spreads = spread * _sums(weights * given, given)
            correlations.append(_ratio(_sums(weighted, given), np.sqrt(spreads), changes=spreads > 0))
        return np.stack(correlations)

    def _root_mean_square(self, weights: Float64Array) -> Float64Array:
        squares = np.stack([(self._true - given) ** 2 for given in self._given])  # (M, K)
        return np.asarray(np.sqrt(squares @ weights.T / weights.sum(axis=1)))

    def _mean_absolute(self, weights: Float64Array) -> Float64Array:
        distances = np.stack([np.abs(self._true - given) for given in self._given])  # (M, K)
        return np.asarray(distances @ weights.T / weights.sum(axis=1))


def rank(weights: Float64Array, values: Float64Array) -> Float64Array:
    """Rank values ``(K,)`` in each sample, from 1; equal ones share the middle of their places.

    Args:
        weights: Of each value in each sample, ``(K, S)``.
        values: ``(K,)``.

    Returns:
        Ranks ``(K, S)``.
    """
    _, places = np.unique(values, return_inverse=True)
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    counts = np.add.reduceat(weights[order], starts, axis=0)  # (V, S)
    return np.asarray((np.cumsum(counts, axis=0) - (counts - 1) / 2)[places])


def _correlate(weights: Float64Array, one: Float64Array, other: Float64Array) -> Float64Array:
    """Correlate two series ``(K,)`` in each sample, ``(S,)``; 0 where one of them never changes."""
    one, other = one - one.mean(), other - other.mean()  # near 0, so that sums of squares keep their figures
    columns = np.column_stack([one, other, one * one, other * other, one * other])
    means = (weights @ columns / weights.sum(axis=1, keepdims=True)).T
    spreads = [means[2] - means[0] ** 2, means[3] - means[1] ** 2]
    least = [(_CONSTANT * np.abs(series).max()) ** 2 for series in (one, other)]
    changes = (spreads[0] > least[0]) & (spreads[1] > least[1])
    return _ratio(means[4] - means[0] * means[1], np.sqrt(np.maximum(spreads[0] * spreads[1], 0)), changes)


def _sums(one: Float64Array, other: Float64Array) -> Float64Array:
    """Sum the products of two arrays ``(K, S)`` in each sample, ``(S,)``."""
    return np.asarray(np.einsum("ks,ks->s", one, other))


def _ratio(part: Float64Array, whole: Float64Array, changes: NDArray[np.bool_]) -> Float64Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=changes)
