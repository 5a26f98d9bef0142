"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), in a precision that suits the device."""

# B batch   T tokens   Q queries   H heads   K head size

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dot_product_attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
    """Mix the values by how well their keys fit each query.

    Args:
        query: float ``(B, H, Q, K)``.
        key: float ``(B, H, T, K)``.
        value: The same.
        visible: bool, broadcast to ``(B, H, Q, T)``, false where a query may not look; everywhere it may
            when left out.

    Returns:
        float ``(B, H, Q, K)``; in single precision under autocast on a CPU, see `attention_precision`.
    """
    if not _is_autocast_on_cpu(query):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    query, key, value = map(attention_precision, (query, key, value))
    with torch.autocast("cpu", enabled=False):  # it would cast them back
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)


def attention_precision(mixed: Tensor) -> Tensor:
    """Cast what attention reads to the precision that it is computed in.

    Under autocast on a CPU that is single precision: the fused kernel takes 2 to 3 times as long in
    bfloat16, even where matrix products are several times faster in it.
    """
    return mixed.float() if _is_autocast_on_cpu(mixed) else mixed


def _is_autocast_on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and torch.is_autocast_enabled("cpu")
