"""`twil export`: an ONNX bundle from a model folder."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display, read_names
from twil.cli.options import (
    TEXT_OPTION,
    FolderOutput,
    Force,
    LabelColumn,
    LabelSeparator,
    PairColumn,
    Quiet,
    name_output,
)
from twil.cli.reading import columns_of, reads_tables
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError


@reads_tables
def command(
    model: Annotated[Path, typer.Argument(help="The model folder.")],
    output: FolderOutput = None,
    onnx: Annotated[  # noqa: ARG001 (there is no other kind to choose)
        bool,
        typer.Option(
            "--onnx", show_default=False, help="Write an ONNX bundle: the only kind, and the default."
        ),
    ] = True,
    head: Annotated[
        str | None,
        typer.Option(
            help="classifier, encoder or fill-mask. [dim]\\[classifier if there, else encoder][/dim]"
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="Of an encoder: cls, avg, max or concat. [dim]\\[as its folder says, else avg][/dim]"
        ),
    ] = None,
    optimize: Annotated[
        bool, typer.Option("--optimize", help="Use fused operators that only ONNX Runtime has: faster.")
    ] = False,
    precision: Annotated[str, typer.Option(help="fp32, fp16 (for GPUs) or int8.")] = "fp32",
    calibration: Annotated[
        Path | None, typer.Option(help="For int8: texts like those to come, such as the training file.")
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--eval", help="For int8: a file to check it on, such as dev; labelled for a classifier."
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help=f"In both: {TEXT_OPTION[0].lower()}{TEXT_OPTION[1:]}")
    ] = None,
    text_pair: PairColumn = None,
    label: LabelColumn = None,
    label_separator: LabelSeparator = None,
    reading: Reading = AS_FOUND,
    map_labels: Annotated[
        list[str] | None,
        typer.Option(help="What the model's labels are to be called: LABEL_1=positive,…"),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="Points that int8 may lose of macro-F1, or what the task is judged by.")
    ] = 0.5,
    min_agreement: Annotated[
        float, typer.Option(help="Percent of the sure predictions that int8 must keep.")
    ] = 99.5,
    max_change: Annotated[
        float, typer.Option(help="By how much probabilities may change in int8, on average.")
    ] = 0.01,
    min_cosine: Annotated[
        float, typer.Option(help="Of an encoder: the least cosine of int8's vectors with fp32's.")
    ] = 0.99,
    text_in: Annotated[
        bool, typer.Option("--text-in", help="Also write a graph that takes texts, its tokenizer inside.")
    ] = False,
    triton: Annotated[
        bool,
        typer.Option(
            "--triton", help="Also write a repository for Triton, in OUTPUT.triton; with --text-in."
        ),
    ] = False,
    preparation: Annotated[
        str | None,
        typer.Option(
            help="How texts are prepared, if the folder does not say: robertuito, cardiffnlp, bertweet, none."
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Export a model to ONNX and check that it computes the same.

    In int8 it is refused where its predictions change too much, or the vectors of an encoder.
    """
    from twil.exporting.int8.guard import Limits
    from twil.exporting.int8.options import choose_arithmetic

    if triton and not text_in:
        raise ConfigError("Triton runs a graph that takes texts: add --text-in")
    fp16, int8 = choose_arithmetic(
        precision,
        calibration=calibration,
        evaluation=evaluation,
        columns=columns_of(
            text,
            text_pair,
            label,
            label_separator,
            reading,
        ),
        limits=Limits(max_drop, min_agreement, max_change, min_cosine),
    )
    with Display(quiet=quiet, doing="loading PyTorch") as display, ExitStack() as held:
        from twil.exporting.bundle import export_onnx

        kind = "bundle" if precision == "fp32" else f"bundle-{precision}"
        output = name_output(display, output, model, kind)
        if triton:
            from twil.core.storage import reserved_folder, with_name
            from twil.exporting.triton import model_name, write_repository

            named = with_name(output)
            repository = named.with_name(f"{named.name}.triton")
            held.enter_context(reserved_folder(repository, overwrite=force, own=[model_name(named)]))
        display.update(f"exporting {model}")
        report = export_onnx(
            model,
            output,
            head=head,  # type: ignore[arg-type]  # checked there
            map_labels=read_names(map_labels),
            pooling=pooling,  # type: ignore[arg-type]  # checked there
            optimize=optimize,
            fp16=fp16,
            int8=int8,
            text_in=text_in,
            preparation=preparation,
            overwrite=force,
            say=display.update,
        )
        display.line(report.describe())
        if fp16:
            display.line(report.describe_fp16())
        if int8:
            display.line(report.describe_int8())
        if report.texts_read:
            display.line(report.describe_text_in())
        for missing in report.unfused:
            display.warn(missing)
        if triton:
            display.line(f"wrote {write_repository(output, repository, overwrite=force)} for Triton")
