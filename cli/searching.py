"""How a search looks while it goes on, and its table at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twil.cli.console import Display, StopSignal, format_spread, make_table, show
from twil.cli.training import warn_of_data
from twil.config.search import Plan
from twil.config.space import Point, Value
from twil.search.events import (
    SearchEvent,
    SearchFinished,
    SearchInterrupted,
    SearchStarted,
    TrialAdvanced,
    TrialDone,
    TrialRetried,
)
from twil.search.trials import TrialResult, note, rank
from twil.train.loop import StepDone


class SearchView:
    """Draws the events of a search.

    Args:
        display: Where to draw.
    """

    def __init__(self, display: Display) -> None:
        self.display = display
        self.stop = StopSignal(display)
        self.trials = self.ended = self.runs = 0
        self.names: Mapping[str, str] = {}
        self.metric = self.best = ""

    def should_stop(self) -> bool:
        """Tell the search whether the user has asked it to stop."""
        return self.stop.asked

    def follow(self, events: Iterable[SearchEvent], *, resume: bool = False) -> SearchFinished | None:
        """Draw all events; return the last one, or None where the search was interrupted.

        Args:
            events: Of the search.
            resume: Whether an interrupted search was to be continued.
        """
        self.display.update("checking every value")
        try:
            for event in events:
                if isinstance(event, SearchFinished):
                    return event
                if isinstance(event, SearchStarted):
                    self._start(event, resume)
                    self.stop.arm()
                elif isinstance(event, TrialDone):
                    self._end(event)
                elif isinstance(event, TrialRetried):
                    self.display.warn(f"the process of trial {event.trial} died ({event.how}); once more")
                elif isinstance(event, SearchInterrupted):
                    self.display.line(
                        f"stopped after {event.ended} of {self.trials} trials; the state is kept"
                    )
                elif isinstance(event, TrialAdvanced) and isinstance(event.event, StepDone):
                    self._step(event, event.event)
        finally:
            self.stop.disarm()
        return None

    def _start(self, event: SearchStarted, resume: bool) -> None:
        plan = event.plan
        self.trials, self.ended, self.runs = plan.trials, event.ended, len(event.seeds)
        self.names, self.metric = short_names(plan), event.metric
        rows = ", ".join(f"{name} {count:,}" for name, count in event.data.rows.items())
        self.display.line(f"rows: {rows}; on {event.data.device}")
        warn_of_data(self.display, event.data)
        seeds = f"seeds {event.seeds[0]} to {event.seeds[-1]}" if self.runs > 1 else f"seed {event.seeds[0]}"
        pruning = "hopeless ones end early" if plan.search.prune else "all to their end"
        self.display.line(
            f"{plan.trials} trials ({plan.sampler}: {plan.reason}), {seeds}, {pruning}; "
            f"{event.metric} on dev decides"
        )
        if event.ended:
            self.display.line(f"trials that are done already: {event.ended}")
        elif resume:
            self.display.warn("no trial of an interrupted search was done yet")

    def _step(self, event: TrialAdvanced, step: StepDone) -> None:
        run = f"  run {event.run}/{self.runs}" if self.runs > 1 else ""
        self.display.update(
            f"trial {event.trial}/{self.trials}{run}  epoch {step.epoch}/{step.epochs}  "
            f"step {step.step:,}/{step.steps:,}  loss {step.loss:.4f}  {self.ended} done{self.best}"
        )

    def _end(self, event: TrialDone) -> None:
        result, self.ended = event.result, event.ended
        what = f"trial {result.trial}/{self.trials}  {format_point(result.point, self.names)}"
        if result.repeats:
            self.display.line(f"{what}  as trial {result.repeats}")
            return
        if event.best and event.best.series:
            value = event.best.series.value
            self.best = (
                f"  best {self.metric} {format_spread(value.mean, value.sd)} (trial {event.best.trial})"
            )
        best = event.best is not None and event.best.trial == result.trial
        self.display.line(f"{what}  {_outcome(result, self.metric)}{'  best so far' if best else ''}")


def show_trials(finished: SearchFinished, plan: Plan) -> None:
    """Print all trials on stdout, the best first and marked."""
    names = short_names(plan)
    assert finished.best.series is not None
    metric = finished.best.series.metric
    rows: list[list[object]] = []
    for result in rank(finished.results, metric):
        value = result.series.value if result.series else None
        rows.append(
            [
                f"{result.trial}",
                *(format_value(result.point[name]) for name in names),
                format_spread(value.mean, value.sd) if value else "",
                "best" if result == finished.best else "" if value else f"{result.state}: {note(result)}",
            ]
        )
    columns = ["trial", *names.values(), f"dev {metric}", ""]
    show(make_table(f"{len(rows)} trials", columns, rows, figures=columns[:-1]))


def short_names(plan: Plan) -> dict[str, str]:
    """Give the last part of the name of each setting that is tried, or the whole where two would be alike."""
    names = [each.name for each in plan.space.dimensions]
    last = [name.rpartition(".")[2] for name in names]
    return {name: end if last.count(end) == 1 else name for name, end in zip(names, last, strict=True)}


def format_point(point: Point, names: Mapping[str, str]) -> str:
    """Write the settings of a trial on a line."""
    return "  ".join(f"{names[name]} {format_value(value)}" for name, value in point.items())


def format_value(value: Value) -> str:
    """Write one setting of a trial; of a number that was drawn the first digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _outcome(result: TrialResult, metric: str) -> str:
    if result.series:
        return f"{metric} {format_spread(result.series.value.mean, result.series.value.sd)}"
    return f"{result.state}, {note(result)}"
