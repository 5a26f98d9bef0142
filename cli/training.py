"""How training runs look while they run, and what several with the same settings came to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from rich.console import RenderableType

from twil.cli.console import (
    Display,
    StopSignal,
    format_bytes,
    format_seconds,
    format_spread,
    make_table,
    show,
)
from twil.cli.pitfalls import warn_of_constant, warn_of_overlaps
from twil.core.machine import peak_memory
from twil.scores.names import name_metric
from twil.train.finetune import FinetuneFinished, FinetuneStarted
from twil.train.loop import Evaluated, Interrupted, StepDone
from twil.train.pretraining import PretrainingFinished, PretrainingStarted
from twil.train.runs import RunDone, RunStarted, SeriesEvent, SeriesFinished
from twil.train.series import Series

LastEvent = TypeVar("LastEvent")


class RunView(Generic[LastEvent]):
    """Draws the events of a run; each kind of run says how it looks.

    Args:
        display: Where to draw.
        resumable: Whether Ctrl-C is to keep the state; otherwise it ends the run at once.
    """

    finished_type: type[LastEvent]
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

    def follow(self, events: Iterable[Any], *, resume: bool = False) -> LastEvent | None:
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
            seconds = max(time.monotonic() - self.begin, 1e-6)
            self.display.update(
                self.describe_step(event, seconds),
                done=event.step / event.steps,
                left=self.time_left(event, seconds),
            )
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


class TrainingView(RunView[FinetuneFinished]):
    """Draws the events of a run of fine-tuning."""

    finished_type = FinetuneFinished

    def __init__(self, display: Display, *, resumable: bool = True) -> None:
        super().__init__(display, resumable=resumable)
        self.epochs = 0
        self.metric, self.kind = "loss", "class"

    def start(self, event: FinetuneStarted) -> None:
        """Say what is learned from how many rows."""
        rows = ", ".join(f"{name} {count:,}" for name, count in event.rows.items())
        self.display.line(
            f"rows: {rows}; {event.parameters:,} parameters; {event.steps:,} steps on {event.device}"
            f"{f', shared by {event.processes} processes,' if event.processes > 1 else ''} "
            f"in {event.precision}"
        )
        self.metric, self.kind = event.metric, event.task.kind
        if event.trainable < event.parameters:
            self.display.line(f"{event.parameters - event.trainable:,} of the parameters are frozen")
        if event.labels:
            self.display.table(_label_table(event))
        if not event.steps:
            self.display.line("nothing is trained: the model is taken as it is")
        elif event.kept_classifier:
            self.display.line("the classifier of the model is trained further")
        if event.steps and "dev" not in event.rows:
            self.display.line("no dev file: nothing decides the best epoch, and the last one is kept")
        warn_of_data(self.display, event)
        self.go_on(event)

    def describe_step(self, event: StepDone, seconds: float) -> str:
        """Say where the run stands."""
        self.epochs = event.epochs
        return (
            f"epoch {event.epoch}/{event.epochs}  step {event.step:,}/{event.steps:,}  "
            f"loss {event.loss:.4f}  lr {event.lr:.2e}  {self.rows / seconds:,.0f} texts/s"
        )

    def time_left(self, event: StepDone, seconds: float) -> str:
        """Say how long the run takes at most, since patience may end it sooner."""
        return f"at most {super().time_left(event, seconds)}"

    def describe_evaluation(self, event: Evaluated) -> str:
        """Say what an epoch gave."""
        metrics = event.metrics
        dev = f"dev loss {metrics['loss']:.4f}  {self._scores(metrics)}  " if metrics else ""
        return f"epoch {event.epoch}  loss {event.loss:.4f}  {dev}"

    def describe_interruption(self, event: Interrupted) -> str:
        """Say where the run was stopped."""
        return f"stopped in epoch {event.epoch}, step {event.step}; the state is kept"

    def end_early(self, event: Evaluated) -> None:
        """Say that training ends before its last epoch, where it does."""
        if event.last and event.epoch < self.epochs:
            self.display.line("no better epoch for a while: training ends (train.patience)")

    def _scores(self, metrics: Mapping[str, float]) -> str:
        """Name what an epoch gave: what decides, and what everybody looks at."""
        usual = ["pearson", "rmse"] if self.kind == "regression" else ["accuracy", "macro_f1"]
        names = dict.fromkeys([*usual, self.metric])
        return "  ".join(f"{name_metric(name)} {metrics[name]:.4f}" for name in names if name != "loss")


def warn_of_data(display: Display, event: FinetuneStarted) -> None:
    """Say what of the data is not as it might be thought."""
    for name, count in event.blank.items():
        if count:
            display.warn(f"blank lines of {name} left out: {count:,}")
    for name, count in event.truncated.items():
        if count:
            display.warn(f"texts of {name} cut at {event.max_length} tokens: {count:,}")
    warn_of_overlaps(display, event.pitfalls.overlaps)
    warn_of_constant(display, event.pitfalls.constant)


def show_decision(finished: FinetuneFinished, display: Display) -> None:
    """Say what was tuned on dev when training was done."""
    decision = finished.decision
    if decision is None:
        return
    tuned = []
    if decision.task.temperature != 1:
        tuned.append(f"temperature {decision.task.temperature:.3f}")
    if decision.task.thresholds:
        labels = decision.task.labels[-decision.task.decisions :]
        pairs = zip(labels, decision.task.thresholds, strict=True)
        tuned.append("thresholds " + ", ".join(f"{label} {threshold:.3f}" for label, threshold in pairs))
    before, after = decision.before, decision.after
    display.line(
        f"tuned on dev: {'; '.join(tuned)}; {name_metric(decision.metric)} {before.score:.4f} → "
        f"{after.score:.4f}, calibration error {before.calibration_error:.4f} → {after.calibration_error:.4f}"
    )
    if decision.bound is not None:
        why = (
            "on dev nearly equal probabilities would be as good, so the model tells the labels hardly apart"
            if decision.bound > 1
            else "the predictions on dev are nearly all right, and it cannot tell how sure they may be"
        )
        display.warn(f"the temperature ended at its bound of {decision.bound:g}: {why}")


def _label_table(event: FinetuneStarted) -> RenderableType:
    rows: list[list[object]] = [[label, count] for label, count in event.labels.items()]
    if event.weights is None:
        return make_table("training labels", ["label", "rows"], rows)
    weighed = [[*row, weight] for row, weight in zip(rows, event.weights.values(), strict=True)]
    return make_table("training labels", ["label", "rows", "weight"], weighed)


class PretrainingView(RunView[PretrainingFinished]):
    """Draws the events of a run of pretraining."""

    finished_type = PretrainingFinished

    def start(self, event: PretrainingStarted) -> None:
        """Say what is learned from how many rows."""
        processes = f" in {event.processes} processes" if event.processes > 1 else ""
        self.display.line(
            f"{event.pairs:,} pairs and {event.texts:,} single texts, {event.epoch_rows:,} rows an epoch, "
            f"{event.dev_rows:,} rows held out; rows of up to {event.max_length} tokens"
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
            f"{self.rows / seconds:,.0f} rows/s  {self.tokens / seconds:,.0f} tokens/s  "
            f"{format_bytes(peak_memory())}"
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


class SeriesView:
    """Draws the events of a series of runs.

    Args:
        training: Draws those of each run.
    """

    def __init__(self, training: TrainingView) -> None:
        self.training, self.display = training, training.display

    def follow(self, events: Iterable[SeriesEvent]) -> SeriesFinished | None:
        """Draw all events; return the last one, or None where the series was interrupted."""
        introduced = False
        try:
            for event in events:
                if isinstance(event, SeriesFinished):
                    return event
                if isinstance(event, RunStarted):
                    self.display.line(f"run {event.run} of {event.runs}, seed {event.seed}")
                elif isinstance(event, RunDone):
                    if event.kept:
                        self.display.line("done already, and kept")
                elif isinstance(event, FinetuneStarted) and introduced:
                    self.training.go_on(event)  # its data and model are those of the run before
                else:
                    self.training.show(event)
                if isinstance(event, FinetuneStarted) and not introduced:
                    introduced = True
                    if self.training.resumable:
                        self.training.stop.arm()
        finally:
            self.training.stop.disarm()
        return None


def show_series(series: Series) -> None:
    """Print the scores of all runs on stdout, the best one marked, and their means."""
    spreads = {
        f"{where} {name_metric(name)}": spread[name]
        for where, spread in (("dev", series.dev), ("test", series.test))
        for name in dict.fromkeys((series.metric, "accuracy", "rmse"))
        if name in spread
    }
    rows: list[list[object]] = [
        [
            f"{run.seed}",
            f"{run.best_epoch}",
            *(spread.values[place] for spread in spreads.values()),
            "best on dev" if place == series.best else "",
        ]
        for place, run in enumerate(series.runs)
    ]
    rows.append(["mean ± sd", "", *(format_spread(each.mean, each.sd) for each in spreads.values()), ""])
    columns = ["seed", "best epoch", *spreads, ""]
    show(make_table(f"{len(series.runs)} runs", columns, rows, figures=columns[1:-1]))
