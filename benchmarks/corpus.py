"""Measure `twil corpus` on a million pairs, and work out what the original's corpus would take.

    python benchmarks/corpus.py --data FOLDER [--pairs 1000000] [--tokenizer FILE]

Distinct pairs are made of the real ones in FOLDER/pairs_*/train.tsv: each time around, some words of every
text are exchanged for others of the same files and the ids are new, so that a conversation stays one. The
command runs as a process of its own, from start to exit; memory is the peak that it reports itself. The
tokenizer is timed alone on the same texts, since nothing that encodes them can be faster.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twil.core.machine import available_cpus, cpu_name
from twil.core.version import __version__
from twil.data.corpus.pairs import PairReader
from twil.text.tokenizer import load_tokenizer, max_length

MAPPED_BYTES = 9
"""Of each id, while conversations are found."""
ORIGINAL_PAIRS = 94_000_000
EXCHANGED = 0.15  # share of the words that differ each time around
ALONE_PAIRS = 50_000  # timed with the tokenizer alone

Pair = tuple[str, str, str, str]


@dataclass
class Result:
    pairs: int
    kept: int
    dev: int
    tokens: int
    seconds: float
    peak_memory_mib: float
    input_bytes: int
    corpus_bytes: int
    most_disk_bytes: int

    @property
    def pairs_per_second(self) -> float:
        return self.pairs / self.seconds


def read_originals(data: Path) -> list[Pair]:
    return [
        pair
        for path in sorted(data.glob("pairs_*/train.tsv"))
        for rows in PairReader(path)
        for pair in zip(rows.first_ids, rows.first, rows.second_ids, rows.second or (), strict=True)
    ]


def altered_pairs(originals: list[Pair], count: int) -> Iterator[Pair]:
    """Repeat pairs with other ids and some other words until there are enough."""
    randomness = random.Random(0)
    words = [word for pair in originals[::20] for word in pair[1].split()]

    def alter(text: str) -> str:
        return " ".join(
            randomness.choice(words) if randomness.random() < EXCHANGED else word for word in text.split()
        )

    for number in range(count):
        around, place = divmod(number, len(originals))
        first_id, first, second_id, second = originals[place]
        if around:
            first, second = alter(first), alter(second)
        yield f"{around}-{first_id}", first, f"{around}-{second_id}", second


def write_pairs(path: Path, pairs: Iterator[Pair]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("ORIG_ID\tORIG_TEXT\tREPLY_ID\tREPLY_TEXT\n")
        file.writelines("\t".join(pair) + "\n" for pair in pairs)


def run(*arguments: object, watched: Path | None = None) -> tuple[str, float, int]:
    """Run `twil`; return stderr, seconds, and the most bytes that a watched folder held meanwhile."""
    command = [sys.executable, "-m", "twil", *map(str, arguments)]
    print("$ twil", *arguments, flush=True)
    most = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            time.sleep(0.05)
            most = max(most, size_of(watched) if watched else 0)
        seconds = time.monotonic() - begin
        errors.seek(0)
        stderr = errors.read()
    if process.returncode:
        raise SystemExit(f"twil ended with {process.returncode}: {stderr}")
    return stderr, seconds, most


def size_of(folder: Path) -> int:
    """Add up the files of a folder, some of which may go meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def measure(pairs: Path, count: int, tokenizer: Path, work: Path) -> Result:
    place = work / f"out-{count}"
    place.mkdir()
    stderr, seconds, most = run(
        *("corpus", pairs, "--tokenizer", tokenizer, "-o", place / "corpus"), watched=place
    )
    peak = re.search(r"peak memory ([\d,]+) MiB", stderr)
    assert peak, stderr
    info = json.loads((place / "corpus" / "corpus.json").read_text(encoding="utf-8"))
    parts = info["parts"]
    return Result(
        pairs=info["rules"]["pairs"]["read"],
        kept=info["rules"]["pairs"]["kept"],
        dev=parts["dev"]["pairs"]["rows"],
        tokens=sum(part["pairs"]["tokens"] for part in parts.values()),
        seconds=seconds,
        peak_memory_mib=float(peak[1].replace(",", "")),
        input_bytes=pairs.stat().st_size,
        corpus_bytes=size_of(place / "corpus"),
        most_disk_bytes=most,
    )


