"""Does an int8 classifier still say what its float graph says? Measured on labelled texts, against limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from twil.data.labelled import LabelledSet
from twil.errors import require
from twil.export.guard import Limits, Values
from twil.task import Task


@dataclass(frozen=True)
class Accuracy:
    """An int8 graph beside its float graph on labelled texts.

    Attributes:
        rows: How many texts.
        fp32_macro_f1: Of the float graph, in points.
        int8_macro_f1: Of the int8 graph.
        agreement: Rows with the same label, in percent.
    """

    rows: int
    fp32_macro_f1: float
    int8_macro_f1: float
    agreement: float

    @property
    def drop(self) -> float:
        """Points of macro-F1 that were lost."""
        return self.fp32_macro_f1 - self.int8_macro_f1

    @property
    def rank(self) -> tuple[float, ...]:
        """The share of labels kept, and between equals the points."""
        return self.agreement, -self.drop

    def holds(self, limits: Limits) -> bool:
        """Tell whether it keeps what it must."""
        return self.drop <= limits.max_drop and self.agreement >= limits.min_agreement

    def describe(self) -> str:
        """Say it in one line."""
        return (
            f"macro-F1 {self.int8_macro_f1:.2f} against {self.fp32_macro_f1:.2f} in fp32, "
            f"{self.agreement:.2f}% of {self.rows:,} labels the same"
        )

    def facts(self) -> dict[str, str]:
        """Name and value of each fact, for people."""
        return {
            "macro-F1 in int8": f"{self.int8_macro_f1:.2f}, in fp32 {self.fp32_macro_f1:.2f}",
            "labels kept in int8": f"{self.agreement:.2f}% of {self.rows:,}",
        }

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self)


class LabelGuard:
    """Holds a classifier to its labels; see `Guard`.

    Args:
        labelled: Texts and their labels, not trained on.
        task: Of the classifier, which gives one label.
        limits: What must be kept.

    Raises:
        DataError: A label is none of the task's.
    """

    kept = "labels"
    output = "logits"

    def __init__(self, labelled: LabelledSet, task: Task, limits: Limits) -> None:
        labelled.targets(task)
        self.texts: Sequence[str] = labelled.texts
        self.limits = limits
        self._truth, self._task = labelled.labels, task

    @property
    def asked(self) -> str:
        """What is asked for, in words, and by which options."""
        return (
            f"at most {self.limits.max_drop:g} points lost (--max-drop) and at least "
            f"{self.limits.min_agreement:g}% the same (--min-agreement)"
        )

    def judge(self, expected: Values, found: Values) -> Accuracy:
        """Compare the labels of both graphs, from their logits, with each other and with the true ones."""
        fp32, int8 = (self._task.decode(logits).labels for logits in (expected, found))
        same = sum(one == other for one, other in zip(fp32, int8, strict=True))
        return Accuracy(len(fp32), self._macro_f1(fp32), self._macro_f1(int8), 100 * same / len(fp32))

    def _macro_f1(self, labels: Sequence[str]) -> float:
        metrics = require("sklearn.metrics", purpose="measuring an int8 graph")
        truth, known = self._truth, list(self._task.labels)
        return 100 * float(metrics.f1_score(truth, labels, labels=known, average="macro", zero_division=0))
