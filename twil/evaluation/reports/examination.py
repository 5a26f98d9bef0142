"""A run looked at closely: what its model answers on a labelled file, row by row."""

# L labels

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.config.reading import Reading
from twil.core.errors import ModelError
from twil.core.task import Task
from twil.data.labelled import WHOLE, LabelledColumns, LabelledSet, Sample, read_labelled
from twil.data.splitting import hold_out
from twil.evaluation.reports.run_record import ExaminedFile, RunRecord, find_source
from twil.inference.explanation import Explanation, left_out, weigh_words
from twil.inference.texts import Text
from twil.model.folder import RUN, load_with_tokenizer
from twil.scores.calibration import Reliability, reliability
from twil.scores.metrics import Report, score_logits
from twil.text.tokenizer import max_length
from twil.train.devices import choose_device
from twil.train.objectives.classification import compute_logits, encode_rows, encode_set

BATCH_TOKENS = 1024


@dataclass(frozen=True)
class Examination:
    """What a model answers on a file.

    Attributes:
        folder: The model's.
        record: What the run recorded of itself.
        task: What the model is asked.
        facts: Of its shape, as `TextModel.facts` gives them.
        max_length: Its longest row in tokens.
        source: The file.
        labelled: Its rows.
        truncated: How many were cut at the longest length.
        targets: What is true, as `LabelledSet.targets` gives it.
        scores: float32 ``(rows, L)``, as `Task.probabilities` gives them.
        answers: One string a row, as `Task.decode` gives them.
        report: The scores of it all.
        ask: Gives the model's logits of other texts, float32 ``(texts, L)``.
    """

    folder: Path
    record: RunRecord
    task: Task
    facts: dict[str, str]
    max_length: int
    source: ExaminedFile
    labelled: LabelledSet
    truncated: int
    targets: NDArray[Any]
    scores: NDArray[np.float32]
    answers: list[str]
    report: Report
    ask: Callable[[Sequence[Text]], NDArray[np.float32]]

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """The loss of each row, float64 ``(rows,)``."""
        return row_losses(self.scores, self.targets, self.task)

    @cached_property
    def reliability(self) -> Reliability | None:
        """Whether the probabilities mean what they say; None for a regression, which gives none."""
        return None if self.task.kind == "regression" else reliability(self.scores, self.targets)

    @cached_property
    def answered(self) -> NDArray[np.int64]:
        """Which labels each answer has, 0 or 1, int64 ``(rows, L)``; of a task with many labels a row."""
        return np.asarray(self.task.decide(self.scores), dtype=np.int64)

    @cached_property
    def wrong(self) -> NDArray[np.bool_]:
        """Which rows are answered wrongly, in one label or more; of a regression all, bool ``(rows,)``."""
        if self.task.kind == "regression":
            return np.ones(len(self.targets), dtype=np.bool_)
        differs = self.task.decide(self.scores) != self.targets
        return np.asarray(differs.any(axis=1) if self.task.kind == "multi-label" else differs)

    def worst(self, count: int) -> list[int]:
        """Give the wrong rows of the largest losses, the largest first."""
        rows = np.argsort(-self.losses, kind="stable")
        worst: list[int] = rows[self.wrong[rows]][:count].tolist()
        return worst

    def explain(self, row: int) -> Explanation:
        """Tell which words weighed for the answer to a row; of many labels, for the most wrong one."""
        label = None
        if self.task.kind == "multi-label":
            label = self.task.labels[int(np.abs(self.scores[row] - self.targets[row]).argmax())]
        text = self.labelled.rows[row]
        logits = self.ask(left_out(text, self.max_length))
        return weigh_words(self.task, text, logits, self.max_length, label=label)


def examine(
    folder: str | Path, *, split: str | None = None, data: str | Path | None = None, device: str = "auto"
) -> Examination:
    """Let the model of a run answer a labelled file again.

    Args:
        folder: The model folder.
        split: Which of the files that the run recorded; dev, or test where there is none, when left out.
        data: Another file in its place, of the same columns.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: There is no such set.
        DataError: The file has changed since the run, is not there, or cannot be used.
        ModelError: The folder has no classifier, or its record is damaged.
    """
    folder = Path(folder)
    model, tokenizer = load_with_tokenizer(folder)
    task = model.task
    record = RunRecord.read(folder)
    source = find_source(folder, record, split=split, data=data)
    labelled = read_labelled(source.path, _columns(record), task.kind, _sample(record, source))
    share = record.setting("data", "dev")
    if isinstance(share, float) and source.split in ("train", "dev"):
        parts = hold_out(labelled, share, task.kind, int(record.setting("data", "dev_seed") or 0))
        labelled = parts[source.split == "dev"]
    encoded = encode_set(labelled, tokenizer, task)
    model.to(choose_device(device, "fp32"))

    def ask(texts: Sequence[Text]) -> NDArray[np.float32]:
        return compute_logits(model, encode_rows(texts, np.empty(0), tokenizer), BATCH_TOKENS)

    logits = compute_logits(model, encoded, BATCH_TOKENS)
    decoded = task.decode(logits)
    return Examination(
        folder=folder,
        record=record,
        task=task,
        facts=model.facts | ({"pooling": model.pooling} if model.pooling else {}),
        max_length=max_length(tokenizer) or 0,
        source=source,
        labelled=labelled,
        truncated=encoded.truncated,
        targets=encoded.targets,
        scores=decoded.scores,
        answers=decoded.labels,
        report=score_logits(logits, encoded.targets, task),
        ask=ask,
    )


def _columns(record: RunRecord) -> LabelledColumns:
    """Read off how the run read its files."""
    names = ("text", "text_pair", "label")
    columns: dict[str, Any] = {key: str(name) for key in names if (name := record.setting("data", key))}
    if separator := record.setting("data", "label_separator"):
        columns["separator"] = str(separator)
    labels = tuple(record.setting("data", "labels") or ())
    try:
        return LabelledColumns(
            **columns, names=labels, reading=Reading(**record.setting("data", "reading") or {})
        )
    except TypeError as error:
        raise ModelError(f"{RUN}: is not what twil wrote ({error}): copy the folder again") from None


def _sample(record: RunRecord, source: ExaminedFile) -> Sample:
    """Tell which rows of a file the run took; of one that it did not know, all are taken."""
    if source.split is None:
        return WHOLE
    return Sample(record.setting("data", "limit"), record.setting("data", "shuffle_seed"))


def row_losses(scores: NDArray[np.float32], targets: NDArray[Any], task: Task) -> NDArray[np.float64]:
    """Compute the loss of each row, float64 ``(rows,)``.

    It is the cross-entropy in nats, of a task with many labels a row the mean of the labels' binary ones, and
    of a regression the squared error.

    Args:
        scores: float32 ``(rows, L)``, as `Task.probabilities` gives them.
        targets: As `LabelledSet.targets` gives them.
        task: What was asked.
    """
    values = scores.astype(np.float64)
    if task.kind == "regression":
        return np.asarray(np.square(values[:, 0] - targets), dtype=np.float64)
    if task.kind == "multi-label":
        right = np.where(targets > 0, values, 1 - values)
    else:
        right = values[np.arange(len(values)), targets.astype(np.int64)][:, None]
    least = float(np.finfo(np.float32).tiny)  # what is less, float32 has rounded to 0
    return np.asarray(-np.log(np.maximum(right, least)).mean(axis=1), dtype=np.float64)
