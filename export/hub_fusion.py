"""Fused attention in models of the transformers library, which lets one choose what computes it.

Their exact GELU is a pattern that ONNX Runtime makes one operator of by itself.
"""

# B batch   T tokens   Q queries   H heads   K head size

from __future__ import annotations

import copy
import math
from typing import Any

from torch import Tensor

from twil.errors import ConfigError
from twil.export.optimise import ATTENTION, HUB_ATTENTION, attend_fused
from twil.model.hub.library import import_transformers
from twil.model.hub.model import HubModel


def fuse_hub(model: HubModel) -> HubModel:
    """Copy a model with the fused operator in the place of attention.

    Raises:
        ConfigError: Its family does not let one choose.
    """
    fused = copy.deepcopy(model)
    library, network = import_transformers(), fused.network
    if not getattr(network, "_supports_attention_backend", False):
        raise ConfigError(
            f"{type(network).__name__} does not let one choose what computes attention: leave --optimize out"
        )
    library.AttentionInterface.register(HUB_ATTENTION, _attend)
    library.AttentionMaskInterface.register(HUB_ATTENTION, _visible)
    network.set_attn_implementation(HUB_ATTENTION)
    return fused


def hub_fusions(model: HubModel) -> dict[str, int]:
    """Count the fused operators that the graph of a model from `fuse_hub` should hold."""
    return {ATTENTION: model.architecture.layers}


def _visible(*, attention_mask: Tensor, **_: Any) -> Tensor:
    """Give the mask of the rows ``(B, T)`` as it is, false on pads."""
    return attention_mask


def _attend(
    module: Any,  # noqa: ARG001 - the library's order of arguments
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute attention of heads float ``(B, H, T, K)`` as the library asks for it: ``(B, Q, H, K)``."""
    n_heads, size = int(query.shape[1]), int(query.shape[3])
    if scaling is not None and not math.isclose(scaling, size**-0.5):
        raise ConfigError("this model scales its attention in a way of its own: leave --optimize out")
    query, key, value = (part.transpose(1, 2).flatten(2) for part in (query, key, value))  # (B, T, H·K)
    mixed = attend_fused(query, key, value, attention_mask, n_heads)  # (B, Q, H·K)
    return mixed.view(*mixed.shape[:2], n_heads, size), None
