"""Write docs/cli.md, the reference of the commands, from their own help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer

from twil.cli.help import EXAMPLES
from twil.cli.main import COMMANDS, make_app


def write_reference(page: Path) -> None:
    """Write it where it is not there as it would be."""
    text = "\n".join(reference()) + "\n"
    if not page.is_file() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def reference() -> Iterator[str]:
    """Give its lines: each command with its arguments and options."""
    yield "# Commands\n"
    yield "What `twil COMMAND --help` says. Long options are written in full; defaults are in brackets.\n"
    group = typer.main.get_command(make_app([]))
    context = typer.Context(group, info_name="twil")
    for name in COMMANDS:
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        yield f"## `twil {name}`\n"
        yield f"{plain(command.help or '')}\n"
        yield "| | | |\n| --- | --- | --- |"
        for parameter in command.params:
            if getattr(parameter, "hidden", False):
                continue
            names = " ".join(
                f"`{word}`" for word in sorted((*parameter.opts, *parameter.secondary_opts), key=len)
            )
            if parameter.param_type_name == "argument":
                names = f"`{parameter.human_readable_name.upper()}`"
            kind = "" if getattr(parameter, "is_flag", False) else parameter.metavar or parameter.type.name
            yield f"| {names} | {plain(kind)} | {plain(parameter.help or '')} {default_of(parameter)}|"
        yield "\n```text\n" + "\n".join(EXAMPLES[name]) + "\n```\n"


def default_of(parameter: typer.core.TyperOption | typer.core.TyperArgument) -> str:
    """Give a default as the help shows it."""
    shown = getattr(parameter, "show_default", False)
    if parameter.required:
        return "[required] "
    if isinstance(shown, str):
        return f"[{shown}] "
    value = parameter.default
    if not shown or value in (None, False, (), []) or callable(value):
        return ""
    return f"[{getattr(value, 'value', value)}] "


def plain(text: str) -> str:
    """Give a help text for a cell: one line, no markup of the terminal, bars and angles as they are."""
    text = text.replace("\\[", "[")
    text = re.sub(r"\[/?(bold|dim|italic|cyan|green|yellow)[^\]]*\]", "", " ".join(text.split()))
    return re.sub(r"([|<>*_\[\]])", r"\\\1", text)
