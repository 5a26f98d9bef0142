"""Operators of ONNX Runtime that do in one what the standard set needs many for, put into a model by hand.

ONNX Runtime's own fusions look for patterns in a graph, and miss what differs a little from BERT. Here a
module is swapped for one that is exported as the fused operator, and computes the same in torch.
"""

# B batch   T tokens   Q queries   D hidden   H heads   K head size

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from twil.bundle.runtime import import_runtime, open_graph
from twil.core.errors import require
from twil.model.attention import DotProductAttention
from twil.model.twilbert import TWilBERT

DOMAIN = "com.microsoft"
ATTENTION, GELU = "MultiHeadAttention", "FastGelu"
INTEGER_PRODUCT = "MatMulIntegerToFloat"
"""What ONNX Runtime makes of a product between QuantizeLinear and DequantizeLinear."""
HUB_ATTENTION = "twil-fused"
"""How the transformers library calls the attention that `fuse_hub` gives it."""
FUSED = (ATTENTION, GELU)
"""The operators of `DOMAIN` that an optimised graph may hold."""


def fuse(model: TWilBERT) -> TWilBERT:
    """Copy a model with fused operators in the place of attention and GELU.

    Layer norms stay by themselves: on a CPU, SkipLayerNormalization takes several times as long as an
    addition and LayerNormalization.
    """
    fused = copy.deepcopy(model)
    for module in fused.modules():
        for name, part in module.named_children():
            if isinstance(part, DotProductAttention):
                setattr(module, name, FusedAttention(part.n_heads))
            elif isinstance(part, nn.GELU):
                setattr(module, name, FusedGelu(approximate="tanh"))
    return fused


def is_fused(model: nn.Module) -> bool:
    """Tell whether a model is one from `fuse` or `fuse_hub`."""
    return any(
        isinstance(part, FusedAttention)
        or getattr(getattr(part, "config", None), "_attn_implementation", None) == HUB_ATTENTION
        for part in model.modules()
    )


def fusions(model: TWilBERT) -> dict[str, int]:
    """Count the fused operators that the graph of a model from `fuse` should hold."""
    shape = model.config.encoder
    memories = len(set(shape.memory.layers)) if shape.memory else 0
    projection = 1 if shape.embedding_size else 0
    return {ATTENTION: shape.n_layers, GELU: shape.n_layers - memories + projection}


def count_operators(graph: Path) -> dict[str, int]:
    """Count the operators by name that ONNX Runtime makes of a graph when it loads it on a CPU."""
    onnx, runtime = require("onnx", purpose="export"), import_runtime()
    with TemporaryDirectory(dir=graph.parent) as folder:
        written = Path(folder) / "optimised.onnx"
        open_graph(runtime, graph, written=written)
        nodes = onnx.load(written, load_external_data=False).graph.node
    return dict(sorted(Counter(node.op_type for node in nodes).items()))


def attend_fused(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, n_heads: int) -> Tensor:
    """Compute what `DotProductAttention` does, exported as one operator."""
    mixed: Tensor = _Attention.apply(query, key, value, visible, n_heads)  # type: ignore[no-untyped-call]
    return mixed


class FusedAttention(DotProductAttention):
    """Attention that is exported as one operator."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
        """Compute what `DotProductAttention` does."""
        return attend_fused(query, key, value, visible, self.n_heads)


class FusedGelu(nn.GELU):
    """GELU in its tanh approximation that is exported as one operator."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Compute what `nn.GELU` does."""
        activated: Tensor = _Gelu.apply(input)  # type: ignore[no-untyped-call]
        return activated


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, query: Tensor, key: Tensor, value: Tensor, visible: Tensor, n_heads: int) -> Tensor:
        return DotProductAttention(n_heads)(query, key, value, visible)  # type: ignore[no-any-return]

    @staticmethod
    def symbolic(graph: Any, query: Any, key: Any, value: Any, visible: Any, n_heads: int) -> Any:
        no_bias = graph.op("prim::Constant")
        no_bias.setType(torch.OptionalType.ofTensor())
        visible = graph.op("Cast", visible, to_i=torch.onnx.TensorProtoDataType.INT32)
        mixed = graph.op(f"{DOMAIN}::{ATTENTION}", query, key, value, no_bias, visible, num_heads_i=n_heads)
        mixed.setType(query.type())
        return mixed


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, hidden: Tensor) -> Tensor:
        return nn.functional.gelu(hidden, approximate="tanh")

    @staticmethod
    def symbolic(graph: Any, hidden: Any) -> Any:
        activated = graph.op(f"{DOMAIN}::{GELU}", hidden)
        activated.setType(hidden.type())
        return activated
