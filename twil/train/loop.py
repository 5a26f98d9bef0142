"""The one training loop: accumulation, precision, clipping, schedule, evaluation, checkpoints, resume.

Pretraining and fine-tuning share it; each brings an `Objective`: its data, loss and metrics. The loop
yields events and draws or prints nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from twil.config.training import Precision, TrainConfig
from twil.errors import ConfigError, ModelError
from twil.train.checkpoint import Checkpoint, CheckpointFolder
from twil.train.optimisers import adamw
from twil.train.schedules import rate

MicroBatch: TypeAlias = Any  # whatever the objective makes of a share of its data


class Objective(Protocol):
    """What is trained."""

    @property
    def model(self) -> nn.Module:
        """The module whose parameters are trained, on its device."""
        ...

    def epoch(self, number: int) -> Sequence[MicroBatch]:
        """Give the micro-batches of an epoch, counted from 1: the same ones whenever it is asked."""
        ...

    def weight(self, batch: MicroBatch) -> float:
        """Count what the loss of a micro-batch is summed over."""
        ...

    def loss(self, batch: MicroBatch) -> Tensor:
        """Sum the loss over a micro-batch, a scalar with a gradient."""
        ...

    def evaluate(self) -> Mapping[str, float]:
        """Measure the model on dev."""
        ...


@dataclass(frozen=True)
class StepDone:
    """An optimiser step was taken.

    Under fp16, a step whose gradients overflow leaves the weights as they are and counts all the same.

    Attributes:
        step: Its number, from 1, of `steps`.
        epoch: The epoch it belongs to, from 1, of `epochs`.
        loss: The mean loss of its rows.
        lr: The learning rate it used.
        rows: What its loss was summed over.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    lr: float
    rows: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch has ended and was evaluated.

    Attributes:
        epoch: Its number, from 1.
        loss: Mean training loss.
        metrics: What dev gave.
        best: Whether it is the best so far.
        last: Whether training ends with it.
        seconds: Time of training and evaluation.
    """

    epoch: int
    loss: float
    metrics: dict[str, float]
    best: bool
    last: bool
    seconds: float


@dataclass(frozen=True)
class Interrupted:
    """The run was asked to stop, and its state is kept."""

    epoch: int
    step: int


LoopEvent: TypeAlias = StepDone | EpochDone | Interrupted


@dataclass
class Progress:
    """Where a run stands; everything but tensors that a checkpoint keeps."""

    step: int = 0
    epoch: int = 1
    position: int = 0
    """Micro-batches of this epoch that are done."""
    loss_sum: float = 0.0
    loss_rows: float = 0.0
    seconds: float = 0.0
    """Time spent on this epoch, over all its sittings."""
    best_value: float = -math.inf
    best_epoch: int = 0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """One run of the loop.

    Args:
        objective: What is trained. Its model ends with the weights of the best epoch.
        config: The loop's options, resolved: `lr` is set and `warmup` is in steps.
        steps: Optimiser steps of the whole run, see `count_steps`.
        checkpoints: Where the state is kept.
        fingerprint: What must be the same for a run to be continued.
        should_stop: Asked after every step; true ends the run with a checkpoint.
    """

    def __init__(
        self,
        objective: Objective,
        config: TrainConfig,
        *,
        steps: int,
        checkpoints: CheckpointFolder,
        fingerprint: Mapping[str, Any],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        assert config.lr is not None
        self.objective, self.config, self.steps = objective, config, steps
        self.checkpoints, self.fingerprint, self.should_stop = checkpoints, dict(fingerprint), should_stop
        self.device = next(objective.model.parameters()).device
        self.peak = config.lr
        self.optimiser = adamw(objective.model, lr=config.lr, weight_decay=config.weight_decay)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.clock = 0.0

    def run(self) -> Iterator[LoopEvent]:
        """Train until the last epoch, or until patience ends or a stop is asked for.

        Raises:
            ModelError: The loss is not finite; the weights are those before that step.
        """
        while not self.progress.finished:
            for event in self._epoch():
                yield event
                if isinstance(event, Interrupted):
                    return
        self.objective.model.load_state_dict(self.best)

    def resume(self) -> bool:
        """Take up the latest checkpoint; false where there is none.

        Raises:
            ConfigError: It is that of a run with other settings or data.
            ModelError: It cannot be read.
        """
        checkpoint = self.checkpoints.load()
        if checkpoint is None:
            return False
        state = checkpoint.state
        _check_same(state.get("fingerprint"), self.fingerprint, self.checkpoints)
        try:
            self.objective.model.load_state_dict(checkpoint.weights)
            self.optimiser.load_state_dict(state["optimiser"])
            self.scaler.load_state_dict(state["scaler"])
            self.progress = Progress(**state["progress"])
            _set_random_state(state["random"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise self.checkpoints.damaged(type(error).__name__) from error
        self.best = checkpoint.best
        return True

    def _epoch(self) -> Iterator[LoopEvent]:
        at, config = self.progress, self.config
        batches = self.objective.epoch(at.epoch)
        self.objective.model.train()
        self.clock = time.monotonic()
        while at.position < len(batches):
            yield self._step(batches[at.position : at.position + config.accumulation])
            if self.should_stop():
                self._save()
                yield Interrupted(at.epoch, at.step)
                return
            if time.monotonic() - self.clock > 60 * config.checkpoint_minutes:
                self._save()
        metrics = dict(self.objective.evaluate())
        done = self._close_epoch(metrics)
        self._save()
        yield done
        if self.should_stop() and not at.finished:
            yield Interrupted(done.epoch, at.step)

    def _step(self, batches: Sequence[MicroBatch]) -> StepDone:
        """Take one optimiser step over the mean loss of all micro-batches together."""
        at = self.progress
        lr = self._set_rate()
        rows = sum(self.objective.weight(batch) for batch in batches)
        loss_sum = self._backward(batches, rows)
        if not math.isfinite(loss_sum):
            raise ModelError(
                f"the loss is {loss_sum} in epoch {at.epoch}, step {at.step + 1}: "
                "start anew (--force) with a lower learning rate (--lr), a longer warm-up or precision fp32"
            )
        if self.config.clip:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.objective.model.parameters(), self.config.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        at.step, at.position = at.step + 1, at.position + len(batches)
        at.loss_sum, at.loss_rows = at.loss_sum + loss_sum, at.loss_rows + rows
        return StepDone(
            at.step, self.steps, at.epoch, self.config.epochs, loss=loss_sum / rows, lr=lr, rows=rows
        )

    def _set_rate(self) -> float:
        share = rate(
            self.config.schedule, self.progress.step + 1, warmup=self.config.warmup, steps=self.steps
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self.peak * share
        return self.peak * share

    def _backward(self, batches: Sequence[MicroBatch], rows: float) -> float:
        """Add up the gradients of the loss per row; return the loss summed over all rows."""
        total = torch.zeros((), device=self.device)
        try:
            for batch in batches:
                with autocast(self.device, self.config.precision):
                    loss = self.objective.loss(batch)
                self.scaler.scale(loss / rows).backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"memory ran out on {self.device.type} in epoch {self.progress.epoch}: take smaller batches "
                "(--batch-tokens) and, to keep the size of a step, train.accumulation"
            ) from error
        return total.item()

    def _close_epoch(self, metrics: dict[str, float]) -> EpochDone:
        at, metric = self.progress, self.config.metric
        if metric not in metrics:
            raise ConfigError(f"there is no metric '{metric}' on dev: choose one of {', '.join(metrics)}")
        best = metrics[metric] > at.best_value
        if best:
            at.best_value, at.best_epoch = metrics[metric], at.epoch
            self.best = _copy(self.objective.model.state_dict())
        self._read_clock()
        patience = self.config.patience
        at.finished = at.epoch >= self.config.epochs or (
            patience is not None and at.epoch - at.best_epoch >= patience
        )
        done = EpochDone(at.epoch, at.loss_sum / at.loss_rows, metrics, best, at.finished, at.seconds)
        at.history.append({"epoch": done.epoch, "loss": done.loss, "seconds": done.seconds, **metrics})
        at.epoch, at.position, at.loss_sum, at.loss_rows, at.seconds = at.epoch + 1, 0, 0.0, 0.0, 0.0
        return done

    def _read_clock(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    def _save(self) -> None:
        self._read_clock()
        state = {
            "fingerprint": self.fingerprint,
            "progress": vars(self.progress),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": _random_state(),
        }
        weights = _copy(self.objective.model.state_dict())
        self.checkpoints.save(Checkpoint(weights, self.best, state))


def count_steps(objective: Objective, config: TrainConfig) -> int:
    """Count the optimiser steps of all epochs together."""
    batches = (len(objective.epoch(number)) for number in range(1, config.epochs + 1))
    return sum(math.ceil(count / config.accumulation) for count in batches)


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


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Compute in a lower precision where it is safe to."""
    if precision == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _check_same(then: object, now: Mapping[str, Any], folder: CheckpointFolder) -> None:
    if not isinstance(then, dict):
        raise folder.damaged("it does not say which run it is of")
    changed = sorted(key for key in now.keys() | then.keys() if then.get(key) != now.get(key))
    if changed:
        raise ConfigError(
            f"the run in {folder.root} had other settings ({', '.join(changed)}): "
            "give the same ones, or start anew with --force"
        )
