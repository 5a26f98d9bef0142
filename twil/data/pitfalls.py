"""What makes scores misleading, found in sets that are about to be trained and measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twil.data.labelled import LabelledSet
from twil.data.repeats import Overlap, find_overlaps, key_texts


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
