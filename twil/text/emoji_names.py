"""What emoji are called, from the tables of the `emoji` library, of one version for all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twil.core.errors import ConfigError, require
from twil.core.installation import install_command

EMOJI_VERSION = "2.16.0"
"""Names change with versions: texts are prepared alike only under the same one."""

PURPOSE = "the preparation of texts that this model was trained with"

_JOINER = "\u200d"
_SELECTORS = "\ufe0e\ufe0f"
_RUN = re.compile("[#*0-9]?[©®\u200d-\U0010ffff]+(?:[#*0-9][©®\u200d-\U0010ffff]+)*")
"""Wide enough for every emoji, keys such as 1️⃣ among them."""


def load_emoji() -> Any:
    """Import the library.

    Raises:
        MissingExtraError: It is not installed.
        ConfigError: It is of another version.
    """
    library = require("emoji", purpose=PURPOSE)
    if library.__version__ != EMOJI_VERSION:
        raise ConfigError(
            f"{PURPOSE} takes names from emoji {EMOJI_VERSION}, and {library.__version__} is installed: "
            f"{install_command('preparations')}"
        )
    return library


class EmojiNames:
    """Puts names in the place of the emoji of texts, as the library's `demojize` does, in linear time.

    Args:
        names: What is written for each emoji.
        components: Those that stand in others, such as tones of skin.
    """

    def __init__(self, names: Mapping[str, str], components: frozenset[str]) -> None:
        self._names = names
        self._components = components
        self._starts = frozenset(emoji[0] for emoji in names)
        # An emoji is found by walking as far as any reaches, and is none where that is not the end of one.
        self._begun = frozenset(emoji[:length] for emoji in names for length in range(1, len(emoji) + 1))

    def replace(self, text: str) -> str:
        """Name every emoji of a text; selectors of a style that belong to none are dropped."""
        return text if text.isascii() else _RUN.sub(self._name_run, text)

    def _name_run(self, found: re.Match[str]) -> str:
        run = found[0]
        return self._names.get(run) or self._name_apart(run)

    def _name_apart(self, run: str) -> str:
        done: list[str] = []
        # What was read since a character that is in no emoji, and what is written for it.
        recent: list[tuple[str, str]] = []
        barriers: set[int] = set()  # joiners that no emoji reaches across
        place = 0
        while place < len(run):
            character = run[place]
            if place in barriers:
                recent.append((character, character))
                place += 1
                continue
            if character in self._starts:
                emoji = self._walk(run, place, barriers)
                if emoji in self._names:
                    recent.append((emoji, self._names[emoji]))
                    place += len(emoji)
                    continue
            elif self._joins(run, place, recent):
                # The emoji before a joiner is read again, to its end: together with the tone of its skin.
                barriers.add(place)
                toned = recent[-1][0] in self._components and recent[-2:-1] != [(_JOINER, _JOINER)]
                again = 2 if toned else 1
                place -= sum(len(read) for read, _ in recent[-again:])
                del recent[-again:]
                continue
            else:
                done.extend(written for _, written in recent)
                recent = []
            if character not in _SELECTORS:
                recent.append((character, character))
            place += 1
        return "".join(done) + "".join(written for _, written in recent)

    def _walk(self, run: str, begin: int, barriers: set[int]) -> str:
        end = begin + 1
        while end < len(run) and end not in barriers and run[begin : end + 1] in self._begun:
            end += 1
        return run[begin:end]

    def _joins(self, run: str, place: int, recent: list[tuple[str, str]]) -> bool:
        if run[place] != _JOINER or not recent:
            return False
        return recent[-1][0] in self._names and run[place - 1] in self._starts
