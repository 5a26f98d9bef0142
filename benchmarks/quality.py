"""Measure what models are worth on real tasks, from words counted to large encoders and what ships with twil.

    python benchmarks/quality.py --data FOLDER --work FOLDER [--model NAME=ENCODER …] [--students FOLDER]
        [--only NAME,…] [--columns NAME,…] [--seeds 1,2,3] [--no-runs]

A row is a recipe of `recipes/`, a column a way to learn it:

- TF-IDF: words and pairs of words, and two to five characters of a word, weighed by sublinear counts, with
  logistic regression. How strongly it is regularised and whether labels count alike is chosen on dev.
- fastText, with settings chosen on dev, in an environment of its own.
- from scratch: the recipe as it is, with an encoder of the shape of twil-es drawn anew.
- twil-es, and every `--model`: `twil finetune` of that encoder, with nothing but the data and what the task
  is judged by; learning rate, epochs and all else as it comes.
- student: the int8 bundle that `recipes/shipped/make.sh` has left in `--students`: of runs with several seeds
  the mean of the weights, therefore scored once.

Choices on dev are by the score that the task is judged by, as a transformer's epoch is; so are thresholds of
a recipe that asks for them. Nothing is chosen on test. Intervals of 95 % are of the mean over the seeds, by
the bootstrap over the rows of the test set.

What lies in the work folder is not run again, and a run that was interrupted goes on where it stopped. Writes
results/quality.md, .json and .png, of the runs that are there; a cell without a run in the work folder stays
as an earlier run wrote it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from peer_processes import make_environments, python_of, run
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_union
from training_runs import drawn_anew, read_json, resume, table

from twil.config.training import FinetuneConfig, finetune_config
from twil.core.machine import available_cpus, cpu_name, keep_freed_memory
from twil.core.task import Task
from twil.core.version import __version__
from twil.data.labelled import LabelledColumns, LabelledSet, find_labels, read_labelled
from twil.evaluation.classifiers import open_classifier
from twil.scores.intervals import Interval, percentile_interval
from twil.scores.metrics import main_metric, score_logits
from twil.scores.resampling import resample
from twil.shipped import ENCODER, shipped_model
from twil.train.objectives.decisions import decide

HERE = Path(__file__).parent
RECIPES = HERE.parent / "recipes"
TFIDF, FASTTEXT, SCRATCH, STUDENT = "TF-IDF", "fastText", "from scratch", "student"
SEEDS = (1, 2, 3)
STRENGTHS, WEIGHTS = (0.3, 1.0, 3.0, 10.0), (None, "balanced")
ENVIRONMENTS = {"fasttext": ("fasttext-numpy2-wheel==0.9.2", "numpy")}
IN_ORDER = (
    *("umsab_spanish", "goldtox_es", "irosva19_es", "irosva19_mx", "irosva19_cu", "brighter_es"),
    *("semeval18_ec_es", "cic_es", "haha21", "emo50k_es"),
)
"""The recipes, the quick ones first."""
STUDENTS = {"umsab_spanish": "sentiment", "brighter_es": "emotion"}
"""What ships, by the task that it was trained on."""
XLM_T, ROBERTUITO = "Barbieri et al., LREC 2022", "Pérez et al., LREC 2022"
PUBLISHED = {
    "umsab_spanish": f"fastText 0.501, XLM-R 0.659, XLM-T 0.685 ({XLM_T})",
    **dict.fromkeys(
        ("irosva19_es", "irosva19_mx", "irosva19_cu"),
        f"the three countries together: mBERT 0.681, BETO 0.715, RoBERTuito 0.741 ({ROBERTUITO})",
    ),
}
"""Macro-F1 on the same test."""
NO_TEST = "haha21"
"""No test labels are published: dev is scored, which has also chosen the epoch."""
RESAMPLES = 10_000

Answers = NDArray[Any]


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
        columns = LabelledColumns.of(data)
        return {part: read_labelled(file, columns, data.kind) for part, file in self.files.items()}

    def targets(self, part: str) -> Answers:
        return self.sets[part].targets(self.task)

    @property
    def scored(self) -> str:
        """Which of its sets says what a model is worth."""
        return "dev" if self.name == NO_TEST else "test"

    @cached_property
    def task(self) -> Task:
        data = self.config.data
        return data.make_task(data.labels or find_labels(self.sets["train"], data.kind))

    @property
    def metric(self) -> str:
        """By which the task is judged."""
        chosen = self.config.train.metric
        return main_metric(self.task) if chosen == "auto" else chosen

    @cached_property
    def question(self) -> list[object]:
        """The options of a fine-tuning that say what is asked and how it is judged, and nothing else."""
        told = tomllib.loads(self.file.read_text(encoding="utf-8"))
        settings = {f"data.{key}": value for key, value in told["data"].items() if key not in self.files}
        settings |= {f"decision.{key}": value for key, value in told.get("decision", {}).items()}
        settings["train.metric"] = self.metric
        files = [
            option for part, file in self.files.items() if part != "train" for option in (f"--{part}", file)
        ]
        changes = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
        return [self.files["train"], *files, *(option for change in changes for option in ("--set", change))]


@dataclass(frozen=True)
class Bench:
    """The work folder, and what fills it.

    Attributes:
        work: Where model folders and answers lie.
        encoders: What is fine-tuned, by the name of its column.
        students: Where the bundles of `recipes/shipped/make.sh` lie; None where they are left out.
        seeds: One run each.
    """

    work: Path
    encoders: dict[str, Path]
    students: Path | None
    seeds: Sequence[int]

    @property
    def columns(self) -> list[str]:
        """Those that there is something for: from scratch is the shape of twil-es."""
        scratch = [SCRATCH] if ENCODER in self.encoders else []
        return [TFIDF, FASTTEXT, *scratch, *self.encoders, *([STUDENT] if self.students else [])]

    def run(self, recipe: Recipe, column: str, seed: int) -> None:
        """Learn a task in one of the ways, and keep what is answered; nothing where that is done."""
        answers = self._file(recipe, column, seed)
        if answers.exists() or (column in (TFIDF, STUDENT) and seed != self.seeds[0]):
            return
        if column == TFIDF:
            found = count_words(recipe)
        elif column == FASTTEXT:
            found = run_fasttext(recipe, self.work, seed)
        elif column == STUDENT:
            bundle = self._student(recipe)
            if bundle is None or not bundle.exists():
                return
            found = answer(bundle, recipe)
        else:
            found = answer(self._finetune(recipe, column, seed), recipe)
        np.save(answers, found)

    def answers(self, recipe: Recipe, column: str) -> list[Answers]:
        """Read what was answered, by the seeds that are done."""
        files = (self._file(recipe, column, seed) for seed in self.seeds)
        return [np.load(file) for file in files if file.exists()]

    def _file(self, recipe: Recipe, column: str, seed: int) -> Path:
        return self._folder(recipe, column, seed).with_suffix(".npy")

    def _folder(self, recipe: Recipe, column: str, seed: int) -> Path:
        return self.work / f"{recipe.name}-{column.replace(' ', '-')}-{seed}"

    def _student(self, recipe: Recipe) -> Path | None:
        name = STUDENTS.get(recipe.name)
        return self.students / name if self.students and name else None

    def _finetune(self, recipe: Recipe, column: str, seed: int) -> Path:
        folder = self._folder(recipe, column, seed)
        how = (
            [*recipe.question, "--config", recipe.file, *self._drawn_anew]
            if column == SCRATCH
            else [*recipe.question, "--model", self.encoders[column]]
        )
        resume("finetune", *how, "--seed", seed, "--quiet", output=folder)
        return folder

    @property
    def _drawn_anew(self) -> list[object]:
        folder = self.encoders[ENCODER]
        shape = dict(read_json(folder / "config.json")["model"]["encoder"])
        return drawn_anew(shape, folder / "tokenizer.json")


def answer(model: Path, recipe: Recipe) -> Answers:
    """Have a model folder or a bundle answer the set that is scored, by its own thresholds."""
    with open_classifier(model) as classifier:
        rows = recipe.sets[recipe.scored].rows
        own, logits = classifier.task, classifier.answer(rows, warm_up=False).logits
        return own.in_order_of(recipe.task.labels, own.decide(own.probabilities(logits)))


def count_words(recipe: Recipe) -> Answers:
    """Answer by TF-IDF with logistic regression."""
    keep_freed_memory()  # regression on many labels takes and gives back gigabytes at each of its steps
    task, sets = recipe.task, recipe.sets
    vectors = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    vectors.fit(texts(sets["train"]))
    inputs = {part: vectors.transform(texts(rows)) for part, rows in sets.items()}
    candidates = []
    for strength, weights in itertools.product(STRENGTHS, WEIGHTS):
        regression = LogisticRegression(C=strength, class_weight=weights, max_iter=1000)
        model = OneVsRestClassifier(regression) if task.kind == "multi-label" else regression
        model.fit(inputs["train"], recipe.targets("train"))
        candidates.append({part: in_columns(model.decision_function(rows)) for part, rows in inputs.items()})
    return best_on_dev(recipe, candidates)


def run_fasttext(recipe: Recipe, work: Path, seed: int) -> Answers:
    """Answer by fastText, which runs in its own environment."""
    asked = {
        "texts": {part: texts(rows) for part, rows in recipe.sets.items()},
        "targets": recipe.targets("train").tolist(),
        "labels": len(recipe.task.labels),
        "seed": seed,
    }
    done = run(python_of(work, "fasttext"), HERE / "quality_peers.py", input=json.dumps(asked))
    candidates = [
        {part: np.array(rows, dtype=np.float32) for part, rows in one.items()}
        for one in json.loads(done.stdout)
    ]
    return best_on_dev(recipe, candidates)


def best_on_dev(recipe: Recipe, candidates: Sequence[dict[str, NDArray[np.float32]]]) -> Answers:
    """Choose among logits by dev, and decide by what the recipe tunes on dev."""
    found = []
    for logits in candidates:
        targets = recipe.targets("dev")
        decision = decide(recipe.config.decision, logits["dev"], targets, recipe.task)
        task = decision.task if decision else recipe.task
        score = score_logits(logits["dev"], targets, task).metrics[recipe.metric]
        found.append((score, task.decide(task.probabilities(logits[recipe.scored]))))
    return max(found, key=lambda one: one[0])[1]


def texts(rows: LabelledSet) -> list[str]:
    return rows.texts if rows.text_pairs is None else [" ".join(pair) for pair in rows.rows]


def in_columns(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Give two classes, of which scikit-learn has one number, a column each."""
    columns = logits if logits.ndim == 2 else np.stack([0 * logits, logits], axis=1)
    return columns.astype(np.float32)


