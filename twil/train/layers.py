"""Parts of an encoder by their depth: which stay as they are, and how fast the others learn."""

from __future__ import annotations

import re
from collections.abc import Collection

from twil.core.errors import ConfigError
from twil.model.text_model import TextModel

EMBEDDINGS = "embeddings"
_LAYERS = re.compile(r"(\d+)(?:-(\d+))?")


def freeze(model: TextModel, parts: str) -> None:
    """Keep parts of the encoder as they are.

    Args:
        model: Whose parameters no longer get gradients.
        parts: ``embeddings``, layers counted from 0, and ranges of them, such as ``embeddings,0-3``.

    Raises:
        ConfigError: There is no such part, or layers that share their weights are to differ.
    """
    depths = {depth for part in parts.split(",") for depth in _depths(part.strip(), model)}
    _check_separate(model, depths)
    for depth, module in enumerate(model.depths):
        if depth in depths:
            module.requires_grad_(requires_grad=False)


def layer_rates(model: TextModel, decay: float) -> dict[str, float]:
    """Give learning rates that become smaller from layer to layer downwards (Howard and Ruder 2018).

    The heads learn at the run's rate, the topmost layer at `decay` times that, and so on to the embeddings.

    Args:
        model: Whose parameters are named.
        decay: The rate of a layer as a multiple of that of the one above.

    Returns:
        Multiples of the run's learning rate by the names of the encoder's parameters.

    Raises:
        ConfigError: The layers share their weights.
    """
    modules = list(model.depths)
    if len({id(module) for module in modules}) < len(modules):
        raise ConfigError("train.layer_decay: the layers of this encoder share their weights and their rate")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: decay ** (len(modules) - depth)
        for depth, module in enumerate(modules)
        for parameter in module.parameters()
    }


def head_rates(model: TextModel, rate: float) -> dict[str, float]:
    """Give the rate of what lies on the encoder: a classifier that begins at random has further to go.

    Args:
        model: Whose parameters are named.
        rate: Of the heads, and of a pooler, as a multiple of the run's.

    Returns:
        That multiple by the names of their parameters.
    """
    return dict.fromkeys(model.on_encoder, rate)


def _depths(part: str, model: TextModel) -> range:
    if part == EMBEDDINGS:
        return range(1)
    layers, found = len(model.depths) - 1, _LAYERS.fullmatch(part)
    if found is not None:
        first, last = int(found[1]), int(found[2] or found[1])
        if first <= last < layers:
            return range(first + 1, last + 2)
    raise ConfigError(
        f"train.freeze names '{part}': this encoder has {EMBEDDINGS} and the layers 0 to {layers - 1}, "
        f"such as {EMBEDDINGS},0-{layers - 1}"
    )


def _check_separate(model: TextModel, depths: Collection[int]) -> None:
    """Refuse to treat some layers otherwise than others with the same weights."""
    treated: dict[int, set[bool]] = {}
    for depth, module in enumerate(model.depths):
        treated.setdefault(id(module), set()).add(depth in depths)
    if any(len(answers) > 1 for answers in treated.values()):
        raise ConfigError(
            "train.freeze: the layers of this encoder share their weights, and can only be frozen together"
        )
