"""A text whose words are the more of a colour the more they weighed."""

from __future__ import annotations

from collections.abc import Iterable

from twil.evaluation.pages.elements import Element

_STRONGEST = 60  # percent of colour: letters on it stay readable in light and in dark


def marked_words(words: Iterable[tuple[str, float]]) -> Element:
    """Write words one behind another, in one colour those that raise what is explained, in another the rest.

    Args:
        words: Each with its weight.
    """
    words = list(words)
    most = max((abs(weight) for _, weight in words), default=0.0) or 1.0
    parts: list[Element | str] = []
    for word, weight in words:
        colour = "--s0" if weight > 0 else "--s1"
        share = round(_STRONGEST * abs(weight) / most)
        style = f"background: color-mix(in srgb, var({colour}) {share}%, transparent)" if share else None
        parts += [Element("span", word, style=style, title=f"{weight:+.3f}"), " "]
    return Element("p", *parts, class_="words")
