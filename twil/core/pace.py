"""How fast work on rows goes, whatever the work is."""

from __future__ import annotations


class Paced:
    """What knows how many rows are done and since when."""

    rows: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """The speed since the start."""
        return self.rows / self.seconds if self.seconds else 0.0
