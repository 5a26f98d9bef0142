"""Attention is computed in the precision that suits the device, and the rest in the one asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from twil.config.model import EncoderConfig
from twil.model.attention import SelfAttention
from twil.model.packing import Packing


class SeenTypes(TorchDispatchMode):
    """Notes the type of the first input of each kernel of attention and of each matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.attention: set[torch.dtype] = set()
        self.products: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if "scaled_dot_product" in name:
            self.attention.add(args[0].dtype)
        elif name == "mm":
            self.products.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, None], ids=str)
def test_autocast_on_a_cpu_leaves_attention_in_single_precision(
    packed: bool, dtype: torch.dtype | None
) -> None:
    torch.manual_seed(0)
    attention = SelfAttention(EncoderConfig(vocab_size=9, hidden_size=16, n_heads=2, head_size=8))
    hidden = torch.randn(1, 6, 16, requires_grad=True)
    visible, packing = torch.ones(1, 6, dtype=torch.bool), Packing.of([6]) if packed else None
    exact = attention(hidden, visible, packing)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None), SeenTypes() as seen:
        output = attention(hidden, visible, packing)
        output.float().square().sum().backward()
    assert seen.attention == {torch.float32}  # forwards and backwards
    assert seen.products == {dtype or torch.float32}
    assert output.dtype == (dtype or torch.float32)
    torch.testing.assert_close(output.float(), exact, atol=2e-3, rtol=2e-2)
