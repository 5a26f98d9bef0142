"""`twil predict`: labels and probabilities for a file of any size."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twil.cli.console import Display, format_bytes, format_seconds

if TYPE_CHECKING:
    from twil.predict.events import Progress, Started, Summary


def command(
    file: Annotated[str, typer.Argument(help="TSV, CSV, JSONL, Parquet or text; - is standard input.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="The bundle.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Its ending decides the format; - is standard output.")
    ] = "-",
    text: Annotated[str, typer.Option(help="Column of the texts.")] = "TEXT",
    text_pair: Annotated[
        str | None, typer.Option(help="Column of the second texts, for a model of pairs.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column that names the rows. [dim]\\[ID if there][/dim]")
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Another column to repeat; repeatable.")] = None,
    on_error: Annotated[str, typer.Option(help="A bad row: fail, skip or mark.")] = "fail",
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The first line is a row; columns are 1, 2, …")
    ] = False,
    input_format: Annotated[str | None, typer.Option(help="tsv, csv, jsonl, parquet or txt.")] = None,
    output_format: Annotated[str | None, typer.Option(help="tsv, csv, jsonl or parquet.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="Predict one part of the table only, as 2/8 is the second of eight.")
    ] = None,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Pieces per batch.")] = 512,
    threads: Annotated[int | None, typer.Option(help="CPU threads. [dim]\\[all it may use][/dim]")] = None,
    provider: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Give an interrupted run up.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
) -> None:
    """Label every row of a file."""
    gc.disable()  # what starting brings in stays, and looking it through takes a tenth of a short run
    if threads:  # read once, when the tokenizer's library is first used
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))

    from twil.data.shards import Shard
    from twil.predict.events import Progress, Started, Summary
    from twil.predict.files import predict_file

    with (
        Display(quiet=quiet, live=output != "-" or not sys.stdout.isatty()) as display,
        _telling_what_is_kept(display, output),
    ):
        for event in predict_file(
            file,
            model,
            output,
            text=text,
            text_pair=text_pair,
            id_column=id_column,
            keep=keep or (),
            on_error=on_error,  # type: ignore[arg-type]  # checked there
            header=False if no_header else None,
            input_format=input_format,
            output_format=output_format,
            shard=Shard.parse(shard) if shard else None,
            provider=provider,  # type: ignore[arg-type]  # checked there
            threads=threads,
            batch_tokens=batch_tokens,
            resume=resume,
            overwrite=force,
        ):
            if isinstance(event, Started):
                gc.freeze()  # not to be looked through at the end either
                gc.enable()
                show_start(display, event)
                if resume and not event.resumed:
                    display.warn("there was no interrupted run to continue; this is a new one")
            elif isinstance(event, Summary):
                show_summary(display, event)
            elif isinstance(event, Progress):
                show_progress(display, event)


@contextmanager
def _telling_what_is_kept(display: Display, output: str) -> Iterator[None]:
    """Where the work ends early, say how to go on from what is kept of it."""
    from twil.predict.partial import partial_folder

    folder = partial_folder(output)
    before = folder.exists()
    try:
        yield
    except BaseException:
        if folder.exists() and not before:
            display.line(f"what was predicted is kept in {folder}: continue with --resume")
        raise


def show_start(display: Display, started: Started) -> None:
    """Say where the model runs, and what is not as it might be thought."""
    why = f" ({started.reason})" if started.reason else ""
    display.line(f"{started.model} on {started.provider}{why}, {started.threads} threads")
    if started.resumed:
        display.line("continuing the interrupted run")
    if started.id_column is None:
        display.warn("there is no column ID (or name one with --id): rows keep their order only")


def show_progress(display: Display, progress: Progress) -> None:
    """Show how far the work is."""
    display.update(f"{progress.rows:,} rows, {progress.rows_per_second:,.0f} rows/s")


def show_summary(display: Display, summary: Summary, *, made: str = "prediction") -> None:
    """Say what became of the rows; nothing that was changed or left out goes without a word."""
    done = "predicted" if made == "prediction" else f"given a {made}"
    for count, said in (
        (summary.truncated, "texts cut at the longest row that the model reads"),
        (summary.empty, f"empty texts, {done} all the same"),
        (summary.skipped, "bad rows left out"),
        (summary.marked, f"bad rows kept without a {made}"),
        (summary.altered, "cells whose tabs or line breaks became blanks"),
    ):
        if count:
            display.warn(f"{said}: {count:,}")
    if summary.repeated:
        display.line(f"rows of the same pieces as one shortly before, computed once: {summary.repeated:,}")
    if summary.continued:
        display.line(f"rows whose answers the interrupted run had kept: {summary.continued:,}")
    for error in summary.first_errors:
        display.line(f"  {error}")
    display.line(
        f"{summary.rows:,} rows in {format_seconds(summary.seconds)}, {summary.rows_per_second:,.0f} rows/s "
        f"on {summary.provider}, peak memory {format_bytes(summary.peak_memory)}"
    )
