"""The settings that a search tries: lists of values and ranges, by short or whole names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

from twil.config.settings import parse_value
from twil.config.toml import format_value
from twil.core.errors import ConfigError

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\.\.({_NUMBER})(?::(\w+))?\s*")
_BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}

LOG_SCALED = frozenset({"lr", "weight_decay", "eps", "layer_norm_eps", "initializer_range", "memory_rate"})
"""Settings whose ranges are drawn on a logarithmic scale unless they say otherwise."""

HELD = {
    "data.": "all trials learn from the same files",
    "train.seed": "the seeds of all trials are the same: --seed and those after it (--runs)",
    "train.metric": "all trials are compared by the same score",
    "train.keep": "it changes nothing of what is learnt",
    "train.checkpoint_steps": "it changes nothing of what is learnt",
    "train.checkpoint_minutes": "it changes nothing of what is learnt",
    "train.log_steps": "it changes nothing of what is learnt",
}
"""Settings that may have one value only, and why."""

Value: TypeAlias = str | int | float
"""What a trial has of a dimension: the words of a choice, or a number of a range."""


@dataclass(frozen=True)
class Choices:
    """A setting with a list of values.

    Attributes:
        name: Its whole name.
        values: Each by the words that show it.
    """

    name: str
    values: Mapping[str, Any]

    def setting(self, value: Value) -> Any:
        """Give what the setting is to be."""
        return self.values[str(value)]

    @property
    def ends(self) -> tuple[Value, ...]:
        """What must be valid for all of it to be."""
        return tuple(self.values)

    def as_dict(self) -> list[Any]:
        """Describe it in JSON's types."""
        return list(self.values.values())


@dataclass(frozen=True)
class Range:
    """A setting with all numbers between two.

    Attributes:
        name: Its whole name.
        low: The smallest; of whole numbers an int.
        high: The largest.
        log: Whether small numbers are as close to each other as large ones by their ratio.
    """

    name: str
    low: int | float
    high: int | float
    log: bool

    def setting(self, value: Value) -> Any:
        """Give what the setting is to be."""
        return value

    @property
    def ends(self) -> tuple[Value, ...]:
        """What must be valid for all of it to be: the settings are bounded below and above, or neither."""
        return (self.low, self.high)

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return {"low": self.low, "high": self.high, "log": self.log}


Dimension: TypeAlias = Choices | Range
Point: TypeAlias = dict[str, Value]
"""A value of each dimension by its name."""


@dataclass(frozen=True)
class Space:
    """Everything that a search may try."""

    dimensions: tuple[Dimension, ...]

    @property
    def size(self) -> int | None:
        """How many combinations there are; None where a range has no end of them."""
        lists = [each for each in self.dimensions if isinstance(each, Choices)]
        return math.prod(len(each.values) for each in lists) if len(lists) == len(self.dimensions) else None

    def grid(self) -> Iterator[Point]:
        """Give every combination; the last setting changes first."""
        for values in product(*(each.ends for each in self.dimensions)):
            yield {each.name: value for each, value in zip(self.dimensions, values, strict=True)}

    def probes(self) -> Iterator[Point]:
        """Give points in which every value occurs once, with the first of the other settings."""
        first: Point = {each.name: each.ends[0] for each in self.dimensions}
        yield first
        for each in self.dimensions:
            for value in each.ends[1:]:
                yield first | {each.name: value}

    def as_dict(self) -> dict[str, Any]:
        """Describe the space in JSON's types."""
        return {each.name: each.as_dict() for each in self.dimensions}


def make_dimension(name: str, values: Any) -> Dimension | Any:
    """Make a dimension of what a file or an option gives for a setting.

    Args:
        name: Its whole name.
        values: A list, or a text: a range ``low..high``, also with ``:log`` or ``:linear``, or values with
            commas between them.

    Returns:
        The dimension, or the plain value where there is only one.

    Raises:
        ConfigError: The setting may not differ between trials, a value is there twice, or a range is none.
    """
    if isinstance(values, str) and (match := _RANGE.fullmatch(values)):
        _check_free(name)
        return _range(name, *match.groups())
    if isinstance(values, str) and re.match(r"[\d+-].*\.\.", values):
        raise ConfigError(f"{name} has the range '{values}', which is none: write low..high")
    if isinstance(values, str):
        choices = [(part.strip(), parse_value(part)) for part in split(values)]
    elif isinstance(values, Sequence):
        choices = [(one if isinstance(one, str) else format_value(one), one) for one in values]
    else:
        return values
    if len(choices) == 1 and isinstance(values, str) and values.strip():
        return choices[0][1]
    _check_free(name)
    if not choices or "" in (words for words, _ in choices):
        raise ConfigError(f"{name} has an empty value: give values with commas between them")
    if len({repr(value) for _, value in choices}) < len(choices):
        raise ConfigError(f"{name} has the same value twice: {', '.join(words for words, _ in choices)}")
    return Choices(name, dict(choices))


def split(text: str) -> list[str]:
    """Split a text at its commas, but for those inside brackets or quotation marks."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and not depth and not quote:
            parts.append("")
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += _BRACKETS.get(letter, 0)
        parts[-1] += letter
    return parts


def _range(name: str, low: str, high: str, scale: str | None) -> Range:
    if scale not in (None, "log", "linear"):
        raise ConfigError(f"{name}={low}..{high}:{scale}: the scale of a range is log or linear")
    whole = all(re.fullmatch(r"[+-]?\d+", end) for end in (low, high))
    first, last = (int(low), int(high)) if whole else (float(low), float(high))
    if not first < last:
        raise ConfigError(f"{name}={low}..{high}: the first end of a range must be the smaller one")
    log = scale == "log" or (scale is None and name.rpartition(".")[2] in LOG_SCALED and first > 0)
    if log and first <= 0:
        raise ConfigError(f"{name}={low}..{high}: a logarithmic range begins above 0: say :linear")
    return Range(name, first, last, log)


def _check_free(name: str) -> None:
    for held, reason in HELD.items():
        if name == held or (held.endswith(".") and name.startswith(held)):
            raise ConfigError(f"{name} can have one value only in a search: {reason}")
