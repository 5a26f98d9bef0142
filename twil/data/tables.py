"""Tables read and written as streams: TSV, CSV, JSONL, Parquet and plain lines, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from twil.data.formats import STANDARD_STREAM, TEXT_COLUMN, find_format
from twil.data.rows import Cells, Rows, missing_column, named_columns, with_cure, without_errors
from twil.data.sinks import Sink, make_sink
from twil.data.sources import LineSource, open_source
from twil.data.streams import InputFile, open_output
from twil.errors import DataError

__all__ = ["TEXT_COLUMN", "Cells", "OnError", "Rows", "TableReader", "TableWriter", "without_errors"]

OnError = Literal["fail", "skip", "mark"]

_SHOWN_ERRORS = 5


class TableReader:
    """A table, read from its start each time it is iterated over (a stream: once).

    What is missing in JSONL and Parquet, null or the number NaN, is an empty cell; the word NaN is a text.

    Args:
        path: The table, or ``-`` for standard input; an `InputFile` where it is read elsewhere, too.
        columns: The columns to read, in this order; all when left out. None among them stands for the column
            of the texts, `TEXT` or another name that `named_columns` knows.
        optional: Columns to read behind them where the table has them; a row of JSONL may lack the key.
        format: The format (``tsv``, ``csv``, ``jsonl``, ``parquet``, ``txt``, also ``tsv.gz`` and the
            like) where the ending of `path` does not tell it. A name in ``.csv`` may hold commas,
            semicolons, or tabs, which its header line tells; the last is read as TSV.
        header: False when the first line of a TSV or CSV is a row; its columns are then called ``1``,
            ``2``, ... The other formats name their columns themselves.
        on_error: What a bad row leads to: ``fail`` raises, ``skip`` leaves it out, ``mark`` keeps its
            place with empty cells and an entry in `Rows.errors`.
        chunk_rows: The most rows in a run.

    Attributes:
        path: The table.
        format: Its format, such as ``tsv``.
        bare: Whether it is standard input whose first line cannot be a header, so that each line is a text.
        names: The columns found.
        columns: Those of them that are read.
        unit: What `Rows.numbers` count: ``line``, or ``row`` where a table has no lines.
        skipped: Bad rows met so far in this pass, left out or marked.
        first_errors: What was wrong with the first of them.

    Raises:
        ConfigError: `format` is unknown.
        DataError: The file is absent, empty, no such table, or has no such column; while iterating,
            a bad row under ``fail``, damage that makes the rest unreadable, or a change of the file.
    """

    def __init__(
        self,
        path: str | Path | InputFile,
        columns: Sequence[str | None] | None = None,
        *,
        optional: Sequence[str] = (),
        format: str | None = None,  # noqa: A002 - the word of the command line
        header: bool | None = None,
        on_error: OnError = "fail",
        chunk_rows: int = 4096,
    ) -> None:
        file = path if isinstance(path, InputFile) else InputFile(path)
        self.path = file.path
        form = find_format(self.path, format)
        named = None if columns is None else (*columns, *optional)
        # Whoever names a column, a format or the header knows that there is one.
        untold = (format, header, *(columns or ())) == (None, None, None)
        may_be_bare = untold and str(self.path) == STANDARD_STREAM
        may_lack = [name for name in optional if columns is not None and name not in columns]
        self._source = open_source(
            file, form, named, optional=may_lack, header=header is not False, bare=may_be_bare
        )
        self.bare = may_be_bare and isinstance(self._source, LineSource)
        self.format = "txt" if self.bare else form.kind
        self.names = self._source.names
        self.unit = self._source.unit
        self.skipped = 0
        self.first_errors: list[str] = []
        found = [name for name in optional if name in self.names]
        wanted = self.names if columns is None else named_columns(columns, self.names, self.path)
        self.columns = tuple(dict.fromkeys((*wanted, *found)))
        self._on_error = on_error
        self._chunk_rows = chunk_rows
        for name in self.columns:
            if name not in self.names:
                raise DataError(missing_column(name, self.names), file=self.path)

    def __iter__(self) -> Iterator[Rows]:
        self.skipped = 0
        self.first_errors = []
        for rows in self._source.read(self.columns, self._chunk_rows):
            if not rows.errors:
                yield rows
                continue
            self._count(rows)
            kept = rows if self._on_error == "mark" else without_errors(rows)
            if kept.numbers:
                yield kept

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
                raise DataError(with_cure(problem), file=self.path, line=number)
            if len(self.first_errors) < _SHOWN_ERRORS:
                self.first_errors.append(f"{self.unit} {number}: {problem}")
        self.skipped += len(rows.errors)


class TableWriter:
    """A table that appears under its name once the ``with`` block has ended well, and not at all otherwise.

    A float that is NaN is a missing value: empty in TSV and CSV, null in JSONL and Parquet. Other
    floats have 6 significant digits in text formats and are float32 in Parquet.

    Args:
        path: The table, or ``-`` for standard output (written as it comes).
        columns: The name of each column and its type, ``str`` or ``float``.
        format: The format, where the ending of `path` does not tell it.

    Attributes:
        path: The table.
        format: Its format, such as ``tsv``.
        altered: Cells in which a tab or a line break became a blank because TSV or plain lines cannot
            hold them.

    Raises:
        ConfigError: `format` is unknown.
        DataError: The name tells no format, the file may not be written, or plain lines are asked to
            hold several columns.
        TwilError: There is no such folder.
    """

    def __init__(
        self,
        path: str | Path,
        columns: Mapping[str, type],
        *,
        format: str | None = None,  # noqa: A002 - the word of the command line
    ) -> None:
        self._form = find_format(path, format)
        self.path = path
        self.format = self._form.kind
        self._columns = dict(columns)
        self._stack = ExitStack()
        self._sink: Sink | None = None
        if self.format == "txt" and len(columns) != 1:
            raise DataError(f"plain lines hold one column, not {len(columns)}: write a .tsv", file=path)

    @property
    def altered(self) -> int:
        """Count the cells that the format could not hold as they were."""
        return self._sink.altered if self._sink else 0

    def __enter__(self) -> Self:
        with self._stack as stack:
            file = stack.enter_context(open_output(self.path, self._form.compression))
            self._sink = make_sink(self.format, file, self._columns)
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
