"""A bundle at work: texts to what its graph gives, whatever that is used for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from time import perf_counter
from typing import NamedTuple, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from twil.bundle.bundle import MANIFEST, Bundle
from twil.bundle.providers import ProviderChoice
from twil.bundle.session import Session
from twil.core.errors import ConfigError, ModelError
from twil.core.machine import usable_threads
from twil.data.batching import Int64Array, length_batches, pad_batch, pad_rows
from twil.data.tables.memory import find_columns
from twil.inference.texts import Text, Texts, check_texts, column_texts, item_texts
from twil.text.preparation import find_preparation
from twil.text.tokenizer import Encoded, encode, load_tokenizer

BATCH_TOKENS = 512
"""Tokens of a batch, pads included: enough to fill a CPU's cores, and few enough to stay in its caches."""
WINDOW_ROWS = 4096
"""Texts that are encoded and sorted by length together."""


class EngineOptions(TypedDict, total=False):
    """How a bundle is run; each may be left out.

    Attributes:
        provider: Where to run, as `Session` knows it.
        threads: CPU threads of the graph; all that the process may use when left out. The threads that turn
            texts into ids are those of the `tokenizers` library, which has one set for the whole process:
            `twil.text.tokenizer.bound_threads` bounds them, before the first text.
        batch_tokens: Tokens of a batch, pads included.
        side_by_side: Where there is no GPU, compute a batch on each thread, in place of one batch on all of
            them: faster for many texts, slower for one.
    """

    provider: ProviderChoice
    threads: int | None
    batch_tokens: int
    side_by_side: bool


class OutputBatch(NamedTuple):
    """What a graph gave for some rows.

    Attributes:
        rows: Their indices, int64 ``(rows,)``.
        values: One output of the graph, float32 ``(rows, …)``.
        repeated: Whether a row has the tokens of an earlier one, and its values; bool ``(rows,)``.
        member: Which of several models gave it.
    """

    rows: Int64Array
    values: NDArray[np.float32]
    repeated: NDArray[np.bool_]
    member: int = 0


