"""Fine-tune every recipe from an encoder and from scratch, and set both beside words counted.

    python benchmarks/tasks.py --data FOLDER --encoder FOLDER --work FOLDER [--only NAME,…] [--seeds 1,2,3]

Every recipe of `recipes/` is run as it is, with each seed, from the encoder and from the same shape drawn
anew. What lies in the work folder is not run again, and a run that was interrupted goes on where it stopped.

The floor is TF-IDF with logistic regression: words and pairs of words, and two to five characters of a word,
weighed by sublinear counts. How strongly it is regularised and whether labels count alike is chosen on dev,
by the score that the task is judged by, as the transformer's epoch is; so are the thresholds of a recipe that
asks for them.

Writes results/tasks.md and .json, of the runs that are there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_union
from training_runs import drawn_anew, read_json, resume, spread, table

from twil.config.training import FinetuneConfig, finetune_config
from twil.data.labelled import LabelledColumns, LabelledSet, find_labels, read_labelled
from twil.machine import available_cpus, cpu_name
from twil.scoring.metrics import Report, main_metric, score_logits
from twil.task import Task
from twil.train.decisions import decide
from twil.version import __version__

HERE = Path(__file__).parent
RECIPES = HERE.parent / "recipes"
STARTS = ("from scratch", "from the encoder")
SEEDS = (1, 2, 3)
STRENGTHS, WEIGHTS = (0.3, 1.0, 3.0, 10.0), (None, "balanced")
IN_ORDER = (
    *("umsab_spanish", "goldtox_es", "irosva19_es", "irosva19_mx", "irosva19_cu", "multistance18"),
    *("brighter_es", "semeval18_ec_es", "cic_es", "haha21", "emo50k_es"),
)
"""The recipes, the quick ones first."""
XLM_T, ROBERTUITO = "Barbieri et al., LREC 2022", "Pérez et al., LREC 2022"
PUBLISHED = {
    "umsab_spanish": f"fastText 0.501, XLM-R 0.659, XLM-T 0.685 ({XLM_T})",
    **dict.fromkeys(
        ("irosva19_es", "irosva19_mx", "irosva19_cu"),
        f"BETO 0.715, RoBERTuito 0.741, the three together ({ROBERTUITO})",
    ),
}
"""Macro-F1 on the same test."""
NOTES = {
    "haha21": "no test labels are published: the score is that on dev, which has also chosen the epoch",
    "multistance18": "a sample of 19 rows, which shows that pairs are trained and no more; all rows of its "
    "test are NEUTRAL, so that the score is that on dev",
}
ON_DEV = tuple(NOTES)


@dataclass(frozen=True)
class Recipe:
    """A recipe, and the data that it names.

    Attributes:
        name: Of its file.
        data: The folder that the recipe calls `data`.
    """

    name: str
    data: Path

    @property
    def file(self) -> Path:
        return RECIPES / f"{self.name}.toml"

    @cached_property
    def config(self) -> FinetuneConfig:
        """Its settings, with the files where they are; the encoder is of no account here."""
        return finetune_config(self.file, {"data": self.files, "model": {"folder": "any"}})

    @cached_property
    def files(self) -> dict[str, Path]:
        named = tomllib.loads(self.file.read_text(encoding="utf-8"))["data"]
        parts = {part: named[part] for part in ("train", "dev", "test") if part in named}
        return {part: self.data / Path(file).relative_to("data") for part, file in parts.items()}

    @cached_property
    def sets(self) -> dict[str, LabelledSet]:
        data = self.config.data
        columns = LabelledColumns(data.text, data.text_pair, data.label)
        return {part: read_labelled(file, columns, data.kind) for part, file in self.files.items()}

    @property
    def scored(self) -> str:
        """Which of its sets says what it is worth."""
        return "dev" if self.name in ON_DEV else "test"

    @cached_property
    def task(self) -> Task:
        data = self.config.data
        return data.make_task(data.labels or find_labels(self.sets["train"], data.kind))

    @property
    def metric(self) -> str:
        """By which the task is judged."""
        chosen = self.config.train.metric
        return main_metric(self.task) if chosen == "auto" else chosen


@dataclass(frozen=True)
class Runs:
    """The work folder, and the runs that fill it.

    Attributes:
        encoder: What runs start from.
        work: Where their model folders lie.
        seeds: One run each.
    """

    encoder: Path
    work: Path
    seeds: Sequence[int]

    def folder(self, recipe: Recipe, start: str, seed: int) -> Path:
        return self.work / f"{recipe.name}-{start.replace(' ', '-')}-{seed}"

    def finetune(self, recipe: Recipe, start: str, seed: int) -> None:
        files = recipe.files
        sets = [option for part in ("dev", "test") if part in files for option in (f"--{part}", files[part])]
        resume(
            *("finetune", files["train"], *sets, "--config", recipe.file),
            *(["--model", self.encoder] if start == "from the encoder" else self.fresh),
            *("--seed", seed, "--quiet"),
            output=self.folder(recipe, start, seed),
            threads=1,
        )

    @property
    def fresh(self) -> list[object]:
        return drawn_anew(self.shape, self.encoder / "tokenizer.json")

    @property
    def shape(self) -> dict[str, Any]:
        return dict(read_json(self.encoder / "config.json")["model"]["encoder"])

    def scores(self, recipe: Recipe, start: str) -> list[dict[str, float]]:
        """Read the scores of the runs that are done, one of each seed."""
        folders = (self.folder(recipe, start, seed) for seed in self.seeds)
        records = (read_json(folder / "run.json") for folder in folders if folder.exists())
        return [record["results"][recipe.scored]["metrics"] for record in records]


def find_floor(recipe: Recipe) -> Report:
    """Score TF-IDF with logistic regression."""
    task, sets = recipe.task, recipe.sets
    vectors = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    vectors.fit(texts(sets["train"]))
    inputs = {part: vectors.transform(texts(rows)) for part, rows in sets.items()}
    targets = {part: rows.targets(task) for part, rows in sets.items()}
    found = []
    for strength, weights in itertools.product(STRENGTHS, WEIGHTS):
        regression = LogisticRegression(C=strength, class_weight=weights, max_iter=1000)
        model = OneVsRestClassifier(regression) if task.kind == "multi-label" else regression
        model.fit(inputs["train"], targets["train"])
        logits = {part: in_columns(model.decision_function(inputs[part])) for part in ("dev", recipe.scored)}
        decision = decide(recipe.config.decision, logits["dev"], targets["dev"], task)
        decided = decision.task if decision else task
        on_dev, report = (
            score_logits(logits[part], targets[part], decided) for part in ("dev", recipe.scored)
        )
        found.append((on_dev.metrics[recipe.metric], report))
    return max(found, key=lambda one: one[0])[1]


def texts(rows: LabelledSet) -> list[str]:
    return rows.texts if rows.text_pairs is None else [" ".join(pair) for pair in rows.rows]


def in_columns(logits: np.ndarray) -> np.ndarray:
    """Give two classes, of which scikit-learn has one number, a column each."""
    columns = logits if logits.ndim == 2 else np.stack([0 * logits, logits], axis=1)
    return columns.astype(np.float32)


def collect(recipes: Sequence[Recipe], runs: Runs) -> dict[str, Any]:
    """Gather the scores of what is in the work folder, beside the floors."""
    found = []
    for recipe in recipes:
        report = find_floor(recipe)
        scores = {start: runs.scores(recipe, start) for start in STARTS}
        metrics = dict.fromkeys((recipe.metric, "macro_f1"))
        found.append(
            {
                "recipe": recipe.name,
                "train": len(recipe.sets["train"]),
                "rows": report.rows,
                "scored": recipe.scored,
                "metrics": {
                    metric: {
                        "floor": report.metrics[metric],
                        **{start: [one[metric] for one in scores[start]] for start in STARTS},
                    }
                    for metric in metrics
                },
                "published": PUBLISHED.get(recipe.name),
            }
        )
    return {
        "twil": __version__,
        "machine": f"{cpu_name()}, {available_cpus()} CPUs",
        "shape": runs.shape,
        "seeds": list(runs.seeds),
        "tasks": found,
    }


PAGE = """# The recipes on real data

