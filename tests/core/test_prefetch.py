"""Items made by a thread ahead of their use."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from twil.core.prefetch import prefetched


def numbers(stop: int, made: list[int], *, broken: int | None = None) -> Iterator[int]:
    for number in range(stop):
        if number == broken:
            raise ValueError(f"no item {number}")
        made.append(number)
        yield number


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def prefetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_items_come_in_order(count: int) -> None:
    made: list[int] = []
    assert list(prefetched(numbers(count, made))) == made == list(range(count))
    assert not prefetching()


def test_no_more_than_two_items_are_made_ahead_and_none_before_the_first_is_asked_for() -> None:
    made: list[int] = []
    items = prefetched(numbers(50, made))
    assert made == []
    for used in range(1, 40):
        next(items)
        wait_for(lambda used=used: len(made) == used + 2)
        time.sleep(0.001)
        assert len(made) == used + 2


def test_an_error_comes_at_its_items_turn() -> None:
    items = prefetched(numbers(9, [], broken=4))
    assert [next(items) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="no item 4"):
        next(items)


def test_an_iteration_given_up_ends_its_thread() -> None:
    items = prefetched(numbers(1_000_000, made := []))
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert not prefetching()
    assert len(made) <= 4


def test_an_error_where_an_item_is_used_ends_the_thread() -> None:
    items = prefetched(numbers(1_000_000, []))
    next(items)
    with pytest.raises(RuntimeError, match="given up"):
        items.throw(RuntimeError("given up"))  # type: ignore[attr-defined]
    assert not prefetching()
