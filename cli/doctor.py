"""`twil doctor`: what is installed, what really loads, and what to do about the rest."""

from __future__ import annotations

import typer

from twil.cli.console import make_table, show, show_json
from twil.cli.options import AsJson
from twil.cli.visible import visible


def command(as_json: AsJson = False) -> None:
    """Check this installation and this machine."""
    from dataclasses import asdict

    from twil.bundle.diagnosis import diagnose

    found = diagnose()
    if as_json:
        show_json(asdict(found))
    else:
        show(make_table("versions", ["package", "version"], list(found.versions.items())))
        show(make_table("extras", ["extra", ""], list(found.extras.items())))
        providers = [
            [name, "loads" if not cause else f"does not load: {cause}"]
            for name, cause in found.providers.items()
        ]
        show(make_table("execution providers", ["provider", ""], providers))
        flags = ", ".join(flag for flag, present in found.cpu_flags.items() if present) or "none of note"
        show(
            make_table(
                "machine",
                ["", ""],
                [
                    ["processor", found.cpu],
                    ["instructions", flags],
                    ["threads that this process may use", found.threads],
                ],
            )
        )
    for fault in found.faults:
        typer.secho(visible(f"fault: {fault}"), fg="red", err=True)
    if found.faults:
        raise typer.Exit(1)
