"""The rows of a corpus in the making: encoded, and waiting on disk until it is known where they go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from twil.data.corpus.disk_array import DiskArray, DiskReader
from twil.data.corpus.grouping import RowKeys
from twil.data.corpus.token_store import TokenArray, TokenType
from twil.text.special import SpecialTokens


class Fate(IntEnum):
    """What becomes of an encoded row."""

    KEPT = 0
    REPEATED = 1
    DUPLICATE = 2
    EMPTY = 3


@dataclass(frozen=True)
class EncodedRows:
    """Some rows; their arrays as they lie on disk.

    Attributes:
        tokens: The ids of all texts, row by row, special tokens left out.
        lengths: int32 ``(rows, 2)``: tokens of each text; of a single text the second is 0.
        truncated: bool ``(rows,)``: whether tokens were cut off.
        fates: uint8 ``(rows,)``: what becomes of each, a `Fate`.
        held_out: bool ``(rows,)``: whether it goes to dev.
    """

    tokens: TokenArray
    lengths: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    fates: NDArray[np.uint8]
    held_out: NDArray[np.bool_]

    def select(self, chosen: NDArray[np.bool_]) -> EncodedRows:
        """Take the rows where `chosen` ``(rows,)`` is true."""
        tokens = self.tokens[np.repeat(chosen, self.lengths.sum(axis=1))]
        return EncodedRows(
            tokens, self.lengths[chosen], self.truncated[chosen], self.fates[chosen], self.held_out[chosen]
        )


def encoded_rows(
    encodings: Sequence[Encoding],
    truncated: NDArray[np.bool_],
    tokens: TokenType,
    special: SpecialTokens,
    *,
    pairs: bool,
    held_out: bool,
) -> EncodedRows:
    """Turn what the tokenizer gives into arrays.

    Args:
        encodings: Of pairs or of single texts.
        truncated: bool ``(rows,)``: whether something of them was cut off.
        tokens: The type of the ids.
        special: The special tokens around the texts.
        pairs: Which of both.
        held_out: Whether the rows go to dev.
    """
    flat, lengths = _unframe(encodings, tokens, special, pairs=pairs)
    # The tokenizer may find nothing to read where there are characters.
    empty = (lengths[:, : 1 + pairs] == 0).any(axis=1)
    return EncodedRows(
        tokens=flat,
        lengths=lengths,
        truncated=truncated,
        fates=np.where(empty, Fate.EMPTY, Fate.KEPT).astype(np.uint8),
        held_out=np.full(len(encodings), held_out),
    )


class RowSpool:
    """Rows on disk, in the order in which they were read.

    Args:
        folder: For its files.
        tokens: The type of the ids.

    Attributes:
        token_type: The type of the ids.
        links: See `RowKeys`; ``(rows, 2)`` on disk, like the others.
        repeats: See `RowKeys`.
        duplicates: See `RowKeys`.
    """

    def __init__(self, folder: Path, tokens: TokenType) -> None:
        self.token_type = tokens
        with ExitStack() as stack:  # what is open is closed where the next cannot be opened

            def array(name: str, dtype: Any, columns: int = 1) -> DiskArray:
                return stack.enter_context(DiskArray(folder / name, dtype, columns))

            self._tokens = array("tokens", tokens)
            self._lengths = array("lengths", np.int32, 2)
            self._truncated = array("truncated", np.bool_)
            self._fates = array("fates", np.uint8)
            self._held_out = array("held-out", np.bool_)
            self.links = array("links", np.uint64, 2)
            self.repeats = array("repeats", np.uint64)
            self.duplicates = array("duplicates", np.uint64)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._fates)

    def append(self, rows: EncodedRows, keys: RowKeys) -> None:
        """Add rows at the end."""
        self._tokens.append(rows.tokens)
        self._lengths.append(rows.lengths)
        self._truncated.append(rows.truncated)
        self._fates.append(rows.fates)
        self._held_out.append(rows.held_out)
        self.links.append(keys.links)
        self.repeats.append(keys.repeats)
        self.duplicates.append(keys.duplicates)

    def fates(self) -> NDArray[np.uint8]:
        """Map what becomes of the rows ``(rows,)``; a change of it is kept."""
        return self._fates.map()

    def any_kept(self) -> bool:
        """Tell whether any row is kept."""
        return any((run == Fate.KEPT).any() for run in self._fates.runs())

    def held_out(self) -> NDArray[np.bool_]:
        """Map whether the rows go to dev ``(rows,)``; a change of it is kept."""
        return self._held_out.map()

    def read(self) -> SpoolReader:
        """Read all rows from the first."""
        arrays = (self._tokens, self._lengths, self._truncated, self._fates, self._held_out)
        return SpoolReader(*(array.read() for array in arrays))


class SpoolReader:
    """Reads a spool onwards; its arguments read the fields of `EncodedRows`."""

    def __init__(self, tokens: DiskReader, lengths: DiskReader, *rest: DiskReader) -> None:
        self._tokens = tokens
        self._lengths = lengths
        self._rest = rest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for reader in (self._tokens, self._lengths, *self._rest):
            reader.close()

    def take(self, rows: int) -> EncodedRows:
        """Read the next rows."""
        lengths = self._lengths.take(rows)
        tokens = self._tokens.take(int(lengths.sum()))
        return EncodedRows(tokens, lengths, *(reader.take(rows) for reader in self._rest))


def _unframe(
    encodings: Sequence[Encoding], tokens: TokenType, special: SpecialTokens, *, pairs: bool
) -> tuple[TokenArray, NDArray[np.int32]]:
    """Take the special tokens off: [CLS] first [SEP], or [CLS] first [SEP] second [SEP].

    Some families put two in the middle.

    Returns:
        The ids of all texts, and their lengths int32 ``(rows, 2)``.
    """
    counts = np.fromiter(map(len, encodings), np.int64, len(encodings))
    flat = np.fromiter(chain.from_iterable(row.ids for row in encodings), tokens, int(counts.sum()))
    ends = np.cumsum(counts)
    begins = ends - counts
    lengths = np.zeros((len(encodings), 2), np.int32)
    kept = np.ones(len(flat), np.bool_)
    kept[begins] = kept[ends - 1] = False
    borders, between = ends - 1, 1
    if pairs:
        borders, between = _borders(encodings, flat, begins, special), special.between
    for place in range(between):
        kept[borders + place] = False
    lengths[:, 0] = borders - begins - 1
    lengths[:, 1] = np.maximum(ends - borders - between - 1, 0)
    return flat[kept], lengths


def _borders(
    encodings: Sequence[Encoding], flat: TokenArray, begins: NDArray[np.int64], special: SpecialTokens
) -> NDArray[np.int64]:
    """Find the (first) [SEP] between the texts of each pair."""
    separators = np.flatnonzero(flat == special.sep)
    if len(separators) == (special.between + 1) * len(encodings):
        return separators[:: special.between + 1]
    # A tokenizer of another maker may find the token in a text; whose each is, is sure, and costs more.
    firsts = np.fromiter((_second(row) for row in encodings), np.int64, len(encodings))
    return begins + firsts - special.between


def _second(row: Encoding) -> int:
    """Find where the second text of a pair begins, or would."""
    owners = row.sequence_ids
    return owners.index(1) if 1 in owners else len(owners) - 1
