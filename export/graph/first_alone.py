"""A last layer that is computed for the first token of each row alone, where a classifier reads no other.

The layer is the library's own. It is given the first token, and those of its projections that make keys and
values are given them all.
"""

# B batch   T tokens   D hidden   L outputs

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from twil.core.errors import ConfigError
from twil.model.hub.model import HubModel

_KEYS_AND_VALUES = frozenset({"key", "k_lin", "k_proj", "value", "v_lin", "v_proj"})
"""What the library's families call these projections."""
_SHAPE = (3, 7)
"""Rows and tokens that both ways are compared on; the rows are of different lengths."""
_CLOSE = 1e-4


def first_alone(model: HubModel) -> HubModel | None:
    """Copy a classifier such that its last layer is computed for the first token of each row alone.

    Args:
        model: One whose attention takes its keys by the heads of its query, as `fuse_hub` makes it.

    Returns:
        None where that cannot be done, or changes the logits: the classifier reads other tokens too.
    """
    trimmed = copy.deepcopy(model)
    try:
        last = trimmed.depths[-1]
    except ConfigError:
        return None
    projections = [
        (part, name)
        for part in last.modules()
        for name, child in part.named_children()
        if name in _KEYS_AND_VALUES and isinstance(child, nn.Linear)
    ]
    if len(projections) != 2:
        return None
    layer = _FirstAlone(last, [_OfAll.put(part, name) for part, name in projections])
    for part in list(trimmed.modules()):
        if isinstance(part, nn.ModuleList) and part[-1] is last:
            part[-1] = layer
    return trimmed if _agree(model, trimmed) else None


class _OfAll(nn.Module):
    """A projection of hidden states other than those it is called with."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection
        self.hidden: Tensor | None = None

    @classmethod
    def put(cls, part: nn.Module, name: str) -> _OfAll:
        """Put one in a projection's place."""
        made = cls(getattr(part, name))
        setattr(part, name, made)
        return made

    def forward(self, _: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.hidden)  # (B, T, D)
        return projected


class _FirstAlone(nn.Module):
    """A layer that maps hidden states float ``(B, T, D)`` to those of the first token ``(B, 1, D)``."""

    def __init__(self, layer: nn.Module, projections: list[_OfAll]) -> None:
        super().__init__()
        self.layer = layer
        self._projections = projections

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        for projection in self._projections:
            projection.hidden = hidden
        return self.layer(hidden[:, :1], *args, **kwargs)


def _agree(model: HubModel, trimmed: HubModel) -> bool:
    """Tell whether both give the same logits float ``(B, L)``."""
    rows, tokens = _SHAPE
    ids = torch.arange(rows * tokens).view(_SHAPE) % model.vocab_size
    visible = (torch.arange(tokens) < tokens - torch.arange(rows)[:, None]).long()
    with torch.inference_mode():
        expected = model.eval()(ids, visible)
        try:
            found = trimmed.eval()(ids, visible)
        except (RuntimeError, TypeError, ValueError):  # a layer that wants its tokens in their places
            return False
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=_CLOSE, atol=_CLOSE)
