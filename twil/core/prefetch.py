"""Work done by a thread ahead of its use."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")

_WAIT = 0.1  # seconds until a thread looks whether its work is still wanted


def prefetched(items: Iterable[T]) -> Iterator[T]:
    """Yield items, up to two of which are made by a thread while another is used.

    An error comes at its item's turn. Where the iteration ends or is given up, the thread is awaited, which
    ends with the item that it is at. So items should not take long to come: what is read from a pipe is not
    for this.
    """
    ready: Queue[tuple[T, ...] | BaseException] = Queue(maxsize=1)
    given_up = threading.Event()

    def hand_over(item: tuple[T, ...] | BaseException) -> None:
        while not given_up.is_set():
            try:
                ready.put(item, timeout=_WAIT)
            except Full:
                continue
            return

    def make() -> None:
        try:
            for item in items:
                hand_over((item,))
                if given_up.is_set():
                    return
            hand_over(())
        except BaseException as error:  # whatever it is, the caller's thread raises it
            hand_over(error)

    thread = threading.Thread(target=make, name="prefetch", daemon=True)
    thread.start()
    try:
        while item := _take(ready):
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        given_up.set()
        thread.join()


def _take(ready: Queue[tuple[T, ...] | BaseException]) -> tuple[T, ...] | BaseException:
    """Wait for an item such that Ctrl-C is heard meanwhile, on every system."""
    while True:
        try:
            return ready.get(timeout=_WAIT)
        except Empty:
            continue
