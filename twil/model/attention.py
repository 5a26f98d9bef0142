"""Multi-head self-attention (Vaswani et al. 2017, section 3.2) without biases, as TWilBERT has it."""

# B batch   T tokens   Q queries   D hidden   H heads   K head size

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from twil.config.model import EncoderConfig
from twil.model.dot_product import dot_product_attention
from twil.model.packing import Packing, packed_attention


class SelfAttention(nn.Module):
    """Self-attention whose heads need not add up to the hidden size.

    Args:
        config: Its `hidden_size`, `n_heads` and `head_size` count.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.head_size = config.head_size
        width = config.n_heads * config.head_size
        self.query_key_value = nn.Linear(config.hidden_size, 3 * width, bias=False)
        self.output = nn.Linear(width, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, visible: Tensor, packing: Packing | None = None) -> Tensor:
        """Mix every token with those it may see.

        Args:
            hidden: float ``(B, T, D)``.
            visible: bool ``(B, T)``, false on pads.
            packing: The rows of a packed batch, whose B is 1.

        Returns:
            float ``(B, T, D)``.
        """
        B, T, _ = hidden.shape
        mixed = self.query_key_value(hidden).view(B, T, 3, self.n_heads, self.head_size)
        if packing is not None:
            context = packed_attention(mixed[0], packing)  # (T, H, K)
            packed: Tensor = self.output(context.view(B, T, self.n_heads * self.head_size))
            return packed
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, T, K)
        return self._attend(query, key, value, visible)

    def first(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Compute what `forward` gives at the first token, float ``(B, 1, D)``, and at no other."""
        B, T, _ = hidden.shape
        width = self.n_heads * self.head_size
        weights = self.query_key_value.weight
        query = F.linear(hidden[:, :1], weights[:width]).view(B, 1, self.n_heads, self.head_size)
        mixed = F.linear(hidden, weights[width:]).view(B, T, 2, self.n_heads, self.head_size)
        key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, T, K)
        return self._attend(query.transpose(1, 2), key, value, visible)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
        # TWilBERT: pads are not attended to; the original has no mask.
        context = dot_product_attention(query, key, value, visible[:, None, None, :])
        context = context.transpose(1, 2).flatten(2)  # (B, H, Q, K) to (B, Q, H·K)
        output: Tensor = self.output(context)  # (B, Q, D)
        return output
