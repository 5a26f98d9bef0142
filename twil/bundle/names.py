"""What a model is called: by a path, as one that comes with twil, or as one of the Hugging Face hub."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twil.core.errors import ConfigError, ModelError, ModelWarning
from twil.shipped import shipped_model, shipped_names

DEFAULT = "sentiment"
"""The model that is taken where none is named."""
DEFAULT_VARIABLE = "TWIL_MODEL"
"""The variable of the environment that names another."""

_CARD = "MODEL_CARD.md"
_FACT = re.compile(r"^\W*(version|date)\b\W+(\d[\w.+-]*)", re.MULTILINE | re.IGNORECASE)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class FoundModel:
    """What the name of a model stands for.

    Attributes:
        name: As it was given.
        path: Its folder; of a model of the hub, its name there.
        origin: Where it is.
    """

    name: str
    path: Path
    origin: Literal["path", "shipped", "hub"]


def default_model() -> str:
    """Name the model that is taken where none is named."""
    return os.environ.get(DEFAULT_VARIABLE) or DEFAULT


def describe_default(found: FoundModel) -> str:
    """Say why the default is taken, and which version of it, as far as its card tells."""
    if os.environ.get(DEFAULT_VARIABLE):
        return f"which {DEFAULT_VARIABLE} names"
    told = card_facts(found.path)
    said = ", ".join(f"{name} {value}" for name, value in told.items())
    return f"which comes with twil{f' ({said})' if said else ''}"


def card_facts(folder: Path) -> dict[str, str]:
    """Read version and date of a model off its card, where there is one that tells them."""
    try:
        card = (folder / _CARD).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return {}
    return {name.lower(): value for name, value in _FACT.findall(card)}


def find_model(name: str | Path | None) -> FoundModel:
    """Find out what a name stands for: a path, else a model that comes with twil, else one of the hub.

    Args:
        name: The name; of None the default's.

    Raises:
        ModelError: It stands for nothing; those that come with twil are named, and what is meant, perhaps.
    """
    given = default_model() if name is None else str(name)
    path = model_path(given)
    if path.exists():
        return FoundModel(given, path, "path" if str(path) == str(Path(given)) else "shipped")
    # A name within a folder of this machine is a slip, and no name on the hub.
    if _HUB_NAME.fullmatch(given) and ".." not in given and not Path(path.parts[0]).is_dir():
        return FoundModel(given, path, "hub")
    raise _absent(given, defaulted=name is None)


def model_path(name: str | Path) -> Path:
    """Return the folder of a model that comes with twil; a path, or a name of the hub, as it is.

    A folder of the same name here comes first, and that is said.
    """
    path, shipped = Path(name), shipped_model(str(name))
    if shipped and path.exists():
        warnings.warn(
            f"{name} is the folder of that name here, not the model '{name}' that comes with twil: rename "
            "the folder, or run elsewhere, to take that one",
            ModelWarning,
            stacklevel=2,
        )
        return path
    return shipped or path


def _absent(name: str, *, defaulted: bool) -> ModelError:
    names = shipped_names()
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'? " if near else ""
    known = f"with twil come {', '.join(names)}" if names else "with this twil comes no model"
    cure = f"{hint}{known}; give a folder (twil export writes bundles), or a name of the hub (owner/name)"
    if not defaulted:
        return ModelError(f"there is no bundle folder {name}, and no model is called so: {cure}")
    why = f"{DEFAULT_VARIABLE} names {name}" if os.environ.get(DEFAULT_VARIABLE) else f"the default is {name}"
    return ModelError(f"no model is named (--model), and {why}, which is not there: {cure}")


def name_models(models: Sequence[str | Path]) -> dict[str, Path]:
    """Name models, each unlike the others.

    Args:
        models: Each a path, or a text ``NAME=PATH``. One without a name is called as its folder, or by its
            whole path where another folder is called so too.

    Raises:
        ConfigError: Two have been given the same name.
    """
    parts = [_split(model) for model in models]
    named = {name: path for name, path in parts if name}
    if len(named) < sum(bool(name) for name, _ in parts):
        raise ConfigError("two models have the same name: give each another (NAME=PATH)")
    unnamed = [path for name, path in parts if not name]
    folders = Counter(path.name for path in set(unnamed))
    found: dict[str, Path] = {}
    for name, path in parts:
        short = path.name if folders[path.name] == 1 and path.name else str(path)
        found[name or _unlike(short, {*found, *named})] = path
    return found


def _split(model: str | Path) -> tuple[str, Path]:
    name, equals, path = str(model).partition("=")
    if isinstance(model, Path) or not equals or not name or not path or Path(model).exists():
        return "", Path(model)
    return name, Path(path)


def _unlike(name: str, others: Collection[str]) -> str:
    """Number a name where others have it, too."""
    number = 2
    unlike = name
    while unlike in others:
        unlike = f"{name} #{number}"
        number += 1
    return unlike
