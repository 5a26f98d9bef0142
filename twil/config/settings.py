"""Settings put together from a TOML file, options and overrides."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twil.errors import ConfigError

_LOSS = ["train", "loss"]


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
    """Read a TOML file.

    Raises:
        ConfigError: It is absent or no TOML.
    """
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
