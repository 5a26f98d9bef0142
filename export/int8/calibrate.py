"""What a graph's matrix products read, seen on real texts, and the ranges on which 8 bits are best spent."""

# B batch   T tokens   D hidden   S tokens that are looked at

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

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
SAMPLE_VALUES = 10_000
"""Values by which a range is chosen."""

Way: TypeAlias = Literal["static", "token"]
"""How a product's inputs are rounded; a table has but one way."""

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
        low, high: The extremes of each channel with zero among them, float32 ``(D,)``.
        rows: What some of the tokens held, float32 ``(S, D)``.
        gram: The products of each two channels of a token, summed over all tokens, float32 ``(D, D)``.
        divisors: What its channels are divided by before they are rounded, float32 ``(D,)``; all else here is
            what comes of that.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    rows: NDArray[np.float32]
    gram: NDArray[np.float32]
    divisors: NDArray[np.float32]

    @cached_property
    def range(self) -> ReadRange:
        """Of fixed ranges, the best."""
        values = self.rows.ravel()
        sample = np.random.default_rng(0).choice(values, min(SAMPLE_VALUES, len(values)), replace=False)
        low, high = float(self.low.min()), float(self.high.max())
        ranges = [
            ReadRange(low * below, high * above)
            for below in (_SHARES if low < 0 else (1.0,))
            for above in (_SHARES if high > 0 else (1.0,))
        ]
        return _closest(ranges, sample)

    @cached_property
    def token_range(self) -> TokenRange:
        """Of ranges of each token, the best."""
        return _closest(map(TokenRange, _ZERO_POINTS), self.rows)

    def lost(self, weights: NDArray[np.float32], way: Way) -> NDArray[Any]:
        """Give what a product with weights ``(D, N)`` loses by rounding the rows, ``(S, N)``."""
        values = self.range if way == "static" else self.token_range
        found: NDArray[Any] = (values.rounded(self.rows) - self.rows) @ self.met(weights)
        return found

    def met(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the weights ``(D, N)`` that what is divided meets in place of others."""
        return weights * self.divisors[:, None]

    @property
    def is_divided(self) -> bool:
        """Whether any divisor is not 1."""
        return bool((self.divisors != 1).any())

    def divided(self, divisors: NDArray[np.float32]) -> Seen:
        """Give what it held had its channels been divided by numbers above 0, ``(D,)``."""
        return Seen(
            self.low / divisors,
            self.high / divisors,
            self.rows / divisors,
            self.gram / np.outer(divisors, divisors),
            self.divisors * divisors,
        )


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
        self._low: dict[str, NDArray[np.float32]] = {}
        self._high: dict[str, NDArray[np.float32]] = {}
        self._sample: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
        self._gram: dict[str, NDArray[np.float32]] = {}
        self._random = np.random.default_rng(0)

    def add(self, batch: Batch) -> None:
        outputs = self._session.run(self._tensors, {name: getattr(batch, name) for name in INPUTS})
        visible = batch.attention_mask != 0  # (B, T)
        for name, output in zip(self._tensors, outputs, strict=True):
            of_tokens = output.shape[:2] == visible.shape
            rows = output[visible] if of_tokens else output.reshape(-1, output.shape[-1])
            nothing = np.float32(0)
            self._low[name] = np.minimum(self._low.get(name, nothing), rows.min(axis=0))
            self._high[name] = np.maximum(self._high.get(name, nothing), rows.max(axis=0))
            self._gram[name] = self._gram.get(name, nothing) + rows.T @ rows
            self._sample[name].append(self._random.permutation(rows)[:SAMPLE_ROWS])

    def seen(self, name: str) -> Seen:
        rows, gram = np.concatenate(self._sample[name]), self._gram[name]
        return Seen(self._low[name], self._high[name], rows, gram, np.ones(rows.shape[1], np.float32))


def _closest(ranges: Iterable[Range], values: NDArray[np.float32]) -> Range:
    return min(ranges, key=lambda found: float(np.square(found.rounded(values) - values).mean()))
