"""Pretrain on real pairs and tweets with the command line, and find out what the encoder is worth.

    python benchmarks/real_pretraining.py --data FOLDER --work FOLDER [--jobs 2]

Stages, each of which is left out where its output lies in the work folder already: a vocabulary; a corpus
of all pairs and tweets, a hundredth of them held out; the encoder, by `real_pretraining.toml`; its scores
on those pairs of the dev files whose texts are in no training file, beside baselines; and classifiers,
fine-tuned from the encoder and from the same shape drawn anew, over several seeds, each at the learning
rate that did best on dev with another seed, beside TF-IDF with logistic regression. A run that was
interrupted goes on where it stopped. Writes results/real_pretraining.md, .json, and the curves of
pretraining as .svg.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training_runs import drawn_anew, read_json, resume, spread, table, twil

from twil.config.loop import LOG
from twil.core.machine import available_cpus, cpu_name
from twil.core.storage import atomic_folder, write_json
from twil.core.version import __version__
from twil.data.corpus.cleaning import fold
from twil.data.corpus.pairs import PairReader
from twil.evaluation.reports.curves import read_curves
from twil.train.run_log import read_log

HERE = Path(__file__).parent
CONFIG, FURTHER = HERE / "real_pretraining.toml", HERE / "real_adaptation.toml"
TOKENS = 8000
SEEDS = (1, 2, 3)
TF_IDF = {"umsab_spanish": 0.528, "irosva19_es": 0.719, "cic_es": 0.782}
"""Macro-F1 on test of TF-IDF and logistic regression on the same files, measured once."""
TUNING = [
    *("--pooling", "avg", "--epochs", "12"),
    *("--set", "model.classifier.dropout=0.3", "--set", "model.output_dropout=0.2"),
]
"""Settings of every fine-tuning, from either start."""
STARTS = ("pretrained", "further on tweets", "from scratch")
RATES = (2e-4, 5e-4, 1e-3)
"""Peak learning rates to choose from."""
FEWEST = 30
"""Pairs of a dev file that are new to the encoder; with fewer it is not scored."""
CHOOSING_SEED = 0
"""Of the runs that choose among the rates; it is none of SEEDS."""


@dataclass(frozen=True)
class Run:
    """One fine-tuning."""

    task: str
    start: str
    lr: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.task}-{self.start.replace(' ', '-')}-{self.lr:g}-{self.seed}"


@dataclass(frozen=True)
class Stages:
    """The work folder, and the commands that fill it.

    Attributes:
        data: Folder of the real data.
        work: Folder of what is made of it.
        jobs: Fine-tunings at a time, each with one thread.
    """

    data: Path
    work: Path
    jobs: int

    @property
    def tokenizer(self) -> Path:
        return self.work / "tokenizer.json"

    @property
    def corpus(self) -> Path:
        return self.work / "corpus"

    @property
    def encoder(self) -> Path:
        return self.work / "encoder"

    @property
    def starts(self) -> dict[str, Path]:
        """The encoders to start from, by the names in STARTS."""
        return {"pretrained": self.encoder, "further on tweets": self.work / "encoder-tweets"}

    @property
    def tweets(self) -> list[Path]:
        """The files of tweets, pairs of them included."""
        pairs = self.data / "pairs_tuits_arg" / "train.tsv"
        return [pairs, *sorted(self.data.glob("tweets_unlabelled_es/*.tsv"))]

    @property
    def texts(self) -> list[Path]:
        """All files to learn from."""
        return [*self.pairs("train"), *sorted(self.data.glob("tweets_unlabelled_es/*.tsv"))]

    def pairs(self, part: str) -> list[Path]:
        return sorted(self.data.glob(f"pairs_*/{part}.tsv"))

    def run_all(self) -> None:
        """Do what is not done yet."""
        self.work.mkdir(parents=True, exist_ok=True)
        if not self.tokenizer.exists():
            twil("vocab", *self.texts, "--size", TOKENS, "-o", self.tokenizer)
        self.pretrain(CONFIG, self.texts, self.encoder, "corpus")
        further = self.starts["further on tweets"]
        self.pretrain(FURTHER, self.tweets, further, "corpus-tweets", "--init", self.encoder)
        if not self.held_out.exists():
            self.hold_out()
        for file in self.scored():
            self.score(self.encoder, file, self.scores(file), "--rop")
        for start, encoder in self.starts.items():
            for task in TF_IDF:
                self.score(encoder, self.data / task / "test.tsv", self.task_scores(start, task))
        cases = [(task, start) for task in TF_IDF for start in STARTS]
        with ThreadPoolExecutor(self.jobs) as pool:
            choosing = (Run(*case, lr, CHOOSING_SEED) for case in cases for lr in RATES)
            list(pool.map(self.finetune, choosing))
            list(pool.map(self.finetune, (run for case in cases for run in self.runs(*case))))

    def pretrain(self, config: Path, texts: Sequence[Path], output: Path, corpus: str, *more: object) -> None:
        folder = self.work / corpus
        if not folder.exists():
            twil("corpus", *texts, "--dev", 0.01, "--tokenizer", self.tokenizer, "-o", folder)
        resume("pretrain", config, "--corpus", folder, *more, output=output)

    @property
    def held_out(self) -> Path:
        """Folder of the pairs of the dev files that are new to the encoder."""
        return self.work / "held-out"

    def scored(self) -> list[Path]:
        return sorted(self.held_out.glob("*.tsv"))

    def hold_out(self) -> None:
        """Write the pairs neither of whose texts is in a training file but for links, marks, blanks and case.

        A text of a thread may be the tweet of one pair and the reply of another, and some collections hold
        the same tweets.
        """
        seen = {fold(text) for file in self.texts for row in rows(file) for text in row}
        with atomic_folder(self.held_out) as folder:
            counts = {}
            for file in self.pairs("dev"):
                held = list(rows(file))
                new = [row for row in held if not any(fold(text) in seen for text in row)]
                counts[file.parent.name] = {"pairs": len(held), "new": len(new)}
                if len(new) >= FEWEST:
                    lines = ["ORIG_TEXT\tREPLY_TEXT", *("\t".join(row) for row in new), ""]
                    (folder / f"{file.parent.name}.tsv").write_text("\n".join(lines), encoding="utf-8")
            write_json(folder / "counts.json", counts)

    def score(self, encoder: Path, file: Path, target: Path, *more: str) -> None:
        if not target.exists():
            said = twil("evaluate", encoder, file, "--mlm", *more, "--json", "--quiet")
            json.loads(said)  # whole, or not kept
            target.write_text(said, encoding="utf-8")

    def scores(self, file: Path) -> Path:
        return self.work / f"scores-{file.stem}.json"

    def task_scores(self, start: str, task: str) -> Path:
        return self.work / f"scores-{start.replace(' ', '-')}-{task}.json"

    def best_rate(self, task: str, start: str) -> float:
        """Give the learning rate whose best epoch has the highest macro-F1 on dev."""

        def on_dev(lr: float) -> float:
            epochs = self.record(Run(task, start, lr, CHOOSING_SEED))["history"]
            return max(float(epoch["dev_macro_f1"]) for epoch in epochs)

        return max(RATES, key=on_dev)

    def runs(self, task: str, start: str) -> list[Run]:
        """List the runs that are reported, when those that choose their rate are done."""
        lr = self.best_rate(task, start)
        return [Run(task, start, lr, seed) for seed in SEEDS]

    def record(self, run: Run) -> Any:
        """Read what a fine-tuning noted of itself."""
        return read_json(self.work / run.name / "run.json")

    def finetune(self, run: Run) -> None:
        folder = self.data / run.task
        resume(
            *("finetune", folder / "train.tsv", "--dev", folder / "dev.tsv", "--test", folder / "test.tsv"),
            *(["--model", self.starts[run.start]] if run.start in self.starts else self.drawn_anew()),
            *(*TUNING, "--precision", "auto", "--lr", run.lr, "--seed", run.seed, "--quiet"),
            output=self.work / run.name,
            threads=1,
        )

    def drawn_anew(self) -> list[object]:
        return drawn_anew(read_json(self.encoder / "config.json")["model"]["encoder"], self.tokenizer)


def rows(file: Path) -> Iterator[Sequence[str]]:
    """Give the texts of each row of a file, cleaned of what would end a cell."""
    for chunk in PairReader(file):
        for texts in chunk.texts():
            yield [" ".join(text.split()) for text in texts]


def collect(stages: Stages) -> dict[str, Any]:
    """Gather what the stages left in the work folder."""
    record = read_json(stages.encoder / "run.json")
    further = read_json(stages.starts["further on tweets"] / "run.json")
    speed = read_curves(stages.encoder).train["tokens_per_second"].values
    tasks = []
    for task, floor in TF_IDF.items():
        entry: dict[str, Any] = {"task": task, "tf_idf": floor}
        for start in STARTS:
            records = [stages.record(run) for run in stages.runs(task, start)]
            entry[start] = {
                "lr": stages.best_rate(task, start),
                "macro_f1": [record["results"]["test"]["metrics"]["macro_f1"] for record in records],
                "dev_macro_f1": [
                    max(float(epoch["dev_macro_f1"]) for epoch in record["history"]) for record in records
                ],
                "test_rows": records[0]["results"]["test"]["rows"],
                "mlm": read_json(stages.task_scores(start, task))["mlm"] if start in stages.starts else None,
            }
        tasks.append(entry)
    return {
        "twil": __version__,
        "cpu": cpu_name(),
        "cpus": available_cpus(),
        "tokens": TOKENS,
        "corpus": read_json(stages.corpus / "corpus.json"),
        "pretraining": {
            "config": {key: part for key, part in record["config"].items() if key != "data"},
            "shape": read_json(stages.encoder / "config.json")["model"]["encoder"],
            "parameters": record["parameters"],
            "precision": record["config"]["train"]["precision"],
            "pairs": record["corpus"]["pairs"],
            "texts": record["corpus"]["texts"],
            "steps": record["steps"],
            "best_step": record["best_step"],
            "minutes": record["seconds"] / 60,
            "tokens_per_second": statistics.median(speed),
            "dev": record["results"]["dev"],
        },
        "dev_files": read_json(stages.held_out / "counts.json"),
        "further": further["steps"],
        "million": tokens_read(stages.encoder) / 1e6,
        "further_million": tokens_read(stages.starts["further on tweets"]) / 1e6,
        "held_out": {file.stem: read_json(stages.scores(file)) for file in stages.scored()},
        "finetuning": {"settings": TUNING, "rates": RATES, "seeds": SEEDS, "tasks": tasks},
    }


def tokens_read(encoder: Path) -> float:
    """Estimate the tokens that a run has read from those of the steps that it logged."""
    tokens = [line["tokens"] for line in read_log(encoder / LOG) if line["event"] == "step"]
    return float(statistics.mean(tokens)) * int(read_json(encoder / "run.json")["steps"])


def share_of_tweets(kinds: dict[str, Any]) -> float:
    """Tell which part of an epoch's tokens are single tweets; pairs are read in both orders."""
    texts = float(kinds["texts"]["tokens"])
    return texts / (texts + 2 * kinds["pairs"]["tokens"])


