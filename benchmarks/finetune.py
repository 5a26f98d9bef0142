"""Measure fine-tuning beside the transformers Trainer, on real tweets, in one run of interleaved rounds.

    python benchmarks/finetune.py --data FOLDER --work FOLDER [--rounds 5] [--rows 800] [--padded-rows 32]

All train the same classifier of BERT's shape (6 layers of 768, 12 heads, 30,002 tokens) from the same
weights, on the same tweets, in an order drawn anew each epoch: 16 rows a batch, for twil as many tokens as
16 rows have on average; fused AdamW, gradients clipped at 1, dropout 0.1; in fp32, and where the CPU has
units for it also in bf16. twil computes the last layer for [CLS] alone, which alone is read. TWilBERT has no
dropout within attention; the Trainer is measured with BERT's, which is its default, and once without it.

Each way is a process that holds its model, and trains on an epoch of `rows` when its turn comes; padded to
512 tokens, of which any tweets make as many, on `padded-rows`. The first round is not counted, nor is the
look at dev with which twil ends an epoch. `finetuning_peers.py` holds the ways; the Trainer is installed
in an environment of its own in the work folder, which the next run uses again. Peaks of memory are of
whole processes; twil's holds the best weights besides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from finetuning_peers import BATCH_ROWS, COMPARED
from peer_processes import ask, make_environments, python_of, ratio, run, serving, versions
from training_runs import table

from twil.core.machine import available_cpus, cpu_flags, cpu_name
from twil.core.version import __version__
from twil.data.labelled import read_labelled
from twil.model.folder import load_with_tokenizer
from twil.text.tokenizer import encode, load_tokenizer
from twil.train.objectives.classification import compute_logits, encode_set

PEERS = Path(__file__).with_name("finetuning_peers.py")
TASK = "umsab_spanish"
TOKENS, POSITIONS = 30_002, 512
ENVIRONMENTS = {"trainer": ("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0")}
DEV_ROWS = 16
SAME = 1e-4
"""How far logits of the same weights may be from each other."""
WAYS = {
    "trainer-512": "Trainer, padded to 512",
    "trainer-dynamic": "Trainer, dynamic padding",
    "trainer-grouped": "Trainer, dynamic padding, grouped by length",
    "trainer-grouped-plain": "the same without dropout in attention",
    "twil": "twil",
    "trainer-grouped-bf16": "Trainer, dynamic padding, grouped by length, bf16",
    "twil-bf16": "twil, bf16",
}
PADDED, GROUPED, GROUPED_BF16 = "trainer-512", "trainer-grouped", "trainer-grouped-bf16"
HALF = ("trainer-grouped-bf16", "twil-bf16")
PAGE = """# Fine-tuning beside the transformers Trainer

Written by `benchmarks/finetune.py`, which says what is counted: twil {twil}, torch {torch}; {peers};
{machine}. {rounds} interleaved rounds of {rows:,} tweets ({padded_rows} where they are padded to 512) of
{length:.1f} tokens on average. Medians; a ratio is the median of the rounds' ratios.

{table}
"""


@dataclass(frozen=True)
class Course:
    """What is trained on, and from what.

    Attributes:
        work: Keeps what is made.
        rows: Tweets of an epoch, which is a round.
        padded_rows: Tweets of a round of the way that pads them all alike.
    """

    work: Path
    rows: int
    padded_rows: int

    @property
    def model(self) -> Path:
        return self.work / "model"

    @property
    def train(self) -> Path:
        return self.work / f"train-{self.rows}.tsv"

    @property
    def dev(self) -> Path:
        return self.work / "dev.tsv"

    def make(self, data: Path) -> None:
        """Draw the tweets, and the weights that all start from."""
        write_rows(data / TASK / "train.tsv", self.train, self.rows)
        write_rows(data / TASK / "dev.tsv", self.dev, DEV_ROWS)
        tokenizer = self.work / "tokenizer.json"
        tweets = data / "tweets_unlabelled_es" / "tweets.tsv"
        if not tokenizer.exists():
            run(sys.executable, "-m", "twil", "vocab", tweets, "--size", TOKENS, "-o", tokenizer)
        if not self.model.exists():
            shape = [f"model.encoder.{key}" for key in ("n_heads=12", f"max_positions={POSITIONS}")]
            settings = [option for one in (*shape, "train.steps=1") for option in ("--set", one)]
            start = ("--init", "base", "--tokenizer", tokenizer, "--pooling", "cls", *settings)
            train = (data / TASK / "train.tsv", "--dev", self.dev)
            run(sys.executable, "-m", "twil", "finetune", *train, *start, "-o", self.model)

    def command(self, way: str, batch_tokens: int) -> list[object]:
        python = Path(sys.executable) if way.startswith("twil") else python_of(self.work, "trainer")
        rows = self.padded_rows if way == PADDED else self.rows
        return [python, PEERS, way, self.model, self.train, self.dev, rows, batch_tokens]

    def lengths(self) -> np.ndarray:
        tokenizer = load_tokenizer(self.work / "tokenizer.json")
        return np.array([len(row) for row in encode(tokenizer, read_labelled(self.train).texts).input_ids])

    def first_logits(self) -> np.ndarray:
        """Compute what twil's model says before training of the rows that the ways compare."""
        model, tokenizer = load_with_tokenizer(self.model)
        encoded = encode_set(read_labelled(self.train), tokenizer, model.task)
        return compute_logits(model, encoded, 1024)[:COMPARED]


