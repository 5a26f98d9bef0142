"""What is said of data that make scores misleading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from twil.cli.console import Display

if TYPE_CHECKING:
    from twil.data.repeats import Overlap

NEARLY = "but for links, mentions, punctuation, blanks and case"


def warn_of_overlaps(display: Display, overlaps: Iterable[Overlap]) -> None:
    """Name the sets whose texts stand in another, too."""
    for overlap in overlaps:
        if not overlap.near:
            continue
        if overlap.same:
            said = f"{overlap.same:,} ({100 * overlap.share:.1f} %)"
            more = f"; {NEARLY} {overlap.near:,}" if overlap.near > overlap.same else ""
        else:
            said, more = f"{overlap.near:,}", f", {NEARLY}"
        line, other = overlap.lines[0]
        display.warn(
            f"rows of {overlap.name} whose text {overlap.other} has, too: {said}{more} "
            f"(first line {line:,}, there {other:,})"
        )


def warn_of_constant(display: Display, constant: Mapping[str, str]) -> None:
    """Name the sets that can tell no model from one that always says the same."""
    for name, label in constant.items():
        display.warn(f"all rows of {name} have the label '{label}'")
