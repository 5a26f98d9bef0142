"""How tables are to be read: the options of every command that reads rows."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twil.config.reading import AS_FOUND, Reading

if TYPE_CHECKING:
    from twil.data.labelled import LabelledColumns

InputFormat = Annotated[
    str | None, typer.Option("--input-format", help="tsv, csv, jsonl, json, parquet or txt.")
]
NoHeader = Annotated[bool, typer.Option("--no-header", help="The first line is a row; columns are 1, 2, …")]
Delimiter = Annotated[
    str | None,
    typer.Option("--delimiter", help="What stands between cells: ;, |, tab, … [dim]\\[found][/dim]"),
]
Quoted = Annotated[
    bool, typer.Option("--quoted", help="In a TSV, too, quotes enclose cells, as pandas writes it.")
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="latin-1, cp1252, utf-16, … [dim]\\[utf-8][/dim]")
]
LabelSeparator = Annotated[
    str | None,
    typer.Option(
        "--label-separator",
        help="What stands between the labels of a row that has several. [dim]\\[|][/dim]",
    ),
]
TEXT_OPTION = (
    "Column of the texts. [dim]\\[TEXT, else the only one of text, tweet, full_text, content, review][/dim]"
)
DEV_OPTION = (
    "Labelled texts that decide the best epoch, or a share of the rows to learn from, such as 0.1. "
    "[dim]\\[the last epoch is kept][/dim]"
)
LABEL_OPTION = "Column of the labels. [dim]\\[CLASS, else the only one of label, sentiment, class][/dim]"


def read_as(
    input_format: str | None,
    delimiter: str | None,
    encoding: str | None,
    *,
    no_header: bool = False,
    quoted: bool = False,
) -> Reading:
    """Put the options together.

    Raises:
        ConfigError: One cannot be followed.
    """
    return Reading(input_format, False if no_header else None, delimiter, quoted, encoding)


def columns_of(
    text: str | None, text_pair: str | None, label: str | None, separator: str | None, reading: Reading
) -> LabelledColumns:
    """Put together what is known of a labelled file."""
    from twil.data.labelled import LabelledColumns

    columns = LabelledColumns(text, text_pair, label, reading=reading)
    return columns if separator is None else replace(columns, separator=separator)


def reading_settings(reading: Reading) -> dict[str, Any]:
    """Give what was told as the section `data.reading` of a run's settings, over which it goes."""
    return {name: value for name, value in asdict(reading).items() if value != getattr(AS_FOUND, name)}


def read_dev(dev: str | None) -> Path | float | None:
    """Tell a share of the training rows from a file."""
    if dev is None:
        return None
    if Path(dev).exists():
        return Path(dev)
    try:
        share = float(dev)
    except ValueError:
        return Path(dev)
    return share if math.isfinite(share) else Path(dev)
