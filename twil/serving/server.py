"""The service as a process: its socket, its signals, and its end."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

import uvicorn

from twil.core.errors import ConfigError, TwilError, first_line
from twil.serving.app import Service, ServiceOptions, make_app

_KEEP_ALIVE_SECONDS = 30
_BACKLOG = 1024


def serve(
    models: Mapping[str, str],
    options: ServiceOptions,
    *,
    host: str,
    port: int,
    grace: int,
    say: Callable[[str], None],
) -> None:
    """Answer requests until a signal ends the process, once all models are open.

    Args:
        models: What is served by which name.
        options: See `ServiceOptions`.
        host: The address to listen at.
        port: The port; 0 takes a free one.
        grace: Seconds that requests have to end in.
        say: Told where the service listens, and what becomes of it.

    Raises:
        ConfigError: Nothing can listen there.
        ModelError: A model cannot be opened.
    """
    with _listen(host, port) as listening:
        asyncio.run(_run(models, options, listening, grace, say))


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before models are opened, so that a taken one is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, or asyncio would not know it for TCP, and answers would wait 40 ms for acknowledgements.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:
        listening.close()
        raise ConfigError(
            f"nothing can listen at {host}, port {port} ({first_line(error)}): choose another --host or "
            "--port"
        ) from error
    return listening


async def _run(
    models: Mapping[str, str],
    options: ServiceOptions,
    listening: socket.socket,
    grace: int,
    say: Callable[[str], None],
) -> None:
    app = make_app(models, options)
    service: Service = app.state.service
    await service.open()  # here, so that what is wrong with a model is told as what it is
    host, port = listening.getsockname()[:2]
    names = ", ".join(service.batchers)
    say(f"{names} at http://{f'[{host}]' if ':' in host else host}:{port}")
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=grace,
    )
    tasks: set[asyncio.Task[None]] = set()  # held, or they might be collected
    loop = asyncio.get_running_loop()

    def reopen() -> None:
        task = loop.create_task(_reopen(service, say))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, reopen)
    try:
        with suppress(KeyboardInterrupt):  # which uvicorn raises again at its end
            await uvicorn.Server(config).serve([listening])
    finally:
        await service.close()
        say("stopped")


async def _reopen(service: Service, say: Callable[[str], None]) -> None:
    """Open the models anew; those that are served stay where that fails."""
    try:
        await service.open()
    except TwilError as error:
        say(f"the models stay as they are: {error}")
    else:
        say(f"opened anew: {', '.join(service.batchers)}")
