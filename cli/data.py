"""`twil data`: files looked at before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.console import RenderableType
from rich.text import Text

from twil.cli.console import Display, fits, make_table, show, show_json
from twil.cli.options import AsJson, LabelColumn, LabelSeparator, PairColumn, Quiet, TextColumn
from twil.cli.pitfalls import NEARLY
from twil.cli.reading import columns_of, reads_tables
from twil.cli.visible import visible
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from twil.data.survey.overview import FileOverview, Overview
    from twil.data.survey.repeats import Contradictions


@reads_tables
def command(
    files: Annotated[
        list[str], typer.Argument(help="Tables of texts, those to train on first; - is standard input.")
    ],
    text: TextColumn = None,
    text_pair: PairColumn = None,
    label: LabelColumn = None,
    label_separator: LabelSeparator = None,
    task: Annotated[str, typer.Option(help="class, multi-label, regression or stance.")] = "class",
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", "-m", help="A model folder, bundle or model of the hub, whose tokens to count."
        ),
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Or a tokenizer.json.")] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Longest row in tokens. [dim]\\[the tokenizer's][/dim]")
    ] = None,
    reading: Reading = AS_FOUND,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Look at files before training: repeats, overlaps, labels, lengths."""
    from twil.cli.pitfalls import show_notes
    from twil.core.task import TaskKind
    from twil.data.survey.overview import Overview, OverviewOptions
    from twil.data.survey.survey import survey

    if task not in (known := (*get_args(TaskKind), "stance")):
        raise ConfigError(f"there is no task '{task}': choose one of {', '.join(known)}")
    with Display(quiet=quiet) as display:
        options = OverviewOptions(
            columns=columns_of(
                text,
                text_pair,
                label,
                label_separator,
                reading,
            ),
            task="class" if task == "stance" else task,  # type: ignore[arg-type]  # checked above
            tokenizer=_find_tokenizer(model, tokenizer),
            max_length=max_length,
        )
        for event in survey(files, options):
            if isinstance(event, Overview):
                found = event
            else:
                display.update(
                    f"{event.doing}: {event.rows:,} rows  {event.rows_per_second:,.0f} rows/s",
                    done=event.share,
                )
    if as_json:
        show_json(found.as_dict())
    else:
        show_overview(found)
    show_notes(display, found)


def _find_tokenizer(named: Path | None, tokenizer: Path | None) -> Path | Tokenizer | None:
    from twil.bundle.bundle import TOKENIZER, is_bundle
    from twil.bundle.names import model_path
    from twil.core.storage import read_json

    if named is None:
        return tokenizer
    model = model_path(named)
    if tokenizer is not None:
        raise ConfigError("--model has a tokenizer: leave --tokenizer out")
    config = model / "config.json"
    if is_bundle(model) or (config.is_file() and "model" in read_json(config)):
        return model / TOKENIZER  # twil's own, for which no model need be looked at
    from twil.model.folder import load_tokens

    return load_tokens(model)


_BAR = 20  # characters of the most frequent label
_MOST_LABELS = 30  # that are shown
_MOST_PARTS = 10  # of texts that are unknown


def show_overview(found: Overview) -> None:
    """Print what was found."""
    show(_lay_out_rows(found.files))
    if any(overlap.near for overlap in found.overlaps):
        show(_lay_out_overlaps(found))
        show(_lay_out_shared(found))
    if any(file.labels for file in found.files):
        show(_lay_out_labels(found.files))
    if any(file.values for file in found.files):
        show(_lay_out_values(found.files))
    if found.variants:
        rows = [[f"'{name}'", count] for group in found.variants for name, count in group.items()]
        show(make_table("labels that differ in case or blanks alone", ["label", "rows"], rows))
    if found.contradictions and found.contradictions.texts:
        show(_lay_out_contradictions(found, found.contradictions))
    show(_lay_out_lengths(found))
    unknown = sum((Counter(file.lengths.unknown_parts) for file in found.files), Counter[str]())
    if unknown:
        shown = (f"{part} {count:,}" for part, count in unknown.most_common(_MOST_PARTS))
        show(Text(visible(f"what the vocabulary lacks most often: {', '.join(shown)}")))


