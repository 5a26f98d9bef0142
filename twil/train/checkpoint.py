"""Checkpoints: the whole state of a run, whole on disk or not there.

Each lies in a folder of its own, `step-N`, that is renamed into place when complete; the one before is
removed only then. Weights are safetensors, the rest is read with `weights_only`.
"""

from __future__ import annotations

import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from twil.errors import ModelError
from twil.storage import atomic_folder

WEIGHTS, BEST, STATE = "weights.safetensors", "best.safetensors", "state.pt"


@dataclass
class Checkpoint:
    """What a run needs to go on exactly where it was.

    Attributes:
        weights: The model's tensors.
        best: Those of the best epoch so far; empty before the first.
        state: Counters, history, optimiser and random states: numbers, texts, tensors and containers.
    """

    weights: dict[str, Tensor]
    best: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointFolder:
    """Where the checkpoints of one run lie."""

    root: Path

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove the ones before it."""
        self.root.mkdir(exist_ok=True)
        with atomic_folder(self._at(step), overwrite=True, own=(WEIGHTS, BEST, STATE)) as folder:
            save_file(checkpoint.weights, folder / WEIGHTS)
            save_file(checkpoint.best, folder / BEST)
            torch.save(checkpoint.state, folder / STATE)
        for old in self._steps():
            if old != step:
                shutil.rmtree(self._at(old))

    def load(self) -> Checkpoint | None:
        """Read the latest checkpoint, or None where there is none.

        Raises:
            ModelError: It cannot be read.
        """
        steps = self._steps()
        if not steps:
            return None
        folder = self._at(max(steps))
        try:
            return Checkpoint(
                weights=load_file(folder / WEIGHTS),
                best=load_file(folder / BEST),
                state=torch.load(folder / STATE, weights_only=True),
            )
        except (OSError, RuntimeError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
            raise ModelError(
                f"the checkpoint {folder} cannot be read ({error}): remove {self.root} and start anew"
            ) from error

    def clear(self) -> None:
        """Remove all checkpoints of the run."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _steps(self) -> list[int]:
        return [int(folder.name.removeprefix("step-")) for folder in self.root.glob("step-*")]

    def _at(self, step: int) -> Path:
        return self.root / f"step-{step:08d}"