def encode_alone(pairs: Path, tokenizer: Path) -> float:
    """Time the tokenizer alone on the first pairs of a file; return pairs per second."""
    loaded = load_tokenizer(tokenizer)
    done, seconds = 0, 0.0
    for rows in PairReader(pairs):
        texts = list(zip(rows.first, rows.second or (), strict=True))
        begin = time.perf_counter()
        loaded.encode_batch_fast(texts)
        seconds += time.perf_counter() - begin
        done += len(texts)
        if done >= ALONE_PAIRS:
            break
    return done / seconds


COLUMNS = {
    "pairs": "{pairs:,}",
    "kept": "{kept:,}",
    "held out": "{dev:,}",
    "tokens a pair": "{tokens_per_pair:.1f}",
    "time": "{seconds:,.1f} s",
    "pairs/s": "{pairs_per_second:,.0f}",
    "peak memory": "{peak_memory_mib:,.0f} MiB",
    "input": "{input_bytes:,}",
    "corpus, bytes": "{corpus_bytes:,}",
    "most on disk while it is made": "{most_disk_bytes:,}",
}

PAGE = """# Making a corpus

Written by `benchmarks/corpus.py`: twil {twil}, {cpu}, {cpus} CPUs, a vocabulary of
{vocab_size:,} tokens, rows of at most {max_length} tokens, 1 % held out by whole conversations. Times are of
`twil corpus`, from process start to exit.

{table}

The tokenizer alone encodes {alone:,.0f} of these pairs a second: it is {share:.0%} of the time of the largest
run, and the rest is start-up and what cleaning, storing and grouping could not do beside it.

Worked out from it for the original's corpus of {original:,} pairs:

| | |
|---|---|
| time | {original_hours:.1f} hours |
| corpus | {original_corpus:.1f} GB |
| most on disk while it is made | {original_disk:.1f} GB |
| memory | {memory:,.0f} MiB, and up to {mapped:.1f} GB of mapped ids that the system can take back |
"""


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    table = [list(COLUMNS), ["---"] * len(COLUMNS)]
    for result in results["runs"]:
        values = result | {
            "tokens_per_pair": result["tokens"] / result["kept"],
            "pairs_per_second": result["pairs"] / result["seconds"],
        }
        table.append([cell.format(**values) for cell in COLUMNS.values()])
    largest = results["runs"][-1]
    times = ORIGINAL_PAIRS / largest["pairs"]
    return PAGE.format(
        table="\n".join(f"| {' | '.join(row)} |" for row in table),
        alone=results["alone"],
        share=largest["pairs"] / results["alone"] / largest["seconds"],
        original=ORIGINAL_PAIRS,
        original_hours=times * largest["seconds"] / 3600,
        original_corpus=times * largest["corpus_bytes"] / 1e9,
        original_disk=times * largest["most_disk_bytes"] / 1e9,
        memory=largest["peak_memory_mib"],
        mapped=ORIGINAL_PAIRS * 2 * MAPPED_BYTES / 1e9,
        **{key: results[key] for key in ("twil", "cpu", "cpus", "vocab_size", "max_length")},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per corpus")
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument(
        "--tokenizer", type=Path, help="a tokenizer.json; learned from the pairs when left out"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "corpus")
    options = parser.parse_args()
    originals = read_originals(options.data)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        tokenizer = options.tokenizer or work / "tokenizer.json"
        if options.tokenizer is None:
            sources = sorted(options.data.glob("pairs_*/train.tsv"))
            run("vocab", *sources, "--size", 30_000, "--sample", 200_000, "-o", tokenizer)
        runs = []
        for count in (options.pairs // 10, options.pairs):
            pairs = work / f"pairs-{count}.tsv"
            write_pairs(pairs, altered_pairs(originals, count))
            runs.append(measure(pairs, count, tokenizer, work))
        loaded = load_tokenizer(tokenizer)
        results = {
            "twil": __version__,
            "cpu": cpu_name(),
            "cpus": available_cpus(),
            "vocab_size": loaded.get_vocab_size(),
            "max_length": max_length(loaded),
            "alone": encode_alone(pairs, tokenizer),
            "runs": [asdict(result) for result in runs],
        }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))


if __name__ == "__main__":
    main()
