"""`twil export`: an ONNX bundle from a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display
from twil.errors import ConfigError


def command(
    model: Annotated[Path, typer.Argument(help="The model folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle to write.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write an ONNX bundle (the only kind today).")] = False,
    pooling: Annotated[
        str | None, typer.Option(help="Of a bare encoder: cls, avg, max or concat. [dim]\\[avg][/dim]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at the output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
) -> None:
    """Export a model to ONNX and check that it computes the same."""
    from twil.export.bundle import export_onnx

    if not onnx:
        raise ConfigError("say what to export to: add --onnx")
    with Display(quiet=quiet) as display:
        display.update(f"exporting {model}")
        report = export_onnx(model, output, pooling=pooling, overwrite=force)  # type: ignore[arg-type]
        display.line(report.describe())
