"""What a file of the original says of the weights that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twil.config.model import ClassifierConfig, EncoderConfig, ModelConfig, RopConfig
from twil.config.original.files import read_json
from twil.config.original.model import (
    difference_notes,
    encoder_fields,
    memory_of,
    rop_fields,
    row_length,
    text_length,
)
from twil.config.original.tasks import STANCE, order_categories, stance_labels
from twil.core.task import Task, TaskKind

# TWilBERT: a query batch norm that is never saved, and that divides by √(1 + ε) when predicting.
UNTRAINED_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class OriginalConfig:
    """An original configuration in twil's terms.

    Attributes:
        model: The encoder and the heads of pretraining.
        max_length: The longest row in tokens: two texts and three special tokens.
        preprocess: Whether addresses, mentions and the like are replaced in texts.
        classifier: Head and task, where the file describes a fine-tuning.
        query_scale: What the memory's queries are multiplied by when the original predicts.
        notes: What the file asks for that is done differently, for the user to read.
    """

    model: ModelConfig
    max_length: int
    preprocess: bool
    classifier: tuple[ClassifierConfig, Task] | None
    query_scale: float
    notes: tuple[str, ...]


def read_original(path: str | Path, *, vocab_size: int) -> OriginalConfig:
    """Read a configuration for pretraining, evaluation or fine-tuning.

    Args:
        path: The JSON file.
        vocab_size: Tokens in the vocabulary file.

    Raises:
        ConfigError: The file is absent, is no such configuration, or contradicts itself.
    """
    return read_json(Path(path), lambda value: _translate(value, vocab_size))


def _translate(value: Mapping[str, Any], vocab_size: int) -> OriginalConfig:
    model, length = value["model"], text_length(value)
    rop = rop_fields(model)
    return OriginalConfig(
        model=ModelConfig(
            encoder=EncoderConfig(vocab_size=vocab_size, **encoder_fields(model, length)),
            mlm=True,
            rop=None if rop is None else RopConfig(**rop),
        ),
        max_length=row_length(length),
        preprocess=bool(value["representation"].get("preprocessing", True)),
        classifier=_classifier(value),
        query_scale=(1 + UNTRAINED_NORM_EPSILON) ** -0.5 if _scales_queries(model) else 1.0,
        notes=tuple(weight_notes(model)),
    )


def weight_notes(model: Mapping[str, Any]) -> list[str]:
    """Say what the section `model` asks for that is done differently with the original's weights."""
    notes = difference_notes(model)
    if _scales_queries(model):
        notes.append("pkm_params.batch_norm false: its constant scale 1/√1.001 is folded into the queries")
    return notes


def _scales_queries(model: Mapping[str, Any]) -> bool:
    memory = memory_of(model)
    return memory is not None and not memory["batch_norm"]


def _classifier(value: Mapping[str, Any]) -> tuple[ClassifierConfig, Task] | None:
    if "task" not in value or "finetuning" not in value:
        return None
    task, settings = value["task"], value["finetuning"]
    if not task.get("categories"):
        return None
    labels = order_categories(task["categories"])
    kind: TaskKind = "multi-label" if task.get("multi_label") else "class"
    pair = bool(value.get("dataset", {}).get("aux_header"))
    head = ClassifierConfig(
        pooling=settings.get("collapse_mode", "cls"),
        special_tokens=settings.get("use_special_tokens", True),
    )
    scored = stance_labels(labels) if task.get("stance_f1") and len(labels) > max(STANCE) else ()
    return head, Task(kind, labels, pair=pair, scored=scored)
