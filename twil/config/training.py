"""Typed options of a fine-tuning run, read from TOML and from the command line."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, ValidationError, field_validator, model_validator

from twil.config.loop import LoopConfig, OptimiserConfig
from twil.config.losses import ClassWeights, LossConfig
from twil.config.memory_table import MemoryTable
from twil.config.model import (
    ClassifierConfig,
    Count,
    EncoderConfig,
    Pooling,
    Probability,
    Section,
    explain,
    preset,
)
from twil.config.reading import AS_FOUND, Reading
from twil.config.settings import overridden, put_together, read_toml, whole_override
from twil.core.errors import ConfigError
from twil.core.task import Task, TaskKind
from twil.shipped import ENCODER, shipped_model

TaskName = Literal["class", "multi-label", "regression", "stance"]
STANCES = ("AGAINST", "FAVOR")
"""The labels that a task of stance is scored on, where no others are named."""

FRESH_LR = 5e-4
"""Default peak learning rate of an encoder drawn anew."""
TUNING_LR, TUNING_SIZE = 5e-5, 768
"""Default peak learning rate of a trained encoder of that hidden size. A smaller one learns faster, in
proportion, but no faster than one that is drawn anew."""
NEW_HEAD_RATE = 10.0
"""Default rate of a new classifier on a trained encoder, as a multiple of the encoder's."""


class DataConfig(Section):
    """The labelled files and their columns."""

    train: Path | MemoryTable
    dev: Path | float | MemoryTable | None = None
    """What decides the best epoch: a file, or a share of the rows of `train`, the same of each label; without
    it, the last one is kept."""
    dev_seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """Of the draw of that share."""
    test: Path | MemoryTable | None = None
    text: str | None = None
    """The column of the texts; when left out TEXT, else the only one of text, texto, tweet, full_text,
    content and review."""
    text_pair: str | None = None
    """The column of the second texts, where rows are pairs."""
    label: str | None = None
    """The column of the labels; when left out CLASS, else the only one of label, etiqueta, sentiment, class
    and clase. Of a multi-label task also several of zeros and ones, with commas between their names, which
    are the labels."""
    label_separator: str = "|"
    """What stands between the labels of a row that has several."""
    reading: Reading = AS_FOUND
    """How the files are read, as far as their names and first lines do not tell."""
    task: TaskName = "class"
    """What is asked of a row: one label, any number of labels, a number, or a stance."""
    labels: tuple[str, ...] | None = None
    """Label names in the order of the outputs; found in `train` and sorted when left out."""
    limit: Count | None = None
    """The most rows of each file; all when left out."""
    shuffle_seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    """Shuffle each file's rows with it before `limit` counts; in their order when left out."""
    scored: tuple[str, ...] | None = None
    """Of a stance: the labels whose mean F1 counts; `STANCES` when left out."""

    @property
    def tables(self) -> dict[str, Path | MemoryTable]:
        """The labelled sets that are named, by what they are for."""
        named = {"train": self.train, "dev": self.dev, "test": self.test}
        return {name: table for name, table in named.items() if isinstance(table, Path | MemoryTable)}

    @property
    def files(self) -> dict[str, Path]:
        """Those of them that are files."""
        return {name: table for name, table in self.tables.items() if isinstance(table, Path)}

    @property
    def dev_share(self) -> float | None:
        """The share of `train` that decides; None where a file does, or nothing."""
        return self.dev if isinstance(self.dev, float) else None

    @property
    def kind(self) -> TaskKind:
        """The kind of the task; a stance is a class."""
        return "class" if self.task == "stance" else self.task

    def make_task(self, labels: tuple[str, ...]) -> Task:
        """Describe the task whose labels are known.

        Raises:
            ConfigError: It cannot be decided or scored.
        """
        scored = (self.scored or STANCES) if self.task == "stance" else ()
        return Task(self.kind, labels, pair=self.text_pair is not None, scored=scored)

    @field_validator("dev")
    @classmethod
    def _check_dev(cls, dev: Path | MemoryTable | float | None) -> Path | MemoryTable | float | None:
        if isinstance(dev, float) and not 0 < dev < 1:
            raise ValueError(f"a share of {dev:g} is none: choose one between 0 and 1")
        return dev

    @model_validator(mode="after")
    def _check_scored(self) -> Self:
        if self.scored is not None and self.task != "stance":
            raise ValueError("scored has no effect: only a task of stance is scored on some labels alone")
        if "dev_seed" in self.model_fields_set and self.dev_seed and self.dev_share is None:
            raise ValueError("dev_seed has no effect: only where dev is a share of train")
        return self


