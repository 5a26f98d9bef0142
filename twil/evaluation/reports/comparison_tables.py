"""A comparison as tables of texts, which a terminal, Markdown and a page lay out alike."""

from __future__ import annotations

from typing import NamedTuple

from twil.core.task import Task, TaskKind
from twil.evaluation.comparison import Comparison
from twil.scores.intervals import LEVEL, Interval
from twil.scores.model_pairs import PValue
from twil.scores.names import OF_LABEL, SCORES, name_metric
from twil.scores.resampling import comparable_metrics
from twil.scores.significance import ALPHA

SHOWN: dict[TaskKind, tuple[str, ...]] = {
    "class": ("accuracy", "macro_precision", "macro_recall", "macro_f1"),
    "multi-label": ("accuracy", "jaccard", "macro_precision", "macro_recall", "macro_f1"),
    "regression": ("pearson", "spearman", "rmse", "mae"),
}
"""The scores in tables, by kind of task; all others are in the JSON."""
UNKNOWN = "–"
MARK = "*"
"""Behind a corrected p-value that is significant."""


class Grid(NamedTuple):
    """A table whose cells are written out.

    Attributes:
        title: Above it.
        columns: Their names.
        rows: Their cells.
        figures: Columns of figures, which stand to the right.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    figures: list[str]


def comparison_grids(comparison: Comparison) -> list[Grid]:
    """Lay out a comparison: models, scores, speed, and where there are several, pairs of models."""
    grids = [model_grid(comparison), score_grid(comparison), speed_grid(comparison)]
    return [*grids, pair_grid(comparison)] if comparison.pairs else grids


def model_grid(comparison: Comparison) -> Grid:
    """Tell what each model is made of."""
    columns = ["layers", "heads", "hidden", "parameters", "vocabulary"]
    rows = []
    for number, entry in enumerate(comparison.entries, start=1):
        made = entry.architecture.as_dict() if entry.architecture else {}
        sizes = [f"{made[name]:,}" if made else UNKNOWN for name in columns]
        megabytes = f"{entry.size / 1e6:,.1f} MB"
        rows.append([f"{number}", entry.name, made.get("type", UNKNOWN), *sizes, entry.precision, megabytes])
    figures = ["#", *columns, "weights"]
    return Grid("models", ["#", "model", "type", *columns, "precision", "weights"], rows, figures)


def score_grid(comparison: Comparison) -> Grid:
    """Give the scores that matter most with their intervals, and which differences are significant."""
    metrics = shown_metrics(comparison.task, comparison.metric)
    numbers = {entry.name: f"{number}" for number, entry in enumerate(comparison.entries, start=1)}
    columns = ["#", "model", *map(call_metric, metrics)]
    rows = [
        [numbers[entry.name], entry.name, *(format_score(entry.intervals[name]) for name in metrics)]
        for entry in comparison.entries
    ]
    if comparison.pairs:
        columns.append("better than")
        for row, entry in zip(rows, comparison.entries, strict=True):
            worse = [numbers[name] for name in comparison.worse_than(entry.name)]
            row.append(", ".join(sorted(worse, key=int)) or UNKNOWN)
    title = (
        f"{comparison.file}: {comparison.rows:,} rows; {100 * LEVEL:.0f} % intervals, bootstrap of "
        f"{comparison.resamples:,} samples, seed {comparison.seed}"
    )
    return Grid(title, columns, rows, ["#"])


def speed_grid(comparison: Comparison) -> Grid:
    """Tell how long each model took."""
    rows = [
        [
            f"{number}",
            entry.name,
            UNKNOWN if entry.trained is None else _format_time(entry.trained),
            f"{entry.seconds:,.2f} s",
            f"{entry.texts_per_second:,.0f}",
            f"{entry.truncated:,}",
            entry.runtime,
        ]
        for number, entry in enumerate(comparison.entries, start=1)
    ]
    figures = ["training", "time", "texts/s", "cut texts"]
    columns = ["#", "model", *figures, "runtime"]
    title = "training, as its run recorded it; encoding and inference, after a warm-up"
    return Grid(title, columns, rows, ["#", *figures])


def pair_grid(comparison: Comparison) -> Grid:
    """Test the difference of each two models."""
    with_mcnemar = all(pair.mcnemar for pair in comparison.pairs)
    figures = ["difference", "p", "Holm p"]
    if with_mcnemar:
        figures += ["alone right", "McNemar p", "its Holm p"]
    rows = []
    for pair in comparison.pairs:
        low, high = (f"{end:+.3f}" for end in pair.difference[1:])
        row = [pair.first, pair.second, f"{pair.difference.value:+.4f}", f"{low} to {high}"]
        row += _format_test(pair.bootstrap)
        if pair.mcnemar:
            row += [f"{pair.first_right:,} : {pair.second_right:,}", *_format_test(pair.mcnemar)]
        rows.append(row)
    columns = ["model", "less", "difference", f"{100 * LEVEL:.0f} %", *figures[1:]]
    return Grid(f"differences of {call_metric(comparison.metric)}", columns, rows, figures)


def shown_metrics(task: Task, metric: str) -> list[str]:
    """Name the metrics that tables show, the one that pairs are compared by among them.

    Where that one is of a label, such as ``f1:P``, precision and recall are of that label, too.
    """
    _, of, label = metric.partition(OF_LABEL)
    if of and f"f1{OF_LABEL}{label}" in comparable_metrics(task):
        return list(dict.fromkeys(["accuracy", *(f"{name}{OF_LABEL}{label}" for name in SCORES), metric]))
    return list(dict.fromkeys([*SHOWN[task.kind], metric]))


def _format_time(seconds: float) -> str:
    return f"{seconds / 60:,.1f} min" if seconds >= 60 else f"{seconds:,.1f} s"


def call_metric(metric: str) -> str:
    """Call a metric as people do."""
    name = name_metric(metric)
    return name if OF_LABEL in name else name.replace("_", " ")


def explain_tests(comparison: Comparison) -> str:
    """Say in a few sentences what was tested, and how."""
    count = len(comparison.pairs)
    pairs = "1 pair" if count == 1 else f"{count:,} pairs"
    said = (
        f"p: of the difference of {call_metric(comparison.metric)}, paired bootstrap, two-sided. Holm p: "
        f"corrected for {pairs}; below {ALPHA} ({MARK}), one model is better than the other."
    )
    if comparison.pairs and comparison.pairs[0].mcnemar:
        said += " McNemar p: of the rows that one of both models alone has right."
    return said


def format_score(interval: Interval) -> str:
    """Write a score and its interval: 0.8384 0.758–0.909."""
    return f"{interval.value:.4f} {interval.low:.3f}–{interval.high:.3f}"


def format_p(p: float) -> str:
    """Write a p-value."""
    return f"{p:.4f}" if p >= 0.00005 else "<0.0001"


def _format_test(test: PValue) -> list[str]:
    return [format_p(test.p), f"{format_p(test.holm)}{MARK if test.significant else ' '}"]
