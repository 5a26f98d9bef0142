"""How a pretraining run looks while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable

from twil.cli.console import Display, StopSignal, format_bytes, format_seconds
from twil.machine import peak_memory
from twil.train.loop import Evaluated, Interrupted, StepDone
from twil.train.pretraining import PretrainEvent, PretrainingFinished, PretrainingStarted


class PretrainingView:
    """Draws the events of a run.

    Args:
        display: Where to draw.
    """

    def __init__(self, display: Display) -> None:
        self.display = display
        self.stop = StopSignal(display)
        self.begin = time.monotonic()
        self.steps = self.first_step = 0
        self.rows = self.tokens = 0.0

    def should_stop(self) -> bool:
        """Tell the run whether the user has asked it to stop."""
        return self.stop.asked

    def follow(self, events: Iterable[PretrainEvent], *, resume: bool) -> PretrainingFinished | None:
        """Draw all events; return the last one, or None where the run was interrupted.

        Args:
            events: Of the run.
            resume: Whether an interrupted run was to be continued.
        """
        try:
            for event in events:
                if isinstance(event, PretrainingFinished):
                    return event
                self._draw(event, resume=resume)
            return None
        finally:
            self.stop.disarm()

    def _draw(self, event: PretrainEvent, *, resume: bool) -> None:
        if isinstance(event, PretrainingStarted):
            self._start(event, resume=resume)
        elif isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, Evaluated):
            self.display.line(
                f"step {event.step:,}  epoch {event.epoch}  loss {event.loss:.4f}  {_figures(event)}"
                f"{format_seconds(event.seconds)}{'  best so far' if event.best else ''}"
            )
            if event.last and event.step < self.steps:
                self.display.line("nothing better for a while: training ends (train.patience)")
        elif isinstance(event, Interrupted):
            self.display.line(f"stopped in epoch {event.epoch}, step {event.step:,}; the state is kept")

    def _start(self, event: PretrainingStarted, *, resume: bool) -> None:
        processes = f" in {event.processes} processes" if event.processes > 1 else ""
        self.display.line(
            f"{event.pairs:,} pairs and {event.texts:,} single texts, {event.epoch_rows:,} rows an epoch, "
            f"{event.dev_rows:,} rows held out; rows of up to {event.max_length} pieces"
        )
        self.display.line(
            f"{event.parameters:,} parameters; {event.steps:,} steps on {event.device}{processes} in "
            f"{event.precision}, learning rate up to {event.lr:.2e}"
        )
        if event.warmup >= event.steps:
            self.display.warn(
                f"the warm-up takes {event.warmup:,} steps, and the run has {event.steps:,}: the learning "
                "rate ends before its peak (train.warmup)"
            )
        if not event.pairs:
            self.display.warn("the corpus has no pairs: the order of replies is not learned")
        if event.new_heads:
            self.display.line(f"the model had no head for {', '.join(event.new_heads)}: drawn anew")
        if not event.dev_rows:
            self.display.warn("the corpus has no held-out part: the last weights are kept, unmeasured")
        if event.resumed:
            self.display.line(f"continuing after step {event.resumed:,}")
        elif resume:
            self.display.warn("there was no interrupted run to continue; this is a new one")
        self.steps = event.steps
        self.begin, self.first_step = time.monotonic(), event.resumed
        self.stop.arm()

    def _step(self, event: StepDone) -> None:
        self.rows, self.tokens = self.rows + event.counts["rows"], self.tokens + event.counts["tokens"]
        seconds = max(time.monotonic() - self.begin, 1e-6)
        left = seconds / (event.step - self.first_step) * (event.steps - event.step)
        metrics = event.metrics
        order = f"  order {metrics['rop_accuracy']:.3f}" if "rop_accuracy" in metrics else ""
        self.display.update(
            f"step {event.step:,}/{event.steps:,}  epoch {event.epoch}/{event.epochs}  "
            f"loss {event.loss:.4f}  masked {metrics['mlm_accuracy']:.3f}{order}  lr {event.lr:.2e}  "
            f"{self.rows / seconds:,.0f} rows/s  {self.tokens / seconds:,.0f} pieces/s  "
            f"{format_bytes(peak_memory())}  {format_seconds(left)} left"
        )


def _figures(event: Evaluated) -> str:
    metrics = event.metrics
    if not metrics:
        return ""
    order = f"order {metrics['rop_accuracy']:.4f}  " if "rop_accuracy" in metrics else ""
    return (
        f"dev loss {metrics['loss']:.4f}  masked {metrics['mlm_accuracy']:.4f}  "
        f"perplexity {metrics['perplexity']:.1f}  {order}"
    )
