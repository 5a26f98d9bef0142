"""Batches: every row once, within the budget, padded on the right."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twil.data.batching import length_batches, pad_batch, shuffled_batches

LENGTHS = st.lists(st.integers(1, 60), max_size=200)


@given(LENGTHS, st.integers(1, 200))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    for batches in (
        length_batches(lengths, budget),
        shuffled_batches(lengths, budget, np.random.default_rng(0), pool_rows=50),
    ):
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        for batch in batches:
            longest = max(lengths[row] for row in batch)
            assert len(batch) == 1 or len(batch) * longest <= budget


def test_rows_of_a_batch_have_like_lengths_and_the_longest_come_first() -> None:
    batches = length_batches([3, 9, 4, 8, 3, 9], 18)
    assert [batch.tolist() for batch in batches] == [[1, 5], [3, 2], [0, 4]]


def test_shuffled_batches_are_a_function_of_the_seed_and_differ_between_epochs() -> None:
    lengths = np.random.default_rng(1).integers(5, 50, size=500)
    draw = [
        [batch.tolist() for batch in shuffled_batches(lengths, 256, np.random.default_rng([7, epoch]))]
        for epoch in (1, 1, 2)
    ]
    assert draw[0] == draw[1]
    assert draw[0] != draw[2]
    firsts = [lengths[batch[0]] for batch in draw[0]]
    assert firsts != sorted(firsts, reverse=True)


def test_padding_stands_on_the_right_and_is_masked() -> None:
    batch = pad_batch([[3, 7, 4], [3, 4]], [[0, 0, 1], [0, 1]], pad_id=9)
    assert batch.input_ids.tolist() == [[3, 7, 4], [3, 4, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.segment_ids.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert {array.dtype for array in vars(batch).values()} == {np.dtype(np.int64)}
