"""The curves of a run, from the log that it wrote."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from twil.config.loop import LOG
from twil.core.errors import DataError
from twil.evaluation.pages.figure import COLOURS, check_ending, draw_legend, figure_file


@dataclass
class Curve:
    """One figure of a run over its optimiser steps, in ascending order."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.steps)

    def append(self, step: int, value: float) -> None:
        """Add the figure of one step."""
        self.steps.append(step)
        self.values.append(value)


@dataclass(frozen=True)
class Curves:
    """What a run has written about itself.

    Attributes:
        path: The log.
        train: Figures of the training steps, by their keys in the log, such as ``loss`` and ``lr``.
        dev: Figures of the evaluations.
        best: The step of the best evaluation; None without one.
        cut: Whether the last line was left unfinished, as by a run that was killed.
    """

    path: Path
    train: dict[str, Curve]
    dev: dict[str, Curve]
    best: int | None
    cut: bool

    @property
    def last_step(self) -> int:
        """The last step that the log tells of."""
        return max(series.steps[-1] for series in (*self.train.values(), *self.dev.values()))


@dataclass(frozen=True)
class CurvePanel:
    """One drawing: a figure of the log, what it is called, and how its axis is made."""

    key: str
    title: str
    unit: str = ""
    share: bool = False
    """Whether it lies between 0 and 1."""
    from_zero: bool = False
    noisy: bool = True
    """Whether a long curve of it is easier to read with its running mean."""


PANELS = (
    CurvePanel("loss", "Loss", "nats"),
    CurvePanel("mlm_accuracy", "Accuracy on masked tokens", share=True),
    CurvePanel("rop_accuracy", "Accuracy of reply order", share=True),
    CurvePanel("vector_cosine", "Cosine of texts with the teacher's"),
    CurvePanel("token_cosine", "Cosine of tokens with the teacher's"),
    CurvePanel("agreement", "Same labels as the teacher", share=True),
    CurvePanel("macro_f1", "Macro-F1"),
    CurvePanel("stance_f1", "F1 of the stances"),
    CurvePanel("accuracy", "Accuracy", share=True),
    CurvePanel("pearson", "Pearson correlation"),
    CurvePanel("rmse", "Root mean squared error"),
    CurvePanel("lr", "Learning rate", from_zero=True, noisy=False),
    CurvePanel("tokens_per_second", "Throughput", "tokens/s", from_zero=True),
)
TRAIN_COLOUR, DEV_COLOUR = COLOURS[:2]
SMOOTHED_POINTS = 100
"""A noisy curve of more points gets a running mean."""
LEGEND_COLUMNS = 4
"""Of the legend of several runs."""
_MOST_STEPS = 2**53  # what a float, and so a drawing, tells apart


def read_curves(run: str | Path) -> Curves:
    """Read the log of a run that is done, goes on or was killed.

    Where a run was continued from an earlier step, what it had logged beyond that step gives way to what it
    logged the second time.

    Args:
        run: A model folder, the ``.checkpoint`` folder of a run, or a ``log.jsonl``.

    Raises:
        DataError: There is no log, it holds no steps, or a line before the last is damaged.
    """
    path = _find(Path(run))
    train: list[dict[str, Any]] = []
    dev: list[dict[str, Any]] = []
    cut = False
    for event in _events(path):
        if event is None:
            cut = True
        elif event["event"] == "step":
            _drop(train, event["step"])
            _drop(dev, event["step"] + 1)  # one at this very step may be logged before it
            train.append(event)
        elif event["event"] == "evaluation":
            _drop(dev, event["step"])
            dev.append(event)
    if not train and not dev:
        raise DataError("there are no steps in it yet: draw it once the run has taken some", file=path)
    best = [event["step"] for event in dev if event.get("best")]
    return Curves(
        path,
        train=_collect((event["step"], event) for event in train),
        dev=_collect((event["step"], event["metrics"]) for event in dev),
        best=best[-1] if best else None,
        cut=cut,
    )


def draw_curves(runs: Mapping[str, Curves], output: str | Path) -> tuple[str, ...]:
    """Draw the curves of runs over each other into a file, which appears whole or not at all.

    Args:
        runs: What is drawn, by the runs' names.
        output: Its ending, one of `twil.evaluation.pages.figure.ENDINGS`, decides the format.

    Returns:
        The titles of what was drawn.

    Raises:
        ConfigError: The ending is another.
        DataError: No log has any of the figures that are drawn.
        MissingExtraError: Matplotlib is not installed.
    """
    check_ending(output)
    keys = dict.fromkeys(key for curves in runs.values() for key in (*curves.train, *curves.dev))
    panels = [panel for panel in PANELS if panel.key in keys]
    if not panels:
        raise DataError(
            f"it has nothing to draw ({', '.join(keys) or 'no figures'}): give the log of a training",
            file=next(iter(runs.values())).path,
        )
    rows = math.ceil(len(panels) / 2)
    with figure_file(output, width=10, height=0.6 + 2.7 * rows, purpose="twil plot") as figure:
        grid = figure.add_gridspec(rows, 2)
        # The first of an odd number is as wide as two.
        places = [grid[0, :]] if len(panels) % 2 else []
        places += [grid[row, column] for row in range(len(places), rows) for column in (0, 1)]
        for panel, place in zip(panels, places, strict=True):
            axes = figure.add_subplot(place)
            for number, (name, curves) in enumerate(runs.items()):
                if len(runs) == 1:
                    _draw(axes, panel, curves, (TRAIN_COLOUR, DEV_COLOUR), "")
                else:
                    colour = COLOURS[number % len(COLOURS)]
                    _draw(axes, panel, curves, (colour, colour), f"{name}: ")
            _dress(axes, panel, max(curves.last_step for curves in runs.values()))
        draw_legend(figure, columns=None if len(runs) == 1 else LEGEND_COLUMNS)
    return tuple(panel.title for panel in panels)


