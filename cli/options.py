"""Options that several commands have: each is written once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display

TEXT_OPTION = (
    "Column of the texts. [dim]\\[TEXT, else the only one of text, texto, tweet, full_text, content, "
    "review][/dim]"
)
LABEL_OPTION = (
    "Column of the labels. [dim]\\[CLASS, else the only one of label, etiqueta, sentiment, class, "
    "clase][/dim]"
)

TextColumn = Annotated[str | None, typer.Option("--text", help=TEXT_OPTION)]
PairColumn = Annotated[str | None, typer.Option("--text-pair", help="Column of the second texts, for pairs.")]
LabelColumn = Annotated[str | None, typer.Option("--label", help=LABEL_OPTION)]
LabelSeparator = Annotated[
    str | None,
    typer.Option(
        "--label-separator",
        help="What stands between the labels of a row that has several. [dim]\\[|][/dim]",
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many rows of each file.")]
ShuffleSeed = Annotated[
    int | None,
    typer.Option(
        "--shuffle-seed", min=0, help="Shuffle each file's rows first. [dim]\\[in their order][/dim]"
    ),
]
IdColumn = Annotated[
    str | None, typer.Option("--id", help="Column that names the rows. [dim]\\[ID if there][/dim]")
]
FileColumn = Annotated[
    str | None, typer.Option("--file-column", help="A column of this name for each row's file.")
]
Shard = Annotated[
    str | None,
    typer.Option("--shard", help="Predict one part of the rows only, as 2/8 is the second of eight."),
]
BatchTokens = Annotated[int, typer.Option("--batch-tokens", min=1, help="Tokens per batch.")]
FolderOutput = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The folder to write. [dim]\\[named after the input][/dim]"),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads. [dim]\\[all][/dim]")]
Device = Annotated[str, typer.Option("--device", help="Where to compute.")]
AnyDevice = Annotated[str, typer.Option("--device", help="Where to compute; of a bundle any provider.")]
TrainingPrecision = Annotated[
    str | None, typer.Option("--precision", help="auto, fp32, bf16 or fp16. [dim]\\[auto][/dim]")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of all that is random. [dim]\\[1][/dim]")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Any setting, as key=value; repeatable.")]
Figures = Annotated[
    Path | None,
    typer.Option("--tensorboard", help="Write the figures of the run for TensorBoard into this folder, too."),
]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", help="Tell a tracker of settings and figures, too; repeatable."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is at the output.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but results and errors.")]


def shipped_models(incomplete: str) -> list[str]:
    """Complete the name of a model that comes with twil."""
    from twil.shipped import shipped_names

    return [name for name in shipped_names() if name.startswith(incomplete)]


def named_recipes(incomplete: str) -> list[str]:
    """Complete the name of a recipe."""
    from twil.config.recipes import recipes

    return [recipe.name for recipe in recipes() if recipe.name.startswith(incomplete)]


_ENDINGS = {
    *(".tsv", ".csv", ".jsonl", ".json", ".parquet", ".txt", ".gz", ".zst"),
    *(".toml", ".hdf5", ".h5"),
}


def name_output(display: Display, output: Path | None, source: str | Path | None, ending: str) -> Path:
    """Give the output that was asked for, or name one after the input, in this folder, and say so.

    Args:
        display: Where it is said.
        output: What was asked for.
        source: The input that it is named after: ``data/train.tsv.gz`` and ``model`` give ``train-model``.
        ending: What it is.
    """
    if output is not None:
        return output
    path = Path(source or ending)
    stem = path.name or path.resolve().name
    while Path(stem).suffix in _ENDINGS:
        stem = Path(stem).stem
    stem = re.sub(r"[*?\[\]]", "", stem).strip("-_. ")  # of a pattern
    named = Path(f"{stem}-{ending}" if stem and source else ending)
    display.warn(f"no -o: the output is {named}")
    return named
