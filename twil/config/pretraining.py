"""Typed options of a pretraining run, read from TOML and from the command line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, ValidationError, model_validator

from twil.config.loop import LoopConfig, OptimiserConfig
from twil.config.model import Count, ModelConfig, RopConfig, Section, explain
from twil.config.settings import merge, overridden, put_together, read_toml, whole_override
from twil.config.training import OriginConfig
from twil.core.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
PEAK_LR = 1e-3
"""Default peak learning rate of every schedule but Noam, which has its own."""


class PretrainDataConfig(Section):
    """What is learned from."""

    corpus: Path
    """A folder that `twil corpus` wrote."""
    dev_rows: Count = 10_000
    """Rows of its held-out part that an evaluation takes, the same ones each time."""


class PretrainModelConfig(OriginConfig):
    """Where the model starts: a preset or a shape drawn anew, or a model folder trained further."""

    rop: RopConfig | None = RopConfig()
    """The head for Reply Order Prediction of a model drawn anew; `objective.rop` switches it off."""
    tie_word_embeddings: bool = False
    """Of a model drawn anew: the masked-language head has the token embeddings for its weights."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.folder is not None and (self.is_drawn or self.tie_word_embeddings):
            raise ValueError(
                "a model folder brings its own shape: leave init, encoder and tie_word_embeddings out"
            )
        if self.folder is None and not self.is_drawn:
            raise ValueError("give a preset (init), a shape (encoder) or a model folder (--init)")
        return self

    def shape(self, *, vocab_size: int, rop: bool) -> ModelConfig:
        """Give the model to draw anew.

        Args:
            vocab_size: Tokens of the tokenizer.
            rop: Whether it learns Reply Order Prediction.

        Raises:
            ConfigError: A field of the encoder does not fit, or not with the heads.
        """
        encoder = self.draw(vocab_size=vocab_size)
        heads = {"rop": self.rop if rop else None, "tie_word_embeddings": self.tie_word_embeddings}
        try:
            return ModelConfig(encoder=encoder, mlm=True, **heads)
        except ValidationError as error:
            raise ConfigError(f"model: {explain(error, ModelConfig)}") from error


class MaskingConfig(Section):
    """Which tokens are masked, drawn anew each time a row is seen."""

    kind: Literal["span", "token"] = "span"
    max_span: Count = 3
    """The longest span; a span of n tokens is drawn with probability ∝ 1/n."""
    budget: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of a row's maskable tokens, rounded up."""
    mask: Share = 0.8
    """Share of the masked tokens that become [MASK]."""
    random: Share = 0.1
    """Share that become another token, drawn at random."""
    keep: Share = 0.1
    """Share that stay as they are."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.mask + self.random + self.keep
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"mask, random and keep are shares of one whole, and add up to {total:g}")
        return self


class ObjectiveConfig(Section):
    """What is learned."""

    rop: bool = True
    """Reply Order Prediction on pairs: each is seen in both orders. Off: masked tokens alone."""
    masking: MaskingConfig = MaskingConfig()


class PretrainLoopConfig(LoopConfig):
    """The training loop of a pretraining run."""

    epochs: Count = 1
    batch_rows: Count = 256
    """Rows of an optimiser step over all processes: pairs in one order, or single texts."""
    batch_tokens: Count = 4096
    """Tokens of a micro-batch on one device; a step is accumulated over as many as it takes."""
    lr: PositiveFloat | None = None
    """Peak learning rate; when left out 1e-3, for `noam` that of the paper, (hidden size · warm-up)^-½."""
    warmup: Annotated[float, Field(ge=0)] = 0.06
    """Below 1 a share of all steps, else a number of steps."""
    packed: bool = True
    """Rows one behind the other, without pads; otherwise padded to the longest of a micro-batch."""
    compile: bool = False
    """Compile the model with torch.compile."""


class PretrainConfig(Section):
    """Everything that decides a pretraining run."""

    data: PretrainDataConfig
    model: PretrainModelConfig
    objective: ObjectiveConfig = ObjectiveConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    train: PretrainLoopConfig = PretrainLoopConfig()


def pretrain_config(
    value: Mapping[str, Any],
    options: Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    source: str | Path | None = None,
) -> PretrainConfig:
    """Put a run's options together; later ones win: the file's, the options, the overrides.

    Args:
        value: The sections `data`, `model`, `objective`, `optimiser` and `train`, as `read_toml` gives them.
        options: Values by section and key; those that are None are left out. A model folder among them takes
            the place of the shape in `value`.
        overrides: Texts ``section.key=value``; a section may be left out where one alone has the key.
        source: The file that `value` comes from, for errors.

    Raises:
        ConfigError: A key is unknown or a value does not fit; all faults in one message.
    """
    merged: dict[str, Any] = {"data": {}, "model": {}}
    merge(merged, value)
    overrides = [whole_override(override, PretrainConfig) for override in overrides]
    folder = (options.get("model") or {}).get("folder")
    if isinstance(merged["model"], dict) and (folder or ("model", "folder") in map(overridden, overrides)):
        for key in ("init", "encoder", "tie_word_embeddings"):  # a model folder brings its own shape
            merged["model"].pop(key, None)
    put_together(merged, options, overrides)
    try:
        return PretrainConfig.model_validate(merged)
    except ValidationError as error:
        where = f"{source}: " if source else ""
        raise ConfigError(f"{where}{explain(error, PretrainConfig)}") from error


def read_pretrain_config(path: Path, options: Mapping[str, Any], overrides: Iterable[str]) -> PretrainConfig:
    """Read a TOML file of pretraining; see `pretrain_config`.

    Raises:
        ConfigError: It is absent, no TOML, or does not describe a run.
    """
    return pretrain_config(read_toml(path), options, overrides, source=path)
