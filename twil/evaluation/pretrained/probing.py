"""Asking a pretrained model: which token stands here, and which of two texts came first."""

# B rows   T tokens   D hidden   P vocabulary   M places asked about

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from twil.config.pretraining import MaskingConfig
from twil.core.errors import ConfigError, ModelError
from twil.data.batching import Int64Array, length_batches, pad_batch
from twil.data.masking import mask
from twil.model.folder import load_with_tokenizer
from twil.model.text_model import TextModel
from twil.text.cloze import FilledText, TopTokens, check_count, encode_masked, fill_texts, rank_tokens, spell
from twil.text.special import SpecialTokens, find_special
from twil.text.tokenizer import encode, max_length, set_max_length
from twil.train.devices import choose_device

Text = str | tuple[str, str]

BATCH_TOKENS = 1024
FRAME = 2
"""Tokens of a single text that has none of its own: [CLS] and [SEP]."""

_HEAD_ROWS = 1024  # places that get logits over the whole vocabulary at a time
_GROUP_BATCHES = 16  # batches' worth of masked copies that are in memory at a time


@dataclass(frozen=True)
class Probe:
    """A pretrained model, ready to be asked.

    Attributes:
        path: Its folder.
        model: The model, in evaluation mode, on `device`.
        tokenizer: Its tokenizer, cutting rows at what the model reads.
        device: Where it computes.
        batch_tokens: Tokens of a batch, pads included.
    """

    path: Path
    model: TextModel
    tokenizer: Tokenizer
    device: torch.device
    batch_tokens: int

    @cached_property
    def special(self) -> SpecialTokens:
        """The special tokens of the tokenizer."""
        return find_special(self.tokenizer, source=str(self.path))

    def spell(self, token: int) -> str:
        """Give the token that an id stands for."""
        return spell(self.tokenizer, token)


@dataclass(frozen=True)
class Row:
    """A row of tokens, and the places in it that the model is asked about.

    Attributes:
        input_ids: int64 ``(T,)``, special tokens included.
        segment_ids: int64 ``(T,)``, 1 on the second text.
        asked: int64 ``(M,)``, places in `input_ids`.
    """

    input_ids: Int64Array
    segment_ids: Int64Array
    asked: Int64Array = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class TokenScores:
    """What a model says at the places asked about, all rows' one behind the other.

    Attributes:
        log_probs: float64 ``(M,)``, natural logarithm of the true token's probability.
        guesses: int64 ``(M,)``, the likeliest token.
    """

    log_probs: NDArray[np.float64]
    guesses: Int64Array


def open_probe(
    path: str | Path,
    *,
    mlm: bool = False,
    rop: bool = False,
    device: str = "auto",
    batch_tokens: int = BATCH_TOKENS,
) -> Probe:
    """Load a pretrained model.

    Args:
        path: A model folder.
        mlm: Whether it must have a masked-language head.
        rop: Whether it must have a reply-order head.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_tokens: Tokens of a batch, pads included.

    Raises:
        ConfigError: The device is not there, or a batch has no token.
        ModelError: It is no model folder, or has no such head.
    """
    if batch_tokens < 1:
        raise ConfigError(f"a batch cannot have {batch_tokens} tokens: ask for at least one")
    place = choose_device(device, "fp32")
    model, tokenizer = load_with_tokenizer(path)
    heads = (mlm, model.has_mlm, "masked-language"), (rop, model.rop is not None, "reply-order")
    for wanted, there, name in heads:
        if wanted and not there:
            raise ModelError(
                f"{path} has no {name} head: give a model that was pretrained with one, as twil pretrain "
                "or twil import wrote it (a fine-tuned classifier has none)"
            )
    limit = model.max_positions
    set_max_length(tokenizer, min(limit, max_length(tokenizer) or limit))
    return Probe(Path(path), model.to(place).eval(), tokenizer, place, batch_tokens)


