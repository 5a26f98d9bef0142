"""`twil explain`: which words weighed in what a model says of a few texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twil.cli.console import PROVIDERS, Display, make_table, show
from twil.cli.options import Force, PairColumn, Quiet, TextColumn, shipped_models
from twil.cli.reading import reads_tables
from twil.cli.rows import (
    announce_default,
    follow_export,
    show_found_text,
    start_quickly,
    warn_of_file_names,
)
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from twil.inference.explanation import Explanation
    from twil.inference.predictor import Predictor
    from twil.inference.texts import Text

BAR = 12  # characters of the heaviest word
MOST_ROWS = 20
PAGES = (".html", ".htm")


@reads_tables
def command(
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="The texts, each in quotes; of a model of pairs two for each pair."),
    ] = None,
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
    file: Annotated[
        Path | None, typer.Option("--file", help="Explain the first rows of this table, in place of texts.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Of a table, so many rows at most.")] = MOST_ROWS,
    label: Annotated[
        str | None, typer.Option(help="The label to explain. [dim]\\[the one that is predicted][/dim]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A page (.html), or a table with a row for each word: .tsv, .csv, …"
        ),
    ] = None,
    text: TextColumn = None,
    text_pair: PairColumn = None,
    reading: Reading = AS_FOUND,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. [dim]\\[all it may use][/dim]")
    ] = None,
    provider: Annotated[str, typer.Option(help=PROVIDERS)] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each text.")] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Tell which words weighed in a prediction, by leaving out one after another."""
    if bool(texts) == bool(file):
        raise ConfigError("give either texts, each in quotes, or a table of them (--file)")
    start_quickly(threads)

    from twil.bundle.cache import prepared
    from twil.bundle.names import model_path
    from twil.core.storage import reserved_files
    from twil.data.tables.formats import find_format
    from twil.inference.predictor import Predictor

    if output and output.suffix.lower() not in PAGES:
        find_format(output, None)  # refuses an unknown one before the work
    with reserved_files(*[output] if output else [], overwrite=force), Display(quiet=quiet) as display:
        path = model_path(model or announce_default(display))
        bundle = follow_export(display, prepared(path, "classifier"))
        where: Any = provider  # checked there
        with Predictor(bundle, provider=where, threads=threads) as predictor:
            if file:
                rows = _read(file, (text, text_pair), limit, reading, predictor, display)
            else:
                rows = _arguments(texts or [], predictor)
                warn_of_file_names(display, texts or [], "--file explains its rows")
            explained = []
            for number, row in enumerate(rows, start=1):
                display.update(f"{number:,} of {len(rows):,} texts", done=(number - 1) / len(rows))
                explained.append(predictor.explain(row, label=label))
        if cut := sum(each.truncated for each in explained):
            display.warn(f"texts cut at the longest row that the model reads: {cut:,}")
        if output:
            _write(output, explained, Path(path).name)
            display.line(f"wrote {output}: {len(explained):,} texts")
    if output:
        return
    if as_json:
        for each in explained:
            typer.echo(json.dumps(each.to_dict(), ensure_ascii=False))
    elif sys.stdout.isatty():
        for each in explained:
            show(_bars(each))
    else:
        _write_table("-", explained)


def _arguments(texts: Sequence[str], predictor: Predictor) -> list[Text]:
    if not predictor.pair:
        return [*texts]
    if len(texts) % 2:
        raise ConfigError(
            f"{predictor.bundle.folder} takes pairs of texts, and {len(texts)} are given: give two for each"
        )
    return list(zip(texts[::2], texts[1::2], strict=True))


def _read(
    file: Path,
    columns: tuple[str | None, str | None],
    limit: int,
    reading: Reading,
    predictor: Predictor,
    display: Display,
) -> list[Text]:
    """Read the first rows of a table."""
    from twil.data.tables.rows import named_columns
    from twil.data.tables.tables import TableReader
    from twil.inference.inputs import chosen_texts, found_text
    from twil.inference.texts import check_texts

    asked = columns[:1] if columns[1] is None else columns
    check_texts(predictor.bundle, asked, pair=predictor.pair)
    table = TableReader(file, asked, reading=reading)
    names = named_columns(asked, table.names)
    show_found_text(display, found_text(asked[0], names[0]))
    texts: list[Text] = []
    for rows in table:
        texts += chosen_texts(rows, names, range(len(rows.numbers)))
        if len(texts) > limit:
            display.warn(f"the first {limit:,} rows alone are explained: --limit takes more")
            return texts[:limit]
    return texts


def _write(output: Path, explained: Sequence[Explanation], model: str) -> None:
    if output.suffix.lower() in PAGES:
        from twil.evaluation.pages.document import write_page
        from twil.evaluation.reports.explanation_page import make_explanation_page

        write_page(output, make_explanation_page(explained, model))
    else:
        _write_table(output, explained)


def _write_table(output: str | Path, explained: Sequence[Explanation]) -> None:
    """Write a row for each word."""
    from twil.data.tables.tables import TableWriter

    words = [(row, each, word) for row, each in enumerate(explained, start=1) for word in each.words]
    columns: dict[str, tuple[type, list[Any]]] = {
        "row": (str, [f"{row}" for row, _, _ in words]),
        "part": (str, [f"{word.part + 1}" for _, _, word in words]),
        "word": (str, [word.text for _, _, word in words]),
        "label": (str, [each.label for _, each, _ in words]),
        "weight": (float, [word.weight for _, _, word in words]),
        "score": (float, [each.score for _, each, _ in words]),
        "without": (float, [word.without for _, _, word in words]),
    }
    with TableWriter(output, {name: kind for name, (kind, _) in columns.items()}) as writer:
        writer.write({name: cells for name, (_, cells) in columns.items()})


def _bars(each: Explanation) -> RenderableType:
    """Draw the words in their order, those against the label to the left and those for it to the right."""
    most = max((abs(word.weight) for word in each.words), default=0) or 1
    rows: list[list[object]] = []
    for word in each.words:
        bar = "█" * round(BAR * abs(word.weight) / most)
        sides = [bar.rjust(BAR), "│"] if word.weight < 0 else [" " * BAR, f"│{bar}"]
        rows.append([word.text, "".join(sides), f"{word.weight:+.2f}", word.without])
    text = each.text if isinstance(each.text, str) else " ↩ ".join(each.text)
    columns = [f"{each.label} {each.score:.4f}", "against │ for".rjust(BAR + 6), "weight", "without it"]
    return make_table(text, columns, rows, figures={"weight"})
