"""`twil demo`: the whole way on the texts that come with twil."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from twil.cli.console import Display, format_seconds, make_table, show
from twil.cli.options import Force, Quiet
from twil.cli.scores import report_tables

SHOWN = 12  # predictions in the table at the end
FILES = ("tokenizer.json", "model", "model.checkpoint", "bundle", "predictions.tsv")
MARK = ".twil-demo"


def command(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to work in.")] = Path(
        "twil-demo"
    ),
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Learn a vocabulary, fine-tune, export and predict, on texts that come with twil; a minute or so."""
    from twil.cli.rows import show_summary
    from twil.cli.training import TrainingView
    from twil.config.training import finetune_config
    from twil.exporting.bundle import export_onnx
    from twil.inference.events import Summary
    from twil.inference.predict_file import predict_events
    from twil.text.tokenizer import save_tokenizer
    from twil.text.vocabulary import texts_of, train_vocabulary
    from twil.train.finetune import finetune_events

    begin = time.monotonic()
    with (
        resources.as_file(resources.files("twil.examples")) as texts,
        _work_folder(output, overwrite=force) as folder,
        Display(quiet=quiet) as display,
    ):
        train, dev = texts / "tweets_train.tsv", texts / "tweets_dev.tsv"
        display.line("1/4  twil vocab: learning tokens", style="bold")
        trained = train_vocabulary(texts_of([train, texts / "pairs.tsv"]), size=1500)
        save_tokenizer(trained.tokenizer, folder / "tokenizer.json")

        display.line("2/4  twil finetune: training a tiny encoder from scratch", style="bold")
        config = finetune_config(
            None,
            {
                "data": {"train": train, "dev": dev},
                "model": {"init": "tiny", "tokenizer": folder / "tokenizer.json"},
                "train": {"lr": 1e-3, "epochs": 12, "batch_tokens": 512, "patience": 4},
            },
            ["model.classifier.pooling=avg"],
        )
        view = TrainingView(display, resumable=False)
        finished = view.follow(finetune_events(config, folder / "model"))
        assert finished is not None

        display.line("3/4  twil export --onnx: writing and checking the bundle", style="bold")
        display.line(export_onnx(folder / "model", folder / "bundle").describe())

        display.line("4/4  twil predict: labelling a file", style="bold")
        for event in predict_events(texts / "to_predict.tsv", folder / "bundle", folder / "predictions.tsv"):
            if isinstance(event, Summary):
                show_summary(display, event)
        assert finished.dev is not None
        title = f"{finished.dev.rows} tweets kept apart, epoch {finished.best_epoch}"
        tables = report_tables(finished.dev, title)
        tables.append(_lay_out_predictions(texts / "to_predict.tsv", folder / "predictions.tsv"))
    for table in tables:
        show(table)
    display.line(f"done in {format_seconds(time.monotonic() - begin)}; everything lies in {output}/")
    display.line(f"next: twil predict YOUR_FILE.tsv --model {output / 'bundle'} -o labelled.tsv")


@contextmanager
def _work_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Make the folder, and take it away again where the work does not end well."""
    from twil.core.storage import reserved_folder

    # Without the mark, a folder with these names in it is somebody's work.
    own = (*FILES, *(f".{name}.lock" for name in FILES), MARK) if (path / MARK).exists() else ()
    with reserved_folder(path, overwrite=overwrite, own=own):
        if path.exists():
            shutil.rmtree(path)
        path.mkdir()
        (path / MARK).touch()
        try:
            yield path
        except BaseException:
            shutil.rmtree(path)
            raise


def _lay_out_predictions(source: Path, predictions: Path) -> RenderableType:
    from twil.data.tables.tables import TableReader

    texts = next(iter(TableReader(source, ["TEXT"]))).columns["TEXT"]
    reader = TableReader(predictions)
    columns = next(iter(reader)).columns
    scores = [name for name in reader.names if name not in ("ID", "label")]
    rows = [
        [
            " ".join(texts[row].split())[:60] or "(empty)",
            columns["label"][row],
            max(float(columns[name][row]) for name in scores),
        ]
        for row in range(SHOWN)
    ]
    return make_table(
        f"the first {SHOWN} of {len(texts)} predictions", ["text", "label", "probability"], rows
    )
