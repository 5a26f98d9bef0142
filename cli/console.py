"""What a person sees: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

import typer
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

from twil.cli.faults import KEPT
from twil.cli.visible import visible
from twil.core.errors import ConfigError, DataWarning, ModelWarning

if TYPE_CHECKING:  # imported where needed, since most runs need neither
    from rich.measure import Measurement
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table
    from rich.text import Text

    from twil.train.distillation import DistillationFinished
    from twil.train.pretraining import PretrainingFinished

_WAITS = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
PIPE_WIDTH = 160
PLAIN_SECONDS = 10.0  # between lines of progress where there is no terminal
# Signals so close together are one request: torchrun passes on the Ctrl-C that the terminal sent already.
SAME_REQUEST_SECONDS = 0.5
GAP = 2  # columns between those of a table
WIDE = 60  # columns of a terminal that has room for a bar
PROVIDERS = "auto, cpu, cuda, cuda-graphs, tensorrt or openvino."


class Display:
    """Progress of one piece of work: a live line on a terminal, a plain line now and then elsewhere.

    Args:
        quiet: Show nothing at all.
        live: Whether a live line may be drawn; not where results go to the same terminal.
        doing: What is done first.
    """

    def __init__(self, *, quiet: bool = False, live: bool = True, doing: str = "") -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, emoji=False, soft_wrap=True)
        self.live: Progress | None = None
        if self.console.is_terminal and live and not quiet:
            from rich.progress import Progress

            self.live = Progress(_line_column(), console=self.console, transient=True)
        self._text = doing
        self._paced: tuple[float, float] | None = None
        self._ended = threading.Event()
        self._speaker: threading.Thread | None = None
        self._warnings: Any = warnings.catch_warnings()

    def __enter__(self) -> Self:
        self._warnings.__enter__()
        self._show_others = warnings.showwarning
        warnings.showwarning = self._show_warning
        for kind in (ModelWarning, DataWarning):
            warnings.simplefilter("default", kind)  # each once
        if self.live:
            self.live.start()
            self.live.add_task(self._text)
        elif self._text:
            self._begin_to_speak()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        if self._speaker:
            self._speaker.join()  # a thread that writes while the process ends would abort it
        if self.live:
            self.live.stop()
        self._warnings.__exit__(*exception)

    def update(self, text: str, *, done: float | None = None, left: str | None = None) -> None:
        """Show where the work stands; the next update takes its place.

        Args:
            text: The figures, those that matter most first.
            done: How much of the work is done, from 0 to 1, where that is known.
            left: How long the rest takes; by default as at the pace since the first update that knew `done`.
        """
        now = time.monotonic()
        if done is not None:
            begin, at = self._paced = self._paced or (now, done)
            if left is None and done > at:
                left = format_seconds((now - begin) / (done - at) * (1 - done))
            text = f"{done:4.0%}  {f'{left} left  ' if left else ''}{text}"
        if self.live:
            bar = f"{_draw_bar(done)} " if done is not None and self.console.width >= WIDE else ""
            self.live.update(self.live.task_ids[0], description=visible(bar + text), timed=done is None)
        self._text = text.strip()
        if not self.live:
            self._begin_to_speak()

    def _begin_to_speak(self) -> None:
        """Have a thread say where the work stands; what is done before it says anything needs none."""
        if self._speaker is None and not self.console.quiet:
            self._speaker = threading.Thread(target=self._speak, name="progress", daemon=True)
            self._speaker.start()

    def _speak(self) -> None:
        """Say now and then where the work stands, where there is no live line."""
        while not self._ended.wait(PLAIN_SECONDS):
            if self._text:
                self.line(self._text)

    def line(self, text: str, style: str | None = None) -> None:
        """Say something that stays."""
        folds = self.console.is_terminal  # words are kept whole there; in a file a line stays a line
        self.console.print(visible(text), style=style, markup=False, soft_wrap=not folds)

    def warn(self, text: str) -> None:
        """Say something that the user should act on."""
        self.line(f"note: {text}", style="yellow")

    def _show_warning(
        self, message: Warning | str, category: type[Warning], *more: Any, **others: Any
    ) -> None:
        """Say what the library warns of; what others warn of is shown as it is without a display."""
        if issubclass(category, ModelWarning | DataWarning):
            self.warn(str(message))
        else:
            self._show_others(message, category, *more, **others)

    def table(self, table: RenderableType) -> None:
        """Show a table that stays."""
        self.console.print(table)


def _line_column() -> ProgressColumn:
    """Draw the live line: what does not fit is cut at its end, where the figures are that matter least."""
    from rich.progress import ProgressColumn, Task
    from rich.table import Column
    from rich.text import Text

    class Line(ProgressColumn):
        def render(self, task: Task) -> Text:
            timed = task.fields.get("timed", True)  # of what has no end in sight the time is shown so far
            return Text(
                f"{task.description}  {format_seconds(task.elapsed or 0)}" if timed else task.description
            )

    return Line(table_column=Column(no_wrap=True, overflow="ellipsis"))


def _draw_bar(done: float, width: int = 16) -> str:
    eighths = round(min(max(done, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return f"{'█' * full}{' ▏▎▍▌▋▊▉'[rest] if rest else ''}".ljust(width, "·")


def speaks() -> bool:
    """Tell whether this process is the one that speaks, of those that torchrun has started together."""
    return os.environ.get("RANK", "0") == "0"


def prepare_torch(threads: int | None) -> None:
    """Set up what torch reads when it is imported, for training.

    It is kept from warning of what is meant to be so among several processes. Its threads are as many as are
    asked for, and no more than there are CPUs. Where others use some of those, a thread that waits for the
    next one sleeps: as a rule it spins, which is faster alone, and several times slower beside other work.
    What the environment says of either already stays.
    """
    from twil.core.machine import (  # here, as --help needs none of it
        available_cpus,
        busy_cpus,
        usable_threads,
    )

    environment = os.environ
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(usable_threads(threads))
    told = environment.get("OMP_NUM_THREADS", "")
    number = usable_threads(int(told) if told.isdecimal() else None)
    if number > 1 and not environment.keys() & _WAITS and number + busy_cpus() > available_cpus():
        environment["GOMP_SPINCOUNT"] = "0"


def make_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    figures: Collection[str] = (),
) -> RenderableType:
    """Lay out a table under its title; columns of figures stand to the right.

    Args:
        title: Above the table.
        columns: Their names.
        rows: Their cells.
        figures: Columns whose figures are written out already.
    """
    cells = [[visible(format_cell(cell)) for cell in row] for row in rows]
    right = [
        column in figures or any(isinstance(row[number], int | float) for row in rows)
        for number, column in enumerate(columns)
    ]
    return _TitledTable(visible(title), [visible(column) for column in columns], cells, right)


class _TitledTable:
    """A table under its title, which breaks no word: where it is too wide, its rows become lists."""

    def __init__(self, title: str, columns: list[str], rows: list[list[str]], right: list[bool]) -> None:
        self._title, self._columns, self._rows, self._right = title, columns, rows, right

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        # Not the table's own title, which would be folded where the table is narrow.
        yield Text(self._title, style="bold")
        words = [max(map(_longest_word, cells), default=0) for cells in self._by_column()]
        fits = sum(words) + GAP * (len(words) - 1) <= options.max_width
        yield self._table(words) if fits else self._lists()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.cells import cell_len
        from rich.measure import Measurement

        widths = [max(map(cell_len, cells), default=0) for cells in self._by_column()]
        return Measurement.get(console, options, self._table(widths))

    def _by_column(self) -> list[list[str]]:
        return [[name, *(row[number] for row in self._rows)] for number, name in enumerate(self._columns)]

    def _table(self, least: list[int]) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=any(self._columns))
        for column, right, width in zip(self._columns, self._right, least, strict=True):
            table.add_column(
                Text(column), justify="right" if right else "left", overflow="fold", min_width=width
            )
        for row in self._rows:
            table.add_row(*map(Text, row))
        return table

    def _lists(self) -> Text:
        from rich.text import Text

        wide = max(map(len, self._columns))
        rows = ("\n".join(map(f"{{:{wide}}}  {{}}".format, self._columns, row)) for row in self._rows)
        return Text("\n\n".join(rows))


def _longest_word(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, text.split()), default=0)


def format_cell(cell: object) -> str:
    """Write a figure as people read it: scores with four decimals, counts with separators."""
    if isinstance(cell, float):
        return f"{cell:.4f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return str(cell)


def format_spread(mean: float, sd: float | None) -> str:
    """Write a score over several runs: its mean, and its standard deviation where there is one."""
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"


def format_seconds(seconds: float) -> str:
    """Write a duration: 12.3 s, 4 min 05 s, 1 h 02 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_bytes(size: float) -> str:
    """Write a size of memory: 215 MiB, 1.3 GiB."""
    return f"{size / 2**20:,.0f} MiB" if size < 2**30 else f"{size / 2**30:,.1f} GiB"


