"""The `twil` command: its subcommands, and how errors look."""

from __future__ import annotations

import functools
import importlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer

from twil.cli.faults import KEPT, explained
from twil.cli.help import COMMAND_PANELS, PREFIX, Command, read_defaults
from twil.cli.streams import drop_output, open_streams
from twil.cli.visible import visible
from twil.core.errors import TwilError
from twil.core.version import __version__

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143
DEBUG = "--debug"
ONE_PRESS = 1.0
"""Seconds within which Ctrl-C, heard again, is the same one: of a wrapper, or of a fast finger."""
_heard: dict[int, float] = {}  # signals that are to end the command, and when they came


def guard(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command end as the user is told: 1 and one line for an error, 130 for Ctrl-C."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()  # here, where a reader that has gone is still heard of
        except KeyboardInterrupt as error:
            lost = command.__module__ in _MAKERS and KEPT not in error.args
            _end(f"interrupted{', and nothing was kept' if lost else ''}", INTERRUPTED)
        except BrokenPipeError:  # the reader of our output, such as `head`, has closed it
            drop_output()
            sys.exit(FAILED)
        except BaseException as error:
            # Of a signal that comes while a lock is waited for, Python may leave the lock's error alone.
            if isinstance(error, RuntimeError) and isinstance(error.__context__, KeyboardInterrupt):
                _end("interrupted", INTERRUPTED)
            if isinstance(error, RuntimeError) and isinstance(error.__context__, SystemExit):
                raise error.__context__ from None
            # Of one that comes while a library is imported, that may make an error of its own.
            heard = _heard.popitem()[0] if _heard else None
            if heard == signal.SIGINT:
                _end("interrupted", INTERRUPTED)
            if heard == signal.SIGTERM:
                sys.exit(TERMINATED)
            said = explained(error)
            if DEBUG in sys.argv or said is None:
                raise
            _end(f"error: {' '.join(said.split())}", FAILED)

    return guarded


COMMANDS = {
    name: {"import": "import_original", "inspect": "inspect_model"}.get(name, name.replace("-", "_"))
    for names in COMMAND_PANELS.values()
    for name in names
}
"""The module of each command, in the order of the help page."""

_MAKERS = {
    f"twil.cli.{COMMANDS[name]}"
    for name in ("vocab", "corpus", "pretrain", "import", "finetune", "distill", "search", "export", "embed")
}
"""The commands whose work is lost where they are interrupted before they keep any."""


def make_app(arguments: Sequence[str]) -> typer.Typer:
    """Make the command line; of its commands that one alone which the arguments name, if they name one."""
    app = typer.Typer(
        name="twil",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={
            "help_option_names": ["-h", "--help"],
            "default_map": read_defaults(COMMANDS),
        },
        epilog="twil help COMMAND, or twil COMMAND --help, shows its options and examples.",
    )
    app.callback()(options)
    named = next((argument for argument in arguments if not argument.startswith("-")), "")
    panels = {name: panel for panel, names in COMMAND_PANELS.items() for name in names}
    for name in [named] if named in COMMANDS else COMMANDS:  # each takes time to import and to lay out
        command = guard(importlib.import_module(f"twil.cli.{COMMANDS[name]}").command)
        variables = {"auto_envvar_prefix": f"{PREFIX}_{COMMANDS[name].upper()}"}
        app.command(name, cls=Command, rich_help_panel=panels[name], context_settings=variables)(command)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"twil {__version__}")
        raise typer.Exit


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
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored
        signal.signal(signal.SIGINT, _interrupt)
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]  # it may stand anywhere
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    open_streams()
    try:
        make_app(arguments or _completed())(arguments, prog_name="twil")
    except (OSError, TwilError) as error:  # of help that cannot be printed; of defaults
        if DEBUG in sys.argv:
            raise
        _end(f"error: {explained(error)}", FAILED)


def _completed() -> list[str]:
    """Give the words that a shell asks to complete, so that the command among them is loaded alone."""
    words = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return words.split()[1:] if "_TWIL_COMPLETE" in os.environ else []


def _end(text: str, code: int) -> NoReturn:
    drop_output()
    print(visible(f"twil: {text}"), file=sys.stderr)  # noqa: T201 (the one place that speaks for errors)
    sys.exit(code)


def _interrupt(signum: int, frame: Any) -> None:  # noqa: ARG001
    now = time.monotonic()
    again = now - _heard.get(signum, -math.inf) < ONE_PRESS  # it would cut off what the first one ends
    _heard[signum] = now
    if not again:
        raise KeyboardInterrupt


def _terminate(signum: int, frame: Any) -> NoReturn:  # noqa: ARG001
    _heard[signum] = time.monotonic()
    sys.exit(TERMINATED)  # unwinds, so that half-written files are removed
