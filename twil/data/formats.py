"""What a table's name says about it: the format of its rows and the compression around them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twil.errors import ConfigError, DataError

Kind = Literal["tsv", "csv", "jsonl", "parquet", "txt"]
Compression = Literal["gzip", "zstd"]

STANDARD_STREAM = "-"
TEXT_COLUMN = "TEXT"
"""Where texts are looked for, and what the lines of a file of nothing but texts are called."""
LIKELY_COLUMNS = ("text", "tweet", "full_text", "content", "review")
"""Where texts are looked for next, where no column is named and there is none of that name."""
KINDS: dict[str, Kind] = {
    "tsv": "tsv",
    "csv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "txt": "txt",
}
COMPRESSIONS: dict[str, Compression] = {"gz": "gzip", "zst": "zstd"}
_KNOWN = f"the formats are {', '.join(KINDS)}, each plain or with .{' or .'.join(COMPRESSIONS)} behind it"


@dataclass(frozen=True)
class TableFormat:
    """How a table is written down.

    Attributes:
        kind: The format of its rows.
        compression: What its bytes are compressed with.
        sniffed: The name alone says so, thus a ``csv`` may turn out to be separated by tabs.
    """

    kind: Kind
    compression: Compression | None = None
    sniffed: bool = False


def find_format(path: str | Path, override: str | None = None) -> TableFormat:
    """Read the format from the ending of a name, or from `override`.

    Args:
        path: The table, or ``-`` for standard input or output (TSV unless told).
        override: A format such as ``jsonl`` or ``jsonl.gz``. Where it names no compression, the
            ending of `path` still tells it.

    Raises:
        ConfigError: `override` is no format.
        DataError: The ending of `path` is none, or Parquet is to be compressed from outside.
    """
    if Path(path).is_dir():
        raise DataError("is a folder, and a table is one file", file=path)
    named = _parse(Path(path).name.lower())
    if override is not None:
        told = _parse("." + override.lower().removeprefix("."))
        if told.kind is None or told.stem:
            raise ConfigError(f"unknown table format '{override}': {_KNOWN}")
        kind, compression, sniffed = told.kind, told.compression or named.compression, False
    elif str(path) == STANDARD_STREAM:
        kind, compression, sniffed = "tsv", None, False
    elif named.kind is None:
        raise DataError(f"the ending of its name does not tell its format: {_KNOWN}, or name one", file=path)
    else:
        kind, compression, sniffed = named.kind, named.compression, True
    if kind == "parquet" and compression:
        raise DataError("Parquet is compressed inside: drop the second ending (gunzip, unzstd)", file=path)
    return TableFormat(kind, compression, sniffed)


@dataclass(frozen=True)
class _Endings:
    stem: str
    kind: Kind | None
    compression: Compression | None


def _parse(name: str) -> _Endings:
    stem, _, ending = name.rpartition(".")
    compression = COMPRESSIONS.get(ending)
    if compression:
        stem, _, ending = stem.rpartition(".")
    return _Endings(stem, KINDS.get(ending), compression)
