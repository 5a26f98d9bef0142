"""`twil recipes`: settings that come with twil, listed, or written out to be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display, make_table, show, show_json
from twil.cli.options import AsJson, Force, Quiet, named_recipes


def command(
    name: Annotated[
        str | None, typer.Argument(autocompletion=named_recipes, help="The recipe to show, or to write.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The TOML file to write it to.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the recipes that come with twil; show one, or write it out to be changed.

    A recipe goes by its name wherever a TOML file does: twil pretrain tiny, twil finetune --config haha21.
    """
    from twil.config.recipes import find_recipe, recipes
    from twil.core.errors import ConfigError
    from twil.core.storage import atomic_file, reserved_files

    if name is None:
        if output is not None:
            raise ConfigError("-o takes the name of a recipe: twil recipes NAME -o FILE")
        if as_json:
            show_json([{"name": one.name, "command": one.command, "about": one.summary} for one in recipes()])
        else:
            _list()
        return
    recipe = find_recipe(name)
    if output is None:
        typer.echo(recipe.text, nl=False)
        return
    with reserved_files(output, overwrite=force), Display(quiet=quiet) as display:
        with atomic_file(output) as file:
            file.write_text(recipe.text, encoding="utf-8")
        display.line(f"wrote {output}")


def _list() -> None:
    from twil.config.recipes import recipes

    rows = [(recipe.name, f"twil {recipe.command}", recipe.summary) for recipe in recipes()]
    show(make_table("recipes", ("recipe", "for", "about"), rows))
