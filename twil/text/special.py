"""The special tokens of a tokenizer, whichever family it is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from twil.core.errors import ModelError

PADS, UNKNOWNS, MASKS = ("[PAD]", "<pad>"), ("[UNK]", "<unk>"), ("[MASK]", "<mask>")
"""How tokenizers call the token that fills rows up, the one for what they do not know, and the mask."""


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that stand for no text.

    Attributes:
        pad: Fills rows up.
        cls: Begins a row.
        sep: Ends a text.
        between: How many `sep` stand between two texts.
        unknown: What stands for tokens that the tokenizer does not know; None where it knows all.
        mask: What stands for a token to be found; None where the tokenizer has none.
        ids: All tokens that stand for no text, ascending: these, and others that the tokenizer calls special.
    """

    pad: int
    cls: int
    sep: int
    between: int
    unknown: int | None
    mask: int | None
    ids: tuple[int, ...]

    def ordinary(self, tokens: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Tell which tokens stand for text."""
        if self.ids == tuple(range(len(self.ids))):  # they come first, as in twil's own vocabularies
            return tokens >= len(self.ids)
        return ~np.isin(tokens, self.ids)

    def skip(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Turn numbers from 0 into the ids of ordinary tokens, in their order."""
        for special in self.ids:
            numbers = numbers + (numbers >= special)
        return numbers


def find_special(tokenizer: Tokenizer, *, source: str) -> SpecialTokens:
    """Find the special tokens of a tokenizer.

    Args:
        tokenizer: Any that puts a text between two of them.
        source: Where it comes from, for the error.

    Raises:
        ModelError: It does not, or has nothing to fill rows up with.
    """
    text, pair = tokenizer.encode("").ids, tokenizer.encode("", "").ids
    if len(text) != 2 or len(pair) < 3 or pair[0] != text[0] or set(pair[1:]) != {text[1]}:
        raise ModelError(
            f"{source} does not put a text between two special tokens, as BERT, RoBERTa and their kin do: "
            "give a model whose tokenizer does"
        )
    pad = _find(tokenizer, PADS)
    if pad is None:
        raise ModelError(
            f"{source} has no token to fill rows up with ({' or '.join(PADS)}): give a model whose tokenizer "
            "has one"
        )
    unknown, mask = _find(tokenizer, UNKNOWNS), _find(tokenizer, MASKS)
    named = {token for token in (pad, *text, unknown, mask) if token is not None}
    others = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return SpecialTokens(
        pad=pad,
        cls=text[0],
        sep=text[1],
        between=len(pair) - 2,
        unknown=unknown,
        mask=mask,
        ids=tuple(sorted(named | others)),
    )


def _find(tokenizer: Tokenizer, names: tuple[str, ...]) -> int | None:
    found = (tokenizer.token_to_id(name) for name in names)
    return next((token for token in found if token is not None), None)
