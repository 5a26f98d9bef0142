"""How several runs with the same settings look while they run, and what they came to."""

from __future__ import annotations

from collections.abc import Iterable

from twil.cli.console import format_spread, make_table, show
from twil.cli.training import TrainingView
from twil.scores.names import name_metric
from twil.train.finetune import Started
from twil.train.runs import RunDone, RunStarted, SeriesEvent, SeriesFinished
from twil.train.series import Series


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
                elif isinstance(event, Started) and introduced:
                    self.training.go_on(event)  # its data and model are those of the run before
                else:
                    self.training.show(event)
                if isinstance(event, Started) and not introduced:
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
