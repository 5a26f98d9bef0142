"""`twil pretrain`: an encoder from a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display, continue_later, prepare_torch, speaks, tell_weights
from twil.cli.options import (
    Device,
    Figures,
    FolderOutput,
    Force,
    Quiet,
    Resume,
    Settings,
    Threads,
    Track,
    name_output,
    named_recipes,
)


def command(
    config: Annotated[
        Path,
        typer.Argument(
            autocompletion=named_recipes,
            help="A recipe (twil recipes), a TOML file, or a JSON file of the original TWilBERT.",
        ),
    ],
    output: FolderOutput = None,
    corpus: Annotated[Path | None, typer.Option(help="The corpus to learn from (data.corpus).")] = None,
    init: Annotated[
        Path | None, typer.Option(help="Train this model folder further, in place of a new model.")
    ] = None,
    settings: Settings = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    force: Force = False,
    track: Track = None,
    tensorboard: Figures = None,
    quiet: Quiet = False,
) -> None:
    """Pretrain an encoder on tweet–reply pairs and single texts.

    On several GPUs: torchrun --nproc-per-node N -m twil pretrain …
    """
    prepare_torch(threads)

    with Display(quiet=quiet or not speaks(), doing="loading PyTorch") as display:
        from twil.cli.original_pretraining import read_run
        from twil.cli.training import PretrainingView
        from twil.train.pretraining import pretrain_events, reserved_place
        from twil.train.trackers import make_trackers
        from twil.train.tracking import tracked

        trackers = make_trackers(track or (), tensorboard) if speaks() else ()
        folder = name_output(display, output, config, "encoder")
        run = read_run(
            config,
            folder,
            display,
            corpus=corpus,
            init=init,
            settings=settings or (),
            reserve=lambda run: reserved_place(run, folder, resume=resume, overwrite=force, device=device),
        )
        view = PretrainingView(display)
        events = pretrain_events(
            run, folder, resume=resume, overwrite=force, device=device, should_stop=view.should_stop
        )
        events = tracked(events, trackers, folder, run, say=display.line, warn=display.warn)
        finished = view.follow(events, resume=resume)
    if finished is None:
        continue_later(display)
    tell_weights(display, finished)
