"""A labelled set cut in two: most rows to learn from, the others to decide by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import DataError
from twil.core.task import TaskKind
from twil.data.labelled import LabelledSet, parse_number
from twil.data.survey.repeats import key_texts


def hold_out(
    labelled: LabelledSet, share: float, kind: TaskKind, seed: int
) -> tuple[LabelledSet, LabelledSet]:
    """Cut a set in two, the same two for the same rows and seed; both keep the order of the file.

    Each label (of several a combination of them, of numbers each stretch of their order) has its share of
    both. Rows whose texts are the same, but for links, mentions, punctuation, blanks and case, stay together.

    Args:
        labelled: The set.
        share: Of its rows, for the second part.
        kind: Of the task.
        seed: Of the draw.

    Returns:
        The larger part, and what is held out.

    Raises:
        DataError: One of them would be empty.
    """
    keys = key_texts(labelled.texts, labelled.text_pairs, labelled.lines).near
    empty = keys == 0  # texts that repeat nothing: each is a group of its own
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    group[empty] = len(first) + np.arange(empty.sum())
    first = np.concatenate([first, np.flatnonzero(empty)])
    sizes = np.bincount(group, minlength=len(first))
    held = _choose([labelled.labels[row] for row in first], sizes, share, kind, seed)[group]
    if held.all() or not held.any():
        raise DataError(
            f"a share of {share:g} leaves nothing to learn from, or nothing to decide by: name a dev file "
            "(--dev)",
            file=labelled.path,
        )
    return labelled.take(np.flatnonzero(~held).tolist()), labelled.take(np.flatnonzero(held).tolist())


def _choose(
    labels: list[str], sizes: NDArray[np.int64], share: float, kind: TaskKind, seed: int
) -> NDArray[np.bool_]:
    """Choose groups of rows, by the label of the first of each: every so many rows along their order."""
    draw = np.random.default_rng(seed)
    values = [parse_number(label) for label in labels] if kind == "regression" else labels
    shuffled = draw.permutation(len(labels))
    order = shuffled[np.argsort(np.array(values)[shuffled], kind="stable")]
    steps = np.floor(np.cumsum(sizes[order]) * share + draw.random())
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order] = np.diff(steps, prepend=0) > 0
    return chosen
