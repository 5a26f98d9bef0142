"""One row of a file as a pretrained model meets it: masked tokens, guesses, and the order of its texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twil.config.pretraining import MaskingConfig
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError, DataError
from twil.data.corpus.pairs import PairColumns, PairReader
from twil.data.samples import REPLY_FIRST, TWEET_FIRST
from twil.evaluation.pretrained.intrinsic import numbered_rows
from twil.evaluation.pretrained.probing import (
    Probe,
    Row,
    Text,
    encode_rows,
    mask_rows,
    order_probabilities,
    score_tokens,
    top_tokens,
)

TOP = 3


@dataclass(frozen=True)
class Guess:
    """What the model says of a masked token.

    Attributes:
        place: Where in the row it stands, [CLS] being 0.
        true: The token that was there.
        shown: What the model saw in its place: [MASK], a random token, or the token itself.
        best: The likeliest tokens with their probabilities, best first.
        probability: The probability of the true token.
    """

    place: int
    true: str
    shown: str
    best: tuple[tuple[str, float], ...]
    probability: float

    @property
    def right(self) -> bool:
        """Whether the likeliest token is the true one."""
        return self.best[0][0] == self.true


@dataclass(frozen=True)
class OrderVerdict:
    """What the model says of the order of a pair.

    Attributes:
        tweet_first: Whether the pair was shown with its tweet first.
        probability: The probability of the order that it was shown in.
    """

    tweet_first: bool
    probability: float

    @property
    def right(self) -> bool:
        """Whether the model finds the true order likelier."""
        return self.probability > 0.5


@dataclass(frozen=True)
class Inspection:
    """One row, looked at.

    Attributes:
        row: Its number, from 1.
        place: Where it stands in the file, such as ``line 4``.
        tokens: The row's tokens as they were before masking, special ones included.
        guesses: The masked ones, from left to right.
        order: None for a single text, and for a model without a reply-order head.
        truncated: The row was longer than the model reads, and its end was left out.
    """

    row: int
    place: str
    tokens: tuple[str, ...]
    guesses: tuple[Guess, ...]
    order: OrderVerdict | None
    truncated: bool

    def as_dict(self) -> dict[str, Any]:
        """Describe the row in JSON's types."""
        return asdict(self)


def inspect_row(
    probe: Probe,
    file: str | Path,
    row: int = 1,
    *,
    seed: int = 1,
    columns: PairColumns | None = None,
    reading: Reading = AS_FOUND,
) -> Inspection:
    """Mask a row of a file, and ask the model about it.

    Args:
        probe: A model with a masked-language head.
        file: Pairs or single texts, of any format that `PairReader` reads.
        row: Which row, counted from 1.
        seed: Decides which tokens are masked, and the order in which a pair is shown.
        columns: Where the texts stand; the standard names when left out.
        reading: How the file is read; whether it has a line of column names is found where it is not told.

    Raises:
        ConfigError: Rows are counted from 1.
        DataError: The file cannot be read or has no such row.
    """
    if row < 1:
        raise ConfigError(f"there is no row {row}: rows are counted from 1")
    reader = PairReader(file, columns or PairColumns(), reading=reading)
    number, text = _find(reader, row)
    rng = np.random.default_rng(seed)
    tweet_first = bool(rng.random() < 0.5)
    if not isinstance(text, str) and not tweet_first:
        text = text[::-1]
    (whole,), truncated = encode_rows(probe, [text])
    order = None
    if reader.pairs and probe.model.rop is not None:
        # Told from the whole pair, as the scores of a file are.
        probabilities = order_probabilities(probe, [whole])[0]
        order = OrderVerdict(tweet_first, float(probabilities[TWEET_FIRST if tweet_first else REPLY_FIRST]))
    return Inspection(
        row=row,
        place=f"{reader.unit} {number}",
        tokens=tuple(probe.spell(token) for token in whole.input_ids.tolist()),
        guesses=tuple(_guess(probe, whole, rng)),
        order=order,
        truncated=bool(truncated[0]),
    )


def _guess(probe: Probe, row: Row, rng: np.random.Generator) -> Iterator[Guess]:
    (masked,), targets = mask_rows(probe, [row], MaskingConfig(), rng)
    log_probs = score_tokens(probe, [masked], targets).log_probs
    best = top_tokens(probe, [masked], min(TOP, probe.model.vocab_size))
    for place, target, log_prob, tokens, probabilities in zip(
        masked.asked, targets, log_probs, best.tokens, best.probabilities, strict=True
    ):
        yield Guess(
            place=int(place),
            true=probe.spell(int(target)),
            shown=probe.spell(int(masked.input_ids[place])),
            best=tuple(zip(map(probe.spell, tokens.tolist()), probabilities.tolist(), strict=True)),
            probability=float(np.exp(log_prob)),
        )


def _find(reader: PairReader, row: int) -> tuple[int, Text]:
    last = 0
    for last, found in enumerate(numbered_rows(reader), start=1):
        if last == row:
            return found
    raise DataError(f"there is no row {row}: the last one is {last}", file=reader.path)
