"""The objective of pretraining: masked tokens and the order of replies (González et al. 2020, section 3)."""

# B rows   N tokens of a packed batch, or B·T of a padded one   M masked tokens   D hidden   P vocabulary

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twil.config.pretraining import PretrainLoopConfig
from twil.core.errors import ModelError
from twil.data.samples import NO_ORDER, NOT_MASKED, Samples, Steps, TokenRows, frame_texts, micro_batches
from twil.model.packing import Packing
from twil.model.text_model import TextModel
from twil.text.tokenizer import PAD_ID
from twil.train.devices import autocast
from twil.train.distributed import World
from twil.train.loop import TRIED_ROWS, Counts, Loss, Step

# Libraries of matrix products prepare a kernel for each shape: batches are filled up to few sizes.
TOKENS_GRAIN, MASKED_GRAIN = 64, 32


@dataclass(frozen=True)
class DenoisingBatch:
    """A micro-batch as tensors.

    Attributes:
        input_ids: int64 ``(N,)`` packed, or ``(B, T)`` padded.
        segment_ids: int64 of the same shape.
        attention_mask: int64 of the same shape, 0 on pads.
        packing: Where the rows lie; None where padded.
        first: int64 ``(B,)``: where each row's [CLS] lies among all tokens, pads included.
        masked: int64 ``(M,)``: where the masked tokens lie.
        targets: int64 ``(M,)``: what they are; `NOT_MASKED` where the batch was filled up.
        order: int64 ``(B,)``: the label of each row's order, `NO_ORDER` for a single text.
    """

    input_ids: Tensor
    segment_ids: Tensor
    attention_mask: Tensor
    packing: Packing | None
    first: Tensor
    masked: Tensor
    targets: Tensor
    order: Tensor

    @classmethod
    def of(cls, rows: TokenRows, *, packed: bool, pad_id: int = PAD_ID) -> DenoisingBatch:
        """Lay out rows on the host."""
        ids, segments, targets = map(torch.from_numpy, (rows.input_ids, rows.segment_ids, rows.targets))
        lengths, order = rows.lengths.tolist(), torch.from_numpy(rows.order)
        packing = None
        if packed:
            fill = -len(ids) % TOKENS_GRAIN
            ids, segments = F.pad(ids, (0, fill), value=pad_id), F.pad(segments, (0, fill))
            mask = (torch.arange(len(ids)) < len(ids) - fill).long()
            packing = Packing.of(lengths + _cut(fill, max(lengths)))
            first = packing.offsets[: len(lengths)].long()
        else:
            visible = torch.arange(max(lengths)) < torch.from_numpy(rows.lengths)[:, None]  # (B, T)
            ids = torch.full(visible.shape, pad_id).masked_scatter_(visible, ids)
            segments = torch.zeros_like(ids).masked_scatter_(visible, segments)
            targets = torch.full(visible.shape, NOT_MASKED).masked_scatter_(visible, targets).flatten()
            mask, first = visible.long(), torch.arange(len(lengths)) * visible.shape[1]
        masked = (targets != NOT_MASKED).nonzero().flatten()
        targets = targets[masked]
        fill = -len(masked) % MASKED_GRAIN
        masked, targets = F.pad(masked, (0, fill)), F.pad(targets, (0, fill), value=NOT_MASKED)
        return cls(ids, segments, mask, packing, first, masked, targets, order)

    def to(self, device: torch.device) -> DenoisingBatch:
        """Move the tensors to a device; from pinned memory, without waiting."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> DenoisingBatch:
        """Put the tensors into memory that a CUDA device reads by itself."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> DenoisingBatch:
        packing = self.packing
        if packing is not None:
            packing = replace(packing, offsets=change(packing.offsets), positions=change(packing.positions))
        tensors = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, packing=packing, **tensors)


