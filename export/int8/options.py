"""What an int8 graph is made by and held to: options, and the texts that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from twil.bundle.bundle import Kind
from twil.core.errors import ConfigError, DataError
from twil.core.storage import sha256
from twil.core.task import Task
from twil.data.labelled import COLUMNS, LabelledColumns, read_labelled
from twil.data.tables.tables import TableReader
from twil.exporting.int8.accuracy import AnswerGuard
from twil.exporting.int8.guard import Guard, Items, Limits, VectorGuard

CALIBRATION_ROWS = 512
"""Texts that ranges are found on, drawn from the first `READ_ROWS` of a file."""
CHECKED_ROWS = 2_000
"""Texts that vectors are compared on, drawn in the same way; labels are compared on all of a file."""
READ_ROWS = 20_000
LIMITS = Limits()


@dataclass(frozen=True)
class Int8Options:
    """What an int8 graph is made by and held to.

    Attributes:
        calibration: A file of texts like those to come; their labels are not needed.
        evaluation: A file to check it on, not trained on; of a classifier with labels.
        columns: Of both; the calibration file needs no answers.
        limits: What must be kept.
    """

    calibration: Path
    evaluation: Path
    columns: LabelledColumns = COLUMNS
    limits: Limits = LIMITS


@dataclass(frozen=True)
class Int8Data:
    """The texts that `Int8Options` names.

    Attributes:
        calibration: Some texts of the one file.
        guard: What is held to the other.
        files: Name and SHA-256 of both.
    """

    calibration: Items
    guard: Guard
    files: dict[str, dict[str, str]]


def read_data(options: Int8Options, kind: Kind, task: Task | None) -> Int8Data:
    """Read both files before any work.

    Raises:
        ConfigError: The model gives nothing by which an int8 graph can be checked, or an option is for
            another kind.
        DataError: A file cannot be read, has no rows, or has a label that the model does not know.
    """
    _refuse_idle(options, kind)
    guard = _make_guard(options, kind, task)
    pair = task is not None and task.pair
    texts = _draw(options.calibration, options.columns, CALIBRATION_ROWS, "--calibration", pair=pair)
    files = {"calibration": options.calibration, "evaluation": options.evaluation}
    records = {name: {"file": path.name, "sha256": sha256(path)} for name, path in files.items()}
    return Int8Data(texts, guard, records)


def _refuse_idle(options: Int8Options, kind: Kind) -> None:
    """Refuse options that would have no effect: answers are held to other limits than vectors are."""
    columns, limits, usual = options.columns, options.limits, LIMITS
    answers = {
        "--max-drop": limits.max_drop != usual.max_drop,
        "--min-agreement": limits.min_agreement != usual.min_agreement,
        "--max-change": limits.max_change != usual.max_change,
        "--text-pair": columns.text_pair is not None,
        "--label": columns.label is not None,
    }
    vectors = {"--min-cosine": limits.min_cosine != usual.min_cosine}
    idle, belong = (answers, "a classifier") if kind == "encoder" else (vectors, "--head encoder")
    if given := [name for name, changed in idle.items() if changed]:
        raise ConfigError(f"{', '.join(given)} would have no effect: only with {belong}")


def _make_guard(options: Int8Options, kind: Kind, task: Task | None) -> Guard:
    """Choose what an int8 graph is held to by what it gives."""
    if kind == "encoder":
        texts = _draw(options.evaluation, options.columns, CHECKED_ROWS, "--eval")
        return VectorGuard(texts, options.limits)
    if task is None:
        raise ConfigError(
            "int8 is checked by the answers of a classifier, or by vectors, and what is exported gives "
            "neither: export it with --precision fp32"
        )
    return AnswerGuard(read_labelled(options.evaluation, options.columns, task.kind), task, options.limits)


def _draw(path: Path, columns: LabelledColumns, count: int, option: str, *, pair: bool = False) -> Items:
    """Draw some texts of a file, or pairs of them, the same ones each time."""
    items: list[tuple[str, ...]] = []
    table = TableReader(path, columns.texts if pair else columns.texts[:1], reading=columns.reading)
    for rows in table:
        cells = zip(*(rows.columns[column] for column in table.columns), strict=True)
        items += [texts for texts in cells if any(text.strip() for text in texts)]
        if len(items) >= READ_ROWS:
            break
    if not items:
        raise DataError(f"the file has no texts: name another ({option})", file=path)
    chosen = [items[index] for index in np.random.default_rng(0).permutation(len(items))[:count]]
    return [(first, second) for first, second in chosen] if pair else [text for (text,) in chosen]


Precision = Literal["fp32", "fp16", "int8"]


class Arithmetic(NamedTuple):
    """What `export_onnx` is told.

    Attributes:
        fp16: Whether the graph is in half precision.
        int8: How it is made in 8 bits; None where it is not.
    """

    fp16: bool
    int8: Int8Options | None


def choose_arithmetic(
    precision: str,
    *,
    calibration: Path | None = None,
    evaluation: Path | None = None,
    columns: LabelledColumns = COLUMNS,
    limits: Limits = LIMITS,
) -> Arithmetic:
    """Read the options of an export; int8 needs files, and the others take none.

    Raises:
        ConfigError: There is no such precision, a file is missing, or what is for int8 is not needed.
    """
    if precision not in get_args(Precision):
        raise ConfigError(
            f"there is no precision '{precision}': choose one of {', '.join(get_args(Precision))}"
        )
    if precision != "int8":
        if calibration or evaluation:
            raise ConfigError("--calibration and --eval are for int8: add --precision int8")
        if limits != LIMITS:
            raise ConfigError(
                "--max-drop, --min-agreement, --max-change and --min-cosine are for int8: add --precision "
                "int8"
            )
        if columns != COLUMNS:
            raise ConfigError(
                "--text, --text-pair and --label are columns of the files of int8: add --precision int8"
            )
        return Arithmetic(precision == "fp16", None)
    if calibration is None or evaluation is None:
        raise ConfigError(
            "int8 needs texts to find its ranges on (--calibration, such as the training file) and others to "
            "be checked on, of a classifier with labels (--eval, such as the dev file)"
        )
    return Arithmetic(False, Int8Options(calibration, evaluation, columns, limits))
