"""Does an int8 encoder still give the vectors of its float graph? Measured by their angles."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twil.bundle.bundle import POOLED
from twil.export.guard import Items, Limits, Values

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
