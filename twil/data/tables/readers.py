"""The rows of a table, format by format: every source streams and marks its bad rows.

What to do about bad rows is not decided here but in `twil.data.tables.tables`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import StringIO
from itertools import islice
from typing import Any

from twil.core.errors import DataError
from twil.data.tables.formats import LIKELY_COLUMNS, TEXT_COLUMN, TableFormat
from twil.data.tables.rows import QUOTED, SURROGATE, BadRowError, Rows, RowSource, join_items, with_cure
from twil.data.tables.streams import (
    BOM,
    ByteBlocks,
    InputFile,
    TextBlock,
    plain_text,
    text_blocks,
)

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?')
"""A first line by which Excel tells the delimiter."""
_DELIMITERS = "\t,;|"
_EXPECTED = ", expected {}"
_NOT_BLANK = re.compile(r"\S")
_MISSING, _DOUBLED = object(), object()
_LONGEST_MARK = 16  # of JSON, such as an escaped character or -Infinity
_RUN_CHARACTERS = 16 << 20
"""What is held of a table at a time, rows that are begun included."""


def open_source(
    file: InputFile,
    form: TableFormat,
    columns: Sequence[str | None] | None = None,
    *,
    may_lack: Sequence[str] = (),
    joined: Mapping[str, str],
    bare: bool = False,
) -> RowSource:
    """Open a table and find its columns.

    Args:
        file: The table.
        form: How it is written.
        columns: Those that are going to be read, see `named_columns`; all when left out.
        may_lack: Those of them whose cell is empty in a row of JSON that lacks the key.
        joined: Columns whose lists become cells, and what is put between the items.
        bare: A TSV whose first line cannot be a header is read as plain lines.

    Raises:
        DataError: It cannot be read, or is not of this format.
    """
    if form.kind == "parquet":
        from twil.data.tables.parquet import (
            ParquetSource,  # Arrow takes long to import, and most tables are text
        )

        return ParquetSource(file, columns, joined, form.reading)
    blocks = ByteBlocks(file, form.compression, form.reading, by_line=form.kind != "json")
    if form.kind == "txt":
        return LineSource(blocks)
    if form.kind in ("jsonl", "json"):
        is_array = form.kind == "json" and blocks.head.removeprefix(BOM).lstrip().startswith(b"[")
        return (ArraySource if is_array else JsonSource)(blocks, columns, may_lack, joined)
    if bare and not _may_name_columns(_first_line(blocks, strict=True)):
        return LineSource(blocks)
    return _open_cells(blocks, form)


def _open_cells(blocks: ByteBlocks, form: TableFormat) -> RowSource:
    """Open a table of cells with a delimiter between them."""
    first, header = _first_line(blocks, strict=form.header), form.header
    told = _SEPARATOR_LINE.fullmatch(first) if form.kind == "csv" else None
    if told:
        line = _first_line(blocks, strict=header, skip=1)
        delimiter = form.reading.delimiter or told[1]
    else:
        line = first
        usual = "\t" if form.kind == "tsv" else _find_delimiter(line, header=header, tabs=form.sniffed)
        delimiter = form.reading.delimiter or usual
    if header and not line.strip():
        raise DataError(
            "its first line is blank, and should name the columns: delete it, or say that it is a row "
            "(--no-header)",
            file=blocks.path,
        )
    is_csv = form.kind == "csv" and (delimiter != "\t" or form.reading.delimiter is not None)
    make = CsvSource if is_csv or form.reading.quoted else TsvSource
    return make(blocks, delimiter, header=header, skip=1 if told else 0)


class LineSource:
    """One text per physical line."""

    names: tuple[str, ...] = (TEXT_COLUMN,)
    unit = "line"
    hint = ""

    def __init__(self, blocks: ByteBlocks) -> None:
        self._blocks = blocks

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every line as a text."""
        for first, lines, fault in _line_runs(self._blocks, chunk_rows):
            errors = {index: fault for index, line in enumerate(lines) if fault and SURROGATE.search(line)}
            for index in errors:
                lines[index] = ""
            yield Rows(_numbers(first, lines), dict.fromkeys(columns, lines), errors)


