"""What every format reads and writes: runs of rows, and the columns of a table to be written."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from twil.data.formats import LIKELY_COLUMNS, TEXT_COLUMN
from twil.errors import DataError

Cells: TypeAlias = Sequence[str] | Sequence[float] | NDArray[Any]
"""A column to be written."""
NOT_UTF8 = "not UTF-8"
"""What is wrong with a row whose bytes are no text."""
_SHOWN_NAME = 40  # characters of a column's name in a message: without a header it may be a whole tweet
_CURES = {
    NOT_UTF8: "correct the row, or save the file as UTF-8 (from Latin-1: iconv -f LATIN1 -t UTF-8)",
}


def with_cure(problem: str) -> str:
    """Say of a bad row that ends the work how to mend it, too, where that is not plain."""
    return f"{problem}: {_CURES[problem]}" if problem in _CURES else problem


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


class Source(Protocol):
    """Where rows come from.

    Attributes:
        names: The columns of the table, in its order.
        unit: What a row's number counts.
    """

    names: tuple[str, ...]
    unit: str

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield the cells of `columns`, at most `chunk_rows` rows at a time, bad rows marked."""
        ...


def distinct_names(
    names: Sequence[str], path: str | Path | None = None, line: int | None = None
) -> tuple[str, ...]:
    """Return the names of columns, once no two are the same.

    Raises:
        DataError: Two are.
    """
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"more than one column is called '{name}': rename one of them", file=path, line=line
            )
    return tuple(names)


def named_columns(
    columns: Sequence[str | None], names: Sequence[str], path: str | Path | None = None
) -> tuple[str, ...]:
    """Return the names of columns that are asked for; None stands for that of the texts, whatever its name.

    That is `TEXT_COLUMN` where there is one, else the only one of `LIKELY_COLUMNS`.

    Raises:
        DataError: No column is known to hold the texts, or it is not clear which.
    """
    return tuple(_text_column(names, path) if column is None else column for column in columns)


def _text_column(names: Sequence[str], path: str | Path | None) -> str:
    likely = [name for name in LIKELY_COLUMNS if name in names]
    if TEXT_COLUMN in names:
        return TEXT_COLUMN
    if len(likely) == 1:
        return likely[0]
    if likely:
        cure = "name one" if path is None else "name one (--text)"
        raise DataError(
            f"no column '{TEXT_COLUMN}', and {' and '.join(likely)} may each hold the texts: {cure}",
            file=path,
        )
    raise DataError(missing_column(TEXT_COLUMN, names), file=path)


def missing_column(name: str, names: Sequence[str]) -> str:
    """Say that a table has no column of a name, which it has, and which of them may be meant."""
    found = ", ".join(map(_shortened, names)) or "none"
    lowered = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    hint = f"; did you mean '{_shortened(lowered[near[0]])}'?" if near else ""
    return f"no column '{name}': the columns are {found}{hint}"


def _shortened(name: str) -> str:
    return name if len(name) <= _SHOWN_NAME else name[: _SHOWN_NAME - 1] + "…"
