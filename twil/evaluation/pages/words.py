"""A text whose words are shaded by how much they weighed."""

from __future__ import annotations

from twil.evaluation.pages.document import quotation
from twil.evaluation.pages.elements import Element
from twil.inference.explanation import Explanation, Word, word_spans


def weighed_texts(explanation: Explanation) -> list[Element]:
    """Show the text, or both of a pair: words for the label are underlined, those against it dashed."""
    most = max((abs(word.weight) for word in explanation.words), default=0) or 1
    parts = 1 if isinstance(explanation.text, str) else 2
    return [
        quotation(
            *(
                span if word is None else _shaded(word, explanation.label, most)
                for span, word in word_spans(explanation, part)
            )
        )
        for part in range(parts)
    ]


def legend_of_words() -> Element:
    """Say what the shades mean."""
    return Element(
        "p",
        Element("span", "underlined", class_="word for", style="--weight:50%"),
        " words spoke for the label, ",
        Element("span", "dashed", class_="word against", style="--weight:50%"),
        " ones against it, the deeper the shade the more: each was left out alone, and its weight is how "
        "much the label's log-odds (or the value of a regression) fall then. Weights do not add up; they "
        "tell what the model reacts to, not whether it is right to.",
        class_="caption",
    )


def _shaded(word: Word, label: str, most: float) -> Element:
    share = abs(word.weight) / most
    kind = "for" if word.weight > 0 else "against"
    return Element(
        "span",
        word.text,
        class_=f"word {kind}" if share >= 0.1 else "word",
        style=f"--weight:{50 * share:.0f}%",
        title=f"{label}: {word.weight:+.2f}; without it {word.without:.4f}",
    )


def shaded_texts(explanation: Explanation) -> list[list[tuple[str, Word | None, float | None]]]:
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
