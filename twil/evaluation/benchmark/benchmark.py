"""Latency and throughput of models side by side, on batches of given shapes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import get_args

from twil.bundle.providers import ProviderChoice
from twil.core.errors import ConfigError, ProviderError
from twil.evaluation.benchmark.bundle_process import MODULE as BUNDLES
from twil.evaluation.benchmark.report import BenchmarkOptions, BenchmarkReport, Configuration, Measurement
from twil.evaluation.benchmark.timing import Facts, Shape
from twil.evaluation.benchmark.worker import Opening, Worker
from twil.scores.intervals import Latencies


@dataclass(frozen=True)
class Contestant:
    """What is to be measured.

    Attributes:
        folder: A bundle, or what else its module opens.
        provider: Where to run, as `Session` knows it.
        module: The module of twil whose process measures it.
    """

    folder: Path
    provider: str = "auto"
    module: str = BUNDLES


@dataclass(frozen=True)
class BenchmarkStarted:
    """All models are open, each in a process of its own.

    Attributes:
        facts: Of each contestant.
        dropped: Lengths that are left out, as a model reads no row so long.
        longest: The longest row that all models read.
    """

    facts: tuple[Facts, ...]
    dropped: tuple[int, ...]
    longest: int


@dataclass(frozen=True)
class BenchmarkProgress:
    """How far the work is.

    Attributes:
        doing: ``warming up`` or ``timing``.
        done: Turns so far.
        turns: Turns in all.
        seconds: Since the first of them.
    """

    doing: str
    done: int
    turns: int
    seconds: float


Event = BenchmarkStarted | BenchmarkProgress | BenchmarkReport


def benchmark(
    contestants: Sequence[Contestant], options: BenchmarkOptions | None = None
) -> Generator[Event, None, None]:
    """Measure models side by side; the last event is the report.

    Every contestant has a process of its own. All shapes of all contestants are warmed up before one is
    timed. Then, in every round and at every shape, the contestants take turns, so that what slows the
    machine down hits them alike; who comes first changes from round to round.

    Args:
        contestants: What to measure; the others are compared with the first.
        options: How.

    Raises:
        ConfigError: There is nothing to measure, or every length is longer than a model reads.
        ModelError: A folder is none of a model, a model fails, or its process dies.
        ProviderError: A provider cannot be had.
        MissingExtraError: What computes is not installed.
    """
    options = options or BenchmarkOptions()
    options.check()
    _check_contestants(contestants)
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                Worker(one.module, Opening(str(one.folder), one.provider, options.threads, options.seed))
            )
            for one in contestants
        ]
        facts = tuple(worker.facts() for worker in workers)
        shapes, dropped = _fitting(options, min(found.max_length for found in facts))
        yield BenchmarkStarted(facts, dropped, min(found.max_length for found in facts))
        begin = perf_counter()
        for done, (shape, worker) in enumerate(product(shapes, workers)):
            yield BenchmarkProgress("warming up", done, len(shapes) * len(workers), perf_counter() - begin)
            worker.warm_up(shape, options.warmup)
        begin = perf_counter()
        seconds: dict[tuple[int, Shape], list[list[float]]] = {}
        turns = list(turn_order(options.rounds, shapes, len(workers)))
        for done, (shape, number) in enumerate(turns):
            yield BenchmarkProgress("timing", done, len(turns), perf_counter() - begin)
            seconds.setdefault((number, shape), []).append(workers[number].time(shape, options.runs))
        took = perf_counter() - begin
        peaks = [worker.peak_memory for worker in workers]
    first = {shape: Latencies(seconds[0, shape], seed=options.seed) for shape in shapes}
    yield BenchmarkReport(
        options,
        tuple(
            Configuration(
                name,
                contestant.folder,
                found,
                peak,
                tuple(_compare(shape, seconds[number, shape], first[shape], number) for shape in shapes),
            )
            for number, (name, contestant, found, peak) in enumerate(
                zip(make_names(contestants, facts), contestants, facts, peaks, strict=True)
            )
        ),
        dropped,
        took,
    )


def turn_order(rounds: int, shapes: Sequence[Shape], contestants: int) -> Iterator[tuple[Shape, int]]:
    """Give whose turn it is, at which shape: side by side, and each the first as often as the others."""
    for number, shape in product(range(rounds), shapes):
        for place in range(contestants):
            yield shape, (number + place) % contestants


def make_names(contestants: Sequence[Contestant], facts: Sequence[Facts]) -> list[str]:
    """Name each contestant by what tells it from the others, and by a number where nothing does."""
    short = {one.folder.name for one in contestants}
    by_name = len(short) == len({one.folder for one in contestants}) and "" not in short
    names: list[str] = []
    for one, found in zip(contestants, facts, strict=True):
        folder = one.folder.name if by_name else str(one.folder)
        name = f"{folder} ({found.precision}, {found.engine} on {found.provider})"
        same = sum(other == name or other.startswith(f"{name} #") for other in names)
        names.append(f"{name} #{same + 1}" if same else name)
    return names


def _compare(shape: Shape, seconds: Sequence[Sequence[float]], first: Latencies, number: int) -> Measurement:
    # Its samples are of the same rounds as those of the first.
    found = Latencies(seconds, seed=first.seed)
    return Measurement(shape, found, found.speedup(first) if number else None)


def _fitting(options: BenchmarkOptions, longest: int) -> tuple[list[Shape], tuple[int, ...]]:
    """Leave out the lengths that a model does not read."""
    lengths = list(dict.fromkeys(length for length in options.lengths if length <= longest))
    if not lengths:
        raise ConfigError(
            f"the models read rows of up to {longest} tokens: ask for a --length of at most that"
        )
    shapes = [Shape(*sizes) for sizes in product(dict.fromkeys(options.batches), lengths)]
    return shapes, tuple(dict.fromkeys(length for length in options.lengths if length > longest))


def _check_contestants(contestants: Sequence[Contestant]) -> None:
    if not contestants:
        raise ConfigError("there is nothing to measure: name a bundle, or a model folder (--model)")
    known = get_args(ProviderChoice)
    for one in contestants:
        if one.provider not in known:
            raise ProviderError(f"there is no provider '{one.provider}': choose one of {', '.join(known)}")