def _cut(size: int, longest: int) -> list[int]:
    """Cut a number into parts of at most `longest`."""
    return [longest] * (size // longest) + ([size % longest] if size % longest else [])


SUMS = ("mlm_loss", "mlm_right", "rop_loss", "rop_right")


class DenoisingNetwork(nn.Module):
    """A model and its losses, summed; every parameter takes part in every batch.

    Args:
        model: With a masked-language head, perhaps one for the order of replies.
        rop: Whether that order is learned.
    """

    def __init__(self, model: TextModel, *, rop: bool) -> None:
        super().__init__()
        self.model, self.rop = model, rop

    def forward(self, batch: DenoisingBatch) -> Tensor:
        """Sum losses and right answers over a batch, float ``(4,)`` in the order of `SUMS`."""
        if batch.packing is not None:
            hidden = self.model.encode_packed(
                batch.input_ids, batch.segment_ids, batch.packing, batch.attention_mask
            )  # (N, D)
        else:
            hidden = self.model.encode(batch.input_ids, batch.attention_mask, batch.segment_ids).flatten(0, 1)
        # The head runs on masked tokens alone: a seventh of all, and most of the vocabulary's cost is saved.
        logits = self.model.mlm_logits(hidden[batch.masked])  # (M, P)
        sums = [*_sums(logits, batch.targets)]
        if self.rop:
            sums += _sums(self.model.rop_logits(hidden[batch.first][:, None]), batch.order)
        else:
            sums += [sums[0].new_zeros(()), sums[0].new_zeros(())]
        return torch.stack(sums)


def _sums(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the cross-entropy of logits ``(B, L)``, and the right answers, over the rows with a label."""
    loss = F.cross_entropy(logits.float(), labels, ignore_index=NO_ORDER, reduction="sum")
    right = (logits.detach().argmax(dim=-1) == labels).sum()
    return loss, right.to(loss.dtype)


class MadeSteps(Sequence[Step]):
    """Steps of rows as steps of tensors, each made when it is asked for."""

    def __init__(self, steps: Steps, make: Callable[[Sequence[TokenRows]], Step]) -> None:
        self.steps, self.make = steps, make

    def __len__(self) -> int:
        """Count the steps."""
        return len(self.steps)

    def __getitem__(self, step: int) -> Step:  # type: ignore[override]  # steps are not sliced
        """Make a step."""
        return self.make(self.steps[step])


class Denoising:
    """The objective of pretraining.

    The masked-language loss is the mean over the masked tokens of the whole step, over all micro-batches
    and processes; the loss of the order is the mean over its pairs; the step's loss is their sum.

    TWilBERT: each micro-batch counts by its masked tokens; the original averages the means of batches.

    Args:
        model: With the heads that are learned, on its device.
        train: What it learns from.
        dev: What it is measured on, if anything.
        config: The loop's options.
        dev_rows: The most rows of dev in an evaluation.
        world: The processes that share each step.
    """

    def __init__(
        self,
        model: TextModel,
        train: Samples,
        dev: Samples | None,
        config: PretrainLoopConfig,
        *,
        dev_rows: int,
        world: World,
    ) -> None:
        self.model, self.train, self.dev, self.config = model, train, dev, config
        self.dev_rows, self.world = dev_rows, world
        self.special = train.special
        self.device = next(model.parameters()).device
        self.single = DenoisingNetwork(model, rop=train.rop)
        if config.compile:
            model.compile_layers()
        self.network = world.replicate(self.single)

    def epoch(self, number: int) -> Sequence[Step]:
        """Give the steps of an epoch, made when asked for."""
        steps = Steps(
            self.train,
            number,
            batch_rows=self.config.batch_rows,
            batch_tokens=self.config.batch_tokens,
            rank=self.world.rank,
            world_size=self.world.size,
        )
        return MadeSteps(steps, self._step)

    def loss(self, batch: DenoisingBatch, counts: Counts) -> Loss:
        """Compute the share of a micro-batch in the sum of both mean losses."""
        sums = self.network(batch.to(self.device))
        share = sums[0] / max(counts["masked"], 1) + sums[2] / max(counts["ordered"], 1)
        return Loss(share, dict(zip(SUMS, sums.detach().unbind(), strict=True)))

    def metrics(self, sums: Mapping[str, float], counts: Counts) -> dict[str, float]:
        """Make mean losses and accuracies of sums."""
        masked, ordered = max(counts["masked"], 1), counts["ordered"]
        found = {
            "mlm_loss": sums["mlm_loss"] / masked,
            "mlm_accuracy": sums["mlm_right"] / masked,
        }
        if ordered:
            found |= {"rop_loss": sums["rop_loss"] / ordered, "rop_accuracy": sums["rop_right"] / ordered}
        return found

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the metrics that an evaluation gives; none without a held-out part."""
        if self.dev is None:
            return ()
        order = ("rop_loss", "rop_accuracy") if self.dev.rop and self.dev.pairs else ()
        return ("loss", "mlm_loss", "mlm_accuracy", *order, "perplexity")

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Measure the model on the held-out rows, masked the same way each time."""
        if self.dev is None:
            return {}
        rows = self.dev.draw(0, 0, self.dev_rows)
        sums = torch.zeros(len(SUMS), device=self.device, dtype=torch.float64)
        self.world.share(self.model.buffers())  # statistics differ between processes, and one's are kept
        self.model.eval()
        for batch in micro_batches(
            rows, self.config.batch_tokens, rank=self.world.rank, world_size=self.world.size
        ):
            tensors = DenoisingBatch.of(batch, packed=self.config.packed, pad_id=self.special.pad).to(
                self.device
            )
            with autocast(self.device, self.config.precision):
                sums += self.single(tensors).double()
        self.model.train()
        added = dict(zip(SUMS, self.world.total(sums.tolist()), strict=True))
        found = self.metrics(added, {"masked": rows.masked, "ordered": rows.ordered})
        loss = found["mlm_loss"] + found.get("rop_loss", 0.0)
        return {"loss": loss, **found, "perplexity": math.exp(min(found["mlm_loss"], 700))}

    def check_finite(self) -> None:
        """Try the model on some rows that it has learned from.

        Raises:
            ModelError: Its losses are not finite.
        """
        rows = self.train.draw(0, 0, min(len(self.train), TRIED_ROWS))
        batch = next(iter(micro_batches(rows, self.config.batch_tokens)))
        tensors = DenoisingBatch.of(batch, packed=self.config.packed, pad_id=self.special.pad).to(self.device)
        self.model.eval()
        with torch.inference_mode():
            losses = self.single(tensors)
        self.model.train()
        if not losses.isfinite().all():
            raise ModelError(
                "the model gives losses that are not finite: its training has diverged in the last steps "
                "(train it with a lower learning rate)"
            )

    def _step(self, batches: Sequence[TokenRows]) -> Step:
        # A process without a row takes part all the same, or the others would wait for it.
        layouts = batches or [frame_texts(np.empty(0, np.int64), np.zeros(1, np.int64), self.special)]
        tensors = [
            DenoisingBatch.of(rows, packed=self.config.packed, pad_id=self.special.pad) for rows in layouts
        ]
        if self.device.type == "cuda":
            tensors = [batch.pin() for batch in tensors]
        counts = {
            "rows": sum(map(len, batches)),
            "tokens": sum(len(rows.input_ids) for rows in batches),
            "masked": sum(rows.masked for rows in batches),
            "ordered": sum(rows.ordered for rows in batches),
        }
        return Step(tensors, {name: float(count) for name, count in counts.items()})
