"""Does an int8 graph still say what its float graph says? Measured on labelled texts, against limits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TypeVar

import numpy as np

from twil.data.batching import Batch, Int64Array, length_batches, pad_batch
from twil.data.labelled import LabelledSet
from twil.errors import require
from twil.predict.session import Session
from twil.task import Task
from twil.text.tokenizer import PAD_ID, Encoded

T = TypeVar("T")

BATCH_TOKENS = 512
_TIMED_BATCHES = 24
_ROUNDS = 3


@dataclass(frozen=True)
class Limits:
    """What an int8 graph must keep.

    Attributes:
        max_drop: The most points of macro-F1 that it may lose.
        min_agreement: The least share of rows with the float graph's label, in percent.
    """

    max_drop: float = 0.5
    min_agreement: float = 99.5


@dataclass(frozen=True)
class Accuracy:
    """An int8 graph beside its float graph on labelled texts.

    Attributes:
        rows: How many texts.
        fp32_macro_f1: Of the float graph, in points.
        int8_macro_f1: Of the int8 graph.
        agreement: Rows with the same label, in percent.
        speedup: How many times as fast the int8 graph was, on some of the texts and this machine.
    """

    rows: int
    fp32_macro_f1: float
    int8_macro_f1: float
    agreement: float
    speedup: float

    @property
    def drop(self) -> float:
        """Points of macro-F1 that were lost."""
        return self.fp32_macro_f1 - self.int8_macro_f1

    def holds(self, limits: Limits) -> bool:
        """Tell whether it keeps what it must."""
        return self.drop <= limits.max_drop and self.agreement >= limits.min_agreement

    def describe(self) -> str:
        """Say it in one line."""
        return (
            f"macro-F1 {self.int8_macro_f1:.2f} against {self.fp32_macro_f1:.2f} in fp32, "
            f"{self.agreement:.2f}% of {self.rows:,} labels the same"
        )

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self)


class EvaluationSet:
    """Labelled texts, encoded and in batches, and what the float graph says of them.

    Args:
        labelled: The texts and their labels.
        encoded: The same texts as pieces.
        task: Of the classifier.
        fp32: The float graph.

    Raises:
        DataError: A label is none of the task's.
    """

    def __init__(self, labelled: LabelledSet, encoded: Encoded, task: Task, fp32: Session) -> None:
        labelled.targets(task)
        self._truth, self._task, self._fp32 = labelled.labels, task, fp32
        self.batches = make_batches(encoded)
        self._expected = self._labels(fp32)

    def measure(self, int8: Session) -> Accuracy:
        """Hold an int8 graph to the float graph."""
        found = self._labels(int8)
        same = [one == other for one, other in zip(found, self._expected, strict=True)]
        return Accuracy(
            rows=len(same),
            fp32_macro_f1=self._macro_f1(self._expected),
            int8_macro_f1=self._macro_f1(found),
            agreement=100 * sum(same) / len(same),
            speedup=self._speedup(int8),
        )

    def _labels(self, session: Session) -> Sequence[str]:
        logits = np.empty((len(self._truth), self._task.outputs), dtype=np.float32)
        for rows, batch in self.batches:
            logits[rows] = session.run(batch)["logits"]
        return self._task.decode(logits).labels

    def _macro_f1(self, labels: Sequence[str]) -> float:
        metrics = require("sklearn.metrics", purpose="measuring an int8 graph")
        truth, known = self._truth, list(self._task.labels)
        return 100 * float(metrics.f1_score(truth, labels, labels=known, average="macro", zero_division=0))

    def _speedup(self, int8: Session) -> float:
        """Compare the time of both graphs on the same batches, in turn."""
        some = spread_out(self.batches, _TIMED_BATCHES)
        times: dict[Session, list[float]] = {self._fp32: [], int8: []}
        for _ in range(_ROUNDS):
            for session, seconds in times.items():
                start = time.perf_counter()
                for _, batch in some:
                    session.run(batch)
                seconds.append(time.perf_counter() - start)
        return median(times[self._fp32]) / median(times[int8])


def spread_out(items: Sequence[T], count: int) -> Sequence[T]:
    """Choose up to `count` items from all over a sequence."""
    return items[:: -(-len(items) // count)]


def make_batches(encoded: Encoded) -> list[tuple[Int64Array, Batch]]:
    """Batch rows of like length, each with the numbers of its rows."""
    lengths = [len(ids) for ids in encoded.input_ids]
    return [
        (rows, pad_batch([encoded.input_ids[row] for row in rows], pad_id=PAD_ID))
        for rows in length_batches(lengths, BATCH_TOKENS)
    ]