def _find(run: Path) -> Path:
    # While a run goes on, there is only the folder of its state.
    places = (run, run / LOG, run.with_name(f"{run.name}.checkpoint") / LOG) if run.name else (run / LOG,)
    for place in places:
        if place.is_file():
            return place
    raise DataError(
        f"there is no {LOG}: give a model folder, the .checkpoint folder of a run, or a log", file=run
    )


def _events(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yield the events that have a step, and None for a last line that was cut."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    event = json.loads(line)
                    if "step" in event:
                        yield _event(event)
                except (ValueError, TypeError, KeyError, RecursionError) as error:
                    if line.endswith("\n"):
                        said = "is no line of a log that twil wrote: give another file"
                        raise DataError(said, file=path, line=number) from error
                    yield None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=path) from error


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Check one event that has a step; whatever is wrong with it raises what JSON's reader may raise."""
    step, metrics = operator.index(event["step"]), event.get("metrics") or {}
    if not 0 <= step < _MOST_STEPS:
        raise ValueError(f"there is no step {step}")
    if not isinstance(metrics, dict):
        raise TypeError("metrics are named")
    return {**event, "event": str(event["event"]), "step": step, "metrics": metrics}


def _drop(events: list[dict[str, Any]], step: int) -> None:
    """Take away the events of a step and of those after it."""
    while events and events[-1]["step"] >= step:
        events.pop()


def _collect(points: Iterator[tuple[int, Mapping[str, Any]]]) -> dict[str, Curve]:
    """Sort the numbers of all points by their keys."""
    found: dict[str, Curve] = {}
    for step, figures in points:
        for key, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and key != "step":
                found.setdefault(key, Curve()).append(step, float(value))
    return found


def _draw(axes: Any, panel: CurvePanel, curves: Curves, colours: tuple[str, str], of: str) -> None:
    train_colour, dev_colour = colours
    if train := curves.train.get(panel.key):
        many = panel.noisy and len(train) > SMOOTHED_POINTS
        style: dict[str, Any] = {"alpha": 0.3, "linewidth": 0.8} if many else {"linewidth": 1.6}
        axes.plot(train.steps, train.values, color=train_colour, label=f"{of}train", **style)
        if many:
            mean = running_mean(train.values, len(train) // 50)
            axes.plot(train.steps, mean, color=train_colour, linewidth=1.6, label=f"{of}train, running mean")
    if dev := curves.dev.get(panel.key):
        marks = {"marker": "o", "markersize": 4, "linestyle": "--", "linewidth": 1.2}
        axes.plot(dev.steps, dev.values, color=dev_colour, label=f"{of}dev", **marks)
        if curves.best in dev.steps:
            value = dev.values[dev.steps.index(curves.best)]
            star = {"marker": "*", "markersize": 13, "linestyle": "none", "markeredgecolor": "black"}
            axes.plot([curves.best], [value], color=dev_colour, label=f"{of}dev, best", **star)


def _dress(axes: Any, panel: CurvePanel, last_step: int) -> None:
    """Give a drawing its title, limits, units and grid."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(panel.title, loc="left")
    axes.set_xlabel("step")
    axes.set_ylabel(panel.unit)
    axes.set_xlim(0, max(last_step, 1))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %" if panel.share else f"{value:,.10g}")
    if panel.from_zero:
        axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Average each value with those around it.

    Args:
        values: The values; one that is not finite spoils only the means that it is part of.
        width: How many neighbours each side has. The first values have fewer, on both sides alike, since a
            loss falls steeply there; the last ones lack those on the right.
    """
    figures = np.asarray(values, dtype=np.float64)
    places = np.arange(len(figures))
    reach = np.minimum(width, places)
    begins, ends = places - reach, np.minimum(places + reach + 1, len(figures))
    finite = np.isfinite(figures)
    # A mean is the difference of two running sums: its time does not grow with the width.
    sums, spoilt = (
        np.concatenate([[0], np.cumsum(part)]) for part in (np.where(finite, figures, 0.0), ~finite)
    )
    means = (sums[ends] - sums[begins]) / (ends - begins)
    smooth: list[float] = np.where(spoilt[ends] > spoilt[begins], np.nan, means).tolist()
    return smooth
