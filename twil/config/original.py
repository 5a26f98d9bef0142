"""Read the JSON configurations of the original TWilBERT."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from twil.config.model import ClassifierConfig, EncoderConfig, MemoryConfig, ModelConfig, RopConfig, explain
from twil.errors import ConfigError
from twil.task import Task, TaskKind

# TWilBERT: a query batch norm that is never saved, and that divides by √(1 + ε) when predicting.
UNTRAINED_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class OriginalConfig:
    """An original configuration in twil's terms.

    Attributes:
        model: The encoder and the heads of pretraining.
        max_length: The longest row in pieces: two texts and three special pieces.
        classifier: Head and task, where the file describes a fine-tuning.
        query_scale: What the memory's queries are multiplied by when the original predicts.
        notes: What the file asks for that is done differently, for the user to read.
    """

    model: ModelConfig
    max_length: int
    classifier: tuple[ClassifierConfig, Task] | None
    query_scale: float
    notes: tuple[str, ...]


def read_original(path: str | Path, *, vocab_size: int) -> OriginalConfig:
    """Read a configuration for pretraining, evaluation or fine-tuning.

    Args:
        path: The JSON file.
        vocab_size: Pieces in the vocabulary file.

    Raises:
        ConfigError: The file is absent, is no such configuration, or contradicts itself.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not JSON, too long or too deep
        raise ConfigError(f"{path} is no JSON configuration: {error}") from error
    try:
        return _translate(value, vocab_size)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, ModelConfig)}") from error
    except KeyError as error:
        raise ConfigError(f"{path} has no {error}: give one of the original's configuration files") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{path} is no configuration of the original TWilBERT ({error})") from error


def _translate(value: Mapping[str, Any], vocab_size: int) -> OriginalConfig:
    model, representation = value["model"], value["representation"]
    # The test configurations call the trained length `max_len_training`.
    text_length = int(representation.get("max_len_training") or representation["max_len"])
    if text_length < 1:
        raise ConfigError(f"representation.max_len is {text_length}, which leaves no room for text")
    memory = model["pkm_params"] if model.get("pkm") else None
    encoder = EncoderConfig(
        vocab_size=vocab_size,
        hidden_size=model["hidden_size"],
        n_layers=model["n_encoders"],
        n_heads=model["n_heads"],
        # Without heads, the encoder's own check says so.
        head_size=model.get("attention_size") or model["hidden_size"] // (model["n_heads"] or 1),
        embedding_size=model["embedding_size"] if model["factorize_embeddings"] else None,
        share_layers=model["cross_sharing"],
        max_positions=2 * text_length + 4,
        input_dropout=model.get("input_dropout") or 0.0,
        output_dropout=model.get("output_dropout") or 0.0,
        initializer_range=model.get("initializer_range") or 0.02,
        memory=_memory(memory) if memory else None,
    )
    rop = model.get("rop") or {}
    rop_config = None
    if rop.get("use_rop", bool(rop)):
        n_hidden = rop.get("n_hidden", 0)
        rop_config = RopConfig(n_hidden=n_hidden, hidden_size=rop["hidden_size"] if n_hidden else 512)
    scale = 1.0 if not memory or memory["batch_norm"] else (1 + UNTRAINED_NORM_EPSILON) ** -0.5
    return OriginalConfig(
        model=ModelConfig(encoder=encoder, mlm=True, rop=rop_config),
        max_length=2 * text_length + 3,
        classifier=_classifier(value),
        query_scale=scale,
        notes=tuple(_notes(model, memory)),
    )


def _memory(params: Mapping[str, Any]) -> MemoryConfig:
    return MemoryConfig(
        layers=tuple(params["in_layers"]),
        n_heads=params["n_heads"],
        n_keys=params["memory_size"],
        key_size=params["k_dim"],
        knn=params["knn"],
        # TWilBERT: its flag is inverted and its statistics are not saved; nothing is left to normalise with.
        query_norm=False,
        input_dropout=params.get("input_dropout") or 0.0,
        output_dropout=params.get("output_dropout") or 0.0,
    )


def _classifier(value: Mapping[str, Any]) -> tuple[ClassifierConfig, Task] | None:
    if "task" not in value or "finetuning" not in value:
        return None
    task, settings = value["task"], value["finetuning"]
    categories = sorted(task["categories"].items(), key=lambda item: int(item[1]))
    labels = tuple(str(name) for name, _ in categories)
    kind: TaskKind = "multi-label" if task.get("multi_label") else "class"
    pair = bool(value.get("dataset", {}).get("aux_header"))
    head = ClassifierConfig(pooling=settings.get("collapse_mode", "cls"))
    return head, Task(kind, labels, pair=pair)


def _notes(model: Mapping[str, Any], memory: Mapping[str, Any] | None) -> list[str]:
    notes = []
    if model.get("output_dropout"):
        notes.append("output_dropout acts in training only; the original applies it when predicting too")
    if memory and memory.get("factorize_embeddings"):
        notes.append("pkm_params.factorize_embeddings is ignored: the original has no code behind it")
    if memory and not memory["batch_norm"]:
        notes.append("pkm_params.batch_norm false: its constant scale 1/√1.001 is folded into the queries")
    return notes
