"""The columns that predictions have in a table, wherever it is made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twil.core.task import Decoded, Task
from twil.data.tables.rows import Cells, Rows

LABEL_COLUMN = "label"
VALUE_COLUMN = "value"
ERROR_COLUMN = "error"

_TAKEN_PREFIX = "predicted_"


Tasks: TypeAlias = Task | Mapping[str, Task]
"""What a model was asked; of several models, what each was, by the models' names."""


def output_columns(tasks: Tasks, repeated: Sequence[str], *, errors: bool = False) -> dict[str, type]:
    """Name the columns of a table of predictions, and tell the type of each.

    First those that are repeated, then `label` and a column of probabilities per label, named after it; of a
    regression `value` in their place. Of several models they stand one behind another, each called by its
    model's name, as `sentiment_label`. A name that is taken begins with `predicted_`.

    Args:
        tasks: What the models were asked.
        repeated: Columns of the input.
        errors: Whether a last column says what is wrong with bad rows.
    """
    columns: dict[str, type] = dict.fromkeys(repeated, str)
    for model, task in _by_prefix(tasks).items():
        for name, type_ in _predicted_columns(task):
            columns[free_name(model + name, columns)] = type_
    if errors:
        columns[free_name(ERROR_COLUMN, columns)] = str
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


def output_cells(
    tasks: Tasks,
    columns: Mapping[str, type],
    rows: Rows,
    repeated: Sequence[str],
    logits: NDArray[np.float32],
    *,
    errors: bool,
) -> dict[str, Cells]:
    """Lay rows and their logits out by the columns that `output_columns` names; bad rows have no prediction.

    Args:
        tasks: What the models were asked.
        columns: What `output_columns` gave.
        rows: Rows of the input, as a `TableWindow` has them.
        repeated: Columns of the input.
        logits: Those of the good rows, in their order, those of several models side by side; float32
            ``(good rows, outputs)``.
        errors: Whether a last column says what is wrong with bad rows.
    """
    good = good_rows(rows)
    cells: list[Cells] = [rows.columns[name] for name in repeated]
    first = 0
    for task in _by_prefix(tasks).values():
        decoded = task.decode(logits[:, first : first + task.outputs])
        first += task.outputs
        labels = [""] * len(rows.numbers)
        for row, label in zip(good, decoded.labels, strict=True):
            labels[row] = label
        scores = np.full((len(rows.numbers), task.outputs), np.nan, dtype=np.float32)
        scores[good] = decoded.scores
        cells += predicted_cells(task, Decoded(labels, scores))
    if errors:
        cells.append(error_cells(rows))
    return dict(zip(columns, cells, strict=True))


def good_rows(rows: Rows) -> list[int]:
    """Return the indices of the rows without an error."""
    return [row for row in range(len(rows.numbers)) if row not in rows.errors]


def error_cells(rows: Rows) -> list[str]:
    """Say of each row what is wrong with it; nothing of a good one."""
    return [rows.errors.get(row, "") for row in range(len(rows.numbers))]


def _by_prefix(tasks: Tasks) -> Mapping[str, Task]:
    """Give tasks by what stands before the names of their columns: of a model alone nothing."""
    return {"": tasks} if isinstance(tasks, Task) else {f"{name}_": task for name, task in tasks.items()}


def _predicted_columns(task: Task) -> Iterator[tuple[str, type]]:
    if task.kind == "regression":
        yield VALUE_COLUMN, float
    else:
        yield LABEL_COLUMN, str
        yield from ((label, float) for label in task.labels)
