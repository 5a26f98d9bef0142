"""The objective of a distillation: a student's vectors or answers, held to those of its teacher.

Of an encoder the student learns the vector of a text (Reimers and Gurevych 2020), those of its tokens where
both read the same tokens (Sanh et al. 2019, Jiao et al. 2020), and how alike texts are (Park et al. 2019); of
a classifier its softened answers (Hinton et al. 2015), beside the true labels of those texts that have one.
"""

# B rows   T tokens   A tokens that both read   D student   E, W the teacher's tokens, vectors   L outputs

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from twil.config.distillation import STUDENT_POOLING, DistillLoopConfig, ImitationConfig
from twil.core.errors import ModelError
from twil.core.task import Task
from twil.data.batching import length_batches, pad_batch
from twil.data.samples import Permutation, ranges
from twil.data.teacher_store import TeacherStore
from twil.model.heads import pool
from twil.model.text_model import TextModel
from twil.scores.metrics import metrics_of, score_logits
from twil.text.special import find_special
from twil.text.tokenizer import encode
from twil.train.devices import autocast
from twil.train.distributed import World
from twil.train.loop import TRIED_ROWS, Counts, Loss, Step
from twil.train.objectives.classification import EncodedSet, compute_logits
from twil.train.objectives.losses import make_loss

_ORDER, _HELD_OUT = 1, 2  # streams of random numbers under one seed
_MEASURED_ROWS = 4096
"""Texts from which the mean and the spread of what a teacher says are taken."""


@dataclass(frozen=True)
class TaughtBatch:
    """A micro-batch as tensors.

    Attributes:
        input_ids: int64 ``(B, T)``, the student's.
        attention_mask: int64 ``(B, T)``.
        answers: The teacher's vectors of the texts, float ``(B, W)``, or its logits ``(B, L)``.
        places: int64 ``(A,)``: where the tokens that both read lie among all B·T.
        tokens: The teacher's vectors of those, float ``(A, E)``; of no token for a classifier.
        labelled: int64 ``(rows with a true label,)``: which they are.
        targets: What is true of those.
        weight: float ``()``: 0 of a row that stands in for a process that has none, else 1.
    """

    input_ids: Tensor
    attention_mask: Tensor
    answers: Tensor
    places: Tensor
    tokens: Tensor
    labelled: Tensor
    targets: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> TaughtBatch:
        """Move the tensors to a device."""
        return TaughtBatch(*(getattr(self, each.name).to(device, non_blocking=True) for each in fields(self)))