class ClassifierChoice(Section):
    """What the classifier is to be; what is left out is as in the folder that the model starts from."""

    pooling: Pooling | None = None
    special_tokens: bool | None = None
    dropout: Probability | None = None
    head: str | None = None

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
        """Give the encoder to draw anew, for a vocabulary of that many tokens.

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


class OriginalWeights(Section):
    """Weights of the original TWilBERT, imported when a run starts as `twil import` does."""

    weights: Path
    """The HDF5 file that Keras wrote."""
    config: Path
    """The original's JSON configuration of that model."""
    vocab: Path
    """The original's vocabulary, one token per line."""


class StartConfig(OriginConfig):
    """Where a classifier starts, and what it is to be."""

    original: OriginalWeights | None = None
    """In place of a model folder or a preset."""
    tokenizer: Path | None = None
    """Of the tokens of an encoder drawn anew; a model folder has its own."""
    classifier: ClassifierChoice = ClassifierChoice()
    input_dropout: Probability | None = None
    output_dropout: Probability | None = None
    """Dropouts of the encoder during this run; the model's own when left out."""
    preparation: str | None = None
    """How texts are prepared for a model of the library, by name, or ``none``; when left out as its folder
    records it, else as its name on the hub tells."""
    keep_head: bool = False
    """Train the folder's own classifier further, whose labels must be those of the data."""
    map_labels: dict[str, str] = Field(default_factory=dict)
    """What a kept classifier's labels are called in the data."""
    max_length: Annotated[int, Field(ge=3, le=1 << 20)] | None = None
    """The longest row in tokens; the tokenizer's own limit when left out."""

    @property
    def source(self) -> Path | None:
        """The folder or the file that the run starts from."""
        return self.folder or self.tokenizer or (self.original.weights if self.original else None)

    @model_validator(mode="before")
    @classmethod
    def _start_somewhere(cls, value: Any) -> Any:
        """Start from the encoder that comes with twil, where nothing says otherwise."""
        named = isinstance(value, dict) and value.keys() & {"folder", "init", "encoder", "original"}
        if not isinstance(value, dict) or named or not shipped_model(ENCODER):
            return value
        return {**value, "folder": ENCODER}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if [self.folder is not None, self.original is not None, self.is_drawn].count(True) != 1:
            raise ValueError(
                "give either a model folder (--model) or a preset to draw anew (--init), or weights of the "
                "original (model.original)"
            )
        if self.is_drawn and self.tokenizer is None:
            raise ValueError("a preset needs the tokenizer of its tokens (--tokenizer)")
        if self.keep_head and self.folder is None:
            raise ValueError("keep_head: only a model folder has a classifier to keep")
        if self.preparation is not None and self.folder is None:
            raise ValueError(
                "preparation: texts are prepared for a trained model alone (--model): leave it out"
            )
        if self.map_labels and not self.keep_head:
            raise ValueError(
                "map_labels would have no effect: only with keep_head, on a classifier's own labels"
            )
        if not self.is_drawn and self.tokenizer is not None:
            raise ValueError("a trained model brings its own tokenizer: leave --tokenizer out")
        return self


class TrainConfig(LoopConfig):
    """The training loop of a fine-tuning run."""

    epochs: Annotated[int, Field(ge=0, le=10**9)] = 10
    """At most so many; none takes a kept classifier as it is."""
    batch_tokens: Count = 1024
    """Tokens of a micro-batch, pads included."""
    accumulation: Count = 1
    """Micro-batches per optimiser step."""
    lr: PositiveFloat | None = None
    """Peak learning rate; when left out 5e-4 for a fresh encoder, and for a trained one 5e-5 at a hidden size
    of 768, in inverse proportion to it, up to that of a fresh one."""
    loss: LossConfig = LossConfig()
    class_weights: ClassWeights = "none"
    """How much rows of rare labels count: none, balanced, max-ratio, or weights by label."""
    freeze: str | None = None
    """Parts of the encoder that stay as they are: embeddings, and layers from 0, such as embeddings,0-3."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """The learning rate of each layer as a multiple of that of the layer above it."""
    average: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The running mean of the weights, see `LoopConfig`; when left out that of a trained encoder goes over
    about an epoch, and there is none of a fresh one."""
    head_rate: PositiveFloat | None = None
    """The learning rate of what lies on the encoder, its classifier, as a multiple of the run's; when left
    out 10 for a new one on a trained encoder, else 1."""
    metric: str = "auto"
    """What decides the best epoch, on dev; `auto` is macro-F1, the stances' F1, or Pearson's correlation."""
    patience: Count | None = 3
    """Evaluations without a better one before training stops; there is one an epoch, or more."""


