"""What became of the points that a search has tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from twil.config.loop import LOWER_IS_BETTER
from twil.config.space import Point
from twil.train.series import Series

State = Literal["done", "pruned", "failed"]


@dataclass(frozen=True)
class TrialResult:
    """One trial that has ended.

    Attributes:
        trial: Its number, from 1.
        point: What it had of each setting that is tried.
        state: Whether it ran to its end, was ended early, or could not go on.
        series: Its runs, where it is done.
        evaluations: What its first run scored at each evaluation.
        reason: Why it failed.
        repeats: The earlier trial of the same point, whose result is this one's.
        seconds: Time of training, over all sittings that ended well.
    """

    trial: int
    point: Point
    state: State
    series: Series | None
    evaluations: tuple[float, ...]
    reason: str
    repeats: int | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Describe the trial in JSON's types."""
        return {
            "trial": self.trial,
            "state": self.state,
            "settings": dict(self.point),
            **({"runs": self.series.as_dict()} if self.series else {}),
            "evaluations": list(self.evaluations),
            **({"reason": self.reason} if self.reason else {}),
            **({"repeats": self.repeats} if self.repeats else {}),
            "seconds": self.seconds,
        }


def rank(results: Iterable[TrialResult], metric: str) -> list[TrialResult]:
    """Sort trials, the best mean first and of equals the earlier; then pruned ones, then failed ones.

    Those that repeat an earlier one are left out.
    """
    sign = 1 if metric in LOWER_IS_BETTER else -1
    states = ("done", "pruned", "failed")

    def key(result: TrialResult) -> tuple[int, float, int]:
        value = result.series.value.mean if result.series else 0.0
        return states.index(result.state), sign * value, result.trial

    return sorted((result for result in results if result.repeats is None), key=key)


def best_of(results: Iterable[TrialResult], metric: str) -> TrialResult | None:
    """Give the best trial that is done; None before the first."""
    ranked = rank(results, metric)
    return ranked[0] if ranked and ranked[0].state == "done" else None


def table(results: Iterable[TrialResult], metric: str, names: Iterable[str]) -> list[Mapping[str, object]]:
    """Lay out trials as rows of named cells, sorted as `rank` does.

    Args:
        results: The trials.
        metric: What they are compared by.
        names: Of the settings that are tried.
    """
    rows: list[Mapping[str, object]] = []
    for place, result in enumerate(rank(results, metric), start=1):
        spread = result.series.value if result.series else None
        rows.append(
            {
                "rank": place if spread else "",
                "trial": result.trial,
                **{name: result.point[name] for name in names},
                "mean": spread.mean if spread else "",
                "sd": spread.sd if spread and spread.sd is not None else "",
                "runs": "|".join(map(repr, spread.values)) if spread else "",
                "state": result.state,
                "note": note(result),
            }
        )
    return rows


def note(result: TrialResult) -> str:
    """Say in a few words how a trial that has no mean ended."""
    if result.state == "pruned":
        return f"evaluation {len(result.evaluations)}: {result.evaluations[-1]:.4f}"
    return " ".join(result.reason.split())
