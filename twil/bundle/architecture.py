"""The size of a model, as a graph tells it of the model that it was exported from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

ARCHITECTURE_KEY = "twil.architecture"
"""Where a graph's metadata hold it as JSON."""


@dataclass(frozen=True)
class Architecture:
    """What a model is made of.

    Attributes:
        type: Of its encoder, such as ``twilbert``.
        layers: Of the encoder.
        heads: Of attention in a layer.
        hidden: The size of its hidden states.
        vocabulary: How many tokens it knows.
        parameters: Its trainable numbers, shared ones once.
    """

    type: str
    layers: int
    heads: int
    hidden: int
    vocabulary: int
    parameters: int

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self)

    def to_metadata(self) -> dict[str, str]:
        """Write it as the entry of a graph's metadata."""
        return {ARCHITECTURE_KEY: json.dumps(self.as_dict(), sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Architecture | None:
        """Read it from a graph's metadata; None where they tell none that is known here."""
        try:
            value = json.loads(metadata.get(ARCHITECTURE_KEY, "null"))
        except (ValueError, RecursionError):
            return None
        wanted = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or value.keys() != wanted or not isinstance(value["type"], str):
            return None
        sizes = [size for name, size in value.items() if name != "type"]
        return cls(**value) if all(type(size) is int for size in sizes) else None
