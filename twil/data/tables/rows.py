"""What every format reads and writes: runs of rows, and the columns of a table to be written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from twil.core.errors import DataError
from twil.data.tables.formats import LIKELY_COLUMNS, TEXT_COLUMN
from twil.data.tables.streams import NOT_UTF8

Cells: TypeAlias = Sequence[str] | Sequence[float] | NDArray[Any]
"""A column to be written."""
_SHOWN_NAMES, _COMPARED_NAMES = 30, 1_000  # in a message, and with a name that is not there
_SHOWN_NAME = 40  # characters of a column's name in a message: without a header it may be a whole tweet
SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character, which no UTF-8 can hold."""
QUOTED = "a quote opens a cell, and quotes in a TSV are text"
"""What may be behind a row of a TSV that has too few or too many cells."""
_EXACT = 2**53  # whole numbers below stand in a float as they are
_CURES = {
    NOT_UTF8: "correct the row, or name the file's encoding (--encoding latin-1, cp1252, …)",
    QUOTED: "where they enclose cells, --quoted reads them so",
}


def with_cure(problem: str) -> str:
    """Say of a bad row that ends the work how to mend it, too, where that is not plain."""
    cure = next((cure for known, cure in _CURES.items() if problem.endswith(known)), None)
    return f"{problem}: {cure}" if cure else problem


@dataclass(frozen=True, slots=True)
class Rows:
    """A run of rows, in the order of the file.

    Attributes:
        numbers: The physical line on which each row starts; a header is line 1. Rows of Parquet
            are counted from 1.
        columns: The cells of each column, as long as `numbers`.
        errors: What is wrong with a bad row, by its index in this run; its cells are empty.
    """

    numbers: list[int]
    columns: dict[str, list[str]]
    errors: dict[int, str] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> Rows:
        """Return the rows from one index to before another."""
        return Rows(
            self.numbers[start:stop],
            {name: cells[start:stop] for name, cells in self.columns.items()},
            {row - start: problem for row, problem in self.errors.items() if start <= row < stop},
        )


def without_errors(rows: Rows) -> Rows:
    """Leave out the bad rows."""
    kept = [index for index in range(len(rows.numbers)) if index not in rows.errors]
    return Rows(
        [rows.numbers[index] for index in kept],
        {name: [cells[index] for index in kept] for name, cells in rows.columns.items()},
    )


class BadRowError(Exception):
    """What is wrong with one row."""


def join_items(items: Sequence[str], between: str) -> str:
    """Make a cell of a list.

    Raises:
        BadRowError: An item holds what is put between them.
    """
    for item in items:
        if between in item:
            raise BadRowError(f"the item '{item}' of a list holds '{between}', which joins them")
    return between.join(items)


def whole_number(value: float) -> str:
    """Write a float that is a whole number without a point: ids are floats where one of them is absent.

    Returns:
        Nothing where it is none, or none that a float holds exactly.
    """
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT else ""


class RowSource(Protocol):
    """Where rows come from.

    Attributes:
        names: The columns of the table, in its order.
        unit: What a row's number counts.
        hint: What may be behind a column that is not there, to be put behind the message; empty for most.
    """

    names: tuple[str, ...]
    unit: str
    hint: str

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield the cells of `columns`, at most `chunk_rows` rows at a time, bad rows marked."""
        ...


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of columns, once no two are the same.

    Raises:
        DataError: Two are.
    """
    check_once(names, names)
    return tuple(names)


def check_once(columns: Sequence[str], names: Sequence[str], path: str | Path | None = None) -> None:
    """Refuse columns to be read of whose name there are several; what others are called is of no account.

    Raises:
        DataError: It names the column.
    """
    for name in columns:
        if names.count(name) > 1:
            raise DataError(f"more than one column is called '{name}': rename one of them", file=path)


def named_columns(
    columns: Sequence[str | None], names: Sequence[str], path: str | Path | None = None, hint: str = ""
) -> tuple[str, ...]:
    """Return the names of columns that are asked for; None stands for that of the texts, whatever its name.

    That is `TEXT_COLUMN` where there is one, else the only one of `LIKELY_COLUMNS`.

    Args:
        columns: What is asked for.
        names: What is there.
        path: The table.
        hint: What may be behind a column that is not there.

    Raises:
        DataError: No column is known to hold the texts, or it is not clear which.
    """
    return tuple(_text_column(names, path, hint) if column is None else column for column in columns)


def _text_column(names: Sequence[str], path: str | Path | None, hint: str) -> str:
    cure = "name one" if path is None else "name one (--text)"
    found = only_column(TEXT_COLUMN, LIKELY_COLUMNS, names, f"the texts: {cure}", path)
    if found is None:
        option = "" if path is None else " (--text names the column)"
        raise DataError(missing_column(TEXT_COLUMN, names) + hint + option, file=path)
    return found


def only_column(
    usual: str, likely: Sequence[str], names: Sequence[str], held: str, path: str | Path | None = None
) -> str | None:
    """Return the usual column, else the only one of some that are likely; None where there is none of them.

    Raises:
        DataError: There are several. Behind the words "may each hold" it says what is `held`.
    """
    found = [name for name in likely if name in names]
    if usual in names:
        return usual
    if len(found) > 1:
        raise DataError(f"no column '{usual}', and {' and '.join(found)} may each hold {held}", file=path)
    return found[0] if found else None


def missing_column(name: str, names: Sequence[str]) -> str:
    """Say that a table has no column of a name, which it has, and which of them may be meant."""
    lowered = {other.lower(): other for other in names[:_COMPARED_NAMES]}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    hint = f"; did you mean '{_shortened(lowered[near[0]])}'?" if near else ""
    return f"no column '{name}': the columns are {listed_names(names)}{hint}"


def listed_names(names: Sequence[str]) -> str:
    """Write the names of columns, of many the first, for a message."""
    shown = ", ".join(map(_shortened, names[:_SHOWN_NAMES])) or "none"
    return shown if len(names) <= _SHOWN_NAMES else f"{shown}, … ({len(names):,} in all)"


def _shortened(name: str) -> str:
    return name if len(name) <= _SHOWN_NAME else name[: _SHOWN_NAME - 1] + "…"
