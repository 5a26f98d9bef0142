"""Random order in constant memory: a permutation of 0…n-1 that is computed, not stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]

_ROUNDS = 6
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Permutation:
    """A random permutation of 0…n-1, whose every part can be asked for by itself.

    It is a balanced Feistel network over the smallest power of four that holds n, walked along its cycles
    until it lands below n (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").

    Args:
        size: n.
        seed: Numbers that decide it.
    """

    def __init__(self, size: int, seed: tuple[int, ...]) -> None:
        self.size = size
        half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
        self._shift = np.uint64(half_bits)
        self._low = np.uint64((1 << half_bits) - 1)
        self._keys = np.random.SeedSequence(seed).generate_state(_ROUNDS, np.uint64)

    def __call__(self, positions: Int64Array) -> Int64Array:
        """Give what stands at some positions, int64 of the same shape."""
        values = self._encrypt(np.asarray(positions).astype(np.uint64))
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = self._encrypt(values[outside])
            outside = outside[values[outside] >= self.size]
        return values.astype(np.int64)

    def _encrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._shift, values & self._low
        for key in self._keys:
            mixed = (right ^ key) * _MIX
            mixed ^= mixed >> np.uint64(32)
            mixed *= _MIX
            left, right = right, left ^ ((mixed >> np.uint64(32)) & self._low)
        return (left << self._shift) | right
