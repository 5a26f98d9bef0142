"""Which words weighed in a few predictions, as one page."""

from __future__ import annotations

from collections.abc import Sequence

from twil.evaluation.pages.document import render_page
from twil.evaluation.pages.tables import Table
from twil.inference.explanation import Explanation, Word, word_spans


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


def shaded_texts(explanation: Explanation) -> list[list[tuple[str, Word | None, float]]]:
    """Cut the text, or both of a pair, into its words and what stands between them.

    Returns:
        For each text its spans, with the word that one is and how much that weighed beside the heaviest one.
    """
    most = max((abs(word.weight) for word in explanation.words), default=0) or 1
    return [
        [
            (span, word, abs(word.weight) / most if word else 0.0)
            for span, word in word_spans(explanation, part)
        ]
        for part in range(1 if isinstance(explanation.text, str) else 2)
    ]
