"""`twil vocab`: a tokenizer with tokens learned from texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display, format_seconds, split_names
from twil.cli.options import Force, Quiet
from twil.cli.reading import reads_tables
from twil.config.reading import AS_FOUND, Reading


@reads_tables
def command(
    files: Annotated[
        list[Path], typer.Argument(help="Tweet–reply pairs, labelled texts or plain text, in any mix.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The tokenizer to write.")] = Path(
        "tokenizer.json"
    ),
    size: Annotated[int, typer.Option(help="Number of tokens, five special ones included.")] = 30_000,
    model: Annotated[str, typer.Option(help="unigram or bpe.")] = "unigram",
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Lower-case texts.")] = False,
    strip_accents: Annotated[
        bool, typer.Option("--strip-accents", help="Take accents away, from ñ too.")
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(help="Columns of text, by commas. [dim]\\[TEXT, ORIG_TEXT, REPLY_TEXT][/dim]"),
    ] = None,
    reading: Reading = AS_FOUND,
    max_length: Annotated[int, typer.Option(help="Longest row in tokens.")] = 128,
    sample: Annotated[int, typer.Option(help="Learn from at most so many texts, drawn at random.")] = 500_000,
    seed: Annotated[int, typer.Option(help="Seed of that draw.")] = 0,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Learn a vocabulary from texts and write a tokenizer."""
    from twil.core.storage import reserved_files
    from twil.inference.inputs import check_target
    from twil.text.tokenizer import save_tokenizer
    from twil.text.vocabulary import texts_of, train_vocabulary

    check_target(files, output)
    with reserved_files(output, overwrite=force), Display(quiet=quiet) as display:
        display.update("reading texts and learning tokens")
        trained = train_vocabulary(
            texts_of(files, split_names(columns), reading),
            size=size,
            model=model,  # type: ignore[arg-type]  # checked there
            lowercase=lowercase,
            strip_accents=strip_accents,
            max_length=max_length,
            sample=sample,
            seed=seed,
        )
        save_tokenizer(trained.tokenizer, output)
        display.line(
            f"wrote {output}: {trained.tokens:,} tokens from {trained.rows_used:,} of {trained.rows_read:,} "
            f"texts in {format_seconds(trained.seconds)}"
        )
