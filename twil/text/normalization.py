"""What is done to a raw tweet before it is cut into tokens, as normalisers that live in tokenizer.json.

Two of them: `original_normalizer` gives the original's text, faults included, for its old weights;
`tweet_normalizer` is what new vocabularies are trained and used with.

The cost of a replacement is that of its regular expression. One that begins with a fixed string costs
next to nothing where it does not match; one that may begin anywhere costs more than ten of those. So
there are many small expressions here, and no large one. None reads a run of signs anew from each of them:
the time for a text grows with its length, not with the square of it.
"""

from __future__ import annotations

from tokenizers import Regex
from tokenizers.normalizers import (
    NFC,
    NFD,
    BertNormalizer,
    Lowercase,
    Normalizer,
    Replace,
    Sequence,
    Strip,
    StripAccents,
)

URL = "url"  # the word that stands for any address
USER = "user"  # the word that stands for any mention

# The entities that Twitter has written. `&amp;` is last: `&amp;lt;` was escaped twice and is unescaped once.
_ENTITIES = (
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", '"'),
    ("&#0?39;|&apos;", "'"),
    ("&nbsp;", " "),
    ("&amp;", "&"),
)

# An address ends before punctuation: "(https://t.co/a)." keeps its bracket and its full stop.
_URL_STARTS = (
    r"[hH][tT][tT][pP][sS]?:/",  # and at least the second slash: retweets end in "https://…"
    r"(?<!\w)(?:www|WWW|Www)\.",
    r"pic\.twitter\.com/",  # often glued to the word before it
    r"(?<!\w)t\.co/",
)
# A start holds what the rest may end with, so only the last start in a run of non-blanks can fail.
_URL_REST = r"\S*[\w/]"

NOT_WITHIN_A_RUN = r"(?<!\W@)"
"""Lets no match begin within a run of `@` that might begin before: a run without a name is read once."""

# A mention begins a word: neither "juan@correo.example" nor "tod@s" holds one; "l@@s" does.
MENTION = rf"(?<!\w){NOT_WITHIN_A_RUN}@+\w+"

# White space, controls, marks of direction, and the `▁` with which tokens mark the start of a word. The
# joiner of emoji (U+200D) and variation selectors are not among them.
_ODD_BLANK = (
    "[\x00-\x1f\x7f-\xa0\u1680\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f\u2066-\u2069\u2581\u3000\ufeff]"
)


def tweet_normalizer(*, lowercase: bool = False, strip_accents: bool = False) -> Normalizer:
    """Give the normaliser of new vocabularies.

    HTML entities are unescaped, addresses become ``url`` and mentions ``user``, each at the start of a
    word; every run of blanks becomes one space, and none is left at the end; accents are composed, so
    that ``ñ`` is one character however it was typed. Case, accents, ``…`` and emoji stay. ``RT`` stays too:
    it says that what follows is someone else's.

    Args:
        lowercase: Also lower-case.
        strip_accents: Also take accents away (from ``ñ`` too).
    """
    # TWilBERT: addresses in any case, only mentions that begin a word, RT left alone, accents and case kept.
    steps: list[Normalizer] = [*_strip_accents(), NFC()] if strip_accents else [NFC()]
    if lowercase:
        steps.append(Lowercase())
    steps += [
        *_unescape(),
        Replace(Regex(_ODD_BLANK), " "),
        *(Replace(Regex(start + _URL_REST), f" {URL}") for start in _URL_STARTS),
        Replace(Regex(MENTION), f" {USER}"),
        Replace(Regex(" {2,}"), " "),
        Strip(left=False),
    ]
    return Sequence(steps)


def original_normalizer(*, preprocess: bool = True) -> Normalizer:
    """Give the original's normaliser.

    Args:
        preprocess: Replace addresses, mentions and the like first; otherwise only clean, lower-case and
            strip accents, as the original's tokenizer did on its own.
    """
    # TWilBERT: kept for its weights: lower-case and no accents, although the vocabulary was built with both.
    steps = [
        # Controls, formats and U+FFFD go; private-use characters stay, which `clean_text` would drop.
        Replace(Regex("[\\p{Cc}\\p{Cf}\ufffd&&[^\t\n\r]]"), ""),
        BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=True, lowercase=True),
    ]
    return Sequence([*_original_preprocessing(), *steps] if preprocess else steps)


def _original_preprocessing() -> list[Normalizer]:
    return [
        *_unescape(),
        Replace(Regex(r"https?://\S+"), URL),  # TWilBERT: kept: an upper-case HTTPS:// is missed
        # TWilBERT: kept: "juan@b.example" becomes "juanuser.example".
        Replace(Regex(r"(?<!@)@+\w+"), USER),
        # TWilBERT: kept: RT is taken out of words ("DEPORTE"), and `…` everywhere.
        Replace(Regex("RT|…|[\x0b\x0c\x1c-\x1f\u0085]"), " "),
    ]


def _strip_accents() -> list[Normalizer]:
    # A mark that nothing carries becomes a blank: were the text's first character gone without a trace, its
    # first word would not be taken for the start of one.
    return [NFD(), Replace(Regex(r"\A\p{M}+"), " "), StripAccents()]


def _unescape() -> list[Normalizer]:
    return [Replace(Regex(entity), character) for entity, character in _ENTITIES]
