"""How long texts are: in tokens, where there is a tokenizer to cut them, otherwise in characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer

from twil.text.preparation import prepare
from twil.text.special import find_special
from twil.text.tokenizer import cut_texts, encode, load_tokenizer, max_length, set_max_length

Unit = Literal["tokens", "characters"]
PERCENTILES = (50, 90, 95, 99)

_SHOWN_WORDS = 10
_MOST_WORDS = 10_000  # that are counted at a time: a vocabulary of another language knows none


@dataclass(frozen=True)
class Lengths:
    """The lengths of the texts of a file.

    Attributes:
        percentiles: By name, such as ``p50``, and ``max``; special tokens are counted.
        truncated: Rows longer than the longest that is read, which would be cut; None where nothing is.
        tokens: Of all rows, special ones left out; None where lengths are in characters, as are the next.
        unknown: How many of the tokens the vocabulary lacks.
        unknown_parts: What of the texts they stand for, the most frequent first.
    """

    percentiles: dict[str, int]
    truncated: int | None
    tokens: int | None
    unknown: int | None
    unknown_parts: dict[str, int]


class TokenCounter:
    """Cuts texts into tokens, whole, to see how long they are.

    Args:
        tokens: A tokenizer, which is changed, or the path of a `tokenizer.json`.
        longest: The longest row that is read, in tokens; the tokenizer's where left out.

    Attributes:
        longest: That length; None where nothing is cut.

    Raises:
        ModelError: There is no such tokenizer.
        ConfigError: Rows of that length have no room for text.
    """

    def __init__(self, tokens: Path | Tokenizer, longest: int | None = None) -> None:
        self.tokenizer = tokens if isinstance(tokens, Tokenizer) else load_tokenizer(tokens)
        if longest is not None:
            set_max_length(self.tokenizer, longest)
        self.longest = max_length(self.tokenizer)
        self.unknown = find_special(self.tokenizer, source=str(tokens)).unknown
        self.tokenizer.no_truncation()


class LengthTally:
    """Measures the texts of one file, run by run.

    Args:
        counter: What cuts them into tokens; without one they are measured in characters.
    """

    def __init__(self, counter: TokenCounter | None) -> None:
        self._counter = counter
        self._lengths: Counter[int] = Counter()
        self._tokens = self._unknown = 0
        self._parts: Counter[str] = Counter()

    def add(self, texts: Sequence[str], pairs: Sequence[str] | None) -> None:
        """Measure some rows.

        Args:
            texts: One per row.
            pairs: The second texts, where rows are pairs.
        """
        if self._counter is None:
            parts = [texts] if pairs is None else [texts, pairs]
            self._lengths.update(map(sum, zip(*(map(len, part) for part in parts), strict=True)))
            return
        tokenizer = self._counter.tokenizer
        rows: list[Any] = list(texts if pairs is None else zip(texts, pairs, strict=True))
        encoded = encode(tokenizer, rows).input_ids
        self._lengths.update(map(len, encoded))
        framed = tokenizer.num_special_tokens_to_add(is_pair=pairs is not None)
        self._tokens += sum(map(len, encoded)) - framed * len(encoded)
        unknown = self._counter.unknown
        if unknown is not None:
            lacking = [row for row, ids in zip(rows, encoded, strict=True) if unknown in ids]
            self._count_unknown(tokenizer, unknown, lacking)

    def lengths(self) -> Lengths:
        """Sum up; there must be a row."""
        lengths = np.array(sorted(self._lengths), dtype=np.int64)
        ends = np.cumsum([self._lengths[length] for length in lengths.tolist()])
        percentiles = {
            f"p{share}": int(lengths[np.searchsorted(ends, share / 100 * ends[-1])]) for share in PERCENTILES
        }
        percentiles["max"] = int(lengths[-1])
        if self._counter is None:
            return Lengths(percentiles, None, None, None, {})
        longest = self._counter.longest
        cut = [count for length, count in self._lengths.items() if longest and length > longest]
        return Lengths(
            percentiles,
            truncated=None if longest is None else sum(cut),
            tokens=self._tokens,
            unknown=self._unknown,
            unknown_parts=dict(self._parts.most_common(_SHOWN_WORDS)),
        )

    def _count_unknown(self, tokenizer: Tokenizer, unknown: int, rows: list[Any]) -> None:
        """Count unknown tokens; what they stand for is known only to the slower encoding of their rows."""
        rows = list(prepare(tokenizer, cut_texts(tokenizer, rows)[0]))
        for row, encoding in zip(rows, tokenizer.encode_batch(rows), strict=True):
            for place, token in enumerate(encoding.ids):
                if token != unknown:
                    continue
                self._unknown += 1
                text = row if isinstance(row, str) else row[encoding.sequence_ids[place] or 0]
                begin, end = encoding.offsets[place]
                self._parts[text[begin:end]] += 1
        if len(self._parts) > 2 * _MOST_WORDS:
            self._parts = Counter(dict(self._parts.most_common(_MOST_WORDS)))
