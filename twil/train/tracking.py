"""A run as experiment trackers see it: its settings, its figures by step, and how it ended.

A tracker is told of settings and figures alone: no text and no row ever goes to one.
"""

from __future__ import annotations

import json
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from textwrap import shorten
from typing import Any, ClassVar, Literal, TypeVar

from twil.config.model import Section
from twil.config.settings import flatten
from twil.core.errors import TwilError, first_line
from twil.core.storage import with_name, write_json
from twil.scores.metrics import metrics_of
from twil.train.checkpoint import IDS, CheckpointFolder
from twil.train.distillation import DistillationFinished
from twil.train.finetune import FinetuneFinished
from twil.train.loop import Evaluated, Interrupted, StepDone
from twil.train.pretraining import PretrainingFinished
from twil.train.runs import RunDone, RunStarted, runs_folder

Event = TypeVar("Event")
Status = Literal["finished", "interrupted", "failed"]

_PATIENCE = 60.0
"""Seconds that a tracker has for the last figures, when the run is over."""
_FOUND = ("parameters", "steps", "device", "precision", "processes")
"""What a run says of itself when it begins, besides its settings."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run when it begins or goes on.

    Attributes:
        name: That of the model folder; in a series also its seed.
        folder: The model folder.
        seed: Its seed in a series of runs; None of a run alone.
        settings: By their whole names, ``section.key``; those that are left out are not in there.
        resumed: The step it continues from, 0 for a new run.
        id: The name that the tracker gave it in an earlier sitting; None where it has none.
    """

    name: str
    folder: Path
    seed: int | None
    settings: Mapping[str, Any]
    resumed: int
    id: str | None


@dataclass(frozen=True)
class Figures:
    """Figures of a step by their names, such as ``dev/macro_f1``, and the time in seconds since 1970."""

    step: int
    values: Mapping[str, float]
    time: float


class Tracker(ABC):
    """Where figures go besides the log of a run; for one run after the other. All methods may fail."""

    name: ClassVar[str]

    @abstractmethod
    def open(self, run: TrackedRun) -> tuple[str | None, str]:
        """Begin with a run; give the id by which it goes on later, if it needs one, and where it is seen."""

    @abstractmethod
    def log(self, figures: Sequence[Figures]) -> None:
        """Take the figures of some steps."""

    @abstractmethod
    def close(self, status: Status) -> None:
        """End with the run."""


