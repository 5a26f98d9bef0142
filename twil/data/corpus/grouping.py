"""Rows that belong together, found on disk: repeats of one key, and conversations linked by ids.

Keys are dealt out to files by their value, so that all equal ones meet in one file that fits in memory.
Conversations are found in arrays that are mapped from disk, some 9 bytes for each id: the system keeps of
them in memory what there is room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import DataError
from twil.core.hashing import UInt64Array, combine, hash_texts, scramble
from twil.data.corpus.cleaning import fold
from twil.data.corpus.disk_array import RUN_ROWS, DiskArray
from twil.data.corpus.pairs import PairRows

PARTITION_KEYS = 1 << 18
_MOST_PARTITIONS = 128  # files open at a time; some systems allow a process 256

_RECORD = np.dtype([("key", np.uint64), ("place", np.int64)])


def mark_repeats(keys: DiskArray, marks: NDArray[np.uint8], mark: int, folder: Path) -> None:
    """Mark every row whose key an earlier row has.

    Args:
        keys: uint64 ``(rows,)``, as good as random; 0 is no key.
        marks: ``(rows,)``; a row that has a mark does not count as earlier and keeps the mark.
        mark: What to mark with.
        folder: For temporary files.
    """
    with TemporaryDirectory(dir=folder) as scratch:
        for part in _partitions(keys, Path(scratch), drop_zeros=True):
            part = part[marks[part["place"]] == 0]
            _, firsts = np.unique(part["key"], return_index=True)  # equal ones lie in the order of their rows
            marks[np.delete(part["place"], firsts)] = mark


@dataclass(frozen=True)
class HeldOut:
    """The conversations of a corpus, and those of them that were held out.

    Attributes:
        conversations: How many there are.
        held_out: How many of them were held out.
        largest: Rows of the largest one.
    """

    conversations: int
    held_out: int
    largest: int


def hold_out(
    ids: DiskArray,
    marks: NDArray[np.uint8],
    held_out: NDArray[np.bool_],
    *,
    share: float,
    seed: int,
    folder: Path,
) -> HeldOut:
    """Hold out the rows of some conversations, drawn at random.

    A conversation is all rows that are linked by ids, over any number of other rows. Whether one is drawn is
    told by its smallest id and the seed, whatever else is in the corpus. One that is larger than all that is
    to be held out stays. Where none is drawn the smallest is held out, and where all are the largest stays.

    Args:
        ids: uint64 ``(rows, 2)``, hashed: the two that each row links; twice the same where there is one.
        marks: ``(rows,)``; rows that have a mark do not count, yet they link.
        held_out: ``(rows,)``, set for the rows held out.
        share: Of the rows, to be held out.
        seed: Of the draw.
        folder: For temporary files.

    Raises:
        DataError: All rows are one conversation.
    """
    with TemporaryDirectory(dir=folder) as name, ExitStack() as stack:
        scratch = Path(name)
        # A number of four bytes for each id, as long as there are few enough.
        number = np.dtype(np.int32 if len(ids) < 1 << 30 else np.int64)
        links = stack.enter_context(DiskArray(scratch / "links", number, 2))
        different = stack.enter_context(DiskArray(scratch / "different", np.uint64))
        _number_ids(ids, links, different, scratch)
        roots = stack.enter_context(DiskArray(scratch / "roots", number)).fill(len(different))
        _connect(links, roots)
        sizes = stack.enter_context(DiskArray(scratch / "sizes", number)).fill(len(different))
        rows = 0
        for begin, run in _runs(links):
            counted = marks[begin : begin + len(run)] == 0
            np.add.at(sizes, roots[run[counted, 0]], 1)
            rows += int(counted.sum())
        chosen = stack.enter_context(DiskArray(scratch / "chosen", np.bool_)).fill(len(different))
        drawn = _draw(sizes, different, chosen, share=share, limit=max(1.0, share * rows), seed=seed)
        for begin, run in _runs(links):
            held_out[begin : begin + len(run)] = chosen[roots[run[:, 0]]]
        return drawn


def _draw(
    sizes: NDArray[Any],
    smallest: DiskArray,
    chosen: NDArray[np.bool_],
    *,
    share: float,
    limit: float,
    seed: int,
) -> HeldOut:
    """Choose conversations to hold out.

    Args:
        sizes: Rows of the conversation whose root has this number; 0 for other ids.
        smallest: The smallest hashed id of the conversation whose root has this number.
        chosen: Set for the roots of those held out.
        share: Probability of each to be drawn.
        limit: Rows of the largest one that may be drawn.
        seed: Of the draw.

    Raises:
        DataError: There is only one conversation.
    """
    below = np.uint64(min(int(share * 2**64), 2**64 - 1))
    conversations = drawn = 0
    ends: list[tuple[int, int, int]] = []  # size, lot and root of the smallest and the largest
    for begin, ids in _runs(smallest):
        here = np.flatnonzero(sizes[begin : begin + len(ids)])
        if not len(here):
            continue
        roots, lots = begin + here, scramble(ids[here], seed)
        rows = sizes[roots]
        chosen[roots] = (lots < below) & (rows <= limit)
        order = np.lexsort((lots, rows))[[0, -1]]
        columns = (column[order].tolist() for column in (rows, lots, roots))
        ends = sorted([*ends, *zip(*columns, strict=True)])
        ends = [ends[0], ends[-1]]
        conversations += len(roots)
        drawn += int(chosen[roots].sum())
    (_, _, least), (largest, _, most) = ends
    if conversations < 2:
        raise DataError(
            f"the ids link all {largest:,} rows to one conversation, which cannot be shared out: "
            "give files to hold out (--dev-files), or hold out nothing (--dev 0)"
        )
    if drawn == 0:
        chosen[least], drawn = True, 1
    elif drawn == conversations:
        chosen[most], drawn = False, drawn - 1
    return HeldOut(conversations, drawn, largest)


def _number_ids(ids: DiskArray, links: DiskArray, different: DiskArray, folder: Path) -> None:
    """Number the different ids in the order of their hash.

    Args:
        ids: uint64 ``(rows, 2)``.
        links: Empty; gets their numbers ``(rows, 2)``.
        different: Empty; gets the id of each number.
        folder: For temporary files.
    """
    numbers = links.fill(len(ids)).reshape(-1)
    for part in _partitions(ids, folder):
        found, inverse = np.unique(part["key"], return_inverse=True)
        numbers[part["place"]] = len(different) + inverse
        different.append(found)


def _connect(links: DiskArray, roots: NDArray[Any]) -> None:
    """Find the root of each number, the smallest that links lead to.

    Roots of linked numbers are hooked onto the smaller one, and ways to them cut short, until no link joins
    two roots (Shiloach & Vishkin 1982). The ids of a corpus take a handful of rounds.

    Args:
        links: ``(rows, 2)``.
        roots: ``(numbers,)``, set to the root of each.
    """
    for begin in range(0, len(roots), RUN_ROWS):
        roots[begin : begin + RUN_ROWS] = np.arange(begin, min(begin + RUN_ROWS, len(roots)))
    joined = True
    while joined:
        joined = False
        for _, run in _runs(links):
            ends = roots[run]  # (rows, 2)
            low, high = ends.min(axis=1), ends.max(axis=1)
            if (apart := low != high).any():
                np.minimum.at(roots, high[apart], low[apart])
                joined = True
        for begin in range(0, len(roots), RUN_ROWS):
            run = roots[begin : begin + RUN_ROWS]
            while ((further := roots[run]) != run).any():
                run[:] = further


def _partitions(keys: DiskArray, folder: Path, *, drop_zeros: bool = False) -> Iterator[NDArray[Any]]:
    """Deal out keys to files by their highest bits; yield (key, place) of each, in the order of places.

    All keys of a file are smaller than those of the next. Where 0 is no key it must be dropped: without ids
    all rows have it, and one file would hold them all.
    """
    number = min(-(-len(keys) * keys.columns // PARTITION_KEYS), _MOST_PARTITIONS)
    with ExitStack() as stack:
        parts = [
            stack.enter_context(DiskArray(folder / f"partition-{part}", _RECORD)) for part in range(number)
        ]
        place = 0
        for run in keys.runs(RUN_ROWS):
            records = np.empty(run.size, _RECORD)
            records["key"] = run.ravel()
            records["place"] = np.arange(place, place + run.size)
            place += run.size
            if drop_zeros:
                records = records[records["key"] != 0]
            part_of = ((records["key"] >> np.uint64(32)) * np.uint64(number)) >> np.uint64(32)
            order = np.argsort(part_of, kind="stable")
            ends = np.cumsum(np.bincount(part_of.astype(np.intp), minlength=number))
            for part, chosen in zip(parts, np.split(records[order], ends[:-1]), strict=True):
                part.append(chosen)
        for part in parts:
            with part.read() as reader:
                yield reader.take(len(part))
            part.close()
            part.path.unlink()


def _runs(rows: DiskArray) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield runs of rows and the number of the first."""
    begin = 0
    for run in rows.runs(RUN_ROWS):
        yield begin, run
        begin += len(run)


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
