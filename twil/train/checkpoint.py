"""Checkpoints: the whole state of a run, whole on disk or not there.

Each lies in a folder of its own, numbered in the order of writing, that is renamed into place when it is
complete; older ones are removed only then. Weights are safetensors, the rest is read with
`weights_only`, and nothing of either is code.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from twil.config.loop import LOG
from twil.core.errors import ConfigError, ModelError, TwilError, first_line
from twil.core.interruption import check_state, check_vacant_state
from twil.core.storage import atomic_folder, reserved_folder
from twil.model.folder import FILES
from twil.model.folder import WEIGHTS as MODEL

WEIGHTS, BEST, MEAN, STATE = "weights.safetensors", "best.safetensors", "mean.safetensors", "state.pt"
IDS = "track.json"
"""By which names trackers know the run."""
_NAME = re.compile(r"checkpoint-(\d{6})")
_LEFT = re.compile(r"\.checkpoint-\d{6}-.*")  # by a write that was killed
_OWN = (
    _NAME,
    _LEFT,
    *(re.compile(re.escape(name)) for name in (LOG, IDS)),
    *(re.compile(r"\.\d+-[0-9a-f]{8}\." + re.escape(name)) for name in (LOG, IDS)),  # left by a write
)


@dataclass
class Checkpoint:
    """What a run needs to go on exactly where it was.

    Attributes:
        weights: The model's tensors.
        best: Those of the best epoch so far; empty before the first.
        mean: Their running mean; empty where none is kept.
        state: Counters, history, optimiser and random states: numbers, texts, tensors and containers.
    """

    weights: dict[str, Tensor]
    best: dict[str, Tensor] = field(default_factory=dict)
    mean: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointFolder:
    """Where the checkpoints of one run lie."""

    root: Path

    @classmethod
    def beside(cls, output: Path) -> CheckpointFolder:
        """Give the folder of the run that writes `output`."""
        return cls(output.parent / f"{output.name}.checkpoint")

    def save(self, checkpoint: Checkpoint, *, keep: int = 1) -> None:
        """Write a checkpoint, then remove the ones before it but for the latest `keep`.

        Raises:
            TwilError: It cannot be written; those before it stay.
        """
        self.root.mkdir(exist_ok=True)
        for entry in self.root.iterdir():
            if _LEFT.fullmatch(entry.name):
                shutil.rmtree(entry)
        number = max(self._numbers(), default=0) + 1
        try:
            with atomic_folder(self._at(number)) as folder:
                save_file(checkpoint.weights, folder / WEIGHTS)
                save_file(checkpoint.best, folder / BEST)
                if checkpoint.mean:
                    save_file(checkpoint.mean, folder / MEAN)
                torch.save(checkpoint.state, folder / STATE)
        except (RuntimeError, safetensors.SafetensorError) as error:  # what their writers make of a full disk
            raise TwilError(
                f"no checkpoint can be written in {self.root} ({first_line(error)}): make room there and "
                "continue with --resume; what was kept before stays"
            ) from error
        for old in sorted(self._numbers())[:-keep]:
            shutil.rmtree(self._at(old))

    def load(self) -> Checkpoint | None:
        """Read the latest checkpoint onto the CPU, or None where there is none.

        Raises:
            ModelError: It cannot be read.
        """
        numbers = self._numbers()
        if not numbers:
            return None
        folder = self._at(max(numbers))
        try:
            state = torch.load(folder / STATE, weights_only=True, map_location="cpu")
            weights, best = load_file(folder / WEIGHTS), load_file(folder / BEST)
            mean = load_file(folder / MEAN) if (folder / MEAN).is_file() else {}
        except Exception as error:  # a damaged pickle may raise anything
            raise self.damaged(type(error).__name__) from error
        if not isinstance(state, dict):
            raise self.damaged(f"it holds a {type(state).__name__}")
        return Checkpoint(weights, best, mean, state)

    def damaged(self, cause: str) -> ModelError:
        """Say that the latest checkpoint is of no use."""
        return ModelError(
            f"the checkpoint in {self.root} cannot be read ({cause}): copy it again, or start anew "
            "with --force"
        )

    def check(self) -> None:
        """Refuse a folder in which something else lies.

        Raises:
            TwilError: It names what does.
        """
        check_state(self.root, _OWN)

    def check_vacant(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse to start where an interrupted run lies, unless it is continued or given up.

        Raises:
            ConfigError: It does.
            TwilError: Something else lies there.
        """
        check_vacant_state(self.root, _OWN, resume=resume, overwrite=overwrite)

    @contextmanager
    def reserved(self, output: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Be the only run that writes a model folder and, beside it, this one.

        Args:
            output: The model folder.
            resume: An interrupted run may be continued.
            overwrite: A model folder may be replaced, and an interrupted run given up.

        Raises:
            ConfigError: An interrupted run lies there, or one that is finished is to be continued.
            TwilError: The output is taken, another run writes it, or something else lies there.
        """
        if resume and not overwrite and not self._numbers() and (output / MODEL).exists():
            raise ConfigError(
                f"the run of {output} is finished, and nothing is left to continue: train on from it into "
                f"another folder (twil finetune --model {output}, twil pretrain --init {output}), or start "
                "anew with --force"
            )
        with reserved_folder(output, overwrite=overwrite, own=FILES):
            self.check_vacant(resume=resume, overwrite=overwrite)
            yield

    def clear(self) -> None:
        """Remove all checkpoints of the run, and the folder.

        Raises:
            TwilError: Something else lies in it; nothing is removed.
        """
        self.check()
        if self.root.is_dir():
            shutil.rmtree(self.root)

    def _numbers(self) -> list[int]:
        names = (entry.name for entry in self.root.iterdir()) if self.root.is_dir() else ()
        return [int(match[1]) for match in map(_NAME.fullmatch, names) if match]

    def _at(self, number: int) -> Path:
        return self.root / f"checkpoint-{number:06d}"
