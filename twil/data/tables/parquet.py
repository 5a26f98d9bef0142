"""Parquet, read and written by rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import DataError, first_line
from twil.data.tables.rows import BadRowError, Cells, Rows, join_items, named_columns, whole_number
from twil.data.tables.streams import BLOCK_BYTES, InputFile, copy_stream

_NOT_TEXT = "bytes that are no text in UTF-8"
_HELD_BYTES = 64 << 20  # of rows that are read together
_FEW_ROWS = 256
_DICTIONARY_BYTES, _INDEX_BYTES = 2 << 20, 4  # of what is stored as a dictionary, and a place in it


class ParquetSource:
    """A Parquet file, by row batches; whatever is not text is cast to it."""

    unit = "row"
    hint = ""

    def __init__(
        self,
        file: InputFile,
        columns: Sequence[str | None] | None,
        joined: Mapping[str, str],
        reading: Reading = AS_FOUND,
    ) -> None:
        self._file = file
        self._joined = joined
        self._reading = reading
        self._copy = copy_stream(file) if file.stream else None
        self._dictionaries: list[str] = []
        with self._open() as table:
            schema = table.schema_arrow
            metadata = table.metadata
        self.names = tuple(schema.names)
        wanted = self.names if columns is None else named_columns(columns, self.names, file.path)
        for cells in schema:
            if cells.name in wanted and not (cells.name in joined and _holds_lists(cells.type)):
                _check_castable(cells, file.path)
        # Texts that are stored once and named by many rows are read so.
        self._dictionaries = [
            cells.name
            for cells in schema
            if cells.name in wanted and _is_bytes(cells.type) and _is_repeated(metadata, cells.name)
        ]

    def read(self, columns: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
        """Yield every row."""
        first = 1
        with self._open() as table:
            total = table.metadata.num_rows
            for group in range(table.num_row_groups):
                size = _batch_rows(table.metadata.row_group(group), columns, chunk_rows)
                for batch in table.iter_batches(size, row_groups=[group], columns=list(columns)):
                    rows = self._rows(batch, first, columns)
                    first += batch.num_rows
                    # Of a group all bytes may be read before its first row is there.
                    self._file.position = self._file.size * (first - 1) // total
                    yield rows

    def _rows(self, batch: Any, first: int, columns: Sequence[str]) -> Rows:
        errors: dict[int, str] = {}
        cells = {}
        longest = self._reading.max_row_bytes
        for name in columns:
            column = batch.column(name)
            lists = _holds_lists(column.type)
            found = _join(column, self._joined[name], errors) if lists else _cast(column, errors)
            if max(map(len, found), default=0) > longest:
                too_long = [index for index, cell in enumerate(found) if len(cell) > longest]
                errors.update(dict.fromkeys(too_long, self._reading.too_long))
            cells[name] = found
        for column in cells.values():
            for index in errors:
                column[index] = ""
        return Rows(list(range(first, first + batch.num_rows)), cells, errors)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        # Errors inside the block are those of pages decoded one after the other.
        try:
            with nullcontext(self._copy) if self._copy else self._file.open() as file:
                yield pq.ParquetFile(
                    file, pre_buffer=False, buffer_size=BLOCK_BYTES, read_dictionary=self._dictionaries
                )
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"is not Parquet, or is damaged or cut short ({first_line(error)})", file=self._file.path
            ) from error


class ParquetSink:
    """Rows as Parquet; numbers are float32."""

    def __init__(self, file: Any, columns: Mapping[str, type]) -> None:
        self.altered = self.formulas = 0
        types = [(name, pa.string() if type_ is str else pa.float32()) for name, type_ in columns.items()]
        self._groups = RowGroups(file, pa.schema(types))

    def write(self, columns: Mapping[str, Cells]) -> None:
        """Append rows."""
        arrays = [
            pa.array(columns[cells.name], cells.type, from_pandas=True)  # NaN is what is missing
            if pa.types.is_string(cells.type)
            else pa.array(np.asarray(columns[cells.name], dtype=np.float32), from_pandas=True)
            for cells in self._groups.schema
        ]
        self._groups.append(arrays)

    def finish(self) -> None:
        """Write the last row group and the footer."""
        self._groups.finish()

    def abandon(self) -> None:
        """Keep the footer from being written when the writer is disposed of."""
        self._groups.abandon()


def _check_castable(cells: Any, path: str | Path) -> None:
    try:
        pa.nulls(0, cells.type).cast(pa.string())
    except pa.ArrowException:
        raise DataError(
            f"column '{cells.name}' holds {cells.type}, and a cell is one text or number: name other columns",
            file=path,
        ) from None


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: Any) -> bool:
    return _is_text(kind) or bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_repeated(metadata: Any, name: str) -> bool:
    """Tell whether the cells of a column are stored in small dictionaries, with hardly anything beside."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    places = range(groups[0].num_columns) if groups else ()
    place = next((at for at in places if groups[0].column(at).path_in_schema == name), None)
    chunks = [group.column(place) for group in groups] if place is not None else []
    return bool(chunks) and all(
        chunk.has_dictionary_page
        and chunk.total_uncompressed_size <= _DICTIONARY_BYTES + _INDEX_BYTES * chunk.num_values
        for chunk in chunks
    )


