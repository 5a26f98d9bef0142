"""`twil plot`: the curves of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display
from twil.cli.options import Force, Quiet


def command(
    run: Annotated[
        Path, typer.Argument(help="A model folder, the .checkpoint folder of a run, or a log.jsonl.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Its ending decides the format: .png, .svg or .pdf.")
    ] = Path("curves.png"),
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Draw the curves of a run: loss, accuracies, learning rate, throughput."""
    from twil.core.storage import reserved_files
    from twil.evaluation.pages.figure import check_ending
    from twil.evaluation.reports.curves import draw_curves, read_curves

    check_ending(output)
    with reserved_files(output, overwrite=force), Display(quiet=quiet) as display:
        curves = read_curves(run)
        titles = draw_curves(curves, output)
        if curves.cut:
            display.warn(f"the last line of {curves.path} is cut, as by a killed run: it is left out")
        display.line(f"wrote {output}: {', '.join(titles).lower()}; {curves.last_step:,} steps")
