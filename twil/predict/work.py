"""Rows of files on their way to what a model says of them, whatever is made of that."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from twil.data.tables.table_sets import TableSet, TableWindow
from twil.predict.answers import Answers
from twil.predict.columns import good_rows
from twil.predict.engine import OutputBatch
from twil.predict.events import Progress
from twil.predict.inputs import chosen_texts
from twil.predict.partial import PartialRun
from twil.predict.windows import Tally, TextEngine, Window, begun_ahead
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
        pieces: Whether pieces are wanted of rows that were kept, too.
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
        pieces: bool = False,
        live: bool = False,
    ) -> None:
        self.tally = Tally()
        self._engine = engine
        self._texts = texts
        self._gather = gather
        self._state = state
        self._output = output
        self._pieces = pieces
        self._live = live

    def windows(self, tables: TableSet, size: int, wanted: range | None, pool: Executor) -> Iterator[Window]:
        """Yield windows of rows, which are computed ahead; `finish` each before the next."""
        live = self._live and tables.stream
        windows = map(self._open, tables.windows(size, wanted, live=live))
        return begun_ahead(windows, self._engine, pool, self._output, stream=tables.stream)

    def finish(self, window: Window) -> Generator[Progress, None, Answers]:
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
        """Find what is kept of some rows, or turn their texts into pieces."""
        good = good_rows(given.rows)
        texts = chosen_texts(given.rows, self._texts, good)
        kept = self._state.take(texts) if self._state else None
        encoded = self._engine.encode(texts) if kept is None or self._pieces else None
        return Window(given.rows, given.own, good, texts, encoded, kept)

    def _await(self, window: Window) -> Generator[Progress, None, Answers]:
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
