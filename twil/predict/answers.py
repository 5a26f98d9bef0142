"""What a model says of the rows of a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """What is known of some rows once they were computed.

    Attributes:
        values: The logits of a row, its vector, or a vector for each of its pieces, row after row; float32
            ``(rows or pieces, D)``.
        truncated: Whether the text was longer than the model reads; bool ``(rows,)``.
        empty: Whether the text held nothing to read; bool ``(rows,)``.
        repeated: Whether the row has the pieces of an earlier one, and its values; bool ``(rows,)``.
    """

    values: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    repeated: NDArray[np.bool_]

    @property
    def rows(self) -> int:
        """How many they are."""
        return len(self.truncated)
