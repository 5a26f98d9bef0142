"""Some texts of a table, read again to be shown."""

from __future__ import annotations

from collections.abc import Collection

from twil.config.reading import AS_FOUND, Reading
from twil.data.tables.streams import InputFile
from twil.data.tables.tables import TableReader

_SHOWN = 80  # characters of a text


def read_excerpts(
    file: InputFile,
    column: str,
    lines: Collection[int],
    *,
    reading: Reading = AS_FOUND,
) -> dict[int, str]:
    """Read the beginnings of the texts of some rows, each on one line; of a stream there are none any more.

    Args:
        file: The table, which is read as far as the last of the rows.
        column: Of the texts.
        lines: Where the rows begin.
        reading: How it is read.

    Raises:
        DataError: It is not what it was when it was first read.
    """
    wanted = set(lines)
    found: dict[int, str] = {}
    if not wanted or file.stream:
        return found
    for rows in TableReader(file, [column], reading=reading, on_error="mark"):
        for line, text in zip(rows.numbers, rows.columns[column], strict=True):
            if line in wanted:
                found[line] = _shorten(text)
        if len(found) == len(wanted):
            break
    return found


def _shorten(text: str) -> str:
    # What a terminal would obey is no part of what a person reads.
    plain = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return plain if len(plain) <= _SHOWN else f"{plain[: _SHOWN - 1]}…"
