"""Rows of files on their way to what a model says of them, whatever is made of that."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twil.core.machine import peak_memory
from twil.core.prefetch import prefetched
from twil.data.tables.rows import Rows
from twil.data.tables.table_sets import TableSet, TableWindow
from twil.data.tables.tables import OnError
from twil.inference.columns import good_rows
from twil.inference.engine import Engine, OutputBatch
from twil.inference.events import RowsDone, RowsStarted
from twil.inference.inputs import chosen_texts
from twil.inference.resume import Answers, PartialRun
from twil.inference.texts import Text
from twil.text.tokenizer import Encoded

Gather = Callable[[Encoded, Sequence[OutputBatch]], NDArray[np.float32]]
"""Lays what came of batches out, in the order of their texts."""


class Work:
    """The rows of some tables on their way to their answers.

    Args:
        engine: Computes them.
        texts: The columns of the texts.
        gather: Makes `Answers.values` of batches.
        state: What an interrupted run kept, and where this one keeps its answers.
        output: The output of the graph, where it is not the engine's own.
        tokens: Whether tokens are wanted of rows that were kept, too.
        live: Whether rows of a stream are computed as they come, and not as many together as of a file.

    Attributes:
        tally: What became of the rows so far.
    """

    def __init__(
        self,
        engine: TextEngine,
        texts: Sequence[str],
        gather: Gather,
        state: PartialRun | None,
        *,
        output: str | None = None,
        tokens: bool = False,
        live: bool = False,
    ) -> None:
        self.tally = Tally()
        self._engine = engine
        self._texts = texts
        self._gather = gather
        self._state = state
        self._output = output
        self._tokens = tokens
        self._live = live

    def windows(self, tables: TableSet, size: int, wanted: range | None, pool: Executor) -> Iterator[Window]:
        """Yield windows of rows, which are computed ahead; `finish` each before the next."""
        self.tally.expected = tables.expected_rows if wanted is None else lambda: len(wanted)
        live = self._live and tables.stream
        windows = map(self._open, tables.windows(size, wanted, live=live))
        return begun_ahead(windows, self._engine, pool, self._output, stream=tables.stream)

    def finish(self, window: Window) -> Generator[RowsDone, None, Answers]:
        """Await what is said of the good rows of a window, and tell now and then how far it is."""
        own = window.own_texts
        self.tally.rows += sum(window.own.start <= row < window.own.stop for row in window.rows.errors)
        if window.kept is None:
            answers = yield from self._await(window)
            if self._state:
                self._state.append(window.texts, answers)
        else:
            answers = window.kept
            self.tally.rows += own.stop - own.start
            self.tally.continued += own.stop - own.start
        self.tally.note(answers, own)
        return answers

    def _open(self, given: TableWindow) -> Window:
        """Find what is kept of some rows, or turn their texts into tokens."""
        good = good_rows(given.rows)
        texts = chosen_texts(given.rows, self._texts, good)
        kept = self._state.take(texts) if self._state else None
        encoded = self._engine.encode(texts) if kept is None or self._tokens else None
        return Window(given.rows, given.own, good, texts, encoded, kept)

    def _await(self, window: Window) -> Generator[RowsDone, None, Answers]:
        encoded, own = window.encoded, window.own_texts
        assert encoded is not None
        repeated = np.zeros(len(window.good), dtype=np.bool_)
        batches = []
        for future in window.batches:
            batch = future.result()
            batches.append(batch)
            if batch.member:  # a row is done when the first of several models has, which comes last
                continue
            repeated[batch.rows] = batch.repeated
            yield from self.tally.count(int(((batch.rows >= own.start) & (batch.rows < own.stop)).sum()))
        window.batches.clear()
        values = self._gather(encoded, batches)
        return Answers(values, encoded.truncated, self._engine.is_empty(encoded), repeated)


PROGRESS_SECONDS = 0.2
"""Between two words of progress."""


class TextEngine(Protocol):
    """What computes texts: an `Engine`, or several of them as one."""

    def encode(self, texts: Sequence[Text]) -> Encoded:
        """Turn texts into ids."""
        ...

    def submit(
        self, encoded: Encoded, pool: Executor, output: str | None = None
    ) -> list[Future[OutputBatch]]:
        """Have encoded texts computed by a pool."""
        ...

    def is_empty(self, encoded: Encoded) -> NDArray[np.bool_]:
        """Tell per row whether it holds nothing to read."""
        ...


@dataclass
class Window:
    """Some rows on their way.

    Attributes:
        rows: The rows.
        own: Those of them that are asked for; the others are computed with them, and nothing else.
        good: Those without an error.
        texts: Their texts.
        encoded: Their tokens; None where nothing is to be done with them.
        kept: What an interrupted run kept of them; otherwise they are computed.
        batches: What will come of them, once they are begun.
    """

    rows: Rows
    own: slice
    good: list[int]
    texts: list[Text]
    encoded: Encoded | None
    kept: Answers | None
    batches: list[Future[OutputBatch]] = field(default_factory=list)

    @property
    def own_texts(self) -> slice:
        """The texts that are asked for."""
        return slice(bisect_left(self.good, self.own.start), bisect_left(self.good, self.own.stop))

    def start(self, engine: TextEngine, pool: Executor, output: str | None = None) -> None:
        """Have the batches computed."""
        if self.kept is None:
            assert self.encoded is not None
            self.batches = engine.submit(self.encoded, pool, output)


def begun_ahead(
    windows: Iterable[Window], engine: TextEngine, pool: Executor, output: str | None = None, *, stream: bool
) -> Iterator[Window]:
    """Yield windows in order, each of which is computed while the one before is awaited and written.

    Args:
        windows: Made by a thread ahead of their use.
        engine: Computes them.
        pool: Its threads.
        output: The output of the graph, where it is not the engine's own.
        stream: Whether their rows come from a pipe, which may bring them slowly: none waits for those behind
            it, and no thread for a pipe.
    """
    ahead = 0 if stream else 1
    begun: deque[Window] = deque()
    for window in prefetched(windows) if ahead else windows:
        window.start(engine, pool, output)
        begun.append(window)
        if len(begun) > ahead:
            yield begun.popleft()
    while begun:
        yield begun.popleft()


@contextmanager
def cancelled_pool(workers: int) -> Iterator[Executor]:
    """Give a pool of threads; where the work ends early, batches that have not begun are left out."""
    with ThreadPoolExecutor(workers, thread_name_prefix="predict") as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


class Tally:
    """Counts what becomes of the rows that are asked for.

    Attributes:
        rows: Rows done so far.
        continued: Those of them whose answers an interrupted run had kept.
        truncated: Those of them that were cut.
        empty: Those of them that held nothing to read.
        repeated: Those of them that were computed with an earlier one.
        expected: Tells how many rows there are, as far as that can be told.
    """

    def __init__(self) -> None:
        self.expected: Callable[[], int | None] = lambda: None
        self.rows = self.continued = self.truncated = self.empty = self.repeated = 0
        self._start = self._last = perf_counter()

    @property
    def seconds(self) -> float:
        """The time since the start."""
        return perf_counter() - self._start

    def count(self, rows: int) -> Generator[RowsDone, None, None]:
        """Count rows that are done, and tell now and then how far the work is."""
        self.rows += rows
        if perf_counter() - self._last >= PROGRESS_SECONDS:
            self._last = perf_counter()
            yield RowsDone(self.rows, self.seconds, expected=self.expected())

    def note(self, answers: Answers, chosen: slice) -> None:
        """Count what is to be said of chosen rows."""
        self.truncated += int(answers.truncated[chosen].sum())
        self.empty += int(answers.empty[chosen].sum())
        self.repeated += int(answers.repeated[chosen].sum())

    def sum_up(self, tables: TableSet, on_error: OnError) -> dict[str, Any]:
        """Return those fields of a `Summary` that rows and tables tell."""
        return {
            "rows": self.rows,
            "seconds": self.seconds,
            "truncated": self.truncated,
            "empty": self.empty,
            "repeated": self.repeated,
            "continued": self.continued,
            "skipped": tables.skipped if on_error == "skip" else 0,
            "marked": tables.skipped if on_error == "mark" else 0,
            "first_errors": tuple(tables.first_errors),
            "peak_memory": peak_memory(),
        }


def announced(
    engines: Sequence[Engine],
    tables: TableSet,
    columns: Sequence[str],
    id_column: str | None,
    *,
    found_text: str | None,
    resumed: bool,
) -> RowsStarted:
    """Say what is about to be done: by which models, where they run, and what the output will hold."""
    engine, *others = engines
    session = engine.session
    precisions = [each.bundle.manifest.precision for each in engines]
    return RowsStarted(
        model=engine.bundle.folder,
        precision="fp16" if "fp16" in precisions else precisions[0],  # which is slower on a CPU
        provider=session.provider,
        reason=session.reason,
        threads=engine.threads,
        columns=tuple(columns),
        id_column=id_column,
        resumed=resumed,
        files=len(tables.paths),
        found_text=found_text,
        bare=tables.bare,
        others=tuple(other.bundle.folder for other in others),
    )
