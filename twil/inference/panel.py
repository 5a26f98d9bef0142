"""Several classifiers that label the same texts in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twil.bundle.bundle import TOKENIZER
from twil.inference.columns import Tasks
from twil.inference.engine import OutputBatch
from twil.inference.predictor import Predictor
from twil.inference.resume import run_settings
from twil.inference.texts import Text
from twil.text.tokenizer import Encoded


@dataclass(frozen=True)
class PanelEncoded(Encoded):
    """The ids of the first model, what any model cut, and the ids of each.

    Attributes:
        members: Those of each model; of one tokenizer the same object.
    """

    members: tuple[Encoded, ...]


class Panel:
    """Works as an `Engine` does, for one model or several, whose logits stand side by side.

    A text is turned into ids once for all models of the same tokenizer. What a model says of a row is what it
    says alone: its batches are the same.

    Args:
        predictors: The models by their names.

    Attributes:
        predictors: The models.
        tasks: What the model is asked; of several, what each is, by its name.
        workers: How many batches are computed at a time.
    """

    def __init__(self, predictors: Mapping[str, Predictor]) -> None:
        self.predictors = tuple(predictors.values())
        tasks = {name: predictor.task for name, predictor in predictors.items()}
        self.tasks: Tasks = self.predictors[0].task if len(predictors) == 1 else tasks
        self.workers = max(predictor.workers for predictor in self.predictors)

    def encode(self, texts: Sequence[Text]) -> PanelEncoded:
        """Turn texts into the ids of each model."""
        made: dict[tuple[str, int], Encoded] = {}
        for predictor in self.predictors:
            if (reading := _reading(predictor)) not in made:
                made[reading] = predictor.encode(texts)
        members = tuple(made[_reading(predictor)] for predictor in self.predictors)
        truncated = np.logical_or.reduce([encoded.truncated for encoded in made.values()])
        return PanelEncoded(members[0].input_ids, members[0].segment_ids, truncated, members)

    def submit(
        self, encoded: Encoded, pool: Executor, output: str | None = None
    ) -> list[Future[OutputBatch]]:
        """Have the batches of all models computed by a pool; those of the first come last."""
        assert isinstance(encoded, PanelEncoded)
        return [
            future
            for member in reversed(range(len(self.predictors)))
            for future in self.predictors[member].submit(encoded.members[member], pool, output, member=member)
        ]

    def is_empty(self, encoded: Encoded) -> NDArray[np.bool_]:
        """Tell per row whether some model finds nothing to read; bool ``(rows,)``."""
        assert isinstance(encoded, PanelEncoded)
        empty = np.zeros(len(encoded.input_ids), dtype=np.bool_)
        for predictor, own in zip(self.predictors, encoded.members, strict=True):
            empty |= predictor.is_empty(own)
        return empty

    def gather(self, encoded: Encoded, batches: Iterable[OutputBatch]) -> NDArray[np.float32]:
        """Lay logits out in the order of the texts, model beside model: float32 ``(rows, all outputs)``."""
        assert isinstance(encoded, PanelEncoded)
        own: list[list[OutputBatch]] = [[] for _ in self.predictors]
        for batch in batches:
            own[batch.member].append(batch)
        members = zip(self.predictors, encoded.members, own, strict=True)
        return np.concatenate([predictor.gather(ids, done) for predictor, ids, done in members], axis=1)

    def settings(self, window_rows: int) -> Mapping[str, str]:
        """Say what decides every digit of the logits, as `run_settings` does of one model."""
        own = [run_settings(predictor, window_rows) for predictor in self.predictors]
        return {key: "\n".join(settings[key] for settings in own) for key in own[0]}


def _reading(predictor: Predictor) -> tuple[str, int]:
    """Return what decides the ids of a text."""
    manifest = predictor.bundle.manifest
    return manifest.files[TOKENIZER], manifest.max_length
