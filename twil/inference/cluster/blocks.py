"""What each machine of a cluster does: tables into blocks of rows, a block into a part of the output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from twil.bundle.providers import ProviderChoice
from twil.core.errors import DataError, MissingExtraError, TwilError
from twil.data.tables.rows import Cells, Rows
from twil.data.tables.tables import OnError, TableWriter, without_errors
from twil.inference.cluster.parts import Output, local_copy, part_name
from twil.inference.columns import good_rows, output_cells, output_columns
from twil.inference.engine import WINDOW_ROWS
from twil.inference.inputs import chosen_texts, open_tables
from twil.inference.predictor import Predictor
from twil.inference.texts import Text
from twil.text.tokenizer import bound_threads

_FILE, _NUMBER, _ERROR = "file", "number", "error"
_CELL = "cell {}"  # by its place, as a column may have any name


@dataclass(frozen=True)
class Job:
    """What every machine is told.

    Attributes:
        texts: The column of the texts, and that of second ones.
        id_column: The column that names the rows.
        id_asked: Whether it was asked for by name.
        keep: Other columns to repeat.
        on_error: What a bad row leads to.
        provider: Where the graphs run.
        threads: CPU threads of a worker.
        batch_tokens: Tokens of a batch, pads included.
    """

    texts: tuple[str, ...]
    id_column: str | None
    id_asked: bool
    keep: tuple[str, ...]
    on_error: OnError
    provider: ProviderChoice
    threads: int
    batch_tokens: int

    @property
    def repeated(self) -> tuple[str, ...]:
        """The columns of the input that the output has."""
        return tuple(dict.fromkeys([*([] if self.id_column is None else [self.id_column]), *self.keep]))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the input that are read."""
        return tuple(dict.fromkeys([*self.repeated, *self.texts]))


def read_blocks(tables: Any, job: Job) -> Iterator[Any]:
    """Read tables a window of rows at a time.

    Args:
        tables: An Arrow table with the number and the path of each.
        job: What to read of them.

    Raises:
        DataError: One cannot be read as asked, or a row is bad and ends the work.
    """
    for table in tables.to_pylist():
        with local_copy(table["path"]) as path:
            opened, _, found_id = open_tables(
                path,
                job.texts,
                job.id_column if job.id_asked else None,
                job.keep,
                on_error="fail" if job.on_error == "fail" else "mark",
            )
            if found_id != job.id_column:
                raise DataError(
                    f"the rows are named by the column {found_id}, and those of the first table by "
                    f"{job.id_column}: name one that all have (--id)",
                    file=path,
                )
            yield _block(table["file"], Rows([], {name: [] for name in job.columns}), job)
            for window in opened.windows(WINDOW_ROWS):
                yield _block(table["file"], window.rows, job)


class BlockPredictor:
    """Predicts blocks and writes their parts, with a graph that it keeps.

    Args:
        job: What to do.
        bundle: The files of the bundle, by name.
        output: Where parts go.

    Raises:
        TwilError: The bundle did not arrive as it was, or cannot run here.
    """

    def __init__(self, job: Job, bundle: Mapping[str, NDArray[np.uint8]], output: Output) -> None:
        bound_threads(job.threads)
        with tempfile.TemporaryDirectory(prefix="twil-") as folder:
            for name, content in bundle.items():
                (Path(folder) / name).write_bytes(content.data)
            try:
                self._predictor = Predictor(
                    folder,
                    provider=job.provider,
                    threads=job.threads,
                    batch_tokens=job.batch_tokens,
                    side_by_side=True,
                )
            except MissingExtraError as error:  # it would not arrive: it is made of other arguments
                raise TwilError(f"on a machine of the cluster {error}") from error
        self._job = job
        self._output = output
        self._columns = output_columns(self._predictor.task, job.repeated, errors=job.on_error == "mark")

    def __call__(self, block: Any) -> Any:
        """Predict a block of `read_blocks`, write it, and say what became of its rows."""
        if not block.num_rows:
            return pa.Table.from_pylist([])
        job, predictor = self._job, self._predictor
        file, rows = _rows(block, job)
        bad, name = len(rows.errors), part_name(file, rows.numbers[0])
        if job.on_error == "skip":
            rows = without_errors(rows)
        texts = chosen_texts(rows, job.texts, good_rows(rows))
        logits, truncated, empty = self._answer(texts)
        if rows.numbers:
            cells = output_cells(
                predictor.task,
                self._columns,
                rows,
                job.repeated,
                logits,
                errors=job.on_error == "mark",
            )
            write_part(self._output, name, self._columns, cells)
        told = {
            "name": name,
            "rows": len(rows.numbers),
            "bad": bad,
            "truncated": truncated,
            "empty": empty,
            "provider": predictor.session.provider,
        }
        return pa.Table.from_pylist([told])

    def _answer(self, texts: Sequence[Text]) -> tuple[NDArray[np.float32], int, int]:
        """Return the logits of texts, how many of them were cut, and how many hold nothing to read."""
        windows, truncated, empty = [], 0, 0
        for encoded in self._predictor.encoded_windows(texts):
            windows.append(self._predictor.logits(encoded))
            truncated += int(encoded.truncated.sum())
            empty += int(self._predictor.is_empty(encoded).sum())
        nothing = np.empty((0, self._predictor.task.outputs), np.float32)
        return np.concatenate([nothing, *windows]), truncated, empty


def write_part(output: Output, name: str, columns: Mapping[str, type], cells: Mapping[str, Cells]) -> None:
    """Write a table as one part."""
    with tempfile.TemporaryDirectory(prefix="twil-") as folder:
        part = Path(folder) / name
        with TableWriter(part, columns) as writer:
            writer.write(cells)
        output.write(name, part)


def _block(file: int, rows: Rows, job: Job) -> Any:
    numbers = len(rows.numbers)
    columns = {
        _FILE: pa.array([file] * numbers, pa.int64()),
        _NUMBER: pa.array(rows.numbers, pa.int64()),
        _ERROR: pa.array([rows.errors.get(row) for row in range(numbers)], pa.string()),
    }
    cells = {
        _CELL.format(place): pa.array(rows.columns[name], pa.string())
        for place, name in enumerate(job.columns)
    }
    return pa.table(columns | cells)


def _rows(block: Any, job: Job) -> tuple[int, Rows]:
    """Return the number of the table that a block is of, and its rows."""
    columns = {name: block[_CELL.format(place)].to_pylist() for place, name in enumerate(job.columns)}
    errors = {row: error for row, error in enumerate(block[_ERROR].to_pylist()) if error is not None}
    rows = Rows(block[_NUMBER].to_pylist(), columns, errors)
    return block[_FILE][0].as_py(), rows
