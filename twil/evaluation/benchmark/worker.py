"""A process of its own for each thing that is measured: its memory is its own, and nothing else runs in it.

Both ends of the pipe are here. Requests and answers are lines of JSON: first ``{folder, provider, threads,
seed}``, answered by facts, then ``{do, rows, length, runs}``, answered by ``{seconds, peak_memory}``. What
goes wrong is answered by ``{error, kind}``, and is raised on the other side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from twil.core.errors import ConfigError, ModelError, ProviderError, TwilError
from twil.core.machine import peak_memory
from twil.evaluation.benchmark.timing import Facts, Shape, Subject, Timer

_ERRORS: dict[str, type[TwilError]] = {
    error.__name__: error for error in (ConfigError, ModelError, ProviderError)
}


@dataclass(frozen=True)
class Opening:
    """What a process is to open.

    Attributes:
        folder: The bundle, or the model folder.
        provider: Where to run, as `Session` knows it.
        threads: CPU threads; all that the process may use when None.
        seed: Of the tokens.
    """

    folder: str
    provider: str
    threads: int | None
    seed: int


Opener = Callable[[Opening], Subject]


def answers(requests: Iterable[Mapping[str, Any]], open_subject: Opener) -> Iterator[dict[str, Any]]:
    """Do what is asked, and answer each request; an error is the last answer."""
    timer: Timer | None = None
    try:
        for request in requests:
            if timer is None:
                opening = Opening(**request)
                subject = open_subject(opening)
                timer = Timer(subject, seed=opening.seed)
                yield subject.facts.as_dict()
                continue
            work = {"warm_up": timer.warm_up, "time": timer.time}[request["do"]]
            seconds = work(Shape(request["rows"], request["length"]), request["runs"])
            yield {"seconds": seconds, "peak_memory": peak_memory()}
    except TwilError as error:
        yield {"error": str(error), "kind": type(error).__name__}
    except MemoryError:
        yield {"error": "memory ran out: take smaller batches (--batch)", "kind": "ModelError"}


def serve(open_subject: Opener) -> None:
    """Be the process that measures: answer on standard output what is asked on standard input."""
    # Libraries may write to standard output, which is kept for answers alone.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as pipe:
        os.dup2(2, 1)
        for answer in answers(map(json.loads, sys.stdin), open_subject):
            print(json.dumps(answer), file=pipe, flush=True)


class Worker:
    """The other end: a process that is asked. It ends with the block.

    Args:
        module: The module of twil that calls `serve`.
        opening: What it opens.

    Attributes:
        folder: What it opens.
    """

    def __init__(self, module: str, opening: Opening) -> None:
        self.folder = opening.folder
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        # Not a fork, which would begin with this process's memory. Nothing is imported from where one stands.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            encoding="utf-8",
        )
        self._send(vars(opening))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # it has nothing to keep
        self._process.communicate()
        self._said.close()

    def facts(self) -> Facts:
        """Wait until the model is open, once.

        Raises:
            TwilError: It cannot be opened; the error is the one that the process had.
        """
        return Facts(**self._receive())

    def warm_up(self, shape: Shape, runs: int) -> list[float]:
        """Have a shape computed for the first times; seconds of each run. Raises as `time` does."""
        return self._ask("warm_up", shape, runs)

    def time(self, shape: Shape, runs: int) -> list[float]:
        """Have a shape timed that is warm; seconds of each run.

        Raises:
            TwilError: The model fails on it.
            ModelError: The process died.
        """
        return self._ask("time", shape, runs)

    def _ask(self, do: str, shape: Shape, runs: int) -> list[float]:
        self._send({"do": do, **shape._asdict(), "runs": runs})
        answer = self._receive()
        self.peak_memory: int = answer["peak_memory"]
        seconds: list[float] = answer["seconds"]
        return seconds

    def _send(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _ERRORS.get(answer["kind"], TwilError)(answer["error"])
        return answer

    def _death(self) -> ModelError:
        code = self._process.wait()
        self._said.seek(0)
        last = self._said.read().decode(errors="replace").strip().rpartition("\n")[2]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return ModelError(
            f"the process that measures {self.folder} ended ({how}{': ' + last if last else ''}): "
            "if memory ran out, take smaller batches (--batch)"
        )
