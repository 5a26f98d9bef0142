"""The `twil` command: its subcommands, and how errors look."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from twil.cli import (
    corpus,
    demo,
    doctor,
    evaluate,
    export,
    fill_mask,
    finetune,
    import_original,
    inspect_model,
    plot,
    predict,
    pretrain,
    vocab,
)
from twil.errors import TwilError, missing_extra
from twil.version import __version__

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143
DEBUG = "--debug"

app = typer.Typer(
    name="twil",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def guard(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command end as the user is told: 1 and one line for an error, 130 for Ctrl-C."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()  # here, where a reader that has gone is still heard of
        except KeyboardInterrupt:
            _end("interrupted", INTERRUPTED)
        except BrokenPipeError:  # the reader of our output, such as `head`, has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILED)
        except (TwilError, OSError, ModuleNotFoundError) as error:
            said = missing_extra(error) if isinstance(error, ModuleNotFoundError) else error
            if DEBUG in sys.argv or said is None:
                raise
            _end(f"error: {' '.join(str(said).split())}", FAILED)

    return guarded


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.command,
    "vocab": vocab.command,
    "corpus": corpus.command,
    "pretrain": pretrain.command,
    "import": import_original.command,
    "finetune": finetune.command,
    "evaluate": evaluate.command,
    "fill-mask": fill_mask.command,
    "inspect": inspect_model.command,
    "plot": plot.command,
    "export": export.command,
    "predict": predict.command,
    "doctor": doctor.command,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(guard(_command))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"twil {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show a traceback with an error.")] = False,
) -> None:
    """Train, ship and run transformer text classifiers for social media."""


def main() -> None:
    """Run the command line and end the process: 0 done, 1 an error, 2 wrong usage, 130 interrupted."""
    signal.signal(signal.SIGTERM, _terminate)
    app([argument for argument in sys.argv[1:] if argument != DEBUG])  # it may stand anywhere


def _end(text: str, code: int) -> NoReturn:
    print(f"twil: {text}", file=sys.stderr)  # noqa: T201 (the one place that speaks for errors)
    sys.exit(code)


def _terminate(signum: int, frame: Any) -> NoReturn:  # noqa: ARG001
    sys.exit(TERMINATED)  # unwinds, so that half-written files are removed
