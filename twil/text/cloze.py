"""Texts with [MASK] in them: their rows, the likeliest tokens by logits, and the texts filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from twil.core.errors import ConfigError, DataError, ModelError
from twil.data.batching import Int64Array
from twil.text.preparation import prepare
from twil.text.special import SpecialTokens, find_special
from twil.text.tokenizer import MASK, encode, max_length


@dataclass(frozen=True)
class Fill:
    """One token for one mask.

    Attributes:
        token: The token, as the vocabulary writes it.
        probability: How likely the model finds it there.
        text: The text with it filled in; other masks stay.
    """

    token: str
    probability: float
    text: str


@dataclass(frozen=True)
class FilledText:
    """A text and what may stand in the place of each of its masks.

    Attributes:
        text: The text, as given.
        masks: For each mask, from left to right, the likeliest tokens, best first.
        truncated: The text was longer than the model reads, and its end (without masks) was left out.
    """

    text: str
    masks: tuple[tuple[Fill, ...], ...]
    truncated: bool

    def as_dict(self) -> dict[str, Any]:
        """Describe the text in JSON's types."""
        return asdict(self)


@dataclass(frozen=True)
class MaskedTexts:
    """Texts as rows of tokens, and where their masks are.

    Attributes:
        texts: As given.
        input_ids: The ids of each row, special tokens included; every [MASK] is one of them.
        asked: Per row the places of its masks, int64 ``(M,)``.
        truncated: Whether the end of the text (without masks) was left out; bool ``(rows,)``.
        mask: How the tokenizer calls its mask, as it stands in the texts.
    """

    texts: tuple[str, ...]
    input_ids: list[list[int]]
    asked: list[Int64Array]
    truncated: NDArray[np.bool_]
    mask: str = MASK


@dataclass(frozen=True)
class TopTokens:
    """The likeliest tokens at some places.

    Attributes:
        tokens: int64 ``(M, k)``, likeliest first.
        probabilities: float64 ``(M, k)``.
    """

    tokens: Int64Array
    probabilities: NDArray[np.float64]


def encode_masked(tokenizer: Tokenizer, texts: Sequence[str]) -> MaskedTexts:
    """Turn texts into ids in which every [MASK] is one.

    Args:
        tokenizer: One that cuts rows at what the model reads.
        texts: Each with one [MASK] or more, which may also be called as the tokenizer calls its own.

    Raises:
        ModelError: The tokenizer has no mask.
        DataError: A text has no [MASK], one that lies behind the longest row, one that its preparation loses,
            or is not Unicode.
    """
    mask = find_mask(tokenizer)
    special = find_special(tokenizer, source="the tokenizer")
    texts = [text.replace(MASK, mask) for text in texts]
    for number, text in enumerate(texts, start=1):
        if mask not in text:
            raise DataError(
                f"text {number} has no {MASK}: put it where a token is to be found ({_cut(text)})"
            )
    for number, (text, prepared) in enumerate(zip(texts, prepare(tokenizer, texts), strict=True), start=1):
        if prepared.count(mask) != text.count(mask):
            raise DataError(
                f"{MASK} of text {number} is lost where texts are prepared for this model: put blanks around "
                f"it ({_cut(text)})"
            )
    rows, truncated = _encode(tokenizer, texts, special, mask)
    asked = [np.flatnonzero(np.asarray(ids) == special.mask) for ids in rows]
    for number, (text, places) in enumerate(zip(texts, asked, strict=True), start=1):
        if len(places) < text.count(mask):
            raise DataError(
                f"{MASK} {len(places) + 1} of text {number} lies behind the longest row that the model "
                f"reads ({max_length(tokenizer)} tokens): shorten the text ({_cut(text)})"
            )
    return MaskedTexts(tuple(texts), rows, asked, np.array(truncated, dtype=np.bool_), mask)


def find_mask(tokenizer: Tokenizer) -> str:
    """Give what a tokenizer calls its mask.

    Raises:
        ModelError: It has none.
    """
    special = find_special(tokenizer, source="the tokenizer")
    if special.mask is None:
        raise ModelError("the tokenizer of this model has no mask to fill: give another model")
    return str(tokenizer.id_to_token(special.mask))


