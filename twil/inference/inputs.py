"""What every way from files to a file asks of its input, and of its target beside that."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias, get_args

from twil.core.errors import ConfigError, DataError
from twil.data.tables.formats import STANDARD_STREAM, TEXT_COLUMN
from twil.data.tables.rows import Rows, named_columns
from twil.data.tables.streams import is_stream
from twil.data.tables.table_sets import Shard, TableSet
from twil.data.tables.tables import OnError
from twil.inference.texts import Text

ID_COLUMNS = ("ID", "id", "Id", "iD")
"""The columns that name the rows where no other is asked for: the first of them that the tables have."""

Sources: TypeAlias = str | Path | Sequence[str | Path]
"""A table, or several that are read one behind another."""


def source_paths(source: Sources) -> tuple[str | Path, ...]:
    """List the tables that are named."""
    return (source,) if isinstance(source, str | Path) else tuple(source)


def open_tables(
    source: Sources,
    texts: Sequence[str | None],
    id_column: str | None,
    keep: Sequence[str],
    **options: Any,
) -> tuple[TableSet, tuple[str, ...], str | None]:
    """Open the input; return it with the columns of its texts, and the one that names its rows, if any.

    Args:
        source: The tables.
        texts: The columns of the texts, see `named_columns`.
        id_column: The column that names the rows, where one is asked for.
        keep: Other columns that are wanted.
        options: Of `TableSet`.
    """
    paths = source_paths(source)
    found_id = id_column
    if id_column is not None:
        tables = TableSet(paths, texts, kept=[id_column, *keep], **options)
    else:
        tables = TableSet(paths, texts, kept=keep, optional=ID_COLUMNS, **options)
        found_id = next((name for name in ID_COLUMNS if name in tables.names), None)
    return tables, named_columns(texts, tables.names), found_id


def repeated_columns(id_column: str | None, file_column: str | None, keep: Sequence[str]) -> tuple[str, ...]:
    """Name the columns that the output repeats: the id, that of the files, and those that are kept."""
    return tuple(dict.fromkeys([*(name for name in (id_column, file_column) if name is not None), *keep]))


def shard_rows(shard: Shard | None, tables: TableSet) -> range | None:
    """Tell which rows are asked for, where it is not all of them; the tables are read to count their rows."""
    return shard.rows(tables.count_rows()) if shard else None


def refuse_options(options: Mapping[str, object], made: str) -> None:
    """Refuse options for what is made already.

    Args:
        options: Those that were given, by name.
        made: What has its own.

    Raises:
        ConfigError: There is one.
    """
    if options:
        raise ConfigError(
            f"{', '.join(options)} would have no effect: {made} has its own, from when it was made: make it "
            "with them, or give its bundle"
        )


def found_text(asked: str | None, found: str) -> str | None:
    """Return the column of the texts where it was found by a name that nobody gave; see `named_columns`."""
    return found if asked is None and found != TEXT_COLUMN else None


def check_shard(shard: Shard | None, source: Sources) -> None:
    """Refuse a part of a stream.

    Raises:
        ConfigError: One is asked for.
    """
    if shard and any(map(is_stream, source_paths(source))):
        raise ConfigError("a stream has no shards, as its rows cannot be counted before: name a file")


def check_on_error(on_error: str) -> None:
    """Refuse an unknown way with bad rows.

    Raises:
        ConfigError: It names those that there are.
    """
    if on_error not in get_args(OnError):
        raise ConfigError(f"bad rows cannot be met with '{on_error}': choose one of fail, skip, mark")


def check_target(source: Sources, target: str | Path) -> None:
    """Refuse an output that is its input, whatever names or links lead there.

    Raises:
        DataError: It is.
    """
    written = _file_of(target, sys.stdout)
    if written and written in (_file_of(path, sys.stdin) for path in source_paths(source)):
        raise DataError("the output would replace its input: choose another name", file=target)


def _file_of(path: str | Path, standard: IO[str]) -> tuple[int, int] | None:
    """Give device and number of the file that a path, or a standard stream, leads to; None where to none."""
    try:
        status = os.fstat(standard.fileno()) if str(path) == STANDARD_STREAM else Path(path).stat()
    except (OSError, ValueError):  # there is none, or the stream is no file of the system
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def chosen_texts(rows: Rows, names: Sequence[str], chosen: Sequence[int]) -> list[Text]:
    """Return the texts (or pairs of them, of two columns) of chosen rows."""
    first, *second = ([rows.columns[name][row] for row in chosen] for name in names)
    return list(zip(first, second[0], strict=True)) if second else list(first)
