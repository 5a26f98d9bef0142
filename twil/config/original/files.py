"""Reading a file of the original: one error for whatever it has wrong, and no setting passed over."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from twil.config.model import ModelConfig, explain
from twil.core.errors import ConfigError

T = TypeVar("T")
Checked = TypeVar("Checked", bound=BaseModel)


class Strict(BaseModel):
    """A section of the original's file; keys that it does not use are spoken of in notes."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def read_json(path: Path, translate: Callable[[Mapping[str, Any]], T]) -> T:
    """Read a JSON file and translate it; whatever it has wrong becomes one `ConfigError` that names it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not JSON, too long or too deep
        raise ConfigError(f"{path} is no JSON configuration: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is no configuration of the original TWilBERT: it holds no sections")
    try:
        return translate(value)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, ModelConfig)}") from error
    except KeyError as error:
        raise ConfigError(f"{path} has no {error}: give one of the original's configuration files") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{path} is no configuration of the original TWilBERT ({error})") from error


def check(sections: type[Checked], value: Mapping[str, Any]) -> Checked:
    """Read the sections that decide a run.

    Raises:
        ConfigError: One is missing, or a value is of another type; all faults in one message.
    """
    try:
        return sections.model_validate(value)
    except ValidationError as error:
        raise ConfigError(explain(error, sections)) from error


def locate(name: str, source: Path) -> Path:
    """Find a file that a configuration names: in the working directory, as the original does, else beside it.

    A file that is in neither place is given as it is named.
    """
    beside = source.parent / name
    return beside if beside.exists() and not Path(name).exists() else Path(name)


def left_out(value: Mapping[str, Any], read: Collection[str], replaced: Mapping[str, str]) -> list[str]:
    """Name every setting that decides nothing: those that something else replaces, and unknown ones.

    Args:
        value: The file's.
        read: The settings that decide a run, by their paths; one that ends in a dot is a whole section.
        replaced: What takes the place of others, by the start of their paths.
    """
    sections = tuple(path for path in read if path.endswith("."))
    notes: dict[str, None] = {}  # in their order, each once
    for path in _paths(value):
        if path in read or path.startswith(sections):
            continue
        said = next((said for start, said in replaced.items() if path.startswith(start)), None)
        notes[said or f"{path} is no setting of the original that twil knows: it is left out"] = None
    return list(notes)


def _paths(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Name the settings of a file, such as ``model.rop.n_hidden``."""
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            yield from _paths(entry, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
