"""Where a model is trained, and in which arithmetic."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import torch

from twil.config.distillation import DistillConfig
from twil.config.loop import Precision
from twil.config.pretraining import PretrainConfig
from twil.config.training import FinetuneConfig
from twil.core.errors import ConfigError
from twil.core.machine import cpu_flags

Arithmetic = Literal["fp32", "bf16", "fp16"]
AnyConfig = TypeVar("AnyConfig", FinetuneConfig, PretrainConfig, DistillConfig)

_BF16_UNITS = ("avx512_bf16", "amx_bf16")  # elsewhere a CPU emulates it, several times slower than fp32
_BF16_HIDDEN = 256
"""The smallest hidden size that gains much by bf16. Measured on an AMD EPYC with AVX512-BF16, two threads:
0.9 times as fast as fp32 at 64, 1.15 times at 128, 1.4 times at 256, 1.6 times at 768."""


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


def settle_precision(config: AnyConfig, device: torch.device, hidden_size: int) -> AnyConfig:
    """Give a run's configuration with the arithmetic that its precision stands for on a device."""
    arithmetic = choose_precision(config.train.precision, device, hidden_size)
    train = config.train.model_copy(update={"precision": arithmetic})
    return config.model_copy(update={"train": train})


def choose_precision(precision: Precision, device: torch.device, hidden_size: int) -> Arithmetic:
    """Give the arithmetic to train in.

    For ``auto`` that is bf16 where the device has units for it and the model is large enough to gain by them,
    else fp32. It depends on nothing that is measured while it runs, so that the same run on the same machine
    is always the same one.
    """
    if precision != "auto":
        return precision
    if hidden_size < _BF16_HIDDEN or not _has_bf16(device):
        return "fp32"
    return "bf16"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = cpu_flags()
    return any(flags.get(unit) for unit in _BF16_UNITS)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Compute in a lower precision where it is safe to.

    Args:
        device: Of the model.
        precision: As `choose_precision` gives it.
    """
    assert precision != "auto"
    if precision == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)