PAGE = """# Pretraining on real pairs and tweets

Written by `benchmarks/real_pretraining.py`: twil {twil}, {cpu}, {cpus} CPUs, a vocabulary of {tokens:,}
tokens. {pairs:,} pairs and {texts:,} tweets; {layers} layers of {hidden}, {parameters:,} parameters;
{steps:,} steps of {batch_rows:,} rows in {precision}: {minutes:.0f} minutes at {tokens_per_second:,.0f}
tokens/s. Kept are the weights of the lowest loss on a hundredth of the conversations, held out: those of
step {best_step:,}.

![Curves of the run](real_pretraining.svg)

## The encoder on pairs that are new to it

Of each dev file those pairs neither of whose texts is in a training file but for links, marks, blanks and
case:
{new}.
A file with fewer than {fewest} of them is not scored.

The baseline of accuracy is the masked token that is most frequent, that of perplexity how often each token
stands elsewhere in the file; order guessed at random is right half of the time.

{held_out}

## Fine-tuning, macro-F1 on test

From the encoder, from the encoder after {further:,} more steps on the tweets alone
(`real_adaptation.toml`), and from the same shape drawn anew: mean and standard deviation over seeds {seeds};
settings `{settings}`. The learning rate, in brackets, is the one of {rates} that did best on dev with
another seed.

{finetuning}

The same on dev, by which epoch and rate are chosen:

{on_dev}

## Why the gain is small

An encoder helps a task by what it knows of the task's language, and these know little of it:

{knowledge}

Of the tokens that the first run reads, {tweets:.0%} are single tweets; most others are plays in verse,
speeches and debates. The second run, on tweets alone, guesses the tasks' tokens better, and with it dev
improves on every task over the first run and over a fresh start: what the first run lacks is the tasks'
language. On test the differences are of the size that chance makes of {test_rows} rows (the
standard error of an accuracy near {middle:.2f} is {errors}). Both encoders are small and have read
{million:.0f} million tokens, the second {further_million:.0f} million more; for comparison, XLM-T, which has
read 198 million tweets, is published with 0.685 on umsab_spanish.
"""


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    pretraining, finetuning = results["pretraining"], results["finetuning"]
    return PAGE.format(
        **{key: results[key] for key in ("twil", "cpu", "cpus", "tokens")},
        **pretraining,
        layers=pretraining["shape"]["n_layers"],
        hidden=pretraining["shape"]["hidden_size"],
        batch_rows=pretraining["config"]["train"]["batch_rows"],
        new=", ".join(f"{name} {n['new']:,} of {n['pairs']:,}" for name, n in results["dev_files"].items()),
        fewest=FEWEST,
        held_out=held_out_table(results["held_out"]),
        seeds=", ".join(map(str, finetuning["seeds"])),
        settings=" ".join(finetuning["settings"]),
        rates=", ".join(f"{rate:g}" for rate in finetuning["rates"]),
        **{key: results[key] for key in ("further", "million", "further_million")},
        tweets=share_of_tweets(results["corpus"]["parts"]["train"]),
        finetuning=finetuning_table(finetuning["tasks"]),
        on_dev=dev_table(finetuning["tasks"]),
        knowledge=knowledge_table(finetuning["tasks"]),
        **noise(finetuning["tasks"]),
    )


