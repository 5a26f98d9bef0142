"""`twil benchmark`: how fast bundles are, side by side."""

from __future__ import annotations

from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import PROVIDERS, Display, format_seconds, split_names
from twil.cli.rows import follow_export
from twil.core.errors import ConfigError


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
    length: Annotated[str, typer.Option(help="Pieces of a row, by commas.")] = "16,64,128",
    rounds: Annotated[int, typer.Option(help="How often all take turns at each shape.")] = 20,
    runs: Annotated[int, typer.Option(help="Timed runs of a turn.")] = 5,
    warmup: Annotated[int, typer.Option(help="Runs of each shape before any is timed.")] = 3,
    threads: Annotated[int | None, typer.Option(help="CPU threads. [dim]\\[all it may use][/dim]")] = None,
    provider: Annotated[str, typer.Option(help=f"{PROVIDERS[:-1]}; several by commas.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the random pieces and of the intervals.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything, every run included, as JSON.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it: a .png, .svg or .pdf.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace these files.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show results only.")] = False,
) -> None:
    """Measure latency, throughput and memory of bundles, in turn, on batches of random pieces."""
    from twil.bundle.cache import prepared
    from twil.bundle.names import model_path
    from twil.cli.timings import show_progress, show_report
    from twil.core.errors import require
    from twil.core.storage import reserved_files, write_json
    from twil.evaluation.benchmark.benchmark import Contestant, benchmark
    from twil.evaluation.benchmark.chart import PURPOSE, draw_report
    from twil.evaluation.benchmark.report import BenchmarkOptions, Report
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
            if not isinstance(event, Report):
                show_progress(display, event, contestants)
        assert isinstance(event, Report)
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
