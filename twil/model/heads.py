"""Heads on the encoder: masked language model, reply order, and classifier with its pooling."""

# B batch   T tokens   D hidden   P vocabulary   L outputs

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twil.config.model import ClassifierConfig, Pooling, RopConfig
from twil.core.errors import ConfigError
from twil.model.encoder import gelu
from twil.text.tokenizer import CLS_ID, SEP_ID

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


OwnHead = Callable[[int, int], nn.Module]
"""From the size of a pooled row and the number of outputs to a module that maps the one to the other."""
_OWN: dict[str, OwnHead] = {}
LINEAR = "linear"
LIBRARY = "library"
"""As the name of a head on an encoder of the transformers library: the library's own."""


def register_head(name: str) -> Callable[[OwnHead], OwnHead]:
    """Make a head of one's own one that `model.classifier.head` can choose; for use as a decorator.

    A model folder keeps the head's name and weights, never its code: whoever loads the folder registers the
    same head first.

    Raises:
        ConfigError: There is such a head already.
    """
    if name in (LINEAR, LIBRARY) or name in _OWN:
        raise ConfigError(f"there is a head '{name}' already: choose another name")

    def register(head: OwnHead) -> OwnHead:
        _OWN[name] = head
        return head

    return register


def check_head(name: str) -> None:
    """Refuse a head that nobody has registered.

    Raises:
        ConfigError: It lists those that there are.
    """
    if name != LINEAR and name not in _OWN:
        known = ", ".join([LINEAR, *_OWN])
        raise ConfigError(
            f"there is no head '{name}' (there is {known}): one of your own is known after register_head, "
            "which has to run before the model is made or loaded"
        )


class ClassifierHead(nn.Module):
    """Pooling, dropout and one dense layer, or a head of one's own in its place.

    Args:
        config: Pooling, dropout and the name of the head.
        hidden_size: D.
        outputs: L.
        special: The ids of the tokens that begin a row and end a text.

    Raises:
        ConfigError: There is no such head.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        hidden_size: int,
        outputs: int,
        special: tuple[int, int] = (CLS_ID, SEP_ID),
    ) -> None:
        super().__init__()
        check_head(config.head)
        self.config = config
        self.special = special
        self.dropout = nn.Dropout(config.dropout)
        make: OwnHead = nn.Linear if config.head == LINEAR else _OWN[config.head]
        self.output = make(pooled_size(config.pooling, hidden_size), outputs)

    @property
    def pooling(self) -> Pooling:
        """How it makes one vector of a row."""
        return self.config.pooling

    def take(self, config: ClassifierConfig) -> bool:
        """Take another dropout; false where anything else differs, for which the weights are not made."""
        if not config.has_weights_of(self.config):
            return False
        self.config = config
        self.dropout.p = config.dropout
        return True

    def pooled_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tell which tokens of int64 ``(B, T)`` the pooling reads, as a mask of the same shape."""
        if self.config.special_tokens or self.pooling == "cls":
            return attention_mask
        return content_mask(input_ids, attention_mask, self.special)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Map hidden states float ``(B, T, D)``, pooled by a mask ``(B, T)``, to logits ``(B, L)``."""
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


def content_mask(
    input_ids: Tensor, attention_mask: Tensor, special_ids: tuple[int, int] = (CLS_ID, SEP_ID)
) -> Tensor:
    """Leave [CLS] and [SEP] out of a mask int64 ``(B, T)``, but not of a row that has nothing else."""
    cls, sep = special_ids
    special = (input_ids == cls) | (input_ids == sep)
    content = attention_mask * (~special).to(attention_mask.dtype)
    is_empty = content.sum(dim=1, keepdim=True) == 0  # (B, 1)
    return torch.where(is_empty, attention_mask, content)


CONCAT_ORDER: tuple[Pooling, ...] = ("cls", "avg", "max")


def pooled_size(pooling: Pooling, hidden_size: int) -> int:
    """Return the size of what `pool` gives for hidden states of size D."""
    return hidden_size * len(CONCAT_ORDER) if pooling == "concat" else hidden_size
