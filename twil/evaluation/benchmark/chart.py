"""The drawing of a benchmark: throughput and latency by batch, for each length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twil.evaluation.benchmark.report import BenchmarkReport, Measurement
from twil.evaluation.pages.figure import COLOURS, draw_legend, figure_file
from twil.scores.intervals import LEVEL

PURPOSE = "drawing a benchmark"
MARKERS = "osD^vPX"
_NARROWEST = 7.5  # inches, so that a legend has room
_DODGE = 0.1  # between contestants, in places of the axis: their whiskers stand side by side


def draw_report(report: BenchmarkReport, output: str | Path) -> None:
    """Draw a report into a file, which appears whole or not at all.

    Args:
        report: What is drawn.
        output: Its ending, one of `twil.evaluation.pages.figure.ENDINGS`, decides the format.

    Raises:
        ConfigError: The ending is another.
        MissingExtraError: Matplotlib is not installed.
    """
    shapes = [measurement.shape for measurement in report.configurations[0].measurements]
    lengths, batches = sorted({shape.length for shape in shapes}), sorted({shape.rows for shape in shapes})
    names = [configuration.name for configuration in report.configurations]
    width = max(_NARROWEST, 1 + 2.9 * len(lengths))
    columns = max(1, min(len(names), int(width * 12 / max(map(len, names)))))
    height = 6.4 + 0.2 * -(-len(names) // columns)
    with figure_file(output, width=width, height=height, purpose=PURPOSE) as figure:
        grid = figure.add_gridspec(2, len(lengths))
        first: Any = None
        for column, length in enumerate(lengths):
            rates = figure.add_subplot(grid[0, column])
            latencies = figure.add_subplot(grid[1, column], sharey=first)
            for number, configuration in enumerate(report.configurations):
                found = {m.shape.rows: m for m in configuration.measurements if m.shape.length == length}
                shift = _DODGE * (number - (len(names) - 1) / 2)
                style = {
                    "color": COLOURS[number % len(COLOURS)],
                    "marker": MARKERS[number % len(MARKERS)],
                    "label": configuration.name,
                    "markersize": 5,
                    "linewidth": 1.4,
                    "elinewidth": 1.2,
                    "capsize": 3,
                }
                places = [place + shift for place in range(len(batches))]
                _draw(rates, latencies, places, [found[batch] for batch in batches], style)
            _dress(rates, latencies, batches, length)
            if first is None:
                first = latencies
                rates.set_ylabel(f"texts/s\n(bar: {100 * LEVEL:.0f} % interval)")
                latencies.set_ylabel("latency of a batch, ms\n(mark: p50, bar: up to p99)")
            else:
                latencies.tick_params(labelleft=False)
        draw_legend(figure, columns=columns)


def _draw(
    rates: Any, latencies: Any, places: Sequence[float], found: Sequence[Measurement], style: dict[str, Any]
) -> None:
    """Draw one contestant at one length."""
    per_second = [measurement.texts_per_second for measurement in found]
    # Where runs are few and odd, the bootstrap may lie beside the figure: no bar is of negative length.
    below = [max(0.0, rate.value - rate.low) for rate in per_second]
    above = [max(0.0, rate.high - rate.value) for rate in per_second]
    rates.errorbar(places, [rate.value for rate in per_second], yerr=[below, above], **style)
    half, _, most = zip(*(measurement.latencies.percentiles() for measurement in found), strict=True)
    rest = [1000 * (high - low) for low, high in zip(half, most, strict=True)]
    latencies.errorbar(places, [1000 * seconds for seconds in half], yerr=[[0.0] * len(rest), rest], **style)


def _dress(rates: Any, latencies: Any, batches: Sequence[int], length: int) -> None:
    """Give the two drawings of a length their title, limits, units and grid."""
    from matplotlib.ticker import LogLocator, NullLocator

    rates.set_title(f"rows of {length} tokens", loc="left")
    rates.set_ylim(bottom=0)
    rates.yaxis.set_major_formatter("{x:,.0f}")
    latencies.set_yscale("log")
    latencies.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    latencies.yaxis.set_minor_locator(NullLocator())
    latencies.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    latencies.set_xlabel("rows of a batch")
    for axes in (rates, latencies):
        axes.set_xlim(-0.5, len(batches) - 0.5)
        axes.set_xticks(range(len(batches)), [str(batch) for batch in batches])
        axes.grid(visible=True, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
