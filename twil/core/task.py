"""What a classifier is asked, and the one rule that turns its logits into answers.

Training's evaluation and prediction from ONNX both decode here, with NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import ConfigError

TaskKind = Literal["class", "multi-label", "regression"]

NO_NAMES: Mapping[str, str] = {}
"""Labels are called as the model calls them."""
LABEL_SEPARATOR = "|"  # between the labels of one multi-label answer


@dataclass(frozen=True)
class Decoded:
    """The answers to a batch.

    Attributes:
        labels: One string per row: the label, the labels joined by ``|``, or the number.
        scores: float32 ``(rows, outputs)``: probabilities in label order; for regression the value itself.
    """

    labels: list[str]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """What a classifier is asked.

    Attributes:
        kind: ``class`` (exactly one label), ``multi-label`` (any number) or ``regression`` (a number).
        labels: Label names in the order of the logits; one name for the value of a regression.
        pair: Whether the input is two texts.
        scored: Labels whose mean F1 is the task's own score, as of AGAINST and FAVOR in stance; a ``class``
            task without any is scored on all of its labels alike.
        thresholds: From which probability a label holds: one per label of a ``multi-label`` task; of two
            classes one, for the second. Without any, one half, and the likelier class.
        temperature: What logits are divided by before they become probabilities (Guo et al. 2017).
    """

    kind: TaskKind
    labels: tuple[str, ...]
    pair: bool = False
    scored: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a task that cannot be decided."""
        if self.kind not in get_args(TaskKind):
            raise ConfigError(
                f"there is no task kind '{self.kind}': choose one of {', '.join(get_args(TaskKind))}"
            )
        self._check_labels()
        if unknown := [label for label in self.scored if label not in self.labels]:
            raise ConfigError(
                f"a score of {', '.join(unknown)} is wanted, and the labels are {', '.join(self.labels)}: "
                "name those that count (data.scored), or take another task"
            )
        if self.scored and self.kind != "class":
            raise ConfigError(f"a {self.kind} task is scored on all of its labels, not on some")
        if self.thresholds and len(self.thresholds) != self.decisions:
            raise ConfigError(
                f"a {self.kind} task of {self.outputs} labels has {self.decisions or 'no'} thresholds, "
                f"and there are {len(self.thresholds)}"
            )
        if not all(0 < threshold < 1 for threshold in self.thresholds):
            raise ConfigError(f"thresholds lie between 0 and 1, not {list(self.thresholds)}")
        if not 0 < self.temperature < math.inf or (self.kind == "regression" and self.temperature != 1):
            raise ConfigError(f"a {self.kind} task cannot have the temperature {self.temperature}")

    def _check_labels(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"the labels {', '.join(self.labels)} are not all different: name each once")
        if self.kind == "class" and len(self.labels) < 2:
            raise ConfigError(f"a classifier needs at least two labels, and there is {list(self.labels)}")
        if self.kind != "class" and not self.labels:
            raise ConfigError(f"a {self.kind} task needs at least one label")
        if self.kind == "multi-label" and any(LABEL_SEPARATOR in label for label in self.labels):
            raise ConfigError(
                f"a label of a multi-label task cannot hold '{LABEL_SEPARATOR}', which joins them"
            )
        if self.kind == "regression" and len(self.labels) > 1:
            raise ConfigError(
                f"a regression has one output, and there are {len(self.labels)} labels: leave them out"
            )

    @property
    def outputs(self) -> int:
        """How many logits a model of this task has."""
        return len(self.labels)

    @property
    def decisions(self) -> int:
        """How many of its answers are yes or no, and may have a threshold each."""
        if self.kind == "multi-label":
            return self.outputs
        return 1 if self.kind == "class" and self.outputs == 2 else 0

    @property
    def undecided(self) -> Self:
        """The same question without what was tuned on the answers of one model: thresholds, temperature."""
        return replace(self, thresholds=(), temperature=1.0)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """Give the same task with other names for some labels.

        Args:
            names: The new names by the old ones.

        Raises:
            ConfigError: There is no such label, or two would be called alike.
        """
        if unknown := [label for label in names if label not in self.labels]:
            raise ConfigError(
                f"{', '.join(unknown)} cannot be called otherwise: the labels are {', '.join(self.labels)}"
            )
        labels = tuple(names.get(label, label) for label in self.labels)
        return replace(self, labels=labels, scored=tuple(names.get(label, label) for label in self.scored))

    def probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Turn logits ``(rows, outputs)`` into scores float32 ``(rows, outputs)``."""
        logits = np.asarray(logits, dtype=np.float32)
        if self.kind == "regression":
            return logits
        logits = logits / np.float32(self.temperature)
        if self.kind == "multi-label":
            # exp of a non-positive number only: no overflow on either side.
            small = np.exp(-np.abs(logits))
            return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), dtype=np.float32)
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)

    def decide(self, scores: NDArray[np.float32]) -> NDArray[Any]:
        """Turn what `probabilities` gives into answers by number.

        Returns:
            Of a ``class`` task int64 ``(rows,)``, places in `labels`; of a ``multi-label`` task bool
            ``(rows, outputs)``; of a ``regression`` float32 ``(rows,)``.
        """
        if self.kind == "regression":
            return scores[:, 0]
        if self.kind == "multi-label":
            return scores >= np.asarray(self.thresholds or 0.5, dtype=np.float32)
        if self.thresholds:
            return (scores[:, 1] >= np.float32(self.thresholds[0])).astype(np.int64)
        return np.asarray(scores.argmax(axis=-1), dtype=np.int64)

    def in_order_of(self, labels: Sequence[str], answers: NDArray[Any]) -> NDArray[Any]:
        """Put what `decide` gives into the order of the same labels elsewhere."""
        ordered = answers
        if self.kind == "class":
            ordered = np.array([labels.index(label) for label in self.labels])[answers]
        elif self.kind == "multi-label":
            ordered = answers[:, [self.labels.index(label) for label in labels]]
        return ordered

    def decode(self, logits: NDArray[np.floating[Any]]) -> Decoded:
        """Turn logits ``(rows, outputs)`` into answers."""
        scores = self.probabilities(logits)
        answers = self.decide(scores)
        if self.kind == "regression":
            return Decoded([f"{value:.6g}" for value in answers], scores)
        if self.kind == "multi-label":
            return Decoded([self.join(np.flatnonzero(row)) for row in answers], scores)
        return Decoded([self.labels[index] for index in answers], scores)

    def join(self, indices: NDArray[np.integer[Any]]) -> str:
        """Write the labels at `indices` as one multi-label answer (empty where there are none)."""
        return LABEL_SEPARATOR.join(self.labels[index] for index in indices)

    def as_dict(self) -> dict[str, Any]:
        """Describe the task in JSON's types."""
        fields = asdict(self)
        return fields | {key: list(fields[key]) for key in _LISTS}

    @classmethod
    def from_dict(cls, value: Any) -> Task:
        """Read a task that `as_dict` wrote.

        Raises:
            ConfigError: It is not one.
        """
        fault = ConfigError(f"this is no description of a task: {value!r}")
        if not isinstance(value, Mapping) or "labels" not in value:
            raise fault
        lists = {key: value[key] for key in _LISTS if key in value}
        if not all(
            isinstance(entries, list | tuple) and all(isinstance(entry, _LISTS[key]) for entry in entries)
            for key, entries in lists.items()
        ):
            raise fault
        if not isinstance(value.get("pair", False), bool):
            raise fault
        if not isinstance(value.get("temperature", 1.0), float | int):
            raise fault
        try:
            return cls(**{**value, **{key: tuple(entries) for key, entries in lists.items()}})
        except TypeError as error:
            raise fault from error


def label_values(labels: Iterable[str]) -> list[float] | None:
    """Read labels as numbers, such as the degrees of a scale; None where one of them is none."""
    try:
        values = [float(label) for label in labels]
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None


_LISTS: dict[str, type | tuple[type, ...]] = {"labels": str, "scored": str, "thresholds": (float, int)}
