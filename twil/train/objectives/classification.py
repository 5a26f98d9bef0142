"""The objective of fine-tuning: encoded rows, the loss on them, and their logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from twil.config.loop import Precision
from twil.config.training import TrainConfig
from twil.core.task import Task
from twil.data.batching import length_batches, pad_rows, shuffled_batches
from twil.data.labelled import LabelledSet
from twil.model.text_model import TextModel
from twil.scores.metrics import Report, check_finite, metrics_of, score_logits
from twil.text.special import find_special
from twil.text.tokenizer import PAD_ID, encode
from twil.train.devices import autocast
from twil.train.distributed import World
from twil.train.loop import TRIED_ROWS, Counts, Loss, Step
from twil.train.objectives.class_weights import class_weights
from twil.train.objectives.losses import make_loss


@dataclass(frozen=True)
class EncodedSet:
    """A labelled set as token ids.

    Attributes:
        input_ids: Unpadded ids of each row.
        segment_ids: Segments of each row of a set of pairs.
        targets: As `LabelledSet.targets` gives them.
        truncated: How many rows were cut at the longest length.
        pad_id: The token that fills rows up.
    """

    input_ids: list[list[int]]
    segment_ids: list[list[int]] | None
    targets: NDArray[Any]
    truncated: int
    pad_id: int = PAD_ID

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, int64 ``(rows,)``."""
        return np.fromiter(map(len, self.input_ids), dtype=np.int64, count=len(self.input_ids))


def encode_set(
    labelled: LabelledSet, tokenizer: Tokenizer, task: Task, *, order: Sequence[str] | None = None
) -> EncodedSet:
    """Turn a labelled set into token ids; `order` is that of `LabelledSet.targets`.

    Raises:
        ConfigError: The task is one of pairs and the rows are not, or the other way round.
        DataError: An answer is none of the task's.
    """
    targets = labelled.targets(task, order=order)
    return encode_rows(labelled.rows, targets, tokenizer)


def encode_rows(
    rows: Sequence[str | tuple[str, str]], targets: NDArray[Any], tokenizer: Tokenizer
) -> EncodedSet:
    """Turn texts or pairs, and what is true of them, into token ids."""
    encoded = encode(tokenizer, rows)
    pad_id = find_special(tokenizer, source="the tokenizer").pad
    truncated = int(encoded.truncated.sum())
    return EncodedSet(encoded.input_ids, encoded.segment_ids, targets, truncated, pad_id)


class Classification:
    """The objective of fine-tuning: a loss on a training set, scores on dev.

    Args:
        model: A model with a classifier, on the device to train on.
        train: What it learns from.
        dev: What decides the best epoch, if anything does.
        config: Batch size, seed, loss and precision count.
        world: The processes that share each step.
    """

    def __init__(
        self,
        model: TextModel,
        train: EncodedSet,
        dev: EncodedSet | None,
        config: TrainConfig,
        world: World | None = None,
    ) -> None:
        self.model = model
        self.train, self.dev, self.config, self.world = train, dev, config, world or World()
        self.device = next(model.parameters()).device
        self.weights = class_weights(config.class_weights, train.targets, model.task)
        self.criterion = make_loss(config.loss, model.task, self.weights)
        self.network = self.world.replicate(model)

    def epoch(self, number: int) -> Sequence[Step]:
        """Draw the steps of an epoch, whose micro-batches are arrays of row numbers, by seed and epoch."""
        rng = np.random.default_rng([self.config.seed, number])
        batches = shuffled_batches(self.train.lengths, self.config.batch_tokens, rng)
        size = self.config.accumulation * self.world.size
        return [self._step(batches[start : start + size]) for start in range(0, len(batches), size)]

    def _step(self, batches: Sequence[NDArray[np.int64]]) -> Step:
        # A process without a row takes part all the same, or the others would wait for it.
        own = batches[self.world.rank :: self.world.size] or [np.empty(0, dtype=np.int64)]
        rows = np.concatenate(own)
        return Step(own, {"rows": float(len(rows)), "tokens": float(self.train.lengths[rows].sum())})

    def loss(self, batch: NDArray[np.int64], counts: Counts) -> Loss:
        """Compute the share of a micro-batch in the mean loss of the step's rows."""
        rows = batch if len(batch) else np.zeros(1, dtype=np.int64)
        logits = self.network(*collate(self.train, rows, self.device))  # (B, L)
        targets = torch.from_numpy(self.train.targets[rows]).to(self.device)
        share = self.criterion(logits, targets) / counts["rows"]
        return Loss(share if len(batch) else share * 0.0)

    def metrics(self, sums: Mapping[str, float], counts: Counts) -> dict[str, float]:  # noqa: ARG002
        """Say nothing of a step but its loss."""
        return {}

    def evaluate(self) -> Mapping[str, float]:
        """Score the model on dev; `loss` is the mean of what is made small, over all of dev at once."""
        if self.dev is None:
            return {}
        self.world.share(self.model.buffers())  # statistics differ between processes, and one's are kept
        logits = compute_logits(
            self.model, self.dev, self.config.batch_tokens, self.config.precision, self.world
        )
        loss = self.criterion(torch.from_numpy(logits), torch.from_numpy(self.dev.targets))
        report = score_logits(logits, self.dev.targets, self.model.task)
        return {"loss": loss.item() / len(logits), **metrics_of(report)}

    def check_finite(self) -> None:
        """Try the model on some rows that it has learned from.

        Raises:
            ModelError: Its logits are not finite.
        """
        some = slice(TRIED_ROWS)
        segments = self.train.segment_ids and self.train.segment_ids[some]
        check_finite(
            self.logits(replace(self.train, input_ids=self.train.input_ids[some], segment_ids=segments))
        )

    def report(self, encoded: EncodedSet) -> Report:
        """Score the model on any set of its task, in float32 as it will be used."""
        return score_logits(self.logits(encoded), encoded.targets, self.model.task)

    def logits(self, encoded: EncodedSet) -> NDArray[np.float32]:
        """Compute the model's logits float32 ``(rows, L)`` on any set, in float32 as it will be used."""
        return compute_logits(self.model, encoded, self.config.batch_tokens, world=self.world)


def collate(
    encoded: EncodedSet, rows: NDArray[np.int64], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Make the model's inputs of some rows: int64 ``(B, T)`` ids, mask and segments."""
    batch = pad_rows(encoded.input_ids, encoded.segment_ids, rows, pad_id=encoded.pad_id)
    arrays = (batch.input_ids, batch.attention_mask, batch.segment_ids)
    input_ids, mask, segment_ids = (torch.from_numpy(array).to(device, non_blocking=True) for array in arrays)
    return input_ids, mask, segment_ids


@torch.inference_mode()
def compute_logits(
    model: TextModel,
    encoded: EncodedSet,
    batch_tokens: int,
    precision: Precision = "fp32",
    world: World | None = None,
) -> NDArray[np.float32]:
    """Compute a classifier's logits float32 ``(rows, L)``, in the order of the rows.

    The model is left in the mode, training or evaluation, in which it came. Processes that train together
    share the batches, and all get the whole.
    """
    world = world or World()
    device = next(model.parameters()).device
    logits = np.zeros((len(encoded.input_ids), model.task.outputs), dtype=np.float32)
    was_training = model.training
    model.eval()
    for rows in length_batches(encoded.lengths, batch_tokens)[world.rank :: world.size]:
        with autocast(device, precision):
            logits[rows] = model(*collate(encoded, rows, device)).float().cpu().numpy()
    model.train(was_training)
    return world.merge(logits)
