"""Settings written as TOML, which `read_toml` reads back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twil.core.errors import require


def format_toml(value: Mapping[str, Any]) -> str:
    """Write nested sections as a TOML file; None is left out, since TOML has none.

    Raises:
        MissingExtraError: tomli-w is not installed.
    """
    written: str = require("tomli_w", purpose="a file of settings").dumps(_without_none(value))
    return written


def format_value(value: Any) -> str:
    """Write one value on one line, as TOML writes numbers, texts and lists."""
    return json.dumps(value, ensure_ascii=False)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value
