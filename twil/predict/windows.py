"""What every way from a file to a file shares: its table, its target, and its rows on their way."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from twil.data.prefetch import prefetched
from twil.data.streams import is_stream
from twil.data.tables import OnError, Rows, TableReader
from twil.errors import ConfigError, DataError
from twil.machine import peak_memory
from twil.predict.bundle import Bundle
from twil.predict.engine import Engine, OutputBatch, Text
from twil.predict.events import Progress, Started
from twil.task import Task
from twil.text.tokenizer import Encoded

ID_COLUMNS = ("ID", "id", "Id", "iD")
"""The columns that name the rows where no other is asked for: the first of them that the table has."""
PROGRESS_SECONDS = 0.2
"""Between two words of progress."""


@dataclass
class Window:
    """Some rows on their way.

    Attributes:
        rows: The rows.
        good: Those without an error.
        texts: Their texts.
        encoded: Their pieces; None where nothing is to be computed.
        batches: What will come of them, once they are begun.
    """

    rows: Rows
    good: list[int]
    texts: list[Text]
    encoded: Encoded | None
    batches: list[Future[OutputBatch]] = field(default_factory=list)

    def start(self, engine: Engine, pool: Executor, output: str | None = None) -> None:
        """Have the batches computed."""
        if self.encoded is not None:
            self.batches = engine.submit(self.encoded, pool, output)


W = TypeVar("W", bound=Window)


def begun_ahead(
    windows: Iterable[W], source: str | Path, engine: Engine, pool: Executor, output: str | None = None
) -> Iterator[W]:
    """Yield windows in order, each of which is computed while the one before is awaited and written.

    Args:
        windows: Made by a thread ahead of their use.
        source: Where their rows come from. A pipe may bring rows slowly: none waits for those behind it, and
            no thread for a pipe.
        engine: Computes them.
        pool: Its threads.
        output: The output of the graph, where it is not the engine's own.
    """
    ahead = 0 if is_stream(source) else 1
    begun: deque[W] = deque()
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
    """Counts what becomes of the rows of one table.

    Attributes:
        rows: Rows done so far.
        truncated: Those of them that were cut.
        empty: Those of them that held nothing to read.
        repeated: Those of them that were computed with an earlier one.
    """

    def __init__(self) -> None:
        self.rows = self.truncated = self.empty = self.repeated = 0
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

    def note(
        self, truncated: NDArray[np.bool_], empty: NDArray[np.bool_], repeated: NDArray[np.bool_]
    ) -> None:
        """Count what is to be said of some rows; bool ``(rows,)`` each."""
        self.truncated += int(truncated.sum())
        self.empty += int(empty.sum())
        self.repeated += int(repeated.sum())

    def sum_up(self, reader: TableReader, on_error: OnError) -> dict[str, Any]:
        """Return those fields of a `Summary` that rows and reader tell."""
        return {
            "rows": self.rows,
            "seconds": self.seconds,
            "truncated": self.truncated,
            "empty": self.empty,
            "repeated": self.repeated,
            "skipped": reader.skipped if on_error == "skip" else 0,
            "marked": reader.skipped if on_error == "mark" else 0,
            "first_errors": tuple(reader.first_errors),
            "peak_memory": peak_memory(),
        }


def announced(engine: Engine, columns: Sequence[str], id_column: str | None, *, resumed: bool) -> Started:
    """Say what is about to be done: by which model, where it runs, and what the output will hold."""
    session = engine.session
    return Started(
        model=engine.bundle.folder,
        precision=engine.bundle.manifest.precision,
        provider=session.provider,
        reason=session.reason,
        threads=engine.threads,
        columns=tuple(columns),
        id_column=id_column,
        resumed=resumed,
    )


def open_table(
    source: str | Path,
    texts: Sequence[str],
    id_column: str | None,
    keep: Sequence[str],
    options: Mapping[str, Any],
) -> tuple[TableReader, str | None]:
    """Open the input; return it with the column that names its rows, if there is one."""
    if id_column is not None:
        return TableReader(source, [id_column, *texts, *keep], **options), id_column
    reader = TableReader(source, [*texts, *keep], optional=ID_COLUMNS, **options)
    return reader, next((name for name in ID_COLUMNS if name in reader.names), None)


def repeated_columns(id_column: str | None, keep: Sequence[str]) -> tuple[str, ...]:
    """Name the columns of the input that its output repeats: the id and those that are kept."""
    return tuple(dict.fromkeys([*([] if id_column is None else [id_column]), *keep]))


def check_on_error(on_error: str) -> None:
    """Refuse an unknown way with bad rows.

    Raises:
        ConfigError: It names those that there are.
    """
    if on_error not in get_args(OnError):
        raise ConfigError(f"bad rows cannot be met with '{on_error}': choose one of fail, skip, mark")


def check_target(source: str | Path, target: str | Path) -> None:
    """Refuse an output that is its input, whatever names or links lead there.

    Raises:
        DataError: It is.
    """
    if is_stream(source) or is_stream(target) or not Path(target).exists():
        return
    if Path(target).samefile(source):
        raise DataError("the output would replace its input: choose another name", file=target)


def check_texts(bundle: Bundle, task: Task, texts: Sequence[str]) -> None:
    """Refuse one column of texts for a model of pairs, and two for another.

    Raises:
        DataError: It does not fit.
    """
    if task.pair != (len(texts) == 2):
        wanted, cure = (
            ("pairs of texts", "name the column of the second text (--text-pair)")
            if task.pair
            else ("single texts", "leave out the column of a second text (--text-pair)")
        )
        raise DataError(f"the model {bundle.folder} takes {wanted}: {cure}")


def chosen_texts(rows: Rows, names: Sequence[str], chosen: Sequence[int]) -> list[Text]:
    """Return the texts (or pairs of them, of two columns) of chosen rows."""
    first, *second = ([rows.columns[name][row] for row in chosen] for name in names)
    return list(zip(first, second[0], strict=True)) if second else list(first)
