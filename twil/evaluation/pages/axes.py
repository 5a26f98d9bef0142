"""The frame of a drawing with two axes of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from twil.evaluation.pages.chart import LETTER, WIDTH
from twil.evaluation.pages.numbers import format_tick, round_ticks

HEIGHT = 240.0
TOP, RIGHT, BOTTOM = 10.0, 12.0, 40.0


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        name: What it counts, with its unit.
        low: Its least number.
        high: Its greatest, above `low`.
        whole: Whether there is nothing between whole numbers.
        log: Whether equal distances are equal factors; `low` is above 0 then.
    """

    name: str
    low: float
    high: float
    whole: bool = False
    log: bool = False

    @property
    def ticks(self) -> list[float]:
        """Where it has numbers."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            steps = (factor * 10.0**power for power in powers for factor in (1, 2, 5))
            return [step for step in (*steps, 10.0**powers.stop) if self.low <= step <= self.high]
        return round_ticks(self.low, self.high, whole=self.whole)

    def share(self, value: float) -> float:
        """Place a number: 0 is the axis's start, 1 its end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def axis_around(name: str, values: Iterable[float], *, whole: bool = False, zero: bool = False) -> Axis:
    """Make the axis that has room for all values which are numbers.

    Args:
        name: What it counts.
        values: What is to be drawn.
        whole: Whether there is nothing between whole numbers.
        zero: Whether it starts at 0 or below.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    if low == high:
        room = max(1.0, abs(low) / 10) if whole else abs(low) / 10 or 1.0
        low, high = (low, high + room) if zero else (low - room, high + room)
    if whole:
        return Axis(name, low, high, whole=True)
    ticks = round_ticks(low, high)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    below, above = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Axis(name, min(low, below), max(high, above))


def log_axis_around(name: str, values: Iterable[float]) -> Axis:
    """Make the axis of equal factors that has room for all values, each above 0."""
    values = list(values)
    return Axis(name, min(values) / 1.5, max(values) * 1.5, log=True)


class Frame:
    """Where the numbers of two axes lie in a drawing.

    Args:
        across: The axis along the bottom.
        up: The axis on the left.
        height: Of the drawing; `WIDTH` is its width.
    """

    def __init__(self, across: Axis, up: Axis, *, height: float = HEIGHT) -> None:
        self.across, self.up, self.height = across, up, height
        self.left = 26 + LETTER * max(len(format_tick(tick)) for tick in up.ticks)
        self.right, self.top, self.bottom = WIDTH - RIGHT, TOP, height - BOTTOM

    def x(self, value: float) -> float:
        """Place a number of the axis along the bottom."""
        return self.left + self.across.share(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Place a number of the axis on the left."""
        return self.bottom - self.up.share(value) * (self.bottom - self.top)
