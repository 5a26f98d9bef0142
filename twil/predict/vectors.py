"""A table in, the vectors of its texts out, in constant memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twil.data.streams import is_stream
from twil.data.tables import TEXT_COLUMN, OnError, Rows
from twil.data.vectors import ArrayWriter, RowVectors, VectorTableWriter, VectorWriter
from twil.errors import ConfigError, DataError
from twil.predict.bundle import POOLED, TOKENS
from twil.predict.columns import ERROR_COLUMN, error_cells, free_name, good_rows
from twil.predict.embedder import Embedder
from twil.predict.engine import BATCH_TOKENS, WINDOW_ROWS, OutputBatch
from twil.predict.events import Progress, Started, Summary
from twil.predict.session import ProviderChoice
from twil.predict.windows import (
    Tally,
    Window,
    announced,
    begun_ahead,
    cancelled_pool,
    check_on_error,
    check_target,
    open_table,
    repeated_columns,
)
from twil.storage import check_vacant_file

VECTOR_COLUMN, PIECES_COLUMN, VECTORS_COLUMN = "vector", "pieces", "vectors"
ENDINGS = (".npy", ".parquet")

_HELD_BYTES = 1 << 25  # of vectors in a window: those of all pieces of thousands of rows would be gigabytes


@dataclass(frozen=True)
class VectorSummary(Summary):
    """The vectors are complete and in their place.

    Attributes:
        width: Numbers of a vector.
        ids: The file of the rows' ids beside an array; None where there is none.
    """

    width: int
    ids: Path | None


def embed_file(
    source: str | Path,
    model: str | Path | Embedder,
    target: str | Path,
    *,
    tokens: bool = False,
    normalize: bool = False,
    text: str = TEXT_COLUMN,
    id_column: str | None = None,
    keep: Sequence[str] = (),
    on_error: OnError = "fail",
    header: bool | None = None,
    input_format: str | None = None,
    window_rows: int = WINDOW_ROWS,
    provider: ProviderChoice = "auto",
    threads: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Generator[Started | Progress | VectorSummary, None, None]:
    """Compute the vectors of every row of a table, and tell on the way how far it is.

    A ``.npy`` holds float32 ``(rows, width)`` in the order of the input; the ids stand as lines in a file
    beside it, ``vectors.ids.txt`` for ``vectors.npy``. A ``.parquet`` holds the id, the kept columns, and
    the vector as a list of fixed size in `vector`; or the pieces in `pieces` and a vector for each in
    `vectors`. Where a column of the input has one of these names, the one that is made begins with
    `predicted_`. The output appears under its name once it is complete, and not at all otherwise.

    Args:
        source: The table, or ``-`` for standard input.
        model: An encoder's bundle, or an embedder made of one.
        target: Where the vectors go: a ``.npy`` or a ``.parquet``.
        tokens: Give a vector for each piece, not one a row (Parquet only).
        normalize: Give every vector the length 1 (with a bundle; an embedder says so itself).
        text: The column with the text.
        id_column: The column that names the rows. When left out: `ID`, in any case, where the table has it.
        keep: Columns of the input to repeat (Parquet only).
        on_error: What a bad row leads to: ``fail`` raises, ``skip`` leaves it out, ``mark`` keeps it without
            a vector (NaN in an array; in Parquet null, and a column `error` says what is wrong).
        header: False when the first line of a TSV or CSV is a row; its columns are called 1, 2, ...
        input_format: The format of `source`, where the ending of its name does not tell.
        window_rows: Rows held in memory, and sorted by length, at a time; fewer where their vectors are many.
        provider: Where to run (with a bundle; an embedder has its own).
        threads: CPU threads (with a bundle); a batch is computed on each.
        batch_tokens: Pieces of a batch, pads included (with a bundle).

    Yields:
        `Started`, then `Progress` a few times a second, and last `VectorSummary`.

    Raises:
        ConfigError: `on_error` is unknown, or the target cannot hold what is asked for.
        DataError: The table cannot be read as asked, or its output not be written or would replace it.
        ModelError: The bundle is damaged, or is a classifier's.
        ProviderError: The provider asked for cannot be had.
    """
    check_on_error(on_error)
    array = _holds_array(target, tokens=tokens, keep=keep)
    options = {"format": input_format, "header": header, "on_error": on_error, "chunk_rows": window_rows}
    reader, found_id = open_table(source, (text,), id_column, keep, options)
    check_target(source, target)
    ids = _ids_file(source, Path(target), found_id) if array else None
    embedder = (
        model
        if isinstance(model, Embedder)
        else Embedder(
            model,
            provider=provider,
            threads=threads,
            batch_tokens=batch_tokens,
            side_by_side=True,
            normalize=normalize,
        )
    )
    texts = list(repeated_columns(found_id, keep))
    made = [
        free_name(name, texts) for name in ((PIECES_COLUMN, VECTORS_COLUMN) if tokens else (VECTOR_COLUMN,))
    ]
    errors = free_name(ERROR_COLUMN, texts)
    if on_error == "mark" and not array:
        texts.append(errors)
    work = _Work(embedder, text, tokens=tokens)
    session = embedder.session
    yield announced(embedder, () if array else (*texts, *made), found_id, resumed=False)
    writer: VectorWriter = (
        ArrayWriter(target, work.width, ids=ids, id_column=found_id)
        if array
        else VectorTableWriter(target, texts, made, work.width)
    )
    with cancelled_pool(embedder.workers) as pool, writer:
        parts = (part for rows in reader for part in _parts(rows, work.most_rows))
        for window in begun_ahead(map(work.open, parts), source, embedder, pool, work.output):
            vectors = yield from work.finish(window)
            writer.write({**window.rows.columns, errors: error_cells(window.rows, reader.unit)}, vectors)
    yield VectorSummary(
        **work.tally.sum_up(reader, on_error),
        continued=0,
        altered=writer.altered,
        provider=session.provider,
        width=work.width,
        ids=ids,
    )


class _Work:
    """The rows of one table on their way to their vectors.

    Attributes:
        output: The output of the graph that is used.
        width: Numbers of a vector.
        most_rows: Rows whose vectors may be held at a time.
        tally: What became of the rows so far.
    """

    def __init__(self, embedder: Embedder, text: str, *, tokens: bool) -> None:
        self.output = TOKENS if tokens else POOLED
        self.width = embedder.token_width if tokens else embedder.width
        longest = embedder.bundle.manifest.max_length if tokens else 1
        self.most_rows = max(1, _HELD_BYTES // (4 * longest * self.width))
        self.tally = Tally()
        self._embedder = embedder
        self._text = text
        self._tokens = tokens

    def open(self, rows: Rows) -> Window:
        """Turn the texts of some rows into pieces."""
        good = good_rows(rows)
        texts = [rows.columns[self._text][row] for row in good]
        return Window(rows, good, list(texts), self._embedder.encode(texts))

    def finish(self, window: Window) -> Generator[Progress, None, RowVectors]:
        """Await the vectors of some rows, and tell now and then how far it is."""
        encoded = window.encoded
        assert encoded is not None
        self.tally.rows += len(window.rows.errors)
        batches = []
        for future in window.batches:
            batches.append(future.result())
            yield from self.tally.count(len(batches[-1].rows))
        window.batches.clear()
        self.tally.note(encoded.truncated, self._embedder.is_empty(encoded), _repeated(batches))
        missing = np.ones(len(window.rows.numbers), dtype=np.bool_)
        missing[window.good] = False
        if self._tokens:
            pieces: list[list[str]] = [[] for _ in missing]
            for row, names in zip(window.good, self._embedder.pieces(encoded), strict=True):
                pieces[row] = names
            return RowVectors(self._embedder.gather_tokens(encoded, batches), missing, pieces)
        vectors = np.zeros((len(missing), self.width), dtype=np.float32)
        places = np.flatnonzero(~missing)
        for batch in batches:
            vectors[places[batch.rows]] = batch.values
        return RowVectors(self._embedder.finished(vectors), missing)


def _repeated(batches: Iterable[OutputBatch]) -> NDArray[np.bool_]:
    return np.concatenate([np.zeros(0, dtype=np.bool_), *(batch.repeated for batch in batches)])


def _parts(rows: Rows, most: int) -> Iterator[Rows]:
    """Cut a run of rows into runs of at most so many."""
    for start in range(0, len(rows.numbers), most):
        part = slice(start, start + most)
        yield Rows(
            rows.numbers[part],
            {name: cells[part] for name, cells in rows.columns.items()},
            {row - start: said for row, said in rows.errors.items() if start <= row < start + most},
        )


def _holds_array(target: str | Path, *, tokens: bool, keep: Sequence[str]) -> bool:
    """Tell whether an array is written, once the output can hold what is asked for."""
    if is_stream(target):
        raise ConfigError(f"vectors are written to a file: name one that ends in {' or '.join(ENDINGS)} (-o)")
    path = Path(target)
    check_vacant_file(path, overwrite=True)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError(f"{target} cannot hold vectors: name a file that ends in {' or '.join(ENDINGS)}")
    if ending == ".npy" and (tokens or keep):
        what = "a vector for each piece (--tokens)" if tokens else "other columns (--keep)"
        raise ConfigError(f"{target} cannot hold {what}: write a .parquet")
    return ending == ".npy"


def _ids_file(source: str | Path, target: Path, id_column: str | None) -> Path | None:
    """Name the file of the ids beside an array, if rows have ids."""
    file = target.with_suffix(".ids.txt")
    if id_column is not None:
        check_target(source, file)
        check_vacant_file(file, overwrite=True)
        return file
    if file.exists():  # it would seem to belong to the new array
        raise DataError(
            "holds ids, and this table has none: name their column (--id), or remove this file", file=file
        )
    return None
