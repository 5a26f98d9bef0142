"""`twil models`: the models that can be named, and those that were exported into the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twil.cli.console import Display, make_table, show, show_json
from twil.cli.options import AsJson, Quiet
from twil.core.errors import ConfigError

if TYPE_CHECKING:
    from twil.bundle.cache import CachedModel
    from twil.bundle.catalogue import PublishedModel, ShippedModel

REMOVE = "remove"


def command(
    action: Annotated[str | None, typer.Argument(help="remove, of the cache.", metavar="[remove]")] = None,
    names: Annotated[
        list[str] | None, typer.Argument(help="What to remove, as the list names it.", metavar="[NAME]...")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="With remove: all that the cache holds.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the models that can be named: those of twil, exported ones, and known ones of the hub."""
    if action == REMOVE:
        with Display(quiet=quiet) as display:
            _remove(display, names or [], everything=everything)
        return
    if action is not None:
        raise ConfigError(f"there is nothing to be done called '{action}': twil models lists, or add remove")
    if everything:
        raise ConfigError("--all would have no effect: only with twil models remove")

    from twil.bundle.cache import cache_folder, cached_models
    from twil.bundle.catalogue import PUBLISHED, shipped_models

    shipped, cached = shipped_models(), cached_models()
    if as_json:
        show_json(
            {
                "shipped": [model.as_dict() for model in shipped],
                "cache": {"folder": str(cache_folder()), "models": [model.as_dict() for model in cached]},
                "hub": [model.as_dict() for model in PUBLISHED],
            }
        )
        return
    _show_shipped(shipped)
    _show_cached(cached, f"exported once, in {cache_folder()}")
    _show_published(PUBLISHED)


def _remove(display: Display, names: list[str], *, everything: bool) -> None:
    from twil.bundle.cache import cached_names, remove_cached

    if everything == bool(names):
        raise ConfigError("say what to remove: names that twil models lists, or --all")
    for name in cached_names() if everything else names:
        display.line(f"removed {name}, {_megabytes(remove_cached(name))}")


def _show_shipped(models: list[ShippedModel]) -> None:
    title = "come with twil" if models else "come with twil: none with this one"
    rows = [
        [
            model.name,
            ", ".join(model.labels) or model.kind,
            " ".join((model.precision, *model.facts.values())),
            _megabytes(model.size),
        ]
        for model in models
    ]
    show(make_table(title, ["name", "gives", "", "size"] if rows else [], rows, figures=["size"]))


def _show_cached(models: list[CachedModel], title: str) -> None:
    show(make_table(title if models else f"{title}: none", [], []))
    for model in models:
        revision = f" at {model.revision[:12]}" if model.revision else ""
        told = [["of", f"{model.model}{revision}"], ["gives", model.kind]]
        _show_facts(model.name, [*told, ["made", f"{model.made[:10]}, {_megabytes(model.size)}"]])


def _show_published(models: tuple[PublishedModel, ...]) -> None:
    show(make_table("on the hub, for Spanish tweets (exported once when they are named)", [], []))
    for model in models:
        told = [["gives", model.task], ["texts", f"prepared as {model.preparation}"]]
        published = [["published", f"{model.score} ({model.source})"]] if model.score else []
        _show_facts(model.name, [*told, *published])


def _show_facts(name: str, facts: list[list[str]]) -> None:
    """Show a model under its name; names and places are too long for cells."""
    show(make_table(f"  {name}", ["", ""], [[f"    {fact}", value] for fact, value in facts]))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
