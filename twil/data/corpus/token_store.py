"""Token ids on disk: one Arrow file, written row by row and read at any place from a memory map."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from twil.core.errors import DataError, first_line
from twil.data.batching import Int64Array

TokenArray = NDArray[Any]  # uint16 or int32
TokenType = type[np.uint16] | type[np.int32]

COLUMNS = ("first", "second")
_ARROW_TYPES: dict[TokenType, Any] = {np.uint16: pa.uint16(), np.int32: pa.int32()}


def token_type(vocab_size: int) -> TokenType:
    """Choose the type that the ids of a vocabulary are stored in."""
    return np.uint16 if vocab_size <= 1 << 16 else np.int32


class TokenStore:
    """The tokens of single texts or pairs, memory-mapped: any rows at any time, in constant memory.

    Args:
        path: A file that `TokenWriter` wrote.

    Attributes:
        columns: 1 for single texts, 2 for pairs.

    Raises:
        DataError: It is absent, damaged or no such file.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            with pa.memory_map(str(path)) as file:
                content = file.read_buffer(file.size())
            reader = pa.ipc.open_file(content)
            tokens = _stored_type(reader.schema)
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(
                f"is no file of tokens, or is damaged or cut short ({first_line(error)}): "
                "make the corpus again with twil corpus",
                file=path,
            ) from error
        self.columns = len(reader.schema)
        self._ends = np.cumsum([batch.num_rows for batch in batches], dtype=np.int64)
        self._begins = self._ends - [batch.num_rows for batch in batches]
        # Every batch lies in the one map: where its offsets and values begin is all that is needed to reach
        # the tokens of any rows of any batches at once.
        self._offsets = _view(content, np.int32)
        self._values = _view(content, tokens)
        places = np.array(
            [[_places(column, content) for column in batch.columns] for batch in batches], dtype=np.int64
        ).reshape(len(batches), self.columns, 2)
        self._offset_places = places[..., 0] // self._offsets.itemsize  # (batches, columns)
        self._value_places = places[..., 1] // self._values.itemsize  # (batches, columns)

    def __len__(self) -> int:
        """Count the rows."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def lengths(self, rows: Int64Array) -> Int64Array:
        """Count the tokens of texts, special tokens left out.

        Args:
            rows: int64 ``(k,)``, in any order.

        Returns:
            int64 ``(k, columns)``.

        Raises:
            IndexError: There is no such row.
        """
        return self._ranges(rows)[1]

    def tokens(self, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Read the tokens of texts, special tokens left out.

        Args:
            rows: int64 ``(k,)``, in any order.

        Returns:
            The ids int64 ``(N,)`` of all texts, row by row and in a row the first text before the second; and
            their lengths int64 ``(k, columns)``.

        Raises:
            IndexError: There is no such row.
        """
        begins, lengths = self._ranges(rows)
        counts = lengths.ravel()
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        places = np.arange(total) + np.repeat(begins.ravel() - (ends - counts), counts)
        return self._values[places].astype(np.int64), lengths

    def _ranges(self, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Find where the texts of rows begin among the values, and their lengths; both ``(k, columns)``."""
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows are counted from 0 to {len(self) - 1}")
        batches = np.searchsorted(self._ends, rows, side="right")
        places = self._offset_places[batches] + (rows - self._begins[batches])[:, None]
        begins = self._offsets[places].astype(np.int64)
        lengths = self._offsets[places + 1] - begins
        return self._value_places[batches] + begins, lengths


class TokenWriter:
    """Writes what a `TokenStore` reads; a file without rows is not written at all.

    Args:
        path: The file.
        columns: 1 for single texts, 2 for pairs.
        tokens: The type of the ids, as `token_type` gives it.

    Attributes:
        path: The file.
        columns: As given.
        rows: Rows written so far.
        tokens: Tokens written so far.
    """

    def __init__(self, path: Path, columns: int, tokens: TokenType) -> None:
        self.path = path
        self.columns = columns
        self.rows = 0
        self.tokens = 0
        self._schema = pa.schema(
            [pa.field(name, pa.list_(_ARROW_TYPES[tokens])) for name in COLUMNS[:columns]]
        )
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def write(self, tokens: TokenArray, lengths: NDArray[np.integer[Any]]) -> None:
        """Append rows as one batch.

        Args:
            tokens: The ids of all texts, row by row.
            lengths: ``(rows, columns)``.
        """
        if not len(lengths):
            return
        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self.path), self._schema)
        column_of = np.repeat(np.tile(np.arange(self.columns, dtype=np.int8), len(lengths)), lengths.ravel())
        lists = [_lists(lengths[:, column], tokens[column_of == column]) for column in range(self.columns)]
        self._writer.write_batch(pa.record_batch(lists, schema=self._schema))
        self.rows += len(lengths)
        self.tokens += len(tokens)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def _lists(lengths: NDArray[np.integer[Any]], values: TokenArray) -> Any:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _stored_type(schema: Any) -> TokenType:
    for tokens, type_ in _ARROW_TYPES.items():
        fields = [pa.field(name, pa.list_(type_)) for name in COLUMNS]
        if schema.equals(pa.schema(fields[:1])) or schema.equals(pa.schema(fields)):
            return tokens
    raise ValueError(f"its columns are {', '.join(schema.names)}")


def _view(content: Any, tokens: Any) -> NDArray[Any]:
    """See all bytes of a file as numbers of one type."""
    return np.frombuffer(content, tokens, count=content.size // np.dtype(tokens).itemsize)


def _places(column: Any, content: Any) -> tuple[int, int]:
    """Find the bytes where the offsets and the values of a column of lists begin."""
    _, offsets, _, values = column.buffers()
    return offsets.address - content.address, values.address - content.address
