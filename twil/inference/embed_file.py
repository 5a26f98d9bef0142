"""Tables in, the vectors of their texts out, in constant memory."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from twil.bundle.bundle import POOLED, TOKENS
from twil.bundle.cache import Preparing, prepared
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError, DataError
from twil.core.storage import check_vacant_file
from twil.data.tables.streams import is_stream
from twil.data.tables.table_sets import Shard
from twil.data.tables.tables import OnError
from twil.data.tables.vector_writers import ArrayWriter, RowVectors, VectorTableWriter, VectorWriter
from twil.inference.columns import ERROR_COLUMN, error_cells, free_name
from twil.inference.embedder import Embedder
from twil.inference.engine import WINDOW_ROWS, EngineOptions
from twil.inference.events import RowsDone, RowsStarted, Summary
from twil.inference.inputs import (
    Sources,
    check_on_error,
    check_shard,
    check_target,
    found_text,
    open_tables,
    refuse_options,
    repeated_columns,
    shard_rows,
)
from twil.inference.pipeline import Window, Work, announced, cancelled_pool
from twil.inference.resume import PartialRun, run_settings

VECTOR_COLUMN, TOKENS_COLUMN, VECTORS_COLUMN = "vector", "tokens", "vectors"
ENDINGS = (".npy", ".parquet")

_HELD_BYTES = 1 << 25  # of vectors in a window: those of all tokens of thousands of rows would be gigabytes


@dataclass(frozen=True)
class VectorSummary(Summary):
    """The vectors are complete and in their place.

    Attributes:
        width: Numbers of a vector.
        ids: The file of the rows' ids beside an array; None where there is none.
    """

    width: int
    ids: Path | None


def embed_events(
    source: Sources,
    model: str | Path | Embedder,
    target: str | Path,
    *,
    tokens: bool = False,
    normalize: bool | None = None,
    text: str | None = None,
    id_column: str | None = None,
    file_column: str | None = None,
    keep: Sequence[str] = (),
    on_error: OnError = "fail",
    reading: Reading = AS_FOUND,
    shard: Shard | None = None,
    window_rows: int = WINDOW_ROWS,
    resume: bool = False,
    overwrite: bool = False,
    **options: Unpack[EngineOptions],
) -> Generator[Preparing | RowsStarted | RowsDone | VectorSummary, None, None]:
    """Compute the vectors of every row of a table, or of several, and tell on the way how far it is.

    A ``.npy`` holds float32 ``(rows, width)`` in the order of the input; the ids stand as lines in a file
    beside it, ``vectors.ids.txt`` for ``vectors.npy``. A ``.parquet`` holds the id, the kept columns, and
    the vector as a list of fixed size in `vector`; or the tokens in `tokens` and a vector for each in
    `vectors`. Where a column of the input has one of these names, the one that is made begins with
    `predicted_`. The output appears under its name once it is complete. What an interrupted run keeps, and
    how several tables and shards are read, is as in `predict_events`; the vectors lie in ``TARGET.partial`` a
    second time while a long run is under way.

    Args:
        source: The table, ``-`` for standard input, or several tables.
        model: What an `Embedder` is made of, or one.
        target: Where the vectors go: a ``.npy`` or a ``.parquet``.
        tokens: Give a vector for each token, not one a row (Parquet only).
        normalize: Give every vector the length 1; not where left out. An embedder says so itself.
        text: The column with the text. When left out: `TEXT`, else the only one of
            `text`, `texto`, `tweet`, `full_text`, `content` and `review`.
        id_column: The column that names the rows. When left out: `ID`, in any case, where the table has it.
        file_column: A column for the path of each row's table, as it is given in `source` (Parquet only).
        keep: Columns of the input to repeat (Parquet only).
        on_error: What a bad row leads to: ``fail`` raises, ``skip`` leaves it out, ``mark`` keeps it without
            a vector (NaN in an array; in Parquet null, and a column `error` says what is wrong).
        reading: How `source` is read, as far as its name and its first line do not tell.
        shard: Give the rows of this part of the tables only, each with the vector of a run over all.
        window_rows: Rows held in memory, and sorted by length, at a time; fewer where their vectors are many.
        resume: Continue the interrupted run with this output, if there is one.
        overwrite: Give an interrupted run with this output up.
        options: See `EngineOptions`: how a bundle is run, `side_by_side` unless that is False. An embedder
            has its own.

    Yields:
        `Preparing` where the model is no bundle, `RowsStarted`, then `RowsDone` a few times a second, and
        last `VectorSummary`.

    Raises:
        ConfigError: `on_error` is unknown, an embedder is given options, the target cannot hold what is
            asked for, or an interrupted run lies beside it that is neither continued nor given up, or had
            other settings or texts.
        DataError: The table cannot be read as asked, or its output not be written or would replace it.
        ModelError: The bundle is damaged, or is a classifier's.
        ProviderError: The provider asked for cannot be had.
    """
    if isinstance(model, Embedder):
        given = {} if normalize is None else {"normalize": normalize}
        refuse_options({**given, **options}, "an embedder")
    check_shard(shard, source)
    check_on_error(on_error)
    array = _holds_array(target, tokens=tokens, more={"--keep": keep, "--file-column": file_column})
    state = PartialRun(Path(target), resume=resume, overwrite=overwrite)
    with state:
        tables, texts, found_id = open_tables(
            source, (text,), id_column, keep, reading=reading, on_error=on_error, file_column=file_column
        )
        check_target(source, target)
        ids = _ids_file(source, Path(target), found_id) if array else None
        if isinstance(model, Embedder):
            embedder = model
        else:
            options.setdefault("side_by_side", True)
            embedder = Embedder((yield from prepared(model, "encoder")), normalize=bool(normalize), **options)
        wanted = shard_rows(shard, tables)
        repeated = list(repeated_columns(found_id, file_column, keep))
        made = [
            free_name(name, repeated)
            for name in ((TOKENS_COLUMN, VECTORS_COLUMN) if tokens else (VECTOR_COLUMN,))
        ]
        errors = free_name(ERROR_COLUMN, repeated)
        if on_error == "mark" and not array:
            repeated.append(errors)
        width = embedder.token_width if tokens else embedder.width
        longest = embedder.bundle.manifest.max_length if tokens else 1
        size = min(window_rows, max(1, _HELD_BYTES // (4 * longest * width)))
        settings = run_settings(embedder, size, tokens=tokens, normalize=embedder.normalize)
        gather = embedder.gather_tokens if tokens else embedder.gather
        output = TOKENS if tokens else POOLED
        session = embedder.session
        writer: VectorWriter = (
            ArrayWriter(target, width, ids=ids, id_column=found_id)
            if array
            else VectorTableWriter(target, repeated, made, width)
        )
        resumed = state.open(settings, beside=ids)
        work = Work(embedder, texts, gather, state, output=output, tokens=tokens)
        columns = () if array else (*repeated, *made)
        found = found_text(text, texts[0])
        yield announced([embedder], tables, columns, found_id, found_text=found, resumed=resumed)
        with cancelled_pool(embedder.workers) as pool, writer:
            for window in work.windows(tables, size, wanted, pool):
                values = (yield from work.finish(window)).values
                cells = {**window.rows.columns, errors: error_cells(window.rows)}
                names = None
                if tokens:
                    assert window.encoded is not None
                    names = embedder.token_names(window.encoded)
                writer.write(
                    {name: column[window.own] for name, column in cells.items()},
                    _row_vectors(window, values, names).part(window.own),
                )
    yield VectorSummary(
        **work.tally.sum_up(tables, on_error),
        altered=writer.altered,
        provider=session.provider,
        width=width,
        ids=ids,
    )


def _row_vectors(
    window: Window, values: NDArray[np.float32], names: Sequence[list[str]] | None
) -> RowVectors:
    """Give every row of a window its vectors, and the bad ones none."""
    missing = np.ones(len(window.rows.numbers), dtype=np.bool_)
    missing[window.good] = False
    if names is not None:
        named: list[list[str]] = [[] for _ in missing]
        for row, found in zip(window.good, names, strict=True):
            named[row] = found
        return RowVectors(values, missing, named)
    vectors = np.zeros((len(missing), values.shape[1]), dtype=np.float32)
    vectors[window.good] = values
    return RowVectors(vectors, missing)


def _holds_array(target: str | Path, *, tokens: bool, more: Mapping[str, object]) -> bool:
    """Tell whether an array is written, once the output can hold what is asked for.

    Args:
        target: The output.
        tokens: Whether it is to hold a vector for each token.
        more: Other columns that it is to hold, by their options.
    """
    if is_stream(target):
        raise ConfigError(f"vectors are written to a file: name one that ends in {' or '.join(ENDINGS)} (-o)")
    path = Path(target)
    check_vacant_file(path, overwrite=True)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError(f"{target} cannot hold vectors: name a file that ends in {' or '.join(ENDINGS)}")
    asked = [f"other columns ({option})" for option, columns in more.items() if columns]
    if ending == ".npy" and (tokens or asked):
        what = "a vector for each token (--tokens)" if tokens else asked[0]
        raise ConfigError(f"{target} cannot hold {what}: write a .parquet")
    return ending == ".npy"


def _ids_file(source: Sources, target: Path, id_column: str | None) -> Path | None:
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
