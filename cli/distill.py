"""`twil distill`: a small model from what a large one says of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from twil.cli.console import Display, continue_later, prepare_torch, show, speaks, tell_weights
from twil.cli.options import (
    Device,
    FolderOutput,
    Force,
    LabelColumn,
    LabelSeparator,
    Quiet,
    Resume,
    Seed,
    Settings,
    Threads,
    Track,
    TrainingPrecision,
    name_output,
)
from twil.cli.reading import reading_settings, reads_tables
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError


@reads_tables
def command(
    teacher: Annotated[
        Path, typer.Argument(help="The large model: a bundle, a model folder, or a model of the hub.")
    ],
    output: FolderOutput = None,
    texts: Annotated[
        list[Path] | None,
        typer.Argument(help="Texts that it is asked (TSV, CSV, JSONL, Parquet, or one a line); no labels."),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            help="tiny, small, base or large, drawn anew; or a model folder, or a model of the hub. "
            "[dim]\\[4 layers of 256][/dim]"
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="The tokenizer.json of a student drawn anew. [dim]\\[the teacher's tokens][/dim]"),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Another classifier of the same labels; repeatable: the mean of all is learned."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="classifier: learn its answers; encoder: its vectors. [dim]\\[what it is][/dim]"),
    ] = None,
    labelled: Annotated[
        Path | None, typer.Option(help="Of a classifier: texts with true labels, learned beside its answers.")
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Of a classifier: labelled texts that decide the best epoch.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Of a classifier: scored once, at the end.")] = None,
    without: Annotated[
        list[Path] | None, typer.Option(help="Leave the texts of this file out, such as dev; repeatable.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of the texts; repeatable, and of labelled ones the first. "
            "[dim]\\[TEXT, ORIG_TEXT, REPLY_TEXT][/dim]"
        ),
    ] = None,
    label: LabelColumn = None,
    label_separator: LabelSeparator = None,
    reading: Reading = AS_FOUND,
    limit: Annotated[int | None, typer.Option(help="At most so many different texts.", min=1)] = None,
    epochs: Annotated[
        int | None, typer.Option(help="How often the student sees them. [dim]\\[5][/dim]", min=1)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate. [dim]\\[1e-3; of a trained student 2e-4][/dim]")
    ] = None,
    precision: TrainingPrecision = None,
    seed: Seed = None,
    store: Annotated[
        Path | None, typer.Option(help="Keep the teacher's answers in this folder, for more students.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with any of these settings.")] = None,
    settings: Settings = None,
    track: Track = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Teach a small model what a large one says of texts.

    Of a classifier it learns the answers, of an encoder the vectors. The large one is asked once.
    """
    prepare_torch(threads)

    options: dict[str, dict[str, Any]] = {
        "data": {
            "teacher": teacher,
            "also": also or None,
            "texts": texts or None,
            "columns": text or None,
            "text": text[0] if text else None,
            "labelled": labelled,
            "dev": dev,
            "test": test,
            "without": without or None,
            "label": label,
            "label_separator": label_separator,
            "reading": reading_settings(reading),
            "limit": limit,
        },
        "model": {"tokenizer": tokenizer},
        "train": {"epochs": epochs, "lr": lr, "precision": precision, "seed": seed},
    }
    if head not in (None, "classifier", "encoder"):
        raise ConfigError(f"there is no head '{head}' to learn from: choose classifier or encoder")
    with Display(quiet=quiet or not speaks(), doing="loading PyTorch") as display:
        from twil.cli.distillation import DistillationView, side_by_side, teacher_bundle
        from twil.config.distillation import distill_config
        from twil.train.distillation import distill_events
        from twil.train.trackers import make_trackers
        from twil.train.tracking import tracked

        trackers = make_trackers(track or ()) if speaks() else ()
        output = name_output(display, output, teacher, "small")
        run = distill_config(config, options, settings or (), student=student)
        view = DistillationView(display)
        bundles = [
            teacher_bundle(each, head, display, run.data.preparation)  # type: ignore[arg-type]  # one of them
            for each in (run.data.teacher, *run.data.also)
        ]
        events = distill_events(
            run,
            bundles[0],
            output,
            also=bundles[1:],
            store=store,
            resume=resume,
            overwrite=force,
            device=device,
            should_stop=view.should_stop,
        )
        events = tracked(events, trackers, output, run, say=display.line, warn=display.warn)
        finished = view.follow(events, resume=resume)
        if finished is None:
            continue_later(display)
        tell_weights(display, finished)
        if speaks() and not quiet:
            show(side_by_side(bundles, finished, run))
