"""The words of a text, and how much each weighed."""

from __future__ import annotations

from twil.inference.explanation import Explanation, Word, word_spans


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
