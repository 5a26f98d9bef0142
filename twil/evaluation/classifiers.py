"""Classifiers at work on labelled rows: model folders in torch, bundles in ONNX Runtime."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.bundle.architecture import Architecture
from twil.bundle.bundle import is_bundle, open_bundle
from twil.bundle.external import external_files
from twil.core.errors import ConfigError, ModelError, ModelWarning
from twil.core.task import NO_NAMES, Task, TaskKind
from twil.inference.predictor import Predictor, classifier_task

WARM_UP_ROWS = 32
"""The first rows are answered once before the time of all is taken."""

TextRows = Sequence[str | tuple[str, str]]


@dataclass(frozen=True)
class Answered:
    """What a classifier says of some rows.

    Attributes:
        logits: float32 ``(rows, outputs)``, in the order of the rows.
        truncated: Rows cut at the longest length.
        seconds: Time of encoding and inference.
    """

    logits: NDArray[np.float32]
    truncated: int
    seconds: float


class Classifier(ABC):
    """A classifier that is ready to answer.

    Attributes:
        task: What it is asked.
        runtime: What computes, such as ``torch on cpu``.
        precision: Of its arithmetic.
        architecture: What it is made of; None where a bundle does not say.
        size: Bytes of its weights on disk.
    """

    task: Task
    runtime: str
    precision: str
    architecture: Architecture | None
    size: int

    def answer(self, rows: TextRows, *, warm_up: bool = True) -> Answered:
        """Answer rows, once the first of them have been answered for what first times take."""
        if warm_up:
            self._compute(rows[:WARM_UP_ROWS])
        begin = perf_counter()
        logits, truncated = self._compute(rows)
        return Answered(logits, truncated, perf_counter() - begin)

    @abstractmethod
    def close(self) -> None:
        """Let the weights go; nothing can be answered any more."""

    @abstractmethod
    def _compute(self, rows: TextRows) -> tuple[NDArray[np.float32], int]:
        """Give logits, and how many rows were cut."""


class _Folder(Classifier):
    def __init__(self, path: Path, batch_tokens: int, device: str) -> None:
        # Here, not above: a bundle is scored without torch.
        from twil.model.folder import load_with_tokenizer, locate
        from twil.model.weights import weights_files
        from twil.train.devices import choose_device

        self._model, self._tokenizer = load_with_tokenizer(path)
        self._batch_tokens = batch_tokens
        self.task = self._model.task
        place = choose_device(device, "fp32")
        self._model.to(place)
        self.runtime, self.precision = f"torch on {place.type}", "fp32"
        self.architecture = self._model.architecture
        self.size = sum(file.stat().st_size for file in weights_files(locate(path)))

    def _compute(self, rows: TextRows) -> tuple[NDArray[np.float32], int]:
        from twil.train.objectives.classification import compute_logits, encode_rows

        encoded = encode_rows(rows, np.empty(0), self._tokenizer)  # what is true is not asked here
        return compute_logits(self._model, encoded, self._batch_tokens), encoded.truncated

    def close(self) -> None:
        del self._model


class _Bundle(Classifier):
    def __init__(self, path: Path, batch_tokens: int, device: str) -> None:
        provider: Any = device  # checked there
        self._predictor = Predictor(path, provider=provider, batch_tokens=batch_tokens)
        bundle, session = self._predictor.bundle, self._predictor.session
        self.task = self._predictor.task
        self.runtime, self.precision = f"ONNX Runtime on {session.provider}", bundle.manifest.precision
        self.architecture = session.architecture
        files = [bundle.graph, *(bundle.folder / name for name in external_files(bundle.graph))]
        self.size = sum(file.stat().st_size for file in files)

    def _compute(self, rows: TextRows) -> tuple[NDArray[np.float32], int]:
        encoded = self._predictor.encode(rows)
        return self._predictor.logits(encoded), int(encoded.truncated.sum())

    def close(self) -> None:
        self._predictor.close()


def training_seconds(path: str | Path) -> float | None:
    """Give the time that a model folder records of its training; None where there is no record."""
    if is_bundle(path):
        return None
    from twil.model.folder import locate, read_run

    seconds = read_run(locate(path)).get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else None


def read_task(path: str | Path) -> Task:
    """Read what a classifier is asked, without loading it.

    Args:
        path: A model folder or a bundle.

    Raises:
        ModelError: There is no classifier.
    """
    if is_bundle(path):
        return classifier_task(open_bundle(path))
    from twil.model.folder import describe

    task = describe(path).task
    if task is None:
        raise ModelError(f"{path} has no classifier yet: make one with twil finetune")
    return task


@contextmanager
def open_classifier(
    path: str | Path,
    *,
    map_labels: Mapping[str, str] = NO_NAMES,
    kind: TaskKind | None = None,
    batch_tokens: int = 1024,
    device: str = "auto",
) -> Iterator[Classifier]:
    """Give the classifier at a path; its memory is free once the block has ended.

    Args:
        path: A model folder or a bundle.
        map_labels: Other names for some of its labels.
        kind: What it is asked, where its folder leaves that open.
        batch_tokens: Tokens per batch, pads included.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: `map_labels` names a label that it does not have, or it says itself that it is asked
            something else than `kind`.
        ModelError: There is none.
        ProviderError: A bundle cannot run where it should.
        MissingExtraError: What computes is not installed.
    """
    with warnings.catch_warnings():
        if kind is not None:
            from twil.model.hub.description import ASSUMED

            warnings.filterwarnings("ignore", f".* {ASSUMED}", ModelWarning)
        classifier = (_Bundle if is_bundle(path) else _Folder)(Path(path), batch_tokens, device)
    try:
        if kind not in (None, classifier.task.kind):
            classifier.task = _other_kind(path, classifier.task, kind)
        classifier.task = classifier.task.renamed(map_labels)
        yield classifier
    finally:
        classifier.close()


def _other_kind(path: str | Path, task: Task, kind: TaskKind) -> Task:
    """Give another kind of task, where a folder leaves it open."""
    from twil.model.folder import describe

    hub = None if is_bundle(path) else describe(path).hub
    if hub is None or not hub.assumption:
        raise ConfigError(f"{path} says itself that its task is {task.kind}, not {kind}: leave --task out")
    return Task(kind, task.labels, pair=task.pair)
