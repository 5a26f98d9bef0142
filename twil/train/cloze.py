"""Texts with [MASK] in them, and the pieces that a pretrained model puts there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from twil.data.batching import Int64Array
from twil.errors import DataError
from twil.text.tokenizer import CLS_ID, MASK, MASK_ID, SEP_ID, UNK, UNK_ID, encode, max_length
from twil.train.probing import FRAME, Probe, Row, top_pieces


@dataclass(frozen=True)
class Fill:
    """One piece for one mask.

    Attributes:
        piece: The piece, as the vocabulary writes it.
        probability: How likely the model finds it there.
        text: The text with it filled in; other masks stay.
    """

    piece: str
    probability: float
    text: str


@dataclass(frozen=True)
class FilledText:
    """A text and what may stand in the place of each of its masks.

    Attributes:
        text: The text, as given.
        masks: For each mask, from left to right, the likeliest pieces, best first.
        truncated: The text was longer than the model reads, and its end (without masks) was left out.
    """

    text: str
    masks: tuple[tuple[Fill, ...], ...]
    truncated: bool

    def as_dict(self) -> dict[str, Any]:
        """Describe the text in JSON's types."""
        return asdict(self)


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
    for number, text in enumerate(texts, start=1):
        if MASK not in text:
            raise DataError(
                f"text {number} has no {MASK}: put it where a piece is to be found ({_cut(text)})"
            )
    encoded = _encode(probe.tokenizer, texts)
    rows = []
    for number, (text, ids, _) in enumerate(zip(texts, *encoded, strict=True), start=1):
        asked = np.flatnonzero(ids == MASK_ID)
        if len(asked) < text.count(MASK):
            raise DataError(
                f"{MASK} {len(asked) + 1} of text {number} lies behind the longest row that the model "
                f"reads ({max_length(probe.tokenizer)} pieces): shorten the text ({_cut(text)})"
            )
        rows.append(Row(ids, np.zeros_like(ids), asked))
    best = top_pieces(probe, rows, top_k)
    surfaces = {int(piece): _surface(probe.tokenizer, int(piece)) for piece in np.unique(best.pieces)}
    answers = zip(best.pieces.tolist(), best.probabilities.tolist(), strict=True)
    return [
        FilledText(
            text=text,
            masks=tuple(
                tuple(
                    Fill(probe.spell(piece), probability, _fill(text, place, surfaces[piece]))
                    for piece, probability in zip(*next(answers), strict=True)
                )
                for place in range(len(row.asked))
            ),
            truncated=bool(truncated),
        )
        for text, row, truncated in zip(texts, rows, encoded[1], strict=True)
    ]


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[list[Int64Array], list[bool]]:
    """Turn texts into ids in which every [MASK] is one; also tell which were cut."""
    if tokenizer.encode(MASK, add_special_tokens=False).ids == [MASK_ID]:
        whole = encode(tokenizer, texts)
        return [np.asarray(ids, dtype=np.int64) for ids in whole.input_ids], whole.truncated.tolist()
    # A tokenizer of original weights takes [MASK] for punctuation and a word.
    longest = max_length(tokenizer)
    assert longest is not None
    rows, truncated = [], []
    for text in texts:
        parts = encode(tokenizer, text.split(MASK))
        pieces = parts.input_ids[0][1:-1]
        for part in parts.input_ids[1:]:
            pieces += [MASK_ID, *part[1:-1]]
        kept = pieces[: longest - FRAME]
        rows.append(np.array([CLS_ID, *kept, SEP_ID], dtype=np.int64))
        truncated.append(len(kept) < len(pieces) or bool(parts.truncated.any()))
    return rows, truncated


def _surface(tokenizer: Tokenizer, piece: int) -> str:
    """Spell a piece as it stands in a text, with a blank before it where it begins a word."""
    # Alone, a piece would lose its blank; behind another one it keeps it.
    return tokenizer.decode([UNK_ID, piece], skip_special_tokens=False).removeprefix(UNK)


def _fill(text: str, place: int, surface: str) -> str:
    """Put a piece in the place of one [MASK], counted from 0; blanks before it are the piece's own."""
    parts = text.split(MASK)
    before, after = MASK.join(parts[: place + 1]).rstrip(), MASK.join(parts[place + 1 :])
    return (before + surface if before else surface.lstrip()) + after


def _cut(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
