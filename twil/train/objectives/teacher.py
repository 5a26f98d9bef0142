"""A teacher of a distillation: which texts it is asked, and what it says of each, kept in a store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twil.bundle.bundle import POOLED, TOKENIZER, TOKENS, Bundle, open_bundle
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError, DataError, ModelError
from twil.core.task import Task
from twil.data.survey.repeats import key_texts
from twil.data.teacher_store import PART_ROWS, Taught, TeacherStore
from twil.inference.engine import Engine
from twil.text.tokenizer import Encoded
from twil.text.vocabulary import texts_of

LOGITS = "logits"
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Asked:
    """The teacher has answered some texts more.

    Attributes:
        rows: Texts that are answered, those of an earlier sitting included.
        total: Texts that it is asked.
        asked: Texts that it has answered in this sitting.
        seconds: Time of this sitting.
    """

    rows: int
    total: int
    asked: int
    seconds: float


@dataclass(frozen=True)
class TextCounts:
    """What becomes of the texts of a distillation.

    Attributes:
        used: Different texts that the teacher is asked.
        repeated: Rows whose text has come before.
        blank: Rows without text.
        left_out: Rows whose text is one of those that are left out.
        dev: Rows whose text is one of dev.
        test: Rows whose text is one of test.
    """

    used: int = 0
    repeated: int = 0
    blank: int = 0
    left_out: int = 0
    dev: int = 0
    test: int = 0


class PupilTexts(Iterable[str]):
    """The different texts that a teacher is asked, read anew each time, in the same order.

    Args:
        files: Where they stand; see `texts_of`.
        columns: Their columns.
        reading: How they are read.
        first: Texts that come before those of the files, such as the labelled ones.
        without: Texts that are left out, also where they differ in links, mentions, punctuation or case.
        measured: Texts that are measured on, by their set's name, told apart in the same way.
        limit: The most texts.

    Attributes:
        first_used: Which of `first` are among them, in their order; known once they are counted.
        sha256: A SHA-256 of all of them, in their order; known then, too.
    """

    def __init__(
        self,
        files: Sequence[Path],
        columns: Sequence[str] | None,
        reading: Reading = AS_FOUND,
        *,
        first: Sequence[str] = (),
        without: Iterable[str] = (),
        measured: Mapping[str, Sequence[str]] | None = None,
        limit: int | None = None,
    ) -> None:
        self.files, self.columns, self.reading = files, columns, reading
        self.first, self.limit = first, limit
        self._apart = {
            key: name
            for name, texts in {**(measured or {}), "left_out": without}.items()
            for window in _windows(texts)
            for key in _keys(window).near.tolist()
        }
        self.first_used: list[int] = []
        self.sha256 = ""

    def __iter__(self) -> Iterator[str]:
        return islice((text for text, fate in self._fates() if fate == "used"), self.limit)

    def count(self) -> TextCounts:
        """Read all texts, and tell what becomes of them.

        Raises:
            DataError: A file cannot be read, or there is no text.
        """
        counts = dict.fromkeys(TextCounts.__dataclass_fields__, 0)
        self.first_used, digest = [], hashlib.sha256()
        for number, (text, fate) in enumerate(self._fates()):
            if fate == "used" and counts["used"] == self.limit:
                break
            counts[fate] += 1
            if fate == "used":
                digest.update(text.encode() + b"\0")
                if number < len(self.first):
                    self.first_used.append(number)
        if not counts["used"]:
            raise DataError("there is no text that the teacher could be asked", file=self.files[0])
        self.sha256 = digest.hexdigest()
        return TextCounts(**counts)

    def _fates(self) -> Iterator[tuple[str, str]]:
        seen: set[int] = set()
        for window in _windows(chain(self.first, texts_of(self.files, self.columns, self.reading))):
            keys = _keys(window)
            for text, same, near in zip(window, keys.same.tolist(), keys.near.tolist(), strict=True):
                if not same:
                    yield text, "blank"
                elif near in self._apart:
                    yield text, self._apart[near]
                elif same in seen:
                    yield text, "repeated"
                else:
                    seen.add(same)
                    yield text, "used"


class Teacher:
    """A bundle that is asked, or several classifiers whose mean probabilities count.

    Args:
        path: A classifier's bundle, or an encoder's.
        also: More classifiers' bundles of the same labels.

    Attributes:
        bundle: The first bundle.
        task: What a classifier is asked; None of an encoder.

    Raises:
        ModelError: One is neither, or damaged.
        ConfigError: One takes pairs, or they do not say the same kind of thing.
    """

    def __init__(self, path: Path, also: Sequence[Path] = ()) -> None:
        self._bundles: list[Bundle] = [open_bundle(each) for each in (path, *also)]
        self.bundle = self._bundles[0]
        self.task: Task | None = self.bundle.manifest.task
        for bundle in self._bundles:
            if bundle.manifest.kind == "fill-mask":
                raise ModelError(f"{bundle.folder} fills masks: a teacher is a classifier or an encoder")
            task = bundle.manifest.task
            if task is not None and task.pair:
                raise ConfigError(
                    f"{bundle.folder} reads pairs of texts, and students are taught single texts alone"
                )
            if bundle is not self.bundle and not _alike(self.task, task):
                raise ConfigError(
                    f"{bundle.folder} and {path} are no classifiers of the same labels: nothing else can be "
                    "averaged"
                )

    @property
    def sha256(self) -> str:
        """A SHA-256 of its graph, weights and tokenizer, or of those of all."""
        told = [bundle.manifest.files for bundle in self._bundles]
        decisive = "\n".join(
            files[name] for files in told for name in sorted(files) if name.startswith(("model.", TOKENIZER))
        )
        return hashlib.sha256(decisive.encode()).hexdigest()

    def ask(
        self,
        texts: Iterable[str],
        store: TeacherStore,
        parts: Iterable[int],
        should_stop: Callable[[], bool],
        *,
        threads: int,
    ) -> Iterator[Asked]:
        """Have the texts of some parts of a store answered.

        Args:
            texts: All texts of the store, in its order.
            store: Where the answers go.
            parts: Those that are missing in it, or this process's share of them.
            should_stop: Asked after every batch; true ends here, with the parts so far kept.
            threads: Of a teacher.

        Raises:
            ModelError: An answer is not finite, or too large for the store.
        """
        begin, asked = time.monotonic(), 0
        if not (own := set(parts)):
            return
        output = LOGITS if self.task else POOLED
        with ExitStack() as opened:
            engines = [
                opened.enter_context(Engine(bundle, output, pair=False, threads=threads, side_by_side=True))
                for bundle in self._bundles
            ]
            for part, window in enumerate(_windows(texts)):
                if part not in own:
                    continue
                try:
                    taught = self._answer(engines, window, should_stop)
                except _StopError:
                    return
                store.write(part, taught)
                own.remove(part)
                asked += len(window)
                yield Asked(
                    store.rows - sum(map(store.part_rows, own)), store.rows, asked, time.monotonic() - begin
                )
                if not own:
                    return

    def _answer(self, engines: list[Engine], texts: list[str], should_stop: Callable[[], bool]) -> Taught:
        first, *others = engines
        encoded = first.encode(texts)
        tokens = [np.asarray(ids, dtype=np.int32) for ids in encoded.input_ids]
        if self.task is None:
            return Taught(texts, tokens, *self._vectors(first, encoded, should_stop))
        answers = [self._logits(first, encoded, should_stop)]
        answers += [self._logits(engine, engine.encode(texts), should_stop) for engine in others]
        tasks = [bundle.manifest.task for bundle in self._bundles]
        return Taught(texts, tokens, mean_logits(self.task, tasks, answers), None)

    def _logits(
        self, engine: Engine, encoded: Encoded, should_stop: Callable[[], bool]
    ) -> NDArray[np.float32]:
        assert self.task is not None
        logits = np.empty((len(encoded.input_ids), self.task.outputs), np.float32)
        for batch in _until(should_stop, engine.output_batches(encoded)):
            logits[batch.rows] = batch.values
        return logits

    def _vectors(
        self, engine: Engine, encoded: Encoded, should_stop: Callable[[], bool]
    ) -> tuple[NDArray[np.float16], list[NDArray[np.float16]]]:
        rows = len(encoded.input_ids)
        vectors: list[Any] = [None] * rows
        tokens: list[Any] = [None] * rows
        for pooled, padded in _until(should_stop, engine.output_sets(encoded, (POOLED, TOKENS))):
            for row, vector, values in zip(pooled.rows, pooled.values, padded.values, strict=True):
                with np.errstate(over="ignore"):
                    vectors[row] = vector.astype(np.float16)
                    tokens[row] = values[: len(encoded.input_ids[row])].astype(np.float16)
        if not all(np.isfinite(array).all() for array in chain(vectors, tokens)):
            raise ModelError(
                f"{self.bundle.folder} gives vectors with numbers above {np.finfo(np.float16).max:.0f}, too "
                "large for float16: take another teacher"
            )
        return np.stack(vectors), tokens


def mean_logits(
    task: Task, tasks: Sequence[Task | None], logits: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Give the logits of the mean of several classifiers' probabilities; of numbers their mean.

    Args:
        task: Whose order of labels counts.
        tasks: Of each classifier, as `task` but for the order of the labels.
        logits: Of each, float32 ``(rows, L)``; those of a single one stay as they are.
    """
    if len(logits) == 1:
        return logits[0]
    given = []
    for own, values in zip(tasks, logits, strict=True):
        assert own is not None
        order = [own.labels.index(label) for label in task.labels]
        given.append(values[:, order].astype(np.float64))
    if task.kind == "regression":
        mean = np.mean(given, axis=0)
    elif task.kind == "multi-label":  # log p and log (1 - p), which do not vanish where logits are large
        yes, no = (np.logaddexp.reduce([-np.logaddexp(0, sign * each) for each in given]) for sign in (-1, 1))
        mean = yes - no
    else:
        logs = [each - np.logaddexp.reduce(each, axis=-1, keepdims=True) for each in given]
        mean = np.logaddexp.reduce(logs) - np.log(len(logs))
    return np.asarray(mean, dtype=np.float32)


def _alike(one: Task | None, other: Task | None) -> bool:
    if one is None or other is None:
        return False
    return (one.kind, set(one.labels)) == (other.kind, set(other.labels))


class _StopError(Exception):
    """The user wants to stop."""


def _until(should_stop: Callable[[], bool], batches: Iterable[Batch]) -> Iterator[Batch]:
    for batch in batches:
        if should_stop():
            raise _StopError
        yield batch


def _windows(texts: Iterable[str]) -> Iterator[list[str]]:
    items = iter(texts)
    while window := list(islice(items, PART_ROWS)):
        yield window


def _keys(texts: Sequence[str]) -> Any:
    return key_texts(texts, None, range(len(texts)))
