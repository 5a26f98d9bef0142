"""Work done ahead: the next item is made while the present one is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Sequence[T], start: int) -> Iterator[T]:
    """Yield the items of a lazy sequence from `start`, each made by a thread one item before its time."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = pool.submit(items.__getitem__, start) if start < len(items) else None
        for position in range(start + 1, len(items) + 1):
            assert coming is not None
            item = coming.result()
            coming = pool.submit(items.__getitem__, position) if position < len(items) else None
            yield item