def collect(recipes: Sequence[Recipe], bench: Bench) -> dict[str, Any]:
    """Score what is in the work folder."""
    return {
        "twil": __version__,
        "machine": f"{cpu_name()}, {available_cpus()} CPUs",
        "seeds": list(bench.seeds),
        "columns": bench.columns,
        "tasks": [
            {
                "recipe": recipe.name,
                "train": len(recipe.sets["train"]),
                "rows": len(recipe.sets[recipe.scored]),
                "scored": recipe.scored,
                "published": PUBLISHED.get(recipe.name),
                "metrics": {
                    metric: dict(score(recipe, metric, bench))
                    for metric in dict.fromkeys((recipe.metric, "macro_f1"))
                },
            }
            for recipe in recipes
        ],
    }


def keep_earlier(results: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Add what an earlier page has and this work folder has no run of, cell by cell."""
    old, new = ({task["recipe"]: task for task in page["tasks"]} for page in (earlier, results))
    tasks = []
    for recipe in (name for name in IN_ORDER if name in old or name in new):
        metrics: dict[str, dict[str, Any]] = {}
        for page in (old, new):
            for metric, scores in page.get(recipe, {"metrics": {}})["metrics"].items():
                metrics.setdefault(metric, {}).update(scores)
        tasks.append(old.get(recipe, {}) | new.get(recipe, {}) | {"metrics": metrics})
    machines = dict.fromkeys([*earlier["machine"].split("; "), results["machine"]])
    columns = dict.fromkeys([*earlier["columns"], *results["columns"]])
    return results | {
        "machine": "; ".join(machines),
        "seeds": sorted({*earlier["seeds"], *results["seeds"]}),
        "columns": list(columns),
        "tasks": tasks,
    }


def score(recipe: Recipe, metric: str, bench: Bench) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give for every column that is there its scores by seed, and the interval of their mean."""
    answers = {column: bench.answers(recipe, column) for column in bench.columns}
    given = [one for ones in answers.values() for one in ones]
    if not given:
        return
    targets = recipe.targets(recipe.scored)
    found = resample(targets, given, recipe.task, metrics=[metric], samples=RESAMPLES, seed=1)
    start = 0
    for column, ones in answers.items():
        if ones:
            own = slice(start, start + len(ones))
            values, samples = found.values[metric][own], found.samples[metric][own]
            interval = percentile_interval(float(values.mean()), samples.mean(0))
            yield column, {"seeds": values.tolist(), "interval": interval._asdict()}
            start += len(ones)


PAGE = """# What models are worth on real tasks

Written by `benchmarks/quality.py`, which says what each column is: twil {twil}, {machine}. Scores are on test
sets: means over the seeds {seeds} ± their standard deviation, and 95 % intervals; a figure without a
deviation is of one run. Nothing is chosen on test.

![scores by task]({chart})

{table}

- haha21: no test labels are published; the score is that on dev, which has also chosen the epoch.

Published, macro-F1 on the same test:

{published}

## Beside words counted

{sentences}
"""


def render(results: dict[str, Any], chart: str) -> str:
    """Lay the results out as Markdown."""
    tasks = results["tasks"]
    return PAGE.format(
        **results | {"seeds": listed(map(str, results["seeds"]))},
        chart=chart,
        table=scores_table(results),
        published="\n".join(
            f"- {task['recipe']}: {task['published']}." for task in tasks if task["published"]
        ),
        sentences="\n".join(f"- {judge(task)}" for task in tasks),
    )


def scores_table(results: dict[str, Any]) -> str:
    rows = []
    for task in results["tasks"]:
        for number, (metric, scores) in enumerate(task["metrics"].items()):
            first = [task["recipe"], f"{task['train']:,}", f"{task['rows']:,}"]
            cells = [cell(scores.get(column), len(results["seeds"])) for column in results["columns"]]
            rows.append([*(first if number == 0 else ["", "", ""]), called(metric), *cells])
    return table(["recipe", "train", "scored", "metric", *results["columns"]], rows)


def cell(scores: dict[str, Any] | None, seeds: int) -> str:
    if scores is None:
        return "–"
    values, interval = scores["seeds"], Interval(**scores["interval"])
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    missing = f", {len(values)} of {seeds} seeds" if 1 < len(values) < seeds else ""
    return f"{interval.value:.3f}{spread} ({interval.low:.3f} – {interval.high:.3f}{missing})"


def called(metric: str) -> str:
    return metric.replace("_", " ").replace("f1", "F1")


def judge(task: dict[str, Any]) -> str:
    """Say in one sentence who loses to TF-IDF, by the score that the task is judged by."""
    metric, scores = next(iter(task["metrics"].items()))
    floor = scores.get(TFIDF)
    if floor is None:
        return f"{task['recipe']}: not run."
    gains = {
        column: 100 * (found["interval"]["value"] - floor["interval"]["value"])
        for column, found in scores.items()
        if column != TFIDF
    }
    told = [f"{column} {'loses' if gain < 0 else 'gains'} {abs(gain):.1f}" for column, gain in gains.items()]
    return f"{task['recipe']}, points of {called(metric)}: {', '.join(told)}."


def draw(results: dict[str, Any], file: Path) -> None:
    """Draw each task's scores, a mark for each column and a line for its interval."""
    tasks = results["tasks"]
    figure, axes = plt.subplots(figsize=(9, 0.62 * len(tasks) + 1.4), layout="constrained")
    for number, column in enumerate(results["columns"]):
        points = [
            (place, next(iter(task["metrics"].values())).get(column)) for place, task in enumerate(tasks)
        ]
        there = [(place, Interval(**scores["interval"])) for place, scores in points if scores]
        heights = [place + (number - len(results["columns"]) / 2) * 0.11 for place, _ in there]
        values = [interval.value for _, interval in there]
        ends = np.array([[each.value - each.low, each.high - each.value] for _, each in there]).T
        axes.errorbar(
            values, heights, xerr=ends.reshape(2, -1), fmt="o", markersize=4, linewidth=1, label=column
        )
    metrics = [next(iter(task["metrics"])) for task in tasks]
    names = [f"{task['recipe']}\n{called(metric)}" for task, metric in zip(tasks, metrics, strict=True)]
    axes.set_yticks(range(len(tasks)), names, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(results["columns"]), fontsize=8, frameon=False)
    figure.savefig(file, dpi=140)


def listed(items: Iterator[str]) -> str:
    *others, last = items
    return f"{', '.join(others)} and {last}" if others else last


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder that recipes call data")
    parser.add_argument("--work", type=Path, required=True, help="keeps model folders and answers")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=ENCODER")
    parser.add_argument("--students", type=Path, help="the work folder of recipes/shipped/make.sh")
    parser.add_argument("--only", default=",".join(IN_ORDER), help="recipes to run, separated by commas")
    parser.add_argument("--columns", help="columns to run; all when left out")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--no-runs", action="store_true", help="write what there is, run nothing")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "quality")
    options = parser.parse_args()
    recipes = [Recipe(name, options.data) for name in options.only.split(",")]
    named = dict(model.split("=", 1) for model in options.model)
    encoders = {ENCODER: shipped_model(ENCODER), **named}
    bench = Bench(
        options.work,
        {name: Path(folder) for name, folder in encoders.items() if folder},
        options.students,
        [int(seed) for seed in options.seeds.split(",")],
    )
    bench.work.mkdir(parents=True, exist_ok=True)
    if not options.no_runs:
        columns = options.columns.split(",") if options.columns else bench.columns
        if FASTTEXT in columns:
            make_environments(bench.work, ENVIRONMENTS)
        # A seed of every column before the next: what is there early says something of all.
        for recipe, seed, column in itertools.product(recipes, bench.seeds, columns):
            bench.run(recipe, column, seed)
    results = collect(recipes, bench)
    page = options.output.with_suffix(".json")
    if page.exists():
        results = keep_earlier(results, read_json(page))
    chart = options.output.with_suffix(".png")
    draw(results, chart)
    page.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(render(results, chart.name), encoding="utf-8")
    print(render(results, chart.name))


if __name__ == "__main__":
    main()
