"""Read the JSON configurations of the original TWilBERT."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from twil.config.model import ClassifierConfig, EncoderConfig, ModelConfig, RopConfig, explain
from twil.config.pretraining import MaskingConfig
from twil.errors import ConfigError
from twil.task import Task, TaskKind

T = TypeVar("T")

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


@dataclass(frozen=True)
class OriginalPretraining:
    """An original configuration for pretraining in twil's terms.

    Attributes:
        config: Sections `model`, `objective`, `optimiser` and `train` for `pretrain_config`; the corpus is
            still to be made of the file of pairs.
        pairs_file: Tweets and replies, as written: the original looks in the working directory.
        vocab_file: The vocabulary, one piece per line, as written.
        max_length: The longest row in pieces: two texts and three special pieces.
        notes: What the file asks for that is done differently or left out, for the user to read.
    """

    config: dict[str, Any]
    pairs_file: Path
    vocab_file: Path
    max_length: int
    notes: tuple[str, ...]


def read_original(path: str | Path, *, vocab_size: int) -> OriginalConfig:
    """Read a configuration for pretraining, evaluation or fine-tuning.

    Args:
        path: The JSON file.
        vocab_size: Pieces in the vocabulary file.

    Raises:
        ConfigError: The file is absent, is no such configuration, or contradicts itself.
    """
    return _read(Path(path), lambda value: _translate(value, vocab_size))


def read_original_pretraining(path: str | Path) -> OriginalPretraining:
    """Read a configuration for pretraining.

    Raises:
        ConfigError: The file is absent, is for something else than pretraining, or contradicts itself.
    """
    return _read(Path(path), _translate_pretraining)


def _read(path: Path, translate: Callable[[Mapping[str, Any]], T]) -> T:
    """Read a JSON file and translate it; whatever it has wrong becomes one `ConfigError` that names it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not JSON, too long or too deep
        raise ConfigError(f"{path} is no JSON configuration: {error}") from error
    try:
        return translate(value)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, ModelConfig)}") from error
    except KeyError as error:
        raise ConfigError(f"{path} has no {error}: give one of the original's configuration files") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{path} is no configuration of the original TWilBERT ({error})") from error


def _translate(value: Mapping[str, Any], vocab_size: int) -> OriginalConfig:
    model, text_length = value["model"], _text_length(value)
    memory = _memory_of(model)
    rop = _rop(model)
    scale = 1.0 if not memory or memory["batch_norm"] else (1 + UNTRAINED_NORM_EPSILON) ** -0.5
    notes = _notes(model)
    if memory and not memory["batch_norm"]:
        notes.append("pkm_params.batch_norm false: its constant scale 1/√1.001 is folded into the queries")
    return OriginalConfig(
        model=ModelConfig(
            encoder=EncoderConfig(vocab_size=vocab_size, **_encoder(model, text_length)),
            mlm=True,
            rop=None if rop is None else RopConfig(**rop),
        ),
        max_length=_row_length(text_length),
        classifier=_classifier(value),
        query_scale=scale,
        notes=tuple(notes),
    )


def _text_length(value: Mapping[str, Any]) -> int:
    """Return the longest text in pieces that the model was made for."""
    representation = value["representation"]
    # The test configurations call the trained length `max_len_training`.
    length = int(representation.get("max_len_training") or representation["max_len"])
    if length < 1:
        raise ConfigError(f"representation.max_len is {length}, which leaves no room for text")
    return length


def _row_length(text_length: int) -> int:
    return 2 * text_length + 3


def _encoder(model: Mapping[str, Any], text_length: int) -> dict[str, Any]:
    """Give the fields of `EncoderConfig` but the vocabulary's size."""
    fields: dict[str, Any] = {
        "hidden_size": model["hidden_size"],
        "n_layers": model["n_encoders"],
        "n_heads": model["n_heads"],
        # Without heads, the encoder's own check says so.
        "head_size": model.get("attention_size") or model["hidden_size"] // (model["n_heads"] or 1),
        "share_layers": model["cross_sharing"],
        "max_positions": _row_length(text_length) + 1,
        "input_dropout": model.get("input_dropout") or 0.0,
        "output_dropout": model.get("output_dropout") or 0.0,
        "initializer_range": model.get("initializer_range") or 0.02,
    }
    if model["factorize_embeddings"]:
        fields["embedding_size"] = model["embedding_size"]
    if memory := _memory_of(model):
        fields["memory"] = _memory(memory)
    return fields


def _memory_of(model: Mapping[str, Any]) -> Mapping[str, Any] | None:
    memory: Mapping[str, Any] | None = model["pkm_params"] if model.get("pkm") else None
    return memory or None


