"""`twil corpus`: pairs and texts, cleaned and encoded once, for pretraining."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twil.cli.console import Display, format_bytes, format_seconds, make_table, show
from twil.cli.options import Force, Quiet
from twil.cli.reading import reads_tables
from twil.config.reading import AS_FOUND, Reading

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from twil.data.corpus.build import CorpusProgress, Summary


@reads_tables
def command(
    files: Annotated[
        list[Path], typer.Argument(help="Tweet–reply pairs or single texts, in any mix and format.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The corpus folder to write.")] = Path(
        "corpus"
    ),
    tokenizer: Annotated[
        Path, typer.Option(help="The tokenizer.json, or the model (a folder or of the hub) to train further.")
    ] = Path("tokenizer.json"),
    first: Annotated[
        str | None,
        typer.Option(help="Column of the tweets, or of single texts. [dim]\\[ORIG_TEXT; TEXT][/dim]"),
    ] = None,
    second: Annotated[
        str | None, typer.Option(help="Column of the replies. [dim]\\[REPLY_TEXT][/dim]")
    ] = None,
    first_id: Annotated[
        str | None, typer.Option(help="Column of the tweets' ids. [dim]\\[ORIG_ID; ID][/dim]")
    ] = None,
    second_id: Annotated[
        str | None, typer.Option(help="Column of the replies' ids. [dim]\\[REPLY_ID][/dim]")
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header", help="Whether first lines name the columns. [dim]\\[found][/dim]"
        ),
    ] = None,
    reading: Reading = AS_FOUND,
    max_length: Annotated[
        int | None, typer.Option(help="Longest row in tokens. [dim]\\[the tokenizer's][/dim]")
    ] = None,
    dev: Annotated[
        float | None, typer.Option(help="Share to hold out, by whole conversations. [dim]\\[0.01][/dim]")
    ] = None,
    dev_files: Annotated[
        list[Path] | None, typer.Option(help="Hold out this file instead; repeatable.")
    ] = None,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Leave out texts that are nearly the same.")
    ] = False,
    on_error: Annotated[str, typer.Option(help="A bad row: fail or skip.")] = "fail",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the draw of that share. [dim]\\[0][/dim]")
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Clean and encode texts once, for pretraining."""
    from twil.data.corpus.build import CorpusOptions, build_corpus
    from twil.data.corpus.pairs import PairColumns

    options = CorpusOptions(
        columns=PairColumns(first_id, first, second_id, second),
        reading=replace(reading, header=header),
        on_error=on_error,  # type: ignore[arg-type]  # checked there
        max_length=max_length,
        drop_duplicates=drop_duplicates,
        dev=dev,
        seed=seed,
    )
    with Display(quiet=quiet) as display:
        tokens = _find_tokens(tokenizer)
        events = build_corpus(files, output, tokens, options, dev_files=dev_files or (), overwrite=force)
        follow(events, display)


def _find_tokens(source: Path) -> Path | Callable[[], Tokenizer]:
    """Take a tokenizer's file as it is, and of a model, which may have to be fetched, what loads its own."""
    if source.is_file() or source.suffix == ".json":
        return source

    def load() -> Tokenizer:
        from twil.model.folder import load_tokens

        return load_tokens(source)

    return load


def follow(events: Iterable[CorpusProgress | Summary], display: Display) -> None:
    """Draw the making of a corpus; its summary is a result, on stdout."""
    from twil.data.corpus.build import Summary

    for event in events:
        if isinstance(event, Summary):
            show_summary(display, event)
        else:
            display.update(
                f"{event.doing}: {event.rows:,} rows  {event.rows_per_second:,.0f} rows/s", done=event.share
            )


def show_summary(display: Display, summary: Summary) -> None:
    """Say what became of every row, on stdout, and how long it took."""
    from twil.data.corpus.build import RULES

    rules = summary.info["rules"]
    lines = {"read": "read", **{rule: f"left out: {why}" for rule, why in RULES.items()}, "kept": "kept"}
    show(
        make_table(
            "rows",
            ["", *rules],
            [[said, *(counts[key] for counts in rules.values())] for key, said in lines.items()],
        )
    )
    columns = ["rows", "tokens", "truncated", "unknown", "bytes"]
    held = [
        [part, kind, *(counts[column] for column in columns)]
        for part, kinds in summary.info["parts"].items()
        for kind, counts in kinds.items()
    ]
    show(make_table(f"corpus, rows of at most {summary.info['max_length']} tokens", ["", "", *columns], held))
    for error in summary.first_errors:
        display.warn(error)
    drawn = summary.info["dev"]
    if "held_out" in drawn:
        display.line(
            f"held out {drawn['held_out']:,} of {drawn['conversations']:,} conversations "
            f"(the largest has {drawn['largest']:,} rows)"
        )
    display.line(
        f"wrote {summary.path} in {format_seconds(summary.seconds)}, {summary.rows_per_second:,.0f} rows/s, "
        f"peak memory {format_bytes(summary.peak_memory)}"
    )
