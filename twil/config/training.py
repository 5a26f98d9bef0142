"""Typed options of the training loop and of a fine-tuning run, read from TOML and from the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from twil.config.model import (
    ClassifierConfig,
    EncoderConfig,
    Pooling,
    Probability,
    Section,
    explain,
    preset,
)
from twil.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Schedule = Literal["linear", "cosine", "noam", "constant"]

LOG = "log.jsonl"
"""The log of a run, beside its checkpoints while it goes on and in its model folder when it is done."""

FRESH_LR, TUNING_LR = 5e-4, 5e-5
"""Default peak learning rates: for an encoder drawn anew, and for one that is trained already."""


class DataConfig(Section):
    """The labelled files and their columns."""

    train: Path
    dev: Path
    test: Path | None = None
    text: str = "TEXT"
    label: str = "CLASS"
    labels: tuple[str, ...] | None = None
    """Label names in the order of the outputs; found in `train` and sorted when left out."""


class ClassifierChoice(Section):
    """What the classifier is to be; what is left out is as in the folder that the model starts from."""

    pooling: Pooling | None = None
    dropout: Probability | None = None

    def apply(self, own: ClassifierConfig | None) -> ClassifierConfig:
        """Give the head, from the one that the model has already, if any."""
        return (own or ClassifierConfig()).model_copy(update=self.model_dump(exclude_none=True))


class OriginConfig(Section):
    """Where a model comes from: a model folder, or a preset or a shape drawn anew."""

    folder: Path | None = None
    init: str | None = None
    """A preset's name; what `encoder` gives differs from it."""
    encoder: dict[str, Any] = Field(default_factory=dict)
    """Fields of the encoder's configuration; the vocabulary's size is the tokenizer's."""

    @property
    def is_drawn(self) -> bool:
        """Whether the weights are to be drawn anew."""
        return self.init is not None or bool(self.encoder)

    def draw(self, *, vocab_size: int) -> EncoderConfig:
        """Give the encoder to draw anew, for a vocabulary of that many pieces.

        Raises:
            ConfigError: There is no such preset, or a field of the encoder does not fit.
        """
        if "vocab_size" in self.encoder:
            raise ConfigError("model.encoder: vocab_size is that of the tokenizer: leave it out")
        try:
            if self.init is not None:
                return preset(self.init, vocab_size=vocab_size, **self.encoder)
            return EncoderConfig(vocab_size=vocab_size, **self.encoder)
        except (ValidationError, TypeError) as error:
            said = explain(error, EncoderConfig) if isinstance(error, ValidationError) else str(error)
            raise ConfigError(f"model.encoder: {said}") from error


class StartConfig(OriginConfig):
    """Where a classifier starts, and what it is to be."""

    tokenizer: Path | None = None
    """Of the pieces of an encoder drawn anew; a model folder has its own."""
    classifier: ClassifierChoice = ClassifierChoice()
    input_dropout: Probability | None = None
    output_dropout: Probability | None = None
    """Dropouts of the encoder during this run; the model's own when left out."""
    max_length: Annotated[int, Field(ge=3)] | None = None
    """The longest row in pieces; the tokenizer's own limit when left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.folder is None) == (not self.is_drawn):
            raise ValueError("give either a model folder (--model) or a preset to draw anew (--init)")
        if self.is_drawn and self.tokenizer is None:
            raise ValueError("a preset needs the tokenizer of its pieces (--tokenizer)")
        if self.folder is not None and self.tokenizer is not None:
            raise ValueError("a model folder brings its own tokenizer: leave --tokenizer out")
        return self


class LoopConfig(Section):
    """What every run of the training loop decides."""

    epochs: PositiveInt = 10
    steps: PositiveInt | None = None
    """Optimiser steps of the run in place of `epochs`."""
    lr: PositiveFloat | None = None
    """Peak learning rate."""
    schedule: Schedule = "linear"
    warmup: Annotated[float, Field(ge=0)] = 0.1
    """Below 1 a share of all steps, else a number of steps."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the gradients of a step; 0 leaves them as they are."""
    precision: Precision = "fp32"
    """`auto` is bf16 where the device has units for it, else fp32."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    evaluate_steps: PositiveInt | None = None
    """Steps between evaluations on dev, besides the end of every epoch."""
    metric: str = "loss"
    """What decides the best weights, on dev."""
    patience: PositiveInt | None = None
    """Evaluations without a better one before training stops."""
    checkpoint_steps: PositiveInt | None = None
    checkpoint_minutes: PositiveFloat = 10.0
    """Checkpoints are written after so many steps or minutes, whichever comes first, and at evaluations."""
    keep: PositiveInt = 1
    """The latest checkpoints that stay on disk; the best weights always do."""

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.steps is not None and "epochs" in self.model_fields_set:
            raise ValueError("epochs and steps are two ways to say how long a run is: give one of them")
        return self

    def warmup_steps(self, steps: int) -> int:
        """Give the steps of the warm-up in a run of so many."""
        if not self.warmup:
            return 0
        return max(1, round(self.warmup * steps if self.warmup < 1 else self.warmup))


class TrainConfig(LoopConfig):
    """The training loop of a fine-tuning run."""

    batch_tokens: PositiveInt = 1024
    """Pieces of a micro-batch, pads included."""
    accumulation: PositiveInt = 1
    """Micro-batches per optimiser step."""
    lr: PositiveFloat | None = None
    """Peak learning rate; when left out 5e-5 for a trained encoder, 5e-4 for a fresh one."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    metric: str = "macro_f1"
    """What decides the best epoch, on dev."""
    patience: PositiveInt | None = 3
    """Epochs without a better one before training stops."""


