"""Texts that come more than once: in one file, in two, and with different labels.

Texts are told apart by numbers of 64 bits, so that what is held of a row does not grow with its text.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from twil.core.hashing import UInt64Array, combine, hash_texts
from twil.data.corpus.cleaning import fold
from twil.data.labelled import LabelledSet

NO_LABEL = -1
"""The code of a row without a label."""

_NO_TEXT = np.uint64(0)  # the key of an empty text, which repeats nothing
_SHOWN = 3  # examples of what is found


@dataclass(frozen=True)
class TextKeys:
    """What tells the texts of some rows apart; a pair counts as one text.

    Attributes:
        same: uint64 ``(rows,)``: equal where texts are; 0 for an empty one.
        near: uint64 ``(rows,)``: equal where texts are the same but for links, mentions, punctuation, blanks
            and case; 0 for an empty one.
        lines: int64 ``(rows,)``: where each row begins in its file.
    """

    same: UInt64Array
    near: UInt64Array
    lines: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.same)


@dataclass(frozen=True)
class Overlap:
    """Rows of one file or set whose text stands in another, too.

    Attributes:
        name: The one, such as dev.
        other: The other, such as train.
        same: Rows whose text is the same.
        near: Rows whose text is the same but for links, mentions, punctuation, blanks and case; those of
            `same` are among them.
        share: Of the rows of the one that `same` is.
        lines: The first of them, each with a row of the other: lines in both files.
    """

    name: str
    other: str
    same: int
    near: int
    share: float
    lines: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Place:
    """Where a label stands.

    Attributes:
        name: The file or the set.
        line: In the file.
        label: As it is written there.
    """

    name: str
    line: int
    label: str


@dataclass(frozen=True)
class Contradictions:
    """Texts that have different labels in different rows, in one file or in several.

    Attributes:
        texts: How many.
        rows: How many rows they stand in.
        first: Of the first texts one row for each label.
    """

    texts: int
    rows: int
    first: tuple[tuple[Place, ...], ...]


def key_texts(texts: Sequence[str], pairs: Sequence[str] | None, lines: Sequence[int]) -> TextKeys:
    """Number texts.

    Args:
        texts: One per row.
        pairs: The second texts, where rows are pairs.
        lines: Where each row begins in its file.
    """
    parts = [texts] if pairs is None else [texts, pairs]
    empty = reduce(np.logical_or, (_flags(not text.strip() for text in part) for part in parts))
    same = [hash_texts(part) for part in parts]
    near = [_hash_folded(part, hashed) for part, hashed in zip(parts, same, strict=True)]
    return TextKeys(
        same=np.where(empty, _NO_TEXT, reduce(combine, same)),
        near=np.where(empty, _NO_TEXT, reduce(combine, near)),
        lines=np.asarray(lines, dtype=np.int64),
    )


class KeyBuffer:
    """Gathers the keys of rows that come run by run, without ever holding them twice."""

    def __init__(self) -> None:
        self._same, self._near, self._lines = array("Q"), array("Q"), array("q")

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._same)

    def add(self, keys: TextKeys) -> None:
        """Put some rows behind the others."""
        self._same.frombytes(keys.same.tobytes())
        self._near.frombytes(keys.near.tobytes())
        self._lines.frombytes(keys.lines.tobytes())

    def keys(self) -> TextKeys:
        """Give the keys of all rows; none can be added any more."""
        return TextKeys(
            same=np.frombuffer(self._same, np.uint64),
            near=np.frombuffer(self._near, np.uint64),
            lines=np.frombuffer(self._lines, np.int64),
        )


def count_empty(keys: UInt64Array) -> int:
    """Count the rows without text; `keys` are those of `TextKeys`."""
    return int((keys == _NO_TEXT).sum())


def count_repeats(keys: UInt64Array) -> int:
    """Count the rows whose text an earlier row has; `keys` are those of `TextKeys`."""
    given = np.sort(keys[keys != _NO_TEXT])
    return int((given[1:] == given[:-1]).sum())


def find_overlaps(keys: Mapping[str, TextKeys]) -> tuple[Overlap, ...]:
    """Look in each file for the texts of those before it.

    Args:
        keys: By the name of the file, in an order in which training data come first.
    """
    found = []
    for other, name in combinations(keys, 2):
        rows, others = keys[name], keys[other]
        same, near = _look_up(rows.same, others.same), _look_up(rows.near, others.near)
        places = np.where(same >= 0, same, near)
        examples = np.concatenate([np.flatnonzero(same >= 0), np.flatnonzero((same < 0) & (near >= 0))])
        count = int((same >= 0).sum())
        found.append(
            Overlap(
                name=name,
                other=other,
                same=count,
                near=int((places >= 0).sum()),
                share=count / len(rows) if len(rows) else 0.0,
                lines=tuple(
                    (int(rows.lines[row]), int(others.lines[places[row]])) for row in examples[:_SHOWN]
                ),
            )
        )
    return tuple(found)


def find_contradictions(
    keys: Mapping[str, TextKeys], codes: Mapping[str, NDArray[np.int32]], labels: Sequence[str]
) -> Contradictions:
    """Find texts with different labels.

    Args:
        keys: By the name of the file.
        codes: For each of them int32 ``(rows,)``: the places of labels in `labels`, or `NO_LABEL`.
        labels: All that there are.
    """
    names = list(keys)
    texts = np.concatenate([keys[name].same for name in names])
    answers = np.concatenate([codes[name] for name in names])
    rows = np.flatnonzero((texts != _NO_TEXT) & (answers != NO_LABEL))
    rows = rows[np.argsort(texts[rows], kind="stable")]  # equal ones lie in the order of their rows
    if not len(rows):
        return Contradictions(0, 0, ())
    begins = np.flatnonzero(np.concatenate([[True], np.diff(texts[rows]) != 0]))
    lowest, highest = (pick.reduceat(answers[rows], begins) for pick in (np.minimum, np.maximum))
    ends = np.append(begins[1:], len(rows))
    groups = [rows[begins[text] : ends[text]] for text in np.flatnonzero(lowest != highest)]
    groups.sort(key=lambda group: int(group[0]))
    firsts = np.cumsum([0, *(len(keys[name]) for name in names)])
    shown = []
    for group in groups[:_SHOWN]:
        _, where = np.unique(answers[group], return_index=True)
        places = []
        for row in group[np.sort(where)]:
            file = int(np.searchsorted(firsts, row, side="right")) - 1
            line = int(keys[names[file]].lines[row - firsts[file]])
            places.append(Place(names[file], line, labels[answers[row]]))
        shown.append(tuple(places))
    return Contradictions(len(groups), sum(map(len, groups)), tuple(shown))


def _look_up(keys: UInt64Array, others: UInt64Array) -> NDArray[np.int64]:
    """Give the first row of `others` that has each key, int64 ``(keys,)``; -1 where none has."""
    different, rows = np.unique(others, return_index=True)
    if not len(different):
        return np.full(len(keys), -1)
    places = np.minimum(np.searchsorted(different, keys), len(different) - 1)
    found = (different[places] == keys) & (keys != _NO_TEXT)
    return np.where(found, rows[places], -1)


def _hash_folded(texts: Sequence[str], hashed: UInt64Array) -> UInt64Array:
    """Hash what near-exact duplicates share; where nothing is left of a text, the text itself counts."""
    folded = [fold(text) for text in texts]
    return np.where(_flags(map(bool, folded)), hash_texts(folded), hashed)


def _flags(values: Iterable[bool]) -> NDArray[np.bool_]:
    return np.fromiter(values, np.bool_)


@dataclass(frozen=True)
class Pitfalls:
    """What to know of some sets before a score of theirs is believed.

    Attributes:
        overlaps: Sets that share texts.
        constant: Sets whose rows all have the same answer, and that answer.
    """

    overlaps: tuple[Overlap, ...]
    constant: dict[str, str]


def find_pitfalls(sets: Mapping[str, LabelledSet]) -> Pitfalls:
    """Look for texts that sets share, and for sets with one label.

    Args:
        sets: By name, the one to train on first.
    """
    keys = {
        name: key_texts(labelled.texts, labelled.text_pairs, labelled.lines)
        for name, labelled in sets.items()
    }
    return Pitfalls(
        overlaps=tuple(overlap for overlap in find_overlaps(keys) if overlap.near),
        constant={
            name: labelled.labels[0] for name, labelled in sets.items() if len(set(labelled.labels)) == 1
        },
    )
