"""What a benchmark is asked, and what it answers."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twil.core.errors import ConfigError
from twil.core.machine import available_cpus, cpu_flags, cpu_name
from twil.core.version import __version__
from twil.evaluation.benchmark.timing import Facts, Shape
from twil.scores.intervals import LEVEL, PERCENTILES, SAMPLES, Interval, Latencies

FORMAT = 1


@dataclass(frozen=True)
class BenchmarkOptions:
    """How to measure.

    Attributes:
        batches: Rows of a batch.
        lengths: Tokens of a row; each goes with each number of rows.
        rounds: How often the contestants take turns at each shape.
        runs: Timed runs of a turn.
        warmup: Runs of each shape before any is timed.
        threads: CPU threads; all that the process may use when None.
        seed: Of the random tokens, and of the intervals.
    """

    batches: Sequence[int] = (1, 8, 32)
    lengths: Sequence[int] = (16, 64, 128)
    rounds: int = 20
    runs: int = 5
    warmup: int = 3
    threads: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ConfigError: It names the option.
        """
        for name, figures in (("batch", self.batches), ("length", self.lengths)):
            if not figures or min(figures) < 1:
                raise ConfigError(
                    f"--{name} takes whole numbers from 1, such as --{name} 1,8,32: give at least one"
                )
        least = {"rounds": (self.rounds, 2), "runs": (self.runs, 1), "warmup": (self.warmup, 1)}
        least |= {"threads": (1 if self.threads is None else self.threads, 1), "seed": (self.seed, 0)}
        for name, (figure, lowest) in least.items():
            if figure < lowest:
                raise ConfigError(f"--{name} {figure} cannot be measured with: give {lowest} or more")


@dataclass(frozen=True)
class Measurement:
    """One contestant at one shape.

    Attributes:
        shape: The size of the batch.
        latencies: Of all runs.
        speedup: How many times as fast as the first contestant, by the medians; None for that one itself.
    """

    shape: Shape
    latencies: Latencies
    speedup: Interval | None

    @property
    def texts_per_second(self) -> Interval:
        """Rows of such a batch per second."""
        return self.latencies.rate(self.shape.rows)

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types; see `BenchmarkReport`."""
        milliseconds = 1000 * self.latencies.seconds
        named = zip(PERCENTILES, self.latencies.percentiles(), strict=True)
        return {
            "batch": self.shape.rows,
            "length": self.shape.length,
            "latency_ms": {f"p{name}": 1000 * seconds for name, seconds in named}
            | {"mean": 1000 * self.latencies.mean},
            "texts_per_second": self.texts_per_second._asdict(),
            "speedup": self.speedup._asdict() if self.speedup else None,
            "runs_ms": milliseconds.round(6).tolist(),
        }


@dataclass(frozen=True)
class Configuration:
    """One contestant, and how it did.

    Attributes:
        name: What it is called, unlike the others.
        folder: Of the model.
        facts: What it is and where it really ran.
        peak_memory: The peak resident memory of its process in bytes, over all shapes; 0 where the system
            does not say. A GPU's memory is not in it.
        measurements: One for each shape.
    """

    name: str
    folder: Path
    facts: Facts
    peak_memory: int
    measurements: tuple[Measurement, ...]

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types; see `BenchmarkReport`."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            **self.facts.as_dict(),
            "peak_memory_bytes": self.peak_memory,
            "shapes": [measurement.as_dict() for measurement in self.measurements],
        }


@dataclass(frozen=True)
class BenchmarkReport:
    """Everything that was measured, and under which conditions.

    `as_dict` gives it in JSON's types, in this layout, which stays the same within a `format`::

        format                 1
        measured               the end, ISO 8601, UTC
        seconds                from the first turn to the last
        versions               {twil, python, onnxruntime and torch where they ran}
        machine                {cpu, cpu_flags: [name], cpus: that this process may use}
        options                {batches, lengths, rounds, runs, warmup, threads, seed}
        dropped_lengths        [longer than a model reads]
        interval               {level, samples, over: "rounds"}
        configurations         [one for each contestant, in the order given]
            name, folder
            engine, version, provider, reason, device, precision, kind, threads, max_length, tokens
            peak_memory_bytes  of the process of this configuration alone, over all shapes
            shapes             [one for each batch × length]
                batch, length
                latency_ms        {p50, p90, p99, mean}
                texts_per_second  {value, low, high}
                speedup           {value, low, high} over the first configuration, by p50; null in that one
                runs_ms           [round][run]

    Attributes:
        options: How it was measured.
        configurations: In the order of the contestants.
        dropped: Lengths that were left out.
        seconds: From the first turn to the last.
        measured: The end.
        cpu: The processor.
        cpu_flags: The instruction sets that it has.
        cpus: How many CPUs this process may use.
    """

    options: BenchmarkOptions
    configurations: tuple[Configuration, ...]
    dropped: tuple[int, ...]
    seconds: float
    measured: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    cpu: str = field(default_factory=cpu_name)
    cpu_flags: tuple[str, ...] = field(
        default_factory=lambda: tuple(flag for flag, present in cpu_flags().items() if present)
    )
    cpus: int = field(default_factory=available_cpus)

    @property
    def versions(self) -> dict[str, str]:
        """What measured, and what computed."""
        engines = {entry.facts.engine: entry.facts.version for entry in self.configurations}
        return {"twil": __version__, "python": platform.python_version(), **engines}

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return {
            "format": FORMAT,
            "measured": self.measured,
            "seconds": self.seconds,
            "versions": self.versions,
            "machine": {"cpu": self.cpu, "cpu_flags": list(self.cpu_flags), "cpus": self.cpus},
            "options": asdict(self.options),
            "dropped_lengths": list(self.dropped),
            "interval": {"level": LEVEL, "samples": SAMPLES, "over": "rounds"},
            "configurations": [configuration.as_dict() for configuration in self.configurations],
        }
