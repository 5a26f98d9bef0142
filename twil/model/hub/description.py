"""What a transformers folder says of its model, read from `config.json` without the library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from twil.config.model import ClassifierConfig, explain
from twil.core.errors import ConfigError, ModelError
from twil.core.task import Task, TaskKind
from twil.model.hub.sentence import SentenceModules

CONFIG = "config.json"
OWN = "twil"
"""Where twil writes in that file what the library has no place for."""

CLASSIFIER = "ForSequenceClassification"
ASSUMED = "does not say its problem_type"
"""What a warning says of a folder whose task is assumed."""
_HEADED = re.compile("For[A-Z]")  # a RoFormerModel has no head
_MLM = ("ForMaskedLM", "ForPreTraining", "WithLMHeadModel")
_GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_KINDS: dict[str, TaskKind] = {
    "single_label_classification": "class",
    "multi_label_classification": "multi-label",
    "regression": "regression",
}


@dataclass(frozen=True)
class HubDescription:
    """What `config.json` says.

    Attributes:
        path: The file.
        config: All of it.
        sentence: What sentence-transformers wrote beside it; None where it did not.
        own_tokens: Whether the `tokenizer.json` beside it is as twil wrote it, with the length of rows.
        name: What the model is called on the hub, where it was asked for by that name.
        preparation: How texts are to be prepared for it, by the user's choice; None where nothing is chosen.
    """

    path: Path
    config: dict[str, Any]
    sentence: SentenceModules | None = None
    own_tokens: bool = False
    name: str = ""
    preparation: str | None = None

    @classmethod
    def parse(
        cls, path: Path, config: dict[str, Any], sentence: SentenceModules | None = None
    ) -> HubDescription:
        """Take what the file says.

        Raises:
            ModelError: It describes no encoder.
        """
        if not isinstance(config.get("model_type"), str):
            raise ModelError(
                f"{path} does not say which type of model it describes: copy the folder again, or add the "
                'type that it lacks, such as "model_type": "bert"'
            )
        described = cls(path, config, sentence)
        described.check_reads()
        return described

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self.path.parent

    @property
    def architecture(self) -> str:
        """The name of the network's class; empty where it is not told."""
        named = self.config.get("architectures")
        return str(named[0]) if isinstance(named, list) and named else ""

    @property
    def is_classifier(self) -> bool:
        """Whether the folder holds a trained classifier."""
        return self.architecture.endswith(CLASSIFIER) or self.own_classifier is not None

    @property
    def own_classifier(self) -> ClassifierConfig | None:
        """The classifier that twil put on the library's encoder; None without one, or with the library's own.

        Raises:
            ModelError: It is not described as one.
        """
        told = self.own.get("classifier")
        try:
            return None if told is None else ClassifierConfig.model_validate(told)
        except ValidationError as error:
            raise ModelError(f"{self.path}: {explain(error, ClassifierConfig)}") from error

    @property
    def input_dropout(self) -> float:
        """The share of channels of the embeddings that training drops in each row."""
        told = self.own.get("input_dropout", 0.0)
        return float(told) if isinstance(told, int | float) else 0.0

    @property
    def may_have_mlm(self) -> bool:
        """Whether the folder may hold a masked-language head."""
        return self.architecture.endswith(_MLM) and not self.architecture.endswith(CLASSIFIER)

    @property
    def other_head(self) -> bool:
        """Whether the folder holds a head that twil does not read, such as one that labels tokens."""
        headed = _HEADED.search(self.architecture) is not None
        return headed and not (self.is_classifier or self.architecture.endswith(_MLM))

    @property
    def assumption(self) -> str:
        """What is assumed of the classifier's task, since the folder does not say it; empty where it does."""
        if not self.is_classifier or self.own.get("task") or self.config.get("problem_type"):
            return ""
        kinds = {kind: name for name, kind in _KINDS.items()}
        taken = {"class": "one label of several", "regression": "a number"}[self._kind]
        return (
            f"{self.path} {ASSUMED}, and the model is taken to give {taken}: if it gives any number of labels"
            f', add "problem_type": "{kinds["multi-label"]}" (to score it, --task multi-label)'
        )

    @property
    def own(self) -> Mapping[str, Any]:
        """What twil wrote; empty where it did not."""
        value = self.config.get(OWN)
        return value if isinstance(value, dict) else {}

    @property
    def made_from(self) -> str:
        """The hub's name of the model that this one was made from, or a path; empty where none is told."""
        told = self.config.get("_name_or_path")
        return told if isinstance(told, str) else ""

    @property
    def task(self) -> Task | None:
        """What the classifier is asked; None without one.

        Raises:
            ModelError: The labels do not describe a task.
        """
        if not self.is_classifier:
            return None
        try:
            own = self.own.get("task")
            return under_names(Task.from_dict(own) if own else None, Task(self._kind, self._labels))
        except ConfigError as error:
            raise ModelError(f"{self.path}: {error}") from error

    def check_reads(self) -> None:
        """Refuse a model that writes texts.

        Raises:
            ModelError: It is one.
        """
        decodes = self.config.get("is_encoder_decoder") or self.config.get("is_decoder")
        if decodes or (self.architecture.endswith(_GENERATIVE) and not self.architecture.endswith(_MLM)):
            kind = self.architecture or self.config["model_type"]
            raise ModelError(
                f"{self.path} describes a generative model ({kind}), and twil reads encoders: give one that "
                "was trained to fill masks, such as BERT, RoBERTa or DistilBERT"
            )

    @property
    def _kind(self) -> TaskKind:
        told = self.config.get("problem_type")
        if told is not None and not (isinstance(told, str) and told in _KINDS):
            raise ModelError(
                f"{self.path}: there is no problem_type {told!r}: choose one of {', '.join(_KINDS)}"
            )
        return _KINDS[told] if told else "regression" if len(self._labels) == 1 else "class"

    @property
    def _labels(self) -> tuple[str, ...]:
        names = self.config.get("id2label")
        try:
            names = names or {place: f"LABEL_{place}" for place in range(self.config.get("num_labels", 2))}
            places = {int(place): str(name) for place, name in names.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelError(f"{self.path}: id2label does not name the outputs") from error
        if sorted(places) != list(range(len(places))):
            raise ModelError(f"{self.path}: id2label does not name the outputs from 0 onwards")
        return tuple(places[place] for place in sorted(places))


def under_names(own: Task | None, named: Task) -> Task:
    """Give the task that twil wrote under the names of the library's labels, where it is one of as many.

    The library carries on what twil wrote, also where labels were changed since; and knows nothing of pairs,
    temperatures and thresholds.
    """
    if own is None or (own.kind, own.outputs) != (named.kind, named.outputs):
        return named
    return own.renamed(dict(zip(own.labels, named.labels, strict=True)))