def tracked(
    events: Iterable[Event],
    trackers: Iterable[Tracker],
    output: Path,
    config: Section,
    *,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> Iterator[Event]:
    """Pass the events of a run on, and tell trackers of it.

    No tracker can hold the run up or end it: one that fails is left out from there on, and `warn` is told
    once.

    Args:
        events: Of the run, or of a series of runs, each of which is one to the trackers.
        trackers: Whom to tell.
        output: The model folder of the run, or of the series.
        config: All settings.
        say: Told where each run is seen.
        warn: Told why a tracker is left out.
    """
    output = with_name(output)
    couriers = [_Courier(tracker, say, warn) for tracker in trackers]
    folder, seed, step = output, None, 0
    try:
        for event in events:
            resumed = getattr(event, "resumed", None)
            if isinstance(event, RunStarted):
                seed, folder = event.seed, runs_folder(output) / f"seed-{event.seed}"
            elif resumed is not None:  # the run begins
                step = resumed
                run = _describe(event, output, folder, seed, config)
                for courier in couriers:
                    courier.open(run)
            elif isinstance(event, StepDone | Evaluated):
                step = event.step
                _log(couriers, step, _figures(event))
            elif isinstance(event, RunDone | FinetuneFinished | PretrainingFinished | DistillationFinished):
                _log(couriers, step, _test_scores(event))
                _close(couriers, "finished")
            elif isinstance(event, Interrupted):
                _close(couriers, "interrupted")
            yield event
    except Exception:
        _close(couriers, "failed")
        raise
    finally:
        _close(couriers, "interrupted")  # those that are open still


def without_secrets(text: str) -> str:
    """Leave out the name and the password of an address."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _describe(started: Any, output: Path, folder: Path, seed: int | None, config: Section) -> TrackedRun:
    found = {name: getattr(started, name) for name in _FOUND}
    settings = flatten(config.model_dump(mode="json")) | found
    if seed is not None:
        settings["train.seed"] = seed
    return TrackedRun(
        name=output.name if seed is None else f"{output.name}-seed-{seed}",
        folder=folder,
        seed=seed,
        settings={name: value for name, value in settings.items() if value is not None},
        resumed=started.resumed,
        id=None,
    )


def _figures(event: StepDone | Evaluated) -> dict[str, float]:
    if isinstance(event, Evaluated):
        return {f"dev/{name}": value for name, value in event.metrics.items()}
    figures = {"loss": event.loss, "lr": event.lr, **event.metrics}
    return {f"train/{name}": value for name, value in figures.items()}


def _test_scores(
    event: RunDone | FinetuneFinished | PretrainingFinished | DistillationFinished,
) -> dict[str, float]:
    if isinstance(event, RunDone):
        scores = event.result.test
    else:
        report = None if isinstance(event, PretrainingFinished) else event.test
        scores = metrics_of(report) if report else {}
    return {f"test/{name}": value for name, value in scores.items()}


def _log(couriers: Iterable[_Courier], step: int, values: Mapping[str, float]) -> None:
    for courier in couriers:
        courier.log(Figures(step, values, time.time()))


def _close(couriers: Iterable[_Courier], status: Status) -> None:
    for courier in couriers:
        courier.close(status)


class _Courier:
    """Takes the figures of runs to a tracker in a thread of its own, and shields the run from it."""

    def __init__(self, tracker: Tracker, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self.tracker, self.say, self.warn = tracker, say, warn
        self.queue: SimpleQueue[Figures | Status] = SimpleQueue()
        self.thread: threading.Thread | None = None  # while a run is open
        self.error: Exception | None = None
        self.left_out = False

    def open(self, run: TrackedRun) -> None:
        """Begin with a run, or go on with the one that the folder of its state names."""
        if self.left_out:
            return
        try:
            self._open(run)
        except Exception as error:  # whatever a tracker raises
            self._leave_out(error)

    def log(self, figures: Figures) -> None:
        """Hand figures over."""
        if self.thread is None or not figures.values:
            return
        if self.error is None:
            self.queue.put(figures)
        else:
            self._leave_out(self.error)

    def close(self, status: Status) -> None:
        """End with the run that is open, if one is, once the tracker has all figures."""
        thread, self.thread = self.thread, None  # so that Ctrl-C ends the waiting, too
        if thread is None:
            return
        self.queue.put(status)
        thread.join(_PATIENCE)
        if thread.is_alive():
            self._leave_out(TimeoutError(f"no answer within {_PATIENCE:.0f} s"))
        elif self.error is not None:
            self._leave_out(self.error)

    def _open(self, run: TrackedRun) -> None:
        path = CheckpointFolder.beside(run.folder).root / IDS
        ids = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        name, place = self.tracker.open(replace(run, id=ids.get(self.tracker.name)))
        if name is not None:
            path.parent.mkdir(exist_ok=True)
            write_json(path, ids | {self.tracker.name: name})
        self.say(f"tracked by {self.tracker.name}: {without_secrets(place)}")
        self.queue = SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            while True:
                waiting = [self.queue.get()]
                while not self.queue.empty():
                    waiting.append(self.queue.get())
                if figures := [entry for entry in waiting if isinstance(entry, Figures)]:
                    self.tracker.log(figures)
                if not isinstance(last := waiting[-1], Figures):
                    self.tracker.close(last)
                    return
        except Exception as error:  # said by the run's own thread
            self.error = error

    def _leave_out(self, error: Exception) -> None:
        self.thread, self.left_out = None, True
        cause = shorten(without_secrets(first_line(error)), 200, placeholder=" …")
        kind = "" if isinstance(error, TwilError) else f"{type(error).__name__}: "
        self.warn(f"{self.tracker.name} is told no more of the run ({kind}{cause})")
