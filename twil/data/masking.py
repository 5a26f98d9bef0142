"""Masking for pretraining: which tokens are hidden, and what stands in their place.

A whole batch is masked at once; nothing loops over its rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twil.config.pretraining import MaskingConfig
from twil.data.batching import Int64Array
from twil.text.special import SpecialTokens
from twil.text.tokenizer import OWN_SPECIAL, SPECIAL

FIRST_ID = len(SPECIAL)
"""The first id that is no special token in twil's own vocabularies."""
_SLACK = 1e-9  # 0.07 · 100 is 7.000000000000001 in floating point, and must not become 8


@dataclass(frozen=True)
class Masked:
    """A batch with tokens hidden; rows lie one behind the other.

    Attributes:
        input_ids: int64 ``(N,)``, the ids given with the masked tokens replaced.
        positions: int64 ``(M,)``, where masked tokens lie in `input_ids`, ascending.
        targets: int64 ``(M,)``, the ids that were there.
    """

    input_ids: Int64Array
    positions: Int64Array
    targets: Int64Array


def mask(
    ids: Int64Array,
    lengths: Int64Array,
    config: MaskingConfig,
    vocab_size: int,
    rng: np.random.Generator,
    special: SpecialTokens = OWN_SPECIAL,
) -> Masked:
    """Mask the same share of every row: ⌈budget · n⌉ of its n tokens that are not special.

    TWilBERT: the budget is met exactly, the last span is trimmed, and no pad or special token is ever
    masked; the original overshoots, writes over pads, and draws for ever where nothing can be masked.

    Args:
        ids: int64 ``(N,)``, the tokens of all rows, one row behind the other, special ones included.
        lengths: int64 ``(B,)``, tokens per row; they add up to N.
        config: Spans or single tokens, and what they become.
        vocab_size: Tokens of the tokenizer; those drawn at random come from all but the special ones.
        rng: Decides everything that is random.
        special: The tokens that are never masked, and that none becomes, but for the mask itself.
    """
    places = np.flatnonzero(special.ordinary(ids))  # (P,) where the tokens are that can be masked
    rows = np.repeat(np.arange(len(lengths)), lengths)[places]
    counts = np.bincount(rows, minlength=len(lengths))
    budgets = np.clip(np.ceil(config.budget * counts - _SLACK).astype(np.int64), counts > 0, counts)
    order = np.argsort(rows + rng.random(len(rows)))  # (P,) row by row, shuffled within each
    match config.kind:
        case "token":
            chosen = _first(order, counts, budgets)
        case "span":
            chosen = _spans(places, rows, order, counts, budgets, config.max_span, rng)
    positions = places[chosen]
    return Masked(_replace(ids, positions, config, vocab_size, rng, special), positions, ids[positions])


def _first(order: Int64Array, counts: Int64Array, budgets: Int64Array) -> NDArray[np.bool_]:
    """Choose the first tokens of every row's shuffled ones, as many as its budget."""
    chosen = np.zeros(len(order), dtype=np.bool_)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen[order[rank < np.repeat(budgets, counts)]] = True
    return chosen


def _spans(
    places: Int64Array,
    rows: Int64Array,
    order: Int64Array,
    counts: Int64Array,
    budgets: Int64Array,
    max_span: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Choose spans of 1 to `max_span` tokens, drawn with probability ∝ 1/length, until budgets are met.

    Every row's tokens are tried as starts of a span in the order given, one of each unfinished row at a
    time. A span ends early at a special token, at the end of its row, at a token chosen before, and where
    the budget ends. A start that is chosen already is passed over, so that a row ends after its last
    token at the latest.
    """
    share = np.cumsum(1 / np.arange(1, max_span + 1))
    share /= share[-1]
    chosen = np.zeros(len(places) + 1, dtype=np.bool_)
    chosen[-1] = True  # a wall behind the last token
    follows = np.zeros(len(places) + 1, dtype=np.bool_)  # whether a token goes on from the one before it
    follows[1:-1] = (np.diff(places) == 1) & (rows[1:] == rows[:-1])
    upcoming = np.cumsum(counts) - counts  # (B,) each row's next start in `order`
    live = np.flatnonzero(budgets)  # the rows that are not finished
    upcoming, left = upcoming[live], budgets[live]
    while len(left):
        at = order[upcoming]
        ends = np.minimum(np.searchsorted(share, rng.random(len(at)), side="right") + 1, left)
        grows = ~chosen[at]
        length = 0
        while grows.any():
            chosen[at[grows]] = True
            left = left - grows
            length, at = length + 1, at + 1
            grows[grows] = (ends[grows] > length) & follows[at[grows]] & ~chosen[at[grows]]
        unfinished = left > 0
        upcoming, left = upcoming[unfinished] + 1, left[unfinished]
    return chosen[:-1]


def _replace(
    ids: Int64Array,
    positions: Int64Array,
    config: MaskingConfig,
    vocab_size: int,
    rng: np.random.Generator,
    special: SpecialTokens,
) -> Int64Array:
    """Put [MASK] or a random token in the place of masked ones; each is drawn by itself, also in a span."""
    replaced = ids.copy()
    draw = rng.random(len(positions))
    at_random = positions[(draw >= config.mask) & (draw < config.mask + config.random)]
    assert special.mask is not None
    replaced[positions[draw < config.mask]] = special.mask
    ordinary = max(vocab_size - len(special.ids), 1)
    replaced[at_random] = special.skip(rng.integers(0, ordinary, size=len(at_random)))
    return replaced
