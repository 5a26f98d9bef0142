"""What is tuned on dev when the weights are found: the temperature of probabilities, and thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.config.training import DecisionConfig
from twil.core.errors import ConfigError
from twil.core.task import Task
from twil.scores.calibration import expected_calibration_error
from twil.scores.metrics import main_metric, score_logits

_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Measured:
    """What dev gives for a rule from logits to answers.

    Attributes:
        score: The metric that the task is judged by.
        calibration_error: How far probabilities are from shares of right answers (ECE).
    """

    score: float
    calibration_error: float


@dataclass(frozen=True)
class Decision:
    """A task with what was tuned.

    Attributes:
        task: With temperature and thresholds.
        metric: What `Measured.score` is.
        before: On dev, without them.
        after: On dev, with them.
    """

    task: Task
    metric: str
    before: Measured
    after: Measured

    @property
    def bound(self) -> float | None:
        """The end of the range that the temperature was looked for in, where it ended there."""
        return self.task.temperature if self.task.temperature in _TEMPERATURES else None

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return {
            "temperature": self.task.temperature,
            "thresholds": list(self.task.thresholds),
            "metric": self.metric,
            "before": asdict(self.before),
            "after": asdict(self.after),
        }

    @classmethod
    def parse(cls, value: Mapping[str, Any], task: Task) -> Decision:
        """Read what `as_dict` gave, of a task that has what was tuned."""
        return cls(task, value["metric"], Measured(**value["before"]), Measured(**value["after"]))


def check_decision(config: DecisionConfig, task: Task) -> None:
    """Refuse to tune what a task does not have.

    Raises:
        ConfigError: It has no thresholds or no probabilities.
    """
    if config.tune_threshold and not task.decisions:
        what = "a number" if task.kind == "regression" else f"the likeliest of {task.outputs} labels"
        raise ConfigError(
            f"decision.tune_threshold (--tune-threshold): the answer is {what}, and needs no threshold: "
            "only multi-label tasks and those of two labels have one"
        )
    if config.calibrate and task.kind == "regression":
        raise ConfigError("decision.calibrate (--calibrate): a regression has no probabilities")


def decide(
    config: DecisionConfig, logits: NDArray[np.float32], targets: NDArray[Any], task: Task
) -> Decision | None:
    """Tune what is asked for; None where nothing is.

    Args:
        config: What to tune.
        logits: Of dev, float32 ``(rows, outputs)``.
        targets: Of dev.
        task: Without thresholds and temperature.
    """
    if not (config.tune_threshold or config.calibrate):
        return None
    tuned = task
    if config.calibrate:
        tuned = replace(tuned, temperature=find_temperature(logits, targets, task))
    if config.tune_threshold:
        tuned = replace(tuned, thresholds=find_thresholds(tuned.probabilities(logits), targets, task))
    before, after = (_measure(logits, targets, rule) for rule in (task, tuned))
    return Decision(tuned, main_metric(task), before, after)


def find_temperature(logits: NDArray[np.float32], targets: NDArray[Any], task: Task) -> float:
    """Find the temperature with the least negative log-likelihood (Guo et al. 2017, section 4.2)."""
    # Here, not above: most runs tune nothing, and need not wait for it.
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    exact = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = exact / np.exp(log_temperature)
        if task.kind == "multi-label":
            return float((np.logaddexp(0, scaled) - targets * scaled).mean())
        return float(-log_softmax(scaled, axis=1)[np.arange(len(targets)), targets].mean())

    low, high = np.log(_TEMPERATURES)
    found = float(minimize_scalar(loss, bounds=(low, high), method="bounded").x)
    # The search comes near an end of its range and never reaches it.
    for end, log_end in zip(_TEMPERATURES, (low, high), strict=True):
        if loss(log_end) <= loss(found):
            return end
    return float(np.exp(found))


def find_thresholds(scores: NDArray[np.float32], targets: NDArray[Any], task: Task) -> tuple[float, ...]:
    """Find the thresholds with the best F1.

    Args:
        scores: Probabilities, float32 ``(rows, outputs)``.
        targets: What is true.
        task: Of several labels, whose F1 is made best one by one; or of two classes, whose macro-F1 is.
    """
    if task.kind == "multi-label":
        return tuple(
            _best_threshold(scores[:, label], targets[:, label] > 0, _f1) for label in range(task.outputs)
        )
    return (_best_threshold(scores[:, 1], targets == 1, _macro_f1),)


Counts = NDArray[np.int64]
Quality = Callable[[Counts, Counts, int, int], NDArray[np.float64]]
"""From true and false positives of each threshold, true rows and all rows."""


def _best_threshold(scores: NDArray[np.float32], true: NDArray[np.bool_], quality: Quality) -> float:
    """Try every threshold that splits the rows otherwise; of equal ones take that nearest to one half."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.concatenate([[0], np.cumsum(true[order])])
    chosen = np.arange(len(scores) + 1)
    # Between two rows with the same score there is no threshold.
    edges = np.concatenate([[1.0], ranked, [0.0]])
    possible = np.flatnonzero(edges[:-1] > edges[1:])
    above, below = edges[possible], edges[possible + 1]
    thresholds = (above + below) / 2
    # Answers compare in float32, to which the middle of neighbours may be the lower of them.
    thresholds = np.where(thresholds.astype(np.float32) > below, thresholds, above)
    values = quality(hits[possible], (chosen - hits)[possible], int(true.sum()), len(scores))
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return float(thresholds[best[np.argmin(np.abs(thresholds[best] - 0.5))]])


def _f1(right: Counts, wrong: Counts, true: int, rows: int) -> NDArray[np.float64]:  # noqa: ARG001
    return np.asarray(2 * right / np.maximum(right + wrong + true, 1), dtype=np.float64)


def _macro_f1(right: Counts, wrong: Counts, true: int, rows: int) -> NDArray[np.float64]:
    others = rows - true
    negatives = _f1(others - wrong, true - right, others, rows)
    return (_f1(right, wrong, true, rows) + negatives) / 2


def _measure(logits: NDArray[np.float32], targets: NDArray[Any], task: Task) -> Measured:
    report = score_logits(logits, targets, task)
    error = expected_calibration_error(task.probabilities(logits), targets)
    return Measured(report.metrics[main_metric(task)], error)
