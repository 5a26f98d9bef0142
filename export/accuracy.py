"""Does an int8 classifier still say what its float graph says? Measured on labelled texts, against limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twil.data.labelled import LabelledSet
from twil.export.guard import Items, Limits, Values
from twil.scoring.metrics import main_metric, score_logits
from twil.scoring.names import name_metric
from twil.task import Task


@dataclass(frozen=True)
class Accuracy:
    """An int8 graph beside its float graph on labelled texts.

    Attributes:
        rows: How many texts.
        metric: By which the task is judged.
        fp32_score: Of the float graph, in points.
        int8_score: Of the int8 graph.
        agreement: Answers that are the same, in percent: labels, or yes and no to each of several. Of a
            regression, how much of the float graph's values the int8 graph explains.
    """

    rows: int
    metric: str
    fp32_score: float
    int8_score: float
    agreement: float

    @property
    def drop(self) -> float:
        """Points that were lost."""
        return self.fp32_score - self.int8_score

    @property
    def rank(self) -> tuple[float, ...]:
        """The share of answers kept, and between equals the points."""
        return self.agreement, -self.drop

    def holds(self, limits: Limits) -> bool:
        """Tell whether it keeps what it must."""
        return self.drop <= limits.max_drop and self.agreement >= limits.min_agreement

    def describe(self) -> str:
        """Say it in one line."""
        return (
            f"{name_metric(self.metric)} {self.int8_score:.2f} against {self.fp32_score:.2f} in fp32, "
            f"{self.agreement:.2f}% of the answers to {self.rows:,} rows the same"
        )

    def facts(self) -> dict[str, str]:
        """Name and value of each fact, for people."""
        return {
            f"{name_metric(self.metric)} in int8": f"{self.int8_score:.2f}, in fp32 {self.fp32_score:.2f}",
            "answers kept in int8": f"{self.agreement:.2f}% on {self.rows:,} rows",
        }

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self)


class AnswerGuard:
    """Holds a classifier to its answers; see `Guard`.

    Args:
        labelled: Rows and what is true of them, not trained on.
        task: Of the classifier.
        limits: What must be kept.

    Raises:
        ConfigError: The task is one of pairs and the rows are not, or the other way round.
        DataError: An answer is none of the task's.
    """

    kept = "answers"
    output = "logits"

    def __init__(self, labelled: LabelledSet, task: Task, limits: Limits) -> None:
        self.items: Items = labelled.rows
        self.limits = limits
        self._targets, self._task = labelled.targets(task), task

    @property
    def asked(self) -> str:
        """What is asked for, in words, and by which options."""
        return (
            f"at most {self.limits.max_drop:g} points lost (--max-drop) and at least "
            f"{self.limits.min_agreement:g}% the same (--min-agreement)"
        )

    def judge(self, expected: Values, found: Values) -> Accuracy:
        """Compare the answers of both graphs, from their logits, with each other and with the true ones."""
        metric = main_metric(self._task)
        fp32, int8 = (
            100 * score_logits(logits, self._targets, self._task).metrics[metric]
            for logits in (expected, found)
        )
        return Accuracy(len(expected), metric, fp32, int8, self._agreement(expected, found))

    def _agreement(self, expected: Values, found: Values) -> float:
        fp32, int8 = (self._task.decide(self._task.probabilities(logits)) for logits in (expected, found))
        if self._task.kind != "regression":
            return 100 * float((fp32 == int8).mean())
        spread = float(np.square(fp32 - fp32.mean()).mean())
        error = float(np.square(fp32 - int8).mean())
        return 100 * max(0.0, 1 - error / spread) if spread else 100 * float(error == 0)
