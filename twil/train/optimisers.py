"""Optimisers by name, with weight decay where it belongs."""

from __future__ import annotations

import torch
from torch import nn


def adamw(model: nn.Module, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Make AdamW (Loshchilov and Hutter 2019) for a model.

    Biases and norms, the parameters with one axis, do not decay.

    Args:
        model: Its trainable parameters are taken.
        lr: The learning rate; the loop sets it before every step.
        weight_decay: For the parameters with two axes or more.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, fused=True)
