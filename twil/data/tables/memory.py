"""Tables that a program holds, whichever library made them: their columns, and their rows as texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import numpy as np

from twil.config.memory_table import MemoryTable
from twil.core.errors import DataError
from twil.data.tables.formats import LABEL_COLUMN, TEXT_COLUMN
from twil.data.tables.rows import SURROGATE, BadRowError, Rows, distinct_names, join_items, whole_number

_WRITTEN = int | Decimal | date | datetime | time | UUID
"""What becomes a text as Python writes it."""
_HASHED_ROWS = 4096
_BYTES = bytes | bytearray | memoryview  # they give numbers
_PANDAS_MISSING = ("NAType", "NaTType")  # by name: nothing imports pandas


class DataFrame(Protocol):
    """What pandas, polars and Arrow call a data frame, a table or a batch of records."""

    def __len__(self) -> int: ...

    def __getitem__(self, name: Any, /) -> Any: ...

    @property
    def columns(self) -> Any:
        """Its columns, or their names."""
        ...


def take_table(given: object, name: str) -> Path | MemoryTable:
    """Take what a program gives for a table: the path of a file, or the rows themselves.

    Args:
        given: A path; a data frame of pandas or polars, an Arrow table, a `datasets.Dataset` or a dict of
            columns; or ``(texts, labels)``, two lists of one length.
        name: What rows in memory are called where something is wrong with them.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(given, str | Path):
        return Path(given)
    if isinstance(given, tuple) and len(given) == 2 and not any(isinstance(each, str) for each in given):
        given = dict(zip((TEXT_COLUMN, LABEL_COLUMN), given, strict=True))
    columns = find_columns(given)
    if columns is None:
        raise DataError(
            f"{describe(given)} was given for {name}: give the path of a file, a data frame, a dict of "
            "columns, or (texts, labels)"
        )
    features = getattr(given, "features", None) or {}  # of a dataset, whose labels are numbers with names
    return MemoryTable(name, {key: _named(column, features.get(key)) for key, column in columns.items()})


