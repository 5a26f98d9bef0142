"""The preparation of BERTweet (Nguyen et al. 2020): words parted by blanks, in which emoji have names.

It is that of the libraries that its authors used, NLTK 3.5 and emoji 0.6.0. Later ones part other words, and
call emoji by names that the model has never seen.
"""

from __future__ import annotations

import re
from html.entities import name2codepoint

from twil.core.errors import require
from twil.text.emoji_names import PURPOSE, load_emoji

# What a search may look ahead is bounded, so that its time grows with the text and not with the square of it.
_IN_ADDRESS = r"[^\s()<>{}\[\]]"
_ADDRESS_END = r"""[^\s`!()\[\]{};:'".,<>?«»“”‘’]"""
_BRACKETS = r"(?:\([^\s()]{0,255}+\([^\s()]{1,255}+\)[^\s()]{0,255}+\)|\(\S{1,255}?\))"
_EYES, _NOSE, _MOUTH = "[:;=8]", r"[\-o*']?", r"[)\](\[dDpP/:}{@|\\]"
_LETTER = r"[^\W\d_]"
_JOINT = r"[ *\-.)]*"  # of parts of a phone number
_WORDS = (
    # An address: from its protocol, or with a path; it ends in brackets, or before punctuation.
    (
        r"(?:https?:(?:/{1,3}|[a-z0-9%])|(?=[a-z0-9.\-]{4,269}+/)[a-z0-9.\-]{1,255}[.][a-z]{2,13}/)"
        rf"(?:{_IN_ADDRESS}|{_BRACKETS})+(?:{_BRACKETS}|{_ADDRESS_END})"
    ),
    r"(?<!@)[a-z0-9]{1,255}+(?:[.\-][a-z0-9]{1,255}+){0,126}[.][a-z]{2,13}\b/?(?!@)",  # the name of a host
    rf"(?:\+?[01]{_JOINT})?(?:\(?\d{{3}}{_JOINT})?\d{{3}}{_JOINT}\d{{4}}",  # a phone number
    rf"[<>]?{_EYES}{_NOSE}{_MOUTH}",
    rf"{_MOUTH}{_NOSE}{_EYES}[<>]?",
    "<3",
    r"<[^>\s]{1,1000}+>",  # a tag
    r"-+>|<-+",
    r"@\w+",
    r"#+\w[\w'\-]*\w",
    r"[\w.+\-]{1,64}@[\w\-]{1,63}\.(?:[\w\-]\.?){1,251}[\w\-]",  # an e-mail address
    rf"{_LETTER}(?:{_LETTER}|['\-_])+{_LETTER}",
    r"[+\-]?\d+[,/.:\-]\d+[+\-]?",
    r"\w+",
    r"\.(?:\s*\.)+",
    r"\S",
)
"""What a text is parted into, the first that fits; to the regex library, accents on their own are parts of
words."""
_ENTITY = r"&(#?)(x?)([^&;\s]+);"
_REPEATED = re.compile(r"([^a-zA-Z0-9])\1{3,}")

_CONTRACTIONS = (
    ("cannot ", "can not "),
    ("n't ", " n't "),
    ("n 't ", " n't "),
    ("ca n't", "can't"),
    ("ai n't", "ain't"),
    *((f"'{ending} ", f" '{ending} ") for ending in ("m", "re", "s", "ll", "d", "ve")),
    (" p . m .", "  p.m."),
    (" p . m ", " p.m "),
    (" a . m .", " a.m."),
    (" a . m ", " a.m "),
)

