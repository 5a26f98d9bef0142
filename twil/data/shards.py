"""Tables shared out among processes: each takes the rows of its shard, and no row is taken twice or left."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from twil.core.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """One of several parts of some rows, as equal as can be; one after another they are the whole.

    Attributes:
        number: Which one, counted from 1.
        count: How many there are.

    Raises:
        ConfigError: There is no such one.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        """Refuse a number that is not among them."""
        if not 1 <= self.number <= self.count:
            raise ConfigError(
                f"there is no shard {self.number}/{self.count}: of {self.count}, say 1/{self.count} "
                f"to {self.count}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it as it is written on a command line.

        Raises:
            ConfigError: It is not written so, or there is no such one.
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None or int(match[2]) == 0:
            raise ConfigError(f"'{text}' is no shard: write 2/8 for the second of eight")
        return cls(int(match[1]), int(match[2]))

    def rows(self, total: int) -> range:
        """Tell which rows are in it, counted from 0, of so many."""
        begin, end = (number * total // self.count for number in (self.number - 1, self.number))
        return range(begin, end)
