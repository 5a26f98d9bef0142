"""`twil compare`: models side by side on a labelled file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display, make_table, read_names, show, show_json
from twil.cli.options import (
    AnyDevice,
    AsJson,
    BatchTokens,
    Force,
    LabelColumn,
    LabelSeparator,
    Limit,
    PairColumn,
    Quiet,
    ShuffleSeed,
    TextColumn,
    shipped_models,
)
from twil.cli.reading import columns_of, reads_tables
from twil.config.reading import AS_FOUND, Reading


@reads_tables
def command(
    file: Annotated[Path, typer.Argument(help="Labelled texts.")],
    models: Annotated[
        list[str],
        typer.Argument(
            autocompletion=shipped_models,
            help="Model folders, bundles, names of twil models or of the hub; NAME=PATH calls one otherwise.",
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(help="What pairs are compared by, such as accuracy. [dim]\\[the task's main one][/dim]"),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="Also write it: .html, .md, .json; a row for each model: .tsv, .csv. Repeatable.",
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option(help="Order of the models: metric, given, name, parameters, size or time.")
    ] = "metric",
    text: TextColumn = None,
    text_pair: PairColumn = None,
    label: LabelColumn = None,
    label_separator: LabelSeparator = None,
    reading: Reading = AS_FOUND,
    map_labels: Annotated[
        list[str] | None,
        typer.Option(help="What models' labels are called in the file: LABEL_1=positive,…"),
    ] = None,
    limit: Limit = None,
    shuffle_seed: ShuffleSeed = None,
    differing: Annotated[
        int, typer.Option(min=0, help="Rows that models predict differently, on a page.")
    ] = 20,
    no_texts: Annotated[
        bool, typer.Option("--no-texts", help="Leave their texts out of a page: tweets are personal data.")
    ] = False,
    resamples: Annotated[int, typer.Option(help="Samples of the bootstrap.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of these samples.")] = 0,
    batch_tokens: BatchTokens = 1024,
    device: AnyDevice = "auto",
    as_json: AsJson = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Compare classifiers on labelled texts: scores with intervals, speed, and which differences are real."""
    from twil.bundle.names import name_models
    from twil.data.labelled import Sample
    from twil.evaluation.reports.comparison_files import reserved_outputs, write_comparison
    from twil.evaluation.reports.comparison_tables import comparison_grids, explain_tests
    from twil.inference.inputs import check_target

    for path in output or ():
        check_target(file, path)
    with (
        reserved_outputs(*output or (), overwrite=force),
        Display(quiet=quiet, doing="looking at the models") as display,
    ):
        from twil.evaluation.compare import compare_events
        from twil.evaluation.comparison import Comparison

        for event in compare_events(
            file,
            name_models(models),
            columns=columns_of(text, text_pair, label, label_separator, reading),
            sample=Sample(limit, shuffle_seed),
            map_labels=read_names(map_labels),
            metric=metric,
            resamples=resamples,
            seed=seed,
            order=sort,
            differing=differing,
            batch_tokens=batch_tokens,
            device=device,
        ):
            if not isinstance(event, Comparison):
                display.update(f"{event.name}, {event.number} of {event.models}: {event.rows:,} rows")
        assert isinstance(event, Comparison)
        for path in output or ():
            write_comparison(event, path, texts=not no_texts)
    if as_json:
        show_json(event.as_dict())
    else:
        for title, columns, rows, figures in comparison_grids(event):
            show(make_table(title, columns, rows, figures=figures))
        if event.pairs:
            show(explain_tests(event))
    for path in output or ():
        if path.suffix.lower() == ".html" and event.differing and not no_texts:
            told = f"{path} holds texts of rows that models predict differently: --no-texts leaves them out"
            display.warn(told)
        display.line(f"wrote {path}")
