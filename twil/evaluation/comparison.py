"""What a comparison of models found."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twil.bundle.architecture import Architecture
from twil.core.machine import available_cpus, cpu_name
from twil.core.task import Task
from twil.core.version import __version__
from twil.scores.intervals import LEVEL, Interval
from twil.scores.metrics import Report, higher_is_better
from twil.scores.model_pairs import Pair
from twil.scores.significance import ALPHA

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One model, and how it did.

    Attributes:
        name: What it is called, unlike the others.
        path: Its folder.
        architecture: What it is made of; None where a bundle does not say.
        precision: Of its arithmetic.
        size: Bytes of its weights on disk.
        runtime: What computed.
        trained: Seconds that its training took; None where that is not recorded, as of a bundle.
        seconds: Time of encoding and inference, of all rows.
        truncated: Rows cut at its longest length.
        report: All scores, in the order of its own labels.
        intervals: By metric, the score on all rows and where it may as well lie.
    """

    name: str
    path: Path
    architecture: Architecture | None
    precision: str
    size: int
    runtime: str
    trained: float | None
    seconds: float
    truncated: int
    report: Report
    intervals: dict[str, Interval]

    @property
    def texts_per_second(self) -> float:
        """Rows that it answered per second."""
        return self.report.rows / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types; see `Comparison`."""
        return {
            "name": self.name,
            "path": str(self.path),
            "architecture": self.architecture.as_dict() if self.architecture else None,
            "precision": self.precision,
            "weights_bytes": self.size,
            "runtime": self.runtime,
            "training_seconds": self.trained,
            "seconds": self.seconds,
            "texts_per_second": self.texts_per_second,
            "truncated": self.truncated,
            "metrics": {name: interval._asdict() for name, interval in self.intervals.items()},
            "report": self.report.as_dict(),
        }


@dataclass(frozen=True)
class DifferingRow:
    """A row to which models give different answers.

    Attributes:
        line: Where it stands in the file.
        texts: Its text, or both of a pair.
        true: Its label.
        answers: By the models' names.
        right: The names of the models that have it wholly right; nobody has of a regression.
    """

    line: int
    texts: tuple[str, ...]
    true: str
    answers: dict[str, str]
    right: frozenset[str]


@dataclass(frozen=True)
class Comparison:
    """Models on one labelled file.

    `as_dict` gives it in JSON's types, in this layout, which stays the same within a `format`::

        format      1
        measured    the end, ISO 8601, UTC
        versions    {twil, python}
        machine     {cpu, cpus: that this process may use}
        file        path
        rows        how many it has
        task        what all models are asked
        metric      by which pairs are compared
        bootstrap   {level: of the intervals, resamples, seed, alpha: below it a corrected p is significant}
        models      [one for each, in order]
            name, path, precision, weights_bytes, runtime, seconds, texts_per_second, truncated
            training_seconds  or null
            architecture  {type, layers, heads, hidden, vocabulary, parameters}, or null
            metrics       {name: {value, low, high}}
            report        {rows, metrics, labels, confusion}
        pairs       [one for each two models]
            first, second
            difference    {value, low, high}: of the metric, the first less the second
            bootstrap     {p, holm, significant}
            mcnemar       {p, holm, first_alone_right, second_alone_right}, or null of a regression

    Attributes:
        file: The labelled file.
        rows: How many it has.
        task: What all models are asked.
        metric: By which pairs are compared.
        resamples: How many samples of the rows were drawn.
        seed: Of their drawing.
        entries: The models.
        pairs: Each two of them.
        differing: Rows to which they give different answers: first those that the first model has wrong and
            another right; of a regression those whose answers are farthest apart. As many as were asked for.
        measured: The end.
    """

    file: Path
    rows: int
    task: Task
    metric: str
    resamples: int
    seed: int
    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    differing: tuple[DifferingRow, ...] = ()
    measured: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def worse_than(self, name: str) -> list[str]:
        """Name the models that one is better than, and significantly so, by the metric."""
        sign = 1 if higher_is_better(self.metric) else -1
        sides = [(pair.first, pair.second, sign * pair.difference.value, pair) for pair in self.pairs]
        sides += [(second, first, -gain, pair) for first, second, gain, pair in sides]
        return [
            other
            for one, other, gain, pair in sides
            if one == name and gain > 0 and pair.bootstrap.significant
        ]

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return {
            "format": FORMAT,
            "measured": self.measured,
            "versions": {"twil": __version__, "python": platform.python_version()},
            "machine": {"cpu": cpu_name(), "cpus": available_cpus()},
            "file": str(self.file),
            "rows": self.rows,
            "task": self.task.as_dict(),
            "metric": self.metric,
            "bootstrap": {
                "level": LEVEL,
                "resamples": self.resamples,
                "seed": self.seed,
                "alpha": ALPHA,
            },
            "models": [entry.as_dict() for entry in self.entries],
            "pairs": [pair.as_dict() for pair in self.pairs],
        }