class TsvSource:
    """Cells between tabs, or another character, one row per physical line; quotes are text."""

    unit = "line"

    def __init__(self, blocks: ByteBlocks, delimiter: str = "\t", *, header: bool, skip: int = 0) -> None:
        self._blocks = blocks
        self._delimiter = delimiter
        self._skip = skip + int(header)
        line = _first_line(blocks, strict=header, skip=skip)
        self.names = _header_names(line.split(delimiter), header=header)
        self.hint = _delimiter_hint(line, delimiter) if header else ""

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every line below the header as a row."""
        between = self._delimiter
        expected = {len(self.names) - 1}
        for first, lines, fault in _line_runs(self._blocks, chunk_rows, skip=self._skip):
            numbers = _numbers(first, lines)
            if not fault and {line.count(between) for line in lines} == expected:
                cells = between.join(lines).split(between)  # much faster than splitting line by line
                yield Rows(numbers, {name: self._column(cells, name) for name in columns})
                continue
            rows = [line.split(between) for line in lines]
            found = _checked_rows(numbers, rows, self.names, columns, fault=fault)
            for index, problem in found.errors.items():
                if (
                    problem.endswith(_EXPECTED.format(len(self.names)))
                    and f'{between}"' in between + lines[index]
                ):
                    found.errors[index] = f"{problem}; {QUOTED}"
            yield found

    def _column(self, cells: list[str], name: str) -> list[str]:
        return cells[self.names.index(name) :: len(self.names)]


class CsvSource:
    """Cells between commas, or another character, quoted as in RFC 4180; such a cell may hold line breaks."""

    unit = "line"

    def __init__(self, blocks: ByteBlocks, delimiter: str, *, header: bool, skip: int = 0) -> None:
        self._blocks = blocks
        self._delimiter = delimiter
        self._header = header
        self._skip = skip
        head = blocks.head.removeprefix(BOM).decode(errors="surrogateescape")
        line = _first_line(blocks, strict=header, skip=skip)
        _, first, problem = next(self._records(_CsvLines([TextBlock(1, head)], blocks, delimiter, skip)))
        if problem:
            raise DataError(with_cure(problem), file=blocks.path, line=1 + skip)
        self.names = _header_names(first or [""], header=header)
        self.hint = _delimiter_hint(line, delimiter) if header else ""

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every record below the header as a row."""
        lines = _CsvLines(text_blocks(self._blocks), self._blocks, self._delimiter, self._skip)
        records = self._records(lines)
        if self._header:
            next(records)
        while True:
            numbers: list[int] = []
            rows: list[list[str]] = []
            broken: dict[int, str] = {}
            passed = lines.characters
            for number, row, problem in records:
                if problem:
                    broken[len(rows)] = problem
                numbers.append(number)
                rows.append(row)
                if len(rows) == chunk_rows or lines.characters - passed >= _RUN_CHARACTERS:
                    break
            if not rows:
                return
            yield _checked_rows(numbers, rows, self.names, columns, broken=broken)

    def _records(self, lines: _CsvLines) -> Iterator[tuple[int, list[str], str]]:
        """Yield the line where each record starts, its cells, and what is wrong with it."""
        # Strict, since the lenient parser drops quotes without a word.
        csv.field_size_limit(max(csv.field_size_limit(), self._blocks.longest))
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            start = self._skip + reader.line_num + 1
            problem = ""
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._refuse_open_quote(lines.pending.getvalue(), start)
                row, problem = [], _csv_problem(error)
            except _TooLongError:
                self._refuse_open_quote(lines.pending.getvalue(), start)
                # What follows may be in quotes that such a line has opened.
                raise DataError(self._blocks.too_long, file=self._blocks.path, line=start) from None
            if lines.fault and SURROGATE.search("".join(row)):
                problem = lines.fault
            lines.pending = StringIO()
            yield start, row, problem

    def _refuse_open_quote(self, record: str, start: int) -> None:
        # What follows such a quote cannot be told from what it swallowed: no row below it is sure.
        separator = re.escape(self._delimiter)
        quoted = r'"[^"]*(?:""[^"]*)*"'
        closed = re.compile(f'(?:{quoted}|[^"{separator}][^{separator}]*)?{separator}')
        end = 0
        while match := closed.match(record, end):
            end = match.end()
        if record.startswith('"', end) and not re.compile(quoted).match(record, end):
            raise DataError(
                "a quote opens a cell here and is not closed, to the end of the file or as far as a row is "
                f"read ({self._blocks.longest >> 20:,} MiB): close or double it, or save the table as TSV",
                file=self._blocks.path,
                line=start + record.count("\n", 0, end),
            )


