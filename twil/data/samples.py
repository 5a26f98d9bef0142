"""Samples of pretraining: the rows of a corpus in random order, framed, masked and cut into micro-batches.

What a step holds is a function of the seed, the epoch and the step alone, so that a resumed run goes on by
seeking, and any number of processes see the same rows with the same masks.
"""

# R rows of a step   N their tokens

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twil.config.pretraining import MaskingConfig
from twil.data.batching import length_batches
from twil.data.corpus.corpus import Part
from twil.data.masking import mask
from twil.text.special import SpecialTokens
from twil.text.tokenizer import OWN_SPECIAL

Int64Array = NDArray[np.int64]

TWEET_FIRST, REPLY_FIRST, NO_ORDER = 1, 0, -100
"""Labels of Reply Order Prediction; a single text has none."""
NOT_MASKED = -100
_MASKS, _ORDER = 1, 0  # streams of random numbers under one seed


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens one behind the other, without pads.

    Attributes:
        input_ids: int64 ``(N,)``, special tokens included.
        segment_ids: int64 ``(N,)``, 1 on the second text and the [SEP] behind it.
        targets: int64 ``(N,)``, the true token where one is masked, elsewhere `NOT_MASKED`.
        lengths: int64 ``(R,)``, tokens of each row.
        order: int64 ``(R,)``, the label of each row's order.
    """

    input_ids: Int64Array
    segment_ids: Int64Array
    targets: Int64Array
    lengths: Int64Array
    order: Int64Array

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.lengths)

    @property
    def masked(self) -> int:
        """Count the masked tokens."""
        return int(np.count_nonzero(self.targets != NOT_MASKED))

    @property
    def ordered(self) -> int:
        """Count the rows that have an order."""
        return int(np.count_nonzero(self.order != NO_ORDER))

    def take(self, rows: Int64Array) -> TokenRows:
        """Give some of the rows, in the order asked."""
        starts = np.cumsum(self.lengths) - self.lengths
        lengths = self.lengths[rows]
        tokens = ranges(starts[rows], lengths)
        return TokenRows(
            self.input_ids[tokens],
            self.segment_ids[tokens],
            self.targets[tokens],
            lengths,
            self.order[rows],
        )


class Samples:
    """The rows that one part of a corpus gives in an epoch.

    Args:
        part: Its pairs and single texts.
        masking: Which tokens are masked.
        vocab_size: Tokens of the vocabulary.
        rop: See each pair in both orders, with the order's label; otherwise once, as it stands.
        seed: Decides order and masks.
        special: The special tokens of the vocabulary.
    """

    def __init__(
        self,
        part: Part,
        masking: MaskingConfig,
        *,
        vocab_size: int,
        rop: bool,
        seed: int,
        special: SpecialTokens = OWN_SPECIAL,
    ) -> None:
        self.special = special
        self.part, self.masking, self.vocab_size, self.seed = part, masking, vocab_size, seed
        self.orders = 2 if rop else 1
        self.rop = rop
        self.pairs = len(part.pairs) * self.orders if part.pairs is not None else 0
        self.texts = len(part.texts) if part.texts is not None else 0

    def __len__(self) -> int:
        """Count the rows of an epoch."""
        return self.pairs + self.texts

    def draw(self, epoch: int, start: int, stop: int) -> TokenRows:
        """Give the masked rows at some positions of an epoch, the longest first.

        Args:
            epoch: Its number.
            start: The first position.
            stop: The position behind the last.
        """
        order = Permutation(len(self), (self.seed, _ORDER, epoch))
        rows = self._rows(order(np.arange(start, min(stop, len(self)), dtype=np.int64)))
        rng = np.random.default_rng([self.seed, _MASKS, epoch, start])
        masked = mask(rows.input_ids, rows.lengths, self.masking, self.vocab_size, rng, self.special)
        rows.targets[masked.positions] = masked.targets
        return TokenRows(masked.input_ids, rows.segment_ids, rows.targets, rows.lengths, rows.order)

    def _rows(self, samples: Int64Array) -> TokenRows:
        pairs, texts = samples[samples < self.pairs], samples[samples >= self.pairs] - self.pairs
        parts = []
        if len(pairs):
            assert self.part.pairs is not None
            tokens, lengths = self.part.pairs.tokens(pairs // self.orders)
            reversed_ = pairs % self.orders == 1
            parts.append(frame_pairs(tokens, lengths, reversed_, rop=self.rop, special=self.special))
        if len(texts):
            assert self.part.texts is not None
            tokens, lengths = self.part.texts.tokens(texts)
            parts.append(frame_texts(tokens, lengths[:, 0], self.special))
        rows = join(parts)
        return rows.take(np.argsort(-rows.lengths, kind="stable"))


class Steps(Sequence[list[TokenRows]]):
    """The optimiser steps of one epoch, each the micro-batches of one process; made when asked for.

    Args:
        samples: The rows.
        epoch: Its number.
        batch_rows: Rows of a step over all processes.
        batch_tokens: Tokens of a micro-batch.
        rank: This process.
        world_size: Processes.
    """

    def __init__(
        self,
        samples: Samples,
        epoch: int,
        *,
        batch_rows: int,
        batch_tokens: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.samples, self.epoch = samples, epoch
        self.batch_rows, self.batch_tokens = batch_rows, batch_tokens
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Count the steps; the last may be smaller."""
        return -(-len(self.samples) // self.batch_rows)

    def __getitem__(self, step: int) -> list[TokenRows]:  # type: ignore[override]  # steps are not sliced
        """Give the micro-batches of a step; a process for which there is no row gets none."""
        if not 0 <= step < len(self):
            raise IndexError(step)
        start = step * self.batch_rows
        rows = self.samples.draw(self.epoch, start, start + self.batch_rows)
        return list(micro_batches(rows, self.batch_tokens, rank=self.rank, world_size=self.world_size))


def micro_batches(
    rows: TokenRows, batch_tokens: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[TokenRows]:
    """Cut rows, the longest first, into the micro-batches of one of several processes."""
    own = np.arange(rank, len(rows), world_size)
    for batch in length_batches(rows.lengths[own], batch_tokens):
        yield rows.take(own[batch])


def frame_pairs(
    tokens: Int64Array,
    lengths: Int64Array,
    reversed_: NDArray[np.bool_],
    *,
    rop: bool,
    special: SpecialTokens = OWN_SPECIAL,
) -> TokenRows:
    """Put pairs between special tokens: [CLS] first [SEP] second [SEP].

    Args:
        tokens: int64, the texts' tokens, row by row, the tweet's before the reply's.
        lengths: int64 ``(R, 2)``.
        reversed_: bool ``(R,)``: put the reply first.
        rop: Whether the rows' order is to be predicted.
        special: The tokens around them, of which some families put two between the texts.
    """
    tweet, reply = lengths[:, 0], lengths[:, 1]
    first, second = np.where(reversed_, reply, tweet), np.where(reversed_, tweet, reply)
    sizes = first + second + 2 + special.between
    seconds = first + 1 + special.between  # where the second text begins in its row
    starts = np.cumsum(sizes) - sizes
    ids = np.full(int(sizes.sum()), special.sep, dtype=np.int64)
    ids[starts] = special.cls
    begins = np.cumsum(tweet + reply) - (tweet + reply)  # of each row in `tokens`
    ids[ranges(starts + 1, first)] = tokens[ranges(begins + np.where(reversed_, tweet, 0), first)]
    ids[ranges(starts + seconds, second)] = tokens[ranges(begins + np.where(reversed_, 0, tweet), second)]
    segments = np.zeros_like(ids)
    segments[ranges(starts + seconds, second + 1)] = 1
    order = np.where(reversed_, REPLY_FIRST, TWEET_FIRST) if rop else np.full(len(sizes), NO_ORDER)
    return TokenRows(ids, segments, np.full_like(ids, NOT_MASKED), sizes, order.astype(np.int64))


def frame_texts(tokens: Int64Array, lengths: Int64Array, special: SpecialTokens = OWN_SPECIAL) -> TokenRows:
    """Put single texts between special tokens: [CLS] text [SEP].

    Args:
        tokens: int64, the texts' tokens, one behind the other.
        lengths: int64 ``(R,)``.
        special: The tokens around them.
    """
    sizes = lengths + 2
    starts = np.cumsum(sizes) - sizes
    ids = np.full(int(sizes.sum()), special.sep, dtype=np.int64)
    ids[starts] = special.cls
    ids[ranges(starts + 1, lengths)] = tokens
    order = np.full(len(sizes), NO_ORDER, dtype=np.int64)
    return TokenRows(ids, np.zeros_like(ids), np.full_like(ids, NOT_MASKED), sizes, order)


def join(parts: Sequence[TokenRows]) -> TokenRows:
    """Put rows one behind the other."""
    fields = ("input_ids", "segment_ids", "targets", "lengths", "order")
    return TokenRows(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def ranges(starts: Int64Array, lengths: Int64Array) -> Int64Array:
    """Concatenate start, start + 1, …, start + length - 1 of every range."""
    before = np.cumsum(lengths) - lengths
    steps: Int64Array = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return steps


_ROUNDS = 6
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Permutation:
    """A random permutation of 0…n-1, whose every part can be asked for by itself.

    It is a balanced Feistel network over the smallest power of four that holds n, walked along its cycles
    until it lands below n (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").

    Args:
        size: n.
        seed: Numbers that decide it.
    """

    def __init__(self, size: int, seed: tuple[int, ...]) -> None:
        self.size = size
        half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
        self._shift = np.uint64(half_bits)
        self._low = np.uint64((1 << half_bits) - 1)
        self._keys = np.random.SeedSequence(seed).generate_state(_ROUNDS, np.uint64)

    def __call__(self, positions: Int64Array) -> Int64Array:
        """Give what stands at some positions, int64 of the same shape."""
        values = self._encrypt(np.asarray(positions).astype(np.uint64))
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = self._encrypt(values[outside])
            outside = outside[values[outside] >= self.size]
        return values.astype(np.int64)

    def _encrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._shift, values & self._low
        for key in self._keys:
            mixed = (right ^ key) * _MIX
            mixed ^= mixed >> np.uint64(32)
            mixed *= _MIX
            left, right = right, left ^ ((mixed >> np.uint64(32)) & self._low)
        return (left << self._shift) | right
