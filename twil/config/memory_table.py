"""A table that a program holds, in the place of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what predicts has no settings
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


@dataclass(frozen=True, eq=False)
class MemoryTable:
    """Columns of one length, whose cells are what a program made them.

    Attributes:
        name: What it is called where it is spoken of, in place of a path.
        columns: Cells by column: texts, numbers, truth values, or lists of texts; None, NaN and what pandas
            calls missing are empty cells.
    """

    name: str
    columns: Mapping[str, Sequence[Any]]

    def __str__(self) -> str:
        """Give its name."""
        return self.name

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Have settings take it as it is, and write its name."""
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls, serialization=core_schema.to_string_ser_schema())
