"""Batches of token ids: grouped by length under a token budget, padded on the right.

Every batch carries an attention mask, so that nothing a row returns depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Token ids as an encoder takes them; every array is int64 ``(B, T)``.

    Attributes:
        input_ids: Token ids, `pad_id` behind the end of a row.
        attention_mask: 1 on tokens, 0 on pads.
        segment_ids: 0 for the first text, 1 for the second.
    """

    input_ids: Int64Array
    attention_mask: Int64Array
    segment_ids: Int64Array


def length_batches(lengths: Sequence[int] | Int64Array, max_tokens: int) -> list[Int64Array]:
    """Group rows of like length so that rows × longest stays within a budget.

    Args:
        lengths: Tokens per row.
        max_tokens: The budget in tokens, pads included. A longer row gets a batch of its own.

    Returns:
        One array of row indices per batch, longest rows first (what does not fit in memory then fails
        at once, not at the end); every row is in exactly one.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        rows = max(1, max_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def shuffled_batches(
    lengths: Sequence[int] | Int64Array, max_tokens: int, rng: np.random.Generator, *, pool_rows: int = 2048
) -> list[Int64Array]:
    """Group rows for training: drawn anew each time, yet of like length within a batch.

    Rows are shuffled and cut into pools; each pool is batched by length and the order of all batches is
    shuffled. A pool much larger than a batch wastes few pads and still mixes well.

    Args:
        lengths: Tokens per row.
        max_tokens: The budget of a batch in tokens, pads included.
        rng: Decides everything that is random.
        pool_rows: Rows that are sorted together.

    Returns:
        One array of row indices per batch; every row is in exactly one.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = rng.permutation(len(lengths))
    batches = [
        pool[batch]
        for pool in (order[start : start + pool_rows] for start in range(0, len(order), pool_rows))
        for batch in length_batches(lengths[pool], max_tokens)
    ]
    return [batches[index] for index in rng.permutation(len(batches))]


def pad_batch(
    input_ids: Sequence[Sequence[int]],
    segment_ids: Sequence[Sequence[int]] | None = None,
    *,
    pad_id: int = 0,
) -> Batch:
    """Pad rows on the right to the longest.

    Args:
        input_ids: Token ids of each row.
        segment_ids: Segments of each row, as long as its ids; all 0 when left out.
        pad_id: The id to pad with.
    """
    lengths = np.fromiter((len(row) for row in input_ids), dtype=np.int64, count=len(input_ids))
    mask = np.arange(lengths.max(initial=1)) < lengths[:, None]  # (B, T)
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    segments = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in input_ids])
    if segment_ids is not None:
        segments[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in segment_ids])
    return Batch(ids, mask.astype(np.int64), segments)


def pad_rows(
    input_ids: Sequence[Sequence[int]],
    segment_ids: Sequence[Sequence[int]] | None,
    rows: Iterable[int],
    *,
    pad_id: int,
) -> Batch:
    """Pad some rows of many as `pad_batch` does.

    Args:
        input_ids: Token ids of all rows.
        segment_ids: Segments of all rows; none where they are all 0.
        rows: The numbers of those in the batch.
        pad_id: The id to pad with.
    """
    chosen = list(rows)
    segments = None if segment_ids is None else [segment_ids[row] for row in chosen]
    return pad_batch([input_ids[row] for row in chosen], segments, pad_id=pad_id)
