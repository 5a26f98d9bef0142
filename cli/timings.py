"""How a benchmark is shown: its conditions, then a table for each configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twil.cli.console import Display, format_bytes, format_seconds, make_table, show

if TYPE_CHECKING:
    from twil.evaluation.benchmark.benchmark import Contestant, Progress, Started
    from twil.evaluation.benchmark.report import Configuration, Report
    from twil.scores.intervals import Interval


def show_progress(display: Display, event: Started | Progress, contestants: Sequence[Contestant]) -> None:
    """Say where models run and what is left out, then how far the work is."""
    from twil.evaluation.benchmark.benchmark import Started, make_names

    if isinstance(event, Started):
        for name, facts in zip(make_names(contestants, event.facts), event.facts, strict=True):
            why = f" ({facts.reason})" if facts.reason else ""
            display.line(f"{name}: on {facts.device or facts.provider}{why}, {facts.threads} threads")
        if event.dropped:
            lengths = ", ".join(map(str, event.dropped))
            display.warn(
                f"rows of {lengths} pieces left out: the longest that all models read is {event.longest}"
            )
    else:
        left = event.seconds / event.done * (event.turns - event.done) if event.done else None
        tail = f", {format_seconds(left)} left" if left is not None else ""
        display.update(f"{event.doing}: {event.done:,} of {event.turns:,} turns{tail}")


def show_report(report: Report) -> None:
    """Print a report on stdout."""
    from twil.evaluation.benchmark.timing import SETTLE_SECONDS
    from twil.scores.intervals import LEVEL

    options = report.options
    conditions = {
        "processor": report.cpu,
        "instructions": ", ".join(report.cpu_flags) or "none of note",
        "CPUs that this process may use": f"{report.cpus}",
        "versions": ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        "runs": f"{options.rounds} rounds, each with a turn of {options.runs} runs for every shape and model",
        "warm-up": f"{options.warmup} runs of each shape before any is timed; "
        f"{1000 * SETTLE_SECONDS:.0f} ms of runs before each turn",
        "input": f"random pieces, no pads, seed {options.seed}; time does not depend on what they are",
        "interval": f"{100 * LEVEL:.0f} %, bootstrap over rounds, seed {options.seed}",
        "memory": "peak of a process that runs this configuration alone, over all shapes; without a GPU's",
    }
    show(make_table("conditions", ["", ""], list(conditions.items())))
    for configuration in report.configurations:
        show_configuration(configuration, first=report.configurations[0].name)


def show_configuration(configuration: Configuration, *, first: str) -> None:
    """Print what was measured of one configuration."""
    facts = configuration.facts
    columns = ["batch", "length", "p50 ms", "p90 ms", "p99 ms", "texts/s", "interval"]
    rows: list[list[object]] = []
    compared = any(measurement.speedup for measurement in configuration.measurements)
    for measurement in configuration.measurements:
        milliseconds = [f"{1000 * seconds:,.2f}" for seconds in measurement.latencies.percentiles()]
        cells = [*milliseconds, *_format_interval(measurement.texts_per_second, 1)]
        if measurement.speedup:
            cells += _format_interval(measurement.speedup, 2)
        rows.append([*measurement.shape, *cells])
    if compared:
        columns += ["times as fast", "interval"]
    memory = format_bytes(configuration.peak_memory) if configuration.peak_memory else "not told"
    where = f", {facts.device}" if facts.device else ""
    title = f"{configuration.name}: {facts.threads} threads{where}, peak memory {memory}"
    if compared:
        title += f"; times as fast, by p50, as {first}"
    show(make_table(title, columns, rows, figures=columns))


def _format_interval(interval: Interval, digits: int) -> list[str]:
    digits = digits if interval.value < 1000 else 0
    return [f"{interval.value:,.{digits}f}", f"{interval.low:,.{digits}f} – {interval.high:,.{digits}f}"]
