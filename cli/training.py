"""How a fine-tuning run looks while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable

from twil.cli.console import Display, StopSignal, format_seconds, make_table
from twil.train.finetune import FinetuneEvent, Finished, Started
from twil.train.loop import Evaluated, Interrupted, StepDone


class TrainingView:
    """Draws the events of a run.

    Args:
        display: Where to draw.
        resumable: Whether Ctrl-C is to keep the state; otherwise it ends the run at once.
    """

    def __init__(self, display: Display, *, resumable: bool = True) -> None:
        self.display = display
        self.resumable = resumable
        self.stop = StopSignal(display)
        self.epochs = 0
        self.begin = time.monotonic()
        self.first_step = 0
        self.rows = 0.0

    def should_stop(self) -> bool:
        """Tell the run whether the user has asked it to stop."""
        return self.stop.asked

    def follow(self, events: Iterable[FinetuneEvent], *, resume: bool = False) -> Finished | None:
        """Draw all events; return the last one, or None where the run was interrupted.

        Args:
            events: Of the run.
            resume: Whether an interrupted run was to be continued.
        """
        try:
            return self._follow(events, resume)
        finally:
            self.stop.disarm()

    def _follow(self, events: Iterable[FinetuneEvent], resume: bool) -> Finished | None:
        for event in events:
            if isinstance(event, Started):
                self._start(event)
                if resume and not event.resumed:
                    self.display.warn("there was no interrupted run to continue; this is a new one")
                if self.resumable:
                    self.stop.arm()
            elif isinstance(event, StepDone):
                self._step(event)
            elif isinstance(event, Evaluated):
                self._epoch(event)
            elif isinstance(event, Interrupted):
                self.display.line(f"stopped in epoch {event.epoch}, step {event.step}; the state is kept")
            else:
                return event
        return None

    def _start(self, event: Started) -> None:
        rows = ", ".join(f"{name} {count:,}" for name, count in event.rows.items())
        self.display.line(
            f"rows: {rows}; {event.parameters:,} parameters; {event.steps:,} steps on {event.device}"
        )
        self.display.table(
            make_table("training labels", ["label", "rows"], [[k, v] for k, v in event.labels.items()])
        )
        if event.kept_classifier:
            self.display.line("the classifier of the model is trained further")
        for name, count in event.blank.items():
            if count:
                self.display.warn(f"blank lines of {name} left out: {count:,}")
        for name, count in event.truncated.items():
            if count:
                self.display.warn(f"texts of {name} cut at {event.max_length} pieces: {count:,}")
        if event.resumed:
            self.display.line(f"continuing after step {event.resumed:,}")
        self.begin, self.first_step = time.monotonic(), event.resumed

    def _step(self, event: StepDone) -> None:
        self.rows, self.epochs = self.rows + event.counts["rows"], event.epochs
        seconds = max(time.monotonic() - self.begin, 1e-6)
        left = seconds / (event.step - self.first_step) * (event.steps - event.step)
        self.display.update(
            f"epoch {event.epoch}/{event.epochs}  step {event.step:,}/{event.steps:,}  "
            f"loss {event.loss:.4f}  lr {event.lr:.2e}  {self.rows / seconds:,.0f} texts/s  "
            f"at most {format_seconds(left)} left"
        )

    def _epoch(self, event: Evaluated) -> None:
        metrics = event.metrics
        self.display.line(
            f"epoch {event.epoch}  loss {event.loss:.4f}  dev loss {metrics['loss']:.4f}  "
            f"accuracy {metrics['accuracy']:.4f}  macro-F1 {metrics['macro_f1']:.4f}  "
            f"{format_seconds(event.seconds)}{'  best so far' if event.best else ''}"
        )
        if event.last and event.epoch < self.epochs:
            self.display.line("no better epoch for a while: training ends (train.patience)")
