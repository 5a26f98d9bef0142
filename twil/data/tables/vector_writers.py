"""Vectors of rows written as they come: a NumPy array, or a Parquet table.

Either appears under its name once the ``with`` block has ended well, and not at all otherwise.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from twil.data.tables.parquet import RowGroups
from twil.data.tables.streams import open_output
from twil.data.tables.tables import TableWriter


@dataclass(frozen=True)
class RowVectors:
    """The vectors of some rows: one a row, or one for each token of a row.

    Attributes:
        values: float32 ``(rows, D)``, or ``(tokens of all rows, D)``.
        missing: Whether a row has none; bool ``(rows,)``.
        tokens: The tokens of each row; None where a row has one vector.
    """

    values: NDArray[np.float32]
    missing: NDArray[np.bool_]
    tokens: Sequence[Sequence[str]] | None = None

    def part(self, rows: slice) -> RowVectors:
        """Return those of some rows."""
        if self.tokens is None:
            return RowVectors(self.values[rows], self.missing[rows])
        ends = np.cumsum([0, *map(len, self.tokens)])
        values = self.values[ends[rows.start] : ends[rows.stop]]
        return RowVectors(values, self.missing[rows], self.tokens[rows])


class VectorWriter(Protocol):
    """Where vectors go."""

    @property
    def altered(self) -> int:
        """Count the cells that could not be held as they were."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, texts: Mapping[str, Sequence[str]], vectors: RowVectors) -> None:
        """Append rows.

        Args:
            texts: The cells of the columns of text, by their names.
            vectors: Their vectors.
        """


class ArrayWriter:
    """One vector a row as a ``.npy`` file, float32 ``(rows, D)``; a vector that is missing is NaN.

    Args:
        path: The array.
        width: Numbers of a vector.
        ids: The file of the rows' ids, a line each; None where rows have none.
        id_column: The column of text that they are in.
    """

    def __init__(
        self, path: str | Path, width: int, *, ids: Path | None = None, id_column: str | None = None
    ) -> None:
        self._path = path
        self._width = width
        self._id_column = id_column
        self._ids = TableWriter(ids, {str(id_column): str}, format="txt") if ids else None
        self._rows = 0
        self._stack = ExitStack()
        self._file: Any = None

    @property
    def altered(self) -> int:
        """Count the ids that a line could not hold as they were."""
        return self._ids.altered if self._ids else 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._file = stack.enter_context(open_output(self._path, None))
            if self._ids:
                stack.enter_context(self._ids)
            self._file.write(self._header())
            self._stack = stack.pop_all()
        return self

    def write(self, texts: Mapping[str, Sequence[str]], vectors: RowVectors) -> None:
        """Append rows."""
        held = np.array(vectors.values, dtype="<f4")
        held[vectors.missing] = np.nan
        self._file.write(held.data)
        self._rows += len(held)
        if self._ids and self._id_column:
            self._ids.write({self._id_column: texts[self._id_column]})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._file.seek(0)
            self._file.write(self._header())
            # The ids appear first: what may fail in writing the array has failed before.
            self._file.flush()
            os.fsync(self._file.fileno())

    def _header(self) -> bytes:
        """Write down the shape so far; NumPy leaves room for any number of rows, so no length changes."""
        header = io.BytesIO()
        shape = (self._rows, self._width)
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return header.getvalue()


class VectorTableWriter:
    """Rows of texts with their vectors as Parquet: lists of a fixed size, float32; null where one is missing.

    Args:
        path: The table.
        texts: The columns of text, which come first.
        made: The column of the vectors; or that of the tokens and that of the tokens' vectors.
        width: Numbers of a vector.
    """

    altered = 0

    def __init__(self, path: str | Path, texts: Sequence[str], made: Sequence[str], width: int) -> None:
        self._path = path
        self._texts = tuple(texts)
        self._width = width
        vector = pa.list_(pa.float32(), width)
        types = [vector] if len(made) == 1 else [pa.list_(pa.string()), pa.list_(vector)]
        self._schema = pa.schema([*((name, pa.string()) for name in texts), *zip(made, types, strict=True)])
        # Vectors hardly ever repeat a number: a dictionary of them would only cost memory.
        self._dictionary = [*texts, *(f"{name}.list.element" for name in made[:-1])]
        self._stack = ExitStack()
        self._groups: Any = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            file = stack.enter_context(open_output(self._path, None))
            self._groups = RowGroups(file, self._schema, dictionary=self._dictionary)
            self._stack = stack.pop_all()
        return self

    def write(self, texts: Mapping[str, Sequence[str]], vectors: RowVectors) -> None:
        """Append rows."""
        missing = pa.array(vectors.missing)
        arrays = [pa.array(texts[name], pa.string()) for name in self._texts]
        if vectors.tokens is None:
            arrays.append(self._fixed(vectors.values, missing))
        else:
            ends = pa.array(np.cumsum([0, *map(len, vectors.tokens)], dtype=np.int32))
            tokens = pa.array([token for row in vectors.tokens for token in row], pa.string())
            arrays += [
                pa.ListArray.from_arrays(ends, values, mask=missing)
                for values in (tokens, self._fixed(vectors.values))
            ]
        self._groups.append(arrays)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._groups.abandon()
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._groups.finish()

    def _fixed(self, vectors: NDArray[np.float32], missing: Any = None) -> Any:
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), self._width, mask=missing)
