"""The tokens of another model's tokenizer as a vocabulary of twil's own, which a TWilBERT can read.

What is done to a text before it is cut, and how it is cut, stay as they are; the special tokens become
twil's, and every other token gets a new id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer

from twil.core.errors import ConfigError
from twil.text.special import find_special
from twil.text.tokenizer import MASK, SPECIAL, UNK, UNK_ID, frame
from twil.text.vocabulary import NEVER, SPECIAL_CHARACTERS

NONE = -1
"""In place of the id of a token that the other tokenizer lacks."""

_UNKNOWN_PENALTY = 10.0
"""How much less likely than its rarest token a Unigram model finds a character that it does not know."""


@dataclass(frozen=True)
class AdoptedTokens:
    """A vocabulary of twil's own, made of another's tokens.

    Attributes:
        tokenizer: Ready to use and to save.
        origins: int64 ``(tokens,)``: the id that each token had; `NONE` of one that there was not, such as a
            special token, or a character that those are spelt with.
    """

    tokenizer: Tokenizer
    origins: NDArray[np.int64]


def adopt_tokens(
    tokenizer: Tokenizer, *, max_length: int, keep: NDArray[np.bool_] | None = None, source: str
) -> AdoptedTokens:
    """Make a vocabulary of twil's own of another's tokens.

    A text whose tokens are all kept is cut as before: without some tokens that it does not use, the best way
    to cut it is still the best.

    Args:
        tokenizer: The other, of tokens by likelihood (Unigram), by length (WordPiece) or by merges (BPE).
        max_length: The most tokens of a row, special tokens included.
        keep: bool ``(tokens of the other,)``: which to keep; all when left out. Merges need each other, and
            of BPE all are kept.
        source: Where the other comes from, for errors.

    Raises:
        ConfigError: It is of another kind, or has words of its own beside its tokens.
        ModelError: It does not frame texts as encoders want them.
    """
    special = find_special(tokenizer, source=source)
    told = json.loads(tokenizer.to_str())
    words = [token["content"] for token in told["added_tokens"] if not token["special"]]
    if words:
        raise ConfigError(
            f"{source} has words of its own beside its tokens ({', '.join(words[:3])}), which cannot be "
            "taken over: give the student a tokenizer (--tokenizer)"
        )
    model = told["model"]
    kind = model["type"]
    ordinary = special.ordinary(np.arange(tokenizer.get_vocab_size()))
    if keep is not None and kind != "BPE":
        spelt = [tokenizer.token_to_id(character) or 0 for character in SPECIAL_CHARACTERS]
        ordinary &= keep | np.isin(np.arange(len(keep)), spelt)  # a text may spell [CLS] out
    others = np.flatnonzero(ordinary)
    added = 0
    if kind == "Unigram":
        lacking = [name for name in SPECIAL_CHARACTERS if tokenizer.token_to_id(name) is None]
        rarest = min(score for _, score in model["vocab"]) - _UNKNOWN_PENALTY
        tokens = [*((name, NEVER) for name in SPECIAL), *(model["vocab"][token] for token in others)]
        model |= {"vocab": [*tokens, *((name, rarest) for name in lacking)], "unk_id": UNK_ID}
        added = len(lacking)
    elif kind in ("WordPiece", "BPE"):
        names = [*SPECIAL, *(_name(tokenizer, token) for token in others)]
        model |= {"vocab": {name: place for place, name in enumerate(names)}}
        if model.get("unk_token") is not None:
            model["unk_token"] = UNK
    else:
        raise ConfigError(
            f"{source} cuts texts by {kind}, whose tokens cannot be taken over: give the student a tokenizer "
            "(--tokenizer)"
        )
    told |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    adopted = Tokenizer.from_str(json.dumps(told))
    adopted.add_special_tokens([AddedToken(MASK, lstrip=True, normalized=False, special=True)])
    frame(adopted, max_length)
    roles = (special.pad, special.unknown, special.mask, special.cls, special.sep)
    framing = [NONE if token is None else token for token in roles]
    origins = [np.array(framing, dtype=np.int64), others, np.full(added, NONE, dtype=np.int64)]
    return AdoptedTokens(adopted, np.concatenate(origins))


def matching_tokens(one: Tokenizer, other: Tokenizer) -> NDArray[np.int64]:
    """Give for every token of one tokenizer the id of the same token in another, int64 ``(tokens,)``.

    Special tokens are the same where they do the same; a token that the other lacks is `NONE`.
    """
    found: NDArray[np.int64] = np.full(one.get_vocab_size(), NONE, dtype=np.int64)
    theirs: dict[str, int] = other.get_vocab()
    for name, token in one.get_vocab().items():
        found[token] = theirs.get(name, NONE)
    ours, those = find_special(one, source="a tokenizer"), find_special(other, source="a tokenizer")
    for role in ("pad", "cls", "sep", "unknown", "mask"):
        token, match = getattr(ours, role), getattr(those, role)
        if token is not None:
            found[token] = NONE if match is None else match
    return found


def _name(tokenizer: Tokenizer, token: np.int64) -> Any:
    return tokenizer.id_to_token(int(token))