class FinetuneConfig(Section):
    """Everything that decides a fine-tuning run."""

    data: DataConfig
    model: StartConfig
    train: TrainConfig = TrainConfig()

    def resolve(self, steps: int) -> TrainConfig:
        """Give the loop's options with the learning rate and the warm-up's steps written out.

        Args:
            steps: Optimiser steps of the whole run.
        """
        lr = self.train.lr or (FRESH_LR if self.model.is_drawn else TUNING_LR)
        return self.train.model_copy(update={"lr": lr, "warmup": float(self.train.warmup_steps(steps))})


def finetune_config(
    file: Path | None, options: Mapping[str, Any], overrides: Iterable[str] = ()
) -> FinetuneConfig:
    """Put a run's options together; later ones win: the file, the options, the overrides.

    Args:
        file: A TOML file with the sections `data`, `model` and `train`.
        options: Values by section and key; those that are None are left out.
        overrides: Texts ``section.key=value``.

    Raises:
        ConfigError: The file cannot be read, a key is unknown, or a value does not fit; all faults in
            one message.
    """
    value = {"data": {}, "model": {}, **(read_toml(file) if file else {})}
    put_together(value, options, overrides)
    try:
        return FinetuneConfig.model_validate(value)
    except ValidationError as error:
        source = f"{file}: " if file else ""
        raise ConfigError(f"{source}{explain(error, FinetuneConfig)}") from error


def put_together(value: dict[str, Any], options: Mapping[str, Any], overrides: Iterable[str]) -> None:
    """Change a file's settings by options, and those by overrides ``section.key=value``.

    How long a run is, `train.epochs` and `train.steps` say in two ways: the one that is given last counts.

    Raises:
        ConfigError: An override has another form, or a section of one is a plain value in the other.
    """
    _give_way(value, options.get("train"))
    merge(value, options)
    for override in overrides:
        section, key = overridden(override)
        _give_way(value, {key: override} if section == "train" else None)
        override_value(value, override)


def overridden(override: str) -> tuple[str, str]:
    """Name the section and the key that a text ``section.key=value`` changes."""
    section, _, key = override.partition("=")[0].strip().rpartition(".")
    return section, key


def _give_way(value: dict[str, Any], changes: Mapping[str, Any] | None) -> None:
    train = value.get("train")
    if changes and isinstance(train, dict):
        for key, other in (("epochs", "steps"), ("steps", "epochs")):
            if changes.get(key) is not None:
                train.pop(other, None)


def merge(value: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Put changes into a nested dictionary; None changes nothing.

    Raises:
        ConfigError: A section of one is a plain value in the other.
    """
    for key, change in changes.items():
        if isinstance(change, Mapping):
            section = value.setdefault(key, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{key} is a section of settings, not the value {section!r}")
            merge(section, change)
        elif change is not None:
            value[key] = change


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: It is absent or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is no TOML file: {error}") from error


def override_value(value: dict[str, Any], override: str) -> None:
    """Set one key of a nested dictionary from a text ``section.key=value``.

    The right side is read as TOML (``3e-5``, ``true``, ``["a", "b"]``), or as it stands where it is none.

    Raises:
        ConfigError: The text has another form.
    """
    path, equals, right = override.partition("=")
    *sections, key = path.strip().split(".")
    if not equals or not key or not all(sections):
        raise ConfigError(f"--set takes section.key=value, such as train.lr=3e-5, not '{override}'")
    try:
        parsed = tomllib.loads(f"value = {right}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = right.strip()
    for section in sections:
        value = value.setdefault(section, {})
        if not isinstance(value, dict):
            raise ConfigError(f"--set {override}: {section} is no section")
    value[key] = parsed
