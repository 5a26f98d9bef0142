"""Named preparations: what the authors of a pretrained model do to a raw text before it is cut into tokens.

A tokenizer that reads prepared texts says so itself. The first step of its normaliser is a mark that changes
no text and spells the name and the version of the preparation, so that it is in `tokenizer.json` and goes
wherever that goes: into model folders, corpora and bundles, and through the transformers library. What the
`tokenizers` library can do stands behind the mark; what it cannot is one step in Python, which
`twil.text.tokenizer.encode_batch` takes, as every text does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers

from twil.core.errors import ConfigError, ModelError

NONE = "none"
"""Chosen where texts are to stay as they are."""

_MARK = "\U000f0000twil preparation {} {}\U000f0000"
"""Of a private plane: no tweet holds it, and where one did it would stay as it is."""
_MARKED = re.compile(_MARK.format(r"(\S+)", r"(\S+)"))

Step = Callable[[str], str]


@dataclass(frozen=True)
class Preparation:
    """A preparation, always the same under one name and version.

    Attributes:
        name: As folders and bundles record it.
        version: Counted up when it gives another text for any.
        families: How the hub's names of the models begin that were trained with it.
        make_step: Gives what is done in Python, and imports what that needs; None where nothing is.
        make_steps: Gives what the tokenizers library does.
    """

    name: str
    version: int
    families: tuple[str, ...]
    make_step: Callable[[], Step] | None = None
    make_steps: Callable[[], list[normalizers.Normalizer]] = list

    @property
    def record(self) -> dict[str, Any]:
        """Name and version in JSON's types."""
        return {"name": self.name, "version": self.version}

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def _robertuito() -> Step:
    from twil.text.robertuito import Robertuito

    return Robertuito()


def _bertweet() -> Step:
    from twil.text.bertweet import Bertweet

    return Bertweet()


def _cardiffnlp() -> list[normalizers.Normalizer]:
    # A word is what stands between blanks (U+0020), and other white space is a part of it.
    return [
        normalizers.Replace(Regex("(?<![^ ])@[^ ]+"), "@user"),
        normalizers.Replace(Regex("(?<![^ ])http[^ ]*"), "http"),
    ]


PREPARATIONS = {
    known.name: known
    for known in (
        Preparation("robertuito", 1, ("pysentimiento/robertuito-",), make_step=_robertuito),
        Preparation("cardiffnlp", 1, ("cardiffnlp/twitter-",), make_steps=_cardiffnlp),
        Preparation("bertweet", 1, ("vinai/bertweet-",), make_step=_bertweet),
    )
}
"""Those that this twil knows, by name."""


def find_preparation(tokenizer: Tokenizer, *, source: str) -> Preparation | None:
    """Find out how texts are prepared for a tokenizer; None where they are not.

    Args:
        tokenizer: Any.
        source: Where it comes from, for the error.

    Raises:
        ModelError: This twil does not know the preparation, or not that version.
        ConfigError: What the preparation needs is installed in another version.
        MissingExtraError: It is not installed.
    """
    found = _MARKED.fullmatch(_read_mark(tokenizer))
    if found is None:
        return None
    known = PREPARATIONS.get(found[1])
    if known is None or str(known.version) != found[2]:
        raise ModelError(
            f"{source} reads texts prepared by '{found[1]}', version {found[2]}, and this twil knows "
            f"{', '.join(map(str, PREPARATIONS.values()))}: update twil"
        )
    _python_step(known)  # what it lacks is told now, not at the first text
    return known


def put_preparation(tokenizer: Tokenizer, name: str) -> None:
    """Let texts be prepared for a tokenizer, for which none are so far.

    Raises:
        ConfigError: There is no such preparation, or what it needs is installed in another version.
        MissingExtraError: It is not installed.
    """
    check_name(name)
    if name == NONE:
        return
    known = PREPARATIONS[name]
    _python_step(known)
    mark = _MARK.format(known.name, known.version)
    own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    steps = [normalizers.Replace(mark, mark), *known.make_steps(), *own]
    tokenizer.normalizer = normalizers.Sequence(steps)


def check_name(name: str) -> None:
    """Refuse a name that is none of a preparation, nor `NONE`.

    Raises:
        ConfigError: It is so.
    """
    if name not in (*PREPARATIONS, NONE):
        raise ConfigError(
            f"there is no preparation '{name}': choose one of {', '.join(PREPARATIONS)}, {NONE}"
        )


def usual_preparation(hub_name: str) -> Preparation | None:
    """Give the preparation that a model of the hub was trained with; None where none is known."""
    return next((known for known in PREPARATIONS.values() if hub_name.startswith(known.families)), None)


def prepare(tokenizer: Tokenizer, texts: Sequence[Any]) -> Sequence[Any]:
    """Do to texts, or pairs of them, what a tokenizer wants done in Python; mostly nothing.

    What is no text is left for the tokenizer to refuse.

    Raises:
        ModelError: As `find_preparation` does.
    """
    known = find_preparation(tokenizer, source="the tokenizer")
    step = _python_step(known) if known else None
    if step is None:
        return texts
    return [
        tuple(_apply(step, part) for part in item) if isinstance(item, tuple | list) else _apply(step, item)
        for item in texts
    ]


def _apply(step: Step, text: Any) -> Any:
    return step(text) if isinstance(text, str) else text


def _read_mark(tokenizer: Tokenizer) -> str:
    """Read what the first step of a normaliser puts in, if that is a replacement; else nothing."""
    normalizer = tokenizer.normalizer
    steps = isinstance(normalizer, normalizers.Sequence) and len(normalizer)
    first = normalizer[0] if steps else None
    return str(first.content) if isinstance(first, normalizers.Replace) else ""


@cache
def _python_step(known: Preparation) -> Step | None:
    return known.make_step() if known.make_step else None
