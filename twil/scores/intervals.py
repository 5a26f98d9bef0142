"""What many times of the same work say: percentiles, a rate, and how sure it is."""

# R rounds   N runs of a round   S samples of the bootstrap

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""The share of samples that an interval holds."""
SAMPLES = 2000
PERCENTILES = (50, 90, 99)

Float64Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure, and where it might as well lie."""

    value: float
    low: float
    high: float


class Latencies:
    """The seconds of every run, round by round.

    An interval comes from the bootstrap over rounds, not over runs: what slows a shared machine down lasts
    longer than one run, and the runs of a round are alike. Rounds are drawn by the seed alone, so that two
    of these that were measured in the same rounds are compared round by round.

    Args:
        seconds: ``(R, N)``.
        seed: Decides which rounds are drawn.
    """

    def __init__(self, seconds: Sequence[Sequence[float]], *, seed: int) -> None:
        self.seconds: Float64Array = np.asarray(seconds, dtype=np.float64)  # (R, N)
        self.seed = seed
        rounds = len(self.seconds)
        self._drawn = np.random.default_rng(seed).integers(rounds, size=(SAMPLES, rounds))  # (S, R)

    @property
    def mean(self) -> float:
        """The mean of all runs."""
        return float(self.seconds.mean())

    def percentiles(self) -> tuple[float, ...]:
        """Give the `PERCENTILES` of all runs, by linear interpolation between the two nearest."""
        return tuple(np.percentile(self.seconds, PERCENTILES).tolist())

    def rate(self, rows: int) -> Interval:
        """Give how many rows a second went through, where each run computes `rows`: by the whole time."""
        seconds = self.seconds.sum(axis=1)[self._drawn].sum(axis=1)  # (S,)
        work = rows * self.seconds.size
        return percentile_interval(work / self.seconds.sum(), work / seconds)

    def speedup(self, first: Latencies) -> Interval:
        """Tell how many times as fast this is as another of the same rounds and seed: by the medians.

        Unlike sums, they hardly change where something else took the processor during a few runs.
        """
        value = float(np.median(first.seconds) / np.median(self.seconds))
        return percentile_interval(value, first._medians / self._medians)

    @cached_property
    def _medians(self) -> Float64Array:
        """The median of each sample; float64 ``(S,)``."""
        # One by one: the runs of all samples together would take S times their memory.
        return np.array([np.median(self.seconds[rounds]) for rounds in self._drawn])


def percentile_interval(value: float, samples: Float64Array) -> Interval:
    """Put a figure between the ends that hold `LEVEL` of what it was in samples ``(S,)``."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))
