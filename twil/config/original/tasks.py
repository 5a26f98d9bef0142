"""What the original's fine-tuning asks of a row, minimises and monitors: the section `task`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from twil.config.losses import ORIGINAL_LOSSES
from twil.config.original.files import Strict
from twil.config.training import TaskName
from twil.core.errors import ConfigError
from twil.core.task import TaskKind, label_values

BITS = ("0", "1")
"""The categories of several labels that are given by zeros and ones, in which the labels have no names."""

_OF_ONE_LABEL = ("precision", "recall", "f1")
STANCE = (0, 2)
"""The categories whose mean F1 the original calls `stance_f1`."""


class TaskSection(Strict):
    """The section `task`."""

    regression: bool = False
    categories: dict[str, int] = Field(default_factory=dict)
    class_weights: Any = None
    eval_metric: Literal["accuracy", "precision", "recall", "f1", "pearson"] = "f1"
    average_metric: Literal["macro", "micro", "weighted"] | None = None
    class_metric: int | None = None
    stance_f1: bool = False
    multi_label: bool = False


@dataclass(frozen=True)
class OriginalTask:
    """The section `task` in twil's terms.

    Attributes:
        name: What is asked of a row.
        labels: By the numbers of their categories; None where the data decides.
        scored: Of a stance, the labels whose mean F1 counts.
        metric: What decides the best epoch.
        class_weights: A rule, or weights by label.
        notes: What is done differently or left out, for the user to read.
    """

    name: TaskName
    labels: tuple[str, ...] | None
    scored: tuple[str, ...] | None
    metric: str
    class_weights: str | dict[str, float]
    notes: tuple[str, ...]

    @property
    def kind(self) -> TaskKind:
        """The kind of the task; a stance is a class."""
        return "class" if self.name == "stance" else self.name


def read_task(section: TaskSection) -> OriginalTask:
    """Translate the section `task`.

    Raises:
        ConfigError: Its settings contradict each other, or name no category.
    """
    name, labels = _name(section), _labels(section)
    return OriginalTask(
        name=name,
        labels=labels,
        scored=stance_labels(labels) if name == "stance" and labels else None,
        metric=_metric(section, labels),
        class_weights=_class_weights(section, labels),
        notes=tuple(_notes(section)),
    )


def stance_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Give the labels of the categories `STANCE`."""
    return tuple(labels[number] for number in STANCE)


def order_categories(categories: Mapping[str, int]) -> tuple[str, ...]:
    """Give the names of categories in the order of their numbers.

    Raises:
        ConfigError: The numbers do not count from 0, or one has two names.
    """
    names = sorted(categories, key=lambda name: int(categories[name]))
    if [int(categories[name]) for name in names] != list(range(len(names))):
        raise ConfigError(
            f"task.categories must number the labels from 0 to {len(names) - 1}, each number once, and has "
            + ", ".join(f"{name} {categories[name]}" for name in names)
        )
    return tuple(str(name) for name in names)


def read_loss(name: str, kind: TaskKind) -> str:
    """Translate the setting `finetuning.loss`.

    Raises:
        ConfigError: There is no such loss, or it does not fit the task.
    """
    known = {"mse": "mse", **ORIGINAL_LOSSES}
    if name not in known:
        raise ConfigError(f"finetuning.loss '{name}' is none of {', '.join(known)}")
    loss = known[name]
    if kind == "regression" and loss == "row_rmse":
        return "rmse"
    fitting: dict[str, TaskKind] = {"cross_entropy": "class", "binary_cross_entropy": "multi-label"}
    if kind == "regression" and loss != "mse":
        wanted = "mean_squared_error and root_mean_squared_error"
    elif fitting.get(loss, kind) != kind:
        wanted = next(other for other, own in ORIGINAL_LOSSES.items() if fitting.get(own) == kind)
    else:
        return loss
    raise ConfigError(
        f"finetuning.loss {name} does not fit the section task, which describes a {kind} task: {wanted} fits"
    )


def _name(section: TaskSection) -> TaskName:
    flags = [name for name in ("regression", "multi_label", "stance_f1") if getattr(section, name)]
    if len(flags) > 1:
        raise ConfigError(f"task.{flags[0]} and task.{flags[1]} contradict each other: switch one off")
    if section.regression:
        return "regression"
    if section.stance_f1:
        if len(section.categories) <= max(STANCE):
            raise ConfigError(
                f"task.stance_f1 is the mean F1 of the categories {STANCE[0]} and {STANCE[1]}, and there "
                f"are {len(section.categories)} categories: switch it off, or number them so"
            )
        return "stance"
    return "multi-label" if section.multi_label else "class"


