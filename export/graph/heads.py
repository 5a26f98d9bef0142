"""What of a model is exported: its classifier, its bare encoder, or what fills masks."""

from __future__ import annotations

from typing import get_args

from twil.bundle.bundle import Kind
from twil.config.model import Pooling
from twil.core.errors import ConfigError, ModelError
from twil.exporting.graph.write import ClassifierGraph, EncoderGraph, FillMaskGraph, ModelGraph, RowPooling
from twil.model.text_model import TextModel

ENCODER_POOLING: Pooling = "avg"
"""How rows become vectors, where neither the user nor the model's folder says so."""


def choose_head(model: TextModel, wanted: str | None) -> Kind:
    """Choose what to export: what is wanted, else the classifier where there is one, else the encoder.

    Raises:
        ConfigError: There is no such choice.
        ModelError: The model has no such head.
    """
    if wanted not in (None, *get_args(Kind)):
        raise ConfigError(f"there is no head '{wanted}': choose one of {', '.join(get_args(Kind))}")
    if wanted == "classifier" and model.own_task is None:
        raise ModelError(
            "this model has no classifier to export: make one with twil finetune, or export its vectors with "
            "--head encoder"
        )
    if wanted == "fill-mask" and not model.has_mlm:
        raise ModelError(
            "this model has no masked-language head, so it fills no masks: give a model that was pretrained "
            "with one, as twil pretrain or twil import wrote it"
        )
    if wanted is None:
        return "encoder" if model.own_task is None else "classifier"
    return wanted  # type: ignore[return-value]  # one of them


def choose_pooling(model: TextModel, head: Kind, wanted: Pooling | None) -> RowPooling | None:
    """Choose how rows become vectors: as is wanted, else as the model's folder says; None where they do not.

    Raises:
        ConfigError: There is no such pooling, or it would have no effect.
        ModelError: The folder says something that cannot be computed.
    """
    if wanted is not None and wanted not in get_args(Pooling):
        raise ConfigError(f"there is no pooling '{wanted}': choose one of {', '.join(get_args(Pooling))}")
    if head == "fill-mask":
        if wanted is not None:
            raise ConfigError("masks are filled token by token, without pooling: leave the pooling out")
        return None
    own = model.pooling
    if head == "classifier":
        if wanted is not None:
            trained = f"trained with {own} pooling" if own else "whose pooling is its own affair"
            raise ConfigError(
                f"this model is a classifier, {trained}: leave the pooling out, or export its vectors with "
                "--head encoder"
            )
        return own
    return wanted or own or model.own_vectors() or ENCODER_POOLING


def make_graph(model: TextModel, pooling: RowPooling | None, head: Kind) -> ModelGraph:
    """Make the module that computes what is exported, and nothing else."""
    if head == "classifier":
        return ClassifierGraph(model)
    if head == "encoder":
        assert pooling is not None
        return EncoderGraph(model, pooling)
    return FillMaskGraph(model)
