"""Does an int8 classifier still say what its float graph says? Measured on labelled texts, against limits.

Labelled texts are few, and of some a model is unsure: an answer more or less is then chance. So the score may
not be lower by more than chance, probabilities may not move, and it is the sure answers that must stay.
"""

# R rows   L labels

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from twil.core.task import Task
from twil.data.labelled import LabelledSet
from twil.exporting.int8.guard import Items, Limits, Values
from twil.scores.intervals import LEVEL, Interval, percentile_interval
from twil.scores.metrics import main_metric
from twil.scores.names import name_metric
from twil.scores.resampling import resample

SURE = 0.1
"""How far the probability of a sure answer is from that of another class, or from its threshold."""
SAME_VALUE = 0.02
"""How far values of a regression that count as the same may be apart, as a share of what values span."""
_SAMPLES = 2_000
_SMALLEST_SPAN = 1e-12


@dataclass(frozen=True)
class Accuracy:
    """An int8 graph beside its float graph on labelled texts.

    Attributes:
        rows: How many texts.
        metric: By which the task is judged.
        fp32_score: Of the float graph, in points.
        int8_score: Of the int8 graph.
        least_drop: The lower end of the 95% interval of the points that were lost, by the paired bootstrap.
        answers: How many there are: one for each row, or yes and no to each of several labels.
        same: How many of them are the same in both graphs.
        sure: How many answers the float graph is sure of, see `SURE`.
        sure_same: How many of these are the same.
        mean_change: Of all probabilities; of a regression of its values, as a share of what those of the
            float graph span. Its answers are all sure, and the same within `SAME_VALUE`.
        largest_change: The largest of these.
    """

    rows: int
    metric: str
    fp32_score: float
    int8_score: float
    least_drop: float
    answers: int
    same: int
    sure: int
    sure_same: int
    mean_change: float
    largest_change: float

    @property
    def drop(self) -> float:
        """Points that were lost."""
        return self.fp32_score - self.int8_score

    @property
    def agreement(self) -> Interval:
        """Answers that are the same, in percent."""
        return _percent(self.same, self.answers)

    @property
    def sure_agreement(self) -> Interval:
        """Sure answers that are the same, in percent."""
        return _percent(self.sure_same, self.sure)

    @property
    def rank(self) -> tuple[float, ...]:
        """The share of answers kept, and between equals the points."""
        return self.same / self.answers, -self.drop

    def holds(self, limits: Limits) -> bool:
        """Tell whether it keeps what it must, as far as so many rows can tell."""
        return (
            (self.drop <= limits.max_drop or self.least_drop <= 0)
            and self.sure_agreement.high >= limits.min_agreement
            and self.mean_change <= limits.max_change
        )

    def describe(self) -> str:
        """Say it in one line."""
        return (
            f"{name_metric(self.metric)} {self.int8_score:.2f} against {self.fp32_score:.2f} in fp32, "
            f"{self.agreement.value:.2f}% of the answers to {self.rows:,} rows the same "
            f"({self.sure_agreement.value:.2f}% of the sure ones), probabilities {self.mean_change:.4f} apart"
        )

    def facts(self) -> dict[str, str]:
        """Name and value of each fact, for people."""
        change = f"{self.mean_change:.4f} on average, at most {self.largest_change:.3f}"
        return {
            f"{name_metric(self.metric)} in int8": f"{self.int8_score:.2f}, in fp32 {self.fp32_score:.2f}",
            "answers kept in int8": f"{_written(self.agreement)} on {self.rows:,} rows",
            "sure answers kept in int8": f"{_written(self.sure_agreement)} of {self.sure:,}",
            "probabilities change by": change,
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
            f"at most {self.limits.max_drop:g} points lost (--max-drop), at least "
            f"{self.limits.min_agreement:g}% of the sure answers the same (--min-agreement), and "
            f"probabilities at most {self.limits.max_change:g} apart on average (--max-change)"
        )

    def judge(self, expected: Values, found: Values) -> Accuracy:
        """Compare the answers of both graphs, from their logits, with each other and with the true ones."""
        task = self._task
        before, after = task.probabilities(expected), task.probabilities(found)
        answers = [task.decide(before), task.decide(after)]
        metric = main_metric(task)
        scores = resample(self._targets, answers, task, metrics=[metric], samples=_SAMPLES, seed=0)
        fp32, int8 = (100 * float(value) for value in scores.values[metric])
        drops = 100 * (scores.samples[metric][0] - scores.samples[metric][1])
        changes = np.abs(after - before)
        same, sure = answers[0] == answers[1], self._sure(before)
        if task.kind == "regression":
            changes /= max(float(np.ptp(before)), _SMALLEST_SPAN)
            same = changes[:, 0] <= SAME_VALUE
        return Accuracy(
            rows=len(expected),
            metric=metric,
            fp32_score=fp32,
            int8_score=int8,
            least_drop=percentile_interval(fp32 - int8, drops).low,
            answers=same.size,
            same=int(same.sum()),
            sure=int(sure.sum()),
            sure_same=int(same[sure].sum()),
            mean_change=float(changes.mean()),
            largest_change=float(changes.max()),
        )

    def _sure(self, probabilities: Values) -> NDArray[np.bool_]:
        """Tell which answers are sure, ``(R,)`` or ``(R, L)``."""
        task = self._task
        if task.kind == "regression":
            return np.ones(len(probabilities), dtype=np.bool_)
        if task.kind == "multi-label":
            margins = np.abs(probabilities - np.asarray(task.thresholds or 0.5, dtype=np.float32))
        elif task.thresholds:
            margins = np.abs(probabilities[:, 1] - np.float32(task.thresholds[0]))
        else:
            second, first = np.sort(probabilities, axis=1)[:, -2:].T
            margins = first - second
        sure: NDArray[np.bool_] = margins >= SURE
        return sure


def _percent(part: int, whole: int) -> Interval:
    """Give a share with its 95% interval (Wilson 1927), in percent; of none, all."""
    if not whole:
        return Interval(100.0, 0.0, 100.0)
    ends = binomtest(part, whole).proportion_ci(LEVEL, method="wilson")
    return Interval(100 * part / whole, 100 * float(ends.low), 100 * float(ends.high))


def _written(share: Interval) -> str:
    return f"{share.value:.2f}% ({share.low:.2f} – {share.high:.2f})"
