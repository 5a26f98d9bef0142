"""Which words weighed in what a model says of a text: each is left out once, and the model is asked again.

Occlusion (Zeiler and Fergus 2014): it tells what the model does without a word, and nothing of words that
only count together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from twil.core.errors import ConfigError
from twil.inference.texts import Text

if TYPE_CHECKING:
    from twil.inference.predictor import Prediction, Predictor

_COLOURS = ("192, 79, 0", "0, 114, 178")
_WORD = re.compile(r"\S+")


class WordWeight(NamedTuple):
    """A word as it stands in the text, and by how much it raises what is explained; below 0 it lowers it."""

    word: str
    weight: float


@dataclass(frozen=True)
class Explanation:
    """What a model says of a text, and which words weighed in it.

    Attributes:
        text: The text, or the pair.
        prediction: What the model says of it.
        label: Whose probability is explained; empty of a regression, whose number is.
        words: All words in their order, of a pair those of both texts.
    """

    text: Text
    prediction: Prediction
    label: str
    words: tuple[WordWeight, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give it in JSON's types."""
        text = self.text if isinstance(self.text, str) else list(self.text)
        words = [word._asdict() for word in self.words]
        return {"text": text, "label": self.label, "words": words, "prediction": self.prediction.to_dict()}

    def _repr_html_(self) -> str:
        """Show the words in a notebook, the more of a colour the more they weigh."""
        most = max((abs(word.weight) for word in self.words), default=0.0) or 1.0
        spans = " ".join(
            f"<span title='{weight:+.3f}' style='background: rgba({_COLOURS[weight > 0]}, "
            f"{0.6 * abs(weight) / most:.2f})'>{escape(word)}</span>"
            for word, weight in self.words
        )
        return f"<b>{escape(self.label or self.prediction.label)}</b> {spans}"


def explain(predictor: Predictor, text: Text, label: str | None = None) -> Explanation:
    """Tell which words weighed in what a model says of one text.

    Args:
        predictor: The model.
        text: The text; for a model of pairs a tuple of two.
        label: Whose probability is explained; the likeliest when None.

    Raises:
        ConfigError: The model has no such label.
        DataError: As a call of the predictor raises.
    """
    prediction, *others = predictor([text, *_left_out(text)])
    if label is not None and label not in predictor.task.labels:
        known = ", ".join(predictor.task.labels)
        raise ConfigError(f"the model has no label '{label}': choose one of {known or 'none'}")
    shares = prediction.probabilities
    explained = label or (max(shares, key=lambda each: shares[each]) if shares else "")

    def score(said: Prediction) -> float:
        return said.probabilities[explained] if said.value is None else said.value

    parts = [text] if isinstance(text, str) else text
    words = [word for part in parts for word in _WORD.findall(part)]
    weights = (score(prediction) - score(other) for other in others)
    return Explanation(text, prediction, explained, tuple(map(WordWeight, words, weights)))


def _left_out(text: Text) -> Iterator[Text]:
    """Give the text without its first word, without its second, and so on."""
    if isinstance(text, str):
        for word in _WORD.finditer(text):
            yield text[: word.start()] + text[word.end() :]
    else:
        first, second = text
        yield from ((left, second) for left in _left_out(first) if isinstance(left, str))
        yield from ((first, left) for left in _left_out(second) if isinstance(left, str))