def _memory(params: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of `MemoryConfig`."""
    return {
        "layers": list(params["in_layers"]),
        "n_heads": params["n_heads"],
        "n_keys": params["memory_size"],
        "key_size": params["k_dim"],
        "knn": params["knn"],
        # TWilBERT: its flag is inverted and its statistics are not saved; nothing is left to normalise with.
        "query_norm": False,
        "input_dropout": params.get("input_dropout") or 0.0,
        "output_dropout": params.get("output_dropout") or 0.0,
    }


def _rop(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the fields of `RopConfig`; None where reply order is not learned."""
    rop = model.get("rop") or {}
    if not rop.get("use_rop", bool(rop)):
        return None
    n_hidden = rop.get("n_hidden", 0)
    return {"n_hidden": n_hidden, **({"hidden_size": rop["hidden_size"]} if n_hidden else {})}


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


def _notes(model: Mapping[str, Any]) -> list[str]:
    notes = []
    memory = _memory_of(model)
    if model.get("output_dropout"):
        notes.append("output_dropout acts in training only; the original applies it when predicting too")
    if memory and memory.get("factorize_embeddings"):
        notes.append("pkm_params.factorize_embeddings is ignored: the original has no code behind it")
    return notes


class _Strict(BaseModel):
    """A section of the original's file; keys that it does not use are spoken of in notes."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Dataset(_Strict):
    file: str = Field(min_length=1)
    vocab_file: str = Field(min_length=1)


class _Shares(_Strict):
    mask: float
    random: float
    keep: float


class _Masking(_Strict):
    type: Literal["span", "word", "token"]  # the README writes `word`, the original's own files `token`
    max_span: PositiveInt = 3
    budget: float
    probs: _Shares


class _PretrainedModel(_Strict):
    masked_lm: _Masking


class _Training(_Strict):
    batch_size: PositiveInt
    epochs: PositiveInt
    accum_iters: PositiveInt = 1
    optimizer: str | None = None
    noam_annealing: bool = False
    warmup_steps: PositiveInt | None = None
    path_initial_weights: str | None = None


class _Pretraining(_Strict):
    dataset: _Dataset
    model: _PretrainedModel
    training: _Training


# Name in twil, further settings, and the rate that the original or Keras uses where Noam does not set it.
_OPTIMISERS: dict[str, tuple[str, dict[str, float], float]] = {
    "adam": ("twilbert-adam", {}, 1e-4),
    "lamb": ("lamb", {}, 0.00176),
    "keras-adam": ("Adam", {"eps": 1e-7}, 1e-3),
    "sgd": ("SGD", {}, 1e-2),
    "rmsprop": ("RMSprop", {"eps": 1e-7}, 1e-3),
    "adagrad": ("Adagrad", {"eps": 1e-7}, 1e-2),
    "adadelta": ("Adadelta", {"eps": 1e-7}, 1.0),
    "adamax": ("Adamax", {"eps": 1e-7}, 2e-3),
    "nadam": ("NAdam", {"eps": 1e-7}, 2e-3),
}

_READ = {
    *("dataset.file", "dataset.vocab_file", "representation.max_len", "representation.max_len_training"),
    *("model.factorize_embeddings", "model.cross_sharing", "model.embedding_size", "model.hidden_size"),
    *("model.n_encoders", "model.n_heads", "model.attention_size", "model.input_dropout"),
    *("model.output_dropout", "model.initializer_range", "model.pkm"),
    *("model.pkm_params.factorize_embeddings", "model.pkm_params.k_dim", "model.pkm_params.memory_size"),
    *("model.pkm_params.n_heads", "model.pkm_params.knn", "model.pkm_params.in_layers"),
    *("model.pkm_params.input_dropout", "model.pkm_params.output_dropout", "model.pkm_params.batch_norm"),
    *("model.masked_lm.type", "model.masked_lm.max_span", "model.masked_lm.budget"),
    *("model.masked_lm.probs.mask", "model.masked_lm.probs.random", "model.masked_lm.probs.keep"),
    *("model.rop.use_rop", "model.rop.n_hidden", "model.rop.hidden_size"),
    *("training.batch_size", "training.epochs", "training.optimizer", "training.noam_annealing"),
    *("training.warmup_steps", "training.accum_iters", "training.path_initial_weights"),
}
"""The settings that decide a run, by their paths in the file."""

_GPUS = "multi_gpu and n_gpus no longer apply: torchrun --nproc-per-node N -m twil pretrain … uses N GPUs"
_REPLACED = {
    "representation.bucket_": "bucket_min_a … bucket_steps no longer apply: rows are batched by length",
    "training.use_gpu": "use_gpu no longer applies: --device chooses, and is auto",
    "training.multi_gpu": _GPUS,
    "training.n_gpus": _GPUS,
    "training.path_save_weights": "path_save_weights no longer applies: the model folder is --output",
    "training.verbose": "verbose no longer applies: --quiet shows nothing",
}
"""What takes the place of settings that have no part in a run any more, by the start of their paths."""


def _translate_pretraining(value: Mapping[str, Any]) -> OriginalPretraining:
    _refuse_other_kinds(value)
    try:
        settings = _Pretraining.model_validate(value)
    except ValidationError as error:
        raise ConfigError(explain(error, _Pretraining)) from error
    model, training, text_length = value["model"], settings.training, _text_length(value)
    encoder, rop = _encoder(model, text_length), _rop(model)
    EncoderConfig(vocab_size=1, **encoder)  # what does not fit is said now, with the file's name
    optimiser, lr = _optimiser(training)
    return OriginalPretraining(
        config={
            "model": {"encoder": encoder, **({} if rop is None else {"rop": RopConfig(**rop).model_dump()})},
            "objective": {"rop": rop is not None, "masking": _masking(settings.model.masked_lm)},
            "optimiser": optimiser,
            "train": {
                "epochs": training.epochs,
                "batch_rows": training.batch_size * training.accum_iters,
                "clip": 1.0 if optimiser["name"] == "lamb" else 0.0,
                **_schedule(training, lr),
            },
        },
        pairs_file=Path(settings.dataset.file),
        vocab_file=Path(settings.dataset.vocab_file),
        max_length=_row_length(text_length),
        notes=(*_notes(model), *_pretraining_notes(model, settings, text_length), *_unused(value)),
    )


def _refuse_other_kinds(value: Mapping[str, Any]) -> None:
    if "finetuning" in value or "task" in value:
        raise ConfigError(
            "it describes a fine-tuning: pretraining needs a file with the section 'training'; twil finetune "
            "trains classifiers"
        )
    if "training" not in value:
        what = "an evaluation" if "test" in value else "no training"
        raise ConfigError(f"it describes {what}: pretraining needs a file with the section 'training'")


def _masking(masked: _Masking) -> dict[str, Any]:
    fields = {
        "kind": "span" if masked.type == "span" else "token",
        "budget": masked.budget,
        **masked.probs.model_dump(),
        **({"max_span": masked.max_span} if masked.type == "span" else {}),
    }
    MaskingConfig.model_validate(fields)
    return fields


def _optimiser(training: _Training) -> tuple[dict[str, Any], float]:
    """Give the section `optimiser`, and the rate that applies without Noam."""
    asked = "keras-adam" if training.optimizer is None else training.optimizer.lower()
    if asked not in _OPTIMISERS:
        known = ", ".join(name for name in _OPTIMISERS if name != "keras-adam")
        raise ConfigError(f"training.optimizer '{training.optimizer}' is none of {known}, null")
    name, options, lr = _OPTIMISERS[asked]
    return {"name": name, **options}, lr


def _schedule(training: _Training, lr: float) -> dict[str, Any]:
    if not training.noam_annealing:
        return {"schedule": "constant", "warmup": 0.0, "lr": lr}
    if training.warmup_steps is None:
        raise ConfigError("training.warmup_steps is missing: noam_annealing needs it")
    return {"schedule": "noam", "warmup": float(training.warmup_steps)}  # whose peak is the paper's


def _pretraining_notes(model: Mapping[str, Any], settings: _Pretraining, text_length: int) -> Iterator[str]:
    training = settings.training
    yield (
        f"max_len {text_length}: a pair may have {_row_length(text_length)} pieces in all, where the "
        f"original cuts each text at {text_length}"
    )
    yield f"epochs {training.epochs}: each is whole, where the original's ends after half of the samples"
    if training.optimizer is not None and training.optimizer.lower() == "lamb":
        yield "gradients are clipped at norm 1 once a step, where the original clips each micro-batch"
    if training.optimizer is None or training.optimizer.lower() not in ("adam", "lamb"):
        yield f"optimizer {training.optimizer or 'null'} becomes torch's, which may differ from that of Keras"
    if training.warmup_steps and not training.noam_annealing:
        yield "warmup_steps is not used: noam_annealing is off"
    if training.path_initial_weights:
        yield (
            f"path_initial_weights {training.path_initial_weights} is not read: bring the weights with twil "
            "import, and start from that folder with --init"
        )
    if _memory_of(model):
        yield (
            "pkm_params.batch_norm is not used: in the original's pretraining neither value normalises; "
            "model.encoder.memory.query_norm does"
        )
    elif model.get("pkm_params"):
        yield "pkm_params is not used: pkm is off"
    if (
        not model["factorize_embeddings"]
        and model.get("embedding_size", model["hidden_size"]) != (model["hidden_size"])
    ):
        yield "embedding_size is not used: factorize_embeddings is off"
    if settings.model.masked_lm.type != "span" and "max_span" in model["masked_lm"]:
        yield "masked_lm.max_span is not used: pieces are masked one by one"
    if "hidden_size" in (model.get("rop") or {}) and not (_rop(model) or {}).get("n_hidden"):
        yield "rop.hidden_size is not used: its head has no hidden layer"


def _unused(value: Mapping[str, Any]) -> list[str]:
    """Name every setting that decides nothing: those that something else replaces, and unknown ones."""
    notes: dict[str, None] = {}  # in their order, each once
    for path in _paths(value):
        if path in _READ:
            continue
        said = next((said for start, said in _REPLACED.items() if path.startswith(start)), None)
        notes[said or f"{path} is no setting of the original that twil knows: it is left out"] = None
    return list(notes)


def _paths(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Name the settings of a file, such as ``model.rop.n_hidden``."""
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            yield from _paths(entry, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
