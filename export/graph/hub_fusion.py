"""Fused operators in models of the transformers library, which lets one choose what computes attention.

Their exact GELU, and most spellings of its tanh approximation, are patterns that ONNX Runtime makes one
operator of by itself; torch's own approximation is none, and is swapped.
"""

# B batch   T tokens   Q queries   H heads   K head size

from __future__ import annotations

import copy
import math
from typing import Any

from torch import Tensor, nn

from twil.core.errors import ConfigError
from twil.exporting.graph.optimise import ATTENTION, GELU, HUB_ATTENTION, FusedGelu, attend_fused
from twil.model.hub.library import import_transformers
from twil.model.hub.model import HubModel


def fuse_hub(model: HubModel) -> HubModel:
    """Copy a model with fused operators in the place of attention and of torch's tanh approximation of GELU.

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
    for module in list(network.modules()):
        for name, part in module.named_children():
            if _is_tanh(part):
                setattr(module, name, FusedGelu(approximate="tanh"))
    return fused


def hub_fusions(model: HubModel) -> dict[str, int]:
    """Count the fused operators that the graph of a model from `fuse_hub` should hold."""
    activations = sum(_is_tanh(part) for part in model.modules())
    return {ATTENTION: model.architecture.layers} | ({GELU: activations} if activations else {})


def _is_tanh(part: nn.Module) -> bool:
    return isinstance(part, import_transformers().activations.GELUTanh)


def _visible(*, attention_mask: Tensor, mask_function: Any, **_: Any) -> Tensor:
    """Give the mask of the rows ``(B, T)`` as it is, false on pads."""
    if mask_function is not import_transformers().masking_utils.bidirectional_mask_function:
        raise _unlike("looks at some tokens of a row alone")
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
        raise _unlike("scales its attention in a way of its own")
    if int(key.numel()) != int(attention_mask.numel()) * n_heads * size:
        raise _unlike("has heads that share their keys")
    # By the heads of the query, as in a layer `_FirstAlone` those of a key are counted with its tokens.
    query, key, value = (
        part.transpose(1, 2).reshape(part.shape[0], -1, n_heads * size) for part in (query, key, value)
    )
    mixed = attend_fused(query, key, value, attention_mask, n_heads)  # (B, Q, H·K)
    return mixed.view(*mixed.shape[:2], n_heads, size), None


def _unlike(how: str) -> ConfigError:
    return ConfigError(f"this model {how}, for which there is no fused operator: leave --optimize out")
