"""Who does the trials of a search: this process, or several beside each other.

Both give the same messages. After each but `StepDone` and the last of a trial, the one who leads says whether
the trial goes on; so a trial that is to end early ends there, at whatever pace the others work.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from twil.config.training import FinetuneConfig
from twil.core.errors import ConfigError, ModelError, TwilError
from twil.model.folder import RUN
from twil.train.loop import Interrupted
from twil.train.runs import SeriesEvent, SeriesFinished, finetune_runs_events, read_finished, read_series

Answer = Literal["go on", "end", "stop"]


@dataclass(frozen=True)
class Assignment:
    """A trial to be done, or to be gone on with.

    Attributes:
        trial: Its number.
        config: Its settings.
        folder: Where the model folder of its best run is written.
        runs: How many seeds.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    trial: int
    config: FinetuneConfig
    folder: Path
    runs: int
    device: str


@dataclass(frozen=True)
class Ended:
    """A trial was ended early, as it was told to be."""


@dataclass(frozen=True)
class Failed:
    """A trial cannot go on.

    Attributes:
        error: What went wrong.
        alone: Whether it concerns this trial alone: its settings do not fit, or training has diverged.
    """

    error: str
    alone: bool


@dataclass(frozen=True)
class Lost:
    """The process of a trial has died; what it had kept is there.

    Attributes:
        how: Its exit code, or the signal.
    """

    how: str


Message: TypeAlias = SeriesEvent | Ended | Failed | Lost
LAST = (SeriesFinished, Interrupted, Ended, Failed, Lost)


class Executor(Protocol):
    """Who does trials."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; whatever is under way is left as it is."""
        ...

    @property
    def free(self) -> bool:
        """Whether another trial can be begun."""
        ...

    def start(self, assignment: Assignment) -> None:
        """Begin a trial."""
        ...

    def messages(self) -> list[tuple[int, Message]]:
        """Wait for what happens next: messages by the number of the trial; sometimes none."""
        ...

    def answer(self, trial: int, answer: Answer) -> None:
        """Say whether a trial goes on."""
        ...

    def stop(self) -> None:
        """Have all trials keep their state and end with `Interrupted`."""
        ...


def work(
    assignment: Assignment, should_stop: Callable[[], bool]
) -> Generator[SeriesEvent | Failed, None, None]:
    """Do a trial, or what is left of it; the last event is one of `LAST`."""
    folder = assignment.folder
    try:
        if (folder / RUN).is_file():  # the search was killed before it had noted the end of this trial
            yield SeriesFinished(read_series(folder), read_finished(folder))
            return
        yield from finetune_runs_events(
            assignment.config,
            folder,
            runs=assignment.runs,
            resume=True,
            device=assignment.device,
            should_stop=should_stop,
        )
    except (ModelError, ConfigError) as error:
        yield Failed(str(error), alone=True)
    except (TwilError, OSError) as error:
        yield Failed(str(error), alone=False)


class InProcessExecutor:
    """This process, which does one trial after the other."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self.should_stop = should_stop
        self._trial = 0
        self._events: Generator[SeriesEvent | Failed, None, None] | None = None
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()

    @property
    def free(self) -> bool:
        """Whether no trial is under way."""
        return self._events is None

    def start(self, assignment: Assignment) -> None:
        """Begin a trial."""
        self._trial, self._events = assignment.trial, work(assignment, self.should_stop)

    def messages(self) -> list[tuple[int, Message]]:
        """Do the next step of the trial."""
        assert self._events is not None
        message: Message = Ended() if self._ended else next(self._events)
        if isinstance(message, LAST):
            self._events.close()
            self._events, self._ended = None, False
        return [(self._trial, message)]

    def answer(self, trial: int, answer: Answer) -> None:  # noqa: ARG002 (there is one trial only)
        """Say whether the trial goes on."""
        self._ended = answer == "end"

    def stop(self) -> None:
        """Do nothing: the trial itself asks whether to stop."""
