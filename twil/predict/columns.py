"""The columns that predictions have in a table, wherever it is made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.task import Decoded, Task

LABEL_COLUMN = "label"
VALUE_COLUMN = "value"
ERROR_COLUMN = "error"

_TAKEN_PREFIX = "predicted_"


def output_columns(task: Task, repeated: Sequence[str], *, errors: bool = False) -> dict[str, type]:
    """Name the columns of a table of predictions, and tell the type of each.

    First those that are repeated, then `label` and a column of probabilities per label, named after it; of a
    regression `value` in their place. A name that is taken begins with `predicted_`.

    Args:
        task: What the model was asked.
        repeated: Columns of the input.
        errors: Whether a last column says what is wrong with bad rows.
    """
    columns: dict[str, type] = dict.fromkeys(repeated, str)
    for name, type_ in _predicted_columns(task, errors=errors):
        columns[free_name(name, columns)] = type_
    return columns


def free_name(name: str, taken: Collection[str]) -> str:
    """Return a name for a column that is made: with `predicted_` before it where it is taken."""
    while name in taken:
        name = _TAKEN_PREFIX + name
    return name


def predicted_cells(task: Task, decoded: Decoded) -> list[list[str] | NDArray[np.float32]]:
    """Lay answers out by the columns that `output_columns` names behind the repeated ones."""
    scores: list[Any] = list(decoded.scores.T)
    return scores if task.kind == "regression" else [decoded.labels, *scores]


def _predicted_columns(task: Task, *, errors: bool) -> Iterator[tuple[str, type]]:
    if task.kind == "regression":
        yield VALUE_COLUMN, float
    else:
        yield LABEL_COLUMN, str
        yield from ((label, float) for label in task.labels)
    if errors:
        yield ERROR_COLUMN, str
