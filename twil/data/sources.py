"""The rows of a table, format by format: every source streams and marks its bad rows.

What to do about bad rows is not decided here but in `twil.data.tables`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twil.data.formats import LIKELY_COLUMNS, TEXT_COLUMN, TableFormat
from twil.data.rows import NOT_UTF8, Rows, Source, distinct_names, with_cure
from twil.data.streams import (
    BOM,
    ByteBlocks,
    InputFile,
    TextBlock,
    text_blocks,
)
from twil.errors import DataError

_SURROGATE = re.compile("[\ud800-\udfff]")


def open_source(
    file: InputFile,
    form: TableFormat,
    columns: Sequence[str | None] | None = None,
    *,
    optional: Sequence[str] = (),
    header: bool = True,
    bare: bool = False,
) -> Source:
    """Open a table and find its columns.

    Args:
        file: The table.
        form: Its format.
        columns: Those that are going to be read, see `named_columns`; all when left out.
        optional: Those of them whose cell is empty in a row of JSONL that lacks the key.
        header: The first line of a TSV or CSV names its columns; otherwise they are named 1, 2, ...
        bare: A TSV whose first line cannot be a header is read as plain lines.

    Raises:
        DataError: It cannot be read, is not of this format, or names a column twice.
    """
    if form.kind == "parquet":
        from twil.data.parquet import ParquetSource  # Arrow takes long to import, and most tables are text

        return ParquetSource(file, columns)
    blocks = ByteBlocks(file, form.compression)
    if form.kind == "txt":
        return LineSource(blocks)
    if form.kind == "jsonl":
        return JsonSource(blocks, optional)
    if bare and not _may_name_columns(_first_line(blocks, strict=True)):
        return LineSource(blocks)
    delimiter = "\t" if form.kind == "tsv" else _find_delimiter(blocks, header=header, tabs=form.sniffed)
    if delimiter == "\t":
        return TsvSource(blocks, header=header)
    return CsvSource(blocks, delimiter, header=header)


class LineSource:
    """One text per physical line."""

    names: tuple[str, ...] = (TEXT_COLUMN,)
    unit = "line"

    def __init__(self, blocks: ByteBlocks) -> None:
        self._blocks = blocks

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every line as a text."""
        for first, lines, clean in _line_runs(self._blocks, chunk_rows):
            errors = {} if clean else {i: NOT_UTF8 for i, line in enumerate(lines) if _SURROGATE.search(line)}
            for index in errors:
                lines[index] = ""
            yield Rows(_numbers(first, lines), dict.fromkeys(columns, lines), errors)


class TsvSource:
    """Cells between tabs, one row per physical line; quotes are text."""

    unit = "line"

    def __init__(self, blocks: ByteBlocks, *, header: bool) -> None:
        self._blocks = blocks
        self._header = header
        line = _first_line(blocks, strict=header)
        self.names = _header_names(line.split("\t"), blocks.path, header=header)

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every line below the header as a row."""
        tabs = {len(self.names) - 1}
        for first, lines, clean in _line_runs(self._blocks, chunk_rows, skip=int(self._header)):
            numbers = _numbers(first, lines)
            if clean and {line.count("\t") for line in lines} == tabs:
                cells = "\t".join(lines).split("\t")  # much faster than splitting line by line
                yield Rows(numbers, {name: self._column(cells, name) for name in columns})
            else:
                rows = [line.split("\t") for line in lines]
                yield _checked_rows(numbers, rows, self.names, columns, clean=clean)

    def _column(self, cells: list[str], name: str) -> list[str]:
        return cells[self.names.index(name) :: len(self.names)]


class CsvSource:
    """Cells between commas or semicolons, quoted as in RFC 4180; a quoted cell may hold line breaks."""

    unit = "line"

    def __init__(self, blocks: ByteBlocks, delimiter: str, *, header: bool) -> None:
        self._blocks = blocks
        self._delimiter = delimiter
        self._header = header
        head = blocks.head.removeprefix(BOM).decode(errors="surrogateescape")
        _first_line(blocks, strict=header)
        _, first, problem = next(self._records(_CsvLines([TextBlock(1, head, clean=True)])))
        if problem:
            raise DataError(with_cure(problem), file=blocks.path, line=1)
        self.names = _header_names(first or [""], blocks.path, header=header)

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every record below the header as a row."""
        lines = _CsvLines(text_blocks(self._blocks))
        records = self._records(lines)
        if self._header:
            next(records)
        while True:
            numbers: list[int] = []
            rows: list[list[str]] = []
            broken: dict[int, str] = {}
            for number, row, problem in records:
                if problem:
                    broken[len(rows)] = problem
                numbers.append(number)
                rows.append(row)
                if len(rows) == chunk_rows:
                    break
            if not rows:
                return
            yield _checked_rows(numbers, rows, self.names, columns, clean=lines.clean, broken=broken)

    def _records(self, lines: _CsvLines) -> Iterator[tuple[int, list[str], str]]:
        """Yield the line where each record starts, its cells, and what is wrong with it."""
        # Strict, since the lenient parser drops quotes without a word.
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            start = reader.line_num + 1
            problem = ""
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._refuse_open_quote("".join(lines.pending), start)
                row, problem = [], _csv_problem(error)
            lines.pending.clear()
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
                f"a quote opens a cell here and is not closed, to the end of the file or for "
                f"{csv.field_size_limit():,} characters: close or double it, or save the table as TSV",
                file=self._blocks.path,
                line=start + record.count("\n", 0, end),
            )


