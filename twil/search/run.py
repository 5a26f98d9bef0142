"""Search: many settings tried, each with several seeds; the winner is the best mean on dev.

The study lies on disk, so that a search that was interrupted, or killed, goes on with the very trials that
were under way, from their last checkpoints. The test set is scored once, by the winner, at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twil.config.search import Plan
from twil.config.space import Point
from twil.config.training import FinetuneConfig
from twil.core.errors import ConfigError, ModelError, TwilError, require
from twil.core.interruption import check_same_settings
from twil.core.storage import sole_writer, with_name
from twil.data.labelled import LabelledColumns, Sample
from twil.evaluation.evaluate import evaluate
from twil.model.folder import read_run, versions
from twil.scores.metrics import Report
from twil.search.check import check_plan, without_test
from twil.search.events import (
    SearchEvent,
    SearchFinished,
    SearchInterrupted,
    SearchStarted,
    TrialAdvanced,
    TrialDone,
    TrialRetried,
    TrialStarted,
)
from twil.search.executor import Assignment, Ended, Executor, Failed, InProcessExecutor, Lost, Message
from twil.search.folder import SearchFolder
from twil.search.processes import Processes
from twil.search.study import Study, quiet
from twil.search.trials import TrialResult, best_of, table
from twil.train.distributed import check_alone
from twil.train.finetune import FinetuneStarted, describe_sets, read_sets
from twil.train.loop import Evaluated, Interrupted, StepDone
from twil.train.runs import RunStarted, SeriesEvent, SeriesFinished, with_seed

FORMAT = 1
DEATHS = 2
"""How often the process of a trial may die before the trial has failed."""


def search(
    plan: Plan,
    output: str | Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    keep_trials: bool = False,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[SearchEvent]:
    """Try many settings and write the results, the best settings and their model.

    Args:
        plan: What is tried, and how.
        output: The folder to write: ``results.tsv``, ``results.json``, ``best.toml`` and the model folder
            ``best``; while it goes on also the study and the trials.
        jobs: Processes that do trials beside each other.
        resume: Continue the interrupted search of the same settings, if there is one. It may be given more
            trials.
        overwrite: Replace a search that is there.
        keep_trials: Keep the model folder of every trial.
        device: ``auto``, ``cpu`` or ``cuda``.
        should_stop: Asked after every step; true keeps the state and ends with `SearchInterrupted`.

    Yields:
        `SearchStarted`, then what happens in trials, then `SearchFinished` (or `SearchInterrupted`).

    Raises:
        ConfigError: A setting does not fit, or those of an interrupted search were others.
        DataError: A file cannot be used.
        ModelError: A model cannot be loaded, or no trial came to its end.
        TwilError: The output is taken, or another process writes it.
        MissingExtraError: Optuna is not installed.
    """
    begin = time.monotonic()
    check_alone("a search")
    if jobs < 1:
        raise ConfigError(f"{jobs} processes do nothing: give --jobs 1 or more")
    require("optuna", purpose="a search")
    folder = SearchFolder(with_name(output))
    with sole_writer(folder.root), quiet():
        folder.check_vacant(resume=resume, overwrite=overwrite)
        data, shared = check_plan(plan, device)
        folder.make(anew=overwrite and not resume)
        config = plan.config(next(plan.space.probes()))
        study = Study(folder.journal, plan, metric=data.metric, seed=config.train.seed)
        if study.fingerprint is None:
            study.fingerprint = shared
        check_same_settings(folder.root, study.fingerprint or {}, shared)
        study.plan_ahead()
        search = _Search(plan, folder, study, device=device, keep_trials=keep_trials)
        yield SearchStarted(plan, study.metric, search.seeds, len(study.results()), jobs, data)
        search.tidy()
        with InProcessExecutor(should_stop) if jobs == 1 else Processes(jobs) as executor:
            yield from search.run(executor, should_stop)
        last = SearchInterrupted(len(study.results())) if search.stopping else search.finish(begin)
    yield last  # here, so that who stops listening at it does not keep the output


@dataclass
class _Trial:
    """A trial that is under way."""

    assignment: Assignment
    point: Point
    begin: float = field(default_factory=time.monotonic)
    run: int = 1
    deaths: int = 0


class _Search:
    """The one who leads: gives trials out, notes what becomes of them, and writes the end."""

    def __init__(
        self, plan: Plan, folder: SearchFolder, study: Study, *, device: str, keep_trials: bool
    ) -> None:
        self.plan, self.folder, self.study = plan, folder, study
        self.device, self.keep_trials = device, keep_trials
        self.seeds = tuple(study.seed + number for number in range(plan.search.runs))
        self.trials: dict[int, _Trial] = {}
        self.waiting: list[tuple[int, Point]] = []  # trials whose point is under way
        self.stopping = False

    def run(self, executor: Executor, should_stop: Callable[[], bool]) -> Iterator[SearchEvent]:
        """Do all trials that are left, until the end or a stop."""
        while True:
            if not self.stopping and should_stop():
                self.stopping = True
                executor.stop()
            if not self.stopping and executor.free and (taken := self._take()):
                yield from self._begin(executor, *taken)
                continue
            if not self.trials:
                return
            for number, message in executor.messages():
                yield from self._hear(executor, number, message)

    def _take(self) -> tuple[int, Point] | None:
        """Give the trial to do next; None where there is none, or none before another has ended."""
        if not self.waiting:
            return self.study.take()
        ready = (place for place, (_, point) in enumerate(self.waiting) if not self._is_under_way(point))
        place = next(ready, None)
        return None if place is None else self.waiting.pop(place)

    def _is_under_way(self, point: Point) -> bool:
        return any(trial.point == point for trial in self.trials.values())

    def _begin(self, executor: Executor, number: int, point: Point) -> Iterator[SearchEvent]:
        if repeated := self.study.repeat(number):
            yield self._done(repeated)
            return
        if self._is_under_way(point):
            self.waiting.append((number, point))
            return
        config = without_test(self.plan.config(point))
        trial = _Trial(
            Assignment(number, config, self.folder.trial(number), self.plan.search.runs, self.device), point
        )
        self.trials[number] = trial
        executor.start(trial.assignment)
        yield TrialStarted(number, point)

    def _hear(self, executor: Executor, number: int, message: Message) -> Iterator[SearchEvent]:
        trial = self.trials[number]
        if isinstance(message, SeriesFinished):
            self.study.complete(number, message.series, self._end(number))
            yield self._done(self.study.result(number))
        elif isinstance(message, Ended):
            self.study.prune(number, self._end(number))
            yield self._done(self.study.result(number))
        elif isinstance(message, Interrupted):
            self.stopping = True
            self._end(number)
        elif isinstance(message, Lost):
            yield from self._lose(executor, number, message)
        elif isinstance(message, Failed):
            if not message.alone:
                raise TwilError(message.error)
            yield self._fail(number, message.error)
        else:
            if isinstance(message, RunStarted):
                trial.run = message.run
            if not isinstance(message, StepDone):
                executor.answer(number, "end" if self._is_hopeless(trial, message) else "go on")
            yield TrialAdvanced(number, trial.run, message)

    def _is_hopeless(self, trial: _Trial, message: SeriesEvent) -> bool:
        """Note what the first run of a trial scored, and tell whether the trial is to end there."""
        # A run that goes on says what it scored last, which a killed search may not have noted.
        found = message.evaluated if isinstance(message, FinetuneStarted) else message
        if trial.run > 1 or not isinstance(found, Evaluated):
            return False
        assignment = trial.assignment
        hopeless = self.study.report(assignment.trial, found.number, found.metrics[self.study.metric])
        return hopeless and (not found.last or assignment.runs > 1)

    def _lose(self, executor: Executor, number: int, lost: Lost) -> Iterator[SearchEvent]:
        """Take up a trial again whose process has died; one that kills every process has failed."""
        trial = self.trials[number]
        trial.deaths += 1
        if self.stopping:
            self._end(number)
        elif trial.deaths >= DEATHS:
            yield self._fail(number, f"its process died {trial.deaths} times, at last by {lost.how}")
        else:
            trial.run = 1
            executor.start(trial.assignment)
            yield TrialRetried(number, lost.how)

    def _fail(self, number: int, reason: str) -> TrialDone:
        self._end(number)
        self.study.fail(number, reason)
        return self._done(self.study.result(number))

    def _end(self, number: int) -> float:
        return time.monotonic() - self.trials.pop(number).begin

    def _done(self, result: TrialResult) -> TrialDone:
        results = self.tidy()
        return TrialDone(result, len(results), best_of(results, self.study.metric))

    def tidy(self) -> list[TrialResult]:
        """Write the results so far, and remove the models of trials that cannot win any more."""
        results = self.study.results()
        best = best_of(results, self.study.metric)
        ended = [result.trial for result in results]
        kept = ended if self.keep_trials else [best.trial] if best else []
        self.folder.clear_trials(kept, ended)
        self._write(results, None)
        return results

    def finish(self, begin: float) -> SearchFinished:
        """Score the winner on the test set, and write the end of the search.

        Raises:
            ModelError: No trial came to its end.
        """
        results = self.study.results()
        best = best_of(results, self.study.metric)
        if best is None or best.series is None:
            reasons = "; ".join(dict.fromkeys(result.reason for result in results if result.reason))
            raise ModelError(f"no trial came to its end ({reasons}): search among other settings")
        series = best.series
        seed = series.runs[series.best].seed
        config = with_seed(self.plan.config(best.point), seed)
        source = self.folder.trial(best.trial)
        record = read_run(source)
        dev, test = Report(**record["results"]["dev"]), self._score(source, config)
        if test:
            record["results"]["test"] = test.as_dict()
            record["data"] = describe_sets(read_sets(config.data))
            record["config"]["data"]["test"] = str(config.data.test)
        record["search"] = {"trial": best.trial, "trials": len(results), "settings": dict(best.point)}
        winner = {"trial": best.trial, "seed": seed, **record["results"]}
        self._write(results, winner)
        self.folder.write_winner(best.trial, record, config, _say(best, len(results), self.study.metric))
        if not self.keep_trials:
            self.folder.clear_trials([], [result.trial for result in results])
            with suppress(OSError):  # what else lies there stays
                self.folder.trials.rmdir()
        return SearchFinished(self.folder.root, results, best, dev, test, time.monotonic() - begin)

    def _score(self, source: Path, config: FinetuneConfig) -> Report | None:
        data = config.data
        if data.test is None:
            return None
        return evaluate(
            source,
            data.test,
            columns=LabelledColumns.of(data),
            sample=Sample(data.limit, data.shuffle_seed),
            order=data.labels,
            batch_tokens=config.train.batch_tokens,
            device=self.device,
        ).report

    def _write(self, results: list[TrialResult], winner: dict[str, Any] | None) -> None:
        metric, space = self.study.metric, self.plan.space
        rows = table(results, metric, [each.name for each in space.dimensions])
        whole = {
            "format": FORMAT,
            "metric": metric,
            "sampler": self.plan.sampler,
            "trials_planned": self.plan.trials,
            "seeds": list(self.seeds),
            "pruning": self.plan.search.prune,
            "space": space.as_dict(),
            "winner": winner,
            "trials": [result.as_dict() for result in results],
            "versions": versions(),
        }
        self.folder.write_results(rows, whole)


def _say(best: TrialResult, trials: int, metric: str) -> str:
    assert best.series is not None
    value = best.series.value
    seeds = (
        ""
        if value.sd is None
        else f" ± {value.sd:.4f} over {len(value.values)} seeds; this is the best of them"
    )
    return f"Trial {best.trial} of {trials}: {metric} on dev {value.mean:.4f}{seeds}."
