"""Which words weighed in a few predictions, as one page."""

from __future__ import annotations

from collections.abc import Sequence

from twil.evaluation.pages.document import folded, make_page, section
from twil.evaluation.pages.tables import table
from twil.evaluation.pages.words import legend_of_words, weighed_texts
from twil.inference.explanation import Explanation


def make_explanation_page(explained: Sequence[Explanation], model: str) -> str:
    """Lay out explanations as a page.

    Args:
        explained: They, in their order.
        model: What the model is called.
    """
    sections = [
        section(
            f"{number}. {each.label} ({each.score:.4f})",
            *weighed_texts(each),
            folded(
                "Numbers",
                table(
                    ["word", "weight", "without it"],
                    [[word.text, f"{word.weight:+.3f}", word.without] for word in each.words],
                    figures={"weight"},
                ),
            ),
        )
        for number, each in enumerate(explained, start=1)
    ]
    return make_page(
        f"{model}: which words weighed",
        legend_of_words(),
        *sections,
        about=f"{len(explained):,} texts, the label that each is given, and the words that weighed for it.",
    )