class JsonSource:
    """One JSON object per physical line; the keys of the first lines are the columns.

    A name with dots that is no key itself reaches into objects, as `user.name` does; of names with commas
    between them the first is taken that a row has. A blank line is a row of
    empty cells, as in the other formats.

    Args:
        blocks: The bytes of the table.
        columns: Those that are going to be read; all when left out.
        may_lack: Those of them whose cell is empty in a row that lacks the key.
        joined: Those whose lists become cells, and what is put between the items.
    """

    unit = "line"
    hint = ""

    def __init__(
        self,
        blocks: ByteBlocks,
        columns: Sequence[str | None] | None,
        may_lack: Sequence[str],
        joined: Mapping[str, str],
    ) -> None:
        self._blocks = blocks
        self._joined = joined
        self._may_lack = frozenset(may_lack)
        # Numbers keep their digits: an id of 19 would not survive as a float.
        self._decoder = json.JSONDecoder(
            parse_float=str, parse_int=str, parse_constant=_json_constant, object_pairs_hook=_json_object
        )
        self.names = self._find_names([name for name in columns or () if name is not None])
        if columns is None:
            self._may_lack = frozenset(self.names)

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every line as a row."""
        for first, lines, fault in _line_runs(self._blocks, chunk_rows):
            rows: list[list[str]] = []
            errors: dict[int, str] = {}
            for index, line in enumerate(lines):
                try:
                    if fault and SURROGATE.search(line):
                        raise BadRowError(fault)
                    blank = _is_blank(line)
                    rows.append([""] * len(columns) if blank else self._cells(self._object(line), columns))
                except BadRowError as error:
                    errors[index] = str(error)
                    rows.append([""] * len(columns))
            yield Rows(_numbers(first, lines), _transpose(rows, columns), errors)

    def _cells(self, value: dict[Any, Any], columns: Sequence[str]) -> list[str]:
        doubled = value.get(_DOUBLED, ())
        cells: list[str] = []
        for name in columns:
            cell = _find(value, name)
            if cell is _MISSING and name not in self._may_lack:
                raise BadRowError(f"no key '{name}'")
            if name in doubled:
                raise BadRowError(f"the key '{name}' is there twice")
            if type(cell) is not str:
                cell = "" if cell is _MISSING else _json_text(cell, name, self._joined.get(name))
            # Half of an escaped pair is valid JSON but no text that UTF-8 can hold.
            elif not cell.isascii() and SURROGATE.search(cell):
                raise BadRowError("an escape \\ud800 to \\udfff that is only half a character")
            cells.append(cell)
        return cells

    def _object(self, line: str) -> dict[Any, Any]:
        try:
            value = self._decoder.decode(line)
        except json.JSONDecodeError as error:
            raise BadRowError(f"not JSON: {error.msg} at character {error.colno}") from None
        except RecursionError:
            raise BadRowError("nested too deeply") from None
        return _checked_object(value)

    def _find_names(self, asked: Sequence[str]) -> tuple[str, ...]:
        problem = ""
        objects = []
        for line in self._blocks.head.removeprefix(BOM).decode(errors="surrogateescape").split("\n"):
            try:
                if not _is_blank(line):
                    objects.append(self._object(line))
            except BadRowError as error:
                problem = problem or str(error)
        if not objects:
            problem = problem or "only blank lines at its start"
            raise DataError(f"{problem}: JSONL has one object per line", file=self._blocks.path, line=1)
        return _json_names(objects, asked)


class ArraySource(JsonSource):
    """An array of JSON objects, each a row, wherever the lines end."""

    unit = "row"

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every object as a row."""
        first = 1
        text = _GrowingText(plain_text(self._blocks), self._blocks)
        values = self._values(text)
        while batch := self._run(values, text, chunk_rows):
            rows: list[list[str]] = []
            errors: dict[int, str] = {}
            for index, value in enumerate(batch):
                try:
                    rows.append(self._cells(_checked_object(value), columns))
                except BadRowError as error:
                    errors[index] = str(error)
                    rows.append([""] * len(columns))
            yield Rows(list(range(first, first + len(rows))), _transpose(rows, columns), errors)
            first += len(rows)

    def _find_names(self, asked: Sequence[str]) -> tuple[str, ...]:
        head = self._blocks.head.removeprefix(BOM).decode(errors="ignore")  # it ends anywhere
        objects: list[dict[Any, Any]] = []
        with suppress(DataError):
            text = _GrowingText(iter([head]), self._blocks)
            objects.extend(value for value in self._values(text) if isinstance(value, dict))
        if not objects and not self._blocks.stream:  # the first is larger
            first = next(self._values(_GrowingText(plain_text(self._blocks), self._blocks)), None)
            objects += [first] if isinstance(first, dict) else []
        if not objects:
            raise DataError("no object in the array at its start can be read", file=self._blocks.path)
        return _json_names(objects, asked)

    @staticmethod
    def _run(values: Iterator[Any], text: _GrowingText, rows: int) -> list[Any]:
        """Take so many values, or fewer where these are large."""
        run: list[Any] = []
        most = text.passed + _RUN_CHARACTERS
        while len(run) < rows and text.passed < most and (taken := list(islice(values, 1))):
            run += taken
        return run

    def _values(self, text: _GrowingText) -> Iterator[Any]:
        """Decode one value after another, with as little of the text in memory as that takes."""
        text.skip("[")
        rows = 0
        while (mark := text.next()) != "]":
            if rows and mark != ",":
                problem = "there is no comma" if mark else "the array ends"
                raise DataError(f"not JSON: {problem} behind row {rows:,}", file=self._blocks.path)
            if rows:
                text.skip(",")
            rows += 1
            try:
                yield text.decode(self._decoder)
            except json.JSONDecodeError as error:
                raise DataError(f"not JSON: {error.msg}, in row {rows:,}", file=self._blocks.path) from None
            except RecursionError:
                raise DataError(f"nested too deeply, in row {rows:,}", file=self._blocks.path) from None
        text.skip("]")
        if text.next():
            raise DataError("not JSON: there is more behind the end of the array", file=self._blocks.path)