def write_rows(source: Path, target: Path, rows: int) -> None:
    """Draw labelled rows, the same ones each time."""
    head, *lines = [line for line in source.read_text(encoding="utf-8").split("\n") if line]
    chosen = np.random.default_rng(0).choice(len(lines), rows, replace=False)
    target.write_text("\n".join([head, *(lines[row] for row in chosen), ""]), encoding="utf-8")


def measure(course: Course, rounds: int, batch_tokens: int) -> dict[str, dict[str, Any]]:
    """Let all ways train in turn; tweets/s of each round, and the peak of memory in bytes."""
    ways = [way for way in WAYS if way not in HALF or has_bf16()]
    found: dict[str, dict[str, Any]] = {way: {"rates": [], "memory": 0} for way in ways}
    expected = course.first_logits()
    commands = [course.command(way, batch_tokens) for way in ways]
    with serving(commands, course.work / "serving.log") as processes:
        for number in range(rounds + 1):
            for way, process in zip(ways, processes, strict=True):
                said = ask(process, "train")
                if said["logits"] is not None and np.abs(said["logits"] - expected).max() > SAME:
                    raise SystemExit(f"{WAYS[way]} starts from another model: its logits differ from twil's")
                rate = said["rows"] / said["seconds"]
                print(f"round {number}  {WAYS[way]}: {rate:.2f}/s", flush=True)
                if number:
                    found[way]["rates"].append(rate)
                    found[way]["memory"] = said["memory"]
    return found


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    ways = results["ways"]
    against = {PADDED: "to padded", GROUPED: "to grouped", GROUPED_BF16: "to grouped in bf16"}
    others = {way: title for way, title in against.items() if way in ways}
    rows = [
        [
            WAYS[way],
            f"{statistics.median(own['rates']):.2f}",
            f"{min(own['rates']):.2f} – {max(own['rates']):.2f}",
            *(f"{ratio(own['rates'], ways[other]['rates']):.2f} ×" for other in others),
            f"{own['memory'] / 2**20:,.0f}",
        ]
        for way, own in ways.items()
    ]
    heads = ["", "tweets/s", "lowest – highest", *others.values(), "memory, MiB"]
    return PAGE.format(**results, table=table(heads, rows))


def has_bf16() -> bool:
    flags = cpu_flags()
    return flags["avx512_bf16"] or flags["amx_bf16"]


def check_rows(rows: Sequence[int]) -> None:
    if any(number % BATCH_ROWS or number < BATCH_ROWS for number in rows):
        raise SystemExit(f"a round is of whole batches: give multiples of {BATCH_ROWS} rows")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help=f"folder with {TASK} and tweets_unlabelled_es"
    )
    parser.add_argument("--work", type=Path, required=True, help="keeps the environment and the model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=800, help="tweets of a round")
    parser.add_argument("--padded-rows", type=int, default=32, help="tweets of a round where all are padded")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "finetune")
    options = parser.parse_args()
    check_rows([options.rows, options.padded_rows])
    course = Course(options.work.absolute(), options.rows, options.padded_rows)
    course.work.mkdir(parents=True, exist_ok=True)
    make_environments(course.work, ENVIRONMENTS)
    course.make(options.data)
    lengths = course.lengths()
    results = {
        "twil": __version__,
        "torch": version("torch"),
        "peers": versions(course.work, ENVIRONMENTS, ("transformers", "accelerate", "torch")),
        "machine": f"{cpu_name()}, {available_cpus()} CPUs",
        "length": float(lengths.mean()),
        "rounds": options.rounds,
        "rows": options.rows,
        "padded_rows": options.padded_rows,
        "ways": measure(course, options.rounds, round(BATCH_ROWS * lengths.mean())),
    }
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))


if __name__ == "__main__":
    main()
