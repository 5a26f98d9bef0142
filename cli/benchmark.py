"""`twil benchmark`: how fast bundles are, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twil.cli.console import PROVIDERS, Display, format_bytes, format_seconds, make_table, show, split_names
from twil.cli.options import Force, Quiet
from twil.cli.rows import follow_export
from twil.core.errors import ConfigError

if TYPE_CHECKING:
    from twil.evaluation.benchmark.benchmark import BenchmarkProgress, BenchmarkStarted, Contestant
    from twil.evaluation.benchmark.report import BenchmarkReport, Configuration
    from twil.scores.intervals import Interval


def command(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(
            help="The bundles, by path, name of twil models or of the hub; all are compared with the first."
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A model folder in eager PyTorch; repeatable.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Rows of a batch, by commas.")] = "1,8,32",
    length: Annotated[str, typer.Option(help="Tokens of a row, by commas.")] = "16,64,128",
    rounds: Annotated[int, typer.Option(help="How often all take turns at each shape.")] = 20,
    runs: Annotated[int, typer.Option(help="Timed runs of a turn.")] = 5,
    warmup: Annotated[int, typer.Option(help="Runs of each shape before any is timed.")] = 3,
    threads: Annotated[int | None, typer.Option(help="CPU threads. [dim]\\[all it may use][/dim]")] = None,
    provider: Annotated[str, typer.Option(help=f"{PROVIDERS[:-1]}; several by commas.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the random tokens and of the intervals.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything, every run included, as JSON.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it: a .png, .svg or .pdf.")] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Measure latency, throughput and memory of bundles, in turn, on batches of random tokens."""
    from twil.bundle.cache import prepared
    from twil.bundle.names import model_path
    from twil.core.errors import require
    from twil.core.storage import reserved_files, write_json
    from twil.evaluation.benchmark.benchmark import Contestant, benchmark
    from twil.evaluation.benchmark.chart import PURPOSE, draw_report
    from twil.evaluation.benchmark.report import BenchmarkOptions, BenchmarkReport
    from twil.evaluation.benchmark.torch_process import MODULE
    from twil.evaluation.pages.figure import check_ending

    outputs = [path for path in (json_file, plot) if path]
    if plot:
        check_ending(plot)
        require("matplotlib", purpose=PURPOSE)
    providers = split_names(provider) or []
    figures = (_read_numbers("--batch", batch), _read_numbers("--length", length))
    options = BenchmarkOptions(*figures, rounds, runs, warmup, threads, seed)
    with reserved_files(*outputs, overwrite=force), Display(quiet=quiet) as display, ExitStack() as stack:
        folders = [follow_export(display, prepared(bundle, None)) for bundle in bundles or ()]
        contestants = [Contestant(folder, where) for folder, where in product(folders, providers)]
        modules = product(map(model_path, model or ()), providers)
        contestants += [Contestant(path, where, MODULE) for path, where in modules]
        events = stack.enter_context(closing(benchmark(contestants, options)))
        for event in events:
            if not isinstance(event, BenchmarkReport):
                show_progress(display, event, contestants)
        assert isinstance(event, BenchmarkReport)
        if json_file:
            write_json(json_file, event.as_dict())
        if plot:
            draw_report(event, plot)
    show_report(event)
    for output in outputs:
        display.line(f"wrote {output}")
    display.line(f"measured in {format_seconds(event.seconds)}")


def _read_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in split_names(text) or ()]
    except ValueError:
        raise ConfigError(
            f"{option} {text} are no whole numbers with commas between: give, say, 1,8,32"
        ) from None


def show_progress(
    display: Display, event: BenchmarkStarted | BenchmarkProgress, contestants: Sequence[Contestant]
) -> None:
    """Say where models run and what is left out, then how far the work is."""
    from twil.evaluation.benchmark.benchmark import BenchmarkStarted, make_names

    if isinstance(event, BenchmarkStarted):
        for name, facts in zip(make_names(contestants, event.facts), event.facts, strict=True):
            why = f" ({facts.reason})" if facts.reason else ""
            display.line(f"{name}: on {facts.device or facts.provider}{why}, {facts.threads} threads")
        if event.dropped:
            lengths = ", ".join(map(str, event.dropped))
            display.warn(
                f"rows of {lengths} tokens left out: the longest that all models read is {event.longest}"
            )
    else:
        display.update(
            f"{event.doing}: {event.done:,} of {event.turns:,} turns", done=event.done / event.turns
        )


def show_report(report: BenchmarkReport) -> None:
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
        "input": f"random tokens, no pads, seed {options.seed}; time does not depend on what they are",
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
