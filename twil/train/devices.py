"""Where a model is trained, and in which arithmetic."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from twil.config.loop import Precision
from twil.errors import ConfigError
from twil.machine import cpu_flags

Arithmetic = Literal["fp32", "bf16", "fp16"]

_BF16_UNITS = ("avx512_bf16", "amx_bf16")  # elsewhere a CPU emulates it, several times slower than fp32


def choose_device(name: str, precision: Precision) -> torch.device:
    """Find the device to train on.

    Args:
        name: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.
        precision: The arithmetic that is wanted there.

    Raises:
        ConfigError: The device is not there, or cannot do that arithmetic.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("torch sees no CUDA device: use --device cpu, or install a CUDA build of torch")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"there is no device '{name}': choose auto, cpu or cuda")
    if precision == "fp16" and name == "cpu":
        raise ConfigError("precision fp16 needs a CUDA device: use bf16 or fp32 on a CPU")
    return torch.device(name)


def choose_precision(precision: Precision, device: torch.device) -> Arithmetic:
    """Give the arithmetic to train in: for ``auto`` bf16 where the device has units for it, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    flags = cpu_flags()
    return "bf16" if any(flags.get(unit) for unit in _BF16_UNITS) else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Compute in a lower precision where it is safe to."""
    arithmetic = choose_precision(precision, device)
    if arithmetic == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if arithmetic == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)
