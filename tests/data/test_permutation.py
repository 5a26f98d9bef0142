"""A random order that is computed, not stored."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twil.data.samples import Permutation

PAIRS_OF_THE_ORIGINAL = 94_000_000 * 2  # in both orders


@pytest.mark.parametrize("size", [*range(1, 201), 255, 256, 257, 4095, 4096, 4097, 65_537])
def test_every_place_is_held_once(size: int) -> None:
    np.testing.assert_array_equal(np.sort(Permutation(size, (1, 2))(np.arange(size))), np.arange(size))


@given(st.integers(1, 1 << 40), st.integers(0, 1 << 63), st.data())
def test_places_of_a_large_order_are_distinct_and_within_it(
    size: int, seed: int, data: st.DataObject
) -> None:
    places = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=50))
    found = Permutation(size, (seed,))(np.array(sorted(places)))
    assert len(set(found.tolist())) == len(places)
    assert found.min() >= 0
    assert found.max() < size


def test_any_part_can_be_asked_for_alone() -> None:
    order = Permutation(PAIRS_OF_THE_ORIGINAL, (7,))
    places = np.array([0, 5, order.size // 2, order.size - 1])
    alone = np.concatenate([order(places[index : index + 1]) for index in range(len(places))])
    np.testing.assert_array_equal(order(places), alone)
    np.testing.assert_array_equal(Permutation(order.size, (7,))(places), alone)
    assert places.tolist() == [0, 5, order.size // 2, order.size - 1]  # left as they were


def test_a_large_order_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        Permutation(PAIRS_OF_THE_ORIGINAL, (7,))(
            np.arange(PAIRS_OF_THE_ORIGINAL - 1000, PAIRS_OF_THE_ORIGINAL)
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("size", [1000, 50_000, PAIRS_OF_THE_ORIGINAL])
def test_a_run_of_places_holds_things_from_anywhere(size: int) -> None:
    places = np.arange(size // 3, size // 3 + min(size // 2, 20_000))
    found = Permutation(size, (3, 0, 1))(places)
    error = 1 / np.sqrt(len(places))  # of a mean over independent draws, at most
    # Of two independent uniform numbers in [0, 1), the mean distance is 1/3; of one to a fixed point x,
    # (x² + (1 - x)²) / 2.
    x = places / size
    assert abs(np.mean(np.abs(found / size - x) - (x**2 + (1 - x) ** 2) / 2)) < 2 * error
    assert abs(np.abs(np.diff(found / size)).mean() - 1 / 3) < 2 * error
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 4 * error
    shares = np.histogram(found, bins=10, range=(0, size))[0] / len(found)
    np.testing.assert_allclose(shares, 0.1, atol=2 * error)


def test_every_order_of_few_things_comes_about_as_often() -> None:
    # 3! = 6 orders, 3,000 seeds: 500 each, with a deviation of 20.
    orders = [tuple(Permutation(3, (seed,))(np.arange(3)).tolist()) for seed in range(3000)]
    counts = np.unique(np.array(orders), axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert counts.min() > 400
    assert counts.max() < 600


def test_other_seeds_give_other_orders() -> None:
    found = [Permutation(1000, seed)(np.arange(1000)) for seed in ((1, 1), (1, 2), (2, 1))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (found[one] == found[other]).sum() < 10  # one place in a row of draws agrees by chance
