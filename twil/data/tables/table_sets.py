"""Several tables read one behind another, as if they were one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError, DataError
from twil.data.tables.rows import Rows, named_columns, with_cure, without_errors
from twil.data.tables.streams import InputFile
from twil.data.tables.tables import OnError, TableReader

_SHOWN_ERRORS = 5
_WINDOW_CHARACTERS = 16 << 20


@dataclass(frozen=True)
class TableWindow:
    """Rows that are worked on together.

    Attributes:
        rows: The rows. What is wrong with a bad one begins with its place, such as ``line 3: …``.
        own: Those of them that are asked for; the others only stand beside them.
    """

    rows: Rows
    own: slice


class _Run(NamedTuple):
    """Some rows of one table."""

    path: str | Path
    rows: Rows


class TableSet:
    """Tables of one format and the same columns, whose rows are one sequence.

    Of the tables only the one that is being read is open.

    Args:
        paths: The tables, in this order, or one stream.
        columns: The columns to read, which every table has; see `TableReader`.
        kept: Columns to read behind them, which every table has, but a row of JSON may lack.
        optional: Columns to read behind these where the tables have them.
        reading: See `TableReader`.
        on_error: What a bad row leads to: ``fail`` raises, ``skip`` leaves it out, ``mark`` keeps its place.
        file_column: A column to be made, which holds the path of each row's table as it was given.

    Attributes:
        paths: The tables.
        names: Their columns.
        stream: Whether the rows come from a stream.
        bare: Whether each line of it is a text, see `TableReader`.
        skipped: Bad rows met so far in this pass, left out or marked.
        first_errors: What was wrong with the first of them, and where.

    Raises:
        ConfigError: There is no table, a stream is among several, what was told of how they are read has
            no effect on them, or there is a column of the name of `file_column`.
        DataError: A table cannot be read as asked, is there twice, or is not like the first.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        columns: Sequence[str | None],
        *,
        kept: Sequence[str] = (),
        optional: Sequence[str] = (),
        reading: Reading = AS_FOUND,
        on_error: OnError = "fail",
        file_column: str | None = None,
    ) -> None:
        if not paths:
            raise ConfigError("there is no table to read: name one")
        if file_column is not None:
            _check_file_column(file_column, paths)
        self.paths = tuple(paths)
        self.skipped = 0
        self.first_errors: list[str] = []
        self._columns: tuple[str | None, ...] = tuple(columns)
        self._options: dict[str, Any] = {"kept": kept, "optional": optional, "reading": reading}
        self._on_error = on_error
        self._file_column = file_column
        self._files = [InputFile(path) for path in paths]
        self._read = 0, 0  # rows so far, and the bytes that hold them
        if len(paths) > 1 and (streams := [file.path for file in self._files if file.stream]):
            raise ConfigError(f"{streams[0]} is a stream, which is read alone: save it to a file first")
        self._first = self._open(self._files[0])
        self._columns = named_columns(columns, self._first.names)  # in every table the same
        self._made = (*self._first.columns, *([file_column] if file_column else []))
        self.names = self._first.names
        self.stream = self._files[0].stream
        self.bare = self._first.bare
        if len(paths) > 1:
            self._check_alike()

    def count_rows(self) -> int:
        """Count the rows, bad ones too; the tables are read for that, not held.

        Raises:
            DataError: Damage makes the rest of one unreadable, or it changes.
        """
        return sum(self._open(file).count_rows() for file in self._files)

    def expected_rows(self) -> int | None:
        """Estimate how many rows there are, by those read and their share of the bytes; None of a stream."""
        size = sum(file.size or Path(file.path).stat().st_size for file in self._files if not file.stream)
        rows, position = self._read
        return round(rows / position * size) if position and not self.stream else None

    def windows(self, size: int, wanted: range | None = None, *, live: bool = False) -> Iterator[TableWindow]:
        """Yield the rows, so many at a time wherever a table ends, or fewer where these are long.

        Which rows come together does not depend on what is wanted, nor on what is done with bad rows.

        Args:
            size: Rows of a window, of which the last may have fewer.
            wanted: The rows that are asked for, counted from 0 with the bad ones among them; all when left
                out. Windows without any are not given, and nothing is said of bad rows beside them.
            live: Yield rows as they come, as of a stream whose answers are waited for.

        Raises:
            DataError: A bad row is to end the work, damage makes the rest of a table unreadable, or one is
                not, to its end, what it was when it was first looked at.
        """
        self.skipped = 0
        self.first_errors = []
        asked = range(sys.maxsize) if wanted is None else wanted
        first = 0
        for window in _windows(self._runs(), size, gathered=not live):
            rows = sum(len(run.rows.numbers) for run in window)
            start, stop = max(0, asked.start - first), min(rows, asked.stop - first)
            if start < stop:
                yield self._finish(window, start, stop)
            first += rows
            if first >= asked.stop:
                return

    def _finish(self, window: Sequence[_Run], start: int, stop: int) -> TableWindow:
        """Make one run of those of a window, once it is clear what becomes of the bad rows."""
        errors: dict[int, str] = {}
        first = 0
        for path, rows in window:
            for row in sorted(rows.errors):
                number, problem = rows.numbers[row], rows.errors[row]
                errors[first + row] = said = f"{self._place(path, number)}: {problem}"
                if not start <= first + row < stop:
                    continue
                if self._on_error == "fail":
                    raise DataError(with_cure(problem), file=path, line=number, unit=self._first.unit)
                self.first_errors += [said] if len(self.first_errors) < _SHOWN_ERRORS else []
                self.skipped += 1
            first += len(rows.numbers)
        whole = Rows(
            [number for run in window for number in run.rows.numbers],
            {name: [cell for run in window for cell in run.rows.columns[name]] for name in self._made},
            errors,
        )
        if self._on_error == "skip" and errors:
            start, stop = (end - sum(row < end for row in errors) for end in (start, stop))
            whole = without_errors(whole)
        return TableWindow(whole, slice(start, stop))

    def _place(self, path: str | Path, number: int) -> str:
        place = f"{self._first.unit} {number}"
        return f"{path}, {place}" if len(self.paths) > 1 else place

    def _runs(self) -> Iterator[_Run]:
        done, before = 0, 0
        for number, file in enumerate(self._files):
            for rows in self._open(file) if number else self._first:
                done += len(rows.numbers)
                self._read = done, before + file.position
                if self._file_column:
                    rows.columns[self._file_column] = [str(file.path)] * len(rows.numbers)
                yield _Run(file.path, rows)
            before += file.size

    def _open(self, file: InputFile) -> TableReader:
        table = TableReader(file, self._columns, on_error="mark", **self._options)
        if self._file_column in table.names:
            raise ConfigError(
                f"{file.path} has a column '{self._file_column}': call that of the files otherwise "
                "(--file-column)"
            )
        return table

    def _check_alike(self) -> None:
        """Look at every table, so that no work is done before the last is known to fit."""
        seen = {_identity(self.paths[0]): self.paths[0]}
        for file in self._files[1:]:
            table, path = self._open(file), file.path
            if other := seen.get(_identity(path)):
                named = "is named twice" if str(other) == str(path) else f"is the same file as {other}"
                raise DataError(f"{named}, and its rows would be there twice: name it once", file=path)
            seen[_identity(path)] = path
            _check_like(table, self._first)


