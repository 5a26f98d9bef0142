"""Which rows are worth learning from, told from their texts alone."""

from __future__ import annotations

import re
import sys
import unicodedata
from enum import Enum
from functools import cache
from typing import Literal

from tokenizers.normalizers import Normalizer

from twil.text.normalization import URL, USER, tweet_normalizer

Fault = Literal["empty", "only_url_user", "short"]

FEW_WORDS = 2

# A wide guess, made fast: what may be nothing but addresses, mentions, entities and marks. The normaliser,
# much slower, then has the word; nearly all texts fail here at their first or second word.
_MAYBE_BARE = re.compile(
    rf"(?:&\w+;|@+\w*|(?:https?:/|www\.|pic\.twitter\.com/|t\.co/)\S*|{URL}|{USER}|[^\w@&]|&)*+\Z",
    re.IGNORECASE,
)
_MARKS = re.compile(
    r"(?:https?:/|(?<!\w)www\.|pic\.twitter\.com/|(?<!\w)t\.co/)\S*|(?<!\w)@+\w+", re.IGNORECASE
)


class _Content(Enum):
    NOTHING = 0
    URL_USER = 1
    WORDS = 2


def find_fault(*texts: str) -> Fault | None:
    """Tell why a row, of one text or two, is not worth learning from; None where it is.

    A row is at fault where one of its texts is empty; where all of them are nothing but addresses and
    mentions; where all of them have two words or fewer.
    """
    # TWilBERT: what an address or a mention is, is told by the normaliser of the tokenizer.
    contents = [_content(text) for text in texts]
    if _Content.NOTHING in contents:
        return "empty"
    if all(content is _Content.URL_USER for content in contents):
        return "only_url_user"
    if all(len(text.split(None, FEW_WORDS)) <= FEW_WORDS for text in texts):
        return "short"
    return None


def fold(text: str) -> str:
    """Reduce a text to what near-exact duplicates share: no links, mentions, punctuation, blanks or case."""
    return _ignored().sub("", _MARKS.sub("", text)).casefold()


def _content(text: str) -> _Content:
    if not _MAYBE_BARE.match(text):
        return _Content.WORDS
    words = set(_normalizer().normalize_str(text).split())
    if not words:
        return _Content.NOTHING
    return _Content.URL_USER if words <= {URL, USER} else _Content.WORDS


@cache
def _normalizer() -> Normalizer:
    return tweet_normalizer()


@cache
def _ignored() -> re.Pattern[str]:
    """Match punctuation, blanks and controls; emoji and other symbols are none of them."""
    ignored = (
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character)[0] in "PZ" or unicodedata.category(character) == "Cc"
    )
    return re.compile(f"[{re.escape(''.join(ignored))}]+")
