"""Intrinsic scores of a pretrained model on a file of pairs or texts, in constant memory.

Masked tokens guessed (MLM), order of pairs told (ROP), and pseudo-log-likelihood of texts (PLL), each
beside what a baseline without a network would score.
"""

# P vocabulary

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, compress, islice
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from twil.config.pretraining import MaskingConfig
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError, DataError
from twil.data.batching import Int64Array
from twil.data.corpus.pairs import PairColumns, PairReader
from twil.data.samples import REPLY_FIRST, TWEET_FIRST
from twil.evaluation.pretrained.probing import (
    BATCH_TOKENS,
    FRAME,
    Probe,
    Row,
    Text,
    encode_rows,
    mask_rows,
    open_probe,
    order_probabilities,
    pseudo_log_likelihoods,
    score_tokens,
)

Objective = Literal["mlm", "rop", "pll"]
WINDOW_ROWS = 256
"""Rows that are scored, and sorted by length, together."""
ROP_CHANCE = 0.5
"""Accuracy of a guess: every pair is shown in both orders."""

_PROGRESS_SECONDS = 0.2
_SMOOTHING = 0.1  # added to every token's count


@dataclass(frozen=True)
class MlmScores:
    """How well masked tokens are guessed.

    Attributes:
        masked: Tokens that were masked.
        accuracy: Share of them whose likeliest token is the true one.
        loss: Mean negative log-likelihood of the true token, in nats.
        perplexity: Its exponential.
        frequent_token: The token that was masked most often.
        frequent_accuracy: Accuracy of always guessing that one.
        unigram_perplexity: Perplexity of guessing by how often each token stands elsewhere in the file.
        truncated: Rows cut at the longest length.
    """

    masked: int
    accuracy: float
    loss: float
    perplexity: float
    frequent_token: str
    frequent_accuracy: float
    unigram_perplexity: float
    truncated: int


@dataclass(frozen=True)
class RopScores:
    """How well the order of pairs is told; each pair is shown in both.

    Attributes:
        shown: Rows shown, two per pair.
        empty: Pairs with a text without a token, left out: both orders look the same.
        accuracy: Share whose order is told right.
        chance: Accuracy of a guess.
        probability: Mean probability of the true order.
        confusion: Counts by true order (reply first, tweet first) and, in each, by answer.
        truncated: Rows cut at the longest length.
    """

    shown: int
    empty: int
    accuracy: float
    chance: float
    probability: float
    confusion: list[list[int]]
    truncated: int


@dataclass(frozen=True)
class PllScores:
    """How likely texts are, every token masked in turn; of a pair each text by itself.

    Attributes:
        texts: Texts scored.
        empty: Texts without a token, left out.
        tokens: Tokens scored.
        score: Mean over texts of their tokens' summed log-probabilities, divided by the length with
            [CLS] and [SEP], as the original gives it.
        unigram_score: The same of the baseline that knows only how often each token stands elsewhere.
        perplexity: Pseudo-perplexity: exponential of the mean negative log-probability of a token.
        unigram_perplexity: That of the baseline.
        truncated: Texts cut at the longest length.
    """

    texts: int
    empty: int
    tokens: int
    score: float
    unigram_score: float
    perplexity: float
    unigram_perplexity: float
    truncated: int


@dataclass(frozen=True)
class IntrinsicScores:
    """What a pretrained model is worth on a file; None what was not asked for.

    Attributes:
        rows: Rows of the file that were read.
        pairs: Whether they are pairs.
        seconds: Time of encoding and inference.
        runtime: What computed, such as ``torch on cpu``.
    """

    rows: int
    pairs: bool
    mlm: MlmScores | None
    rop: RopScores | None
    pll: PllScores | None
    seconds: float
    runtime: str

    def as_dict(self) -> dict[str, Any]:
        """Describe the scores in JSON's types."""
        return asdict(self)


@dataclass(frozen=True)
class ScoringProgress:
    """How far the work is.

    Attributes:
        rows: Rows scored so far.
        texts: Texts whose pseudo-log-likelihood is known so far.
        seconds: Since the start.
    """

    rows: int
    texts: int
    seconds: float


