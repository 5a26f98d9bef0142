"""Single-text classification: encoded rows, the loss on them, and their logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from twil.config.training import Precision, TrainConfig
from twil.data.batching import length_batches, pad_batch, shuffled_batches
from twil.data.labelled import LabelledSet
from twil.model.twilbert import TWilBERT
from twil.task import Task
from twil.text.tokenizer import PAD_ID, encode
from twil.train.devices import autocast
from twil.train.loop import Counts, Loss, Step
from twil.train.metrics import Report, score_logits


@dataclass(frozen=True)
class EncodedSet:
    """A labelled set as token ids.

    Attributes:
        input_ids: Unpadded ids of each row.
        targets: int64 ``(rows,)``.
        truncated: How many rows were cut at the longest length.
    """

    input_ids: list[list[int]]
    targets: NDArray[np.int64]
    truncated: int

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Pieces per row, int64 ``(rows,)``."""
        return np.fromiter(map(len, self.input_ids), dtype=np.int64, count=len(self.input_ids))


def encode_set(labelled: LabelledSet, tokenizer: Tokenizer, task: Task) -> EncodedSet:
    """Turn a labelled set into token ids.

    Raises:
        DataError: A label is none of the task's.
    """
    targets = labelled.targets(task)
    encoded = encode(tokenizer, labelled.texts)
    return EncodedSet(encoded.input_ids, targets, int(encoded.truncated.sum()))


class Classification:
    """The objective of fine-tuning: cross-entropy on a training set, scores on dev.

    Args:
        model: A model with a classifier, on the device to train on.
        train: What it learns from.
        dev: What decides the best epoch.
        config: Batch size, seed and precision count.
    """

    def __init__(self, model: TWilBERT, train: EncodedSet, dev: EncodedSet, config: TrainConfig) -> None:
        self.model = self.network = model
        self.train, self.dev, self.config = train, dev, config
        self.device = next(model.parameters()).device

    def epoch(self, number: int) -> Sequence[Step]:
        """Draw the steps of an epoch, whose micro-batches are arrays of row numbers, by seed and epoch."""
        rng = np.random.default_rng([self.config.seed, number])
        batches = shuffled_batches(self.train.lengths, self.config.batch_tokens, rng)
        size = self.config.accumulation
        return [self._step(batches[start : start + size]) for start in range(0, len(batches), size)]

    def _step(self, batches: Sequence[NDArray[np.int64]]) -> Step:
        rows = np.concatenate(batches)
        return Step(batches, {"rows": len(rows), "tokens": float(self.train.lengths[rows].sum())})

    def loss(self, batch: NDArray[np.int64], counts: Counts) -> Loss:
        """Compute the share of a micro-batch in the mean cross-entropy of the step's rows."""
        logits = self.model(*collate(self.train, batch, self.device))  # (B, L)
        targets = torch.from_numpy(self.train.targets[batch]).to(self.device)
        return Loss(F.cross_entropy(logits.float(), targets, reduction="sum") / counts["rows"])

    def metrics(self, sums: Mapping[str, float], counts: Counts) -> dict[str, float]:  # noqa: ARG002
        """Say nothing of a step but its loss."""
        return {}

    def evaluate(self) -> Mapping[str, float]:
        """Score the model on dev; `loss` is the mean cross-entropy there."""
        logits = compute_logits(self.model, self.dev, self.config.batch_tokens, self.config.precision)
        mean = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(self.dev.targets)).item()
        return {"loss": mean, **score_logits(logits, self.dev.targets, self.model.task).metrics()}

    def report(self, encoded: EncodedSet) -> Report:
        """Score the model on any set of its task, in float32 as it will be used."""
        logits = compute_logits(self.model, encoded, self.config.batch_tokens)
        return score_logits(logits, encoded.targets, self.model.task)


def collate(
    encoded: EncodedSet, rows: NDArray[np.int64], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Make the model's inputs of some rows: int64 ``(B, T)`` ids, mask and segments."""
    batch = pad_batch([encoded.input_ids[row] for row in rows], pad_id=PAD_ID)
    arrays = (batch.input_ids, batch.attention_mask, batch.segment_ids)
    ids, mask, segments = (torch.from_numpy(array).to(device, non_blocking=True) for array in arrays)
    return ids, mask, segments


@torch.inference_mode()
def compute_logits(
    model: TWilBERT, encoded: EncodedSet, batch_tokens: int, precision: Precision = "fp32"
) -> NDArray[np.float32]:
    """Compute a classifier's logits float32 ``(rows, L)``, in the order of the rows.

    The model is left in the mode, training or evaluation, in which it came.
    """
    device = next(model.parameters()).device
    logits = np.empty((len(encoded.input_ids), model.task.outputs), dtype=np.float32)
    was_training = model.training
    model.eval()
    for rows in length_batches(encoded.lengths, batch_tokens):
        with autocast(device, precision):
            logits[rows] = model(*collate(encoded, rows, device)).float().cpu().numpy()
    model.train(was_training)
    return logits
