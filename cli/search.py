"""`twil search`: the best of many settings, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display, continue_later, format_seconds, prepare_torch, show
from twil.cli.options import (
    Device,
    FolderOutput,
    Force,
    LabelColumn,
    LabelSeparator,
    PairColumn,
    Quiet,
    TextColumn,
    name_output,
)
from twil.cli.reading import read_dev, reading_settings, reads_tables
from twil.config.reading import AS_FOUND, Reading


@reads_tables
def command(
    output: FolderOutput = None,
    train: Annotated[Path | None, typer.Argument(help="Labelled texts to learn from.")] = None,
    dev: Annotated[
        str | None,
        typer.Option(help="Labelled texts that decide, or a share of the rows to learn from, such as 0.1."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A setting with its values: a list (lr=1e-5,5e-5), a range (lr=1e-5..1e-3) or one for all "
            "trials (epochs=5); repeatable.",
        ),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Start from this model folder.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Or start from a fresh encoder: tiny, small, base or large.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="The tokenizer.json of a fresh encoder.")] = None,
    test: Annotated[Path | None, typer.Option(help="Scored once, by the winner.")] = None,
    text: TextColumn = None,
    label: LabelColumn = None,
    label_separator: LabelSeparator = None,
    reading: Reading = AS_FOUND,
    text_pair: PairColumn = None,
    task: Annotated[
        str | None, typer.Option(help="class, multi-label, regression or stance. [dim]\\[class][/dim]")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Dev score that decides. [dim]\\[macro_f1, for labels][/dim]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="First seed of each trial. [dim]\\[1][/dim]")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file of twil finetune, also with a section search.")
    ] = None,
    runs: Annotated[int | None, typer.Option(help="Seeds of each trial. [dim]\\[1][/dim]")] = None,
    trials: Annotated[
        int | None, typer.Option(help="How many trials. [dim]\\[all combinations][/dim]")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="grid, random or tpe. [dim]\\[grid where all combinations are tried, else tpe][/dim]"
        ),
    ] = None,
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Let every trial run to its end.")] = False,
    jobs: Annotated[int, typer.Option(help="Trials beside each other.", min=1)] = 1,
    keep_trials: Annotated[
        bool, typer.Option("--keep-trials", help="Keep the models of all trials.")
    ] = False,
    device: Device = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads, of all trials together. [dim]\\[all][/dim]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted search.")] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Search the best settings of a classifier, each tried with several seeds."""
    prepare_torch(threads)

    from twil.config.search import search_plan

    plan = search_plan(
        config,
        {
            "data": {
                "train": train,
                "dev": read_dev(dev),
                "test": test,
                "text": text,
                "text_pair": text_pair,
                "label": label,
                "label_separator": label_separator,
                "reading": reading_settings(reading),
                "task": task,
            },
            "model": {"folder": model, "init": init, "tokenizer": tokenizer},
            "train": {"metric": metric, "seed": seed},
        },
        settings or (),
        {"runs": runs, "trials": trials, "sampler": sampler, "prune": False if no_prune else None},
    )

    with Display(quiet=quiet, doing="loading PyTorch and reading the rows") as display:
        from twil.cli.scores import report_tables
        from twil.cli.searching import SearchView, show_trials
        from twil.search.run import search

        output = name_output(display, output, train or config, "search")
        view = SearchView(display)
        events = search(
            plan,
            output,
            jobs=jobs,
            resume=resume,
            overwrite=force,
            keep_trials=keep_trials,
            device=device,
            should_stop=view.should_stop,
        )
        finished = view.follow(events, resume=resume)
    if finished is None:
        continue_later(display)
    show_trials(finished, plan)
    title = f"{'test' if finished.test else 'dev'}, best run of trial {finished.best.trial}"
    for table in report_tables(finished.test or finished.dev, title):
        show(table)
    display.line(f"wrote {finished.folder} in {format_seconds(finished.seconds)}")
    display.line(f"train it again: twil finetune --config {finished.folder / 'best.toml'} -o MODEL")