def encode_rows(probe: Probe, texts: Sequence[Text]) -> tuple[list[Row], NDArray[np.bool_]]:
    """Turn texts or pairs into rows; also tell, bool ``(B,)``, which were cut at the longest length.

    Args:
        probe: Whose tokenizer it is.
        texts: Either all single texts or all pairs.

    Raises:
        DataError: A row holds something other than text.
    """
    encoded = encode(probe.tokenizer, texts)
    ids = [np.asarray(row, dtype=np.int64) for row in encoded.input_ids]
    if encoded.segment_ids is None:
        return [Row(row, np.zeros_like(row)) for row in ids], encoded.truncated
    segments = [np.asarray(row, dtype=np.int64) for row in encoded.segment_ids]
    return [Row(*parts) for parts in zip(ids, segments, strict=True)], encoded.truncated


def mask_rows(
    probe: Probe, rows: Sequence[Row], masking: MaskingConfig, rng: np.random.Generator
) -> tuple[list[Row], Int64Array]:
    """Mask tokens of rows as pretraining does, and ask about them.

    Returns:
        The masked rows, and int64 ``(M,)`` what stood there, all rows' one behind the other.
    """
    lengths = np.array([len(row.input_ids) for row in rows], dtype=np.int64)
    ids = np.concatenate([row.input_ids for row in rows])
    masked = mask(ids, lengths, masking, probe.tokenizer.get_vocab_size(), rng, probe.special)
    ends = np.cumsum(lengths)
    asked = np.split(masked.positions, np.searchsorted(masked.positions, ends[:-1]))
    return [
        replace(row, input_ids=masked.input_ids[end - length : end], asked=places - (end - length))
        for row, length, end, places in zip(rows, lengths, ends, asked, strict=True)
    ], masked.targets


def score_tokens(probe: Probe, rows: Sequence[Row], targets: Int64Array) -> TokenScores:
    """Score the true tokens at the places asked about.

    Args:
        probe: A model with a masked-language head.
        rows: The rows as the model sees them.
        targets: int64 ``(M,)``, the true tokens, all rows' one behind the other.
    """
    log_probs = np.empty(len(targets), dtype=np.float64)
    guesses = np.empty(len(targets), dtype=np.int64)
    for numbers, logits in _token_logits(probe, rows):
        true = torch.from_numpy(targets[numbers]).to(probe.device)
        chosen = logits.gather(1, true[:, None])[:, 0]  # (M,)
        log_probs[numbers] = (chosen - logits.logsumexp(1)).cpu().numpy()
        guesses[numbers] = logits.argmax(1).cpu().numpy()
    return TokenScores(log_probs, guesses)


def top_tokens(probe: Probe, rows: Sequence[Row], k: int) -> TopTokens:
    """Find the likeliest tokens at the places asked about, all rows' one behind the other.

    Arguments are those of `score_tokens`.

    Raises:
        ConfigError: The vocabulary does not have `k` tokens, or `k` is none.
    """
    check_count(k, probe.model.vocab_size)
    count = sum(len(row.asked) for row in rows)
    tokens = np.empty((count, k), dtype=np.int64)
    probabilities = np.empty((count, k), dtype=np.float64)
    for numbers, logits in _token_logits(probe, rows):
        best = rank_tokens(logits.cpu().numpy(), k)
        tokens[numbers], probabilities[numbers] = best.tokens, best.probabilities
    return TopTokens(tokens, probabilities)


def pseudo_log_likelihoods(probe: Probe, rows: Sequence[Row]) -> Iterator[list[NDArray[np.float64]]]:
    """Mask every token in turn, and score it (Wang and Cho 2019; Salazar et al. 2020).

    Args:
        probe: A model with a masked-language head.
        rows: Whole rows, unmasked.

    Yields:
        Some rows at a time, in their order, for each the log-probabilities float64 ``(T - 2,)`` of its
        tokens from the first to the last, without [CLS] and the final [SEP].
    """
    mask = probe.special.mask
    assert mask is not None  # of a model that fills it
    for group in _groups(rows, _GROUP_BATCHES * probe.batch_tokens):
        copies = [_masked(row, place, mask) for row in group for place in range(1, len(row.input_ids) - 1)]
        targets = np.concatenate([row.input_ids[1:-1] for row in group])
        log_probs = score_tokens(probe, copies, targets).log_probs
        ends = np.cumsum([len(row.input_ids) - 2 for row in group])
        yield np.split(log_probs, ends[:-1])