def _lay_out_rows(files: Sequence[FileOverview]) -> RenderableType:
    lines = {
        "rows": [file.rows for file in files],
        "blank lines": [file.blank for file in files],
        "rows that cannot be read": [file.bad for file in files],
        "rows without a label": [file.unlabelled for file in files],
        "empty texts": [file.empty for file in files],
        "texts seen before in the file": [file.repeated for file in files],
        f"the same, {NEARLY}": [file.near_repeated for file in files],
    }
    always = ("rows", "empty texts", "texts seen before in the file", f"the same, {NEARLY}")
    rows = [[said, *counts] for said, counts in lines.items() if said in always or any(counts)]
    return make_table("files", ["", *(file.name for file in files)], rows)


def _lay_out_overlaps(found: Overview) -> RenderableType:
    rows = [
        [overlap.name, overlap.other, overlap.same, _percent(overlap.share), overlap.near]
        for overlap in found.overlaps
    ]
    columns = ["rows of", "in", "the same", "share", "nearly"]
    return make_table("rows whose text another file has", columns, rows, figures=["share"])


def _lay_out_shared(found: Overview) -> RenderableType:
    rows = [
        [f"{overlap.name} {line:,}", f"{overlap.other} {other:,}", found.excerpts[overlap.name].get(line, "")]
        for overlap in found.overlaps
        for line, other in overlap.lines
    ]
    return make_table("the first of them", ["line", "line", "text"], rows)


def _lay_out_labels(files: Sequence[FileOverview]) -> RenderableType:
    """Set labels side by side; bars, of all files together, only where there is room."""
    labelled = [file for file in files if file.labels]
    counts: Counter[str] = Counter()
    for file in labelled:
        counts.update(file.labels)  # a sum of counters would lose the labels without a row
    order = sorted(counts, key=lambda label: (-counts[label], label))[:_MOST_LABELS]
    names = [file.name for file in labelled]
    cells = [
        [
            label,
            *(_share(file.labels.get(label, 0), file.rows) for file in labelled if file.labels is not None),
        ]
        for label in order
    ]
    more = len(counts) - len(order)
    title = f"labels, the {len(order)} most frequent of {len(counts):,}" if more else "labels"
    bars = [
        [*row, "█" * round(_BAR * counts[label] / max(counts.values()))]
        for label, row in zip(order, cells, strict=True)
    ]
    table = make_table(title, ["", *names, " "], bars, figures=names)
    return table if fits(table) else make_table(title, ["", *names], cells, figures=names)


def _lay_out_values(files: Sequence[FileOverview]) -> RenderableType:
    described = {file.name: file.values for file in files if file.values}
    values = list(described.values())
    lines: dict[str, Iterable[object]] = {
        "numbers": (value.rows for value in values),
        "not a number": (value.wrong for value in values),
        "mean": (value.mean for value in values),
        "standard deviation": (value.sd for value in values),
        "lowest": (value.lowest for value in values),
        **{name: [value.quantiles[name] for value in values] for name in values[0].quantiles},
        "highest": (value.highest for value in values),
    }
    return make_table("labels", ["", *described], [[said, *cells] for said, cells in lines.items()])


def _lay_out_contradictions(found: Overview, contradictions: Contradictions) -> RenderableType:
    rows = [
        [
            place.name,
            place.line,
            place.label,
            "" if number else found.excerpts[place.name].get(place.line, ""),
        ]
        for places in contradictions.first
        for number, place in enumerate(places)
    ]
    title = (
        f"texts with different labels: {contradictions.texts:,}, in {contradictions.rows:,} rows; the first"
    )
    return make_table(title, ["", "line", "label", "text"], rows)


def _lay_out_lengths(found: Overview) -> RenderableType:
    tokens = found.unit == "tokens"
    cut = found.max_length is not None
    rows = [
        [
            file.name,
            *file.lengths.percentiles.values(),
            *([_share(file.lengths.truncated or 0, file.rows)] if cut else []),
            *([_share(file.lengths.unknown or 0, file.lengths.tokens or 1, digits=2)] if tokens else []),
        ]
        for file in found.files
    ]
    measures = list(found.files[0].lengths.percentiles)
    more = [f"over {found.max_length}"] * cut + ["unknown"] * tokens
    return make_table(f"length of texts in {found.unit}", ["", *measures, *more], rows, figures=more)


def _share(count: int, total: int, *, digits: int = 1) -> str:
    return f"{count:,}  {_percent(count / total, digits):>{5 + digits}}"


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"