class JsonSource:
    """One JSON object per physical line; the keys of the first are the columns.

    A blank line is a row of empty cells, as in the other formats.
    """

    unit = "line"

    def __init__(self, blocks: ByteBlocks, optional: Sequence[str] = ()) -> None:
        self._blocks = blocks
        self._defaults = dict.fromkeys(optional, "")
        # Numbers keep their digits: an id of 19 would not survive as a float.
        self._decode = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_json_constant).decode
        self.names = self._find_names()

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every line as a row."""
        for first, lines, clean in _line_runs(self._blocks, chunk_rows):
            rows: list[list[str]] = []
            errors: dict[int, str] = {}
            for index, line in enumerate(lines):
                try:
                    rows.append(self._cells(line, columns, clean=clean))
                except _BadRowError as error:
                    errors[index] = str(error)
                    rows.append([""] * len(columns))
            yield Rows(_numbers(first, lines), _transpose(rows, columns), errors)

    def _cells(self, line: str, columns: Sequence[str], *, clean: bool) -> list[str]:
        if not clean and _SURROGATE.search(line):
            raise _BadRowError(NOT_UTF8)
        if _is_blank(line):
            return [""] * len(columns)
        value = self._defaults | self._object(line)
        try:
            cells = [value[name] for name in columns]
        except KeyError as error:
            raise _BadRowError(f"no key '{error.args[0]}'") from None
        for index, cell in enumerate(cells):
            if type(cell) is not str:
                cells[index] = _json_text(cell, columns[index])
        # Half of an escaped pair is valid JSON but no text that UTF-8 can hold.
        if "\\u" in line and _SURROGATE.search("".join(cells)):
            raise _BadRowError("an escape \\ud800 to \\udfff that is only half a character")
        return cells

    def _object(self, line: str) -> dict[str, Any]:
        try:
            value = self._decode(line)
        except json.JSONDecodeError as error:
            raise _BadRowError(f"not JSON: {error.msg} at character {error.colno}") from None
        except RecursionError:
            raise _BadRowError("nested too deeply") from None
        if not isinstance(value, dict):
            raise _BadRowError("not a JSON object")
        return value

    def _find_names(self) -> tuple[str, ...]:
        problem = ""
        lines = self._blocks.head.removeprefix(BOM).decode(errors="surrogateescape").split("\n")
        for number, line in enumerate(lines, start=1):
            if _is_blank(line):
                continue
            try:
                self._cells(line, (), clean=False)
            except _BadRowError as error:
                problem = problem or str(error)
                continue
            pairs = json.loads(line, object_pairs_hook=list, parse_int=str)
            return distinct_names([name for name, _ in pairs], self._blocks.path, number)
        problem = problem or "only blank lines at its start"
        raise DataError(f"{problem}: JSONL has one object per line", file=self._blocks.path, line=1)


class _BadRowError(Exception):
    """What is wrong with one row."""


class _CsvLines:
    """Physical lines for the parser, those of the record it is in kept at hand.

    Attributes:
        pending: The lines since `pending` was last cleared.
        clean: Every line so far was UTF-8.
    """

    def __init__(self, blocks: Iterable[TextBlock]) -> None:
        self.pending: list[str] = []
        self.clean = True
        self._lines = self._split(blocks)

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _split(self, blocks: Iterable[TextBlock]) -> Iterator[str]:
        for block in blocks:
            self.clean &= block.clean
            for line in block.text.removesuffix("\n").split("\n"):
                whole = line + "\n"
                self.pending.append(whole)
                yield whole


def _line_runs(
    blocks: ByteBlocks, chunk_rows: int, *, skip: int = 0
) -> Iterator[tuple[int, list[str], bool]]:
    """Yield runs of lines without their ends: the first one's number, the lines, whether all are UTF-8."""
    for block in text_blocks(blocks):
        text = block.text.replace("\r\n", "\n") if "\r" in block.text else block.text
        lines = text.split("\n")
        lines.pop()  # what follows the last line's end
        for start in range(skip if block.first == 1 else 0, len(lines), chunk_rows):
            yield block.first + start, lines[start : start + chunk_rows], block.clean


