"""Which arithmetic an export is asked for, and whether that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, get_args

from twil.core.errors import ConfigError
from twil.data.labelled import COLUMNS, LabelledColumns
from twil.export.guard import Limits
from twil.export.int8_data import Int8Options

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
    calibration: Path | None,
    evaluation: Path | None,
    columns: LabelledColumns,
    max_drop: float,
    min_agreement: float,
    max_change: float,
    min_cosine: float,
) -> Arithmetic:
    """Read the options of a command line; int8 needs files, and the others take none.

    Raises:
        ConfigError: There is no such precision, a file is missing, what is for int8 is not needed, or a limit
            is none.
    """
    if precision not in get_args(Precision):
        raise ConfigError(
            f"there is no precision '{precision}': choose one of {', '.join(get_args(Precision))}"
        )
    limits = Limits(max_drop, min_agreement, max_change, min_cosine)
    if precision != "int8":
        if calibration or evaluation:
            raise ConfigError("--calibration and --eval are for int8: add --precision int8")
        if limits != Limits():
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
    if not (max_drop >= 0 and 0 <= min_agreement <= 100 and max_change >= 0):
        raise ConfigError(
            "--max-drop is 0 or more points, --min-agreement between 0 and 100 percent, and --max-change 0 "
            "or more"
        )
    if not -1 <= min_cosine <= 1:
        raise ConfigError("--min-cosine lies between -1 and 1")
    return Arithmetic(False, Int8Options(calibration, evaluation, columns, limits))
