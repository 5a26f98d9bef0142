"""The original's optimisers and learning rates, and those of Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twil.config.loop import Schedule
from twil.core.errors import ConfigError


@dataclass(frozen=True)
class OriginalOptimiser:
    """An optimiser in twil's terms.

    Attributes:
        name: In twil.
        lr: The rate that the original, or Keras, uses where the file has none.
        options: Further settings of the section `optimiser`.
        clip: The largest norm of the gradients.
    """

    name: str
    lr: float
    options: dict[str, float] = field(default_factory=dict)
    clip: float = 0.0

    @property
    def section(self) -> dict[str, Any]:
        """The section `optimiser` of a run."""
        return {"name": self.name, **self.options}

    @property
    def is_own(self) -> bool:
        """Whether it is one of the original's own, and not one of Keras."""
        return self in (ADAM, LAMB)


ADAM = OriginalOptimiser("twilbert-adam", 1e-4)
LAMB = OriginalOptimiser("lamb", 0.00176, clip=1.0)
LAMB_NOTE = "gradients are clipped at norm 1 once a step, where the original clips each micro-batch"
KERAS = {
    "adam": OriginalOptimiser("Adam", 1e-3, {"eps": 1e-7}),
    "sgd": OriginalOptimiser("SGD", 1e-2),
    "rmsprop": OriginalOptimiser("RMSprop", 1e-3, {"eps": 1e-7}),
    "adagrad": OriginalOptimiser("Adagrad", 1e-2, {"eps": 1e-7}),
    "adadelta": OriginalOptimiser("Adadelta", 1.0, {"eps": 1e-7}),
    "adamax": OriginalOptimiser("Adamax", 2e-3, {"eps": 1e-7}),
    "nadam": OriginalOptimiser("NAdam", 2e-3, {"eps": 1e-7}),
}


def find_optimiser(name: str | None, own: Mapping[str, OriginalOptimiser], setting: str) -> OriginalOptimiser:
    """Find an optimiser by the name that the original's file gives it.

    Args:
        name: In any case; None for the Adam of Keras.
        own: The original's own, as such files call them.
        setting: The path of the name in the file, for the error.

    Raises:
        ConfigError: There is no such optimiser.
    """
    known = {**KERAS, **own}
    if name is None:
        return KERAS["adam"]
    if name.lower() not in known:
        raise ConfigError(f"{setting} '{name}' is none of {', '.join(known)}, null")
    return known[name.lower()]


def annealed(warmup_steps: int | None, section: str) -> dict[str, Any]:
    """Give the settings of a run whose rate Noam's schedule sets.

    Raises:
        ConfigError: The steps of its warm-up are missing.
    """
    if warmup_steps is None:
        raise ConfigError(f"{section}.warmup_steps is missing: noam_annealing needs it")
    schedule: Schedule = "noam"
    return {"schedule": schedule, "warmup": float(warmup_steps)}


def keras_note(name: str | None) -> str:
    """Say that an optimiser of Keras is replaced."""
    return f"optimizer {name or 'null'} becomes torch's, which may differ from that of Keras"