@torch.inference_mode()
def order_probabilities(probe: Probe, rows: Sequence[Row]) -> NDArray[np.float64]:
    """Ask in which order pairs stand.

    Args:
        probe: A model with a reply-order head.
        rows: Pairs.

    Returns:
        float64 ``(B, 2)``, the probabilities of the orders, by their labels in `twil.data.samples`.
    """
    probabilities = np.empty((len(rows), 2), dtype=np.float64)
    for numbers in length_batches([len(row.input_ids) for row in rows], probe.batch_tokens):
        logits = probe.model.rop_logits(
            _hidden(probe, [rows[number] for number in numbers.tolist()])
        )  # (B, 2)
        probabilities[numbers] = logits.float().softmax(1).cpu().numpy()
    return probabilities


@torch.inference_mode()
def _token_logits(probe: Probe, rows: Sequence[Row]) -> Iterator[tuple[Int64Array, Tensor]]:
    """Compute logits at the places asked about, and nowhere else.

    Yields:
        int64 ``(M,)``, which places of all rows' these are, and their logits float32 ``(M, P)``.
    """
    counts = np.array([len(row.asked) for row in rows], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    asking = np.flatnonzero(counts)
    for picked in length_batches([len(rows[row].input_ids) for row in asking.tolist()], probe.batch_tokens):
        batch = asking[picked]
        hidden = _hidden(probe, [rows[row] for row in batch.tolist()])  # (B, T, D)
        places = np.concatenate([rows[row].asked for row in batch.tolist()])
        asked = hidden[np.repeat(np.arange(len(batch)), counts[batch]), places]  # (M, D)
        numbers = np.concatenate([starts[row] + np.arange(counts[row]) for row in batch.tolist()])
        for first in range(0, len(numbers), _HEAD_ROWS):
            part = slice(first, first + _HEAD_ROWS)
            yield numbers[part], probe.model.mlm_logits(asked[part]).float()


def _hidden(probe: Probe, rows: Sequence[Row]) -> Tensor:
    batch = pad_batch(
        [row.input_ids.tolist() for row in rows],
        [row.segment_ids.tolist() for row in rows],
        pad_id=probe.special.pad,
    )
    arrays = (batch.input_ids, batch.attention_mask, batch.segment_ids)
    hidden = probe.model.encode(*(torch.from_numpy(array).to(probe.device) for array in arrays))
    if not hidden.isfinite().all():
        raise ModelError(f"{probe.path} gives numbers that are not finite: its training has diverged")
    return hidden


def _masked(row: Row, place: int, mask: int) -> Row:
    masked = row.input_ids.copy()
    masked[place] = mask
    return replace(row, input_ids=masked, asked=np.array([place], dtype=np.int64))


def _groups(rows: Sequence[Row], budget: int) -> Iterator[list[Row]]:
    """Cut rows into runs whose masked copies have about as many tokens in all as the budget says."""
    group: list[Row] = []
    tokens = 0
    for row in rows:
        group.append(row)
        tokens += len(row.input_ids) * (len(row.input_ids) - 2)
        if tokens >= budget:
            yield group
            group, tokens = [], 0
    if group:
        yield group


def fill_masks(probe: Probe, texts: Sequence[str], *, top_k: int = 5) -> list[FilledText]:
    """Find the likeliest tokens for every [MASK] of some texts.

    Args:
        probe: A model with a masked-language head.
        texts: Each with one [MASK] or more. All of a text's masks are hidden from the model while it
            answers for each.
        top_k: How many tokens for each mask.

    Raises:
        ConfigError: The vocabulary does not have so many tokens.
        DataError: A text has no [MASK], one that lies behind the longest row, or is not Unicode.
    """
    masked = encode_masked(probe.tokenizer, texts)
    ids = [np.asarray(row, dtype=np.int64) for row in masked.input_ids]
    rows = [Row(row, np.zeros_like(row), asked) for row, asked in zip(ids, masked.asked, strict=True)]
    best = top_tokens(probe, rows, top_k)
    ends = np.cumsum([len(row.asked) for row in rows])[:-1]
    by_text = zip(np.split(best.tokens, ends), np.split(best.probabilities, ends), strict=True)
    return fill_texts(probe.tokenizer, masked, [TopTokens(*found) for found in by_text] if rows else [])
