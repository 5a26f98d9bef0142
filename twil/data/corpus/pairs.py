"""Pairs of texts, a tweet and its reply, and single texts, read from tables of any format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError, DataError
from twil.data.tables.formats import DELIMITED, TEXT_COLUMN, find_reading
from twil.data.tables.rows import listed_names
from twil.data.tables.streams import InputFile
from twil.data.tables.tables import OnError, TableReader

CHUNK_ROWS = 8192

# Found in any case; the first that the table has is taken.
FIRST_NAMES = ("ORIG_TEXT", "TWEET")
SECOND_NAMES = ("REPLY_TEXT", "REPLY")
FIRST_ID_NAMES = ("ORIG_ID", "TWEET_ID")
SECOND_ID_NAMES = ("REPLY_ID",)
SINGLE_NAMES = ("TEXT", "TWEET")
SINGLE_ID_NAMES = ("ID", "TWEET_ID")

_HOW_TO_TELL = (
    "say which columns hold the texts (--first and --second, or --first alone for single texts), "
    "by number (1, 2, …) where the first line is a row (--no-header)"
)


@dataclass(frozen=True)
class PairColumns:
    """The columns of a table, by name; what is None is found.

    Attributes:
        first_id: What names the tweet.
        first: The tweet, or the text where texts are single.
        second_id: What names the reply.
        second: The reply; None with `first` given means single texts.
    """

    first_id: str | None = None
    first: str | None = None
    second_id: str | None = None
    second: str | None = None

    def __post_init__(self) -> None:
        """Refuse a second text without a first, ids without texts, and one column for both texts."""
        if self.first is None and (self.second or self.first_id or self.second_id):
            raise ConfigError("other columns are named, but not that of the (first) text: name it too")
        if self.second is None and self.second_id:
            raise ConfigError("the column of the reply's id is named, but not that of its text: name it too")
        if self.first is not None and self.first == self.second:
            raise ConfigError(f"the column {self.first} cannot hold both texts of a pair: name two columns")


@dataclass(frozen=True, slots=True)
class PairRows:
    """A run of rows of one file, in its order.

    Attributes:
        numbers: The physical line of each row (Parquet: the row), from 1.
        first_ids: What names the tweets; empty where nothing does.
        first: The tweets, or single texts.
        second_ids: What names the replies; empty where nothing does.
        second: The replies; None where texts are single.
    """

    numbers: list[int]
    first_ids: list[str]
    first: list[str]
    second_ids: list[str]
    second: list[str] | None

    def texts(self) -> Iterator[tuple[str, ...]]:
        """Give the texts of each row."""
        return (
            zip(self.first, strict=True) if self.second is None else zip(self.first, self.second, strict=True)
        )

    def select(self, rows: Sequence[int]) -> PairRows:
        """Take some of the rows."""
        return PairRows(
            [self.numbers[row] for row in rows],
            [self.first_ids[row] for row in rows],
            [self.first[row] for row in rows],
            [self.second_ids[row] for row in rows],
            None if self.second is None else [self.second[row] for row in rows],
        )


class PairReader:
    """A table of pairs or single texts, read from its start each time it is iterated over.

    Args:
        path: A table of any format that `TableReader` reads; plain lines are single texts.
        columns: Which columns to read.
        header: Whether the first line of a TSV or CSV names its columns; found when left out. Columns
            without a header are the tweet's id, the tweet, the reply's id and the reply where there are
            four, and the tweet and its reply where there are two.
        on_error: What a bad row leads to: ``fail`` raises, ``skip`` leaves it out.

    Attributes:
        path: The table.
        file: It, as it was first found.
        pairs: Whether its rows are pairs.
        unit: What `PairRows.numbers` count, ``line`` or ``row``.

    Raises:
        ConfigError: What is told of the table does not fit it, or `on_error` is unknown.
        DataError: The file cannot be read, has no such column, or does not tell which columns hold texts;
            while iterating, a bad row under ``fail``, or a change of the file.
    """

    def __init__(
        self,
        path: str | Path,
        columns: PairColumns = PairColumns(),
        *,
        reading: Reading = AS_FOUND,
        on_error: OnError = "fail",
    ) -> None:
        if on_error not in ("fail", "skip"):
            raise ConfigError(f"bad rows cannot be met with '{on_error}': choose one of fail, skip")
        self.path = path
        self.file = file = InputFile(path)
        self._columns = _resolve(file, columns, reading)
        self.pairs = self._columns.second is not None
        ids = (self._columns.first_id, self._columns.second_id)
        self._table = TableReader(
            file,
            [name for name in (self._columns.first, self._columns.second) if name is not None],
            optional=[name for name in ids if name is not None],  # a row of JSONL may lack them
            reading=self._columns.reading,
            on_error=on_error,
            chunk_rows=CHUNK_ROWS,
        )
        self.unit = self._table.unit

    @property
    def skipped(self) -> int:
        """Count the bad rows left out so far in this pass."""
        return self._table.skipped

    @property
    def first_errors(self) -> list[str]:
        """What was wrong with the first of them."""
        return self._table.first_errors

    def __iter__(self) -> Iterator[PairRows]:
        columns = self._columns
        for rows in self._table:
            unnamed = [""] * len(rows.numbers)
            yield PairRows(
                rows.numbers,
                unnamed if columns.first_id is None else rows.columns[columns.first_id],
                rows.columns[columns.first],
                unnamed if columns.second_id is None else rows.columns[columns.second_id],
                None if columns.second is None else rows.columns[columns.second],
            )


def read_pairs(
    path: str | Path,
    columns: PairColumns = PairColumns(),
    *,
    reading: Reading = AS_FOUND,
    on_error: OnError = "fail",
) -> Iterator[PairRows]:
    """Read a table of pairs or single texts once, as a stream; see `PairReader`.

    Raises:
        ConfigError: `on_error` is unknown.
        DataError: The file cannot be read or understood; while iterating, a bad row under ``fail``.
    """
    return iter(PairReader(path, columns, reading=reading, on_error=on_error))


@dataclass(frozen=True)
class _Resolved:
    """The columns of one table, by the names that its reader has for them."""

    first: str
    second: str | None
    first_id: str | None
    second_id: str | None
    reading: Reading


def _resolve(file: InputFile, columns: PairColumns, reading: Reading) -> _Resolved:
    if file.stream:
        raise DataError("pairs are read from files: save the stream to one first", file=file.path)
    kind = find_reading(file.path, reading).kind
    if kind == "txt":
        return _Resolved(TEXT_COLUMN, None, None, None, reading)
    first_line = _first_line(file, reading) if kind in DELIMITED else None
    if first_line == [""]:
        raise DataError(
            "its first line is blank: begin with the names of the columns or a row", file=file.path
        )
    if reading.header is None and first_line is not None:
        reading = replace(reading, header=_is_header(first_line, columns))
    names = TableReader(file, (), reading=reading).names
    if columns.first is not None:
        return _given(columns, names, reading)
    found = _standard(names, reading)
    if found is None:
        shown = listed_names(first_line or names)
        raise DataError(f"it cannot be told what the columns are ({shown}): {_HOW_TO_TELL}", file=file.path)
    return found


def _first_line(file: InputFile, reading: Reading) -> list[str]:
    """Give the cells of the first line."""
    table = TableReader(file, reading=replace(reading, header=False), on_error="mark", chunk_rows=1)
    return [cells[0].strip() for cells in next(iter(table)).columns.values()]


def _is_header(cells: Sequence[str], columns: PairColumns) -> bool:
    """Tell whether the first line of a TSV or CSV names its columns."""
    if columns.first is None:
        return _standard(cells, AS_FOUND) is not None
    asked = {columns.first, columns.second, columns.first_id, columns.second_id} - {None}
    numbers = {str(number) for number in range(1, len(cells) + 1)}
    return asked <= set(cells) or not asked <= numbers


def _given(columns: PairColumns, names: Sequence[str], reading: Reading) -> _Resolved:
    """Take the columns that were asked for, and find the ids that were not."""
    assert columns.first is not None
    single = columns.second is None
    first_id_names = SINGLE_ID_NAMES if single else FIRST_ID_NAMES
    return _Resolved(
        columns.first,
        columns.second,
        columns.first_id or _find(first_id_names, names),
        None if single else columns.second_id or _find(SECOND_ID_NAMES, names),
        reading,
    )


def _standard(names: Sequence[str], reading: Reading) -> _Resolved | None:
    """Find the columns by their usual names, or by their number where they have none."""
    if reading.header is False:
        if len(names) == 4:
            return _Resolved(names[1], names[3], names[0], names[2], reading)
        return _Resolved(names[0], names[1], None, None, reading) if len(names) == 2 else None
    first, second = _find(FIRST_NAMES, names), _find(SECOND_NAMES, names)
    if first is not None and second is not None:
        return _Resolved(first, second, _find(FIRST_ID_NAMES, names), _find(SECOND_ID_NAMES, names), reading)
    single = _find(SINGLE_NAMES, names)
    if single is not None and second is None:
        return _Resolved(single, None, _find(SINGLE_ID_NAMES, names), None, reading)
    return None


def _find(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    upper = {name.upper(): name for name in reversed(names)}
    return next((upper[name] for name in wanted if name in upper), None)