class DecisionConfig(Section):
    """What is tuned on dev when training is done, and becomes part of the task."""

    tune_threshold: Literal["f1"] | None = None
    """The thresholds with the best F1: of every label of several, or of the second of two classes."""
    calibrate: Literal["temperature"] | None = None
    """The temperature with which probabilities fit best."""


class FinetuneConfig(Section):
    """Everything that decides a fine-tuning run."""

    data: DataConfig
    model: StartConfig
    train: TrainConfig = TrainConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    decision: DecisionConfig = DecisionConfig()

    @model_validator(mode="after")
    def _check_dev(self) -> Self:
        wanting = [f"decision.{name}" for name, value in self.decision if value is not None]
        wanting += ["train.metric"] if self.train.metric != "auto" else []
        if "patience" in self.train.model_fields_set and self.train.patience is not None:
            wanting.append("train.patience")
        if self.data.dev is None and wanting:
            raise ValueError(f"{', '.join(wanting)} would have no effect: only with data.dev (--dev)")
        if self.train.epochs == 0 and not self.model.keep_head:
            raise ValueError(
                "train.epochs: without training a new classifier says nothing: keep_head keeps one"
            )
        return self

    def resolve(
        self, steps: int, metric: str, *, epoch_steps: int, hidden_size: int, kept_head: bool
    ) -> TrainConfig:
        """Give the loop's options with what was left to be found out.

        Args:
            steps: Optimiser steps of the whole run.
            epoch_steps: Those of an epoch.
            metric: By which a task of this kind is judged.
            hidden_size: Of the encoder.
            kept_head: Whether the classifier is one that was trained before.
        """
        train, is_drawn = self.train, self.model.is_drawn
        tuning_lr = min(FRESH_LR, float(f"{TUNING_LR * TUNING_SIZE / hidden_size:.1e}"))
        found: dict[str, Any] = {
            "lr": train.lr or (FRESH_LR if is_drawn else tuning_lr),
            "head_rate": train.head_rate or (1.0 if is_drawn or kept_head else NEW_HEAD_RATE),
            "warmup": float(train.warmup_steps(steps)),
        }
        if train.average is None:
            found["average"] = 0.0 if is_drawn else round(1 - 1 / epoch_steps, 4)
        if self.data.dev is None:
            found["patience"] = None  # there is nothing to wait for
        elif train.metric == "auto":
            found["metric"] = metric
        return train.model_copy(update=found)


def finetune_config(
    file: Path | None,
    options: Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    held: Mapping[str, Any] | None = None,
) -> FinetuneConfig:
    """Put a run's options together; later ones win: the file, the options, the overrides.

    Args:
        file: A TOML file with the sections `data`, `model`, `train`, `optimiser` and `decision`.
        options: Values by section and key; those that are None are left out. A model folder or a preset
            among them takes the place of the file's weights of the original.
        overrides: Texts ``section.key=value``; a section may be left out where one alone has the key.
        held: The sections, where the file is one of the original's and has been translated already.

    Raises:
        ConfigError: The file cannot be read, a key is unknown, or a value does not fit; all faults in
            one message.
    """
    given = held if held is not None else read_toml(file) if file else {}
    value: dict[str, Any] = {"data": {}, "model": {}, **copy.deepcopy(dict(given))}
    overrides = [whole_override(override, FinetuneConfig) for override in overrides]
    _replace_original(value, options, overrides)
    put_together(value, options, overrides)
    return parse_finetune_config(value, source=file)


def parse_finetune_config(value: Mapping[str, Any], *, source: Path | None = None) -> FinetuneConfig:
    """Check the sections of a run.

    Args:
        value: The sections `data`, `model`, `train`, `optimiser` and `decision`.
        source: The file that they come from, for errors.

    Raises:
        ConfigError: A key is unknown, or a value does not fit; all faults in one message.
    """
    try:
        return FinetuneConfig.model_validate(value)
    except ValidationError as error:
        where = f"{source}: " if source else ""
        raise ConfigError(f"{where}{explain(error, FinetuneConfig)}") from error


def _replace_original(value: Mapping[str, Any], options: Mapping[str, Any], overrides: Iterable[str]) -> None:
    """Let a start that the user chooses take the place of weights that the file names."""
    chosen = {key for key, choice in (options.get("model") or {}).items() if choice is not None}
    chosen |= {key for section, key in map(overridden, overrides) if section == "model"}
    if chosen & {"folder", "init"} and isinstance(value["model"], dict):
        value["model"].pop("original", None)
