"""Commands of twil in processes of their own, forked from one that has imported torch and twil already.

A process that imports them takes seconds of a CPU before its first line, and the tests of signals, of crashes
and of several processes start dozens. Some of those tests run `python -m twil` and `torchrun` all the same.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from twil.cli.main import main

FORKS = multiprocessing.get_context("forkserver")
"""Makes such processes of any function of a module."""
FORKS.set_forkserver_preload(
    [
        *("twil.cli.finetune", "twil.cli.pretrain", "twil.search.run", "twil.train.pretraining"),
        "torch._dynamo",  # by itself torch imports it where processes train together
    ]
)
_PATIENCE = 100.0  # seconds, of a machine that has much else to do


class TwilProcess:
    """A command that runs beside the test.

    Args:
        arguments: Of `twil`.
        env: What it finds in its environment besides.
    """

    def __init__(self, *arguments: object, env: Mapping[str, str] | None = None) -> None:
        self._said = NamedTemporaryFile()  # noqa: SIM115 - lasts as long as this
        words = [str(argument) for argument in arguments]
        self._process = FORKS.Process(
            target=_run, args=(words, self._said.name, dict(env or {})), daemon=True
        )
        self._process.start()

    @property
    def said(self) -> str:
        """What it has said on stdout and stderr so far."""
        return Path(self._said.name).read_text(encoding="utf-8")

    def poll(self) -> int | None:
        """Tell how it ended, as `subprocess` does; None while it runs."""
        return self._process.exitcode

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""
        wait_until(self, lambda: text in self.said)

    def wait_until_begun(self) -> None:
        """Wait until the process is that of the command, and says what the command says."""
        output = Path(f"/proc/{self._process.pid}/fd/1")
        wait_until(self, lambda: output.exists() and output.readlink() == Path(self._said.name))

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self) -> int:
        """Wait for its end, and tell how it ended."""
        self._process.join(_PATIENCE)
        code = self.poll()
        assert code is not None, self.said
        return code


def wait_until(process: TwilProcess | subprocess.Popen[str], done: Callable[[], bool]) -> None:
    """Wait for what a process does before it ends."""
    deadline = time.monotonic() + _PATIENCE
    while not done():
        ended = process.poll() is not None
        assert not ended, process.said if isinstance(process, TwilProcess) else process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for_lines(process: TwilProcess | subprocess.Popen[str], log: Path, lines: int) -> None:
    """Wait until a process has written so many lines of its log."""
    wait_until(process, lambda: log.is_file() and len(log.read_text(encoding="utf-8").splitlines()) >= lines)


def free_port() -> str:
    """Find a port at which several processes can meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start_together(processes: int, *arguments: object) -> list[TwilProcess]:
    """Start a command in processes that share its work, as `torchrun` does."""
    env = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        TwilProcess(*arguments, env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]


def run_together(processes: int, *arguments: object) -> str:
    """Run a command in processes that share its work; return what they say."""
    ranks = start_together(processes, *arguments)
    codes = [rank.wait() for rank in ranks]
    said = "".join(rank.said for rank in ranks)
    assert codes == [0] * processes, said
    return said


def _run(arguments: list[str], said: str, env: Mapping[str, str]) -> None:
    os.environ.update(env)
    descriptor = os.open(said, os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())
    sys.argv = ["twil", *arguments]
    main()
