"""The `twil` command: its subcommands, and how errors look."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any, NoReturn

import click
import typer

from twil.cli import demo, doctor, evaluate, export, finetune, import_original, predict, vocab
from twil.errors import TwilError
from twil.version import __version__

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143

app = typer.Typer(
    name="twil",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.command)
app.command("vocab")(vocab.command)
app.command("import")(import_original.command)
app.command("finetune")(finetune.command)
app.command("evaluate")(evaluate.command)
app.command("export")(export.command)
app.command("predict")(predict.command)
app.command("doctor")(doctor.command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"twil {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
) -> None:
    """Train, ship and run transformer text classifiers for social media."""


def main() -> NoReturn:
    """Run the command line and end the process: 0 done, 1 an error, 2 wrong usage, 130 interrupted."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except (TwilError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        _say(f"error: {' '.join(str(error).split())}")
        sys.exit(FAILED)
    sys.exit(0)


def _say(text: str) -> None:
    print(f"twil: {text}", file=sys.stderr)  # noqa: T201 (the one place that speaks for errors)


def _terminate(signum: int, frame: Any) -> NoReturn:  # noqa: ARG001
    sys.exit(TERMINATED)  # unwinds, so that half-written files are removed