class _GrowingText:
    """Text that comes in parts, gone through once.

    Args:
        parts: The parts.
        blocks: Where they come from.

    Attributes:
        passed: Characters of the text that are no longer held.
    """

    def __init__(self, parts: Iterator[str], blocks: ByteBlocks) -> None:
        self.passed = 0
        self._parts = parts
        self._blocks = blocks
        self._text, self._place = "", 0

    def next(self) -> str:
        """Give the next character that is no blank, without passing it; nothing at the end."""
        while True:
            found = _NOT_BLANK.search(self._text, self._place)
            if found:
                self._place = found.start()
                return found[0]
            if not self._grow():
                return ""

    def skip(self, mark: str) -> None:
        """Pass a character that is there."""
        if self.next() == mark:
            self._place += 1

    def decode(self, decoder: json.JSONDecoder) -> Any:
        """Decode the next value.

        Raises:
            json.JSONDecodeError: It is none, to the end of the text.
            RecursionError: It is nested too deeply.
        """
        self.next()
        while True:
            try:
                value, self._place = decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                # More of the text mends what is wrong at its end, or a text that has none yet.
                may_be_cut = error.pos >= len(self._text) - _LONGEST_MARK or "Unterminated" in error.msg
                if not (may_be_cut and self._grow()):
                    raise
            else:
                return value

    def _grow(self) -> bool:
        """Get more of the text, as much as is kept of it, so that no value is decoded often."""
        kept = self._text[self._place :]
        if len(kept) > self._blocks.longest:
            raise DataError(f"holds a row that is {self._blocks.too_long}", file=self._blocks.path)
        self.passed += self._place
        parts, length = [kept], 0
        while length <= len(kept) and (part := next(self._parts, "")):
            parts.append(part)
            length += len(part)
        self._text, self._place = "".join(parts), 0
        return length > 0


