"""Which rows are worth learning from, told from their texts alone."""

from __future__ import annotations

import re
import unicodedata
from enum import Enum
from functools import cache
from typing import Literal

from tokenizers.normalizers import Normalizer

from twil.text.normalization import MENTION, URL, USER, tweet_normalizer

Fault = Literal["empty", "only_url_user", "short"]

FEW_WORDS = 2

# A wide guess, made fast: what may be nothing but addresses, mentions, entities and marks. The normaliser,
# much slower, then has the word; nearly all texts fail here at their first or second word.
_MAYBE_BARE = re.compile(
    rf"(?:&\w+;|@+\w*|(?:https?:/|www\.|pic\.twitter\.com/|t\.co/)\S*|{URL}|{USER}|[^\w@&]|&)*+\Z",
    re.IGNORECASE,
)
_MARKS = re.compile(
    rf"(?:https?:/|(?<!\w)www\.|pic\.twitter\.com/|(?<!\w)t\.co/)\S*|{MENTION}", re.IGNORECASE
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
    return _MARKS.sub("", text).translate(_KEPT).casefold()


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


class _Kept(dict[int, int | None]):
    """Tells `str.translate` to leave out punctuation, blanks and controls; emoji are none of them.

    Each character is looked up once: a table of all would take longer to make than most files to read.
    """

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        self[code] = None if category[0] in "PZ" or category == "Cc" else code
        return self[code]


_KEPT = _Kept()
