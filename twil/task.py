"""What a classifier is asked, and the one rule that turns its logits into answers.

Training's evaluation and prediction from ONNX both decode here, with NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from twil.errors import ConfigError

TaskKind = Literal["class", "multi-label", "regression"]

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
        threshold: From which probability a label of a ``multi-label`` task holds.
    """

    kind: TaskKind
    labels: tuple[str, ...]
    pair: bool = False
    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a task that cannot be decided."""
        if self.kind not in get_args(TaskKind):
            raise ConfigError(
                f"there is no task kind '{self.kind}': choose one of {', '.join(get_args(TaskKind))}"
            )
        if len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"the labels {list(self.labels)} are not all different")
        if self.kind == "class" and len(self.labels) < 2:
            raise ConfigError(f"a classifier needs at least two labels, and there is {list(self.labels)}")
        if self.kind != "class" and not self.labels:
            raise ConfigError(f"a {self.kind} task needs at least one label")
        if self.kind == "multi-label" and any(LABEL_SEPARATOR in label for label in self.labels):
            raise ConfigError(
                f"a label of a multi-label task cannot hold '{LABEL_SEPARATOR}', which joins them"
            )
        if self.kind == "regression" and len(self.labels) > 1:
            raise ConfigError(f"a regression has one output, and there are {len(self.labels)}")

    @property
    def outputs(self) -> int:
        """How many logits a model of this task has."""
        return len(self.labels)

    def probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Turn logits ``(rows, outputs)`` into scores float32 ``(rows, outputs)``."""
        logits = np.asarray(logits, dtype=np.float32)
        if self.kind == "regression":
            return np.asarray(logits, dtype=np.float32)
        if self.kind == "multi-label":
            # exp of a non-positive number only: no overflow on either side.
            small = np.exp(-np.abs(logits))
            return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), dtype=np.float32)
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)

    def decode(self, logits: NDArray[np.floating[Any]]) -> Decoded:
        """Turn logits ``(rows, outputs)`` into answers."""
        scores = self.probabilities(logits)
        if self.kind == "regression":
            return Decoded([f"{value:.6g}" for value in scores[:, 0]], scores)
        if self.kind == "multi-label":
            chosen = scores >= self.threshold
            return Decoded([self.join(np.flatnonzero(row)) for row in chosen], scores)
        return Decoded([self.labels[index] for index in scores.argmax(axis=-1)], scores)

    def join(self, indices: NDArray[np.integer[Any]]) -> str:
        """Write the labels at `indices` as one multi-label answer (empty where there are none)."""
        return LABEL_SEPARATOR.join(self.labels[index] for index in indices)

    def as_dict(self) -> dict[str, Any]:
        """Describe the task in JSON's types."""
        return asdict(self) | {"labels": list(self.labels)}

    @classmethod
    def from_dict(cls, value: Any) -> Task:
        """Read a task that `as_dict` wrote.

        Raises:
            ConfigError: It is not one.
        """
        fault = ConfigError(f"this is no description of a task: {value!r}")
        if not isinstance(value, Mapping) or not isinstance(value.get("labels"), list | tuple):
            raise fault
        labels = tuple(value["labels"])
        if not all(isinstance(label, str) for label in labels):
            raise fault
        try:
            task = cls(**{**value, "labels": labels})
        except TypeError as error:
            raise fault from error
        if not isinstance(task.pair, bool) or not isinstance(task.threshold, float | int):
            raise fault
        return task
