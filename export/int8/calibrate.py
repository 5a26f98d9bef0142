"""What a graph's matrix products read, seen on real texts, and the ranges on which 8 bits are best spent."""

# B batch   T tokens   D hidden   S tokens that are looked at

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twil.bundle.bundle import INPUTS
from twil.bundle.runtime import import_runtime, open_graph
from twil.core.errors import require
from twil.core.machine import usable_threads
from twil.data.batching import Batch

LEVELS = 255
"""Steps of an unsigned number of 8 bits."""
LARGEST = 127
"""Of a signed number of 8 bits, both ways."""
SMALLEST_STEP = 1e-12
SAMPLE_ROWS = 24
"""Tokens of a batch that are looked at one by one; the extremes are those of all."""
SAMPLE_VALUES = 50_000
"""Values by which a range is chosen."""

_ZERO_POINTS = (16, 32, 64, 128)  # of ranges of each token
_SHARES = np.linspace(0.4, 1.0, 13)  # of the extremes, that a range may span


@dataclass(frozen=True)
class ReadRange:
    """The values that 8 bits stand for, zero among them; what lies outside becomes the nearest end."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        """The step from one number to the next."""
        return max((self.high - self.low) / LEVELS, SMALLEST_STEP)

    @property
    def zero_point(self) -> int:
        """The number that stands for zero."""
        return int(np.clip(round(-self.low / self.scale), 0, LEVELS))

    def rounded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give what is left of values in 8 bits."""
        numbers = np.clip(np.round(values / self.scale) + self.zero_point, 0, LEVELS)
        left: NDArray[np.float32] = (numbers - self.zero_point) * self.scale
        return left


@dataclass(frozen=True)
class TokenRange:
    """Steps that are each token's own, by its largest and its least number; zero is one number for all.

    Attributes:
        zero_point: The number that stands for zero. With fewer than half of the numbers below it, what is
            never far below zero, as behind a GELU, is rounded in finer steps.
    """

    zero_point: int

    @property
    def above(self) -> int:
        """How many numbers stand for what is larger than zero."""
        return LEVELS - self.zero_point

    def rounded(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give what is left of tokens ``(S, D)`` in 8 bits."""
        high, low = rows.max(1, keepdims=True), rows.min(1, keepdims=True)
        steps = np.maximum(np.maximum(high / self.above, -low / self.zero_point), SMALLEST_STEP)
        left: NDArray[np.float32] = np.round(rows / steps) * steps
        return left


Range = TypeVar("Range", ReadRange, TokenRange)


@dataclass(frozen=True)
class Seen:
    """What a tensor held on some texts, and where 8 bits lose least of it by squared error.

    Attributes:
        range: Of fixed ranges.
        token_range: Of ranges of each token.
        rows: What some of the tokens held, float32 ``(S, D)``.
        gram: The products of each two numbers of a token, summed over all tokens, float32 ``(D, D)``.
    """

    range: ReadRange
    token_range: TokenRange
    rows: NDArray[np.float32]
    gram: NDArray[np.float32]


def observe(graph: Path, tensors: Sequence[str], batches: Iterable[Batch]) -> dict[str, Seen]:
    """Look at what tensors of a float graph hold on some texts.

    Args:
        graph: The ONNX file.
        tensors: Names of what to look at, float ``(B, …, D)``.
        batches: The texts.
    """
    values = _Values(graph, tensors)
    for batch in batches:
        values.add(batch)
    return {name: values.seen(name) for name in tensors}


def largest_steps(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Give the steps in which the largest number along an axis, whose size becomes 1, is `LARGEST`."""
    steps: NDArray[np.float32] = np.maximum(np.abs(values).max(axis, keepdims=True) / LARGEST, SMALLEST_STEP)
    return steps


def round_rows(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give what is left of rows ``(R, D)`` in 8 bits where each one's largest number sets its step."""
    steps = largest_steps(table, axis=1)
    left: NDArray[np.float32] = np.round(table / steps) * steps
    return left


class _Values:
    """The extremes and a sample of what tensors hold."""

    def __init__(self, graph: Path, tensors: Sequence[str]) -> None:
        onnx = require("onnx", purpose="export")
        model = onnx.load(graph)
        for name in tensors:
            value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            model.graph.output.append(value)
        self._session: Any = open_graph(
            import_runtime(), model.SerializeToString(), threads=usable_threads(None)
        )
        self._tensors = list(tensors)
        self._low, self._high = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0.0)
        self._sample: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
        self._gram: dict[str, NDArray[np.float32]] = {}
        self._random = np.random.default_rng(0)

    def add(self, batch: Batch) -> None:
        outputs = self._session.run(self._tensors, {name: getattr(batch, name) for name in INPUTS})
        visible = batch.attention_mask != 0  # (B, T)
        for name, output in zip(self._tensors, outputs, strict=True):
            of_tokens = output.shape[:2] == visible.shape
            rows = output[visible] if of_tokens else output.reshape(-1, output.shape[-1])
            self._low[name] = min(self._low[name], float(rows.min()))
            self._high[name] = max(self._high[name], float(rows.max()))
            self._gram[name] = self._gram.get(name, np.float32(0)) + rows.T @ rows
            self._sample[name].append(self._random.permutation(rows)[:SAMPLE_ROWS])

    def seen(self, name: str) -> Seen:
        rows = np.concatenate(self._sample[name])
        sample = self._random.permutation(rows.ravel())[:SAMPLE_VALUES]
        low, high = self._low[name], self._high[name]
        ranges = [
            ReadRange(low * below, high * above)
            for below in (_SHARES if low < 0 else (1.0,))
            for above in (_SHARES if high > 0 else (1.0,))
        ]
        by_token = _closest(map(TokenRange, _ZERO_POINTS), rows)
        return Seen(_closest(ranges, sample), by_token, rows, self._gram[name])


def _closest(ranges: Iterable[Range], values: NDArray[np.float32]) -> Range:
    return min(ranges, key=lambda found: float(np.square(found.rounded(values) - values).mean()))
