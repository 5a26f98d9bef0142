"""`twil embed`: vectors for a file of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display
from twil.cli.rows import follow, start_quickly


def command(
    file: Annotated[str, typer.Argument(help="TSV, CSV, JSONL, Parquet or text; - is standard input.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="The bundle of an encoder.")],
    output: Annotated[str, typer.Option("--output", "-o", help="An array (.npy) or a table (.parquet).")],
    tokens: Annotated[
        bool, typer.Option("--tokens", help="A vector for each piece, not one a row; into Parquet.")
    ] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="Give every vector the length 1.")] = False,
    text: Annotated[str, typer.Option(help="Column of the texts.")] = "TEXT",
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column that names the rows. [dim]\\[ID if there][/dim]")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Another column to repeat, into Parquet; repeatable.")
    ] = None,
    on_error: Annotated[str, typer.Option(help="A bad row: fail, skip or mark.")] = "fail",
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The first line is a row; columns are 1, 2, …")
    ] = False,
    input_format: Annotated[str | None, typer.Option(help="tsv, csv, jsonl, parquet or txt.")] = None,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Pieces per batch.")] = 512,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. [dim]\\[all it may use][/dim]")
    ] = None,
    provider: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
) -> None:
    """Give every row of a file its vector."""
    start_quickly(threads)

    from twil.predict.vectors import VectorSummary, embed_file

    with Display(quiet=quiet) as display:
        events = embed_file(
            file,
            model,
            output,
            tokens=tokens,
            normalize=normalize,
            text=text,
            id_column=id_column,
            keep=keep or (),
            on_error=on_error,  # type: ignore[arg-type]  # checked there
            header=False if no_header else None,
            input_format=input_format,
            provider=provider,  # type: ignore[arg-type]  # checked there
            threads=threads,
            batch_tokens=batch_tokens,
        )
        summary = follow(display, events, output, made="vector")
        assert isinstance(summary, VectorSummary)
        if summary.ids:
            display.line(f"the ids of the rows are in {summary.ids}")
        display.line(f"wrote {output}: vectors of {summary.width:,} numbers")
