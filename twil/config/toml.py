"""Settings written as TOML, which `read_toml` reads back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def format_toml(value: Mapping[str, Any]) -> str:
    """Write nested sections as a TOML file; None is left out, since TOML has none."""
    return "\n".join(_lines(value, ())).lstrip("\n") + "\n"


def format_value(value: Any) -> str:
    """Write one value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)  # the shortest that is read back as the same number
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {format_value(inner)}" for key, inner in value.items() if inner is not None)
        return f"{{ {', '.join(pairs)} }}"
    # JSON's escapes are TOML's, but for one character that JSON leaves as it is.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _lines(value: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {key: inner for key, inner in value.items() if not isinstance(inner, Mapping)}
    lines = [f"{_key(key)} = {format_value(inner)}" for key, inner in plain.items() if inner is not None]
    if path and lines:
        lines = ["", f"[{'.'.join(map(_key, path))}]", *lines]
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            lines += _lines(inner, (*path, key))
    return lines


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else format_value(key)
