"""The preparation of RoBERTuito and of other Spanish models of its authors (Pérez et al. 2022)."""

from __future__ import annotations

import re

from twil.text.emoji_names import EmojiNames, load_emoji

_USER, _URL, _HASHTAG = "@usuario", "url", "hashtag"

_TAGGED = re.compile(r"\B#(\w+)")
_LATIN = re.compile("[a-zA-Z]")
_CAPITALS = re.compile("([A-Z]+)")
_MENTION = re.compile(r"@[a-zA-Z0-9_]{0,15}")

_REMOVED = "~£¥©°´¶·º×ا–—‘’•…™●☠☹☺♀♂⚰⛱⛹✈✓❤ー🕯🛰"
_REWRITTEN = {'"': "¨«»“”", "!": "‼", "$": "€", "😃": "☻", "❤️": "♡♥"}
_CHARACTERS = str.maketrans(
    dict.fromkeys(_REMOVED, "")
    | {character: new for new, characters in _REWRITTEN.items() for character in characters}
)

_ENDINGS = "com|co|org|edu|gov|uk|net|ca|de|jp|fr|au|us|ru|ch|it|nl|se|no|es|mil|iq|io|ac|ly|sm"
"""Of names of hosts; nothing is asked of what follows them."""
_ADDRESS = re.compile(
    # One that begins the text is left as it is.
    r"(?<=[^a-zA-Z0-9])(?:https?://|[a-zA-Z0-9]+\.|\b)"
    rf"(?:\w+\.){{1,5}}(?:{_ENDINGS})(?:/[a-zA-Z0-9]+)*"
)
_REPEATED = re.compile(r"(.)\1{3,}")
_NAMED = re.compile(r"\|([^|]+)\|")
_LAUGHTER = re.compile("[ja]{2,}aj[ja]+")


class Robertuito:
    """Prepares texts as these models were trained on them.

    Hashtags are parted at their capitals, mentions and addresses become a word each, some characters go, a
    character is repeated twice at most, emoji are named in Spanish, and laughter is of one length. In this
    order: each step meets what those before it leave, and is skipped where it cannot change a text.

    Raises:
        MissingExtraError: The emoji library is not installed.
        ConfigError: It is of another version.
    """

    def __init__(self) -> None:
        library = load_emoji()
        library.config.load_language("es")
        table = library.EMOJI_DATA
        component = library.STATUS["component"]
        self._emoji = EmojiNames(
            {emoji: f"|{told['es'][1:-1]}|" for emoji, told in table.items()},
            frozenset(emoji for emoji, told in table.items() if told["status"] == component),
        )

    def __call__(self, text: str) -> str:
        """Prepare a text."""
        if "#" in text:
            text = _TAGGED.sub(_part_hashtag, text)
        if not text.isascii() or "~" in text:
            text = text.translate(_CHARACTERS)
        if "@" in text:
            text = _MENTION.sub(_USER, text)
        if "." in text:
            text = _ADDRESS.sub(_URL, text)
        text = _REPEATED.sub(r"\1\1\1", text)
        text = self._emoji.replace(text)
        if "|" in text:
            text = _NAMED.sub(_part_name, text)
        if "aj" in text:
            text = _LAUGHTER.sub("jaja", text)
        return text.strip()


def _part_hashtag(found: re.Match[str]) -> str:
    if _LATIN.search(found[1]) is None:
        return found[0]
    words = _CAPITALS.sub(r" \1", found[1]).strip().lower()
    return f"{_HASHTAG} {words}"


def _part_name(found: re.Match[str]) -> str:
    return f" emoji {found[1].replace('_', ' ')} emoji "
