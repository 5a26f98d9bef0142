"""The files of a model's weights: which they are, and what tensors they hold."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from twil.core.errors import ModelError, first_line
from twil.core.storage import LFS_POINTER, is_lfs_pointer


def weights_files(folder: Path) -> list[Path]:
    """List the files of the weights of a model in a folder."""
    safe = sorted(folder.glob("model*.safetensors"))
    return safe or sorted(folder.glob("pytorch_model*.bin"))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, by name.

    Raises:
        ModelError: It was not fetched, cannot be read, or holds more than tensors.
    """
    if is_lfs_pointer(path):
        raise ModelError(f"{path} {LFS_POINTER}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, safetensors.SafetensorError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path} cannot be read ({unread(error)}): copy the folder again") from error
    if not (isinstance(found, dict) and all(isinstance(entry, Tensor) for entry in found.values())):
        raise ModelError(f"{path} is no file of weights: it holds more than tensors")
    return found


def folder_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Read the names and tensors of the weights in a folder, file by file; raises as `read_tensors`."""
    for file in weights_files(folder):
        yield from read_tensors(file).items()


def unread(error: BaseException) -> str:
    """Say why weights could not be read, without torch's advice to run what a file holds."""
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "what it holds is no plain tensors, or it is damaged"
    return first_line(error)


def check_finite(model: nn.Module, source: str | Path) -> None:
    """Refuse a model with a weight that is not finite.

    Args:
        model: The model.
        source: Where its weights come from, for the error.

    Raises:
        ModelError: It names the first such weight.
    """
    for name, weights in model.named_parameters():
        # A sum is not finite where one number is not, and takes no memory.
        if not weights.sum().isfinite() and not weights.isfinite().all():
            raise ModelError(
                f"the weights of {source} are not finite ({name} holds NaN or infinity), as training that "
                "diverges leaves them: train it again with a lower learning rate, or give another model"
            )