def _checked_rows(
    numbers: list[int],
    rows: list[list[str]],
    names: Sequence[str],
    columns: Sequence[str],
    *,
    clean: bool,
    broken: dict[int, str] | None = None,
) -> Rows:
    """Turn rows into columns; those that do not fit are marked and emptied.

    A blank line is a row of empty cells, so that no row of the file is lost.
    """
    errors = broken or {}
    blank = [""] * len(names)
    for index, row in enumerate(rows):
        if index in errors or row in ([], [""]):
            rows[index] = blank
        elif not clean and _SURROGATE.search("".join(row)):
            errors[index] = NOT_UTF8
            rows[index] = blank
        elif len(row) != len(names):
            errors[index] = f"{_fields(len(row))}, expected {len(names)}"
            rows[index] = blank
    whole = _transpose(rows, names)
    return Rows(numbers, {name: whole[name] for name in columns}, errors)


def _transpose(rows: list[list[str]], names: Sequence[str]) -> dict[str, list[str]]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows and names else {}


def _numbers(first: int, lines: list[str]) -> list[int]:
    return list(range(first, first + len(lines)))


def _is_blank(line: str) -> bool:
    return not line or line.isspace()


def _fields(number: int) -> str:
    return "1 field" if number == 1 else f"{number} fields"


def _first_line(blocks: ByteBlocks, *, strict: bool) -> str:
    """Read the first line; refuse a header that is not UTF-8, where another row may be a bad one."""
    line = blocks.head.removeprefix(BOM).partition(b"\n")[0]
    try:
        return line.decode(errors="strict" if strict else "surrogateescape").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(
            f"is not text in UTF-8 (byte {error.start + 1}): save it as UTF-8", file=blocks.path, line=1
        ) from None


def _find_delimiter(blocks: ByteBlocks, *, header: bool, tabs: bool) -> str:
    line = re.sub(r'"[^"]*"', "", _first_line(blocks, strict=header))  # what is quoted separates nothing
    # TWilBERT: its tables are called .csv but hold tabs and bare quotes, which a CSV parser would eat.
    # Without a header the first line is data, in which a comma says nothing.
    if tabs and "\t" in line and not (header and "," in line):
        return "\t"
    return ";" if ";" in line and "," not in line else ","


def _may_name_columns(line: str) -> bool:
    """Tell whether a first line may be a header, of whatever format, or a row of JSONL, and no text alone."""
    cells = {cell.strip(' "').casefold() for cell in re.split("[\t,;]", line)}
    known = {name.casefold() for name in ("ID", TEXT_COLUMN, *LIKELY_COLUMNS)}
    return "\t" in line or not cells.isdisjoint(known) or line.startswith('{"')


def _header_names(cells: list[str], path: str | Path, *, header: bool) -> tuple[str, ...]:
    if not header:
        return tuple(str(number) for number in range(1, len(cells) + 1))
    return distinct_names([cell.strip() for cell in cells], path, 1)


def _csv_problem(error: csv.Error) -> str:
    message = str(error)
    if message.startswith("new-line"):
        return "a carriage return outside quotes"
    if message.endswith("after '\"'"):
        return "text after a closing quote: a quote inside a quoted cell is doubled"
    if message.startswith("field larger"):
        return f"a cell of more than {csv.field_size_limit():,} characters: TSV has no such limit"
    return f"not CSV: {message}"


def _json_constant(name: str) -> str | None:
    return None if name == "NaN" else name  # NaN is what is missing, as null is


def _json_text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    raise _BadRowError(f"key '{name}' holds {'an array' if isinstance(value, list) else 'an object'}")