Written by `benchmarks/tasks.py`, which says what the floor is: twil {twil}, {machine}. Each recipe of
[recipes](../../recipes/README.md) from an encoder of {n_layers} layers of {hidden_size} and {vocab_size:,}
pieces, pretrained by `benchmarks/real_pretraining.py`, and from the same shape drawn anew: mean and standard
deviation over the seeds {seeds}. The floor is TF-IDF with logistic regression.

{table}

{notes}

## Who stays under the floor

{sentences}
"""


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    tasks = results["tasks"]
    return PAGE.format(
        **results | {"seeds": listed(map(str, results["seeds"]))},
        **{key: results["shape"][key] for key in ("n_layers", "hidden_size", "vocab_size")},
        table=scores_table(tasks, len(results["seeds"])),
        notes="\n".join(
            f"- {task['recipe']}: {NOTES[task['recipe']]}." for task in tasks if task["recipe"] in NOTES
        ),
        sentences="\n".join(f"- {judge(task)}" for task in tasks if task["recipe"] != "multistance18"),
    )


def scores_table(tasks: Sequence[dict[str, Any]], seeds: int) -> str:
    heads = ["recipe", "train", "scored", "metric", "floor", *STARTS, "published, on the same test"]
    rows = []
    for task in tasks:
        for number, (metric, scores) in enumerate(task["metrics"].items()):
            first = [task["recipe"], f"{task['train']:,}", f"{task['rows']:,} of {task['scored']}"]
            rows.append(
                [
                    *(first if number == 0 else ["", "", ""]),
                    *(called(metric), f"{scores['floor']:.4f}"),
                    *(cell(scores[start], seeds) for start in STARTS),
                    (task["published"] or "–") if metric == "macro_f1" else "–",
                ]
            )
    return table(heads, rows)


def cell(scores: Sequence[float], seeds: int) -> str:
    if not scores:
        return "not run"
    return spread(scores) + (f" ({len(scores)} of {seeds} runs)" if len(scores) < seeds else "")


def called(metric: str) -> str:
    return metric.replace("_", " ").replace("f1", "F1")


def judge(task: dict[str, Any]) -> str:
    """Say in one sentence which start stays under the floor, by the score that the task is judged by."""
    metric, scores = next(iter(task["metrics"].items()))
    said = []
    for start in STARTS:
        if not scores[start]:
            said.append(f"{start} it has not been run")
            continue
        difference = 100 * (statistics.mean(scores[start]) - scores["floor"])
        side = "under" if difference < 0 else "over"
        said.append(f"{start} {abs(difference):.1f} points {side} the floor")
    return f"{task['recipe']}, {called(metric)}: {' and '.join(said)}."


def listed(items: Iterable[str]) -> str:
    *others, last = items
    return f"{', '.join(others)} and {last}" if others else last


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder that recipes call data")
    parser.add_argument("--encoder", type=Path, required=True, help="a model folder of twil pretrain")
    parser.add_argument("--work", type=Path, required=True, help="keeps the model folders")
    parser.add_argument("--only", default=",".join(IN_ORDER), help="recipes to run, separated by commas")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--no-runs", action="store_true", help="write what there is, run nothing")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "tasks")
    options = parser.parse_args()
    recipes = [Recipe(name, options.data) for name in options.only.split(",")]
    runs = Runs(options.encoder, options.work, [int(seed) for seed in options.seeds.split(",")])
    runs.work.mkdir(parents=True, exist_ok=True)
    if not options.no_runs:
        # A seed of every start before the next: what is there early says something of both.
        for recipe, seed, start in itertools.product(recipes, runs.seeds, STARTS):
            runs.finetune(recipe, start, seed)
    results = collect(recipes, runs)
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))


if __name__ == "__main__":
    main()
