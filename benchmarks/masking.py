"""Measure how fast batches are masked, on one thread, and write a table.

    python benchmarks/masking.py [--output benchmarks/results/masking.md]

Pairs of 40 to 80 random tokens, 60 on average, with their three special ones; the default options of
masking. Every batch is masked anew; the median of the repetitions counts, after a warm-up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twil.config.pretraining import MaskingConfig
from twil.core.machine import cpu_name
from twil.core.version import __version__
from twil.data.masking import FIRST_ID, mask
from twil.text.tokenizer import CLS_ID, SEP_ID

VOCAB_SIZE = 30_000
BATCHES = (32, 256, 2048)
SECONDS = 2.0


def pairs(rows: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the tokens of a batch, one row behind the other, and their numbers."""
    lengths = rng.integers(40, 81, size=rows)
    ids = rng.integers(FIRST_ID, VOCAB_SIZE, size=lengths.sum())
    ends = np.cumsum(lengths)
    ids[ends - lengths], ids[ends - lengths // 2], ids[ends - 1] = CLS_ID, SEP_ID, SEP_ID
    return ids, lengths


def seconds_of(rows: int, config: MaskingConfig) -> float:
    """Return the median time of masking a batch."""
    rng = np.random.default_rng(1)
    ids, lengths = pairs(rows, rng)
    mask(ids, lengths, config, VOCAB_SIZE, rng)
    times: list[float] = []
    while sum(times) < SECONDS:
        start = time.perf_counter()
        mask(ids, lengths, config, VOCAB_SIZE, rng)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "masking.md")
    options = parser.parse_args()
    page = (
        "# Masking\n\n"
        f"Written by `benchmarks/masking.py`: twil {__version__}, NumPy {np.__version__}, {cpu_name()}, one\n"
        "thread. Pairs of 60 tokens on average, masked anew each time.\n\n"
        "| masking | rows of a batch | ms per batch | pairs per second |\n| --- | ---: | ---: | ---: |\n"
    )
    for kind in ("span", "token"):
        for rows in BATCHES:
            seconds = seconds_of(rows, MaskingConfig(kind=kind))
            page += f"| {kind} | {rows:,} | {seconds * 1000:.2f} | {rows / seconds:,.0f} |\n"
    options.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
