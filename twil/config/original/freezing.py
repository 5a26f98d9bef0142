"""Which layers the original's fine-tuning trains."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from twil.config.original.files import Strict
from twil.config.original.model import memory_of
from twil.core.errors import ConfigError

_EMBEDDINGS = 3  # of tokens, positions and segments, which come before the layers
_PART = "embeddings"


class Layers(Strict):
    """Settings of the section `finetuning` that choose what is trained; the original's versions differ."""

    finetune_all: bool = True
    trainable_layers: Any = "all"
    """All, or a list of numbers: from 0 the three embeddings and the layers, or from -1 downwards."""


def frozen_parts(settings: Layers, model: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Give the value of `train.freeze`, and what could not be followed.

    Args:
        settings: What is to be trained.
        model: The section `model`.

    Raises:
        ConfigError: The settings contradict each other, or name a layer that is not there.
    """
    asked, layers = settings.trainable_layers, int(model["n_encoders"])
    if asked == "all":
        return (None if settings.finetune_all else _write(range(layers), embeddings=True)), ()
    if not isinstance(asked, list) or not all(type(number) is int for number in asked):
        raise ConfigError(f"finetuning.trainable_layers is all or a list of numbers, not {asked!r}")
    if not settings.finetune_all:
        raise ConfigError("finetuning.finetune_all and trainable_layers contradict each other: give one")
    shared = bool(model["cross_sharing"])
    if shared and memory_of(model):
        return None, ("trainable_layers is not followed where layers are shared: --freeze chooses",)
    places = _EMBEDDINGS + (1 if shared else layers)
    if wrong := [number for number in asked if not -places <= number < places]:
        raise ConfigError(
            f"finetuning.trainable_layers names {wrong[0]}, and there are {places} parts: three embeddings "
            "and the layers"
        )
    trained = {number % places for number in asked}
    embeddings = [place for place in range(_EMBEDDINGS) if place in trained]
    depths = {place - _EMBEDDINGS for place in trained if place >= _EMBEDDINGS}
    kept = [] if shared and depths else [depth for depth in range(layers) if depth not in depths]
    notes = []
    if 0 < len(embeddings) < _EMBEDDINGS:
        notes.append("trainable_layers has some of the three embeddings: all of them are trained")
    return _write(kept, embeddings=not embeddings) or None, tuple(notes)


def _write(depths: range | list[int], *, embeddings: bool) -> str:
    """Write frozen parts as `train.freeze` has them: ``embeddings,0-3``."""
    runs = [
        [depth for _, depth in run] for _, run in groupby(enumerate(depths), lambda pair: pair[1] - pair[0])
    ]
    layers = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ",".join([*([_PART] if embeddings else []), *layers])