class _TooLongError(Exception):
    """A record is longer than is read."""


class _CsvLines:
    """Physical lines for the parser but for the first so many, those of the record it is in kept at hand.

    Attributes:
        pending: The lines since it was last set anew.
        characters: Those of all lines so far.
        fault: What is wrong with lines of the record that hold lone surrogates; None where none does.
    """

    def __init__(self, runs: Iterable[TextBlock], blocks: ByteBlocks, delimiter: str, skip: int = 0) -> None:
        self.pending = StringIO()
        self.characters = 0
        self.fault: str | None = None
        self._blocks = blocks
        self._delimiter = delimiter
        self._lines = islice(self._split(runs), skip, None)

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _stand_in(self, text: str) -> str:
        """Give what stands for a line that is too long, where it does not leave a quote open."""
        before, quote, rest = text.partition('"')
        begins_cell = not before or before.endswith(self._delimiter)
        if self.pending.tell() or (quote and not (begins_cell and rest.startswith('"'))):
            raise _TooLongError
        return "\udcff\n"

    def _split(self, runs: Iterable[TextBlock]) -> Iterator[str]:
        for run in runs:
            text = self._stand_in(run.text) if run.fault == self._blocks.too_long else run.text
            # A record goes on in lines of another run only inside quotes.
            self.fault = run.fault or (self.fault if self.pending.tell() else None)
            for line in text.removesuffix("\n").split("\n"):
                whole = line + "\n"
                if self.pending.tell() + len(whole) > self._blocks.longest:
                    raise _TooLongError
                self.characters += len(whole)
                self.pending.write(whole)
                yield whole


def _line_runs(
    blocks: ByteBlocks, chunk_rows: int, *, skip: int = 0
) -> Iterator[tuple[int, list[str], str | None]]:
    """Yield runs of lines without their ends: the first one's number, the lines, what is wrong with some."""
    for block in text_blocks(blocks):
        text = block.text.replace("\r\n", "\n") if "\r" in block.text else block.text
        lines = text.split("\n")
        lines.pop()  # what follows the last line's end
        for start in range(skip if block.first == 1 else 0, len(lines), chunk_rows):
            yield block.first + start, lines[start : start + chunk_rows], block.fault


def _checked_rows(
    numbers: list[int],
    rows: list[list[str]],
    names: Sequence[str],
    columns: Sequence[str],
    *,
    fault: str | None = None,
    broken: dict[int, str] | None = None,
) -> Rows:
    """Turn rows into columns; those that do not fit are marked and emptied.

    A blank line is a row of empty cells, so that no row of the file is lost.

    Args:
        numbers: Of their lines.
        rows: Their cells.
        names: The columns of the table.
        columns: Those that are read.
        fault: What is wrong with rows that hold lone surrogates; None where none does.
        broken: What is wrong with rows, by their places.
    """
    errors = broken or {}
    blank = [""] * len(names)
    for index, row in enumerate(rows):
        if index in errors or row in ([], [""]):
            rows[index] = blank
        elif fault and SURROGATE.search("".join(row)):
            errors[index] = fault
            rows[index] = blank
        elif len(row) != len(names):
            errors[index] = _fields(len(row)) + _EXPECTED.format(len(names))
            rows[index] = blank
    cells = list(map(list, zip(*rows, strict=True))) if rows else [[] for _ in names]
    return Rows(numbers, {name: cells[names.index(name)] for name in columns}, errors)


def _transpose(rows: list[list[str]], names: Sequence[str]) -> dict[str, list[str]]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows and names else {}


def _numbers(first: int, lines: list[str]) -> list[int]:
    return list(range(first, first + len(lines)))


def _is_blank(line: str) -> bool:
    return not line or line.isspace()


def _fields(number: int) -> str:
    return "1 field" if number == 1 else f"{number} fields"


