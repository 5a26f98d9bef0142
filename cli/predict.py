"""`twil predict`: labels and probabilities for files of any size."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twil.cli.console import PROVIDERS, Display, format_seconds
from twil.cli.options import (
    BatchTokens,
    FileColumn,
    IdColumn,
    PairColumn,
    Quiet,
    Resume,
    Shard,
    TextColumn,
    name_output,
    shipped_models,
)
from twil.cli.reading import reads_tables, told_options
from twil.cli.rows import announce_default, follow, show_found_text, show_notes, start_quickly
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError

if TYPE_CHECKING:
    from twil.inference.events import ClusterSummary


@reads_tables
def command(
    files: Annotated[
        list[str],
        typer.Argument(
            help="TSV, CSV, JSONL, Parquet, text, of one kind and the same columns; - is standard input. "
            "On Ray also folders, patterns, URLs."
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            autocompletion=shipped_models,
            help="A bundle, a model folder, a name of twil models or of the hub; repeatable, and NAME=MODEL "
            "names its columns. [dim]\\[TWIL_MODEL, else sentiment][/dim]",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Its ending decides the format; - is standard output. On Ray a folder of Parquet. "
            "[dim]\\[-, or on a terminal named after the input][/dim]",
        ),
    ] = None,
    text: TextColumn = None,
    text_pair: PairColumn = None,
    id_column: IdColumn = None,
    file_column: FileColumn = None,
    keep: Annotated[list[str] | None, typer.Option(help="Another column to repeat; repeatable.")] = None,
    on_error: Annotated[str, typer.Option(help="A bad row: fail, skip or mark.")] = "fail",
    reading: Reading = AS_FOUND,
    output_format: Annotated[str | None, typer.Option(help="tsv, csv, jsonl or parquet.")] = None,
    safe_cells: Annotated[
        bool, typer.Option("--safe-cells", help="In a CSV, ' before what a spreadsheet would compute.")
    ] = False,
    shard: Shard = None,
    batch_tokens: BatchTokens = 512,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads; on Ray of each worker. [dim]\\[all; on Ray 1][/dim]"),
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray for the machines of a Ray cluster.")] = "local",
    workers: Annotated[
        int | None,
        typer.Option(help="Graphs open on Ray at a time. [dim]\\[all the cluster has room for][/dim]"),
    ] = None,
    provider: Annotated[str, typer.Option(help=PROVIDERS)] = "auto",
    resume: Resume = False,
    force: Annotated[
        bool, typer.Option("--force", help="Start anew in place of an interrupted run, or of a folder.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Label every row of a file, or of several in their order."""
    # Rows that are piped nowhere would only run across a terminal: they go into a file of their own.
    named = output is None and "-" not in files and sys.stdout.isatty()
    if engine != "local" or workers is not None:
        label_on_cluster(
            engine,
            {
                "--file-column": file_column,
                **told_options(reading),
                "--output-format": output_format,
                "--safe-cells": safe_cells,
                "--shard": shard,
                "--resume": resume,
            },
            model or (),
            quiet=quiet,
            source=files,
            target="-" if output is None else output,
            text=text,
            text_pair=text_pair,
            id_column=id_column,
            keep=keep or (),
            on_error=on_error,
            provider=provider,
            workers=workers,
            threads=threads or 1,
            batch_tokens=batch_tokens,
            overwrite=force,
        )
        return
    start_quickly(threads)

    from twil.core.storage import check_vacant_file
    from twil.data.tables.table_sets import Shard
    from twil.inference.predict_file import predict_events

    target = "-" if output is None else output
    with Display(quiet=quiet, live=named or target != "-" or not sys.stdout.isatty()) as display:
        if named:
            target = str(name_output(display, None, files[0], f"labelled.{output_format or 'tsv'}"))
            check_vacant_file(target, overwrite=resume or force)
        events = predict_events(
            files,
            model or [announce_default(display)],
            target,
            text=text,
            text_pair=text_pair,
            id_column=id_column,
            file_column=file_column,
            keep=keep or (),
            on_error=on_error,  # type: ignore[arg-type]  # checked there
            reading=reading,
            output_format=output_format,
            safe_cells=safe_cells,
            shard=Shard.parse(shard) if shard else None,
            provider=provider,  # type: ignore[arg-type]  # checked there
            threads=threads,
            batch_tokens=batch_tokens,
            resume=resume,
            overwrite=force,
        )
        follow(display, events, target, resume=resume)


def label_on_cluster(
    engine: str, local: Mapping[str, object], models: Sequence[str], *, quiet: bool, **options: Any
) -> None:
    """Label the tables, and say what became of their rows.

    Args:
        engine: What was asked for.
        local: Options that only the local engine has, by name.
        models: What labels; of none the default.
        quiet: Show nothing but errors.
        options: Those of `predict_on_ray`.
    """
    if engine == "local":
        raise ConfigError("--workers is an option of --engine ray: leave it out, or add that")
    if engine != "ray":
        raise ConfigError(f"there is no engine '{engine}': choose local or ray")
    if given := [name for name, value in local.items() if value]:
        raise ConfigError(f"--engine ray has no {given[0]}: leave it out, or label with --engine local")

    if len(models) > 1:
        raise ConfigError(
            f"--engine ray labels with one model, and {len(models)} are named: name one, or label with "
            "--engine local"
        )

    from twil.bundle.cache import Preparing
    from twil.inference.cluster.ray import predict_on_ray
    from twil.inference.events import ClusterStarted, ClusterSummary

    with Display(quiet=quiet) as display:
        model = models[0] if models else announce_default(display)
        for event in predict_on_ray(model=model, **options):
            if isinstance(event, Preparing):
                display.line(event.said)
            elif isinstance(event, ClusterStarted):
                display.line(
                    f"{event.model} on Ray, {event.files:,} tables, {event.workers} workers, "
                    f"threads of each: {event.threads}"
                )
                show_found_text(display, event.found_text)
                if event.id_column is None:
                    display.warn("there is no column ID (or name one with --id): rows keep their order only")
            elif isinstance(event, ClusterSummary):
                _show(display, event)
            else:
                display.update(f"{event.rows:,} rows, {event.rows_per_second:,.0f} rows/s")


def _show(display: Display, summary: ClusterSummary) -> None:
    show_notes(display, summary)
    display.line(
        f"{summary.rows:,} rows in {format_seconds(summary.seconds)}, {summary.rows_per_second:,.0f} rows/s, "
        f"{summary.workers} workers on {' and '.join(summary.providers) or 'no row'}, {summary.parts:,} parts"
    )
