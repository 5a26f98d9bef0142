"""The shape of a model: written once, in the model folder, and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from twil.core.errors import ConfigError
from twil.core.task import Task

Probability = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(gt=0, le=10**9)]
"""How many of something there are: rows, steps, tokens."""
Size = Annotated[int, Field(gt=0, le=1 << 17)]
"""How wide something is."""
Depth = Annotated[int, Field(gt=0, le=1024)]
"""How many of what lies one behind or beside the other, such as layers."""
Pooling = Literal["cls", "avg", "max", "concat"]


class Section(BaseModel):
    """A part of a configuration: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MemoryConfig(Section):
    """A product-key memory (Lample et al. 2019), which takes the feed-forward's place in some layers."""

    layers: tuple[int, ...]
    """Layers that have one, counted from 0."""
    n_heads: Depth = 4
    n_keys: Size = 256
    """Sub-keys per half; the memory has n_keys² slots."""
    key_size: Size = 512
    """Size of a query; each half has half of it."""
    knn: Size = 32
    """Slots read per head."""
    value_size: Size | None = None
    """Size of a slot's value; smaller than the hidden size, it is projected up (a factorised table)."""
    query_norm: bool = False
    """Normalise queries over the batch, with running statistics for prediction."""
    input_dropout: Probability = 0.0
    output_dropout: Probability = 0.0

    @model_validator(mode="after")
    def _check(self) -> MemoryConfig:
        if self.key_size % 2:
            raise ValueError(f"key_size is split into two halves and must be even, not {self.key_size}")
        if self.knn > self.n_keys:
            raise ValueError(f"knn ({self.knn}) cannot be larger than n_keys ({self.n_keys})")
        return self


class EncoderConfig(Section):
    """The encoder: everything that decides the shape or the values of its hidden states."""

    vocab_size: Annotated[int, Field(gt=0, le=10**7)]
    hidden_size: Size = 768
    n_layers: Depth = 6
    n_heads: Depth = 6
    head_size: Size = 64
    """Independent of hidden_size / n_heads."""
    intermediate_size: Size | None = None
    """Width of the feed-forward; 4 × hidden_size when left out."""
    embedding_size: Size | None = None
    """Set: embeddings of this size, projected to hidden_size through a tanh-GELU (factorised)."""
    share_layers: bool = False
    """All layers use the same weights."""
    max_positions: Annotated[int, Field(gt=0, le=1 << 20)] = 260
    input_dropout: Probability = 0.0
    """Drops whole channels of the embeddings."""
    output_dropout: Probability = 0.0
    """Drops values of what each sub-layer adds."""
    initializer_range: Annotated[float, Field(gt=0)] = 0.02
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-12
    memory: MemoryConfig | None = None

    @property
    def feed_forward_size(self) -> int:
        """The width of the feed-forward."""
        return self.intermediate_size or 4 * self.hidden_size

    @model_validator(mode="after")
    def _check(self) -> EncoderConfig:
        if self.memory and not all(0 <= layer < self.n_layers for layer in self.memory.layers):
            raise ValueError(f"memory.layers {list(self.memory.layers)} must lie in 0…{self.n_layers - 1}")
        return self


class RopConfig(Section):
    """The head for Reply Order Prediction."""

    n_hidden: Annotated[int, Field(ge=0, le=1024)] = 0
    hidden_size: Size = 512


class ClassifierConfig(Section):
    """The head of a fine-tuned model."""

    pooling: Pooling = "cls"
    special_tokens: bool = True
    """Whether [CLS] and [SEP] take part in an average or a maximum; never what `cls` reads."""
    dropout: Probability = 0.1
    head: str = "linear"
    """What maps a pooled row to logits: `linear`, or the name of a head of one's own (`register_head`)."""

    def has_weights_of(self, other: ClassifierConfig) -> bool:
        """Tell whether weights mean the same in both: nothing but the dropout differs."""
        return self == other.model_copy(update={"dropout": self.dropout})


class ModelConfig(Section):
    """A whole model: an encoder and the heads on it."""

    encoder: EncoderConfig
    mlm: bool = False
    tie_word_embeddings: bool = False
    """The masked-language head has the token embeddings for its weights, and a bias of its own."""
    rop: RopConfig | None = None
    classifier: ClassifierConfig | None = None
    task: Task | None = None

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if (self.classifier is None) != (self.task is None):
            raise ValueError("a classifier and its task come together")
        size = self.encoder.embedding_size
        if self.tie_word_embeddings and size not in (None, self.encoder.hidden_size):
            raise ValueError(
                f"tie_word_embeddings: embeddings of {size} cannot be the weights of a head"
                f" on hidden states of {self.encoder.hidden_size}"
            )
        return self

    def as_dict(self) -> dict[str, Any]:
        """Describe the model in JSON's types; `parse` reads it back."""
        return self.model_dump(mode="json")

    @classmethod
    def parse(cls, value: Any, *, source: str) -> ModelConfig:
        """Read what `as_dict` gave.

        Args:
            value: The decoded JSON.
            source: Where it comes from, for the error.

        Raises:
            ConfigError: It does not describe a model.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ConfigError(f"{source}: {explain(error, cls)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in one line what a configuration has wrong.

    Args:
        error: Of validating against `model`.
        model: Whose settings are listed where one is unknown.
    """
    faults = []
    for fault in error.errors():
        path = [str(part) for part in fault["loc"]]
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = f"there is no such setting; there are {', '.join(_settings(model, path[:-1]))}"
        elif fault["type"] == "missing":
            message = "is missing"
        faults.append(f"{'.'.join(path)}: {message}" if path else message)
    return "; ".join(faults)


def _settings(model: type[BaseModel], path: list[str]) -> list[str]:
    """List the settings of the section at `path`."""
    for name in path:
        annotation = model.model_fields[name].annotation
        kinds = get_args(annotation) or (annotation,)
        model = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
    return list(model.model_fields)


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "n_layers": 2, "n_heads": 2, "max_positions": 132},
    "small": {"hidden_size": 256, "n_layers": 4, "n_heads": 4, "max_positions": 132},
    "base": {"hidden_size": 768, "n_layers": 6, "n_heads": 6},
    "large": {"hidden_size": 768, "n_layers": 12, "n_heads": 12},
}
"""Encoders by name; `base` and `large` have the published shapes of TWilBERT."""


def preset(name: str, *, vocab_size: int, **changes: Any) -> EncoderConfig:
    """Give the encoder called `name` for a vocabulary.

    Args:
        name: One of `PRESETS`.
        vocab_size: Number of tokens.
        **changes: Fields of `EncoderConfig` that differ from the preset's.

    Raises:
        ConfigError: There is no such preset, or a change does not fit.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset '{name}': choose one of {', '.join(PRESETS)}")
    try:
        return EncoderConfig(vocab_size=vocab_size, **(PRESETS[name] | changes))
    except ValidationError as error:
        raise ConfigError(f"preset {name}: {explain(error, EncoderConfig)}") from error
