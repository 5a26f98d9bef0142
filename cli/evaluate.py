"""`twil evaluate`: the scores of a model folder or a bundle on a labelled file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display, format_seconds, report_tables, show, show_json


def command(
    model: Annotated[Path, typer.Argument(help="A model folder or a bundle.")],
    file: Annotated[Path, typer.Argument(help="Labelled texts.")],
    text: Annotated[str, typer.Option(help="Column of the texts.")] = "TEXT",
    label: Annotated[str, typer.Option(help="Column of the labels.")] = "CLASS",
    batch_tokens: Annotated[int, typer.Option(min=1, help="Pieces per batch.")] = 1024,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show results only.")] = False,
) -> None:
    """Score a classifier on labelled texts."""
    from twil.train.evaluate import evaluate

    with Display(quiet=quiet) as display:
        display.update(f"evaluating {model} on {file}")
        result = evaluate(model, file, text=text, label=label, batch_tokens=batch_tokens, device=device)
    if as_json:
        show_json(result.as_dict())
        return
    for table in report_tables(result.report.as_dict(), f"{model} on {file}"):
        show(table)
    if result.truncated:
        display.warn(f"texts cut at the longest row that the model reads: {result.truncated:,}")
    display.line(f"{result.report.rows:,} rows in {format_seconds(result.seconds)}, {result.runtime}")
