"""Scores of a model folder or a bundle on a labelled file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twil.config.memory_table import MemoryTable
from twil.core.task import NO_NAMES, TaskKind
from twil.data.labelled import COLUMNS, WHOLE, LabelledColumns, Sample, read_labelled
from twil.evaluation.classifiers import open_classifier
from twil.scores.metrics import Report, score_logits


@dataclass(frozen=True)
class Evaluation:
    """What a classifier is worth on a file.

    Attributes:
        report: The scores.
        truncated: Texts cut at the longest length.
        seconds: Time of encoding and inference.
        runtime: What computed, such as ``torch on cpu``.
    """

    report: Report
    truncated: int
    seconds: float
    runtime: str

    def as_dict(self) -> dict[str, Any]:
        """Describe the evaluation in JSON's types."""
        return asdict(self)


def evaluate(
    path: str | Path,
    file: str | Path | MemoryTable,
    *,
    columns: LabelledColumns = COLUMNS,
    sample: Sample = WHOLE,
    map_labels: Mapping[str, str] = NO_NAMES,
    kind: TaskKind | None = None,
    order: Sequence[str] | None = None,
    batch_tokens: int = 1024,
    device: str = "auto",
) -> Evaluation:
    """Score a classifier on a labelled file.

    Args:
        path: A model folder or a bundle.
        file: The labelled texts, or a table of them in memory.
        columns: Where they and their answers stand.
        sample: Which rows are taken.
        map_labels: What the model's labels are called in the file.
        kind: What it is asked, where its folder leaves that open.
        order: Its labels as zeros and ones stand for them in the file; as in the model when left out.
        batch_tokens: Tokens per batch, pads included.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: `map_labels` names a label that the model does not have, or the model says itself that it
            is asked something else than `kind`.
        DataError: The file cannot be used, or has a label that the model does not know.
        ModelError: There is no classifier at `path`, or its logits are not finite.
    """
    with open_classifier(
        path, map_labels=map_labels, kind=kind, batch_tokens=batch_tokens, device=device
    ) as classifier:
        task, runtime = classifier.task, classifier.runtime
        labelled = read_labelled(file, columns, task.kind, sample)
        targets = labelled.targets(task, order=order)
        answered = classifier.answer(labelled.rows)
    report = score_logits(answered.logits, targets, task)
    return Evaluation(report, answered.truncated, answered.seconds, runtime)
