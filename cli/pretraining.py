"""How a pretraining run looks while it runs."""

from __future__ import annotations

from twil.cli.console import format_bytes
from twil.cli.run_view import RunView
from twil.core.machine import peak_memory
from twil.train.loop import Evaluated, StepDone
from twil.train.pretraining import PretrainingFinished, PretrainingStarted


class PretrainingView(RunView[PretrainingFinished]):
    """Draws the events of a run of pretraining."""

    finished_type = PretrainingFinished

    def start(self, event: PretrainingStarted) -> None:
        """Say what is learned from how many rows."""
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
        self.go_on(event)

    def describe_step(self, event: StepDone, seconds: float) -> str:
        """Say where the run stands."""
        metrics = event.metrics
        order = f"  order {metrics['rop_accuracy']:.3f}" if "rop_accuracy" in metrics else ""
        return (
            f"step {event.step:,}/{event.steps:,}  epoch {event.epoch}/{event.epochs}  "
            f"loss {event.loss:.4f}  masked {metrics['mlm_accuracy']:.3f}{order}  lr {event.lr:.2e}  "
            f"{self.rows / seconds:,.0f} rows/s  {self.tokens / seconds:,.0f} pieces/s  "
            f"{format_bytes(peak_memory())}  {self.time_left(event, seconds)} left"
        )

    def describe_evaluation(self, event: Evaluated) -> str:
        """Say what the held-out part gave."""
        return f"step {event.step:,}  epoch {event.epoch}  loss {event.loss:.4f}  {_figures(event)}"


def _figures(event: Evaluated) -> str:
    metrics = event.metrics
    if not metrics:
        return ""
    order = f"order {metrics['rop_accuracy']:.4f}  " if "rop_accuracy" in metrics else ""
    return (
        f"dev loss {metrics['loss']:.4f}  masked {metrics['mlm_accuracy']:.4f}  "
        f"perplexity {metrics['perplexity']:.1f}  {order}"
    )
