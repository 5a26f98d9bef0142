"""Packed batches: rows one behind the other, without pads, each attending to itself alone."""

# N tokens of all rows   B rows   H heads   K head size

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from twil.model.dot_product import attention_precision, dot_product_attention

_HAS_VARLEN = importlib.util.find_spec("torch.nn.attention.varlen") is not None  # older torch lacks it
_VARLEN_TYPES = (torch.float16, torch.bfloat16)
_VARLEN_LONGEST_HEAD, _VARLEN_HEAD_GRAIN = 256, 8
_AMPERE = (8, 0)


@dataclass(frozen=True)
class Packing:
    """Where the rows of a packed batch lie.

    Attributes:
        lengths: Tokens of each row, known to the host, so that nothing waits for the device.
        offsets: int32 ``(B + 1,)`` on the device of the batch: where each row begins, and N.
        positions: int64 ``(N,)`` there: the place of each token in its row.
    """

    lengths: tuple[int, ...]
    offsets: Tensor
    positions: Tensor

    @classmethod
    def of(cls, lengths: list[int], device: torch.device | str = "cpu") -> Packing:
        """Pack rows of these lengths."""
        offsets = torch.tensor(list(itertools.accumulate(lengths, initial=0)), dtype=torch.int32)
        sizes = torch.tensor(lengths)
        positions = torch.arange(int(offsets[-1])) - offsets[:-1].long().repeat_interleave(sizes)
        return cls(tuple(lengths), offsets.to(device), positions.to(device))

    @property
    def longest(self) -> int:
        """The length of the longest row."""
        return max(self.lengths)

    @cached_property
    def rows(self) -> Tensor:
        """The row of each token, int64 ``(N,)``."""
        counts = self.offsets.diff()
        numbers = torch.arange(len(self.lengths), device=counts.device)
        return numbers.repeat_interleave(counts, output_size=self.positions.shape[0])


def packed_attention(mixed: Tensor, packing: Packing) -> Tensor:
    """Let every token attend to the tokens of its own row.

    On CUDA in half precision, one kernel for rows of any lengths does it where it can; elsewhere, rows of
    the same length that follow each other are computed together.

    Args:
        mixed: float ``(N, 3, H, K)``: queries, keys and values.
        packing: Where the rows lie.

    Returns:
        float ``(N, H, K)``; its precision is that of `dot_product_attention`.
    """
    if _has_kernel(mixed):
        return _varlen_attention(mixed, packing)
    groups = [(length, len(list(group))) for length, group in itertools.groupby(packing.lengths)]
    contexts = []
    # Split once, not sliced: the gradient of a slice is as large as the whole.
    parts = attention_precision(mixed).split_with_sizes([length * rows for length, rows in groups])
    for part, (length, rows) in zip(parts, groups, strict=True):
        heads = part.view(rows, length, *part.shape[1:]).permute(2, 0, 3, 1, 4)  # (3, rows, H, T, K)
        query, key, value = heads.unbind(0)
        context = dot_product_attention(query, key, value)
        contexts.append(context.transpose(1, 2).flatten(0, 1))  # (rows·T, H, K)
    return torch.cat(contexts)


def _has_kernel(mixed: Tensor) -> bool:
    """Tell whether the kernel for rows of any lengths takes these heads on their device."""
    head_size = mixed.shape[-1]
    return (
        _HAS_VARLEN
        and mixed.is_cuda
        and mixed.dtype in _VARLEN_TYPES
        and head_size % _VARLEN_HEAD_GRAIN == 0
        and head_size <= _VARLEN_LONGEST_HEAD
        and torch.cuda.get_device_capability(mixed.device) >= _AMPERE
    )


def _varlen_attention(mixed: Tensor, packing: Packing) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = mixed.unbind(1)
    offsets, longest = packing.offsets, packing.longest
    context = varlen_attn(query, key, value, offsets, offsets, longest, longest)
    assert isinstance(context, Tensor)  # no statistics are asked for
    return context
