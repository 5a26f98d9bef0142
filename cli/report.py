"""`twil report`: what a run is worth, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display
from twil.cli.options import Device, Force, Quiet
from twil.core.errors import ConfigError


def command(
    run: Annotated[Path, typer.Argument(help="A model folder that twil finetune wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page. [dim]\\[RUN.html][/dim]")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="The set of the run to report on: dev, test or train. [dim]\\[dev, else test][/dim]"
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Another labelled file to report on, of the same columns.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Another model to hold the run against: what twil predict wrote for the same rows, or the "
            ".json of twil evaluate --json."
        ),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many wrong rows of the largest loss to show.")] = 20,
    no_texts: Annotated[
        bool, typer.Option("--no-texts", help="Leave their texts out: tweets are personal data.")
    ] = False,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a page of a run: its worth, curves, confusion, calibration, wrong texts, settings, data."""
    from twil.core.storage import reserved_files, with_name

    folder = with_name(run)
    target = output or folder.with_name(f"{folder.name}.html")
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"the page is HTML, and {target} is named otherwise: give it the ending .html")
    if split and data:
        raise ConfigError("--data names a file, and --split one of the run's: leave one of them out")
    with reserved_files(target, overwrite=force), Display(quiet=quiet, doing=f"examining {run}") as display:
        from twil.evaluation.pages.document import write_page
        from twil.evaluation.reports.examination import examine
        from twil.evaluation.reports.run_page import make_report
        from twil.evaluation.reports.verdict import read_baseline

        other = read_baseline(baseline) if baseline else None
        examined = examine(folder, split=split, data=data, device=device)
        write_page(target, make_report(examined, worst=worst, texts=not no_texts, baseline=other))
        rows, source = len(examined.labelled), examined.source
        shown = len(examined.worst(worst))
        if source.split is None:
            display.warn(f"{source.path} is none of the files that the run recorded; the page says so")
        if shown and not no_texts:
            display.warn(
                "the page holds texts of rows that were predicted wrongly: --no-texts leaves them out"
            )
        display.line(f"wrote {target}: {source.split or source.path}, {rows:,} rows")
