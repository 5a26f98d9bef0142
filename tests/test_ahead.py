"""Work done ahead of its time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from twil.train.ahead import ahead


class Made(Sequence[int]):
    """Items that note when they are made; one of them cannot be."""

    def __init__(self, size: int, *, broken: int | None = None) -> None:
        self.size, self.broken = size, broken
        self.begun: list[int] = []
        self.done = [threading.Event() for _ in range(size)]
        self.threads: set[threading.Thread] = set()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        self.begun.append(index)
        self.threads.add(threading.current_thread())
        if index == self.broken:
            raise ValueError(f"no item {index}")
        self.done[index].set()
        return index * 10


@pytest.mark.parametrize("start", range(6))
def test_items_come_in_order_from_any_start(start: int) -> None:
    items = Made(5)
    assert list(ahead(items, start)) == [index * 10 for index in range(start, 5)]
    assert items.begun == list(range(start, 5))  # each once


def test_the_next_item_is_made_while_one_is_used_and_none_before() -> None:
    items = Made(6)
    coming = ahead(items, 1)
    assert items.begun == []  # nothing is made before it is asked for
    for index in range(1, 6):
        assert next(coming) == index * 10
        if index < 5:
            assert items.done[index + 1].wait(timeout=10)  # without asking for it
        assert max(items.begun) <= index + 1
    assert threading.current_thread() not in items.threads
    assert len(items.threads) == 1


def test_an_error_comes_at_its_items_turn() -> None:
    items = Made(6, broken=3)
    coming = ahead(items, 0)
    assert [next(coming) for _ in range(3)] == [0, 10, 20]
    with pytest.raises(ValueError, match="no item 3"):
        next(coming)
    assert items.begun == [0, 1, 2, 3]
    assert not any(thread.is_alive() for thread in items.threads)


@pytest.mark.parametrize("broken", [None, 1], ids=["sound", "broken"])
def test_an_iteration_given_up_leaves_no_thread(broken: int | None) -> None:
    items = Made(6, broken=broken)
    coming = ahead(items, 0)
    next(coming)
    coming.close()  # type: ignore[attr-defined]
    assert items.threads
    assert not any(thread.is_alive() for thread in items.threads)
    assert len(items.begun) <= 2
