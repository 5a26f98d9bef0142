"""Texts of many requests, computed together by one engine.

Texts that come within a moment are computed in batches of like length under the engine's budget of tokens, as
those of a file are; what is said of one depends on no other. Those that come while batches are computed wait
until a thread is free, so that batches grow with the load. The queue has a bound.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import TwilError
from twil.inference.engine import Engine, OutputBatch
from twil.inference.texts import Text

MAX_WAIT = 0.002
"""Seconds that a text waits for others while nothing is computed, unless the one before it had come alone."""
MAX_QUEUE = 4096
"""Texts that wait at a time."""
_POLL = 0.002  # seconds, between two looks at who is still to be answered
_WINDOW = 256  # texts that are sorted by length together: those of a large request let others in between
_Result = TypeVar("_Result")


class QueueFullError(TwilError):
    """More texts are waiting than may."""


@dataclass(frozen=True)
class Answer:
    """What the graph gives for a text.

    Attributes:
        values: float32 ``(outputs,)``: logits, or a vector.
        tokens: The tokens of the text.
        truncated: Whether it was cut at the model's longest row.
    """

    values: NDArray[np.float32]
    tokens: int
    truncated: bool


@dataclass(eq=False)
class _Waiting:
    """A text on its way."""

    text: Text
    answer: asyncio.Future[Answer]


@dataclass
class Load:
    """What a batcher has done so far.

    Attributes:
        texts: Texts computed.
        tokens: Their tokens.
        batches: The batches that they were computed in.
    """

    texts: int = 0
    tokens: int = 0
    batches: int = 0


class Batcher:
    """Computes the texts of all who ask, in the event loop that it is started in.

    Args:
        engine: Computes them; closed with the batcher.
        max_wait: Seconds that a text waits for others while nothing is computed, unless the one before it
            had come alone: a single client waits for none.
        max_queue: Texts that wait at a time.
    """

    def __init__(self, engine: Engine, *, max_wait: float = MAX_WAIT, max_queue: int = MAX_QUEUE) -> None:
        self.engine, self.load = engine, Load()
        self._max_wait, self._max_queue = max_wait, max_queue
        self._waiting: deque[_Waiting] = deque()
        self._asked, self._free = asyncio.Event(), asyncio.Event()
        self._free.set()
        self._computing = 0  # batches
        self._called = 0  # texts of calls
        self._alone = False  # whether the text before came alone
        self._asking = 0  # who waits for texts, wherever these are
        self._pool = ThreadPoolExecutor(engine.workers, thread_name_prefix="predict")
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._task = asyncio.create_task(self._run())

    @property
    def queued(self) -> int:
        """How many texts wait."""
        return len(self._waiting) + self._called

    async def submit(self, texts: Sequence[Text]) -> list[Answer]:
        """Compute texts, in their order. Whoever stops waiting for them frees their places.

        Raises:
            QueueFullError: Too many are waiting.
            ModelError: The graph fails.
        """
        self._check_room(len(texts))
        loop = asyncio.get_running_loop()
        own = [_Waiting(text, loop.create_future()) for text in texts]
        self._waiting.extend(own)
        self._asked.set()
        self._asking += 1
        try:
            return [await each.answer for each in own]
        finally:
            self._asking -= 1
            for each in own:
                each.answer.cancel()

    async def call(self, work: Callable[[], _Result], texts: int) -> _Result:
        """Have a thread do what the engine does with texts of its own accord, in the order of asking.

        Args:
            work: What to do.
            texts: How many of them it takes.

        Raises:
            QueueFullError: Too many are waiting.
        """
        self._check_room(texts)
        self._asking += 1
        self._called += texts
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._called -= texts
            self._asking -= 1
        self.load.texts += texts
        return done

    def _check_room(self, texts: int) -> None:
        if self.queued + texts > self._max_queue:
            raise QueueFullError(f"{self.queued:,} texts are waiting: try again soon")

    async def close(self) -> None:
        """Answer all who have asked, or are about to, then release the engine."""
        await asyncio.sleep(_POLL)
        while self._asking:
            await asyncio.sleep(_POLL)
        self._task.cancel()
        for pool in (self._encoder, self._pool):
            pool.shutdown()
        self.engine.close()

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            if self._max_wait and not (self._computing or self._alone):
                await asyncio.sleep(self._max_wait)
            await self._free.wait()
            window = self._take()
            if window:
                await self._compute(window)

    def _take(self) -> list[_Waiting]:
        """Take the next texts that somebody still waits for, and leave some for each thread that is free."""
        free = max(1, self.engine.workers - self._computing)
        size = min(_WINDOW, math.ceil(len(self._waiting) / free))
        window: list[_Waiting] = []
        while self._waiting and len(window) < size:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                window.append(waiting)
        self._alone = len(window) == 1
        if not self._waiting:
            self._asked.clear()
        return window

    async def _compute(self, window: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        try:
            encoded = await loop.run_in_executor(
                self._encoder, self.engine.encode, [each.text for each in window]
            )
            futures = self.engine.submit(encoded, self._pool)
        except Exception as error:  # whatever it is, those who wait are told
            _fail(window, error)
            return
        lengths = [len(ids) for ids in encoded.input_ids]
        self.load.texts += len(window)
        self.load.tokens += sum(lengths)
        self._computing += len(futures)
        if self._computing >= self.engine.workers:
            self._free.clear()

        def resolve(done: Future[OutputBatch]) -> None:
            self._computing -= 1
            if self._computing < self.engine.workers:
                self._free.set()
            try:
                batch = done.result()
            except Exception as error:
                _fail(window, error)
                return
            self.load.batches += 1
            for row, values in zip(batch.rows.tolist(), batch.values, strict=True):
                if not window[row].answer.done():
                    window[row].answer.set_result(Answer(values, lengths[row], bool(encoded.truncated[row])))

        def resolve_later(done: Future[Any]) -> None:
            loop.call_soon_threadsafe(resolve, done)

        for future in futures:
            future.add_done_callback(resolve_later)


def _fail(window: Sequence[_Waiting], error: Exception) -> None:
    for each in window:
        if not each.answer.done():
            each.answer.set_exception(error)
