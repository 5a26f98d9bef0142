"""The one training loop: accumulation, precision, clipping, schedule, evaluation, checkpoints, resume.

Pretraining and fine-tuning share it; each brings an `Objective`: its data, loss and metrics. The loop
yields events and draws or prints nothing. Everything random in a step follows from the seed and the step's
number, so that a resumed run needs no generator's state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from twil.config.loop import LOWER_IS_BETTER, LoopConfig
from twil.core.errors import ConfigError, ModelError
from twil.core.interruption import check_same_settings
from twil.core.machine import keep_freed_memory
from twil.core.prefetch import prefetched
from twil.train.checkpoint import Checkpoint, CheckpointFolder
from twil.train.devices import autocast
from twil.train.distributed import World
from twil.train.optimisers import rate, set_lr

MicroBatch: TypeAlias = Any  # whatever the objective makes of a share of its data
Counts: TypeAlias = dict[str, float]

TRIED_ROWS = 32
"""Of the training set, which tell whether a model that no other set was asked of gives numbers at all."""
_LENGTH = ("train.epochs", "train.steps")
_CLIP_EPS = 1e-6  # as torch's clipping has it
_YOUNG = 10
"""A mean over few steps is one of the last tenth of them, so that what was drawn at first is left behind."""


@dataclass(frozen=True)
class Step:
    """The data of one optimiser step, or this process's share of it.

    Attributes:
        batches: Its micro-batches, at least one.
        counts: How much of everything is in them: `rows`, `tokens`, and what the losses are divided by.
    """

    batches: Sequence[MicroBatch]
    counts: Counts


@dataclass(frozen=True)
class Loss:
    """What a micro-batch adds to its step.

    Attributes:
        share: Its share of the step's loss, a scalar with a gradient; all shares of all processes add up.
        sums: Sums over its rows, scalars without gradients, from which `Objective.metrics` are made.
    """

    share: Tensor
    sums: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What is trained."""

    @property
    def model(self) -> nn.Module:
        """The module whose weights are kept, on its device."""
        ...

    @property
    def network(self) -> nn.Module:
        """The module that `loss` runs: the model, or what holds it, replicated over the processes."""
        ...

    def epoch(self, number: int) -> Sequence[Step]:
        """Give the steps of an epoch, counted from 1: the same ones whenever it is asked."""
        ...

    def loss(self, batch: MicroBatch, counts: Counts) -> Loss:
        """Compute the share of a micro-batch in its step's loss; `counts` are those of the whole step."""
        ...

    def metrics(self, sums: Mapping[str, float], counts: Counts) -> dict[str, float]:
        """Make figures of the sums over a whole step."""
        ...

    def evaluate(self) -> Mapping[str, float]:
        """Measure the model on dev; empty where there is none."""
        ...

    def check_finite(self) -> None:
        """Try the model on some rows that it has learned from.

        Raises:
            ModelError: What it gives is not finite.
        """
        ...


