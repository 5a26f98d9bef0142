"""Tell in a bundle's card what the model is for, how good it is and where it fails.

    python recipes/shipped/card.py ABOUT.md TEST.tsv BUNDLE [BUNDLE OF ANOTHER SEED …]

The card of the first bundle, as `twil export` wrote it, gets the text of ABOUT.md behind its first paragraph,
then the scores of all seeds on the test set, and those of the first bundle on parts of it. Intervals of 95 %
are by the bootstrap over rows.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.data.labelled import LabelledSet, read_labelled
from twil.predict.intervals import percentile_interval
from twil.scoring.resampling import resample
from twil.task import Task
from twil.train.classifiers import open_classifier, read_task

CARD = "MODEL_CARD.md"
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


def score(task: Task, targets: Answers, answers: Sequence[Answers]) -> tuple[list[float], str]:
    """Give each one's score, and the interval of their mean."""
    found = resample(targets, answers, task, metrics=[METRIC], samples=RESAMPLES, seed=1)
    values = found.values[METRIC]
    interval = percentile_interval(float(values.mean()), found.samples[METRIC].mean(0))
    return values.tolist(), f"{interval.low:.3f} – {interval.high:.3f}"


def describe(test: Path, bundles: Sequence[Path]) -> str:
    """Write the section on scores."""
    task = read_task(bundles[0])
    rows = read_labelled(test, kind=task.kind)
    targets = rows.targets(task)
    answers = [answer(bundle, rows) for bundle in bundles]
    values, interval = score(task, targets, answers)
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    by_seed = ", ".join(f"{value:.3f}" for value in values)
    told = (
        f"Macro-F1 on {len(rows):,} rows on which neither it nor its teacher was trained or chosen: "
        f"{statistics.mean(values):.3f}{spread} (95 % {interval}), the mean of {len(values)} runs with "
        f"other seeds ({by_seed}). This is the run of the first."
    )
    lines = [
        "## How good it is, and where it fails",
        "",
        told,
        "",
        "| rows | how many | macro-F1 | 95 % |",
        "| --- | --- | --- | --- |",
    ]
    for name, chosen in parts(rows.texts).items():
        if chosen.sum() >= FEWEST:
            (value,), interval = score(task, targets[chosen], [answers[0][chosen]])
            lines.append(f"| {name} | {chosen.sum():,} | {value:.3f} | {interval} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("about", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    options = parser.parse_args()
    card = options.bundles[0] / CARD
    title, first, rest = card.read_text(encoding="utf-8").split("\n\n", 2)
    about = options.about.read_text(encoding="utf-8").strip()
    pages = [title, first, about, describe(options.test, options.bundles), rest]
    card.write_text("\n\n".join(pages), encoding="utf-8")


if __name__ == "__main__":
    main()
