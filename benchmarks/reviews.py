"""Measure training and evaluation on long reviews beside a plain loop, in one run of interleaved rounds.

    python benchmarks/reviews.py --data FOLDER --work FOLDER [--rounds 4] [--rows 160] [--padded-rows 32]

The model is of DistilBERT's size (6 layers of 768, 12 heads, 512 positions), with random weights: what is
measured is time, which does not depend on them, and no labels. The plain loop is what notebooks do: every
review padded to the 512 tokens that the model reads, batches of 16, AdamW, fp32. twil takes as many tokens a
batch as 16 reviews have on average, of reviews of like length. The reviews of a round are the same for both.

Each way is a process that holds its model, and goes on when its turn comes: `rows` reviews for twil, and
`padded_rows` for the loop, to which all are equally long. The first round is not counted. Training is
measured first, then evaluation. Seconds per epoch are those of 1,000 reviews at the rate of a round.
`reviews_peers.py` holds the ways.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from finetuning_peers import BATCH_ROWS
from peer_processes import ask, ratio, run, serving
from reviews_peers import LABEL, LABELS, LONGEST, TEXT, read_reviews
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from training_runs import table

from twil.core.machine import available_cpus, cpu_name
from twil.core.version import __version__

PEERS = Path(__file__).with_name("reviews_peers.py")
TASK = "imdb_en"
TOKENS = 30_522
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
EPOCH = 1_000
SAME = 1e-4
"""How far logits of the same weights may be from each other; of int8 they are further."""
TRAINING = {"train-notebook": "plain loop, padded to 512", "train-twil": "twil finetune"}
EVALUATION = {
    "evaluate-notebook": "plain loop, padded to 512",
    "evaluate-twil": "twil evaluate, model folder",
    "evaluate-twil-int8": "twil evaluate, int8 bundle",
}
PARTS = {"training": TRAINING, "evaluation": EVALUATION}
PAGE = """# Long reviews beside a plain loop

Written by `benchmarks/reviews.py`, which says what is counted: twil {twil}, torch {torch}, transformers
{transformers}, onnxruntime {onnxruntime}; {machine}. {rounds} interleaved rounds of {rows}
reviews ({padded_rows} where they are padded) of {length:.0f} tokens on average, none longer than 512.
Medians; a ratio is the median of the rounds' ratios.

| training | reviews/s | lowest – highest | seconds per epoch of 1,000 | ratio | memory, MiB |
| --- | --- | --- | --- | --- | --- |
{training}

| evaluation | reviews/s | lowest – highest | seconds for 1,000 | ratio | memory, MiB |
| --- | --- | --- | --- | --- | --- |
{evaluation}
"""


@dataclass(frozen=True)
class Course:
    """What is read, and from what.

    Attributes:
        work: Keeps what is made.
        rows: Reviews of a round.
        padded_rows: Of a round of the ways that pad them all alike.
    """

    work: Path
    rows: int
    padded_rows: int

    @property
    def model(self) -> Path:
        return self.work / "model"

    @property
    def bundle(self) -> Path:
        return self.work / "bundle-int8"

    @property
    def train(self) -> Path:
        return self.work / "train.csv"

    @property
    def test(self) -> Path:
        return self.work / "test.csv"

    def make(self, data: Path) -> None:
        """Draw the reviews, and make model and bundle, which the next run uses again."""
        for name, target in (("train", self.train), ("test", self.test)):
            draw(data / TASK / f"{name}_{EPOCH}.csv", target, self.rows)
        if not self.model.exists():
            make_model(self.model, [data / TASK / f"{name}_{EPOCH}.csv" for name in ("train", "test")])
        if not self.bundle.exists():
            twil = Path(sys.executable).with_name("twil")
            columns = ("--text", TEXT, "--label", LABEL, "--calibration", self.train, "--eval", self.test)
            loose = (
                "--max-drop",
                "100",
                "--min-agreement",
                "0",
                "--max-change",
                "1",
            )  # random weights have no labels to keep
            run(
                twil,
                "export",
                self.model,
                "--onnx",
                "--optimize",
                "--precision",
                "int8",
                *columns,
                *loose,
                "-o",
                self.bundle,
            )

    def lengths(self) -> np.ndarray[Any, Any]:
        tokenizer = Tokenizer.from_file(str(self.model / "tokenizer.json"))
        tokenizer.no_truncation()
        encoded = tokenizer.encode_batch([row[TEXT] for row in read_reviews(self.train)])
        return np.array([min(len(row.ids), LONGEST) for row in encoded])

    def command(self, way: str, batch_tokens: int) -> list[object]:
        model = self.bundle if way.endswith("int8") else self.model
        rows = self.padded_rows if way.endswith("notebook") else self.rows
        return [sys.executable, PEERS, way, model, self.train, self.test, rows, batch_tokens]


def draw(source: Path, target: Path, rows: int) -> None:
    """Draw reviews, the same ones each time."""
    found = read_reviews(source)
    chosen = np.random.default_rng(0).choice(len(found), rows, replace=False)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found[row] for row in chosen)


def make_model(folder: Path, files: Sequence[Path]) -> None:
    """Write a classifier of DistilBERT's size with random weights, and word tokens of the reviews."""
    import torch
    import transformers

    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    texts = (row[TEXT].lower() for file in files for row in read_reviews(file))
    trainer = trainers.WordPieceTrainer(vocab_size=TOKENS, special_tokens=list(SPECIAL), show_progress=False)
    trained.train_from_iterator(texts, trainer)
    tokens = transformers.BertTokenizer(
        vocab=trained.get_vocab(), do_lower_case=True, model_max_length=LONGEST
    )
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=TOKENS, pad_token_id=tokens.pad_token_id, id2label=dict(enumerate(LABELS))
    )
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokens.save_pretrained(folder)