class Lessons:
    """The rows that a student learns from, and those held out, drawn from a store.

    Args:
        store: What the teacher says.
        tokenizer: The student's.
        matches: The student's id of each token of the teacher's, see `matching_tokens`.
        targets: What is true of the first texts of the store; none of an encoder's.
        repeat: How often an epoch sees each of those.
        held_out: How many of the other texts are kept to measure on.
        seed: Decides which, and their order.
    """

    def __init__(
        self,
        store: TeacherStore,
        tokenizer: Tokenizer,
        matches: NDArray[np.int64],
        *,
        targets: NDArray[Any] | None = None,
        repeat: int = 1,
        held_out: int = 0,
        seed: int,
    ) -> None:
        self.store, self.tokenizer, self.matches, self.seed = store, tokenizer, matches, seed
        self.targets = np.empty(0) if targets is None else targets
        self.repeat, self.held_out = repeat, held_out
        self.pad_id = find_special(tokenizer, source="the tokenizer").pad
        self._others = Permutation(max(1, len(store) - len(self.targets)), (seed, _HELD_OUT))

    def __len__(self) -> int:
        """Count the rows of an epoch."""
        return len(self.store) - self.held_out + len(self.targets) * (self.repeat - 1)

    def draw(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Give the texts of the store at some positions of an epoch."""
        order = Permutation(len(self), (self.seed, _ORDER, epoch))
        rows = order(np.arange(start, min(stop, len(self)), dtype=np.int64))
        known = len(self.targets)
        labelled = rows < known * self.repeat
        others = np.where(labelled, 0, rows - known * self.repeat) + self.held_out
        return np.where(labelled, rows % max(1, known), known + self._others(others))

    def held(self) -> NDArray[np.int64]:
        """Give the texts of the store that are held out."""
        return len(self.targets) + self._others(np.arange(self.held_out, dtype=np.int64))

    def batches(
        self, rows: NDArray[np.int64], batch_tokens: int, *, rank: int = 0, world_size: int = 1
    ) -> list[TaughtBatch]:
        """Cut texts of the store into the micro-batches of one of several processes."""
        own = rows[rank::world_size]
        if not len(own):
            return []
        taught = self.store.take(own)
        ids = encode(self.tokenizer, taught.texts).input_ids
        return [
            self._batch(own[batch], batch, ids, taught.token_ids, taught.answers, taught.token_vectors)
            for batch in length_batches([len(row) for row in ids], batch_tokens)
        ]

    def _batch(
        self,
        rows: NDArray[np.int64],
        batch: NDArray[np.int64],
        ids: list[list[int]],
        token_ids: Sequence[NDArray[np.int32]],
        answers: NDArray[Any],
        token_vectors: Sequence[NDArray[np.float16]] | None,
    ) -> TaughtBatch:
        padded = pad_batch([ids[place] for place in batch], pad_id=self.pad_id)
        width = padded.input_ids.shape[1]
        known = rows < len(self.targets)
        places, vectors = np.empty(0, np.int64), np.empty((0, 0), np.float16)
        if token_vectors is not None:
            same = [self._reads_same(ids[place], token_ids[place]) for place in batch]
            alike = [place for place, is_same in zip(batch, same, strict=True) if is_same]
            lengths = np.array([len(ids[place]) for place in alike], dtype=np.int64)
            places = ranges(np.flatnonzero(same) * width, lengths)
            vectors = np.concatenate(
                [vectors.reshape(0, token_vectors[0].shape[1]), *(token_vectors[row] for row in alike)]
            )
        return TaughtBatch(
            torch.from_numpy(padded.input_ids),
            torch.from_numpy(padded.attention_mask),
            torch.from_numpy(answers[batch].astype(np.float32)),
            torch.from_numpy(places),
            torch.from_numpy(vectors),
            torch.from_numpy(np.flatnonzero(known)),
            torch.from_numpy(self.targets[rows[known]]),
            torch.ones(()),
        )

    def _reads_same(self, ids: list[int], tokens: NDArray[np.int32]) -> bool:
        return len(ids) == len(tokens) and bool((self.matches[tokens] == ids).all())


class VectorImitation(nn.Module):
    """A student whose vectors are held to a teacher's: both are brought to one size, and compared.

    Args:
        student: The student, whose vectors of texts are `STUDENT_POOLING` of those of their tokens.
        config: The weights of the terms.
        answers: Some of the teacher's vectors of texts, float ``(texts, W)``.
        tokens: Some of its vectors of tokens, float ``(tokens, E)``.
    """

    MEASURED = ("vector_cosine", "token_cosine")
    SUMS = ("token_loss", "vector_loss", "relation_loss", "token_cosine", "vector_cosine")

    def __init__(
        self,
        student: TextModel,
        config: ImitationConfig,
        answers: NDArray[np.float32],
        tokens: NDArray[np.float32],
    ) -> None:
        super().__init__()
        self.student, self.config = student, config
        hidden = student.architecture.hidden
        self.to_tokens = _Projection(hidden, tokens)
        self.to_vectors = _Projection(hidden, answers)

    def forward(self, batch: TaughtBatch) -> Tensor:
        """Sum the terms over a batch, float ``(5,)`` in the order of `SUMS`."""
        hidden = self.student.encode(batch.input_ids, batch.attention_mask)  # (B, T, D)
        tokens, their_tokens = self.to_tokens(hidden.flatten(0, 1)[batch.places], batch.tokens)  # (A, E)
        token_cosine = F.cosine_similarity(tokens, their_tokens, dim=-1)
        token_loss = 1 - token_cosine + _error(tokens, their_tokens)
        ours, theirs = self.to_vectors(
            pool(hidden, batch.attention_mask, STUDENT_POOLING), batch.answers
        )  # (B, W)
        vector_cosine = F.cosine_similarity(ours, theirs, dim=-1)
        vector_loss = 1 - vector_cosine + _error(ours, theirs)
        relations = _error(_likeness(ours), _likeness(theirs))
        return torch.stack(
            [each.sum() for each in (token_loss, vector_loss, relations, token_cosine, vector_cosine)]
        )

    def share(self, sums: Tensor, counts: Counts) -> Tensor:
        """Give a batch's share in the mean loss of its step."""
        config = self.config
        texts = config.vectors * sums[1] + config.relations * sums[2]
        return config.tokens * sums[0] / max(counts["shared"], 1) + texts / counts["rows"]

    def metrics(self, sums: Mapping[str, float], counts: Counts) -> dict[str, float]:
        """Make mean cosines of sums: how near the student's vectors are, each about the teacher's mean."""
        found = {"vector_cosine": sums["vector_cosine"] / counts["rows"]}
        if counts["shared"]:
            found["token_cosine"] = sums["token_cosine"] / counts["shared"]
        return found


class _Projection(nn.Module):
    """Brings a student's vectors to the size of a teacher's, and both about the teacher's mean.

    Some numbers of an encoder's vectors are large and nearly the same for all texts: about their mean, they
    do not drown the others. The unit of length is the spread of the teacher's vectors.

    Args:
        size: Of the student's vectors.
        given: Some of the teacher's, float ``(vectors, W)``.
    """

    def __init__(self, size: int, given: NDArray[np.float32]) -> None:
        super().__init__()
        self.dense = nn.Linear(size, given.shape[1])
        centred = given - given.mean(0)
        self.mean: Tensor
        self.register_buffer("mean", torch.from_numpy(given.mean(0)))
        self.spread = float(centred.std()) or 1.0

    def forward(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Give both, float ``(vectors, W)``."""
        return self.dense(ours).float(), (theirs.float() - self.mean) / self.spread


class AnswerImitation(nn.Module):
    """A student whose answers are held to a teacher's, and to the true labels where they are known.

    Args:
        student: A classifier of the teacher's task.
        config: The weights of the terms, and how far answers are softened.
        task: The teacher's.
        spread: The variance of a regression's answers.
    """

    MEASURED = ("agreement",)
    SUMS = ("answer_loss", "label_loss", "agreement")

    def __init__(self, student: TextModel, config: ImitationConfig, task: Task, spread: float) -> None:
        super().__init__()
        self.student, self.config, self.task, self.spread = student, config, task, spread
        self.criterion = make_loss(config.loss, task, None)

    def forward(self, batch: TaughtBatch) -> Tensor:
        """Sum the terms over a batch, float ``(3,)`` in the order of `SUMS`."""
        logits = self.student(batch.input_ids, batch.attention_mask).float()  # (B, L)
        answers, agreement = self._compare(logits, batch.answers)
        true = logits.sum() * 0.0
        if len(batch.labelled):
            true = self.criterion(logits[batch.labelled], batch.targets)
        return torch.stack([answers.sum(), true, agreement.float().sum()])

    def share(self, sums: Tensor, counts: Counts) -> Tensor:
        """Give a batch's share in the mean loss of its step."""
        true = sums[1] / max(counts["labelled"], 1)
        return self.config.answers * sums[0] / counts["rows"] + self.config.labels * true

    def metrics(self, sums: Mapping[str, float], counts: Counts) -> dict[str, float]:
        """Give how often the student answers as its teacher does; of a regression nothing."""
        if self.task.kind == "regression":
            return {}
        return {"agreement": sums["agreement"] / counts["rows"]}

    def _compare(self, logits: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Compute each row's distance from the teacher's softened answer, and whether both say the same."""
        if self.task.kind == "regression":
            return _error(logits, answers) / self.spread, logits.new_zeros(len(logits))
        soft = self.config.temperature
        if self.task.kind == "multi-label":
            wanted = torch.sigmoid(answers / soft)
            cross, entropy = (  # CUDA's autocast refuses the one that takes probabilities
                F.binary_cross_entropy_with_logits(each / soft, wanted, reduction="none")
                for each in (logits, answers)
            )
            return (cross - entropy).mean(-1) * soft**2, ((logits > 0) == (answers > 0)).all(-1)
        wanted, ours = F.log_softmax(answers / soft, dim=-1), F.log_softmax(logits / soft, dim=-1)
        distance = F.kl_div(ours, wanted, reduction="none", log_target=True).sum(-1)
        return distance * soft**2, logits.argmax(-1) == answers.argmax(-1)


class Imitation:
    """The objective of a distillation.

    Args:
        network: The student and what it is held to, on the device to train on.
        lessons: What it learns from.
        dev: Labelled texts to measure a classifier on; without them, the texts held out.
        config: Batch sizes and precision count.
        world: The processes that share each step.
    """

    def __init__(
        self,
        network: VectorImitation | AnswerImitation,
        lessons: Lessons,
        dev: EncodedSet | None,
        config: DistillLoopConfig,
        world: World,
    ) -> None:
        self.model = network
        self.lessons, self.dev, self.config, self.world = lessons, dev, config, world
        self.device = next(network.parameters()).device
        self.network = world.replicate(network)

    def epoch(self, number: int) -> Sequence[Step]:
        """Give the steps of an epoch, made when asked for."""
        return _Steps(self, number)

    def step(self, epoch: int, number: int) -> Step:
        """Make one step of an epoch, or this process's share of it."""
        start = number * self.config.batch_rows
        rows = self.lessons.draw(epoch, start, start + self.config.batch_rows)
        batches = self.lessons.batches(
            rows, self.config.batch_tokens, rank=self.world.rank, world_size=self.world.size
        )
        counts = _count(batches)
        if not batches:  # a process without a row takes part all the same, or the others would wait for it
            stand_ins = self.lessons.batches(rows[:1], self.config.batch_tokens)
            batches = [replace(batch, weight=torch.zeros(())) for batch in stand_ins]
        return Step(batches, counts)

    def loss(self, batch: TaughtBatch, counts: Counts) -> Loss:
        """Compute the share of a micro-batch in the mean loss of the step."""
        sums = self.network(batch.to(self.device)) * batch.weight
        share = self.model.share(sums, counts)
        names = self.model.SUMS
        return Loss(share, dict(zip(names, sums.detach().unbind(), strict=True)))

    def metrics(self, sums: Mapping[str, float], counts: Counts) -> dict[str, float]:
        """Make figures of sums."""
        return self.model.metrics(sums, counts)

    @property
    def measured(self) -> bool:
        """Whether an evaluation measures anything."""
        return self.dev is not None or self.lessons.held_out > 0

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Measure the student: on labelled texts as a classifier, else on the texts held out."""
        if self.dev is not None:
            student = self.model.student
            logits = compute_logits(
                student, self.dev, self.config.batch_tokens, self.config.precision, self.world
            )
            criterion = make_loss(self.model.config.loss, student.task, None)
            loss = criterion(torch.from_numpy(logits), torch.from_numpy(self.dev.targets)).item()
            return {
                "loss": loss / len(logits),
                **metrics_of(score_logits(logits, self.dev.targets, student.task)),
            }
        if not self.lessons.held_out:
            return {}
        self.model.eval()
        batches = self.lessons.batches(
            self.lessons.held(), self.config.batch_tokens, rank=self.world.rank, world_size=self.world.size
        )
        sums = torch.zeros(len(self.model.SUMS), device=self.device, dtype=torch.float64)
        for batch in batches:
            with autocast(self.device, self.config.precision):
                sums += self.model(batch.to(self.device)).double()
        self.model.train()
        counts = _count(batches)
        names = list(counts)
        added = self.world.total([*sums.tolist(), *(counts[name] for name in names)])
        total = dict(zip(names, added[len(sums) :], strict=True))
        found = dict(zip(self.model.SUMS, added, strict=False))
        share = self.model.share(torch.tensor(added[: len(sums)], dtype=torch.float64), total)
        return {"loss": share.item(), **self.model.metrics(found, total)}

    def check_finite(self) -> None:
        """Try the student on some texts that it has learned from.

        Raises:
            ModelError: What it gives is not finite.
        """
        rows = np.arange(min(len(self.lessons.store), TRIED_ROWS), dtype=np.int64)
        self.model.eval()
        with torch.inference_mode():
            sums = [
                self.model(batch.to(self.device))
                for batch in self.lessons.batches(rows, self.config.batch_tokens)
            ]
        self.model.train()
        if not torch.stack(sums).isfinite().all():
            raise ModelError(
                "the student gives numbers that are not finite: its training has diverged in the last steps "
                "(train it with a lower learning rate)"
            )


class _Steps(Sequence[Step]):
    """The steps of one epoch, each made when asked for."""

    def __init__(self, objective: Imitation, epoch: int) -> None:
        self.objective, self.number = objective, epoch

    def __len__(self) -> int:
        return -(-len(self.objective.lessons) // self.objective.config.batch_rows)

    def __getitem__(self, step: int) -> Step:  # type: ignore[override]  # steps are not sliced
        if not 0 <= step < len(self):
            raise IndexError(step)
        return self.objective.step(self.number, step)


def measure_vectors(store: TeacherStore) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give some of a teacher's vectors: of texts, float32 ``(R, W)``, and of their tokens ``(N, E)``."""
    taught = store.take(range(min(_MEASURED_ROWS, len(store))))
    assert taught.token_vectors is not None
    return taught.answers.astype(np.float32), np.concatenate(taught.token_vectors).astype(np.float32)


def measure_spread(store: TeacherStore) -> float:
    """Give the variance of some of a teacher's answers; 1 where all are the same."""
    answers = store.take(range(min(_MEASURED_ROWS, len(store)))).answers
    return float(answers.var()) or 1.0


def _count(batches: Sequence[TaughtBatch]) -> Counts:
    return {
        "rows": float(sum(len(batch.input_ids) for batch in batches)),
        "tokens": float(sum(int(batch.attention_mask.sum()) for batch in batches)),
        "shared": float(sum(len(batch.places) for batch in batches)),
        "labelled": float(sum(len(batch.labelled) for batch in batches)),
    }


def _likeness(vectors: Tensor) -> Tensor:
    """Compute the cosine of every two vectors of ``(B, W)``: ``(B, B)``, under autocast, too, in float32."""
    directions = F.normalize(vectors, dim=-1)
    with torch.autocast(vectors.device.type, enabled=False):
        return directions @ directions.T


def _error(ours: Tensor, theirs: Tensor) -> Tensor:
    """Compute each row's mean squared error."""
    return (ours - theirs).square().mean(-1)
