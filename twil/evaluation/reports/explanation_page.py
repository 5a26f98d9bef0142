"""Which words weighed in a few predictions, as one page."""

from __future__ import annotations

from collections.abc import Sequence

from twil.evaluation.pages.document import render_page
from twil.evaluation.pages.tables import Table
from twil.evaluation.pages.words import shaded_texts
from twil.inference.explanation import Explanation


def make_explanation_page(explained: Sequence[Explanation], model: str) -> str:
    """Lay out explanations as a page.

    Args:
        explained: They, in their order.
        model: What the model is called.
    """
    shown = [
        {
            "label": each.label,
            "score": each.score,
            "texts": shaded_texts(each),
            "numbers": Table(
                ["word", "weight", "without it"],
                [[word.text, f"{word.weight:+.3f}", word.without] for word in each.words],
                figures={"weight"},
            ),
        }
        for each in explained
    ]
    return render_page("explanation.html", model=model, explained=shown)
