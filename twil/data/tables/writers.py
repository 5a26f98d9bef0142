"""Rows written down, format by format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from twil.data.tables.formats import Kind
from twil.data.tables.rows import Cells

_DIGITS = 6
_BREAKS = re.compile("\r\n|[\t\r\n]")
_FORMULA = "=+-@"
_NUMBER = re.compile(r"[-+]?[\d.,\s]+%?")
_TO_QUOTE = re.compile('[",;\t\r\n]')  # readers also guess at semicolons and tabs


class Sink(Protocol):
    """Where rows go.

    Attributes:
        altered: Cells that the format could not hold as they were.
        formulas: Cells of a CSV that a spreadsheet takes for formulas.
    """

    altered: int
    formulas: int

    def write(self, columns: Mapping[str, Cells]) -> None:
        """Append rows; the columns come in the table's order and are of one length."""
        ...

    def finish(self) -> None:
        """Write what is still held back and what ends the table."""
        ...

    def abandon(self) -> None:
        """Write nothing more: the table is given up."""
        ...


def make_sink(kind: Kind, file: Any, columns: Mapping[str, type], *, safe: bool = False) -> Sink:
    """Begin a table of `kind` in an open binary file.

    Args:
        kind: The format.
        file: What the bytes are written to.
        columns: The name of each column and its type, ``str`` or ``float``.
        safe: Write ``'`` before what a spreadsheet takes for a formula, in a CSV.
    """
    if kind == "parquet":
        from twil.data.tables.parquet import (
            ParquetSink,  # Arrow takes long to import, and most tables are text
        )

        return ParquetSink(file, columns)
    encode = {"tsv": _encode_tsv, "txt": _encode_tsv, "csv": _encode_csv, "jsonl": _encode_json}[kind]
    sink = CsvSink(file, columns, encode, safe=safe) if kind == "csv" else TextSink(file, columns, encode)
    if kind in ("tsv", "csv"):
        sink.begin()
    return sink


class TextSink:
    """Rows as text in UTF-8."""

    def __init__(self, file: Any, columns: Mapping[str, type], encode: Encode) -> None:
        self.altered = self.formulas = 0
        self._file = file
        self._columns = columns
        self._encode = encode

    def begin(self) -> None:
        """Write the names of the columns."""
        self._append({name: [name] for name in self._columns}, dict.fromkeys(self._columns, str))

    def write(self, columns: Mapping[str, Cells]) -> None:
        """Append rows."""
        self._append(columns, self._columns)

    def finish(self) -> None:
        """Do nothing: text has no end mark."""

    def abandon(self) -> None:
        """Do nothing: all rows are written already."""

    def _append(self, columns: Mapping[str, Cells], types: Mapping[str, type]) -> None:
        if not len(next(iter(columns.values()))):
            return
        text, altered = self._encode(columns, types)
        self._file.write(text.encode())
        self.altered += altered


class CsvSink(TextSink):
    """Rows as CSV, in which cells that a spreadsheet would compute are counted, or made text."""

    def __init__(self, file: Any, columns: Mapping[str, type], encode: Encode, *, safe: bool) -> None:
        super().__init__(file, columns, encode)
        self._safe = safe

    def write(self, columns: Mapping[str, Cells]) -> None:
        """Append rows."""
        found = {
            name: formulas
            for name, cells in columns.items()
            if self._columns[name] is str and (formulas := _formulas(cells))
        }
        self.formulas += sum(map(len, found.values()))
        if self._safe and found:
            columns = dict(columns)
            for name, rows in found.items():
                cells = list(map(str, columns[name]))
                for row in rows:
                    cells[row] = f"'{cells[row]}"
                columns[name] = cells
        super().write(columns)


def _formulas(cells: Cells) -> list[int]:
    """Tell which cells a spreadsheet takes for formulas: they begin with a sign, and are no numbers."""
    return [
        row
        for row, cell in enumerate(map(str, cells))
        if cell[:1] in _FORMULA and cell and not _NUMBER.fullmatch(cell)
    ]


Encode: TypeAlias = Callable[[Mapping[str, Cells], Mapping[str, type]], tuple[str, int]]


def _encode_tsv(columns: Mapping[str, Cells], types: Mapping[str, type]) -> tuple[str, int]:
    texts = _texts(columns, types)
    rows, width = len(texts[0]), len(texts)
    text = _join(texts, "\t")
    # One look at the whole block: hardly any has a cell to mend.
    if "\r" not in text and text.count("\n") == rows and text.count("\t") == rows * (width - 1):
        return text, 0
    mended = [[_BREAKS.sub(" ", cell) for cell in cells] for cells in texts]
    altered = sum(
        a != b for old, new in zip(texts, mended, strict=True) for a, b in zip(old, new, strict=True)
    )
    return _join(mended, "\t"), altered


def _encode_csv(columns: Mapping[str, Cells], types: Mapping[str, type]) -> tuple[str, int]:
    texts = _texts(columns, types)
    if len(texts) == 1:  # a line of nothing is no row to most readers
        texts = [[cell or '""' for cell in texts[0]]]
        return _join([[cell if cell == '""' else _quote(cell) for cell in texts[0]]], ","), 0
    return _join([[_quote(cell) for cell in cells] for cells in texts], ","), 0


def _encode_json(columns: Mapping[str, Cells], types: Mapping[str, type]) -> tuple[str, int]:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    members = []
    for name, cells in columns.items():
        key = encode(name)
        values = map(encode, cells) if types[name] is str else map(_json_number, _numbers(cells))
        members.append([f"{key}: {value}" for value in values])
    return "".join([f"{{{', '.join(row)}}}\n" for row in zip(*members, strict=True)]), 0


def _texts(columns: Mapping[str, Cells], types: Mapping[str, type]) -> list[list[str]]:
    return [
        list(map(str, cells)) if types[name] is str else [_number(value) for value in _numbers(cells)]
        for name, cells in columns.items()
    ]


def _join(texts: Sequence[Sequence[str]], separator: str) -> str:
    return "\n".join(map(separator.join, zip(*texts, strict=True))) + "\n"


def _quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _TO_QUOTE.search(cell) else cell


def _numbers(cells: Cells) -> list[float]:
    return np.asarray(cells, dtype=np.float64).tolist()  # type: ignore[no-any-return]


def _number(value: float) -> str:
    return "" if value != value else f"{value:.{_DIGITS}g}"  # NaN is what is missing


def _json_number(value: float) -> str:
    return "null" if value != value else f"{value:.{_DIGITS}g}".replace("inf", "Infinity")