def _labels(section: TaskSection) -> tuple[str, ...] | None:
    if section.regression:
        return None
    names = order_categories(section.categories)
    if section.multi_label and (not names or names == BITS):
        return None
    if not names:
        raise ConfigError("task.categories is missing: it names the labels and numbers them from 0")
    return names


def _metric(section: TaskSection, labels: tuple[str, ...] | None) -> str:
    asked = section.eval_metric
    if section.regression and asked != "pearson":
        raise ConfigError(f"task.eval_metric {asked} is no score of a regression: pearson is")
    if section.class_metric is not None:
        return f"{asked}:{_one_label(section, labels)}"
    if section.multi_label and asked == "accuracy":
        return "jaccard"
    if asked == "pearson":
        return "pearson" if section.regression or _are_numbers(labels) else "macro_f1"
    if asked == "accuracy":
        return "accuracy"
    if section.stance_f1 and asked == "f1":
        return "stance_f1"
    if section.average_metric is None:
        raise ConfigError(
            f"task.average_metric is null: {asked} takes macro, micro or weighted or one class (class_metric)"
        )
    return f"{section.average_metric}_{asked}"


def _one_label(section: TaskSection, labels: tuple[str, ...] | None) -> str:
    if section.stance_f1 or section.eval_metric not in _OF_ONE_LABEL:
        other = "stance_f1" if section.stance_f1 else f"eval_metric {section.eval_metric}"
        raise ConfigError(
            f"task.class_metric and task.{other} contradict each other: {', '.join(_OF_ONE_LABEL)} are of "
            "one class"
        )
    assert section.class_metric is not None
    return _label("task.class_metric", section.class_metric, labels)


def _label(setting: str, number: int, labels: tuple[str, ...] | None) -> str:
    if labels is None:  # zeros and ones, whose labels are counted from 1
        return str(number + 1)
    if not 0 <= number < len(labels):
        raise ConfigError(f"{setting} names the category {number}, and they are 0 to {len(labels) - 1}")
    return labels[number]


def _class_weights(section: TaskSection, labels: tuple[str, ...] | None) -> str | dict[str, float]:
    asked = section.class_weights
    if asked is None or asked in ("auto", "ones"):
        return "max-ratio" if asked == "auto" and not section.regression else "none"
    if not isinstance(asked, dict) or not all(
        number.isdecimal() and isinstance(weight, int | float) for number, weight in asked.items()
    ):
        raise ConfigError(
            f"task.class_weights is auto, ones, null or a weight for each number of categories, not {asked!r}"
        )
    if section.regression or all(weight == 1 for weight in asked.values()):
        return "none"
    return {
        _label("task.class_weights", int(number), labels): float(weight) for number, weight in asked.items()
    }


def _notes(section: TaskSection) -> Iterator[str]:
    if section.regression:
        yield "task.regression is followed: the original reads the flag nowhere, and learns categories"
        for setting in ("categories", "class_weights"):
            if getattr(section, setting):
                yield f"task.{setting} is not used: a regression learns numbers"
    elif section.eval_metric == "pearson" and not _are_numbers(_labels(section)):
        yield (
            "eval_metric pearson is of labels that are numbers: macro_f1 decides the best epoch in its place "
            "(--metric)"
        )
    if section.multi_label:
        if section.eval_metric == "accuracy":
            yield "accuracy is jaccard, of the labels decided on; the original's is of their probabilities"
        if _class_weights(section, None) != "none":
            yield (
                "class_weights weigh labels where they hold; with several labels the original passes over "
                "auto, and weighs a row by its first label"
            )
    averaged = section.eval_metric in _OF_ONE_LABEL and section.class_metric is None
    stance = section.stance_f1 and section.eval_metric == "f1"
    if section.average_metric and (stance or not averaged):
        yield f"average_metric {section.average_metric} is not used: {_UNAVERAGED} are no averages"


_UNAVERAGED = "accuracy, pearson, stance_f1 and class_metric"


def _are_numbers(labels: tuple[str, ...] | None) -> bool:
    return labels is not None and label_values(labels) is not None
