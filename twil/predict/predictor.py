"""Texts to predictions, from a bundle and without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from twil.data.batching import Int64Array, length_batches, pad_batch
from twil.errors import ConfigError, DataError, ModelError
from twil.machine import available_cpus
from twil.predict.bundle import Bundle, open_bundle
from twil.predict.session import ProviderChoice, Session
from twil.task import LABEL_SEPARATOR, Task
from twil.text.tokenizer import Encoded, encode, load_tokenizer

BATCH_TOKENS = 512
"""Pieces of a batch, pads included: enough to fill a CPU's cores, and few enough to stay in its caches."""
WINDOW_ROWS = 4096
"""Texts that are encoded and sorted by length together."""

Text = str | tuple[str, str]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text.

    Attributes:
        label: The label; the labels joined by ``|`` (multi-label); the number (regression).
        probability: The label's probability; None where there is no single one.
        probabilities: Every label's probability; empty for a regression.
        labels: The labels that hold: one, any number (multi-label) or none (regression).
        value: The number of a regression, else None.
        truncated: The text was longer than the model reads, and its end was left out.
    """

    label: str
    probability: float | None
    probabilities: dict[str, float]
    labels: tuple[str, ...]
    value: float | None
    truncated: bool


class LogitBatch(NamedTuple):
    """What a model gave for some rows.

    Attributes:
        rows: Their indices, int64 ``(rows,)``.
        logits: float32 ``(rows, outputs)``.
        repeated: Whether a row has the pieces of an earlier one, and its logits; bool ``(rows,)``.
    """

    rows: Int64Array
    logits: NDArray[np.float32]
    repeated: NDArray[np.bool_]


class Predictor:
    """A classifier ready to predict. May be called from several threads at once.

    What is said of a text does not depend on the texts beside it. Texts of the same pieces, as retweets
    are, are computed once where they come together.

    Args:
        path: A bundle, as `twil export` writes it.
        provider: Where to run: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads of the graph; all that the process may use when left out. The threads that turn
            texts into ids are those of the `tokenizers` library, which has one set for the whole process:
            the environment variable ``RAYON_NUM_THREADS`` bounds them, if it is set before the first text.
        batch_tokens: Pieces of a batch, pads included.
        side_by_side: On a CPU, compute a batch on each thread, in place of one batch on all of them: faster
            for many texts, slower for one.

    Attributes:
        bundle: The bundle.
        task: What the model is asked.
        session: Its graph; tells where it runs.
        threads: CPU threads.
        workers: How many batches are computed at a time.

    Raises:
        ConfigError: A batch has no piece.
        ModelError: The bundle is damaged, or is an encoder's.
        ProviderError: The provider asked for cannot be had.
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        provider: ProviderChoice = "auto",
        threads: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        side_by_side: bool = False,
    ) -> None:
        if batch_tokens < 1:
            raise ConfigError(f"a batch cannot have {batch_tokens} pieces: ask for at least one")
        self.bundle = open_bundle(path)
        self.task = _classifier_task(self.bundle)
        self.batch_tokens = batch_tokens
        self._tokenizer = load_tokenizer(self.bundle.tokenizer)
        self._check_length()
        self.threads = threads or available_cpus()
        self.session = Session(self.bundle, provider=provider, threads=1 if side_by_side else threads)
        self.workers = self.threads if side_by_side and self.session.provider == "cpu" else 1

    @overload
    def __call__(self, texts: str) -> Prediction: ...  # type: ignore[overload-overlap]  # a str is iterable too

    @overload
    def __call__(self, texts: Iterable[Text]) -> list[Prediction]: ...

    def __call__(self, texts: str | Iterable[Text]) -> Prediction | list[Prediction]:
        """Predict one text, or all texts of a list, tuple, array, generator, ...

        Args:
            texts: One text, or several; for a model of pairs, tuples of two texts.

        Returns:
            One prediction for a str, else a list of them in the order of the texts.

        Raises:
            DataError: An item is not a text (or not a pair of texts, where the model takes pairs).
        """
        if isinstance(texts, str):
            return self([texts])[0]
        return [
            prediction for encoded in self._encoded_windows(texts) for prediction in self._predict(encoded)
        ]

    def predict_logits(self, texts: Iterable[Text]) -> NDArray[np.float32]:
        """Compute the logits, float32 ``(rows, outputs)``, of texts in their order.

        Raises:
            DataError: An item is not a text (or not a pair of texts, where the model takes pairs).
        """
        windows = [self.logits(encoded) for encoded in self._encoded_windows(texts)]
        return np.concatenate([np.empty((0, self.task.outputs), np.float32), *windows])

    def encode(self, texts: Sequence[Text]) -> Encoded:
        """Turn texts (or pairs, where the model takes them) into token ids, cut at the model's maximum."""
        return encode(self._tokenizer, texts)  # type: ignore[arg-type]

    def logits(self, encoded: Encoded) -> NDArray[np.float32]:
        """Compute the logits, float32 ``(rows, outputs)``, of encoded texts in their order."""
        logits = np.empty((len(encoded.input_ids), self.task.outputs), dtype=np.float32)
        for batch in self.logit_batches(encoded):
            logits[batch.rows] = batch.logits
        return logits

    def logit_batches(self, encoded: Encoded) -> Iterator[LogitBatch]:
        """Compute the logits of encoded texts batch by batch; rows of the same pieces share one row of it."""
        if self.workers == 1:
            yield from (self._run(encoded, sharing) for sharing in self._batches(encoded))
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="predict") as pool:
            try:
                yield from (future.result() for future in self.submit(encoded, pool))
            finally:
                pool.shutdown(cancel_futures=True)

    def submit(self, encoded: Encoded, pool: Executor) -> list[Future[LogitBatch]]:
        """Have the batches of encoded texts computed by a pool; give what will come of each, in order."""
        return [pool.submit(self._run, encoded, sharing) for sharing in self._batches(encoded)]

    def _batches(self, encoded: Encoded) -> Iterator[list[list[int]]]:
        """Group rows into batches of like length; a batch is lists of rows of the same pieces."""
        alike = _alike(encoded)
        for chosen in length_batches([len(encoded.input_ids[rows[0]]) for rows in alike], self.batch_tokens):
            yield [alike[index] for index in chosen]

    def _run(self, encoded: Encoded, sharing: list[list[int]]) -> LogitBatch:
        firsts = [rows[0] for rows in sharing]
        batch = pad_batch(
            [encoded.input_ids[row] for row in firsts],
            [encoded.segment_ids[row] for row in firsts] if encoded.segment_ids else None,
            pad_id=self.bundle.manifest.pad_id,
        )
        rows = np.concatenate([np.asarray(rows, dtype=np.int64) for rows in sharing])
        logits = np.repeat(self.session.run(batch)["logits"], [len(rows) for rows in sharing], axis=0)
        return LogitBatch(rows, logits, np.isin(rows, firsts, invert=True))

    def is_empty(self, encoded: Encoded) -> NDArray[np.bool_]:
        """Tell per row whether the text left nothing to read but the special pieces; bool ``(rows,)``."""
        special = self._tokenizer.num_special_tokens_to_add(is_pair=self.task.pair)
        return np.array([len(ids) == special for ids in encoded.input_ids], dtype=np.bool_)

    def _encoded_windows(self, texts: Iterable[Text]) -> Iterator[Encoded]:
        items = _items(texts)
        first = 0
        while window := [self._text(item, row) for row, item in enumerate(islice(items, WINDOW_ROWS), first)]:
            yield self.encode(window)
            first += len(window)

    def _text(self, item: object, row: int) -> Text:
        parts = _parts(item) if self.task.pair else [item]
        if parts is None or not all(_is_text(part) for part in parts):
            wanted = "a pair of texts (text, second text)" if self.task.pair else "a text (str)"
            raise DataError(
                f"item {row} is {_describe(item)}, and this model takes {wanted}: "
                "replace it, or leave it out (items are counted from 0)"
            )
        first, *second = map(str, parts)
        return (first, second[0]) if second else first

    def _predict(self, encoded: Encoded) -> Iterator[Prediction]:
        decoded = self.task.decode(self.logits(encoded))
        for label, scores, truncated in zip(
            decoded.labels, decoded.scores.tolist(), encoded.truncated.tolist(), strict=True
        ):
            yield _prediction(self.task, label, scores, truncated=truncated)

    def _check_length(self) -> None:
        truncation = self._tokenizer.truncation or {}
        if truncation.get("max_length") != self.bundle.manifest.max_length:
            raise ModelError(
                f"{self.bundle.tokenizer} cuts at {truncation.get('max_length')} pieces, and the model reads "
                f"{self.bundle.manifest.max_length}: export the model again"
            )


