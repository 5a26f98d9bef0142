"""How long a model takes for batches of given shapes, whatever computes it."""

# B rows of a batch   T tokens of a row

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from twil.data.batching import Batch

SETTLE_SECONDS = 0.02
"""Of runs before a turn that are not timed: meanwhile the weights come back into the caches, and the threads
of whoever ran before, which wait for more work at full speed for a while, fall asleep."""


class Shape(NamedTuple):
    """The size of a batch.

    Attributes:
        rows: How many rows.
        length: Tokens of each.
    """

    rows: int
    length: int


@dataclass(frozen=True)
class Facts:
    """What is measured, as it found itself where it runs.

    Attributes:
        engine: What computes: ``onnxruntime`` or ``torch``.
        version: Of it.
        provider: Where the model really runs: ``cpu`` or ``cuda``.
        reason: Why ``auto`` took this provider; empty where it was asked for.
        device: The GPU's name; empty on a CPU.
        precision: The arithmetic of the model.
        kind: What it gives, such as ``classifier`` or ``encoder``.
        threads: CPU threads.
        max_length: The longest row that it reads.
        tokens: The size of its vocabulary.
    """

    engine: str
    version: str
    provider: str
    reason: str
    device: str
    precision: str
    kind: str
    threads: int
    max_length: int
    tokens: int

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self)


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        run: Computes a batch, and returns once its outputs lie in the memory of the CPU.
        facts: What it is.
    """

    run: Callable[[Batch], object]
    facts: Facts


class Timer:
    """Times a model on batches of random tokens.

    Args:
        subject: What to time.
        seed: Of the tokens.
        clock: Tells seconds.
    """

    def __init__(self, subject: Subject, *, seed: int, clock: Callable[[], float] = perf_counter) -> None:
        self._subject = subject
        self._seed = seed
        self._clock = clock
        self._batches: dict[Shape, Batch] = {}

    def warm_up(self, shape: Shape, runs: int) -> list[float]:
        """Compute a batch of a shape for the first times, and return the seconds of each."""
        self._batches[shape] = random_batch(shape, self._subject.facts.tokens, self._seed)
        return [self._seconds(shape) for _ in range(runs)]

    def time(self, shape: Shape, runs: int) -> list[float]:
        """Compute a batch of a shape that is warm, and return the seconds of each run.

        What is run in `SETTLE_SECONDS` before, at least once, is not counted.
        """
        assert shape in self._batches, f"{shape} is not warm"
        settled = 0.0
        while settled < SETTLE_SECONDS:
            settled += self._seconds(shape)
        return [self._seconds(shape) for _ in range(runs)]

    def _seconds(self, shape: Shape) -> float:
        batch = self._batches[shape]
        begin = self._clock()
        self._subject.run(batch)
        return self._clock() - begin


def random_batch(shape: Shape, tokens: int, seed: int) -> Batch:
    """Draw a batch without pads; each shape has its own tokens, and they are the same ones each time."""
    ids = np.random.default_rng([seed, *shape]).integers(tokens, size=shape, dtype=np.int64)  # (B, T)
    return Batch(ids, np.ones_like(ids), np.zeros_like(ids))
