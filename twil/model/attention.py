"""Multi-head self-attention (Vaswani et al. 2017, section 3.2) without biases, as TWilBERT has it."""

# B batch   T tokens   Q queries   D hidden   H heads   K head size

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from twil.config.model import EncoderConfig
from twil.model.dot_product import dot_product_attention
from twil.model.packing import Packing, packed_attention


class DotProductAttention(nn.Module):
    """What attention does between its projections. It has no weights, so that another may take its place.

    Args:
        n_heads: H.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
        """Mix the values of every row by how well their keys fit each query.

        Args:
            query: float ``(B, Q, H·K)``.
            key: float ``(B, T, H·K)``.
            value: The same.
            visible: bool ``(B, T)``, false where no query may look.

        Returns:
            float ``(B, Q, H·K)``.
        """
        context = dot_product_attention(
            self._split(query), self._split(key), self._split(value), visible[:, None, None, :]
        )  # (B, H, Q, K)
        return context.transpose(1, 2).flatten(2)  # (B, Q, H·K)

    def _split(self, mixed: Tensor) -> Tensor:
        B, T, width = mixed.shape
        return mixed.view(B, T, self.n_heads, width // self.n_heads).transpose(1, 2)  # (B, H, T, K)


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
        self.attend = DotProductAttention(config.n_heads)
        self.attend_packed = packed_attention
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
        mixed = self.query_key_value(hidden)  # (B, T, 3·H·K)
        if packing is not None:
            context = self.attend_packed(mixed.view(T, 3, self.n_heads, self.head_size), packing)  # (T, H, K)
            packed: Tensor = self.output(context.view(B, T, self.n_heads * self.head_size))
            return packed
        # TWilBERT: pads are not attended to; the original has no mask.
        output: Tensor = self.output(self.attend(*mixed.chunk(3, dim=-1), visible))  # (B, T, D)
        return output

    def first(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Compute what `forward` gives at the first token, float ``(B, 1, D)``, and at no other."""
        width = self.n_heads * self.head_size
        weights = self.query_key_value.weight
        query = F.linear(hidden[:, :1], weights[:width])  # (B, 1, H·K)
        key, value = F.linear(hidden, weights[width:]).chunk(2, dim=-1)  # each (B, T, H·K)
        output: Tensor = self.output(self.attend(query, key, value, visible))  # (B, 1, D)
        return output
