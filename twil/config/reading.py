"""What people tell of a table so that it is read as it is meant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from twil.core.errors import ConfigError

_WORDS = {"tab": "\t", "\\t": "\t"}
"""How a delimiter that is not easily typed is called."""
_MOST_MB = 1024


@dataclass(frozen=True)
class Reading:
    """How a table is to be read, as far as its name and its first line do not tell.

    Attributes:
        format: A format such as ``jsonl`` or ``jsonl.gz``, where the ending of its name tells none.
        header: Whether the first line of a TSV or CSV names its columns; when False they are called ``1``,
            ``2``, …
        delimiter: The character between the cells of a TSV or CSV, or the word ``tab``.
        quoted: Quotes enclose cells in a TSV, too, as pandas writes it; otherwise they are text there.
        encoding: Of a text format, such as ``latin-1``, ``cp1252`` or ``utf-16``; UTF-8 when left out.
        max_row_mb: The longest row that is read, in MiB.

    Raises:
        ConfigError: The delimiter is none, there is no such encoding, or no such row can be read.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # as a section of a run's settings

    format: str | None = None
    header: bool | None = None
    delimiter: str | None = None
    quoted: bool = False
    encoding: str | None = None
    max_row_mb: int = 16

    def __post_init__(self) -> None:
        """Take words for the characters that they stand for, and refuse what cannot be read by."""
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", _WORDS.get(self.delimiter, self.delimiter))
            if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
                raise ConfigError(
                    f"the delimiter {self.delimiter!r} is not one character that stands between cells: name "
                    "one such as ; or |, or tab"
                )
        if self.encoding is not None:
            _check_encoding(self.encoding)
        if not 1 <= self.max_row_mb <= _MOST_MB:
            raise ConfigError(
                f"the longest row can have from 1 to {_MOST_MB:,} MiB, not {self.max_row_mb:,} (--max-row-mb)"
            )

    @property
    def is_told(self) -> bool:
        """Whether anything is told of what the table is like."""
        return replace(self, max_row_mb=AS_FOUND.max_row_mb) != AS_FOUND

    @property
    def max_row_bytes(self) -> int:
        """The longest row that is read, in bytes; of what is decoded already, in characters."""
        return self.max_row_mb << 20

    @property
    def too_long(self) -> str:
        """What is wrong with a longer one."""
        return f"longer than {self.max_row_mb:,} MiB, the most that is read of a row (--max-row-mb)"


AS_FOUND = Reading()
"""What the name and the first line of a table tell is all that is known."""


def _check_encoding(name: str) -> None:
    try:
        "".encode(name)  # refuses codecs that are none of text, as lookup does not
    except LookupError:
        raise ConfigError(
            f"there is no encoding '{name}': name one such as utf-8, latin-1, cp1252 or utf-16"
        ) from None