def measure(course: Course, ways: Sequence[str], rounds: int, batch_tokens: int) -> dict[str, dict[str, Any]]:
    """Let ways go on in turn; reviews/s of each round, and the peak of memory in bytes."""
    found: dict[str, dict[str, Any]] = {way: {"rates": [], "memory": 0, "logits": None} for way in ways}
    commands = [course.command(way, batch_tokens) for way in ways]
    with serving(commands, course.work / "serving.log") as processes:
        for number in range(rounds + 1):
            for way, process in zip(ways, processes, strict=True):
                said = ask(process, "go on")
                rate = said["rows"] / said["seconds"]
                print(f"round {number}  {way}: {rate:.2f}/s", flush=True)
                found[way]["logits"] = said["logits"]
                if number:
                    found[way]["rates"].append(rate)
                    found[way]["memory"] = said["memory"]
    return found


def check_same(ways: dict[str, dict[str, Any]]) -> None:
    """Refuse to compare ways that do not compute the same."""
    logits = [np.array(ways[way]["logits"]) for way in ("evaluate-notebook", "evaluate-twil")]
    if np.abs(logits[0] - logits[1]).max() > SAME:
        raise SystemExit("the loop and twil give other logits for the same weights")


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    parts = {}
    for part, names in PARTS.items():
        ways = results["ways"]
        base = ways[next(iter(names))]["rates"]
        rows = []
        for way, name in names.items():
            rates = ways[way]["rates"]
            middle = statistics.median(rates)
            spread = f"{min(rates):.2f} – {max(rates):.2f}"
            memory = f"{ways[way]['memory'] / 2**20:,.0f}"
            rows.append(
                [
                    name,
                    f"{middle:.2f}",
                    spread,
                    f"{EPOCH / middle:,.0f}",
                    f"{ratio(rates, base):.2f} ×",
                    memory,
                ]
            )
        parts[part] = "\n".join(table([""] * 6, rows).splitlines()[2:])
    return PAGE.format(**results, **parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {TASK}")
    parser.add_argument("--work", type=Path, required=True, help="keeps model and bundle")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--rows", type=int, default=160, help="reviews of a round")
    parser.add_argument("--padded-rows", type=int, default=32, help="of a round where all are padded")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "reviews")
    options = parser.parse_args()
    if options.padded_rows % BATCH_ROWS:
        raise SystemExit(f"a round is of whole batches: give a multiple of {BATCH_ROWS} padded rows")
    course = Course(options.work.absolute(), options.rows, options.padded_rows)
    course.work.mkdir(parents=True, exist_ok=True)
    course.make(options.data)
    lengths = course.lengths()
    batch_tokens = round(BATCH_ROWS * lengths.mean())
    ways: dict[str, dict[str, Any]] = {}
    for names in PARTS.values():
        ways |= measure(course, list(names), options.rounds, batch_tokens)
    check_same(ways)
    results = {
        "twil": __version__,
        **{name: version(name) for name in ("torch", "transformers", "onnxruntime")},
        "machine": f"{cpu_name()}, {available_cpus()} CPUs",
        "rounds": options.rounds,
        "rows": options.rows,
        "padded_rows": options.padded_rows,
        "length": float(lengths.mean()),
        "ways": ways,
    }
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))


if __name__ == "__main__":
    main()
