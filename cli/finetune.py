"""`twil finetune`: a classifier from labelled files and an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from twil.cli.console import (
    Display,
    continue_later,
    format_seconds,
    prepare_torch,
    read_names,
    read_weights,
    show,
    speaks,
    split_names,
)
from twil.cli.options import (
    Device,
    Figures,
    FolderOutput,
    Force,
    LabelColumn,
    LabelSeparator,
    Limit,
    PairColumn,
    Quiet,
    Resume,
    Seed,
    Settings,
    ShuffleSeed,
    TextColumn,
    Threads,
    Track,
    TrainingPrecision,
    name_output,
    named_recipes,
    shipped_models,
)
from twil.cli.reading import DEV_OPTION, read_dev, reading_settings, reads_tables
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError


@reads_tables
def command(
    output: FolderOutput = None,
    train: Annotated[
        Path | None,
        typer.Argument(
            help="Labelled texts to learn from (TSV, CSV, JSONL, Parquet), or a JSON file of the original "
            "TWilBERT."
        ),
    ] = None,
    dev: Annotated[str | None, typer.Option(help=DEV_OPTION)] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            autocompletion=shipped_models, help="Start from this model folder, or a model of the hub."
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Or start from a fresh encoder: tiny, small, base or large.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="The tokenizer.json of a fresh encoder.")] = None,
    test: Annotated[Path | None, typer.Option(help="Scored once, at the end.")] = None,
    text: TextColumn = None,
    text_pair: PairColumn = None,
    label: LabelColumn = None,
    label_separator: LabelSeparator = None,
    reading: Reading = AS_FOUND,
    task: Annotated[
        str | None, typer.Option(help="class, multi-label, regression or stance. [dim]\\[class][/dim]")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Label names in their order, separated by commas. [dim]\\[found][/dim]")
    ] = None,
    keep_head: Annotated[
        bool, typer.Option("--keep-head", help="Train the model's own classifier further, not a new one.")
    ] = False,
    map_labels: Annotated[
        list[str] | None,
        typer.Option(
            help="With --keep-head: what the model's labels are called in the file: LABEL_1=positive,…"
        ),
    ] = None,
    limit: Limit = None,
    shuffle_seed: ShuffleSeed = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="At most so many epochs. [dim]\\[10][/dim]")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate. [dim]\\[fresh encoder: 5e-4; else 5e-5 at a hidden size of 768][/dim]"
        ),
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens per batch. [dim]\\[1024][/dim]")] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="From tokens to one vector: cls, avg, max, concat. [dim]\\[the model's, or cls][/dim]"
        ),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="Loss function. [dim]\\[cross_entropy, for one label][/dim]")
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(help="none, balanced, max-ratio, or LABEL=WEIGHT,… [dim]\\[none][/dim]"),
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(help="Parts that stay as they are, such as embeddings,0-3.")
    ] = None,
    precision: TrainingPrecision = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Dev score that decides the best epoch. [dim]\\[macro_f1, for labels][/dim]"),
    ] = None,
    tune_threshold: Annotated[
        str | None, typer.Option(help="f1: thresholds with the best F1 on dev, kept with the model.")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="temperature: probabilities that fit dev, kept with the model.")
    ] = None,
    seed: Seed = None,
    config: Annotated[
        Path | None,
        typer.Option(
            autocompletion=named_recipes,
            help="A recipe, a TOML file of settings, or a JSON file of the original.",
        ),
    ] = None,
    settings: Settings = None,
    runs: Annotated[
        int | None, typer.Option(help="Train with so many seeds and keep the best by dev.", min=1)
    ] = None,
    keep_runs: Annotated[
        bool, typer.Option("--keep-runs", help="Keep the models of all runs, in OUTPUT.runs.")
    ] = False,
    track: Track = None,
    tensorboard: Figures = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a classifier on labelled texts."""
    prepare_torch(threads)

    options: dict[str, dict[str, Any]] = {
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
            "labels": split_names(labels),
            "limit": limit,
            "shuffle_seed": shuffle_seed,
        },
        "model": {
            "folder": model,
            "init": init,
            "tokenizer": tokenizer,
            "keep_head": keep_head or None,
            "map_labels": read_names(map_labels) or None,
            "classifier": {"pooling": pooling},
        },
        "train": {
            "epochs": epochs,
            "lr": lr,
            "batch_tokens": batch_tokens,
            "loss": loss,
            "class_weights": read_weights(class_weights),
            "freeze": freeze,
            "precision": precision,
            "metric": metric,
            "seed": seed,
        },
        "decision": {"tune_threshold": tune_threshold, "calibrate": calibrate},
    }
    if keep_runs and runs is None:
        raise ConfigError("--keep-runs would have no effect: only with --runs")
    choices: dict[str, Any] = {"resume": resume, "overwrite": force, "device": device}
    series = None
    with Display(quiet=quiet or not speaks(), doing="loading PyTorch and reading the rows") as display:
        from twil.cli.original_finetuning import read_run
        from twil.train.trackers import make_trackers

        trackers = make_trackers(track or (), tensorboard) if speaks() else ()
        output = name_output(display, output, train or config, "model")
        run = read_run(config, options, settings or (), display)

        from twil.cli.pitfalls import warn_of_scores
        from twil.cli.scores import report_tables
        from twil.cli.training import SeriesView, TrainingView, show_decision, show_series
        from twil.train.finetune import finetune_events
        from twil.train.runs import finetune_runs_events
        from twil.train.tracking import tracked

        view, told = TrainingView(display), {"say": display.line, "warn": display.warn}
        if runs is None:
            events = finetune_events(run, output, should_stop=view.should_stop, **choices)
            finished = view.follow(tracked(events, trackers, output, run, **told), resume=resume)
        else:
            choices |= {"runs": runs, "keep_runs": keep_runs, "should_stop": view.should_stop}
            all_events = finetune_runs_events(run, output, **choices)
            series = SeriesView(view).follow(tracked(all_events, trackers, output, run, **told))
            finished = series.best if series else None
    if finished is None:
        continue_later(display)
    if not speaks():
        return
    if series:
        show_series(series.series)
    show_decision(finished, display)
    report = finished.test or finished.dev
    epoch = f"{'best' if finished.dev else 'last'} epoch {finished.best_epoch}"
    epoch = epoch if finished.best_epoch else "as it was"
    for table in report_tables(report, f"{'test' if finished.test else 'dev'}, {epoch}") if report else ():
        show(table)
    if report and finished.best_epoch:
        warn_of_scores(display, report)
    display.line(f"wrote {finished.folder} in {format_seconds(finished.seconds)}")
