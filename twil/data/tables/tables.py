"""Tables read and written as streams: TSV, CSV, JSONL, Parquet and plain lines, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, Self

from twil.config.memory_table import MemoryTable
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError, DataError
from twil.data.tables.formats import STANDARD_STREAM, TEXT_COLUMN, TableFormat, find_format, find_reading
from twil.data.tables.memory import MemorySource
from twil.data.tables.readers import LineSource, open_source
from twil.data.tables.rows import (
    Cells,
    Rows,
    RowSource,
    check_once,
    missing_column,
    named_columns,
    with_cure,
    without_errors,
)
from twil.data.tables.streams import InputFile, open_output
from twil.data.tables.writers import Sink, make_sink

__all__ = ["TEXT_COLUMN", "Cells", "OnError", "Rows", "TableReader", "TableWriter", "without_errors"]

OnError = Literal["fail", "skip", "mark"]

_SHOWN_ERRORS = 5
NOTHING: Mapping[str, str] = MappingProxyType({})


class TableReader:
    """A table, read from its start each time it is iterated over (a stream: once).

    What is missing in JSON and Parquet, null or the number NaN, is an empty cell; the word NaN is a text.

    Args:
        path: The table, or ``-`` for standard input; an `InputFile` where it is read elsewhere, too; or a
            table in memory.
        columns: The columns to read, in this order; all when left out. None among them stands for the column
            of the texts, `TEXT` or another name that `named_columns` knows. Names with commas between them
            are one column, whose cell is the first of theirs that is not empty.
        kept: Columns to read behind them, which the table has, but a row of JSON may lack.
        optional: Columns to read behind these where the table has them; a row of JSON may lack the key.
        joined: Columns whose lists, in JSON and Parquet, become cells, and what is put between the items.
        reading: How it is read, as far as its name and its first line do not tell. A name in ``.csv`` may
            hold commas, semicolons or tabs, which its header line tells; the last is read as TSV.
        on_error: What a bad row leads to: ``fail`` raises, ``skip`` leaves it out, ``mark`` keeps its
            place with empty cells and an entry in `Rows.errors`.
        chunk_rows: The most rows in a run.

    Attributes:
        path: The table.
        file: It, as it was first found.
        format: Its format, such as ``tsv``, or ``memory``.
        bare: Whether it is standard input whose first line cannot be a header, so that each line is a text.
        names: The columns found.
        columns: Those of them that are read.
        hint: What may be behind a column that is not there, to be put behind the message.
        unit: What `Rows.numbers` count: ``line``, or ``row`` where a table has no lines.
        skipped: Bad rows met so far in this pass, left out or marked.
        first_errors: What was wrong with the first of them.

    Raises:
        ConfigError: The format is unknown, or what was told of it has no effect on it.
        DataError: The file is absent, empty, no such table, has no such column or several; while iterating,
            a bad row under ``fail``, damage that makes the rest unreadable, or a change of the file.
    """

    def __init__(
        self,
        path: str | Path | InputFile | MemoryTable,
        columns: Sequence[str | None] | None = None,
        *,
        kept: Sequence[str] = (),
        optional: Sequence[str] = (),
        joined: Mapping[str, str] = NOTHING,
        reading: Reading = AS_FOUND,
        on_error: OnError = "fail",
        chunk_rows: int = 4096,
    ) -> None:
        self.file = path if isinstance(path, InputFile | MemoryTable) else InputFile(path)
        self.path = self.file.name if isinstance(self.file, MemoryTable) else self.file.path
        needed = None if columns is None else (*columns, *kept)
        # Whoever names a column, or says how the table is read, knows what its first line is.
        untold = not reading.is_told and list(columns or ()) == [None]
        may_be_bare = untold and str(self.path) == STANDARD_STREAM
        self.bare = False
        if isinstance(self.file, MemoryTable):
            self._source: RowSource = MemorySource(self.file, joined)
            self.format = "memory"
        else:
            form = find_reading(self.path, reading)
            self._source = open_source(
                self.file,
                form,
                None if needed is None else (*needed, *optional),
                may_lack=[name for name in (*kept, *optional) if columns is not None and name not in columns],
                joined=joined,
                bare=may_be_bare,
            )
            self.bare = may_be_bare and isinstance(self._source, LineSource)
            self.format = "txt" if self.bare else form.kind
        self.names = self._source.names
        self.hint = self._source.hint
        self.unit = self._source.unit
        self.skipped = 0
        self.first_errors: list[str] = []
        found = [name for name in optional if name in self.names]
        wanted = self.names if needed is None else named_columns(needed, self.names, self.path, self.hint)
        self.columns = tuple(dict.fromkeys((*wanted, *found)))
        self._merged = {name: parts for name in wanted if (parts := self._alternatives(name))}
        for name in self.columns:
            if name not in self.names and name not in self._merged:
                raise DataError(missing_column(name, self.names) + self.hint, file=self.path)
        check_once([*self.columns, *chain(*self._merged.values())], self.names, self.path)
        self._on_error = on_error
        self._chunk_rows = chunk_rows

    def narrow(self, columns: Sequence[str]) -> None:
        """Read no others than these of the columns that were asked for."""
        self.columns = tuple(name for name in self.columns if name in columns)

    def __iter__(self) -> Iterator[Rows]:
        self.skipped = 0
        self.first_errors = []
        for rows in self._read():
            if not rows.errors:
                yield rows
                continue
            self._count(rows)
            kept = rows if self._on_error == "mark" else without_errors(rows)
            if kept.numbers:
                yield kept

    def _alternatives(self, name: str) -> tuple[str, ...]:
        """List the columns that are there of several with commas between their names."""
        parts = [part.strip() for part in name.split(",")] if "," in name and name not in self.names else []
        return tuple(part for part in parts if part in self.names)

    def _read(self) -> Iterator[Rows]:
        """Yield rows, several columns made one where that is asked for."""
        if not self._merged:
            yield from self._source.read(self.columns, self._chunk_rows)
            return
        parts = [part for name in self.columns for part in self._merged.get(name, (name,))]
        for rows in self._source.read(list(dict.fromkeys(parts)), self._chunk_rows):
            columns = dict(rows.columns)
            for name, found in self._merged.items():
                cells = zip(*(rows.columns[part] for part in found), strict=True)
                columns[name] = [next(filter(None, row), "") for row in cells]
            yield Rows(rows.numbers, {name: columns[name] for name in self.columns}, rows.errors)

    def count_rows(self) -> int:
        """Count the rows, bad ones too; the table is read for that, not held.

        Raises:
            DataError: Damage makes the rest unreadable, or the file changes.
        """
        return sum(len(rows.numbers) for rows in self._source.read((), self._chunk_rows))

    def _count(self, rows: Rows) -> None:
        for index in sorted(rows.errors):
            number, problem = rows.numbers[index], rows.errors[index]
            if self._on_error == "fail":
                raise DataError(with_cure(problem), file=self.path, line=number, unit=self.unit)
            if len(self.first_errors) < _SHOWN_ERRORS:
                self.first_errors.append(f"{self.unit} {number}: {problem}")
        self.skipped += len(rows.errors)


def check_safe(path: str | Path, form: TableFormat, *, safe: bool) -> None:
    """Refuse to guard the cells of a table that no spreadsheet computes.

    Raises:
        ConfigError: It is no CSV.
    """
    if safe and form.kind != "csv":
        raise ConfigError(f"--safe-cells would have no effect on {path}: only with CSV")


class TableWriter:
    """A table that appears under its name once the ``with`` block has ended well, and not at all otherwise.

    A float that is NaN is a missing value: empty in TSV and CSV, null in JSONL and Parquet. Other
    floats have 6 significant digits in text formats and are float32 in Parquet.

    Args:
        path: The table, or ``-`` for standard output (written as it comes).
        columns: The name of each column and its type, ``str`` or ``float``.
        format: The format, where the ending of `path` does not tell it.
        safe: Write ``'`` before cells that a spreadsheet would take for formulas, in a CSV.

    Attributes:
        path: The table.
        format: Its format, such as ``tsv``.
        formulas: Cells of a CSV that begin with = + - or @ and are no numbers.
        altered: Cells in which a tab or a line break became a blank because TSV or plain lines cannot
            hold them.

    Raises:
        ConfigError: `format` is unknown, or `safe` has no effect on it.
        DataError: The name tells no format that is written, the file may not be written, or plain lines are
            asked to hold several columns.
        TwilError: There is no such folder.
    """

    def __init__(
        self,
        path: str | Path,
        columns: Mapping[str, type],
        *,
        format: str | None = None,  # noqa: A002 - the word of the command line
        safe: bool = False,
    ) -> None:
        self._form = find_format(path, format)
        self._safe = safe
        check_safe(path, self._form, safe=safe)
        self.path = path
        self.format = self._form.kind
        self._columns = dict(columns)
        self._stack = ExitStack()
        self._sink: Sink | None = None
        if self.format == "json":
            raise DataError("rows of JSON are written one on each line: call it .jsonl", file=path)
        if self.format == "txt" and len(columns) != 1:
            raise DataError(f"plain lines hold one column, not {len(columns)}: write a .tsv", file=path)

    @property
    def altered(self) -> int:
        """Count the cells that the format could not hold as they were."""
        return self._sink.altered if self._sink else 0

    @property
    def formulas(self) -> int:
        """Count the cells that a spreadsheet takes for formulas."""
        return self._sink.formulas if self._sink else 0

    def __enter__(self) -> Self:
        with self._stack as stack:
            file = stack.enter_context(open_output(self.path, self._form.compression))
            self._sink = make_sink(self.format, file, self._columns, safe=self._safe)
            self._stack = stack.pop_all()
        return self

    def write(self, columns: Mapping[str, Cells]) -> None:
        """Append rows.

        Args:
            columns: The cells of every column of the table, all of one length.

        Raises:
            ValueError: A column is missing, unknown, or of another length.
        """
        if columns.keys() != self._columns.keys() or len({len(cells) for cells in columns.values()}) > 1:
            raise ValueError(f"the columns {list(self._columns)} are wanted, all of one length")
        self._open_sink.write({name: columns[name] for name in self._columns})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._open_sink.abandon()
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._open_sink.finish()

    @property
    def _open_sink(self) -> Sink:
        if self._sink is None:
            raise ValueError("a TableWriter is written to inside its with block")
        return self._sink
