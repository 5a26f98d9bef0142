"""Whether two models that answered the same rows differ by more than chance."""

# S samples   P pairs

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2

ALPHA = 0.05
"""Below it, a p-value is called significant."""
EXACT_BELOW = 25
"""Rows that one model alone has right, from which McNemar's test is an approximation."""

_ROUNDING = 1e-12  # differences of scores that are equal are not always 0


def paired_bootstrap(difference: float, samples: NDArray[np.float64], *, rows: int) -> float:
    """Return the p-value of a difference between two scores by the paired bootstrap, two-sided.

    Were there no difference, samples would lie around 0 as they now lie around `difference`. The p-value is
    the share of them that are as far from there as `difference` is from 0 (Efron and Tibshirani 1993, chapter
    16), what was observed being one of them (Davison and Hinkley 1997, section 4.2.3). One-sided, this is the
    test of Berg-Kirkpatrick, Burkett and Klein (2012): samples of more than twice the difference.

    Of a few rows, samples differ too little: one row gives the same difference in all. So the p-value is
    never below 2 / 2^rows, that of rows which all speak for one model, as each would by chance in half of
    the cases.

    Args:
        difference: Of the scores on all rows.
        samples: Of the scores on the same samples of rows, float64 ``(S,)``.
        rows: How many there are.
    """
    as_far = np.abs(samples - difference) >= abs(difference) - _ROUNDING
    return max(float((1 + np.count_nonzero(as_far)) / (1 + len(samples))), 2.0 ** (1 - rows))


def mcnemar(first: int, second: int) -> float:
    """Return the p-value of McNemar's test (1947), two-sided: exact below `EXACT_BELOW` rows.

    From there on it is the chi-square test with the continuity correction of Edwards (1948).

    Args:
        first: Rows that the first model alone has right.
        second: Rows that the second model alone has right.
    """
    rows = first + second
    if rows == 0:
        return 1.0
    if rows < EXACT_BELOW:
        return float(binomtest(first, rows).pvalue)
    return float(chi2.sf(max(abs(first - second) - 1, 0) ** 2 / rows, df=1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for how many there are (Holm 1979), or some would be significant by chance."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    return [float(value) for value in corrected]
