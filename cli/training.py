"""How a fine-tuning run looks while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import RenderableType

from twil.cli.console import Display, make_table
from twil.cli.pitfalls import warn_of_constant, warn_of_overlaps
from twil.cli.run_view import RunView
from twil.core.errors import ConfigError
from twil.scores.names import name_metric
from twil.train.finetune import Finished, Started
from twil.train.loop import Evaluated, Interrupted, StepDone


class TrainingView(RunView[Finished]):
    """Draws the events of a run of fine-tuning."""

    finished_type = Finished

    def __init__(self, display: Display, *, resumable: bool = True) -> None:
        super().__init__(display, resumable=resumable)
        self.epochs = 0
        self.metric, self.kind = "loss", "class"

    def start(self, event: Started) -> None:
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
        """Say where the run stands, and how long it takes at most, since patience may end it sooner."""
        self.epochs = event.epochs
        return (
            f"epoch {event.epoch}/{event.epochs}  step {event.step:,}/{event.steps:,}  "
            f"loss {event.loss:.4f}  lr {event.lr:.2e}  {self.rows / seconds:,.0f} texts/s  "
            f"at most {self.time_left(event, seconds)} left"
        )

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


def warn_of_data(display: Display, event: Started) -> None:
    """Say what of the data is not as it might be thought."""
    for name, count in event.blank.items():
        if count:
            display.warn(f"blank lines of {name} left out: {count:,}")
    for name, count in event.truncated.items():
        if count:
            display.warn(f"texts of {name} cut at {event.max_length} pieces: {count:,}")
    warn_of_overlaps(display, event.pitfalls.overlaps)
    warn_of_constant(display, event.pitfalls.constant)


def show_decision(finished: Finished, display: Display) -> None:
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
            else "the answers on dev are nearly all right, and it cannot tell how sure they may be"
        )
        display.warn(f"the temperature ended at its bound of {decision.bound:g}: {why}")


def read_weights(text: str | None) -> str | dict[str, float] | None:
    """Read class weights: the name of a rule, or ``LABEL=WEIGHT`` with commas between them.

    Raises:
        ConfigError: A weight is no number.
    """
    if text is None or "=" not in text:
        return text
    pairs = [pair.rpartition("=") for pair in text.split(",")]
    try:
        return {label.strip(): float(weight) for label, _, weight in pairs}
    except ValueError as error:
        raise ConfigError(
            f"--class-weights takes none, balanced, max-ratio, or LABEL=WEIGHT,…, not '{text}'"
        ) from error


def _label_table(event: Started) -> RenderableType:
    rows: list[list[object]] = [[label, count] for label, count in event.labels.items()]
    if event.weights is None:
        return make_table("training labels", ["label", "rows"], rows)
    weighed = [[*row, weight] for row, weight in zip(rows, event.weights.values(), strict=True)]
    return make_table("training labels", ["label", "rows", "weight"], weighed)
