"""Heads on the encoder: masked language model, reply order, and classifier with its pooling."""

# B batch   T tokens   D hidden   P vocabulary   L outputs

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twil.config.model import ClassifierConfig, Pooling, RopConfig
from twil.model.encoder import gelu

ROP_OUTPUTS = 2  # 0: the reply stands first; 1: the tweet stands first


class RopHead(nn.Module):
    """Reply Order Prediction: does the first text precede the second? Reads the token [CLS].

    Args:
        config: Its hidden layers, each dense → GELU → layer norm.
        hidden_size: D.
        eps: The layer norms' ε.
    """

    def __init__(self, config: RopConfig, hidden_size: int, eps: float) -> None:
        super().__init__()
        sizes = [hidden_size] + [config.hidden_size] * config.n_hidden
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.activation = gelu()
        self.norms = nn.ModuleList(nn.LayerNorm(size, eps=eps) for size in sizes[1:])
        self.output = nn.Linear(sizes[-1], ROP_OUTPUTS)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states float ``(B, T, D)`` to logits float ``(B, 2)``."""
        state = hidden[:, 0]  # (B, D)
        for dense, norm in zip(self.hidden, self.norms, strict=True):
            state = norm(self.activation(dense(state)))
        logits: Tensor = self.output(state)  # (B, 2)
        return logits


class TiedMlmHead(nn.Module):
    """A masked-language head whose weights are the token embeddings (Press and Wolf 2017).

    Args:
        vocab_size: P.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Map hidden states float ``(…, D)`` and embeddings ``(P, D)`` to logits float ``(…, P)``."""
        return F.linear(hidden, embeddings, self.bias)


class ClassifierHead(nn.Module):
    """Pooling, dropout and one dense layer.

    Args:
        config: Pooling and dropout.
        hidden_size: D.
        outputs: L.
    """

    def __init__(self, config: ClassifierConfig, hidden_size: int, outputs: int) -> None:
        super().__init__()
        self.pooling = config.pooling
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(pooled_size(config.pooling, hidden_size), outputs)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Map hidden states float ``(B, T, D)`` and their mask ``(B, T)`` to logits float ``(B, L)``."""
        logits: Tensor = self.output(self.dropout(pool(hidden, attention_mask, self.pooling)))
        return logits


def pool(hidden: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """Make one vector of a row's hidden states.

    TWilBERT: pads take no part; the original averages over them.

    Args:
        hidden: float ``(B, T, D)``.
        attention_mask: int64 ``(B, T)``, 0 on pads.
        pooling: ``cls`` the first token; ``avg`` and ``max`` over the tokens; ``concat`` all three.

    Returns:
        float ``(B, D)``, for ``concat`` ``(B, 3·D)``.
    """
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "concat":
        return torch.cat([pool(hidden, attention_mask, part) for part in CONCAT_ORDER], dim=-1)
    visible = attention_mask[:, :, None] != 0  # (B, T, 1)
    if pooling == "max":
        return hidden.masked_fill(~visible, torch.finfo(hidden.dtype).min).amax(dim=1)
    return (hidden * visible).sum(dim=1) / visible.sum(dim=1)


CONCAT_ORDER: tuple[Pooling, ...] = ("cls", "avg", "max")


def pooled_size(pooling: Pooling, hidden_size: int) -> int:
    """Return the size of what `pool` gives for hidden states of size D."""
    return hidden_size * len(CONCAT_ORDER) if pooling == "concat" else hidden_size
