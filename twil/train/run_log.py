"""The log of a run: one JSON object a line, cut back to the checkpoint when a run goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from twil.core.errors import ModelError
from twil.core.storage import atomic_file
from twil.train.loop import Evaluated, StepDone


class RunLog:
    """Writes steps and evaluations.

    Args:
        path: The file.
        active: Whether this process writes it.
        every: Steps between lines.
    """

    def __init__(self, path: Path, active: bool, *, every: int) -> None:
        self.path, self.active, self.every = path, active, every
        self._file: TextIO | None = None
        self._begin = self._last = time.monotonic()
        self._rows = self._tokens = 0.0

    @contextmanager
    def open(self, step: int, seconds: float, evaluated: Evaluated | None = None) -> Iterator[None]:
        """Keep the file open while the run goes on.

        Args:
            step: The step that the run continues from; what the file holds of later ones is cut off.
            seconds: Time that the run has taken so far.
            evaluated: The last evaluation up to there; a process that was killed between keeping the state
                and writing this line has left it out, and it is made up for.

        Raises:
            ModelError: The file holds what is no line of a log.
        """
        self._last = time.monotonic()
        self._begin = self._last - seconds
        if not self.active:
            yield
            return
        self.path.parent.mkdir(exist_ok=True)
        kept = [line for line in read_log(self.path) if line["step"] <= step] if step else []
        with atomic_file(self.path) as temporary:
            temporary.write_text("".join(_line(entry) for entry in kept), encoding="utf-8")
        with self.path.open("a", encoding="utf-8") as self._file:
            if evaluated is not None and ("evaluation", evaluated.step) not in _events(kept):
                self.add(evaluated)
            yield
        self._file = None

    def add(self, event: StepDone | Evaluated) -> None:
        """Write an event, if it is its turn."""
        now = time.monotonic()
        if isinstance(event, Evaluated):
            self._write(
                event="evaluation",
                step=event.step,
                epoch=event.epoch,
                metrics=event.metrics,
                best=event.best,
                seconds=now - self._begin,
            )
            self._last, self._rows, self._tokens = time.monotonic(), 0.0, 0.0
            return
        self._rows, self._tokens = self._rows + event.counts["rows"], self._tokens + event.counts["tokens"]
        if event.step % self.every and event.step != event.steps:
            return
        span = max(now - self._last, 1e-9)
        self._write(
            event="step",
            step=event.step,
            epoch=event.epoch,
            loss=event.loss,
            **event.metrics,
            lr=event.lr,
            rows=event.counts["rows"],
            tokens=event.counts["tokens"],
            seconds=now - self._begin,
            rows_per_second=self._rows / span,
            tokens_per_second=self._tokens / span,
        )
        self._last, self._rows, self._tokens = now, 0.0, 0.0

    def _write(self, **entry: Any) -> None:
        if self._file is not None:
            self._file.write(_line(entry))
            self._file.flush()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a log; the last, where a killed run has cut it, is left out.

    Raises:
        ModelError: A line is damaged.
    """
    if not path.is_file():
        return []
    entries = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            entry = json.loads(line)
        except ValueError:  # no JSON, or no UTF-8
            entry = None
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            raise ModelError(
                f"{path}, line {number}, is no line of a log: remove it, or the file: no run needs them"
            )
        entries.append(entry)
    return entries


def _events(entries: list[dict[str, Any]]) -> set[tuple[Any, int]]:
    return {(entry.get("event"), entry["step"]) for entry in entries}


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"
