"""The normalisers: time that grows with the length of a text, and mentions told by a plain expression."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex
from tokenizers.normalizers import Replace

from twil.data.corpus.cleaning import find_fault, fold
from twil.text import normalization
from twil.text.normalization import original_normalizer, tweet_normalizer

READERS: dict[str, Callable[[str], object]] = {
    "new": tweet_normalizer().normalize_str,
    "new, lower case": tweet_normalizer(lowercase=True).normalize_str,
    "new, no accents": tweet_normalizer(strip_accents=True).normalize_str,
    "original": original_normalizer().normalize_str,
    "original, cleaning alone": original_normalizer(preprocess=False).normalize_str,
    "fold": fold,
    "find_fault": find_fault,
}

REPEATED = (
    *("@", "&", "#", ".", "/", ":", " ", "\t", "\u200d", "…", "a", "_", "-", "\ufffd", "\u0301", "😀"),
    *("http://", "http:/", "www.", "pic.twitter.com/", "t.co/", "@a", "a@", "@@ ", "RT", "url", "user"),
    *("&amp;", "&lt", "&a", "&#", "é", "\u0301\u0323", "a\u0301", "\u1112\u1161\u11ab", "\u2581"),
)
BEFORE = ("a", "http:/", "www.")
"""What may begin a match that the repeated signs after it do not end."""

SHORT, LONG = 1_000, 24_000
MOST = 80  # times longer for 24 times the length; what grows with the square takes 576 times
NOTICED = 0.05  # seconds: below, a pause of the machine weighs too much


def seconds(read: Callable[[str], object], text: str) -> float:
    begin = perf_counter()
    read(text)
    return perf_counter() - begin


def is_slow(read: Callable[[str], object], before: str, sign: str) -> bool:
    """Tell whether the longer text takes much more than its length explains, every time."""
    short, long = (before + sign * (length // len(sign)) for length in (SHORT, LONG))
    fastest = [float("inf"), float("inf")]
    for _ in range(4):
        fastest = [min(best, seconds(read, text)) for best, text in zip(fastest, (short, long), strict=True)]
        if fastest[1] < max(NOTICED, MOST * fastest[0]):
            return False
    return True


@pytest.mark.parametrize("reader", READERS)
def test_the_time_for_a_text_grows_with_its_length(reader: str) -> None:
    texts = itertools.product(("", *BEFORE), REPEATED)
    assert [text for text in texts if is_slow(READERS[reader], *text)] == []


SIGNS = ("@", "a", "_", "½", "é", "\u0301", " ", ".", "😀")


def replace(expression: str, text: str) -> str:
    return Replace(Regex(expression), "|").normalize_str(text)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(("@", *SIGNS)), max_size=14).map("".join))
def test_mentions_are_found_as_a_plain_expression_finds_them(text: str) -> None:
    assert replace(normalization.MENTION, text) == replace(r"(?<!\w)@+\w+", text)
    assert re.sub(normalization.MENTION, "|", text) == re.sub(r"(?<!\w)@+\w+", "|", text)
    mentions = original_normalizer().normalize_str(text)
    plain = original_normalizer(preprocess=False).normalize_str(
        Replace(Regex(r"@+\w+"), normalization.USER).normalize_str(text)
    )
    assert mentions == plain
