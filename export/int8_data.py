"""What an int8 graph is made by and held to: options, and the texts that they name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twil.data.labelled import LabelledColumns, read_labelled
from twil.data.tables import TableReader
from twil.errors import ConfigError, DataError
from twil.export.accuracy import LabelGuard
from twil.export.closeness import VectorGuard
from twil.export.guard import Guard, Limits
from twil.predict.bundle import Kind
from twil.storage import sha256
from twil.task import Task

CALIBRATION_ROWS = 512
"""Texts that ranges are found on, drawn from the first `READ_ROWS` of a file."""
CHECKED_ROWS = 2_000
"""Texts that vectors are compared on, drawn in the same way; labels are compared on all of a file."""
READ_ROWS = 20_000


@dataclass(frozen=True)
class Int8Options:
    """What an int8 graph is made by and held to.

    Attributes:
        calibration: A file of texts like those to come; their labels are not needed.
        evaluation: A file to check it on, not trained on; of a classifier with labels.
        text: The column of the texts in both.
        label: The column of the labels.
        limits: What must be kept.
    """

    calibration: Path
    evaluation: Path
    text: str = "TEXT"
    label: str = "CLASS"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Int8Data:
    """The texts that `Int8Options` names.

    Attributes:
        calibration: Some texts of the one file.
        guard: What is held to the other.
        files: Name and SHA-256 of both.
    """

    calibration: list[str]
    guard: Guard
    files: dict[str, dict[str, str]]


def read_data(options: Int8Options, kind: Kind, task: Task | None) -> Int8Data:
    """Read both files before any work.

    Raises:
        ConfigError: The model gives nothing by which an int8 graph can be checked.
        DataError: A file cannot be read, has no rows, or has a label that the model does not know.
    """
    guard = _make_guard(options, kind, task)
    texts = _draw_texts(options.calibration, options.text, CALIBRATION_ROWS, "--calibration")
    files = {"calibration": options.calibration, "evaluation": options.evaluation}
    records = {name: {"file": path.name, "sha256": sha256(path)} for name, path in files.items()}
    return Int8Data(texts, guard, records)


def _make_guard(options: Int8Options, kind: Kind, task: Task | None) -> Guard:
    """Choose what an int8 graph is held to by what it gives."""
    if kind == "encoder":
        texts = _draw_texts(options.evaluation, options.text, CHECKED_ROWS, "--eval")
        return VectorGuard(texts, options.limits)
    if task is None or task.kind != "class" or task.pair:
        raise ConfigError(
            "int8 is checked by the labels of single texts, one each, or by vectors, and what is exported "
            "gives neither: export it with --precision fp32"
        )
    labelled = read_labelled(options.evaluation, LabelledColumns(options.text, None, options.label))
    return LabelGuard(labelled, task, options.limits)


def _draw_texts(path: Path, column: str, count: int, option: str) -> list[str]:
    """Draw some texts of a file, the same ones each time."""
    texts: list[str] = []
    for rows in TableReader(path, [column]):
        texts += [text for text in rows.columns[column] if text.strip()]
        if len(texts) >= READ_ROWS:
            break
    if not texts:
        raise DataError(f"the file has no texts: name another ({option})", file=path)
    chosen = np.random.default_rng(0).permutation(len(texts))[:count]
    return [texts[index] for index in chosen]
