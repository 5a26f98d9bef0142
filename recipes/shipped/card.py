"""Tell in a bundle's card what it was made of, how good it is and where it fails.

    python recipes/shipped/card.py TARGET ABOUT.md TEST.tsv ERRORS.md BUNDLE RUN [RUN …]

The card that `twil export` wrote gets version and date and the text of ABOUT.md behind its first paragraph,
then the scores of the bundle on the test set and on parts of it, beside those of the runs whose mean it is,
and what ERRORS.md says of its errors. Intervals of 95 % are by the bootstrap over rows.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.core.storage import atomic_folder
from twil.core.task import Task
from twil.data.labelled import LabelledSet, read_labelled
from twil.evaluation.classifiers import open_classifier, read_task
from twil.scores.intervals import percentile_interval
from twil.scores.resampling import resample

CARD = "MODEL_CARD.md"
VERSION = 1
METRIC = "macro_f1"
RESAMPLES = 10_000
FEWEST = 40
"""Parts of fewer rows tell nothing."""
NEGATION = re.compile(r"\b(no|ni|nunca|nada|nadie|ningun[ao]?|ningún|tampoco|jamás|sin)\b", re.IGNORECASE)
LAUGHTER = re.compile(r"\b(ja|je|ji)(ja|je|ji|j)+\b|\b(lol|xd+)\b", re.IGNORECASE)
EMOJI = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]")
Answers = NDArray[Any]


def parts(texts: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Tell which rows are in which part."""
    words = np.array([len(text.split()) for text in texts])
    negated, laughing, drawn = (
        np.array([bool(pattern.search(text)) for text in texts]) for pattern in (NEGATION, LAUGHTER, EMOJI)
    )
    return {
        "all": np.full(len(texts), True),
        "up to 8 words": words <= 8,
        "9 to 16 words": (words > 8) & (words <= 16),
        "more than 16 words": words > 16,
        "with a negation (no, nunca, sin, …)": negated,
        "without one": ~negated,
        "with laughter (jaja, xd, …)": laughing,
        "with emoji": drawn,
    }


def answer(bundle: Path, rows: LabelledSet) -> Answers:
    with open_classifier(bundle) as classifier:
        task, logits = classifier.task, classifier.answer(rows.rows, warm_up=False).logits
        return task.decide(task.probabilities(logits))


def score(task: Task, targets: Answers, answers: Answers) -> str:
    """Give a score and its interval as two cells."""
    found = resample(targets, [answers], task, metrics=[METRIC], samples=RESAMPLES, seed=1)
    value = float(found.values[METRIC][0])
    interval = percentile_interval(value, found.samples[METRIC][0])
    return f"{value:.3f} | {interval.low:.3f} – {interval.high:.3f}"


def describe(test: Path, bundle: Path, runs: Sequence[Path]) -> str:
    """Write the section on scores."""
    task = read_task(bundle)
    rows = read_labelled(test, kind=task.kind)
    targets, answers = rows.targets(task), answer(bundle, rows)
    records = [json.loads((run / "run.json").read_text(encoding="utf-8")) for run in runs]
    alone = [record["results"]["test"]["metrics"][METRIC] for record in records]
    told = (
        f"Macro-F1 on {len(rows):,} rows on which neither it nor its teacher was trained or chosen. Its "
        f"weights are the mean of those of {len(runs)} runs with different seeds, of which each alone has "
        f"{statistics.mean(alone):.3f} ± {statistics.stdev(alone):.3f} in fp32, and were trained once more "
        "on the labelled rows."
    )
    lines = [
        "## How good it is, and where it fails",
        "",
        told,
        "",
        "| rows | how many | macro-F1 | 95 % |",
        "| --- | --- | --- | --- |",
    ]
    for name, part in parts(rows.texts).items():
        if part.sum() >= FEWEST:
            lines.append(f"| {name} | {part.sum():,} | {score(task, targets[part], answers[part])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", type=Path)
    parser.add_argument("about", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("errors", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    card = (options.bundle / CARD).read_text(encoding="utf-8").partition("\n---\n\n")[2]  # without the header
    _, first, rest = card.split("\n\n", 2)
    pages = [
        f"# {options.target.name}",
        first,
        f"- version: {VERSION}\n- date: {datetime.now(UTC):%Y-%m-%d}",
        options.about.read_text(encoding="utf-8").strip(),
        describe(options.test, options.bundle, options.runs),
        options.errors.read_text(encoding="utf-8").strip(),
        rest,
    ]
    with atomic_folder(options.target) as folder:
        shutil.copytree(options.bundle, folder, dirs_exist_ok=True)
        (folder / CARD).write_text("\n\n".join(pages), encoding="utf-8")
    print(f"wrote {options.target}")


if __name__ == "__main__":
    main()
