"""What tells rows of pairs and single texts apart, and what links them, as numbers of 64 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twil.core.hashing import UInt64Array, combine, hash_texts, scramble
from twil.data.cleaning import fold
from twil.data.pairs import PairRows

_TEXT_SALT = 1  # a text that reads like an id is none


@dataclass(frozen=True)
class RowKeys:
    """Numbers of some rows.

    Attributes:
        links: uint64 ``(rows, 2)``: the ids of a row's texts, which link it to the rows that have one of
            them. A row of one id has it twice; one without ids has its (first) text instead.
        repeats: uint64 ``(rows,)``: equal where a row repeats another: pairs have the same two ids, single
            texts the same id and text. 0 where ids are missing.
        duplicates: uint64 ``(rows,)``: equal where texts are the same but for links, mentions, punctuation,
            blanks and case; 0 where that was not asked.
    """

    links: UInt64Array
    repeats: UInt64Array
    duplicates: UInt64Array


def row_keys(rows: PairRows, *, duplicates: bool) -> RowKeys:
    """Number rows by their ids and texts.

    Args:
        rows: Pairs or single texts.
        duplicates: Whether to tell near-exact duplicates.
    """
    links, repeats = _keys_of_texts(rows) if rows.second is None else _keys_of_pairs(rows)
    folded = _fold(rows) if duplicates else np.zeros(len(rows.numbers), np.uint64)
    return RowKeys(links, repeats, folded)


def _keys_of_pairs(rows: PairRows) -> tuple[UInt64Array, UInt64Array]:
    first, second = hash_texts(rows.first_ids), hash_texts(rows.second_ids)
    first_named, second_named = _given(rows.first_ids), _given(rows.second_ids)
    both = first_named & second_named
    if both.all():
        return np.stack([first, second], axis=1), combine(first, second)
    nameless = _hash_contents(rows.first)
    first = np.where(first_named, first, np.where(second_named, second, nameless))
    second = np.where(second_named, second, first)
    return np.stack([first, second], axis=1), np.where(both, combine(first, second), np.uint64(0))


def _keys_of_texts(rows: PairRows) -> tuple[UInt64Array, UInt64Array]:
    named = _given(rows.first_ids)
    ids, contents = hash_texts(rows.first_ids), _hash_contents(rows.first)
    link = np.where(named, ids, contents)
    # An id may be a mere row number, which another file has too: alone it makes no repeat.
    return np.stack([link, link], axis=1), np.where(named, combine(ids, contents), np.uint64(0))


def _fold(rows: PairRows) -> UInt64Array:
    first = hash_texts(map(fold, rows.first))
    return first if rows.second is None else combine(first, hash_texts(map(fold, rows.second)))


def _hash_contents(texts: Sequence[str]) -> UInt64Array:
    return scramble(hash_texts(texts), _TEXT_SALT)


def _given(ids: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.fromiter(map(bool, ids), np.bool_, len(ids))
