"""Each two of several models that answered the same rows: how they differ, and how sure that is."""

# R rows   M models

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.scores.intervals import Interval, percentile_interval
from twil.scores.resampling import Resampled
from twil.scores.significance import ALPHA, holm, mcnemar, paired_bootstrap


@dataclass(frozen=True)
class PValue:
    """A p-value, and what it is among those of other pairs.

    Attributes:
        p: The p-value.
        holm: The same, corrected for the number of pairs.
    """

    p: float
    holm: float

    @property
    def significant(self) -> bool:
        """Whether it is, among all pairs."""
        return self.holm < ALPHA


@dataclass(frozen=True)
class Pair:
    """Two models side by side.

    Attributes:
        first: The name of one.
        second: The name of the other.
        difference: Of the metric, the first less the second.
        bootstrap: The paired bootstrap test of this difference.
        first_right: Rows that the first alone has wholly right; 0 of a regression.
        second_right: Rows that the second alone has wholly right.
        mcnemar: McNemar's test of these rows; None of a regression, whose answers are not right or wrong.
    """

    first: str
    second: str
    difference: Interval
    bootstrap: PValue
    first_right: int = 0
    second_right: int = 0
    mcnemar: PValue | None = None

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types; see `twil.evaluation.comparison.Comparison`."""
        mcnemar = None
        if self.mcnemar:
            rows = {"first_alone_right": self.first_right, "second_alone_right": self.second_right}
            mcnemar = {**asdict(self.mcnemar), **rows}
        return {
            "first": self.first,
            "second": self.second,
            "difference": self.difference._asdict(),
            "bootstrap": {**asdict(self.bootstrap), "significant": self.bootstrap.significant},
            "mcnemar": mcnemar,
        }


def compare_pairs(
    names: Sequence[str],
    places: Sequence[int],
    found: Resampled,
    metric: str,
    right: NDArray[np.bool_] | None,
) -> tuple[Pair, ...]:
    """Test the difference of each two models.

    Args:
        names: Of the models.
        places: Their order in pairs.
        found: Their scores.
        metric: Which of them is compared.
        right: Which rows each has wholly right, bool ``(M, R)``; None where answers are not right or wrong.
    """
    values, samples = found.values[metric], found.samples[metric]
    two = list(combinations(places, 2))
    differences = [
        percentile_interval(values[one] - values[other], samples[one] - samples[other]) for one, other in two
    ]
    bootstrap = _corrected(
        [
            paired_bootstrap(difference.value, samples[one] - samples[other], rows=found.rows)
            for difference, (one, other) in zip(differences, two, strict=True)
        ]
    )
    alone = [(0, 0)] * len(two)
    mcnemars: list[PValue | None] = [None] * len(two)
    if right is not None:
        alone = [
            (_count(right[one] & ~right[other]), _count(right[other] & ~right[one])) for one, other in two
        ]
        mcnemars = list(_corrected([mcnemar(*rows) for rows in alone]))
    found_of = zip(two, differences, bootstrap, alone, mcnemars, strict=True)
    return tuple(
        Pair(names[one], names[other], difference, of_bootstrap, *rows, mcnemar=of_rows)
        for (one, other), difference, of_bootstrap, rows, of_rows in found_of
    )


def _corrected(p_values: Sequence[float]) -> list[PValue]:
    return [PValue(*both) for both in zip(p_values, holm(p_values), strict=True)]


def _count(rows: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(rows))
