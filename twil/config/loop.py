"""Typed options of the training loop and of the optimiser, which every kind of run has."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from twil.config.model import Count, Section

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Schedule = Literal["linear", "cosine", "noam", "constant"]

LOG = "log.jsonl"
"""The log of a run, beside its checkpoints while it goes on and in its model folder when it is done."""

UPKEEP = frozenset({"train.checkpoint_minutes", "train.checkpoint_steps", "train.keep", "train.log_steps"})
"""The settings of a run that decide nothing of what is learned: a continued one may have others."""

LOWER_IS_BETTER = frozenset({"loss", "mlm_loss", "rop_loss", "perplexity", "rmse", "mae"})
"""The metrics of which less is better."""


class LoopConfig(Section):
    """What every run of the training loop decides."""

    epochs: Count = 10
    steps: Count | None = None
    """Optimiser steps of the run in place of `epochs`."""
    lr: PositiveFloat | None = None
    """Peak learning rate."""
    schedule: Schedule = "linear"
    warmup: Annotated[float, Field(ge=0)] = 0.1
    """Below 1 a share of all steps, else a number of steps."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the gradients of a step; 0 leaves them as they are."""
    average: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Measure and keep a running mean of the weights (Polyak and Juditsky 1992): the share of it that every
    step leaves, such as 0.99; 0 keeps the weights themselves, and so does a run that says nothing else."""
    precision: Precision = "auto"
    """`auto` is bf16 where the device has units for it and the hidden size is at least 256, else fp32."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    evaluate_steps: Count | None = None
    """Steps between evaluations on dev, besides the end of every epoch."""
    metric: str = "loss"
    """What decides the best weights, on dev."""
    patience: Count | None = None
    """Evaluations without a better one before training stops."""
    checkpoint_steps: Count | None = None
    checkpoint_minutes: PositiveFloat = 10.0
    """Checkpoints are written after so many steps or minutes, whichever comes first, and at evaluations."""
    log_steps: Count = 10
    """Steps between lines of the log."""
    keep: Count = 1
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


class OptimiserConfig(Section):
    """How weights are updated."""

    name: str = "adamw"
    """`adamw`, `twilbert-adam`, `lamb`, or the name of a class in torch.optim."""
    betas: tuple[float, float] | None = None
    eps: PositiveFloat | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Of the weights with two axes or more; each is the optimiser's own default when left out."""
    memory_rate: PositiveFloat = 1.0
    """Learning rate of the value tables of product-key memories, as a multiple of the others'."""


def name_settings(config: Section, sections: Iterable[str]) -> dict[str, str]:
    """Write what some sections of a configuration decide under whole names, ``section.key``."""
    return {
        name: repr(value)
        for section in sections
        for key, value in getattr(config, section).model_dump(mode="json").items()
        if (name := f"{section}.{key}") not in UPKEEP
    }


def noam_peak(hidden_size: int, warmup_steps: float) -> float:
    """Return the peak learning rate of the paper's own schedule, (hidden size · warm-up)^-½.

    Its product with the share that `rate` gives for ``noam`` is the formula of Vaswani et al. 2017,
    section 5.3.

    Args:
        hidden_size: Of the model.
        warmup_steps: Optimiser steps of the warm-up; less than one counts as one.
    """
    return 1 / math.sqrt(hidden_size * max(warmup_steps, 1))
