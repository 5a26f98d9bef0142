"""What a model says of the rows of a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """What is known of some rows once they were predicted.

    Attributes:
        logits: float32 ``(rows, outputs)``.
        truncated: Whether the text was longer than the model reads; bool ``(rows,)``.
        empty: Whether the text held nothing to read; bool ``(rows,)``.
        repeated: Whether the row has the pieces of an earlier one, and its logits; bool ``(rows,)``.
    """

    logits: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    repeated: NDArray[np.bool_]