def _check_like(table: TableReader, first: TableReader) -> None:
    """Refuse a table of another format or of other columns."""
    if table.format != first.format:
        raise DataError(
            f"is {table.format}, and {first.path} is {first.format}: tables that are read together have one "
            "format",
            file=table.path,
        )
    # A row of JSON may lack any key that is not read.
    read = first.format in ("jsonl", "json")
    mine, others = (set(each.columns if read else each.names) for each in (table, first))
    for different, said in ((others - mine, "lacks the column"), (mine - others, "has the column")):
        if different:
            raise DataError(
                f"{said} '{min(different)}', unlike {first.path}: tables that are read together have the "
                "same columns",
                file=table.path,
            )


def _identity(path: str | Path) -> tuple[int, int]:
    """Return what tells files apart whatever names or links lead to them."""
    found = Path(path).stat()
    return found.st_dev, found.st_ino


def _check_file_column(name: str, paths: Sequence[str | Path]) -> None:
    if not name:
        raise ConfigError("the column of the files has no name: give it one (--file-column)")
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"the name {str(path)!r} is no text in UTF-8, and cannot stand in a column: rename the file, "
                "or leave --file-column out"
            ) from None


def _fitting(rows: Rows, start: int, stop: int, most: int) -> tuple[int, int]:
    """Return how far rows go until they have so many characters, and how many these have."""
    columns = [cells[start:stop] for cells in rows.columns.values()]
    whole = sum(sum(map(len, cells)) for cells in columns)
    if whole <= most:
        return stop, whole
    taken = 0
    for index, row in enumerate(zip(*columns, strict=True), start + 1):
        taken += sum(map(len, row))
        if taken >= most:
            return index, taken
    return stop, taken


def _windows(runs: Iterable[_Run], size: int, *, gathered: bool) -> Iterator[list[_Run]]:
    """Cut runs into windows of at most so many rows, or fewer where these are long.

    Gathered, a window ends only where it is full.
    """
    window: list[_Run] = []
    held = characters = 0
    for path, rows in runs:
        start, count = 0, len(rows.numbers)
        while start < count:
            stop = min(count, start + size - held)
            stop, taken = _fitting(rows, start, stop, _WINDOW_CHARACTERS - characters)
            window.append(_Run(path, rows.part(start, stop)))
            held += stop - start
            characters += taken
            start = stop
            if held == size or characters >= _WINDOW_CHARACTERS or not gathered:
                yield window
                window, held, characters = [], 0, 0
    if window:
        yield window


@dataclass(frozen=True)
class Shard:
    """One of several parts of some rows, as equal as can be; one after another they are the whole.

    Attributes:
        number: Which one, counted from 1.
        count: How many there are.

    Raises:
        ConfigError: There is no such one.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        """Refuse a number that is not among them."""
        if not 1 <= self.number <= self.count:
            raise ConfigError(
                f"there is no shard {self.number}/{self.count}: of {self.count}, say 1/{self.count} "
                f"to {self.count}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it as it is written on a command line.

        Raises:
            ConfigError: It is not written so, or there is no such one.
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None or int(match[2]) == 0:
            raise ConfigError(f"'{text}' is no shard: write 2/8 for the second of eight")
        return cls(int(match[1]), int(match[2]))

    def rows(self, total: int) -> range:
        """Tell which rows are in it, counted from 0, of so many."""
        begin, end = (number * total // self.count for number in (self.number - 1, self.number))
        return range(begin, end)
