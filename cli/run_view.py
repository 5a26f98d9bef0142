"""How a training run looks while it runs, whatever is learned in it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from twil.cli.console import Display, StopSignal, format_seconds
from twil.train.loop import Evaluated, Interrupted, StepDone

Finished = TypeVar("Finished")


class RunView(Generic[Finished]):
    """Draws the events of a run; each kind of run says how it looks.

    Args:
        display: Where to draw.
        resumable: Whether Ctrl-C is to keep the state; otherwise it ends the run at once.
    """

    finished_type: type[Finished]
    """The event that ends the run."""
    nothing_to_continue = "there was no interrupted run to continue; this is a new one"

    def __init__(self, display: Display, *, resumable: bool = True) -> None:
        self.display = display
        self.resumable = resumable
        self.stop = StopSignal(display)
        self.begin = time.monotonic()
        self.steps = self.first_step = 0
        self.rows = self.tokens = 0.0

    def should_stop(self) -> bool:
        """Tell the run whether the user has asked it to stop."""
        return self.stop.asked

    def follow(self, events: Iterable[Any], *, resume: bool = False) -> Finished | None:
        """Draw all events; return the last one, or None where the run was interrupted.

        Args:
            events: Of the run.
            resume: Whether an interrupted run was to be continued.
        """
        try:
            for event in events:
                if isinstance(event, self.finished_type):
                    return event
                self.show(event)
                resumed = getattr(event, "resumed", None)
                if resume and resumed == 0:
                    self.display.warn(self.nothing_to_continue)
                if resumed is not None and self.resumable:
                    self.stop.arm()
            return None
        finally:
            self.stop.disarm()

    def show(self, event: Any) -> None:
        """Draw one event."""
        if isinstance(event, StepDone):
            self.rows, self.tokens = self.rows + event.counts["rows"], self.tokens + event.counts["tokens"]
            self.display.update(self.describe_step(event, max(time.monotonic() - self.begin, 1e-6)))
        elif isinstance(event, Evaluated):
            best = "  best so far" if event.best else ""
            self.display.line(f"{self.describe_evaluation(event)}{format_seconds(event.seconds)}{best}")
            self.end_early(event)
        elif isinstance(event, Interrupted):
            self.display.line(self.describe_interruption(event))
        else:
            self.start(event)

    def start(self, event: Any) -> None:
        """Say what is about to run."""
        raise NotImplementedError

    def go_on(self, event: Any) -> None:
        """Say where an interrupted run continues, and begin to measure its pace."""
        if event.resumed:
            self.display.line(f"continuing after step {event.resumed:,}")
        self.steps, self.first_step = event.steps, event.resumed
        self.rows = self.tokens = 0.0
        self.begin = time.monotonic()

    def describe_step(self, event: StepDone, seconds: float) -> str:
        """Say where the run stands, so many seconds after it began or went on."""
        raise NotImplementedError

    def describe_evaluation(self, event: Evaluated) -> str:
        """Say what an evaluation gave, with two blanks behind it."""
        raise NotImplementedError

    def describe_interruption(self, event: Interrupted) -> str:
        """Say where the run was stopped."""
        return f"stopped in epoch {event.epoch}, step {event.step:,}; the state is kept"

    def end_early(self, event: Evaluated) -> None:
        """Say that training ends before its last step, where it does."""
        if event.last and event.step < self.steps:
            self.display.line("nothing better for a while: training ends (train.patience)")

    def time_left(self, event: StepDone, seconds: float) -> str:
        """Say how long the steps to come take at the pace so far."""
        return format_seconds(seconds / (event.step - self.first_step) * (event.steps - event.step))
