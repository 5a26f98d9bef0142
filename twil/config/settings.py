"""Settings put together from a TOML file, options and overrides."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from twil.config.model import EncoderConfig
from twil.config.recipes import find_recipe
from twil.core.errors import ConfigError

_LOSS = ["train", "loss"]
_ENCODER = "model.encoder."


def whole_name(name: str, config: type[BaseModel]) -> str:
    """Give the whole name of a setting, ``section.key``, whose last parts may be named alone.

    Args:
        name: Such as ``lr``.
        config: The kind of run.

    Raises:
        ConfigError: There is no such setting, or there are several.
    """
    names = tuple(_setting_names(config, ""))
    if name in names:
        return name
    if name.startswith(_ENCODER):  # its fields count only where a model is drawn anew
        fields = ", ".join(field for field in EncoderConfig.model_fields if field != "vocab_size")
        if name.removeprefix(_ENCODER).partition(".")[0] in EncoderConfig.model_fields:
            return name
        raise ConfigError(f"there is no setting '{name}'; in {_ENCODER[:-1]} there are {fields}")
    found = [whole for whole in names if whole.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"'{name}' may be {' or '.join(found)}: write the whole name")
    last = {whole.rpartition(".")[2]: whole for whole in names}
    near = difflib.get_close_matches(name, [*names, *last], n=1, cutoff=0.75)
    told = f": did you mean {last.get(near[0], near[0])}?" if near else f"; there are {', '.join(names)}"
    raise ConfigError(f"there is no setting '{name}'{told}")


def _setting_names(section: type[BaseModel], prefix: str) -> Iterator[str]:
    """Name every setting of a kind of run, in the order of its sections."""
    for name, field in section.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner or prefix:
            yield f"{prefix}{name}"
        if inner:  # below the first level, a section is a setting, too: a plain text may stand for it
            yield from _setting_names(inner[0], f"{prefix}{name}.")


def whole_override(override: str, config: type[BaseModel]) -> str:
    """Give a text ``key=value`` its section, where that is left out; any other as it is.

    Raises:
        ConfigError: There is no such setting, or there are several.
    """
    name, equals, value = override.partition("=")
    short = name.strip()
    return f"{whole_name(short, config)}={value}" if equals and short and "." not in short else override


def with_settings(
    options: Mapping[str, Any], settings: Mapping[str, Any] | None, config: type[BaseModel]
) -> dict[str, Any]:
    """Add settings that a program gives by whole or short names, or by section, to options.

    Raises:
        ConfigError: There is no setting of a short name, or there are several.
    """
    value: dict[str, Any] = {}
    merge(value, options)
    for name, new in flatten(settings or {}).items():
        set_value(value, name if "." in name else whole_name(name, config), new)
    return value


def put_together(value: dict[str, Any], options: Mapping[str, Any], overrides: Iterable[str]) -> None:
    """Change a file's settings by options, and those by overrides ``section.key=value``.

    How long a run is, `train.epochs` and `train.steps` say in two ways: the one that is given last counts.
    Class weights are a rule or weights by label, and those that are given last count whole.

    Raises:
        ConfigError: An override has another form, or a section of one is a plain value in the other.
    """
    _give_way(value, options.get("train"))
    merge(value, options)
    for override in overrides:
        override_value(value, override)


def overridden(override: str) -> tuple[str, str]:
    """Name the section and the key that a text ``section.key=value`` changes."""
    section, _, key = override.partition("=")[0].strip().rpartition(".")
    return section, key


def _give_way(value: dict[str, Any], changes: Mapping[str, Any] | None) -> None:
    train = value.get("train")
    if changes and isinstance(train, dict):
        for key, other in (("epochs", "steps"), ("steps", "epochs"), ("class_weights", "class_weights")):
            if changes.get(key) is not None:
                train.pop(other, None)


def merge(value: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Put changes into a nested dictionary; None changes nothing.

    Raises:
        ConfigError: A section of one is a plain value in the other.
    """
    for key, change in changes.items():
        if isinstance(change, Mapping):
            section = value.setdefault(key, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{key} is a section of settings, not the value {section!r}")
            merge(section, change)
        elif change is not None:
            value[key] = change


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name the values of nested sections by their whole paths, ``section.key``."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        flat |= flatten(inner, f"{name}.") if isinstance(inner, Mapping) else {name: inner}
    return flat


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, or the recipe of that name where there is no such file.

    Raises:
        ConfigError: It is neither, or no TOML.
    """
    if not path.suffix and (path.is_dir() or not path.exists()):
        return tomllib.loads(find_recipe(path.as_posix()).text)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # numbers of thousands of digits are none to Python
        raise ConfigError(f"{path} is no TOML file: {error}") from error


def override_value(value: dict[str, Any], override: str) -> None:
    """Set one key of a nested dictionary from a text ``section.key=value``.

    The right side is read as TOML (``3e-5``, ``true``, ``["a", "b"]``), or as it stands where it is none.

    Raises:
        ConfigError: The text has another form.
    """
    path, equals, right = override.partition("=")
    if not equals or not all(path.strip().split(".")):
        raise ConfigError(f"--set takes section.key=value, such as train.lr=3e-5, not '{override}'")
    set_value(value, path.strip(), parse_value(right))


def set_value(value: dict[str, Any], name: str, new: Any) -> None:
    """Set one key of a nested dictionary by its whole name, ``section.key``.

    How long a run is, `train.epochs` and `train.steps` say in two ways: the one that is set last counts. A
    loss that is there as a plain text, its name, gets its options beside it.

    Raises:
        ConfigError: A section of it is a plain value.
    """
    *sections, key = name.split(".")
    if sections == ["train"]:
        _give_way(value, {key: new})
    for depth, section in enumerate(sections, start=1):
        if sections[:depth] == _LOSS and isinstance(value.get(section), str):
            value[section] = {"name": value[section]}
        value = value.setdefault(section, {})
        if not isinstance(value, dict):
            raise ConfigError(f"{name} cannot be set: {section} is no section")
    value[key] = new


def parse_value(text: str) -> Any:
    """Read a value as TOML (``3e-5``, ``true``, ``["a", "b"]``), or as it stands where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text.strip()
