"""`twil serve`: models that answer over HTTP."""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twil.cli.console import PROVIDERS, Display
from twil.cli.options import Quiet, Threads
from twil.cli.rows import announce_default, start_quickly
from twil.core.errors import ConfigError, require

if TYPE_CHECKING:
    from twil.serving.app import RequestLog

KEY_VARIABLE = "TWIL_API_KEY"
GRACE_SECONDS = 30


def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Bundles, model folders, names of twil models or of the hub; NAME=MODEL calls one "
            "otherwise. [dim]\\[TWIL_MODEL, else sentiment][/dim]"
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8080,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, max=1000, help="How long a text waits for others, at most.")
    ] = 2.0,
    max_queue: Annotated[int, typer.Option(min=1, help="Texts that wait at a time, for each model.")] = 4096,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens per batch.")] = 512,
    api_key: Annotated[
        str | None,
        typer.Option(help=f"What clients must bring as a bearer token. [dim]\\[{KEY_VARIABLE}][/dim]"),
    ] = None,
    log_requests: Annotated[
        str | None, typer.Option(help="A line for each request, without texts: text or json.")
    ] = None,
    threads: Threads = None,
    provider: Annotated[str, typer.Option(help=PROVIDERS)] = "auto",
    quiet: Quiet = False,
) -> None:
    """Answer requests for labels and vectors over HTTP.

    Ctrl-C or SIGTERM finishes what is under way; SIGHUP opens the models anew, and no request is lost.
    """
    start_quickly(threads)
    require("starlette", purpose="twil serve")
    require("uvicorn", purpose="twil serve")

    from twil.bundle.names import name_models
    from twil.serving.app import ServiceOptions
    from twil.serving.server import serve

    key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
    if key and not key.isascii():
        raise ConfigError("a key of other than ASCII characters does not go into a header: choose another")
    where: Any = provider  # checked there
    if log_requests not in (None, "text", "json"):
        raise ConfigError(f"there is no log '{log_requests}': choose text or json")
    gc.freeze()
    gc.enable()  # unlike a command that labels a file, a service lives for long
    with Display(quiet=quiet) as display:
        named = name_models(models or [announce_default(display)])
        options = ServiceOptions(
            max_wait=max_wait_ms / 1000,
            max_queue=max_queue,
            api_key=key,
            engine={"threads": threads, "provider": where, "batch_tokens": batch_tokens},
            log=_LOGS[log_requests] if log_requests else None,
        )
        serve(
            {name: str(path) for name, path in named.items()},
            options,
            host=host,
            port=port,
            grace=GRACE_SECONDS,
            say=display.line,
        )


def _log_text(told: RequestLog) -> None:
    line = f"{told['time']} {told['route']} {told['status']} {told['ms']:.1f} ms, {told['texts']} texts"
    print(line, file=sys.stderr, flush=True)  # noqa: T201 (a log, as the display is of the start alone)


def _log_json(told: RequestLog) -> None:
    print(json.dumps(told), file=sys.stderr, flush=True)  # noqa: T201 (as above)


_LOGS = {"text": _log_text, "json": _log_json}