def show(table: RenderableType) -> None:
    """Print a result table on stdout."""
    _results().print(table)


def fits(table: RenderableType) -> bool:
    """Tell whether a table can be printed on stdout without folding its cells."""
    console = _results()
    unbounded = console.options.update(max_width=sys.maxsize)
    return console.measure(table, options=unbounded).maximum <= console.width


def _results() -> Console:
    # A pipe has no width of its own, and nothing is to be folded there.
    return Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def show_json(value: Any) -> None:
    """Print a result as JSON on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def split_names(text: str | None) -> list[str] | None:
    """Read an option that lists names with commas between them; None where it was not given."""
    return [name.strip() for name in text.split(",")] if text else None


def read_names(entries: Sequence[str] | None) -> dict[str, str]:
    """Read an option that gives labels other names, ``OLD=NEW`` each, with commas between several.

    Raises:
        ConfigError: One has another form, or a label is named twice.
    """
    found: dict[str, str] = {}
    for entry in (part.strip() for whole in entries or () for part in whole.split(",")):
        old, equals, new = (part.strip() for part in entry.partition("="))
        if not (old and equals and new) or old in found:
            raise ConfigError(f"--map-labels takes OLD=NEW,… with each label once, not '{entry}'")
        found[old] = new
    return found


def read_weights(text: str | None) -> str | dict[str, float] | None:
    """Read class weights: the name of a rule, or ``LABEL=WEIGHT`` with commas between them.

    Raises:
        ConfigError: A weight is no number.
    """
    if text is None or "=" not in text:
        return text
    pairs = [pair.rpartition("=") for pair in text.split(",")]
    try:
        return {label.strip(): float(weight) for label, _, weight in pairs}
    except ValueError as error:
        raise ConfigError(
            f"--class-weights takes none, balanced, max-ratio, or LABEL=WEIGHT,…, not '{text}'"
        ) from error


def continue_later(display: Display) -> NoReturn:
    """Say how an interrupted run goes on, and end as Ctrl-C does."""
    display.line("continue with the same command and --resume")
    raise KeyboardInterrupt(KEPT)


def tell_weights(display: Display, finished: PretrainingFinished | DistillationFinished) -> None:
    """Say where a model lies, which weights it holds, and what they took."""
    display.line(
        f"wrote {finished.folder} with the weights of step {finished.step:,}; "
        f"{format_seconds(finished.seconds)}, peak memory {format_bytes(finished.peak_memory)}"
    )


class StopSignal:
    """Turns the first Ctrl-C or SIGTERM into a request to stop; the second one ends at once.

    Args:
        display: Says that the request was heard.
    """

    def __init__(self, display: Display) -> None:
        self.asked = False
        self._asked_at = 0.0
        self._display = display
        self._handlers: dict[int, Any] = {}

    def arm(self) -> None:
        """Listen from now on; before, a signal ends the work at once."""
        if self._handlers:
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._ask)

    def disarm(self) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _ask(self, signum: int, frame: Any) -> None:  # noqa: ARG002
        now = time.monotonic()
        if self.asked:
            if now - self._asked_at < SAME_REQUEST_SECONDS:
                return
            raise KeyboardInterrupt
        self.asked, self._asked_at = True, now
        self._display.line("stopping as soon as the state is kept; once more to stop at once")
