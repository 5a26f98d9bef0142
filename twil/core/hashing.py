"""Numbers that stand for texts: 64 bits, the same on every machine and in every run.

Of n different texts two share a number with a probability of n² / 2^65: for 100 million, 1 in 3,700.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

UInt64Array = NDArray[np.uint64]

_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_INCREMENT = 0x9E3779B97F4A7C15


def hash_texts(texts: Iterable[str]) -> UInt64Array:
    """Hash texts, uint64 ``(texts,)``."""
    digests = b"".join([blake2b(text.encode(), digest_size=8).digest() for text in texts])
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def scramble(values: NDArray[Any], salt: int = 0) -> UInt64Array:
    """Give a number as good as drawn at random for each value and salt, uint64.

    It is the finaliser of SplitMix64 (Steele, Lea & Flood 2014): different values give different numbers.
    """
    mixed = values.astype(np.uint64) + np.uint64((salt + 1) * _INCREMENT % 2**64)
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * multiplier
    return mixed ^ (mixed >> np.uint64(31))


def combine(first: UInt64Array, second: UInt64Array) -> UInt64Array:
    """Hash pairs of numbers, whose order counts, uint64."""
    return scramble(scramble(first) + second)