def _first_line(blocks: ByteBlocks, *, strict: bool, skip: int = 0) -> str:
    """Read the first line behind some; refuse a header that is no text, where other rows may be bad."""
    lines = blocks.head.removeprefix(BOM).split(b"\n", skip + 1)
    line = lines[skip] if skip < len(lines) else b""
    try:
        return line.decode(errors="strict" if strict else "surrogateescape").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{blocks.not_text} (byte {error.start + 1}): {blocks.cure}",
            file=blocks.path,
            line=1 + skip,
        ) from None


def _find_delimiter(line: str, *, header: bool, tabs: bool) -> str:
    """Tell by a first line what stands between the cells of a CSV."""
    line = re.sub(r'"[^"]*"', "", line)  # what is quoted separates nothing
    # TWilBERT: its tables are called .csv but hold tabs and bare quotes, which a CSV parser would eat.
    # Without a header the first line is data, in which a comma says nothing.
    if tabs and "\t" in line and not (header and "," in line):
        return "\t"
    if header:
        return max(",;|", key=line.count)  # of equals the first
    return ";" if ";" in line and "," not in line else ","


def _delimiter_hint(line: str, delimiter: str) -> str:
    """Name what else may stand between the cells of a header that lacks a column."""
    found = [mark for mark in _DELIMITERS if mark in line and mark != delimiter]
    if not found:
        return ""
    taken, other = (json.dumps(mark) if mark != "\t" else "a tab" for mark in (delimiter, found[0]))
    told = "tab" if found[0] == "\t" else f"'{found[0]}'"
    return f"; {taken} is taken to stand between cells, and {other} is there, too (--delimiter {told})"


def _may_name_columns(line: str) -> bool:
    """Tell whether a first line may be a header, of whatever format, or a row of JSONL, and no text alone."""
    cells = {cell.strip(' "').casefold() for cell in re.split("[\t,;]", line)}
    known = {name.casefold() for name in ("ID", TEXT_COLUMN, *LIKELY_COLUMNS)}
    return "\t" in line or not cells.isdisjoint(known) or line.startswith('{"')


def _header_names(cells: list[str], *, header: bool) -> tuple[str, ...]:
    if not header:
        return tuple(str(number) for number in range(1, len(cells) + 1))
    return tuple(cell.strip() for cell in cells)


def _csv_problem(error: csv.Error) -> str:
    message = str(error)
    if message.startswith("new-line"):
        return "a carriage return outside quotes"
    if message.endswith("after '\"'"):
        return "text after a closing quote: a quote inside a quoted cell is doubled"
    return f"not CSV: {message}"


def _json_object(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    """Make an object, in which `_DOUBLED` holds the keys that are there twice."""
    value: dict[Any, Any] = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        value[_DOUBLED] = {key for key in value if keys.count(key) > 1}
    return value


def _checked_object(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise BadRowError("not a JSON object")
    return value


def _json_names(objects: Sequence[dict[Any, Any]], asked: Sequence[str]) -> tuple[str, ...]:
    """Name the keys of some objects, and behind them what is asked for that lies deeper in one."""
    names = dict.fromkeys(key for value in objects for key in value if key is not _DOUBLED)
    deeper = [
        name
        for name in asked
        if name not in names and any(_find(value, name) is not _MISSING for value in objects)
    ]
    return (*names, *deeper)


def _find(value: dict[Any, Any], name: str) -> Any:
    """Look a name up in an object: a key, a way with dots into objects, or several with commas between them.

    Of several the first is given that is not empty, else the last that is there; `_MISSING` where none is.
    """
    if name in value:
        return value[name]
    if "," in name:
        found = [cell for part in name.split(",") if (cell := _find(value, part.strip())) is not _MISSING]
        return next((cell for cell in found if cell), found[-1] if found else _MISSING)
    reached: Any = value
    for key in name.split(".") if "." in name else ():
        reached = reached.get(key, _MISSING) if isinstance(reached, dict) else _MISSING
    return _MISSING if reached is value else reached


def _json_constant(name: str) -> str | None:
    return None if name == "NaN" else name  # NaN is what is missing, as null is


def _json_text(value: Any, name: str, between: str | None) -> str:
    """Write what is no text as one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if between is not None and isinstance(value, list) and all(type(item) is str for item in value):
        return join_items(value, between)
    raise BadRowError(f"key '{name}' holds {'an array' if isinstance(value, list) else 'an object'}")
