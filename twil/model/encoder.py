"""The TWilBERT encoder: embeddings and post-norm transformer blocks."""

# B batch   T tokens   D hidden   E embedding

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twil.config.model import EncoderConfig, MemoryConfig
from twil.model.attention import SelfAttention
from twil.model.memory import ProductKeyMemory
from twil.model.packing import Packing, packed_attention

N_SEGMENTS = 2  # the first text and the second


def gelu() -> nn.GELU:
    """Make the tanh approximation of GELU (Hendrycks and Gimpel 2016), as BERT has it."""
    return nn.GELU(approximate="tanh")


class Embeddings(nn.Module):
    """The sum of token, position and segment embeddings; factorised, projected through a GELU."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size = config.embedding_size or config.hidden_size
        self.token = nn.Embedding(config.vocab_size, size)
        self.position = nn.Embedding(config.max_positions, size)
        self.segment = nn.Embedding(N_SEGMENTS, size)
        self.projection = nn.Linear(size, config.hidden_size) if config.embedding_size else None
        self.activation = gelu()
        self.dropout = nn.Dropout1d(config.input_dropout)

    def forward(self, input_ids: Tensor, segment_ids: Tensor, packing: Packing | None = None) -> Tensor:
        """Embed int64 ``(B, T)`` token ids and segments as float ``(B, T, D)``; of a packed batch, B is 1."""
        if packing is None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        else:
            positions = packing.positions
        hidden: Tensor = self.token(input_ids) + self.position(positions)
        hidden = hidden + self.segment(segment_ids)  # (B, T, E)
        if self.projection is not None:
            hidden = self.activation(self.projection(hidden))  # (B, T, D)
        # A dropped channel is dropped at every token of its row.
        if packing is None:
            output: Tensor = self.dropout(hidden.transpose(1, 2)).transpose(1, 2)
            return output
        if not self.training or not self.dropout.p:
            return hidden
        channels = F.dropout(hidden.new_ones(len(packing.lengths), hidden.shape[-1]), self.dropout.p)
        return hidden * channels[packing.rows]


class FeedForward(nn.Module):
    """Two dense layers with a GELU between them."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.feed_forward_size)
        self.activation = gelu()
        self.down = nn.Linear(config.feed_forward_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map float ``(B, T, D)`` to the same shape, each token by itself."""
        output: Tensor = self.down(self.activation(self.up(hidden)))
        return output


class Block(nn.Module):
    """Attention, then a feed-forward or a product-key memory, each added and normalised (post-norm).

    Args:
        config: The encoder's shape.
        memory: The memory that replaces the feed-forward, if this block has one.
    """

    def __init__(self, config: EncoderConfig, memory: MemoryConfig | None = None) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = None if memory else FeedForward(config)
        self.memory = ProductKeyMemory(memory, config.hidden_size) if memory else None
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        # TWilBERT: dropout is off outside training; the original leaves it on when predicting.
        self.dropout = nn.Dropout(config.output_dropout)

    def forward(self, hidden: Tensor, visible: Tensor, packing: Packing | None = None) -> Tensor:
        """Map float ``(B, T, D)`` to the same shape; `visible` bool ``(B, T)`` is false on pads."""
        return self._transform(hidden, self.attention(hidden, visible, packing), visible)

    def first(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Compute what `forward` gives at the first token, float ``(B, 1, D)``, and at no other."""
        if self.training and self.memory is not None and self.memory.query_norm is not None:
            all_tokens: Tensor = self(hidden, visible)  # queries are normalised over them
            return all_tokens[:, :1]
        return self._transform(hidden[:, :1], self.attention.first(hidden, visible), visible[:, :1])

    def _transform(self, hidden: Tensor, attended: Tensor, visible: Tensor) -> Tensor:
        hidden = self.attention_norm(hidden + self.dropout(attended))
        if self.memory is not None:
            change = self.memory(hidden, visible)
        else:
            assert self.feed_forward is not None
            change = self.feed_forward(hidden)
        output: Tensor = self.output_norm(hidden + self.dropout(change))
        return output


class Encoder(nn.Module):
    """From token ids to hidden states.

    Args:
        config: Its shape. With `share_layers`, all plain layers are one block, and so are all layers
            with a memory.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList()
        self.plan: list[int] = []  # which block each layer uses
        shared: dict[bool, int] = {}
        for layer in range(config.n_layers):
            memory = config.memory if config.memory and layer in config.memory.layers else None
            kind = memory is not None
            if not config.share_layers or kind not in shared:
                shared[kind] = len(self.blocks)
                self.blocks.append(Block(config, memory))
            self.plan.append(shared[kind])
        self.reset_parameters()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        segment_ids: Tensor,
        packing: Packing | None = None,
    ) -> Tensor:
        """Encode rows of tokens.

        Args:
            input_ids: int64 ``(B, T)``, T at most `max_positions`.
            attention_mask: int64 ``(B, T)``, 0 on pads.
            segment_ids: int64 ``(B, T)``, 0 or 1.
            packing: The rows of a packed batch, whose B is 1.

        Returns:
            Hidden states, float ``(B, T, D)``.
        """
        hidden = self.embeddings(input_ids, segment_ids, packing)
        visible = attention_mask != 0
        for block in self.plan:
            hidden = self.blocks[block](hidden, visible, packing)
        output: Tensor = hidden
        return output

    def first(self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor) -> Tensor:
        """Compute what `forward` gives at the first token, float ``(B, 1, D)``, and nothing for it in vain.

        The last layer has then one query a row: its other queries, its output and its feed-forward are left
        out.
        """
        hidden = self.embeddings(input_ids, segment_ids)
        visible = attention_mask != 0
        *before, last = (self.blocks[block] for block in self.plan)
        for block in before:
            hidden = block(hidden, visible)
        assert isinstance(last, Block)
        return last.first(hidden, visible)

    def compile_layers(self) -> None:
        """Compile with torch.compile, but for attention in packed rows, whose groups differ each time."""
        # Not a decorator of the function, for which torch would import its compiler in every program.
        attend_packed = torch.compiler.disable(packed_attention)  # type: ignore[no-untyped-call]
        for module in self.modules():
            if isinstance(module, SelfAttention):
                module.attend_packed = attend_packed
        self.compile(dynamic=True)

    def reset_parameters(self) -> None:
        """Draw new weights: dense layers and embeddings as BERT does, memories as their paper does."""
        initialize(self, self.config.initializer_range)
        for module in self.modules():
            if isinstance(module, ProductKeyMemory):
                draw_memory(module)


def initialize(module: nn.Module, deviation: float) -> None:
    """Draw dense and embedding weights from a normal of mean 0, cut at two deviations; biases are 0.

    TWilBERT: the heads' mean is 0 too; the original passes the deviation as their mean.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def draw_memory(memory: ProductKeyMemory) -> None:
    """Draw the keys and values of a memory as its paper does."""
    bound = 1 / math.sqrt(memory.half_size)
    nn.init.uniform_(memory.keys, -bound, bound)
    nn.init.normal_(memory.values, std=1 / math.sqrt(memory.values.shape[1]))
