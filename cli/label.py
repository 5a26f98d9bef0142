"""`twil label`: what models say of a few texts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twil.cli.console import PROVIDERS, Display, make_table, show
from twil.cli.options import Quiet, shipped_models
from twil.cli.rows import announce_default, follow_export, start_quickly, warn_of_file_names
from twil.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from twil.core.task import Task
    from twil.data.tables.rows import Cells
    from twil.inference.predictor import Prediction

STANDARD_INPUT = "-"
BAR = 24  # characters of a probability of one
_EIGHTHS = " ▏▎▍▌▋▊▉"

Predictions = dict[str, list["Prediction"]]
"""What each model says of the texts, by its name."""


def command(
    texts: Annotated[list[str] | None, typer.Argument(help="The texts, each in quotes.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            autocompletion=shipped_models,
            help="A bundle, a model folder, a name of twil models or of the hub; repeatable. "
            "[dim]\\[TWIL_MODEL, else sentiment][/dim]",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. [dim]\\[all it may use][/dim]")
    ] = None,
    provider: Annotated[str, typer.Option(help=PROVIDERS)] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each text.")] = False,
    quiet: Quiet = False,
) -> None:
    """Label the texts that are given; as TSV where the output is no terminal."""
    if not texts or STANDARD_INPUT in texts:
        raise ConfigError(
            "twil label takes the texts themselves, each in quotes: twil predict FILE labels a file, and "
            "twil predict - a pipe"
        )
    start_quickly(threads)

    from twil.bundle.cache import prepared
    from twil.bundle.names import name_models
    from twil.inference.predictor import Predictor

    predicted: Predictions = {}
    tasks: dict[str, Task] = {}
    with Display(quiet=quiet) as display:
        warn_of_file_names(display, texts, "twil predict labels its rows")
        for name, path in name_models(model or [announce_default(display)]).items():
            bundle = follow_export(display, prepared(path, "classifier"))
            where: Any = provider  # checked there
            with Predictor(bundle, provider=where, threads=threads) as predictor:
                if predictor.pair:
                    raise DataError(f"{path} takes pairs of texts: label a table (twil predict --text-pair)")
                predicted[name], tasks[name] = predictor(texts), predictor.task
        if cut := sum(any(told.truncated for told in row) for row in zip(*predicted.values(), strict=True)):
            display.warn(f"texts cut at the longest row that the model reads: {cut:,}")
    if as_json:
        for row, text in enumerate(texts):
            typer.echo(json.dumps(_as_dict(text, row, predicted), ensure_ascii=False))
    elif sys.stdout.isatty():
        for row, text in enumerate(texts):
            show(_bars(text, row, predicted))
    else:
        altered = _write_table(texts, predicted, tasks)
        if altered:
            display.warn(f"cells whose tabs or line breaks became blanks: {altered:,}")


def _write_table(texts: list[str], predicted: Predictions, tasks: dict[str, Task]) -> int:
    """Write the columns of `twil predict` behind the texts; count the cells that TSV cannot hold."""
    from twil.data.tables.tables import TEXT_COLUMN, TableWriter
    from twil.inference.columns import output_columns

    columns = output_columns(tasks if len(tasks) > 1 else next(iter(tasks.values())), [TEXT_COLUMN])
    cells: list[Cells] = [texts]
    for name, told in predicted.items():
        if tasks[name].kind == "regression":
            cells.append([prediction.value or 0.0 for prediction in told])
            continue
        cells.append([prediction.label for prediction in told])
        cells += [[prediction.probabilities[label] for prediction in told] for label in tasks[name].labels]
    with TableWriter("-", columns) as writer:
        writer.write(dict(zip(columns, cells, strict=True)))
    return writer.altered


def _as_dict(text: str, row: int, predicted: Predictions) -> dict[str, Any]:
    """Describe what is said of a text in JSON's types; of several models each under its name."""
    told = {name: _told(predictions[row]) for name, predictions in predicted.items()}
    return {"text": text, **(told if len(told) > 1 else next(iter(told.values())))}


def _told(prediction: Prediction) -> dict[str, Any]:
    if prediction.value is not None:
        return {"value": prediction.value}
    return {"label": prediction.label, "probabilities": prediction.probabilities}


def _bars(text: str, row: int, predicted: Predictions) -> RenderableType:
    """Draw what is said of a text, the likeliest label first; those that hold are marked."""
    rows: list[list[object]] = []
    for name, predictions in predicted.items():
        prediction, first = predictions[row], name if len(predicted) > 1 else ""
        if prediction.value is not None:
            rows.append([first, "", "value", "", prediction.value])
        ranked = sorted(prediction.probabilities.items(), key=lambda entry: -entry[1])
        for label, probability in ranked:
            mark = "▸" if label in prediction.labels else ""
            rows.append([first, mark, label, _bar(probability), probability])
            first = ""
    return make_table(text, [""] * 5, rows)


def _bar(share: float) -> str:
    whole, rest = divmod(round(share * 8 * BAR), 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")
