"""Arrays on disk that grow while a corpus is read, for what does not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

RUN_ROWS = 1 << 15


class DiskArray:
    """An array on disk: appended to, then read from its start run by run.

    Args:
        path: Its file; what is there is overwritten.
        dtype: Of its numbers.
        columns: Numbers of a row.
    """

    def __init__(self, path: Path, dtype: DTypeLike, columns: int = 1) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.columns = columns
        self._file = path.open("wb")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Count the rows."""
        return self._count // self.columns

    def fill(self, rows: int) -> NDArray[Any]:
        """Add so many rows of zeros to an empty array, and map it."""
        self._file.truncate(rows * self.columns * self.dtype.itemsize)
        self._count = rows * self.columns
        return self.map()

    def append(self, values: NDArray[Any]) -> None:
        """Add rows at the end."""
        # NumPy's own writing may not say that the disk is full.
        self._file.write(np.ascontiguousarray(values, self.dtype).tobytes())
        self._count += values.size

    def read(self) -> DiskReader:
        """Read from the start."""
        self._file.flush()
        return DiskReader(self)

    def runs(self, rows: int = RUN_ROWS) -> Iterator[NDArray[Any]]:
        """Yield all rows, ``(rows,)`` or ``(rows, columns)`` at a time."""
        with self.read() as reader:
            for start in range(0, len(self), rows):
                yield reader.take(min(rows, len(self) - start))

    def map(self) -> NDArray[Any]:
        """Map the whole array, ``(rows,)`` or ``(rows, columns)``; what is changed is changed on disk."""
        self._file.flush()
        shape = (len(self),) if self.columns == 1 else (len(self), self.columns)
        return np.asarray(np.memmap(self.path, self.dtype, mode="r+", shape=shape))

    def close(self) -> None:
        """Close the file, which stays where it is."""
        self._file.close()


class DiskReader:
    """Reads a `DiskArray` onwards."""

    def __init__(self, array: DiskArray) -> None:
        self._array = array
        self._file = array.path.open("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def take(self, rows: int) -> NDArray[Any]:
        """Read the next rows."""
        columns = self._array.columns
        values = np.fromfile(self._file, self._array.dtype, rows * columns)
        return values if columns == 1 else values.reshape(-1, columns)