@dataclass(frozen=True)
class StepDone:
    """An optimiser step was taken.

    Under fp16, a step whose gradients overflow leaves the weights as they are and counts all the same.

    Attributes:
        step: Its number, from 1, of `steps`.
        epoch: The epoch it belongs to, from 1, of `epochs`.
        loss: Its mean loss.
        lr: The learning rate it used.
        counts: What was in it, over all processes.
        metrics: What its objective says of it.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    lr: float
    counts: Counts
    metrics: dict[str, float]


@dataclass(frozen=True)
class Evaluated:
    """The model was measured: after an epoch, or after `evaluate_steps`.

    Attributes:
        step: The step before it.
        epoch: The epoch of that step, from 1.
        loss: Mean training loss since the last evaluation.
        metrics: What dev gave.
        best: Whether it is the best so far.
        last: Whether training ends with it.
        seconds: Time of training and evaluation since the last one.
        number: Which of the run it is, from 1.
    """

    step: int
    epoch: int
    loss: float
    metrics: dict[str, float]
    best: bool
    last: bool
    seconds: float
    number: int


@dataclass(frozen=True)
class Interrupted:
    """The run was asked to stop, and its state is kept."""

    epoch: int
    step: int


LONG_EVALUATION = 10.0
"""Seconds from which the state is kept before an evaluation, too: launchers grant about 30 to end in."""

LoopEvent: TypeAlias = StepDone | Evaluated | Interrupted


@dataclass
class LoopState:
    """Where a run stands; everything but tensors that a checkpoint keeps."""

    step: int = 0
    epoch: int = 1
    position: int = 0
    """Steps of this epoch that are done."""
    loss_sum: float = 0.0
    loss_rows: float = 0.0
    seconds: float = 0.0
    """Time since the last evaluation, over all its sittings."""
    total_seconds: float = 0.0
    evaluations: int = 0
    evaluated_step: int = 0
    best_value: float | None = None
    best_loss: float = math.inf
    """On dev, which decides between equals: a score may stay where it is while the model still learns."""
    best_step: int = 0
    best_epoch: int = 0
    best_evaluation: int = 0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """One run of the loop.

    Args:
        objective: What is trained. Its model ends with the weights of the best evaluation, or with the last
            ones where nothing was measured.
        config: The loop's options, resolved: `lr` is set and `warmup` is in steps.
        optimiser: Over the model's parameters, as `twil.train.optimisers` makes it.
        steps: Optimiser steps of the whole run, see `count_steps`.
        checkpoints: Where the state is kept.
        fingerprint: What must be the same for a run to be continued.
        should_stop: Asked after every step; true ends the run with a checkpoint.
        world: The processes that train together.
    """

    def __init__(
        self,
        objective: Objective,
        config: LoopConfig,
        *,
        optimiser: torch.optim.Optimizer,
        steps: int,
        checkpoints: CheckpointFolder,
        fingerprint: Mapping[str, Any],
        should_stop: Callable[[], bool] = lambda: False,
        world: World | None = None,
    ) -> None:
        assert config.lr is not None
        self.objective, self.config, self.optimiser, self.steps = objective, config, optimiser, steps
        self.checkpoints, self.fingerprint, self.should_stop = checkpoints, dict(fingerprint), should_stop
        self.world = world or World()
        self.device = next(objective.model.parameters()).device
        self.peak = config.lr
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.progress = LoopState()
        self.best: dict[str, Tensor] = {}
        self.mean: dict[str, Tensor] = {}  # of the weights, where one is kept
        self.clock = self.last_save = time.monotonic()
        self.evaluation_seconds = math.inf  # of the last one in this sitting

    @property
    def last_evaluation(self) -> Evaluated | None:
        """The last evaluation so far, that of an interrupted run included."""
        at = self.progress
        if not at.history:
            return None
        entry = at.history[-1]
        best = at.best_step == entry["step"]
        return Evaluated(
            entry["step"],
            entry["epoch"],
            entry["loss"],
            dev_metrics(entry),
            best,
            at.finished,
            entry["seconds"],
            at.evaluations,
        )

    def run(self) -> Iterator[LoopEvent]:
        """Train until the last step, or until patience ends or a stop is asked for.

        Raises:
            ModelError: The loss is not finite, and the weights are those before that step; or what the model
                gives after the last one is not.
        """
        if self.device.type == "cpu":
            keep_freed_memory()  # every step frees its gradients and takes them again
        self.clock = self.last_save = time.monotonic()
        self.progress.finished = self.progress.finished or self.steps == 0
        while not self.progress.finished:
            for event in self._epoch():
                yield event
                if isinstance(event, Interrupted):
                    return
        if self.best:
            self.objective.model.load_state_dict(self.best)
        else:  # no evaluation has told that the last step left weights of use
            self.objective.model.load_state_dict(self.mean, strict=False)
            self.objective.check_finite()

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
            at = self.progress = LoopState(**state["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise self.checkpoints.damaged(type(error).__name__) from error
        waited = at.evaluations - at.best_evaluation
        lost_patience = at.best_evaluation and self.config.patience and waited >= self.config.patience
        at.finished = at.finished and bool(at.step >= self.steps or lost_patience)  # it may be longer now
        self.best = checkpoint.best
        self.mean = {name: mean.to(self.device) for name, mean in checkpoint.mean.items()}
        return True

    def _epoch(self) -> Iterator[LoopEvent]:
        at = self.progress
        steps = self.objective.epoch(at.epoch)
        if self._must_evaluate(len(steps)):  # the run was stopped between a step and its evaluation
            yield from self._evaluate(len(steps))
            return
        self.objective.model.train()
        for step in prefetched(steps[position] for position in range(at.position, len(steps))):
            yield self._step(step)
            stop, save = self._read_requests()
            if stop:
                self._save()
                yield Interrupted(at.epoch, at.step)
                return
            if self._must_evaluate(len(steps)):
                yield from self._evaluate(len(steps))
                if at.finished:
                    return
                self.objective.model.train()
            elif save:
                self._save()

    def _step(self, step: Step) -> StepDone:
        """Take one optimiser step over the mean loss of all micro-batches together."""
        at = self.progress
        lr = self._set_rate()
        torch.manual_seed(_step_seed(self.config.seed, at.step, self.world.rank))
        names = list(step.counts)
        counts = dict(zip(names, self.world.total([step.counts[name] for name in names]), strict=True))
        sums = self._backward(step, counts)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.config.average:
            self._average()
        loss, rows = sums.pop("loss"), counts["rows"]
        at.step, at.position = at.step + 1, at.position + 1
        at.loss_sum, at.loss_rows = at.loss_sum + loss * rows, at.loss_rows + rows
        metrics = self.objective.metrics(sums, counts)
        return StepDone(at.step, self.steps, at.epoch, self.epochs, loss, lr, counts, metrics)

    @torch.no_grad()
    def _average(self) -> None:
        """Take the weights after a step into their running mean; the first ones are soon left behind."""
        weights = dict(self.objective.model.named_parameters())
        if not self.mean:
            self.mean = {name: weight.detach().clone() for name, weight in weights.items()}
        steps = self.progress.step + 1
        share = 1 - min(self.config.average or 0.0, steps / (steps + _YOUNG))
        for name, weight in weights.items():
            self.mean[name].lerp_(weight, share)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Have the running mean of the weights, where there is one, stand in the model for a while."""
        weights = dict(self.objective.model.named_parameters())
        own = {name: weights[name].detach().clone() for name in self.mean}
        with torch.no_grad():
            for name, mean in self.mean.items():
                weights[name].copy_(mean)
            try:
                yield
            finally:
                for name, weight in own.items():
                    weights[name].copy_(weight)

    @cached_property
    def epochs(self) -> int:
        """Epochs of the whole run, the last perhaps cut."""
        if self.config.steps is None:
            return self.config.epochs
        return math.ceil(self.config.steps / len(self.objective.epoch(1)))

    def _set_rate(self) -> float:
        share = rate(
            self.config.schedule, self.progress.step + 1, warmup=self.config.warmup, steps=self.steps
        )
        set_lr(self.optimiser, self.peak * share)
        return self.peak * share

    def _backward(self, step: Step, counts: Counts) -> dict[str, float]:
        """Add up the gradients of a step, clip them, and read its sums.

        Raises:
            ModelError: The loss or the gradients are not finite.
        """
        network, last = self.objective.network, len(step.batches) - 1
        shares, sums = [], []
        try:
            for number, batch in enumerate(step.batches):
                with self.world.hold(network, until_last=number == last):
                    with autocast(self.device, self.config.precision):
                        loss = self.objective.loss(batch, counts)
                    # The gradients become the mean over all processes, and the sum is wanted.
                    self.scaler.scale(loss.share * self.world.size).backward()  # type: ignore[no-untyped-call]
                shares.append(loss.share.detach())
                sums.append(torch.stack([*loss.sums.values()]) if loss.sums else loss.share.new_empty(0))
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"memory ran out on {self.device.type} in epoch {self.progress.epoch}: take smaller "
                "micro-batches (train.batch_tokens)"
            ) from error
        added = self.world.reduce(torch.cat([torch.stack(shares).sum()[None], torch.stack(sums).sum(0)]))
        norm = self._clip()
        # The one place in a step where the host waits for the device.
        values = torch.cat([added, norm[None], torch.stack(shares)]).tolist()
        self._check_finite(values[0], values[len(added)], values[len(added) + 1 :])
        return dict(zip(("loss", *loss.sums), values, strict=False))

    def _clip(self) -> Tensor:
        """Scale the gradients down to the largest norm that they may have; return the norm that they had."""
        self.scaler.unscale_(self.optimiser)
        # Without a limit the norm is wanted all the same: it tells whether every gradient is finite.
        limit = self.config.clip or math.inf
        parameters = list(self.objective.model.parameters())
        if not self._scales_on_its_own:
            return nn.utils.clip_grad_norm_(parameters, limit)
        # The optimiser scales gradients while it reads them, which saves a pass over all of them.
        norm = nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
        scale = (norm + _CLIP_EPS) / limit
        self.optimiser.grad_scale = scale if scale > 1 else None  # type: ignore[attr-defined]
        return norm

    @cached_property
    def _scales_on_its_own(self) -> bool:
        """Whether the optimiser divides gradients by its `grad_scale`, as fused ones do; CUDA would wait."""
        fused = bool(self.optimiser.defaults.get("fused"))
        return fused and self.device.type == "cpu" and not self.scaler.is_enabled()

    def _check_finite(self, loss: float, norm: float, shares: Sequence[float]) -> None:
        # Under fp16 the scaler skips a step whose gradients overflow.
        if math.isfinite(loss) and (math.isfinite(norm) or self.scaler.is_enabled()):
            return
        at = self.progress
        where = [str(n) for n, share in enumerate(shares, start=1) if not math.isfinite(share)]
        batch = f", micro-batch {', '.join(where)} of {len(shares)}" if where else ""
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradients' norm is {norm}"
        raise _diverged(
            f"{what} in epoch {at.epoch}, step {at.step + 1}{batch}; the weights are those before it"
        )

    def _must_evaluate(self, epoch_steps: int) -> bool:
        at, every = self.progress, self.config.evaluate_steps
        if at.evaluated_step == at.step:
            return False
        return at.position == epoch_steps or at.step >= self.steps or bool(every and at.step % every == 0)

    def _evaluate(self, epoch_steps: int) -> Iterator[LoopEvent]:
        if self._is_evaluation_long():  # who ends the run meanwhile, as launchers do, may not wait for it
            self._save()
        start = time.monotonic()
        with self._averaged():
            metrics = dict(self.objective.evaluate())
            if not math.isfinite(metrics.get("loss", 0.0)):
                raise _diverged(f"the loss on dev is {metrics['loss']} after step {self.progress.step}")
            self.evaluation_seconds = time.monotonic() - start
            done = self._close(metrics, epoch_steps)
        self._save()
        yield done
        if self._read_requests()[0] and not done.last:
            yield Interrupted(done.epoch, done.step)

    def _close(self, metrics: dict[str, float], epoch_steps: int) -> Evaluated:
        at, config = self.progress, self.config
        if metrics and config.metric not in metrics:
            known = ", ".join(metrics)
            raise ConfigError(f"there is no metric '{config.metric}' on dev: choose one of {known}")
        at.evaluations, at.evaluated_step = at.evaluations + 1, at.step
        best = bool(metrics) and self._is_best(metrics)
        if best:
            at.best_value, at.best_evaluation = metrics[config.metric], at.evaluations
            at.best_loss = metrics.get("loss", math.inf)
            at.best_epoch, at.best_step = at.epoch, at.step
            self.best = _copy(self.objective.model.state_dict())
        self._read_clock()
        waited = at.evaluations - at.best_evaluation
        patience = config.patience if metrics else None
        at.finished = at.step >= self.steps or (patience is not None and waited >= patience)
        loss = at.loss_sum / at.loss_rows
        done = Evaluated(at.step, at.epoch, loss, metrics, best, at.finished, at.seconds, at.evaluations)
        entry = {"epoch": done.epoch, "step": done.step, "loss": done.loss, "seconds": done.seconds}
        at.history.append({**entry, **{f"dev_{name}": value for name, value in metrics.items()}})
        at.loss_sum, at.loss_rows, at.seconds = 0.0, 0.0, 0.0
        if at.position == epoch_steps:
            at.epoch, at.position = at.epoch + 1, 0
        return done

    def _is_best(self, metrics: Mapping[str, float]) -> bool:
        value, at = metrics[self.config.metric], self.progress
        if value == at.best_value:
            return metrics.get("loss", math.inf) < at.best_loss
        return is_better(self.config.metric, value, at.best_value)

    def _read_requests(self) -> tuple[bool, bool]:
        """Agree with the other processes on whether to stop, and whether to save.

        Each may be asked to stop; the clock of the main one decides about saving.
        """
        config, now = self.config, time.monotonic()
        save = now - self.last_save > 60 * config.checkpoint_minutes
        if config.checkpoint_steps:
            save = save or self.progress.step % config.checkpoint_steps == 0
        stop, save_all = self.world.total([self.should_stop(), save and self.world.main])
        return stop > 0, save_all > 0

    def _is_evaluation_long(self) -> bool:
        """Agree with the other processes on what the clock of the main one says."""
        long = self.world.main and self.evaluation_seconds > LONG_EVALUATION
        return self.world.total([long])[0] > 0

    def _read_clock(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.progress.total_seconds += now - self.clock
        self.clock = now

    def _save(self) -> None:
        self._read_clock()
        self.last_save = time.monotonic()
        if self.world.main:
            state = {
                "fingerprint": self.fingerprint,
                "progress": vars(self.progress),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.scaler.state_dict(),
            }
            weights, mean = _copy(self.objective.model.state_dict()), _copy(self.mean)
            self.checkpoints.save(Checkpoint(weights, self.best, mean, state), keep=self.config.keep)
        self.world.wait()


def count_steps(objective: Objective, config: LoopConfig) -> int:
    """Count the optimiser steps of the whole run."""
    return config.steps or sum(len(objective.epoch(number)) for number in range(1, config.epochs + 1))


def dev_metrics(entry: Mapping[str, Any]) -> dict[str, float]:
    """Give what dev gave in one entry of `LoopState.history`."""
    return {name.removeprefix("dev_"): value for name, value in entry.items() if name.startswith("dev_")}


def _diverged(what: str) -> ModelError:
    return ModelError(
        f"{what}: start anew (--force) with a lower learning rate (train.lr), a longer warm-up or precision "
        "fp32"
    )


def is_better(metric: str, value: float, best: float | None) -> bool:
    """Tell whether a value of a metric is better than the best so far, None before the first.

    Any number is better than none, as a metric may give of a model that has learnt nothing yet.
    """
    if best is None or math.isnan(best):
        return best is None or not math.isnan(value)
    return value < best if metric in LOWER_IS_BETTER else value > best


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def _check_same(then: object, now: Mapping[str, Any], folder: CheckpointFolder) -> None:
    if not isinstance(then, dict):
        raise folder.damaged("it does not say which run it is of")
    # A run may be made longer than it was to be: its schedule is then that of the longer one, from here on.
    longer = {name for name in _LENGTH if _is_larger(now.get(name), then.get(name))}
    old, new = ({key: value for key, value in each.items() if key not in longer} for each in (then, now))
    check_same_settings(folder.root, old, new)


def _is_larger(now: object, then: object) -> bool:
    return str(now).isdecimal() and str(then).isdecimal() and int(str(now)) > int(str(then))
