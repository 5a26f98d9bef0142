"""What a search tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from twil.config.search import Plan
from twil.config.space import Point
from twil.scores.metrics import Report
from twil.search.trials import TrialResult
from twil.train.finetune import FinetuneStarted
from twil.train.runs import SeriesEvent


@dataclass(frozen=True)
class SearchStarted:
    """All settings are checked, and the study is open.

    Attributes:
        plan: What is tried, and how.
        metric: The score on dev that decides.
        seeds: Of each trial.
        ended: Trials that earlier sittings have done.
        jobs: Processes that work beside each other.
        data: The rows and the model of the first point.
    """

    plan: Plan
    metric: str
    seeds: tuple[int, ...]
    ended: int
    jobs: int
    data: FinetuneStarted


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins, or goes on.

    Attributes:
        trial: Its number, from 1.
        point: What it has of each setting that is tried.
    """

    trial: int
    point: Point


@dataclass(frozen=True)
class TrialAdvanced:
    """Something happened in a trial.

    Attributes:
        trial: Its number.
        run: The run that is under way, from 1.
        event: What happened.
    """

    trial: int
    run: int
    event: SeriesEvent


@dataclass(frozen=True)
class TrialDone:
    """A trial has ended.

    Attributes:
        result: What became of it.
        ended: Trials that have ended so far.
        best: The best of them; None before the first that is done.
    """

    result: TrialResult
    ended: int
    best: TrialResult | None


@dataclass(frozen=True)
class TrialRetried:
    """The process of a trial has died, and the trial is taken up again.

    Attributes:
        trial: Its number.
        how: How the process ended.
    """

    trial: int
    how: str


@dataclass(frozen=True)
class SearchInterrupted:
    """The search was asked to stop, and its state is kept.

    Attributes:
        ended: Trials that have ended.
    """

    ended: int


@dataclass(frozen=True)
class SearchFinished:
    """The results and the winner are written.

    Attributes:
        folder: Where.
        results: All trials.
        best: The winner.
        dev: Scores of its best run on dev.
        test: Its scores on the test set; None without one.
        seconds: Time of this sitting.
    """

    folder: Path
    results: list[TrialResult]
    best: TrialResult
    dev: Report
    test: Report | None
    seconds: float


SearchEvent: TypeAlias = (
    SearchStarted
    | TrialStarted
    | TrialAdvanced
    | TrialDone
    | TrialRetried
    | SearchInterrupted
    | SearchFinished
)
