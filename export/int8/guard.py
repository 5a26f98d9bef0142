"""What an int8 graph is held to: what its float graph gives for the same texts."""

# B rows   D numbers of a row

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twil.bundle.bundle import POOLED
from twil.core.errors import ConfigError

Values = NDArray[np.float32]
Items = Sequence[str | tuple[str, str]]
"""Texts, or pairs of them."""


@dataclass(frozen=True)
class Limits:
    """What an int8 graph must keep.

    Attributes:
        max_drop: The most points that a classifier may lose of the score that its task is judged by; what is
            lost by chance, on rows so few, does not count.
        min_agreement: The least share of the sure answers that are the float graph's, in percent; held to the
            upper end of its interval.
        max_change: The most that probabilities may change on average.
        min_cosine: The least cosine of an encoder's vector with the float graph's.
    """

    max_drop: float = 0.5
    min_agreement: float = 99.5
    max_change: float = 0.01
    min_cosine: float = 0.99

    def __post_init__(self) -> None:
        """Refuse what is no limit.

        Raises:
            ConfigError: One is out of its range.
        """
        if not (self.max_drop >= 0 and 0 <= self.min_agreement <= 100 and self.max_change >= 0):
            raise ConfigError(
                "--max-drop is 0 or more points, --min-agreement between 0 and 100 percent, and --max-change "
                "0 or more"
            )
        if not -1 <= self.min_cosine <= 1:
            raise ConfigError("--min-cosine lies between -1 and 1")


class Verdict(Protocol):
    """How far an int8 graph is from its float graph."""

    @property
    def rank(self) -> tuple[float, ...]:
        """What grows as the graphs come closer."""
        ...

    def holds(self, limits: Limits) -> bool:
        """Tell whether it keeps what it must."""
        ...

    def describe(self) -> str:
        """Say it in one line."""
        ...

    def facts(self) -> dict[str, str]:
        """Name and value of each fact, for people."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        ...


class Guard(Protocol):
    """Rows, and how what both graphs give for them is compared.

    Attributes:
        kept: What is to be kept, in one word.
        asked: What is asked for, in words, and by which options.
        output: The output of the graphs that is compared.
        items: What they are asked.
        limits: What must be kept.
    """

    kept: str
    output: str
    items: Items
    limits: Limits

    @property
    def asked(self) -> str:
        """What is asked for, in words, and by which options."""
        ...

    def judge(self, expected: Values, found: Values) -> Verdict:
        """Compare what the float graph and the int8 graph give for the rows, ``(B, D)`` each."""
        ...


_SHORTEST = 1e-12  # a vector of nothing but zeros has no angle


@dataclass(frozen=True)
class Closeness:
    """An int8 graph beside its float graph on texts.

    Attributes:
        rows: How many texts.
        mean_cosine: Of the vectors of both graphs.
        min_cosine: Of the text whose vectors differ most.
    """

    rows: int
    mean_cosine: float
    min_cosine: float

    @property
    def rank(self) -> tuple[float, ...]:
        """The cosine that limits are on."""
        return (self.min_cosine,)

    def holds(self, limits: Limits) -> bool:
        """Tell whether it keeps what it must."""
        return self.min_cosine >= limits.min_cosine

    def describe(self) -> str:
        """Say it in one line."""
        return (
            f"cosine with the vectors in fp32 {self.mean_cosine:.4f} on average and at least "
            f"{self.min_cosine:.4f} on {self.rows:,} texts"
        )

    def facts(self) -> dict[str, str]:
        """Name and value of each fact, for people."""
        return {
            "cosine of vectors in int8 and in fp32": f"{self.mean_cosine:.4f} on average, at least "
            f"{self.min_cosine:.4f} on {self.rows:,} texts"
        }

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self)


class VectorGuard:
    """Holds an encoder to its vectors; see `Guard`.

    Args:
        texts: Texts like those to come.
        limits: What must be kept.
    """

    kept = "vectors"
    output = POOLED

    def __init__(self, texts: Items, limits: Limits) -> None:
        self.items = texts
        self.limits = limits

    @property
    def asked(self) -> str:
        """What is asked for, in words, and by which options."""
        return f"a cosine of at least {self.limits.min_cosine:g} with fp32 (--min-cosine)"

    def judge(self, expected: Values, found: Values) -> Closeness:
        """Compare the directions of the vectors of both graphs."""
        lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
        cosines = (expected * found).sum(axis=1) / np.maximum(lengths, _SHORTEST)
        return Closeness(len(cosines), float(cosines.mean()), float(cosines.min()))