def content_hash(table: MemoryTable, columns: Sequence[str], joined: Mapping[str, str]) -> str:
    """Return the SHA-256 of the rows of some columns, as they are read, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(list(columns)).encode())
    for rows in MemorySource(table, joined).read(columns, _HASHED_ROWS):
        cells = [rows.columns[name] for name in columns]
        digest.update(json.dumps(cells, ensure_ascii=True).encode())
    return digest.hexdigest()


class MemorySource:
    """The rows of a table that a program holds; they are counted from 0, as lists and data frames do.

    Args:
        table: The table.
        joined: Columns whose lists become cells, and what is put between the items.
    """

    unit = "row"
    hint = ""

    def __init__(self, table: MemoryTable, joined: Mapping[str, str]) -> None:
        self._columns = {str(name): column for name, column in table.columns.items()}
        self._joined = joined
        self.names = tuple(map(str, table.columns))

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every row."""
        rows = zip(*(self._cells(name) for name in columns or self.names), strict=True)
        first = 0
        while chunk := list(islice(rows, chunk_rows)):
            cells: dict[str, list[str]] = {name: [] for name in columns}
            errors: dict[int, str] = {}
            for index, row in enumerate(chunk):
                try:
                    found = [self._text(cell, name) for cell, name in zip(row, columns, strict=False)]
                except BadRowError as error:
                    errors[index], found = str(error), [""] * len(columns)
                for name, text in zip(columns, found, strict=True):
                    cells[name].append(text)
            yield Rows(list(range(first, first + len(chunk))), cells, errors)
            first += len(chunk)

    def _cells(self, name: str) -> Iterator[object]:
        cells = iterate(self._columns[name])
        if cells is None:
            raise no_column(name, self._columns[name])
        return cells

    def _text(self, cell: object, name: str) -> str:
        """Write a cell as the readers of files do."""
        value = plain(cell)
        if isinstance(value, np.generic):
            value = value.item()
        if is_missing(value):
            return ""
        if isinstance(value, str):
            if not value.isascii() and SURROGATE.search(value):
                raise BadRowError(f"column '{name}' holds half a character")
            return str.__str__(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            return whole_number(value) or str(value)
        if isinstance(value, _WRITTEN):
            return str(value)
        between = self._joined.get(name)
        if between is not None and isinstance(value, list | tuple):
            return join_items([self._text(item, name) for item in value], between)
        raise BadRowError(f"column '{name}' holds {describe(value)}, and a cell is one text or number")


def _named(column: Any, feature: Any) -> Any:
    """Give the labels of a dataset by their names, where it has names for their numbers."""
    names = getattr(feature, "names", None)
    if not names:
        return column
    return [None if is_missing(number) or number < 0 else names[number] for number in column]


def find_columns(given: object) -> dict[str, Any] | None:
    """Return columns by name, as they are and in their order; None where something else is given.

    Raises:
        DataError: Two columns have one name, one is no list or array, or they are not of one length.
    """
    if isinstance(given, Mapping):
        columns = dict(given)
    elif (names := _frame_names(given)) is not None:
        columns = {name: given[name] for name in distinct_names(names)}  # type: ignore[index]
    else:
        return None
    lengths = {name: _length(name, column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shortest, longest = (choose(lengths, key=lengths.__getitem__) for choose in (min, max))
        raise DataError(
            f"column '{shortest}' has {lengths[shortest]} cells, and column '{longest}' has "
            f"{lengths[longest]}: give columns of one length"
        )
    return columns


def no_column(name: str, column: object) -> DataError:
    """Say that something is not the cells of a column."""
    cure = "give one text as it is, several in a list" if isinstance(column, str) else "give one"
    return DataError(
        f"column '{name}' is {describe(column)}, and a column is a list or an array with a cell for each "
        f"row: {cure}"
    )


def iterate(given: object) -> Iterator[object] | None:
    """Go through what has an order and holds things; None where it does not."""
    unfit = isinstance(given, _BYTES | set | frozenset) or is_file(given)
    if unfit or not isinstance(given, Iterable):
        return None
    try:
        return iter(given)
    except TypeError:  # an array of no dimension
        return None


def plain(item: Any) -> object:
    """Return what an Arrow scalar or an array stands for; anything else as it is."""
    if isinstance(item, np.ndarray):
        return item.tolist()
    if not hasattr(item, "as_py"):
        return item
    try:
        return item.as_py()
    except UnicodeDecodeError as error:
        return error.object  # its bytes, as it is no text


def is_missing(cell: object) -> bool:
    """Tell whether a cell is empty: None, NaN, or what pandas calls missing."""
    if isinstance(cell, float | np.floating):
        return bool(np.isnan(cell))
    return cell is None or type(cell).__name__ in _PANDAS_MISSING


def describe(thing: object) -> str:
    """Say what something is, for a message."""
    name, shown = type(thing).__name__, " ".join(repr(thing).split())
    article = "an" if name[0].lower() in "aeiou" else "a"
    return f"{article} {name} ({shown if len(shown) <= 60 else shown[:60] + '…'})"


def is_file(given: object) -> bool:
    """Tell whether something is an open file."""
    # A file has no length. A series has one, and an attribute for each label of its rows.
    return hasattr(given, "readline") and not isinstance(given, Sized)


def _frame_names(given: Any) -> list[Any] | None:
    """Return the names of a data frame's columns, and None where there is no data frame."""
    # Asked of its type: a series has an attribute for each label of its rows, and a frame for each column.
    kind = type(given)
    if hasattr(kind, "__len__") and hasattr(kind, "__getitem__"):
        for names in ("column_names", "columns"):  # Arrow calls the columns themselves `columns`
            if hasattr(kind, names):
                return list(getattr(given, names))
    return None


def _length(name: str, column: object) -> int:
    if not isinstance(column, str | _BYTES | Mapping | set | frozenset):
        with suppress(TypeError):  # it has none
            return len(column)  # type: ignore[arg-type]
    raise no_column(name, column)