class Engine:
    """A bundle's tokenizer and graph. May be called from several threads at once.

    What is given for a text does not depend on the texts beside it. Texts of the same tokens, as retweets
    are, are computed once where they come together. In a ``with`` block, the graph is let go at its end.

    Args:
        bundle: What to run.
        output: The output of the graph that is used.
        pair: Whether the input is two texts.
        text: The column with the text, where columns are given; see `named_columns` where it is left out.
        text_pair: The column with the second text, where the model takes pairs.
        provider: See `EngineOptions`, as of the others.
        threads: CPU threads of the graph.
        batch_tokens: Tokens of a batch.
        side_by_side: Whether a batch is computed on each thread.

    Attributes:
        bundle: The bundle.
        pair: Whether the input is two texts.
        session: Its graph; tells where it runs.
        threads: CPU threads.
        workers: How many batches are computed at a time.

    Raises:
        ConfigError: A batch has no token.
        ModelError: The bundle is damaged.
        ProviderError: The provider asked for cannot be had.
        MissingExtraError: ONNX Runtime is not installed, or what the preparation of texts needs.
    """

    def __init__(
        self,
        bundle: Bundle,
        output: str,
        *,
        pair: bool,
        text: str | None = None,
        text_pair: str | None = None,
        provider: ProviderChoice = "auto",
        threads: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        side_by_side: bool = False,
    ) -> None:
        if batch_tokens < 1:
            raise ConfigError(f"a batch cannot have {batch_tokens} tokens: ask for at least one")
        self.bundle = bundle
        self.pair = pair
        self.batch_tokens = batch_tokens
        self._output = output
        self._columns: tuple[str | None, ...] = (text,) if text_pair is None else (text, text_pair)
        self._tokenizer = load_tokenizer(bundle.tokenizer)
        self._check_length()
        self._check_preparation()
        self.threads = usable_threads(threads)
        streams = max(1, self.threads) if side_by_side else 1
        self.session = Session(bundle, provider=provider, threads=self.threads // streams, streams=streams)
        self.workers = self.session.streams

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the graph and its memory go; nothing can be computed any more."""
        self.session.close()

    def warm_up(self) -> float:
        """Compute the shortest and the largest batch, so that no caller waits for first times; in seconds."""
        begin = perf_counter()
        longest = self.bundle.manifest.max_length
        for rows, length in ((1, 1), (max(1, self.batch_tokens // longest), longest)):
            self.session.run(pad_batch([[self.bundle.manifest.pad_id] * length] * rows))
        return perf_counter() - begin

    def encode(self, texts: Sequence[Text]) -> Encoded:
        """Turn texts (or pairs, where the model takes them) into token ids, cut at the model's maximum."""
        return encode(self._tokenizer, texts)

    def read_texts(self, texts: Texts) -> Iterator[Text]:
        """Yield the texts (or pairs, where the model takes them) of whatever holds them, as they come.

        Raises:
            DataError: A text is none, there is no column of texts, or what is given has none at all.
        """
        columns = find_columns(texts)
        if columns is None:
            return item_texts(texts, pair=self.pair)
        check_texts(self.bundle, self._columns, pair=self.pair)
        return column_texts(columns, self._columns)

    def encoded_windows(self, texts: Texts) -> Iterator[Encoded]:
        """Encode texts as they come, `WINDOW_ROWS` at a time.

        Raises:
            DataError: As `read_texts` does.
        """
        items = self.read_texts(texts)
        while window := list(islice(items, WINDOW_ROWS)):
            yield self.encode(window)

    def output_batches(self, encoded: Encoded, output: str | None = None) -> Iterator[OutputBatch]:
        """Compute encoded texts batch by batch; rows of the same tokens share one row of it.

        Args:
            encoded: The texts.
            output: An output of the graph; the engine's own when left out.
        """
        for batches in self.output_sets(encoded, (output or self._output,)):
            yield batches[0]

    def output_sets(self, encoded: Encoded, outputs: Sequence[str]) -> Iterator[list[OutputBatch]]:
        """Compute encoded texts batch by batch, and give several outputs of the graph for each."""
        if self.workers == 1:
            yield from (self._run(encoded, sharing, outputs) for sharing in self._batches(encoded))
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="predict") as pool:
            batches = self._batches(encoded)
            futures = [pool.submit(self._run, encoded, sharing, outputs) for sharing in batches]
            try:
                yield from (future.result() for future in futures)
            finally:
                pool.shutdown(cancel_futures=True)

    def submit(
        self, encoded: Encoded, pool: Executor, output: str | None = None, *, member: int = 0
    ) -> list[Future[OutputBatch]]:
        """Have the batches of encoded texts computed by a pool; give what will come of each, in order."""
        named = (output or self._output,)
        batches = self._batches(encoded)
        return [pool.submit(self._run_one, encoded, sharing, named, member) for sharing in batches]

    def is_empty(self, encoded: Encoded) -> NDArray[np.bool_]:
        """Tell per row whether the text left nothing to read but the special tokens; bool ``(rows,)``."""
        special = self._tokenizer.num_special_tokens_to_add(is_pair=self.pair)
        return np.array([len(ids) == special for ids in encoded.input_ids], dtype=np.bool_)

    def _batches(self, encoded: Encoded) -> Iterator[list[list[int]]]:
        """Group rows into batches of like length; a batch is lists of rows of the same tokens."""
        alike = _alike(encoded)
        for chosen in length_batches([len(encoded.input_ids[rows[0]]) for rows in alike], self.batch_tokens):
            yield [alike[index] for index in chosen]

    def _run_one(
        self, encoded: Encoded, sharing: list[list[int]], outputs: Sequence[str], member: int
    ) -> OutputBatch:
        return self._run(encoded, sharing, outputs, member)[0]

    def _run(
        self, encoded: Encoded, sharing: list[list[int]], outputs: Sequence[str], member: int = 0
    ) -> list[OutputBatch]:
        firsts = [rows[0] for rows in sharing]
        pad_id = self.bundle.manifest.pad_id
        batch = pad_rows(encoded.input_ids, encoded.segment_ids, firsts, pad_id=pad_id)
        given = self.session.run(batch)
        rows = np.array([row for rows in sharing for row in rows], dtype=np.int64)
        repeated = np.array([place > 0 for rows in sharing for place in range(len(rows))], dtype=np.bool_)
        found = []
        for output in outputs:
            values = given[output]
            finite = np.isfinite(values).reshape(len(firsts), -1).all(axis=1)
            if not finite.all():
                raise self._not_finite(encoded.input_ids[firsts[int(finite.argmin())]])
            if repeated.any():
                values = np.repeat(values, [len(rows) for rows in sharing], axis=0)
            found.append(OutputBatch(rows, values, repeated, member))
        return found

    def _not_finite(self, ids: list[int]) -> ModelError:
        text = self._tokenizer.decode(ids)
        manifest = self.bundle.manifest
        cure = "in fp32" if manifest.precision == "fp16" else "from weights that are sound"
        return ModelError(
            f"{self.bundle.folder} gives numbers that are not finite (NaN or infinity) for the text "
            f"'{text[:60]}{'…' if len(text) > 60 else ''}': export the model again, {cure}"
        )

    def _check_preparation(self) -> None:
        found = find_preparation(self._tokenizer, source=str(self.bundle.tokenizer))
        if (found.record if found else {}) != self.bundle.manifest.preparation:
            raise ModelError(
                f"{self.bundle.tokenizer} and {MANIFEST} name different preparations of texts: "
                "export the model again"
            )

    def _check_length(self) -> None:
        truncation = self._tokenizer.truncation or {}
        if truncation.get("max_length") != self.bundle.manifest.max_length:
            raise ModelError(
                f"{self.bundle.tokenizer} cuts at {truncation.get('max_length')} tokens, and the model reads "
                f"{self.bundle.manifest.max_length}: export the model again"
            )


def _alike(encoded: Encoded) -> list[list[int]]:
    """Group the rows that hold the same tokens, in the order of the first of each."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, ids in enumerate(encoded.input_ids):
        key = (*ids, -1, *encoded.segment_ids[row]) if encoded.segment_ids else tuple(ids)
        groups.setdefault(key, []).append(row)
    return list(groups.values())
