"""How tables are to be read: the options of every command that reads rows."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
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
MaxRow = Annotated[int, typer.Option("--max-row-mb", help="Longest row that is read, in MiB.")]
DEV_OPTION = (
    "Labelled texts that decide the best epoch, or a share of the rows to learn from, such as 0.1. "
    "[dim]\\[the last epoch is kept][/dim]"
)


_OPTIONS = {
    name: inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation
    )
    for name, default, annotation in (
        ("input_format", None, InputFormat),
        ("no_header", False, NoHeader),
        ("delimiter", None, Delimiter),
        ("quoted", False, Quoted),
        ("encoding", None, Encoding),
        ("max_row_mb", AS_FOUND.max_row_mb, MaxRow),
    )
}
_OPTIONS_BUT_HEADER = {name: option for name, option in _OPTIONS.items() if name != "no_header"}


def reads_tables(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options by which tables are read, in place of its parameter `reading`.

    A command with a parameter `header` tells by itself whether there is one.
    """
    signature = inspect.signature(command, eval_str=True)
    options = _OPTIONS if "header" not in signature.parameters else _OPTIONS_BUT_HEADER
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += options.values() if parameter.name == "reading" else [parameter]

    @functools.wraps(command)
    def reading_command(**given: Any) -> None:
        told = {name: given.pop(name) for name in options}
        header = False if told.pop("no_header", False) else None
        command(**given, reading=Reading(told.pop("input_format"), header, **told))

    reading_command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    reading_command.__annotations__ = {each.name: each.annotation for each in parameters}
    return reading_command


def told_options(reading: Reading) -> dict[str, Any]:
    """Give those options by their names, with what is told by each; nothing where that is nothing."""
    return {
        "--input-format": reading.format,
        "--no-header": reading.header is False,
        "--delimiter": reading.delimiter,
        "--quoted": reading.quoted,
        "--encoding": reading.encoding,
        "--max-row-mb": reading.max_row_mb != AS_FOUND.max_row_mb,
    }


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
