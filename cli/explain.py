"""`twil explain`: which words weighed in what a model says of a text."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twil.cli.console import PROVIDERS, Display, make_table, show
from twil.cli.options import Force, Quiet, shipped_models
from twil.cli.rows import announce_default, follow_export, start_quickly
from twil.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from twil.inference.explanation import Explanation

BAR = 16  # characters of the largest weight


def command(
    texts: Annotated[list[str], typer.Argument(help="The texts, each in quotes.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            autocompletion=shipped_models,
            help="A bundle, a model folder, a name of twil models or of the hub. "
            "[dim]\\[TWIL_MODEL, else sentiment][/dim]",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The label to explain. [dim]\\[the likeliest of each text][/dim]")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write a page (.html).")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. [dim]\\[all it may use][/dim]")
    ] = None,
    provider: Annotated[str, typer.Option(help=PROVIDERS)] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each text.")] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Show which words weighed in what a model says of texts.

    Each word is left out once: its weight is by how much the label's probability was higher with it.
    """
    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"the page is HTML, and {output} is named otherwise: give it the ending .html")
    start_quickly(threads)

    from twil.bundle.cache import prepared
    from twil.core.storage import reserved_files
    from twil.inference.predictor import Predictor

    with Display(quiet=quiet) as display, ExitStack() as held:
        if output is not None:
            held.enter_context(reserved_files(output, overwrite=force))
        name = model or announce_default(display)
        where: Any = provider  # checked there
        bundle = follow_export(display, prepared(name, "classifier"))
        with Predictor(bundle, provider=where, threads=threads) as predictor:
            if predictor.pair:
                raise DataError(f"{name} takes pairs of texts: explain them in Python (Predictor.explain)")
            explained = [predictor.explain(text, label) for text in texts]
        if output is not None:
            from twil.evaluation.pages.document import write_page

            write_page(output, _page(name, explained))
            display.line(f"wrote {output}: {len(texts):,} texts")
    for one in explained:
        if as_json:
            typer.echo(json.dumps(one.to_dict(), ensure_ascii=False))
        else:
            show(_table(one))


def _title(one: Explanation) -> str:
    said = one.prediction
    return f"{one.label} {said.probabilities[one.label]:.4f}" if one.label else f"{said.value:.4f}"


def _table(one: Explanation) -> RenderableType:
    """Draw the words with their weights, to the right what raises the label, to the left what lowers it."""
    most = max((abs(word.weight) for word in one.words), default=0.0) or 1.0
    rows: list[list[object]] = []
    for word, weight in one.words:
        bar = "█" * round(BAR * abs(weight) / most)
        left, right = ("", bar) if weight > 0 else (bar, "")
        rows.append([word, f"{weight:+.4f}", f"{left:>{BAR}}│{right}"])
    columns = ["word", "weight", ""][: 3 if sys.stdout.isatty() else 2]
    return make_table(_title(one), columns, [row[: len(columns)] for row in rows], figures=["weight"])


def _page(name: str, explained: list[Explanation]) -> str:
    from twil.evaluation.pages.document import make_page, paragraph, section
    from twil.evaluation.pages.tables import table
    from twil.evaluation.pages.words import marked_words

    parts = []
    for one in explained:
        strongest = sorted(one.words, key=lambda word: -abs(word.weight))[:10]
        rows = [[word.word, f"{word.weight:+.4f}"] for word in strongest]
        strong = table(["word", "weight"], rows, title="words that weigh most", figures=["weight"])
        parts.append(section(_title(one), marked_words(one.words), strong, listed=False))
    about = (
        f"What {name} says of {len(explained):,} texts. A word's weight is by how much the label's "
        "probability is higher with it than without it."
    )
    colours = paragraph("Blue words raise the label, orange ones lower it.")
    return make_page("Which words weighed", colours, *parts, about=about)
