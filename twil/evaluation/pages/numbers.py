"""Numbers as people read them, and round ones for the ticks of an axis."""

from __future__ import annotations

import math

ABSENT = "–"
SMALL, LARGE = 1e-3, 1e3


def format_number(value: float) -> str:
    """Write counts with separators, scores with four decimals, and a dash for what is no number.

    What four decimals would hardly tell from 0, such as a learning rate, is written by its power of ten.
    """
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return ABSENT
    if 0 < abs(value) < SMALL:
        return f"{value:.2e}"
    return f"{value:.4f}" if abs(value) < LARGE else f"{value:,.1f}"


def format_tick(value: float) -> str:
    """Write a round number as shortly as it can be."""
    return f"{value:,.10g}"


def round_ticks(low: float, high: float, *, about: int = 5, whole: bool = False) -> list[float]:
    """Give round numbers between two, the steps between them 1, 2 or 5 times a power of ten.

    Args:
        low: The least.
        high: The most, above `low`.
        about: How many steps at most.
        whole: Whether there is nothing between whole numbers.
    """
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]
