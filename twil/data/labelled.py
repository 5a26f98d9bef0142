"""Labelled sets: texts with the answers that people gave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twil.data.tables import TableReader
from twil.errors import DataError
from twil.task import Task

_SHOWN_LABELS = 10  # in a message


@dataclass(frozen=True)
class LabelledSet:
    """The rows of a labelled file, in its order.

    Attributes:
        path: The file.
        texts: One per row.
        labels: As they stand in the file.
        lines: The physical line of each row, from 1.
        blank: Lines without anything on them, which are left out.
    """

    path: Path
    texts: list[str]
    labels: list[str]
    lines: list[int]
    blank: int = 0

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.texts)

    def targets(self, task: Task) -> NDArray[np.int64]:
        """Number the labels by their place in the task, int64 ``(rows,)``.

        Raises:
            DataError: A label is none of the task's; its line is named.
        """
        index = {label: number for number, label in enumerate(task.labels)}
        for label, line in zip(self.labels, self.lines, strict=True):
            if label not in index:
                raise DataError(
                    f"the label '{label}' is none of {_list(task.labels)}: correct the row, or train with "
                    "all labels (each row has one)",
                    file=self.path,
                    line=line,
                )
        return np.fromiter((index[label] for label in self.labels), dtype=np.int64, count=len(self))


def read_labelled(path: str | Path, *, text: str = "TEXT", label: str = "CLASS") -> LabelledSet:
    """Read a labelled file whole.

    Args:
        path: A table of any format that `TableReader` reads.
        text: The column of the texts.
        label: The column of the labels; blanks around a label do not count.

    Raises:
        DataError: The file cannot be read, has no rows, or a row has no label.
    """
    texts: list[str] = []
    labels: list[str] = []
    lines: list[int] = []
    blank = 0
    for rows in TableReader(path, [text, label]):
        for number, row_text, row_label in zip(
            rows.numbers, rows.columns[text], rows.columns[label], strict=True
        ):
            row_label = row_label.strip()
            if not row_label and not row_text.strip():
                blank += 1
                continue
            if not row_label:
                raise DataError(f"the row has no label in the column {label}", file=path, line=number)
            texts.append(row_text)
            labels.append(row_label)
            lines.append(number)
    if not texts:
        raise DataError("the file has no rows: nothing can be learnt or measured", file=path)
    return LabelledSet(Path(path), texts, labels, lines, blank)


def find_labels(labelled: LabelledSet) -> tuple[str, ...]:
    """Give the different labels of a set in order: by number where all are numbers, else by letter.

    Raises:
        DataError: There is only one.
    """
    found = set(labelled.labels)
    if len(found) < 2:
        raise DataError(
            f"all rows have the label '{labelled.labels[0]}': a classifier needs at least two",
            file=labelled.path,
        )
    numbers = {label: _number(label) for label in found}
    if all(math.isfinite(number) for number in numbers.values()):
        return tuple(sorted(found, key=lambda label: (numbers[label], label)))
    return tuple(sorted(found))


def _list(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:_SHOWN_LABELS])
    return shown if len(labels) <= _SHOWN_LABELS else f"{shown}, … ({len(labels)} in all)"


def _number(label: str) -> float:
    try:
        return float(label)
    except ValueError:
        return math.nan
