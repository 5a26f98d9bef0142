"""Measure training beside other work: all threads against one, alone and with a neighbour that takes a CPU.

    python benchmarks/neighbour.py --data FOLDER [--model ENCODER] [--rows 600] [--rounds 5]

Each way is a run of `twil finetune` of its own, one epoch of the tweets of umsab_spanish; its rate is the
median of those in its log but the first. The neighbour is a process that does nothing but count. Threads that
wait for each other spin (OMP_WAIT_POLICY=active, which twil leaves as it is), or do as twil has them do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peer_processes import ratio, run
from training_runs import table

from twil.core.machine import available_cpus, cpu_name
from twil.core.version import __version__

COUNTING = "while True: pass"
WAYS = {
    "one thread": (1, {}),
    "all threads, spinning": (None, {"OMP_WAIT_POLICY": "active"}),
    "all threads": (None, {}),
}
PAGE = """# Training beside other work

Written by `benchmarks/neighbour.py`, which says what is counted: twil {twil}, {machine}, {model}. Medians of
{rounds} interleaved rounds, in tweets/s; a ratio is the median of the rounds' ratios.

{table}
"""


@contextmanager
def neighbour(there: bool) -> Iterator[None]:
    """Have a process beside this one that takes a CPU, or none."""
    if not there:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", COUNTING]) as process:
        try:
            yield
        finally:
            process.kill()


def rate(train: Path, model: str, rows: int, threads: int | None, environment: dict[str, str]) -> float:
    """Fine-tune for an epoch, and give tweets/s."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--limit", rows, "--epochs", 1, "--set", "train.log_steps=5", "--quiet"]
        limit = ["--threads", threads] if threads else []
        output = Path(folder) / "model"
        command = [sys.executable, "-m", "twil", "finetune", train, "--model", model, *options, *limit]
        run(*command, "-o", output, env={**os.environ, **environment})
        lines = (output / "log.jsonl").read_text(encoding="utf-8").splitlines()
    rates = [event["rows_per_second"] for line in lines if "rows_per_second" in (event := json.loads(line))]
    return statistics.median(rates[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with umsab_spanish")
    parser.add_argument("--model", default="twil-es", help="an encoder")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "neighbour.md")
    options = parser.parse_args()
    train = options.data / "umsab_spanish" / "train.tsv"
    places = {"alone": False, "beside a busy process": True}
    rates: dict[tuple[str, str], list[float]] = {(place, way): [] for place in places for way in WAYS}
    for number in range(options.rounds):
        for place, way in rates:
            threads, environment = WAYS[way]
            with neighbour(places[place]):
                found = rate(train, options.model, options.rows, threads, environment)
            print(f"round {number + 1}  {place}, {way}: {found:.1f}/s", flush=True)
            rates[place, way].append(found)
    rows = [
        [
            f"{way}, {place}",
            f"{statistics.median(own):.1f}",
            f"{min(own):.1f} – {max(own):.1f}",
            f"{ratio(own, rates[place, 'one thread']):.2f} ×",
        ]
        for (place, way), own in rates.items()
    ]
    page = PAGE.format(
        twil=__version__,
        machine=f"{cpu_name()}, {available_cpus()} CPUs",
        model=Path(options.model).name,
        rounds=options.rounds,
        table=table(["", "tweets/s", "lowest – highest", "to one thread"], rows),
    )
    options.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