def rank_tokens(logits: NDArray[np.float32], k: int) -> TopTokens:
    """Find the likeliest tokens by their logits, float32 ``(M, vocabulary)``.

    Raises:
        ConfigError: The vocabulary does not have `k` tokens, or `k` is none.
    """
    check_count(k, logits.shape[-1])
    best = np.argpartition(-logits, k - 1, axis=-1)[:, :k]  # (M, k)
    best.sort(axis=-1)  # of equal ones, that with the smaller id comes first
    order = np.argsort(-np.take_along_axis(logits, best, axis=-1), axis=-1, kind="stable")
    best = np.take_along_axis(best, order, axis=-1)
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))  # (M, vocabulary)
    probabilities = np.take_along_axis(shares, best, axis=-1) / shares.sum(axis=-1, keepdims=True)
    return TopTokens(best.astype(np.int64), probabilities.astype(np.float64))


def check_count(k: int, vocabulary: int) -> None:
    """Refuse to look for more tokens than there are, or for none.

    Raises:
        ConfigError: It is so.
    """
    if not 1 <= k <= vocabulary:
        raise ConfigError(f"the best {k} tokens cannot be given: choose 1 to {vocabulary}")


def spell(tokenizer: Tokenizer, token: int) -> str:
    """Give the token that an id stands for."""
    return tokenizer.id_to_token(token) or f"[{token}]"  # a model may have spare ids


def fill_texts(tokenizer: Tokenizer, masked: MaskedTexts, best: Sequence[TopTokens]) -> list[FilledText]:
    """Put the likeliest tokens into texts.

    Args:
        tokenizer: Of the tokens.
        masked: The texts.
        best: For each text the tokens for its masks.
    """
    used = {int(token) for found in best for token in np.unique(found.tokens)}
    special = find_special(tokenizer, source="the tokenizer")
    surfaces = {token: _surface(tokenizer, token, special) for token in used}
    return [
        FilledText(
            text=text,
            masks=tuple(
                tuple(
                    Fill(
                        spell(tokenizer, token), probability, _fill(text, masked.mask, place, surfaces[token])
                    )
                    for token, probability in zip(tokens, probabilities, strict=True)
                )
                for place, (tokens, probabilities) in enumerate(
                    zip(found.tokens.tolist(), found.probabilities.tolist(), strict=True)
                )
            ),
            truncated=bool(truncated),
        )
        for text, found, truncated in zip(masked.texts, best, masked.truncated, strict=True)
    ]


def _encode(
    tokenizer: Tokenizer, texts: Sequence[str], special: SpecialTokens, mask: str
) -> tuple[list[list[int]], list[bool]]:
    assert special.mask is not None
    if tokenizer.encode(mask, add_special_tokens=False).ids == [special.mask]:
        whole = encode(tokenizer, texts)
        return whole.input_ids, whole.truncated.tolist()
    # A tokenizer of original weights takes [MASK] for punctuation and a word.
    longest = max_length(tokenizer)
    assert longest is not None
    rows, truncated = [], []
    for text in texts:
        parts = encode(tokenizer, text.split(mask))
        tokens = parts.input_ids[0][1:-1]
        for part in parts.input_ids[1:]:
            tokens += [special.mask, *part[1:-1]]
        kept = tokens[: longest - tokenizer.num_special_tokens_to_add(is_pair=False)]
        rows.append([special.cls, *kept, special.sep])
        truncated.append(len(kept) < len(tokens) or bool(parts.truncated.any()))
    return rows, truncated


def _surface(tokenizer: Tokenizer, token: int, special: SpecialTokens) -> str:
    """Spell a token as it stands in a text, with a blank before it where it begins a word."""
    # Alone, a token would lose its blank; behind another one it keeps it.
    before = special.sep if special.unknown is None else special.unknown
    decoded: str = tokenizer.decode([before, token], skip_special_tokens=False)
    return decoded.removeprefix(str(tokenizer.id_to_token(before)))


def _fill(text: str, mask: str, place: int, surface: str) -> str:
    """Put a token in the place of one [MASK], counted from 0; blanks before it are the token's own."""
    parts = text.split(mask)
    before, after = mask.join(parts[: place + 1]).rstrip(), mask.join(parts[place + 1 :])
    return (before + surface if before else surface.lstrip()) + after


def _cut(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
