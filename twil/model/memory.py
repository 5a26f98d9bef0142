"""Product-key memory (Lample et al. 2019, "Large Memory Layers with Product Keys")."""

# B batch   T tokens   D hidden   H memory heads   N sub-keys per half   C half of a key
# R slots read per head   V value size

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twil.config.model import MemoryConfig


class ProductKeyMemory(nn.Module):
    """A memory of N² values, each found by the sum of two sub-key scores.

    The best R of the N² sums lie among the R × R sums of the best R of each half (section 3.1), so
    that 2·N scores replace N². Every head reads the same values; the heads' results are summed.

    Args:
        config: Its shape.
        hidden_size: D.
    """

    def __init__(self, config: MemoryConfig, hidden_size: int) -> None:
        super().__init__()
        self.n_heads, self.n_keys, self.knn = config.n_heads, config.n_keys, config.knn
        self.half_size = config.key_size // 2
        value_size = config.value_size or hidden_size
        self.query = nn.Linear(hidden_size, config.n_heads * config.key_size)
        # TWilBERT: the flag means what it says, and the statistics are saved; the original inverts it.
        self.query_norm = nn.BatchNorm1d(config.n_heads * config.key_size) if config.query_norm else None
        self.keys = nn.Parameter(torch.empty(config.n_heads, 2, config.n_keys, self.half_size))
        self.values = nn.Parameter(torch.empty(config.n_keys**2, value_size))
        # TWilBERT: factorised value tables work; the original has their switch and no code behind it.
        self.projection = nn.Linear(value_size, hidden_size) if config.value_size else None
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.output_dropout = nn.Dropout(config.output_dropout)

    def forward(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Read the memory for every token.

        Args:
            hidden: float ``(B, T, D)``.
            visible: bool ``(B, T)``; pads do not count in the queries' statistics.

        Returns:
            float ``(B, T, D)``.
        """
        weights, slots = self._best(self.scores(hidden, visible))
        read = self._read(weights.flatten(2), slots.flatten(2))  # (B, T, V)
        if self.projection is not None:
            read = self.projection(read)  # (B, T, D)
        output: Tensor = self.output_dropout(read)
        return output

    def scores(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Score both halves of all keys for every token; arguments as for `forward`.

        Returns:
            float ``(B, T, H, 2, N)``.
        """
        B, T, _ = hidden.shape
        query = self._normalize(self.query(self.input_dropout(hidden)), visible)
        query = query.view(B, T, self.n_heads, 2, self.half_size)
        return torch.einsum("bthpc,hpnc->bthpn", query, self.keys)  # (B, T, H, 2, N)

    def _normalize(self, query: Tensor, visible: Tensor) -> Tensor:
        if self.query_norm is None:
            return query
        if not self.training:
            normalized: Tensor = self.query_norm(query.flatten(0, 1)).view_as(query)
            return normalized
        return query.masked_scatter(visible[:, :, None], self.query_norm(query[visible]))

    def _best(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Find the R best slots of every head and their softmax weights, both ``(B, T, H, R)``."""
        half_scores, half_keys = scores.topk(self.knn, dim=-1)  # (B, T, H, 2, R)
        sums = half_scores[..., 0, :, None] + half_scores[..., 1, None, :]  # (B, T, H, R, R)
        slots = half_keys[..., 0, :, None] * self.n_keys + half_keys[..., 1, None, :]
        best, position = sums.flatten(-2).topk(self.knn, dim=-1)  # (B, T, H, R)
        return best.softmax(dim=-1), slots.flatten(-2).gather(-1, position)

    def _read(self, weights: Tensor, slots: Tensor) -> Tensor:
        """Sum the values at `slots` by `weights`, both ``(B, T, H·R)``, into ``(B, T, V)``."""
        if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
            # Standard operators only; a few hundred values a token are held at once.
            return torch.einsum("btr,btrv->btv", weights, F.embedding(slots, self.values))
        B, T, R = slots.shape
        weights = weights.to(self.values.dtype)  # under autocast they are of another
        bags = F.embedding_bag(
            slots.view(B * T, R), self.values, per_sample_weights=weights.view(B * T, R), mode="sum"
        )  # (B·T, V), without holding B·T·H·R values
        return bags.view(B, T, -1)
