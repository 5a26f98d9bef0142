"""The study of a search: which points were tried and what they gave, in Optuna's journal on disk.

One process writes it, the one that leads the search. A journal of lines is taken rather than SQLite: each
line is flushed to disk before the next, a line that a kill has cut is known by its missing end, and nothing
but a file is needed where it lies, network folders included.

Nothing random is carried along: a point is a function of the seed, its number, and what is in the study.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from twil.config.loop import LOWER_IS_BETTER
from twil.config.search import Plan
from twil.config.space import Choices, Dimension, Point, Value
from twil.core.errors import ModelError, first_line, require
from twil.search.trials import TrialResult
from twil.train.series import Series

if TYPE_CHECKING:  # an import of half a second
    import optuna

PRUNING_TRIALS = 5
"""Trials that must be done, and have scores of the same evaluation, before one is pruned."""
PRUNING_EVALUATIONS = 1
"""Evaluations of a first run that never end it: under a warm-up the first ones say little."""
STARTUP_TRIALS = 10
"""Trials at random before `tpe` learns from them."""
_DRAWS = 100  # for one point that is not there yet
_NAME = "twil"
_FINGERPRINT = "fingerprint"


class Study:
    """The trials of a search.

    Args:
        path: The journal; it is made where there is none.
        plan: The search.
        metric: The score on dev that decides.
        seed: Of the points.

    Raises:
        ModelError: The journal cannot be read.
    """

    def __init__(self, path: Path, plan: Plan, *, metric: str, seed: int) -> None:
        self.plan, self.metric, self.seed = plan, metric, seed
        self.distributions = {each.name: _distribution(each) for each in plan.space.dimensions}
        _cut(path)
        try:
            self._study = _open(path, "minimize" if metric in LOWER_IS_BETTER else "maximize")
            states = [trial.state.name for trial in self._study.get_trials(deepcopy=False)]
        except Exception as error:  # a damaged journal may raise anything
            raise ModelError(
                f"{path} cannot be read ({first_line(error)}): copy it again, or start anew with --force"
            ) from error
        self._interrupted = [number for number, state in enumerate(states) if state == "RUNNING"]
        self._trials: dict[int, optuna.Trial] = {}

    @property
    def fingerprint(self) -> Mapping[str, Any] | None:
        """What the trials share; None in a new study."""
        found: Mapping[str, Any] | None = self._study.user_attrs.get(_FINGERPRINT)
        return found

    @fingerprint.setter
    def fingerprint(self, value: Mapping[str, str]) -> None:
        self._study.set_user_attr(_FINGERPRINT, dict(value))

    def plan_ahead(self) -> None:
        """Write down the points that follow from the seed alone, those that are not there yet."""
        if self.plan.sampler == "tpe":
            return
        there = len(self._study.get_trials(deepcopy=False))
        points = self.plan.space.grid() if self.plan.sampler == "grid" else self._random_points()
        for number, point in enumerate(points):
            if number >= there:
                self._study.enqueue_trial(point)

    def take(self) -> tuple[int, Point] | None:
        """Give the number, from 1, and the point of the trial to do next; None where there is none.

        Those that an interrupted search has begun come first.
        """
        import optuna

        trials = self._study.get_trials(deepcopy=False)
        if self._interrupted:
            number = self._interrupted.pop(0)
            trial = optuna.Trial(self._study, trials[number]._trial_id)
        else:
            if not any(trial.state.name == "WAITING" for trial in trials):
                if self.plan.sampler != "tpe" or len(trials) >= self.plan.trials:
                    return None
                # First written as a whole, so that a kill leaves no trial with half of its settings.
                self._study.enqueue_trial(self._propose(len(trials)))
            trial = self._study.ask()
        point = {each.name: _suggest(trial, each) for each in self.plan.space.dimensions}
        self._trials[trial.number + 1] = trial
        return trial.number + 1, point

    def repeat(self, number: int) -> TrialResult | None:
        """End a trial whose point was tried already with the result of then; None where it is a new one."""
        trial = self._trials[number]
        for result in self.results():
            if result.point == trial.params and result.repeats is None:
                trial.set_user_attr("repeats", result.trial)
                # Beside the scores that trials are held to: there they are once.
                trial.set_user_attr("evaluations", list(result.evaluations))
                if result.series:
                    self.complete(number, result.series, 0.0)
                elif result.state == "pruned":
                    self.prune(number, 0.0)
                else:
                    self.fail(number, result.reason)
                return self.result(number)
        return None

    def report(self, number: int, evaluation: int, value: float) -> bool:
        """Note what the first run of a trial scored, and tell whether the trial is to be ended.

        Args:
            number: The trial's.
            evaluation: Which of the run, from 1; one that is noted already stays as it is.
            value: The score.
        """
        trial = self._trials[number]
        noted = self._study.get_trials(deepcopy=False)[number - 1].intermediate_values
        if evaluation not in noted:
            trial.report(value, evaluation)
        return self.plan.search.prune and trial.should_prune()

    def complete(self, number: int, series: Series, seconds: float) -> None:
        """Note that all runs of a trial are done."""
        if not math.isfinite(series.value.mean):
            self.fail(number, f"{self.metric} is no number")
            return
        self._trials[number].set_user_attr("runs", series.as_dict())
        self._tell(number, "COMPLETE", seconds, series.value.mean)

    def prune(self, number: int, seconds: float) -> None:
        """Note that a trial was ended early."""
        self._tell(number, "PRUNED", seconds)

    def fail(self, number: int, reason: str) -> None:
        """Note that a trial cannot go on."""
        self._trials[number].set_user_attr("reason", reason)
        self._tell(number, "FAIL", 0.0)

    def results(self) -> list[TrialResult]:
        """Give the trials that have ended, in the order of their numbers."""
        states = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}
        results = []
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.name not in states:
                continue
            told = trial.user_attrs
            results.append(
                TrialResult(
                    trial.number + 1,
                    dict(trial.params),
                    states[trial.state.name],  # type: ignore[arg-type]  # these are its values
                    Series.parse(told["runs"], source="the study") if "runs" in told else None,
                    tuple(
                        told.get("evaluations")
                        or (value for _, value in sorted(trial.intermediate_values.items()))
                    ),
                    told.get("reason", ""),
                    told.get("repeats"),
                    told.get("seconds", 0.0),
                )
            )
        return results

    def result(self, number: int) -> TrialResult:
        """Give a trial that has ended."""
        return next(result for result in self.results() if result.trial == number)

    def _tell(self, number: int, state: str, seconds: float, value: float | None = None) -> None:
        import optuna

        trial = self._trials.pop(number)
        trial.set_user_attr("seconds", seconds)
        self._study.tell(trial, value, state=optuna.trial.TrialState[state])

    def _propose(self, number: int) -> Point:
        """Draw a point from what the trials so far gave."""
        import optuna

        sampler = optuna.samplers.TPESampler(seed=_seed(self.seed, number), n_startup_trials=STARTUP_TRIALS)
        memory = optuna.create_study(sampler=sampler, direction=self._study.direction)
        memory.add_trials(self._study.get_trials(deepcopy=False))
        return dict(memory.ask(self.distributions).params)

    def _random_points(self) -> Iterator[Point]:
        """Draw the points that follow from the seed, each once as long as there are others."""
        import optuna

        space, trials = self.plan.space, self.plan.trials
        if space.size is not None:
            lists = [each.ends for each in space.dimensions]
            for place in np.random.default_rng(self.seed).permutation(space.size)[:trials]:
                places = np.unravel_index(place, [len(values) for values in lists])
                yield {
                    each.name: values[at]
                    for each, values, at in zip(space.dimensions, lists, places, strict=True)
                }
            return
        drawn: list[Point] = []
        for number in range(trials):
            sampler = optuna.samplers.RandomSampler(seed=_seed(self.seed, number))
            study = optuna.create_study(sampler=sampler)
            points = [dict(study.ask(self.distributions).params)]
            while points[-1] in drawn and len(points) < _DRAWS:
                points.append(dict(study.ask(self.distributions).params))
            drawn.append(points[-1])  # of a range of a few whole numbers there may be no other
            yield drawn[-1]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from writing to stderr what events tell.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    logging = require("optuna", purpose="a search").logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _open(path: Path, direction: Literal["minimize", "maximize"]) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    class NoLock(JournalFileOpenLock):
        # Who opens the journal holds it for itself, and no kill leaves that lock behind as it does Optuna's.
        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            pass

    storage = JournalStorage(JournalFileBackend(str(path), lock_obj=NoLock(str(path))))
    pruner = optuna.pruners.MedianPruner(PRUNING_TRIALS, PRUNING_EVALUATIONS + 1, n_min_trials=PRUNING_TRIALS)
    sampler = optuna.samplers.RandomSampler(seed=0)  # never asked: every point is written down beforehand
    return optuna.create_study(
        study_name=_NAME,
        storage=storage,
        direction=direction,
        pruner=pruner,
        sampler=sampler,
        load_if_exists=True,
    )


def _cut(path: Path) -> None:
    """Cut off the line that a kill has left without its end."""
    if path.is_file():
        whole = path.read_bytes().rfind(b"\n") + 1
        if whole < path.stat().st_size:
            with path.open("r+b") as file:
                file.truncate(whole)


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.ends)
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return IntDistribution(dimension.low, dimension.high, log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _suggest(trial: optuna.Trial, dimension: Dimension) -> Value:
    """Read what a trial has of a dimension; what is written down for it is taken as it is."""
    if isinstance(dimension, Choices):
        return str(trial.suggest_categorical(dimension.name, dimension.ends))
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return trial.suggest_int(dimension.name, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.log)


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