_LAST = 12.0
"""The version of Unicode's emoji whose names were known."""
_UNNAMED = "⛩"
_RENAMED = {
    "☑": "ballot_box_with_check",
    "✅": "white_heavy_check_mark",
    "✔": "heavy_check_mark",
    "✖": "heavy_multiplication_x",
    "❓": "question_mark",
    "❗": "exclamation_mark",
    "❣": "heavy_heart_exclamation",
    "➕": "heavy_plus_sign",
    "➖": "heavy_minus_sign",
    "➗": "heavy_division_sign",
    "⭐": "white_medium_star",
    "⭕": "heavy_large_circle",
    "🎒": "school_backpack",
    "🎯": "direct_hit",
    "🏼": "medium_light_skin_tone",
    "🏾": "medium_dark_skin_tone",
    "🐸": "frog_face",
    "🐹": "hamster_face",
    "🐺": "wolf_face",
    "🐻": "bear_face",
    "🐼": "panda_face",
    "👫": "man_and_woman_holding_hands",
    "👬": "two_men_holding_hands",
    "👭": "two_women_holding_hands",
    "👰": "bride_with_veil",
    "👱": "blond-haired_person",
    "👲": "man_with_Chinese_cap",
    "💤": "zzz",
    "💻": "laptop_computer",
    "🔫": "pistol",
    "🕴": "man_in_suit_levitating",
    "😡": "pouting_face",
    "😵": "dizzy_face",
    "😸": "grinning_cat_face_with_smiling_eyes",
    "😹": "cat_face_with_tears_of_joy",
    "😺": "grinning_cat_face",
    "😻": "smiling_cat_face_with_heart-eyes",
    "😼": "cat_face_with_wry_smile",
    "😽": "kissing_cat_face",
    "😾": "pouting_cat_face",
    "😿": "crying_cat_face",
    "🙀": "weary_cat_face",
    "🤖": "robot_face",
    "🤗": "hugging_face",
    "🤵": "man_in_tuxedo",
    "🥰": "smiling_face_with_3_hearts",
    "🦁": "lion_face",
    "🦄": "unicorn_face",
    "🦊": "fox_face",
    "🦯": "probing_cane",
    "🧑": "adult",
    "🧓": "older_adult",
    "🧔": "bearded_person",
    "🧩": "jigsaw",
}
"""Emoji that have other names today."""


class Bertweet:
    """Prepares texts as these models were trained on them.

    Mentions become ``@USER``, addresses ``HTTPURL`` and emoji of one character their names; words and signs
    are parted by blanks, and English contractions in two.

    Raises:
        MissingExtraError: The emoji library, or the regex library, is not installed.
        ConfigError: It is of another version.
    """

    def __init__(self) -> None:
        table = load_emoji().EMOJI_DATA
        regex = require("regex", purpose=PURPOSE)
        self._words: re.Pattern[str] = regex.compile("|".join(_WORDS), regex.IGNORECASE)
        self._entity: re.Pattern[str] = regex.compile(_ENTITY)
        self._names: dict[str, str] = {
            emoji: told["en"]
            for emoji, told in table.items()
            if len(emoji) == 1 and told["E"] <= _LAST and emoji not in _UNNAMED
        }
        self._names |= {emoji: f":{name}:" for emoji, name in _RENAMED.items()}
        self._names |= {
            chr(0x1F1E6 + place): f":regional_indicator_symbol_letter_{letter}:"
            for place, letter in enumerate("abcdefghijklmnopqrstuvwxyz")
        }
        self._names["\ufe0f"] = ""

    def __call__(self, text: str) -> str:
        """Prepare a text."""
        text = text.replace("’", "'").replace("…", "...")
        if "&" in text:
            text = self._entity.sub(_unescape, text)
        words = self._words.findall(_REPEATED.sub(r"\1\1\1", text))
        text = " ".join(map(self._rewrite, words))
        for contraction, parted in _CONTRACTIONS:
            text = text.replace(contraction, parted)
        return " ".join(text.split())

    def _rewrite(self, word: str) -> str:
        if len(word) == 1 and word != "@":
            return self._names.get(word, word)
        if word[0] == "@":
            return "@USER"
        return "HTTPURL" if word.lower().startswith(("http", "www")) else word


def _unescape(found: re.Match[str]) -> str:
    """Give the character of an entity; nothing where there is none such."""
    sign, base, body = found.groups()
    if not (sign or base):
        number = name2codepoint.get(body)
        return "" if number is None else chr(number)
    try:
        number = int(body, 16 if base else 10)
        if 0x80 <= number <= 0x9F:  # browsers show what Windows had there
            return bytes((number,)).decode("cp1252")
        # Half a character, which no encoding can write, is shown as one that is damaged.
        return "\ufffd" if 0xD800 <= number < 0xE000 else chr(number)
    except (ValueError, OverflowError):
        return ""