def score_pretrained(
    path: str | Path,
    file: str | Path,
    objectives: Collection[Objective],
    *,
    masking: MaskingConfig | None = None,
    seed: int = 1,
    columns: PairColumns | None = None,
    reading: Reading = AS_FOUND,
    limit: int | None = None,
    device: str = "auto",
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[ScoringProgress | IntrinsicScores]:
    """Score a pretrained model on a file, and tell on the way how far it is.

    Args:
        path: A model folder.
        file: Pairs or single texts, of any format that `PairReader` reads.
        objectives: What to score: ``mlm``, ``rop``, ``pll``.
        masking: Which tokens are masked for ``mlm``; as pretraining does unless told when left out.
        seed: Of the masking; the same one masks the same tokens, whatever model, device and batch size.
        columns: Where the texts stand; the standard names when left out.
        reading: How the file is read; whether it has a line of column names is found where it is not told.
        limit: Read so many rows only.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_tokens: Tokens of a batch, pads included.

    Yields:
        `ScoringProgress` a few times a second, and last the scores.

    Raises:
        ConfigError: An objective, the limit or the device cannot be had.
        DataError: The file cannot be read, holds nothing to score, or holds no pairs for ``rop``.
        ModelError: It is no model folder, or lacks a head that is asked for.
    """
    _check(objectives, limit)
    reader = PairReader(file, columns or PairColumns(), reading=reading)
    if "rop" in objectives and not reader.pairs:
        raise DataError(
            "the file holds single texts, and only pairs have an order: leave out rop (--rop)", file=file
        )
    windows = _windows(reader, limit)
    first = next(windows, None)
    if first is None:
        raise DataError("the file has no rows: nothing can be scored", file=file)
    asks_tokens = "mlm" in objectives or "pll" in objectives
    probe = open_probe(
        path, mlm=asks_tokens, rop="rop" in objectives, device=device, batch_tokens=batch_tokens
    )
    mlm = (
        _Mlm(probe, masking or MaskingConfig(), np.random.default_rng(seed)) if "mlm" in objectives else None
    )
    rop = _Rop(probe) if "rop" in objectives else None
    pll = _Pll(probe) if "pll" in objectives else None
    meters: list[_Meter] = [meter for meter in (mlm, rop, pll) if meter is not None]
    start = last = perf_counter()
    rows = 0
    for window in chain([first], windows):
        for _ in chain.from_iterable(meter.add(window) for meter in meters):
            if perf_counter() - last >= _PROGRESS_SECONDS:
                last = perf_counter()
                yield ScoringProgress(rows, pll.texts if pll else 0, last - start)
        rows += len(window)
    if (mlm and not mlm.masked) or (pll and not pll.texts):
        raise DataError("no row holds a token that can be masked: give a file with text", file=file)
    if rop and not rop.shown:
        raise DataError("no pair holds two texts: give a file with pairs of them", file=file)
    yield IntrinsicScores(
        rows=rows,
        pairs=reader.pairs,
        mlm=mlm.scores() if mlm else None,
        rop=rop.scores() if rop else None,
        pll=pll.scores() if pll else None,
        seconds=perf_counter() - start,
        runtime=f"torch on {probe.device.type}",
    )


class _Meter(Protocol):
    def add(self, rows: Sequence[Text]) -> Iterator[None]:
        """Score some rows, and give the word now and then on the way."""
        ...


class _Mlm:
    """Adds up what becomes of masked tokens."""

    def __init__(self, probe: Probe, masking: MaskingConfig, rng: np.random.Generator) -> None:
        self._probe, self._masking, self._rng = probe, masking, rng
        self._tokens = _Counts(probe.tokenizer.get_vocab_size())  # all that could be masked
        self._targets = _Counts(probe.tokenizer.get_vocab_size())  # those that were
        self._log_prob = 0.0
        self._right = self._truncated = 0

    @property
    def masked(self) -> int:
        return self._targets.total

    def add(self, rows: Sequence[Text]) -> Iterator[None]:
        whole, truncated = encode_rows(self._probe, rows)
        masked, targets = mask_rows(self._probe, whole, self._masking, self._rng)
        scores = score_tokens(self._probe, masked, targets)
        tokens = np.concatenate([row.input_ids for row in whole])
        self._tokens.add(tokens[self._probe.special.ordinary(tokens)])
        self._targets.add(targets)
        self._log_prob += float(scores.log_probs.sum())
        self._right += int((scores.guesses == targets).sum())
        self._truncated += int(truncated.sum())
        yield

    def scores(self) -> MlmScores:
        loss = -self._log_prob / self.masked
        frequent = int(self._targets.counts.argmax())
        baseline = float(self._tokens.log_probs() @ self._targets.counts)
        return MlmScores(
            masked=self.masked,
            accuracy=self._right / self.masked,
            loss=loss,
            perplexity=_perplexity(-loss),
            frequent_token=self._probe.spell(frequent),
            frequent_accuracy=int(self._targets.counts[frequent]) / self.masked,
            unigram_perplexity=_perplexity(baseline / self.masked),
            truncated=self._truncated,
        )


class _Rop:
    """Adds up what is said of the order of pairs."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._confusion = np.zeros((2, 2), dtype=np.int64)
        self._probability = 0.0
        self._empty = self._truncated = 0

    @property
    def shown(self) -> int:
        return int(self._confusion.sum())

    def add(self, rows: Sequence[Text]) -> Iterator[None]:
        turned = [(row[1], row[0]) for row in rows]
        for order, shown in ((TWEET_FIRST, rows), (REPLY_FIRST, turned)):
            encoded, truncated = encode_rows(self._probe, shown)
            filled = np.array([_is_filled(row) for row in encoded], dtype=np.bool_)
            probabilities = order_probabilities(self._probe, list(compress(encoded, filled)))
            self._confusion[order] += np.bincount(probabilities.argmax(1), minlength=2)
            self._probability += float(probabilities[:, order].sum())
            self._truncated += int(truncated[filled].sum())
            yield
        self._empty += int((~filled).sum())

    def scores(self) -> RopScores:
        return RopScores(
            shown=self.shown,
            empty=self._empty,
            accuracy=int(self._confusion.trace()) / self.shown,
            chance=ROP_CHANCE,
            probability=self._probability / self.shown,
            confusion=self._confusion.tolist(),
            truncated=self._truncated,
        )


def _is_filled(row: Row) -> bool:
    """Tell whether both texts of a pair have tokens: cutting takes the last token of neither."""
    second = int(row.segment_ids.sum())
    return len(row.input_ids) - second > FRAME and second > FRAME - 1


class _Pll:
    """Adds up the pseudo-log-likelihoods of texts."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        size = probe.tokenizer.get_vocab_size()
        self._tokens = _Counts(size)
        self._weights = np.zeros(size)  # each token's share in the score: 1 / T for each time it stands
        self._log_prob = self._score = 0.0
        self.texts = self._empty = self._truncated = 0

    def add(self, rows: Sequence[Text]) -> Iterator[None]:
        texts = [text for row in rows for text in ((row,) if isinstance(row, str) else row)]
        encoded, truncated = encode_rows(self._probe, texts)
        filled = [row for row in encoded if len(row.input_ids) > FRAME]
        self._empty += len(encoded) - len(filled)
        self._truncated += int(truncated.sum())
        at = 0
        for group in pseudo_log_likelihoods(self._probe, filled):
            for row, log_probs in zip(filled[at : at + len(group)], group, strict=True):
                self._add_text(row.input_ids, log_probs)
            at += len(group)
            yield

    def _add_text(self, ids: Int64Array, log_probs: NDArray[np.float64]) -> None:
        tokens, total = ids[1:-1], float(log_probs.sum())
        self._tokens.add(tokens)
        np.add.at(self._weights, tokens, 1 / len(ids))
        self._log_prob += total
        # TWilBERT: kept: the length counts [CLS] and [SEP], which are not scored.
        self._score += total / len(ids)
        self.texts += 1

    def scores(self) -> PllScores:
        baseline = self._tokens.log_probs()
        return PllScores(
            texts=self.texts,
            empty=self._empty,
            tokens=self._tokens.total,
            score=self._score / self.texts,
            unigram_score=float(baseline @ self._weights) / self.texts,
            perplexity=_perplexity(self._log_prob / self._tokens.total),
            unigram_perplexity=_perplexity(float(baseline @ self._tokens.counts) / self._tokens.total),
            truncated=self._truncated,
        )


class _Counts:
    """How often each token stands in the file."""

    def __init__(self, size: int) -> None:
        self.counts = np.zeros(size, dtype=np.int64)  # (P,)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def add(self, tokens: Int64Array) -> None:
        self.counts += np.bincount(tokens, minlength=len(self.counts))

    def log_probs(self) -> NDArray[np.float64]:
        """Judge each token by all others of the file: a token that stands once has not been seen."""
        others = np.maximum(self.counts - 1, 0)
        shares = (others + _SMOOTHING) / (max(self.total - 1, 0) + _SMOOTHING * len(others))
        logarithms: NDArray[np.float64] = np.log(shares)
        return logarithms


def numbered_rows(reader: PairReader) -> Iterator[tuple[int, Text]]:
    """Give the texts, or pairs, of a file one by one, each with its line (Parquet: row) in the file."""
    for rows in reader:
        texts = rows.first if rows.second is None else zip(rows.first, rows.second, strict=True)
        yield from zip(rows.numbers, texts, strict=True)


def _windows(reader: PairReader, limit: int | None) -> Iterator[list[Text]]:
    rows = islice((text for _, text in numbered_rows(reader)), limit)
    while window := list(islice(rows, WINDOW_ROWS)):
        yield window


def _perplexity(mean: float) -> float:
    return math.exp(min(-mean, 700.0))  # what a float holds; a model that has gone astray needs more


def _check(objectives: Collection[Objective], limit: int | None) -> None:
    known = get_args(Objective)
    if not objectives or not set(objectives) <= set(known):
        raise ConfigError(f"say what to score: one or more of {', '.join(known)}")
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of {limit} rows leaves none: choose at least 1")
