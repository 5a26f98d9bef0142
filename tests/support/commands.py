"""`twil` run in this process, as a shell would run it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from twil.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Give a way to run `twil`: arguments in; exit code, stdout and stderr out."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["twil", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def fails(result: tuple[int, str, str], *said: str) -> None:
    """Check that a command ended with one line that says all this."""
    code, out, err = result
    assert code == 1
    assert out == ""
    assert err.startswith("twil: error: ")
    assert err.count("\n") == 1, err
    for part in said:
        assert part in err
