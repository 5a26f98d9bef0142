"""Windows of rows on their way from files to a file, and what becomes of their rows."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
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
from twil.data.tables.table_sets import TableSet
from twil.data.tables.tables import OnError
from twil.predict.answers import Answers
from twil.predict.engine import Engine, OutputBatch
from twil.predict.events import Progress, Started
from twil.predict.texts import Text
from twil.text.tokenizer import Encoded

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
        encoded: Their pieces; None where nothing is to be done with them.
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
    """

    def __init__(self) -> None:
        self.rows = self.continued = self.truncated = self.empty = self.repeated = 0
        self._start = self._last = perf_counter()

    @property
    def seconds(self) -> float:
        """The time since the start."""
        return perf_counter() - self._start

    def count(self, rows: int) -> Generator[Progress, None, None]:
        """Count rows that are done, and tell now and then how far the work is."""
        self.rows += rows
        if perf_counter() - self._last >= PROGRESS_SECONDS:
            self._last = perf_counter()
            yield Progress(self.rows, self.seconds)

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
) -> Started:
    """Say what is about to be done: by which models, where they run, and what the output will hold."""
    engine, *others = engines
    session = engine.session
    precisions = [each.bundle.manifest.precision for each in engines]
    return Started(
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
