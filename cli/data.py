"""`twil data`: files looked at before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from twil.cli.console import Display, show_json
from twil.cli.reading import LABEL_OPTION, TEXT_OPTION, LabelSeparator, columns_of, reads_tables
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@reads_tables
def command(
    files: Annotated[
        list[str], typer.Argument(help="Tables of texts, those to train on first; - is standard input.")
    ],
    text: Annotated[str | None, typer.Option(help=TEXT_OPTION)] = None,
    text_pair: Annotated[str | None, typer.Option(help="Column of the second texts, of pairs.")] = None,
    label: Annotated[str | None, typer.Option(help=LABEL_OPTION)] = None,
    label_separator: LabelSeparator = None,
    task: Annotated[str, typer.Option(help="class, multi-label, regression or stance.")] = "class",
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", "-m", help="A model folder, bundle or model of the hub, whose pieces to count."
        ),
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Or a tokenizer.json.")] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Longest row in pieces. [dim]\\[the tokenizer's][/dim]")
    ] = None,
    reading: Reading = AS_FOUND,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show results only.")] = False,
) -> None:
    """Look at files before training: repeats, overlaps, labels, lengths."""
    from twil.cli.overview import show_overview
    from twil.cli.pitfalls import show_notes
    from twil.core.task import TaskKind
    from twil.data.survey.overview import Overview, OverviewOptions
    from twil.data.survey.survey import survey

    if task not in (known := (*get_args(TaskKind), "stance")):
        raise ConfigError(f"there is no task '{task}': choose one of {', '.join(known)}")
    with Display(quiet=quiet) as display:
        options = OverviewOptions(
            columns=columns_of(
                text,
                text_pair,
                label,
                label_separator,
                reading,
            ),
            task="class" if task == "stance" else task,  # type: ignore[arg-type]  # checked above
            tokenizer=_find_tokenizer(model, tokenizer),
            max_length=max_length,
        )
        for event in survey(files, options):
            if isinstance(event, Overview):
                found = event
            else:
                display.update(f"{event.doing}: {event.rows:,} rows, {event.rows_per_second:,.0f} rows/s")
    if as_json:
        show_json(found.as_dict())
    else:
        show_overview(found)
    show_notes(display, found)


def _find_tokenizer(named: Path | None, tokenizer: Path | None) -> Path | Tokenizer | None:
    from twil.bundle.bundle import TOKENIZER, is_bundle
    from twil.bundle.names import model_path
    from twil.core.storage import read_json

    if named is None:
        return tokenizer
    model = model_path(named)
    if tokenizer is not None:
        raise ConfigError("--model has a tokenizer: leave --tokenizer out")
    config = model / "config.json"
    if is_bundle(model) or (config.is_file() and "model" in read_json(config)):
        return model / TOKENIZER  # twil's own, for which no model need be looked at
    from twil.model.folder import load_pieces

    return load_pieces(model)