def _batch_rows(group: Any, columns: Sequence[str], most: int) -> int:
    """Tell how many rows of a row group are read together: `most`, or fewer where they are large."""
    if not group.num_rows:
        return most
    chunks = map(group.column, range(group.num_columns))
    taken: int = sum(
        chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns
    )
    # Where few rows are large, they may be side by side.
    uneven = most if taken <= _HELD_BYTES else _FEW_ROWS
    return max(1, min(most, uneven, _HELD_BYTES * int(group.num_rows) // max(taken, 1)))


def _cast(column: Any, errors: dict[int, str]) -> list[str]:
    """Return the cells as texts, and mark in `errors` those that no text can hold."""
    if pa.types.is_dictionary(column.type):
        return _look_up(column, errors)
    try:
        texts = column if pa.types.is_string(column.type) else column.cast(pa.string())
        cells = texts.to_pylist()
        if pa.types.is_floating(column.type):
            values = column.to_pylist()
            # pandas knows no other null than NaN among floats.
            return [
                "" if value is None or math.isnan(value) else whole_number(value) or cell
                for value, cell in zip(values, cells, strict=True)
            ]
    except (UnicodeDecodeError, pa.ArrowInvalid):
        cells = [_cast_cell(cell, index, errors) for index, cell in enumerate(column)]
    return ["" if cell is None else cell for cell in cells] if column.null_count or errors else cells


def _look_up(column: Any, errors: dict[int, str]) -> list[str]:
    """Return cells that are named by their places in a dictionary, each of which is a text but once."""
    faults: dict[int, str] = {}
    indices = column.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    named, found = np.unique(indices, return_inverse=True)  # the dictionary may be that of many batches
    known = named[named >= 0]
    texts = [*_cast(column.dictionary.take(pa.array(known)), faults), ""]  # the last of what is missing
    places = (found - (len(named) - len(known))).tolist()
    errors.update({index: faults[place] for index, place in enumerate(places) if place in faults})
    return [texts[place] for place in places]


def _holds_lists(kind: Any) -> bool:
    """Tell whether cells are lists of texts."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list and _is_text(kind.value_type)


def _join(column: Any, between: str, errors: dict[int, str]) -> list[str]:
    """Return lists as texts, and mark in `errors` those that cannot be."""
    cells = [""] * len(column)
    for index, items in enumerate(column.to_pylist()):
        try:
            cells[index] = join_items([item for item in items or () if item is not None], between)
        except BadRowError as error:
            errors[index] = str(error)
    return cells


def _cast_cell(cell: Any, index: int, errors: dict[int, str]) -> str | None:
    try:
        return cell.cast(pa.string()).as_py()  # type: ignore[no-any-return]
    except (UnicodeDecodeError, pa.ArrowInvalid):
        errors[index] = _NOT_TEXT
        return None


_GROUP_ROWS = 1 << 16
_GROUP_BYTES = 1 << 26


class RowGroups:
    """Record batches gathered into row groups of 65,536 rows, or of fewer rows where these are large.

    Args:
        file: What the bytes are written to.
        schema: Of Arrow.
        dictionary: The columns whose cells are worth a dictionary; all when left out.
    """

    def __init__(self, file: Any, schema: Any, *, dictionary: Sequence[str] | None = None) -> None:
        self.schema = schema
        use = True if dictionary is None else list(dictionary)
        self._writer = pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=use)
        self._batches: list[Any] = []
        self._rows = self._bytes = 0

    def append(self, arrays: Sequence[Any]) -> None:
        """Append rows, an array a column."""
        batch = pa.record_batch(arrays, schema=self.schema)
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write_group()

    def finish(self) -> None:
        """Write the last row group and the footer."""
        self._write_group()
        self._writer.close()

    def abandon(self) -> None:
        """Keep the footer from being written when the writer is disposed of."""
        self._writer.is_open = False

    def _write_group(self) -> None:
        if self._rows:
            table = pa.Table.from_batches(self._batches, self.schema)
            self._writer.write_table(table, row_group_size=self._rows)
        self._batches = []
        self._rows = self._bytes = 0
