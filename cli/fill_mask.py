"""`twil fill-mask`: what a pretrained model puts in the place of [MASK]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twil.cli.console import Display, make_table, show, show_json
from twil.cli.options import AnyDevice, AsJson, BatchTokens, Quiet, shipped_models

if TYPE_CHECKING:
    from twil.text.cloze import FilledText

STANDARD_INPUT = "-"


def command(
    model: Annotated[
        str,
        typer.Argument(
            autocompletion=shipped_models,
            help="A pretrained model folder, a name of twil models or the hub, or a bundle that fills masks.",
        ),
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts with \\[MASK] in them; - or none: the lines of standard input."),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Tokens for each mask.")] = 5,
    batch_tokens: BatchTokens = 1024,
    device: AnyDevice = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the likeliest tokens for each mask of a text."""
    given = _read_lines() if texts in (None, [], [STANDARD_INPUT]) else texts or []
    with Display(quiet=quiet) as display:
        display.update(f"loading {model}")
        filled = _fill(model, given, top_k, device, batch_tokens)
    if as_json:
        show_json([text.as_dict() for text in filled])
        return
    for text in filled:
        _show(text)
    truncated = sum(text.truncated for text in filled)
    if truncated:
        display.warn(f"texts cut at the longest row that the model reads: {truncated:,}")


def _fill(name: str, texts: list[str], top_k: int, device: str, batch_tokens: int) -> list[FilledText]:
    from twil.bundle.bundle import is_bundle
    from twil.bundle.names import model_path

    model = model_path(name)
    if is_bundle(model):
        from twil.inference.fill_mask import MaskFiller

        with MaskFiller(model, provider=device, batch_tokens=batch_tokens) as filler:  # type: ignore[arg-type]  # checked there
            return filler.fill(texts, top_k=top_k)
    from twil.evaluation.pretrained.probing import fill_masks, open_probe

    probe = open_probe(model, mlm=True, device=device, batch_tokens=batch_tokens)
    return fill_masks(probe, texts, top_k=top_k)


def _read_lines() -> list[str]:
    from twil.config.reading import Reading
    from twil.data.tables.tables import TEXT_COLUMN, TableReader

    table = TableReader(STANDARD_INPUT, reading=Reading("txt"))
    return [text for rows in table for text in rows.columns[TEXT_COLUMN]]


def _show(text: FilledText) -> None:
    for number, fills in enumerate(text.masks, start=1):
        which = f" (mask {number} of {len(text.masks)})" if len(text.masks) > 1 else ""
        rows = [[fill.token, fill.probability, fill.text] for fill in fills]
        show(make_table(f"{text.text}{which}", ["token", "probability", "text"], rows))
