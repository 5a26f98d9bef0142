"""Markdown in which what people have named is text, whatever it holds: no tag, no link, no image."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

_ESCAPES = str.maketrans(
    {"<": "&lt;", "&": "&amp;"} | {character: f"&#{ord(character)};" for character in "|[]`\\"}
)
_BLANKS = re.compile(r"\s+")


def plain(text: object) -> str:
    """Write a text so that it is read as it is, on one line."""
    return _BLANKS.sub(" ", str(text)).strip().translate(_ESCAPES)


def code(text: object) -> str:
    """Write a text as code, on one line, within a paragraph; in a table it could end its cell."""
    line = _BLANKS.sub(" ", str(text))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line[:1] == "`" or line[-1:] == "`" or not line.strip() else ""
    return f"{fence}{space}{line}{space}{fence}"


def markdown_table(
    heads: Sequence[str], rows: Iterable[Sequence[Any]], *, figures: Collection[str] = ()
) -> list[str]:
    """Lay rows out as the lines of a table; what a cell holds cannot end it.

    Args:
        heads: The names of the columns.
        rows: Their cells.
        figures: Columns that stand to the right.
    """
    lines = [map(plain, heads), ["---:" if head in figures else "---" for head in heads]]
    lines += [map(plain, row) for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]
