"""`twil evaluate`: a classifier's scores on labelled texts, or a pretrained model's on pairs or texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display, format_seconds, read_names, show, show_json
from twil.cli.options import (
    AnyDevice,
    AsJson,
    BatchTokens,
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
from twil.core.errors import ConfigError

PRETRAINED = "--mlm, --rop or --pll"


@reads_tables
def command(
    model: Annotated[
        str,
        typer.Argument(
            autocompletion=shipped_models,
            help="A model folder, a name of twil models or the hub; for a classifier's scores also a bundle.",
        ),
    ],
    file: Annotated[Path, typer.Argument(help="Labelled texts; for a pretrained model pairs or texts.")],
    mlm: Annotated[
        bool, typer.Option("--mlm", help="Pretrained: how well masked tokens are guessed.")
    ] = False,
    rop: Annotated[
        bool, typer.Option("--rop", help="Pretrained: how well the order of pairs is told.")
    ] = False,
    pll: Annotated[
        bool, typer.Option("--pll", help="Pretrained: how likely texts are, every token masked in turn.")
    ] = False,
    text: TextColumn = None,
    text_pair: PairColumn = None,
    label: LabelColumn = None,
    label_separator: LabelSeparator = None,
    first: Annotated[str | None, typer.Option(help="Pretrained: column of the (first) texts.")] = None,
    second: Annotated[str | None, typer.Option(help="Pretrained: column of the replies.")] = None,
    reading: Reading = AS_FOUND,
    limit: Limit = None,
    shuffle_seed: ShuffleSeed = None,
    map_labels: Annotated[
        list[str] | None,
        typer.Option(help="What the model's labels are called in the file: LABEL_1=positive,…"),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="class, multi-label or regression, where a model of the library does not say."),
    ] = None,
    masking: Annotated[
        str | None, typer.Option(help="With --mlm: span or token. [dim]\\[span][/dim]")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="With --mlm: share of tokens that are masked. [dim]\\[0.15][/dim]")
    ] = None,
    max_span: Annotated[int | None, typer.Option(help="With --mlm: longest span. [dim]\\[3][/dim]")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --mlm: of the masking. [dim]\\[1][/dim]")
    ] = None,
    batch_tokens: BatchTokens = 1024,
    device: AnyDevice = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score a classifier on labelled texts, or a pretrained model (--mlm, --rop, --pll) on pairs or texts."""
    objectives = [name for name, asked in {"mlm": mlm, "rop": rop, "pll": pll}.items() if asked]
    if objectives:
        _refuse(
            {
                "--shuffle-seed": shuffle_seed,
                "--map-labels": map_labels,
                "--task": task,
                "--text": text,
                "--text-pair": text_pair,
                "--label": label,
                "--label-separator": label_separator,
            },
            f"a classifier's scores, not with {PRETRAINED}",
        )
    else:
        columns = {"--first": first, "--second": second}
        _refuse(columns, PRETRAINED)
    if not mlm:
        _refuse({"--masking": masking, "--budget": budget, "--max-span": max_span, "--seed": seed}, "--mlm")
    if masking == "token":
        _refuse({"--max-span": max_span}, "--masking span")

    from twil.bundle.names import model_path

    with Display(quiet=quiet, doing=f"loading {model}") as display:
        path = model_path(model)
        if objectives:
            from twil.cli.intrinsic import follow, masking_config, show_scores
            from twil.data.corpus.pairs import PairColumns
            from twil.evaluation.pretrained.intrinsic import score_pretrained

            scores = follow(
                score_pretrained(
                    path,
                    file,
                    objectives,  # type: ignore[arg-type]  # these are its names
                    masking=masking_config(kind=masking, budget=budget, max_span=max_span),
                    seed=1 if seed is None else seed,
                    columns=PairColumns(first=first, second=second),
                    reading=reading,
                    limit=limit,
                    device=device,
                    batch_tokens=batch_tokens,
                ),
                display,
            )
        else:
            from twil.cli.pitfalls import warn_of_scores
            from twil.cli.scores import report_tables
            from twil.data.labelled import Sample
            from twil.evaluation.evaluate import evaluate

            display.update(f"evaluating {model} on {file}")
            result = evaluate(
                path,
                file,
                columns=columns_of(text, text_pair, label, label_separator, reading),
                sample=Sample(limit, shuffle_seed),
                map_labels=read_names(map_labels),
                kind=task,  # type: ignore[arg-type]  # checked there
                batch_tokens=batch_tokens,
                device=device,
            )
    title = f"{model} on {file}"
    if as_json:
        show_json((scores if objectives else result).as_dict())
    elif objectives:
        show_scores(scores, display, title)
    else:
        for table in report_tables(result.report, title):
            show(table)
        warn_of_scores(display, result.report)
        if result.truncated:
            display.warn(f"texts cut at the longest row that the model reads: {result.truncated:,}")
        display.line(f"{result.report.rows:,} rows in {format_seconds(result.seconds)}, {result.runtime}")


def _refuse(options: Mapping[str, object], belong: str) -> None:
    """Refuse options that would have no effect."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"{', '.join(given)} would have no effect: only with {belong}")
