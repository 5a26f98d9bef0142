"""`twil plot`: the curves of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display
from twil.cli.options import Force, Quiet


def command(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Model folders, .checkpoint folders of runs, or log.jsonl files; several lie over each "
            "other, and NAME=PATH calls one otherwise."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Its ending decides the format: .png, .svg or .pdf.")
    ] = Path("curves.png"),
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Draw the curves of runs: loss, scores on dev, learning rate, throughput."""
    from twil.bundle.names import name_models
    from twil.core.storage import reserved_files
    from twil.evaluation.pages.figure import check_ending
    from twil.evaluation.reports.curves import draw_curves, read_curves

    check_ending(output)
    with reserved_files(output, overwrite=force), Display(quiet=quiet) as display:
        found = {name: read_curves(run) for name, run in name_models(runs).items()}
        titles = draw_curves(found, output)
        for curves in found.values():
            if curves.cut:
                display.warn(f"the last line of {curves.path} is cut, as by a killed run: it is left out")
        steps = ", ".join(f"{curves.last_step:,}" for curves in found.values())
        display.line(f"wrote {output}: {', '.join(titles).lower()}; {steps} steps")
