"""How a TWilBERT model lies in a model folder: what `config.json` says, and the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from twil.config.model import ModelConfig
from twil.core.errors import ModelError
from twil.model.twilbert import TWilBERT
from twil.model.weights import check_finite, read_tensors

FORMAT = 1


def write_weights(path: Path, model: TWilBERT) -> None:
    """Write the weights of a model."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt"})


def read_weights(config: ModelConfig, path: Path) -> TWilBERT:
    """Make a model of its shape and the file of its weights.

    Raises:
        ModelError: The file cannot be read, does not fit, or holds weights that are not finite.
    """
    with torch.device("meta"):  # no weights are drawn that would be overwritten
        model = TWilBERT(config)
    weights = read_tensors(path)
    _check_fit(model, weights, source=path)
    model.load_state_dict(weights, assign=True)
    check_finite(model, path.parent)
    return model.float().eval()


def read_shape(path: Path, value: Mapping[str, Any]) -> ModelConfig:
    """Read the shape of a model.

    Args:
        path: The file, for errors.
        value: What it says.

    Raises:
        ModelError: It is of another format.
        ConfigError: It does not describe a model.
    """
    if value.get("format") != FORMAT:
        raise ModelError(f"{path} has format {value.get('format')}, this twil reads {FORMAT}: update twil")
    return ModelConfig.parse(value.get("model"), source=str(path))


def _check_fit(model: TWilBERT, weights: Mapping[str, torch.Tensor], *, source: Path) -> None:
    wanted = model.state_dict()
    faults = [f"{name} is missing" for name in wanted.keys() - weights.keys()]
    faults += [f"{name} is left over" for name in weights.keys() - wanted.keys()]
    faults += [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted.keys() & weights.keys()
        if weights[name].shape != wanted[name].shape
    ]
    if faults:
        raise ModelError(f"{source} does not fit the model: {'; '.join(sorted(faults)[:5])}")
