"""`twil embed`: vectors for files of any size."""

from __future__ import annotations

from typing import Annotated

import typer

from twil.cli.console import PROVIDERS, Display
from twil.cli.options import BatchTokens, IdColumn, Quiet, Resume, TextColumn, name_output, shipped_models
from twil.cli.reading import reads_tables
from twil.cli.rows import follow, start_quickly
from twil.config.reading import AS_FOUND, Reading


@reads_tables
def command(
    files: Annotated[
        list[str],
        typer.Argument(
            help="TSV, CSV, JSONL, Parquet, text, of one kind and the same columns; - is standard input."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            autocompletion=shipped_models,
            help="An encoder: a bundle, a model folder, a name of twil models or of the hub.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="An array (.npy) or a table (.parquet). [dim]\\[named after the input][/dim]",
        ),
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="A vector for each token, not one a row; into Parquet.")
    ] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="Give every vector the length 1.")] = False,
    text: TextColumn = None,
    id_column: IdColumn = None,
    file_column: Annotated[
        str | None,
        typer.Option(help="A column of this name for each row's file, into Parquet."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Another column to repeat, into Parquet; repeatable.")
    ] = None,
    on_error: Annotated[str, typer.Option(help="A bad row: fail, skip or mark.")] = "fail",
    reading: Reading = AS_FOUND,
    shard: Annotated[
        str | None, typer.Option(help="One part of the rows only, as 2/8 is the second of eight.")
    ] = None,
    batch_tokens: BatchTokens = 512,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. [dim]\\[all it may use][/dim]")
    ] = None,
    provider: Annotated[str, typer.Option(help=PROVIDERS)] = "auto",
    resume: Resume = False,
    force: Annotated[
        bool, typer.Option("--force", help="Start anew in place of an interrupted run.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Give every row of a file, or of several in their order, its vector."""
    start_quickly(threads)

    from twil.data.tables.table_sets import Shard
    from twil.inference.embed_file import VectorSummary, embed_events

    with Display(quiet=quiet) as display:
        target = output
        if target is None:
            kind = f"vectors.{'parquet' if tokens else 'npy'}"
            target = str(name_output(display, None, files[0], kind))
        events = embed_events(
            files,
            model,
            target,
            tokens=tokens,
            normalize=normalize,
            text=text,
            id_column=id_column,
            file_column=file_column,
            keep=keep or (),
            on_error=on_error,  # type: ignore[arg-type]  # checked there
            reading=reading,
            shard=Shard.parse(shard) if shard else None,
            provider=provider,  # type: ignore[arg-type]  # checked there
            threads=threads,
            batch_tokens=batch_tokens,
            resume=resume,
            overwrite=force,
        )
        summary = follow(display, events, target, resume=resume, made="vector")
        assert isinstance(summary, VectorSummary)
        if summary.ids:
            display.line(f"the ids of the rows are in {summary.ids}")
        display.line(f"wrote {target}: vectors of {summary.width:,} numbers")
