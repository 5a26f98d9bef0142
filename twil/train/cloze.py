"""Masks of texts filled by a pretrained model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twil.text.cloze import FilledText, TopPieces, encode_masked, fill_texts
from twil.train.probing import Probe, Row, top_pieces


def fill_masks(probe: Probe, texts: Sequence[str], *, top_k: int = 5) -> list[FilledText]:
    """Find the likeliest pieces for every [MASK] of some texts.

    Args:
        probe: A model with a masked-language head.
        texts: Each with one [MASK] or more. All of a text's masks are hidden from the model while it
            answers for each.
        top_k: How many pieces for each mask.

    Raises:
        ConfigError: The vocabulary does not have so many pieces.
        DataError: A text has no [MASK], one that lies behind the longest row, or is not Unicode.
    """
    masked = encode_masked(probe.tokenizer, texts)
    ids = [np.asarray(row, dtype=np.int64) for row in masked.input_ids]
    rows = [Row(row, np.zeros_like(row), asked) for row, asked in zip(ids, masked.asked, strict=True)]
    best = top_pieces(probe, rows, top_k)
    ends = np.cumsum([len(row.asked) for row in rows])[:-1]
    by_text = zip(np.split(best.pieces, ends), np.split(best.probabilities, ends), strict=True)
    return fill_texts(probe.tokenizer, masked, [TopPieces(*found) for found in by_text] if rows else [])
