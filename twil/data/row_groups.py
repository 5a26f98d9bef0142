"""Parquet written group by group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
