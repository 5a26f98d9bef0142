"""What the commands that go through a table say of its rows."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from twil.cli.console import Display, format_bytes, format_seconds
from twil.cli.faults import KEPT
from twil.shipped import name_folder

if TYPE_CHECKING:
    from pathlib import Path

    from twil.bundle.cache import Preparing
    from twil.inference.events import ClusterSummary, Event, RowsStarted, Summary


def announce_default(display: Display) -> str:
    """Say which model is taken, as none is named, and return its name."""
    from twil.bundle.names import describe_default, find_model

    found = find_model(None)
    display.warn(f"no --model: {found.name}, {describe_default(found)}")
    return found.name


def warn_of_file_names(display: Display, texts: Iterable[str], cure: str) -> None:
    """Say which texts are the names of files, whose rows may be meant."""
    for text in texts:
        if os.path.isfile(text):  # noqa: PTH113 (that of Path raises of a text too long for a name)
            display.warn(f"'{text}' is taken as a text, and a file is called so: {cure}")


def start_quickly(threads: int | None) -> None:
    """Get ready before the libraries are imported that label rows; `follow` goes on from there."""
    gc.disable()  # what starting brings in stays, and looking it through takes a tenth of a short run

    from twil.text.tokenizer import bound_threads

    bound_threads(threads)


def follow_export(display: Display, steps: Generator[Preparing, None, Path]) -> Path:
    """Show what is done until a model can be run, and return its bundle."""
    while True:
        try:
            display.line(next(steps).said)
        except StopIteration as end:
            folder: Path = end.value
            return folder


def follow(
    display: Display,
    events: Iterable[Event],
    output: str,
    *,
    resume: bool = False,
    made: str = "prediction",
    started_quickly: bool = True,
) -> Summary:
    """Show what becomes of the rows until the last is done, and say what became of them all.

    Args:
        display: Where to.
        events: What an engine tells while it works.
        output: What it writes.
        resume: An interrupted run was to be continued.
        made: What each row is given.
        started_quickly: `start_quickly` was called before, and garbage is not collected.
    """
    from twil.bundle.cache import Preparing
    from twil.inference.events import RowsStarted, Summary

    summary = None
    with _telling_what_is_kept(display, output):
        for event in events:
            if isinstance(event, RowsStarted):
                if started_quickly:
                    gc.freeze()  # not to be looked through at the end either
                    gc.enable()
                _show_start(display, event)
                if resume and not event.resumed:
                    display.warn("there was no interrupted run to continue; this is a new one")
            elif isinstance(event, Preparing):
                display.line(event.said)
            elif isinstance(event, Summary):
                show_summary(display, event, made=made)
                summary = event
            else:
                share = event.rows / event.expected if event.expected else None
                display.update(
                    f"{event.rows:,} rows  {event.rows_per_second:,.0f} rows/s",
                    done=share and min(share, 1.0),
                )
    assert summary is not None  # the last event
    return summary


def _show_start(display: Display, started: RowsStarted) -> None:
    """Say where the model runs, and what is not as it might be thought."""
    why = f" ({started.reason})" if started.reason else ""
    files = f", {started.files:,} files" if started.files > 1 else ""
    models = ", ".join(map(name_folder, (started.model, *started.others)))
    display.line(f"{models} on {started.provider}{why}, {started.threads} threads{files}")
    if started.precision == "fp16" and started.provider == "cpu":
        display.warn("the bundle is in fp16, which GPUs compute faster and CPUs slower: export fp32 or int8")
    if started.resumed:
        display.line("continuing the interrupted run")
    if started.bare:
        display.warn("standard input has no header: each line is a text (or name its --input-format)")
    elif started.id_column is None:
        display.warn("there is no column ID (or name one with --id): rows keep their order only")
    show_found_text(display, started.found_text)


def show_found_text(display: Display, column: str | None) -> None:
    """Say which column the texts were found in, where nobody named it."""
    if column is not None:
        display.warn(f"texts are read from the column '{column}' (--text names another)")


def show_summary(display: Display, summary: Summary, *, made: str = "prediction") -> None:
    """Say what became of the rows; nothing that was changed or left out goes without a word."""
    show_notes(display, summary, made=made)
    if summary.altered:
        display.warn(f"cells whose tabs or line breaks became blanks: {summary.altered:,}")
    if summary.formulas:
        display.warn(
            f"cells that begin with = + - or @, which a spreadsheet computes: {summary.formulas:,} "
            "(--safe-cells writes them as text)"
        )
    if summary.repeated:
        display.line(f"rows of the same tokens as one shortly before, computed once: {summary.repeated:,}")
    if summary.continued:
        display.line(f"rows that the interrupted run had done: {summary.continued:,}")
    for error in summary.first_errors:
        display.line(f"  {error}")
    display.line(
        f"{summary.rows:,} rows in {format_seconds(summary.seconds)}, {summary.rows_per_second:,.0f} rows/s "
        f"on {summary.provider}, peak memory {format_bytes(summary.peak_memory)}"
    )


def show_notes(display: Display, summary: Summary | ClusterSummary, *, made: str = "prediction") -> None:
    """Say which texts were not as they might be thought, and what became of bad rows."""
    done = "predicted" if made == "prediction" else f"given a {made}"
    for count, said in (
        (summary.truncated, "texts cut at the longest row that the model reads"),
        (summary.empty, f"empty texts, {done} all the same"),
        (summary.skipped, "bad rows left out"),
        (summary.marked, f"bad rows kept without a {made}"),
    ):
        if count:
            display.warn(f"{said}: {count:,}")


@contextmanager
def _telling_what_is_kept(display: Display, output: str) -> Iterator[None]:
    """Where the work ends early, say how to go on from what is kept of it."""
    from twil.inference.resume import partial_folder

    folder = partial_folder(output)
    before = folder.exists()
    try:
        yield
    except BaseException as error:
        if folder.exists() and not before:
            display.line(f"what is done is kept in {folder}: continue with --resume")
            if isinstance(error, KeyboardInterrupt):
                error.args = (KEPT,)
        raise
