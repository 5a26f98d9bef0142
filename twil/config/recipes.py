"""Recipes: settings of runs that come with twil, and go by name wherever a TOML file is named."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from twil.core.errors import ConfigError

_PACKAGES = {"twil.configs": "pretrain", "twil.recipes": "finetune"}
_SUFFIX = ".toml"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A file of settings.

    Attributes:
        name: ``irosva19_es``, or ``reviews/camembert`` of one that belongs to a comparison.
        command: The command that takes it, ``pretrain`` or ``finetune``.
        text: TOML, with the reasons for its figures as comments.
    """

    name: str
    command: str
    text: str

    @property
    def summary(self) -> str:
        """The first sentence of its first comment."""
        comment = re.match(r"(?:#.*\n)+", self.text)
        words = " ".join(re.sub(r"(?m)^# ?", "", comment[0]).split()) if comment else ""
        return words.partition(". ")[0].rstrip(".:")


def recipes() -> list[Recipe]:
    """Give all that come with twil: those of pretraining first, each kind by name."""
    return [
        Recipe(name, command, path.read_text(encoding="utf-8"))
        for package, command in _PACKAGES.items()
        for name, path in sorted(_files(Path(str(resources.files(package)))).items())
    ]


def find_recipe(name: str) -> Recipe:
    """Give one by its name.

    Raises:
        ConfigError: There is none of that name; the message names those that are like it.
    """
    known = {recipe.name: recipe for recipe in recipes()}
    if name in known:
        return known[name]
    like = difflib.get_close_matches(name, known, n=3)
    meant = f"; {' or '.join(like)} may be meant" if like else ""
    raise ConfigError(f"there is no file {name}, and no recipe of that name{meant}: twil recipes lists them")


def _files(root: Path) -> dict[str, Path]:
    folders = [root, root / "reviews"]
    files = [path for folder in folders if folder.is_dir() for path in folder.glob(f"*{_SUFFIX}")]
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in files}
