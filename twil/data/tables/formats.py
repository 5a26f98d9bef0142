"""What a table's name tells of it, and what people tell: the format of its rows, and how they are coded."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError, DataError

Kind = Literal["tsv", "csv", "jsonl", "json", "parquet", "txt"]
Compression = Literal["gzip", "zstd"]

STANDARD_STREAM = "-"
TEXT_COLUMN = "TEXT"
"""Where texts are looked for, and what the lines of a file of nothing but texts are called."""
LIKELY_COLUMNS = ("text", "texto", "tweet", "full_text", "content", "review")
"""Where texts are looked for next, where no column is named and there is none of that name."""
LABEL_COLUMN = "CLASS"
"""Where labels are looked for."""
LIKELY_LABELS = ("label", "etiqueta", "sentiment", "class", "clase")
"""Where labels are looked for next."""
KINDS: dict[str, Kind] = {
    "tsv": "tsv",
    "csv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "parquet": "parquet",
    "txt": "txt",
}
COMPRESSIONS: dict[str, Compression] = {"gz": "gzip", "zst": "zstd"}
DELIMITED = ("tsv", "csv")
"""The formats of cells with a delimiter between them, whose first line may be a header."""
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
_KNOWN = f"the formats are {', '.join(KINDS)}, each plain or with .{' or .'.join(COMPRESSIONS)} behind it"


@dataclass(frozen=True)
class TableFormat:
    """How a table is written down.

    Attributes:
        kind: The format of its rows.
        compression: What its bytes are compressed with.
        sniffed: The name alone says so, thus a ``csv`` may turn out to be separated by tabs.
        reading: What else was told.
    """

    kind: Kind
    compression: Compression | None = None
    sniffed: bool = False
    reading: Reading = AS_FOUND

    @property
    def header(self) -> bool:
        """Whether a first line names the columns, where the format has one."""
        return self.reading.header is not False


def find_reading(path: str | Path, reading: Reading) -> TableFormat:
    """Find out how a table is to be read.

    Raises:
        ConfigError: Its format is unknown, or what was told of it has no effect on that format.
        DataError: There is no such file, or see `find_format`.
    """
    if reading.format is None and str(path) != STANDARD_STREAM and not Path(path).exists():
        raise DataError("there is no such file: check the path", file=path)
    form = find_format(path, reading.format, option="--input-format")
    told = {
        "--no-header": (reading.header is False, DELIMITED),
        "--delimiter": (reading.delimiter is not None, DELIMITED),
        "--quoted": (reading.quoted, DELIMITED),
        "--encoding": (reading.encoding is not None, (*DELIMITED, "jsonl", "json", "txt")),
    }
    for option, (given, kinds) in told.items():
        if given and form.kind not in kinds:
            where = "TSV and CSV" if kinds == DELIMITED else "text formats"
            raise ConfigError(f"{option} would have no effect on {path}: only with {where}")
    return replace(form, reading=reading)


def find_format(path: str | Path, override: str | None = None, *, option: str = "") -> TableFormat:
    """Read the format from the ending of a name, or from `override`.

    Args:
        path: The table, or ``-`` for standard input or output (TSV unless told).
        override: A format such as ``jsonl`` or ``jsonl.gz``. Where it names no compression, the
            ending of `path` still tells it.
        option: What `override` is called on the command line.

    Raises:
        ConfigError: `override` is no format.
        DataError: The ending of `path` is none, or Parquet is to be compressed from outside.
    """
    if Path(path).is_dir():
        raise DataError("is a folder, and a table is one file: name the file in it", file=path)
    named = _parse(Path(path).name.lower())
    if override is not None:
        told = _parse("." + override.lower().removeprefix("."))
        if told.kind is None or told.stem:
            raise ConfigError(f"unknown table format '{override}': {_KNOWN}")
        kind, compression, sniffed = told.kind, told.compression or named.compression, False
    elif str(path) == STANDARD_STREAM:
        kind, compression, sniffed = "tsv", None, False
    elif named.kind is None:
        if Path(path).suffix.lower() in SPREADSHEETS:
            raise DataError(
                "spreadsheets are not read or written: take CSV (in UTF-8) in its place", file=path
            )
        cure = f"{_KNOWN}, or name one{f' ({option})' if option else ''}"
        raise DataError(f"the ending of its name does not tell its format: {cure}", file=path)
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


def is_utf8(encoding: str | None) -> bool:
    """Tell whether an encoding is UTF-8, which is what is read where none is named."""
    return encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