def held_out_table(files: dict[str, Any]) -> str:
    heads = [
        "new pairs of",
        "rows",
        "masked tokens right",
        "baseline",
        "perplexity",
        "baseline",
        "order right",
    ]
    rows = [
        [
            name,
            f"{scores['rows']:,}",
            f"{scores['mlm']['accuracy']:.1%}",
            f"{scores['mlm']['frequent_accuracy']:.1%}",
            f"{scores['mlm']['perplexity']:,.1f}",
            f"{scores['mlm']['unigram_perplexity']:,.0f}",
            f"{scores['rop']['accuracy']:.1%}",
        ]
        for name, scores in files.items()
    ]
    return table(heads, rows)


def finetuning_table(tasks: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            task["task"],
            *(f"{spread(task[start]['macro_f1'])} ({task[start]['lr']:g})" for start in STARTS),
            f"{task['tf_idf']:.3f}",
        ]
        for task in tasks
    ]
    return table(["task", *STARTS, "TF-IDF"], rows)


def dev_table(tasks: Sequence[dict[str, Any]]) -> str:
    rows = [[task["task"], *(spread(task[start]["dev_macro_f1"]) for start in STARTS)] for task in tasks]
    return table(["task", *STARTS], rows)


def knowledge_table(tasks: Sequence[dict[str, Any]]) -> str:
    """Tell how well each encoder guesses masked tokens of the tasks' own tweets."""

    def said(mlm: dict[str, Any]) -> str:
        return f"{mlm['accuracy']:.1%} right, perplexity {mlm['perplexity']:,.0f}"

    encoders = [start for start in STARTS if tasks[0][start]["mlm"]]
    rows = [
        [
            task["task"],
            *(said(task[start]["mlm"]) for start in encoders),
            (
                f"{task[encoders[0]]['mlm']['frequent_accuracy']:.1%} right, "
                f"perplexity {task[encoders[0]]['mlm']['unigram_perplexity']:,.0f}"
            ),
        ]
        for task in tasks
    ]
    return table(["masked tokens of the test texts of", *encoders, "baseline"], rows)


def noise(tasks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Tell how far chance alone moves a score on each test set."""
    rows = [task[STARTS[0]]["test_rows"] for task in tasks]
    middle = float(statistics.mean(score for task in tasks for score in task[STARTS[-1]]["macro_f1"]))
    errors = (math.sqrt(middle * (1 - middle) / count) for count in rows)
    return {
        "test_rows": listed(f"{count:,}" for count in rows),
        "middle": middle,
        "errors": listed(f"{error:.3f}" for error in errors),
    }


def listed(items: Iterable[str]) -> str:
    *others, last = items
    return f"{', '.join(others)} and {last}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per set")
    parser.add_argument("--work", type=Path, required=True, help="keeps every stage's output")
    parser.add_argument("--jobs", type=int, default=2, help="fine-tunings at a time, one thread each")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "real_pretraining")
    options = parser.parse_args()
    stages = Stages(options.data, options.work, options.jobs)
    stages.run_all()
    twil("plot", stages.encoder, "-o", options.output.with_suffix(".svg"), "--force")
    results = collect(stages)
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))


if __name__ == "__main__":
    main()