def _alike(encoded: Encoded) -> list[list[int]]:
    """Group the rows that hold the same pieces, in the order of the first of each."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, ids in enumerate(encoded.input_ids):
        key = (*ids, -1, *encoded.segment_ids[row]) if encoded.segment_ids else tuple(ids)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _classifier_task(bundle: Bundle) -> Task:
    if bundle.manifest.task is None:
        raise ModelError(
            f"{bundle.folder} is an encoder, which gives vectors, and only classifiers predict: "
            "fine-tune it with twil finetune, then export the classifier"
        )
    return bundle.manifest.task


def _prediction(task: Task, label: str, scores: list[float], *, truncated: bool) -> Prediction:
    if task.kind == "regression":
        return Prediction(label, None, {}, (), scores[0], truncated)
    probabilities = dict(zip(task.labels, scores, strict=True))
    if task.kind == "multi-label":
        labels = tuple(label.split(LABEL_SEPARATOR)) if label else ()
        return Prediction(label, None, probabilities, labels, None, truncated)
    return Prediction(label, probabilities[label], probabilities, (label,), None, truncated)


def _items(texts: Any) -> Iterator[object]:
    """Go through texts, of which a str is one."""
    if isinstance(texts, str):
        return iter([texts])
    with suppress(TypeError):
        if not isinstance(texts, bytes | bytearray | memoryview | Mapping):  # they give numbers and keys
            return iter(texts)
    raise DataError(f"a {type(texts).__name__} was given to predict: give a text or a list of texts")


def _parts(item: object) -> list[object] | None:
    """Return the two halves of a pair, or None where `item` is none."""
    if isinstance(item, np.ndarray):
        item = item.tolist()
    return list(item) if isinstance(item, tuple | list) and len(item) == 2 else None


def _is_text(part: object) -> bool:
    if not isinstance(part, str):
        return False
    try:
        part.encode()  # half a surrogate pair is no character
    except UnicodeEncodeError:
        return False
    return True


def _describe(item: object) -> str:
    shown = repr(item)
    return f"a {type(item).__name__} ({shown if len(shown) <= 60 else shown[:60] + '…'})"
