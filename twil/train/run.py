"""What every training run does, whatever is learned: the place that it holds, its events, its record."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from tokenizers import Tokenizer

from twil.config.loop import LOG, LoopConfig, Precision, name_settings
from twil.core.errors import ConfigError
from twil.core.storage import with_name
from twil.model.folder import hub_origin, save, weights_hash
from twil.model.text_model import TextModel, parameter_count
from twil.train.checkpoint import CheckpointFolder
from twil.train.devices import choose_device
from twil.train.distributed import World, join_world
from twil.train.loop import Interrupted, Objective, Trainer, dev_metrics
from twil.train.optimisers import make_optimiser
from twil.train.run_log import RunLog

Finished = TypeVar("Finished")


@dataclass(frozen=True)
class RunPlace:
    """Where a run computes and writes.

    Attributes:
        output: The model folder to write.
        checkpoints: Where its state lies until then.
        device: Where it computes.
        world: The processes that share it.
    """

    output: Path
    checkpoints: CheckpointFolder
    device: torch.device
    world: World


class TrainingRun(ABC, Generic[Finished]):
    """One run: what is made from its configuration, and the order of its events.

    Args:
        place: Where it computes and writes.

    Attributes:
        config: All settings; those of the loop are `loop`.
        model: What is written at the end.
        tokenizer: Its tokenizer.
        objective: What is learned.
        loop: The loop's options, with nothing left to be found out.
        steps: Optimiser steps of the whole run.
        rates: Learning rates of parameters by name, as multiples of the others'.
    """

    command: ClassVar[str]
    decides: ClassVar[tuple[str, ...]]
    """The sections of the configuration that a continued run must have in common with the interrupted one."""

    config: Any
    model: TextModel
    tokenizer: Tokenizer
    objective: Objective
    loop: LoopConfig
    steps: int
    rates: Mapping[str, float] | None = None

    def __init__(self, place: RunPlace) -> None:
        self.output, self.checkpoints = place.output, place.checkpoints
        self.device, self.world = place.device, place.world

    def events(
        self, *, resume: bool, overwrite: bool, should_stop: Callable[[], bool]
    ) -> Generator[Any, None, Interrupted | Finished]:
        """Train, write the model folder, and give what comes last."""
        assert self.loop.lr is not None
        optimiser = make_optimiser(
            self.objective.model, self.config.optimiser, lr=self.loop.lr, rates=self.rates
        )
        trainer = Trainer(
            self.objective,
            self.loop,
            optimiser=optimiser,
            steps=self.steps,
            checkpoints=self.checkpoints,
            fingerprint=self.fingerprint(),
            should_stop=should_stop,
            world=self.world,
        )
        resumed = resume and trainer.resume()
        if not self.world.agrees(trainer.progress.step):
            raise ConfigError(
                f"not every process finds the state in {self.checkpoints.root}: let it lie where all "
                "machines reach it, or copy it to each"
            )
        self.world.wait()  # no checkpoint goes before every process has read it
        if self.world.main and not resumed:
            self.checkpoints.clear()
        log = RunLog(self.checkpoints.root / LOG, self.world.main, every=self.loop.log_steps)
        yield self.started(trainer)
        with log.open(trainer.progress.step, trainer.progress.total_seconds, trainer.last_evaluation):
            for event in trainer.run():
                if isinstance(event, Interrupted):
                    return event
                log.add(event)
                yield event
        finished, told = self.finish(trainer)
        if self.world.main:
            record = self._record(trainer) | told
            save(self.output, self.model, self.tokenizer, record, overwrite=overwrite, log=log.path)
            self.checkpoints.clear()
        self.world.wait()
        return finished

    @abstractmethod
    def started(self, trainer: Trainer) -> Any:
        """Make the event that the run begins with."""

    @abstractmethod
    def finish(self, trainer: Trainer) -> tuple[Finished, dict[str, Any]]:
        """Measure what was learned; give the last event of the run, and what its record tells besides."""

    @abstractmethod
    def own_fingerprint(self) -> dict[str, str]:
        """Say what else a continued run must share with the interrupted one, wherever its files lie."""

    def fingerprint(self) -> dict[str, str]:
        """Say what a continued run must share with the interrupted one."""
        settings = name_settings(self.config, self.decides)
        if self.config.model.folder is not None:
            settings["the weights it starts from"] = weights_hash(self.config.model.folder)
        return (
            settings
            | self.own_fingerprint()
            | {
                "the model": json.dumps(self.model.description, sort_keys=True),
                "the tokenizer": hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest(),
                "the number of processes": repr(self.world.size),
            }
        )

    def _record(self, trainer: Trainer) -> dict[str, Any]:
        """Describe a run that has ended, in JSON's types."""
        progress = trainer.progress
        return {
            "command": self.command,
            "config": self.config.model_copy(update={"train": trainer.config}).model_dump(mode="json"),
            "hub": hub_origin(self.config.model.folder),
            "parameters": parameter_count(self.model),
            "processes": self.world.size,
            "steps": progress.step,
            "seconds": progress.total_seconds,
            "history": progress.history,
        }


def run_events(
    make: Callable[[RunPlace], TrainingRun[Finished]],
    output: str | Path,
    precision: Precision,
    *,
    resume: bool,
    overwrite: bool,
    device: str,
    should_stop: Callable[[], bool],
) -> Iterator[Any]:
    """Hold the place of a run while it is made and trains, and yield its events.

    Args:
        make: Makes the run, once its place is held.
        output: The model folder to write.
        precision: The arithmetic that is wanted.
        resume: Continue the interrupted run of the same settings, if there is one.
        overwrite: Replace a model folder that is there.
        device: ``auto``, ``cpu`` or ``cuda``.
        should_stop: Asked after every step; true keeps the state and ends with `Interrupted`.
    """
    output = with_name(output)
    where = choose_device(device, precision)
    checkpoints = CheckpointFolder.beside(output)
    reserved = checkpoints.reserved(output, resume=resume, overwrite=overwrite)
    with join_world(where.type) as world, world.reserve(reserved):
        if where.type == "cuda":
            where = torch.device("cuda", torch.cuda.current_device())  # that which this process was given
        run = make(RunPlace(output, checkpoints, where, world))
        last = yield from run.events(resume=resume, overwrite=overwrite, should_stop=should_stop)
    yield last  # here, so that who stops listening at it does not keep the output


def kept_step(trainer: Trainer) -> tuple[int, dict[str, float]]:
    """Give the step whose weights are kept, and what dev gave for them, if anything was measured."""
    progress = trainer.progress
    step = progress.best_step or progress.step
    return step, next((dev_metrics(entry) for entry in progress.history if entry["step"] == step), {})
