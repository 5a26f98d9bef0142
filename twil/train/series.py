"""What several runs of the same settings say together: means, spreads, and which run is the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from twil.core.errors import ModelError
from twil.train.loop import is_better


@dataclass(frozen=True)
class Spread:
    """One figure over several runs.

    Attributes:
        values: One for each run.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Their sample standard deviation (n - 1 below the line); None for a single run."""
        return stdev(self.values) if len(self.values) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Describe the figure in JSON's types."""
        return {"mean": self.mean, "sd": self.sd, "values": list(self.values)}


@dataclass(frozen=True)
class Run:
    """What one run came to.

    Attributes:
        seed: Its seed.
        metric: The score on dev that decides which run is the best.
        best_epoch: The epoch whose weights it kept.
        dev: Scores on dev, by name.
        test: Scores on the test set; empty without one.
    """

    seed: int
    metric: str
    best_epoch: int
    dev: Mapping[str, float]
    test: Mapping[str, float]


@dataclass(frozen=True)
class Series:
    """Runs of the same settings.

    Attributes:
        metric: The score on dev that decides which is the best.
        runs: In the order of their seeds.
    """

    metric: str
    runs: tuple[Run, ...]

    @property
    def best(self) -> int:
        """The place of the best run by dev; the first of equals. The test set has no say."""
        place = 0
        for number, run in enumerate(self.runs):
            if is_better(self.metric, run.dev[self.metric], self.runs[place].dev[self.metric]):
                place = number
        return place

    @property
    def value(self) -> Spread:
        """The score that decides, over all runs."""
        return self.dev[self.metric]

    @property
    def dev(self) -> dict[str, Spread]:
        """Each score on dev, over all runs."""
        return _spread([run.dev for run in self.runs])

    @property
    def test(self) -> dict[str, Spread]:
        """Each score on the test set, over all runs; empty without one."""
        return _spread([run.test for run in self.runs])

    def as_dict(self) -> dict[str, Any]:
        """Describe the series in JSON's types; `parse` reads it back."""
        sets = {"dev": self.dev, "test": self.test}
        return {
            "metric": self.metric,
            "seeds": [run.seed for run in self.runs],
            "best_seed": self.runs[self.best].seed,
            "best_epochs": [run.best_epoch for run in self.runs],
            **{
                name: {metric: spread.as_dict() for metric, spread in spreads.items()}
                for name, spreads in sets.items()
                if spreads
            },
        }

    @classmethod
    def parse(cls, value: Any, *, source: str) -> Series:
        """Read what `as_dict` gave.

        Args:
            value: The decoded JSON.
            source: Where it comes from, for the error.

        Raises:
            ModelError: It does not describe a series.
        """
        try:
            runs = tuple(
                Run(
                    seed,
                    value["metric"],
                    epoch,
                    *(_pick(value.get(name, {}), place) for name in ("dev", "test")),
                )
                for place, (seed, epoch) in enumerate(zip(value["seeds"], value["best_epochs"], strict=True))
            )
            series = cls(value["metric"], runs)
            series.value  # noqa: B018  # there is a first run, and it has that score
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"{source} does not tell of several runs: start anew with --force") from error
        return series


def _spread(scores: list[Mapping[str, float]]) -> dict[str, Spread]:
    return {name: Spread(tuple(score[name] for score in scores)) for name in scores[0]}


def _pick(spreads: Mapping[str, Any], place: int) -> dict[str, float]:
    return {name: float(spread["values"][place]) for name, spread in spreads.items()}
