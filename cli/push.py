"""`twil push`: a model folder or a bundle, put on the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from twil.cli.console import Display, format_bytes
from twil.cli.options import Quiet


def command(
    model: Annotated[str, typer.Argument(help="A bundle or a model folder.")],
    name: Annotated[str, typer.Argument(help="What it is to be called on the hub: OWNER/NAME.")],
    private: Annotated[
        bool, typer.Option("--private", help="Where it is new, show it to its owner alone.")
    ] = False,
    license: Annotated[  # noqa: A002 (the word of the hub)
        str | None, typer.Option(help="Of the model, as the hub calls it: apache-2.0, cc-by-4.0, …")
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="Of the texts: es, en, …; repeatable.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="What it learned from, by its name on the hub; repeatable.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Put a model on the Hugging Face hub, with its card.

    The token is that of hf auth login, or of the variable HF_TOKEN.
    """
    with Display(quiet=quiet, doing=f"pushing {model}") as display:
        from twil.exporting.push import push

        pushed = push(model, name, private=private, license=license, languages=language, datasets=dataset)
        if not pushed.licensed:
            display.warn("the card names no licence, so nobody knows whether to use the model: --license")
        display.line(f"pushed {pushed.files} files, {format_bytes(pushed.size)}, to {pushed.url}")
