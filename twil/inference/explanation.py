"""Which words weighed in a prediction: a text is asked about again with each of its words left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import ConfigError
from twil.core.task import Task
from twil.inference.texts import Text

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Word:
    """What stands between blanks, and how much it weighed.

    Attributes:
        text: The word.
        start: Of its first character in its text.
        part: In which text of a pair it stands, 0 or 1.
        weight: How much the label's log-odds (in nats), or the value of a regression, fall where the word is
            left out: above 0 it spoke for the label, below 0 against it.
        without: The label's probability, or the value, where it is left out.
    """

    text: str
    start: int
    part: int
    weight: float
    without: float


@dataclass(frozen=True)
class Explanation:
    """Which words of a text weighed for a label.

    Each weight is that of one word alone: they do not add up, and of two words of which either is enough
    neither weighs much.

    Attributes:
        text: The text, or pair of texts.
        label: The label that is explained; of a regression the name of its value.
        score: Its probability, or the value.
        words: The words that were left out in turn, in their order.
        truncated: The text is longer than the model reads.
    """

    text: Text
    label: str
    score: float
    words: tuple[Word, ...]
    truncated: bool = False

    def heaviest(self, count: int) -> list[Word]:
        """Give the words that weighed most, for or against, the heaviest first."""
        return sorted(self.words, key=lambda word: -abs(word.weight))[:count]

    def to_dict(self) -> dict[str, Any]:
        """Give it in JSON's types."""
        return asdict(self) | {"words": [asdict(word) for word in self.words]}

    def _repr_html_(self) -> str:
        """Show the words with their weights as numbers and shades, in a notebook."""
        most = max((abs(word.weight) for word in self.words), default=0) or 1
        shown = " ".join(
            f"<span style='background:rgba({'0,114,178' if word.weight > 0 else '213,94,0'},"
            f"{0.6 * abs(word.weight) / most:.2f})'>{escape(word.text)}<sub>{word.weight:+.2f}</sub></span>"
            for word in self.words
        )
        return f"<b>{escape(self.label)}</b> {self.score:.3f}<p>{shown}</p>"


def left_out(text: Text, most: int) -> list[Text]:
    """Give a text, and behind it the same one with each of its words left out in turn.

    Args:
        text: The text, or a pair, of whose two texts all words are left out in turn.
        most: How many words of each text at most, the first ones; a model reads no more words than tokens.
    """
    parts = [text] if isinstance(text, str) else list(text)
    without: list[Text] = [text]
    for place, part in enumerate(parts):
        for start, end in _places(part, most):
            gone = part[:start] + part[end:].lstrip() if part[end:].strip() else part[:start].rstrip()
            changed = [*parts[:place], gone, *parts[place + 1 :]]
            without.append(changed[0] if isinstance(text, str) else (changed[0], changed[1]))
    return without


def weigh_words(
    task: Task,
    text: Text,
    logits: NDArray[np.floating[Any]],
    most: int,
    *,
    label: str | None = None,
    truncated: bool = False,
) -> Explanation:
    """Tell from the logits of a text with and without its words how much each weighed.

    Args:
        task: What the model is asked.
        text: The text, or pair of texts.
        logits: float32 ``(1 + words, outputs)``, those of `left_out` with the same `most`.
        most: How many words of each text were left out at most.
        label: The label to explain; the one that is predicted when left out, and of several labels that hold
            or of none the likeliest.
        truncated: The text is longer than the model reads.

    Raises:
        ConfigError: There is no such label.
    """
    if label is not None and label not in task.labels:
        raise ConfigError(f"there is no label '{label}' to explain: choose one of {', '.join(task.labels)}")
    scores = task.probabilities(logits)
    index = task.labels.index(label) if label is not None else _predicted(task, scores[:1])
    odds = _log_odds(task, logits, index)
    parts = [text] if isinstance(text, str) else text
    found = [
        (part[start:end], start, place)
        for place, part in enumerate(parts)
        for start, end in _places(part, most)
    ]
    words = tuple(
        Word(*where, weight=float(odds[0] - odds[row]), without=float(scores[row, index]))
        for row, where in enumerate(found, start=1)
    )
    return Explanation(text, task.labels[index], float(scores[0, index]), words, truncated)


def word_spans(explanation: Explanation, part: int) -> list[tuple[str, Word | None]]:
    """Cut one text of an explanation into its words and what stands between them, in their order."""
    text = explanation.text if isinstance(explanation.text, str) else explanation.text[part]
    spans: list[tuple[str, Word | None]] = []
    done = 0
    for word in explanation.words:
        if word.part == part:
            spans += [(text[done : word.start], None), (word.text, word)]
            done = word.start + len(word.text)
    return [span for span in [*spans, (text[done:], None)] if span[0]]


def _places(text: str, most: int) -> Sequence[tuple[int, int]]:
    return [found.span() for _, found in zip(range(most), _WORD.finditer(text), strict=False)]


def _predicted(task: Task, scores: NDArray[np.float32]) -> int:
    """Give the label that is predicted for one row: where a threshold decides, its own."""
    return int(task.decide(scores)[0]) if task.kind == "class" else int(scores[0].argmax())


def _log_odds(task: Task, logits: NDArray[np.floating[Any]], index: int) -> NDArray[np.float64]:
    """Compute a label's log-odds, or the value of a regression; float64 ``(rows,)``."""
    chosen: NDArray[np.float64] = logits[:, index].astype(np.float64) / task.temperature
    if task.kind != "class":
        return chosen
    others = np.delete(logits.astype(np.float64), index, axis=1) / task.temperature
    return np.asarray(chosen - np.logaddexp.reduce(others, axis=1))
