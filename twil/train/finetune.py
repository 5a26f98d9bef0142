"""Fine-tuning: from labelled files and an encoder to a classifier's model folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from twil.config.loop import LOG, Precision, name_settings
from twil.config.training import DataConfig, FinetuneConfig
from twil.core.errors import DataError
from twil.core.storage import sha256
from twil.core.task import Task
from twil.data.labelled import LabelledColumns, LabelledSet, Sample, check_covered, find_labels, read_labelled
from twil.data.splitting import hold_out
from twil.data.survey.repeats import Pitfalls, find_pitfalls
from twil.model.classifier import make_classifier
from twil.model.folder import hub_origin, save, weights_hash
from twil.model.text_model import parameter_count
from twil.scores.metrics import Report, check_metric, main_metric, score_logits
from twil.text.tokenizer import max_length
from twil.train.checkpoint import CheckpointFolder
from twil.train.devices import choose_device, settle_precision
from twil.train.distributed import World, join_world
from twil.train.layers import freeze, head_rates, layer_rates
from twil.train.loop import Evaluated, Interrupted, LoopEvent, Trainer, count_steps
from twil.train.objectives.class_weights import label_counts
from twil.train.objectives.classification import Classification, encode_set
from twil.train.objectives.decisions import Decision, check_decision, decide
from twil.train.optimisers import make_optimiser
from twil.train.run_log import RunLog


@dataclass(frozen=True)
class Started:
    """The data is read and the model is made.

    Attributes:
        task: What is learned.
        rows: Rows of each set.
        blank: Blank lines that were left out of each set.
        labels: Rows of each label in the training set; of a regression there are none.
        weights: How much rows of each label count, where not all count alike.
        truncated: Rows of each set cut at the longest length.
        pitfalls: Texts that sets share, and sets with one label.
        max_length: That length, in pieces.
        parameters: Numbers of the model.
        trainable: Those of them that are not frozen.
        steps: Optimiser steps of the whole run.
        metric: What decides the best epoch; ``auto`` without dev.
        device: Where it runs.
        precision: In which arithmetic.
        processes: How many share each step.
        kept_classifier: Whether the classifier of the model that it starts from is trained further; otherwise
            a new one is.
        resumed: The step it continues from, 0 for a new run.
        evaluated: The last evaluation up to there.
    """

    task: Task
    rows: dict[str, int]
    blank: dict[str, int]
    labels: dict[str, int]
    weights: dict[str, float] | None
    truncated: dict[str, int]
    pitfalls: Pitfalls
    max_length: int
    parameters: int
    trainable: int
    steps: int
    metric: str
    device: str
    precision: Precision
    processes: int
    kept_classifier: bool
    resumed: int
    evaluated: Evaluated | None


@dataclass(frozen=True)
class Finished:
    """The model folder is written.

    Attributes:
        folder: Where.
        task: What was learned, with what was tuned on dev.
        metric: What decided the best epoch; ``auto`` without dev.
        best_epoch: The epoch whose weights it holds; the last one where there is no dev to choose by.
        decision: What was tuned on dev when training was done, if anything.
        dev: Scores on dev; None without one.
        test: Scores on the test set, measured once; None without one.
        seconds: Time of this sitting.
    """

    folder: Path
    task: Task
    metric: str
    best_epoch: int
    decision: Decision | None
    dev: Report | None
    test: Report | None
    seconds: float


FinetuneEvent: TypeAlias = Started | LoopEvent | Finished


LabelledSets: TypeAlias = dict[str, LabelledSet]  # train, perhaps dev and test
FileRecords: TypeAlias = dict[str, dict[str, Any]]  # name, SHA-256 and rows of each


def finetune_events(
    config: FinetuneConfig,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[FinetuneEvent]:
    """Fine-tune a classifier and write its model folder.

    While it runs, its state and its log lie in ``OUTPUT.checkpoint`` beside the output; at the end the
    state is removed and the log moves into the model folder. Processes that `torchrun` has started share
    each step; all yield the same events, and the first one writes.

    Args:
        config: Data, model, loop, optimiser, and what is tuned at the end.
        output: The model folder to write.
        resume: Continue the interrupted run of the same settings, if there is one.
        overwrite: Replace a model folder that is there.
        device: ``auto``, ``cpu`` or ``cuda``.
        should_stop: Asked after every step; true keeps the state and ends with `Interrupted`.

    Yields:
        `Started`, then the loop's events, then `Finished` (or `Interrupted`).

    Raises:
        ConfigError: A setting does not fit.
        DataError: A file cannot be used.
        ModelError: The model cannot be loaded, or training has diverged.
        TwilError: The output is taken, or another process writes it.
    """
    output = Path(output) if Path(output).name else Path(output).absolute()
    place = choose_device(device, config.train.precision)
    checkpoints = CheckpointFolder.beside(output)
    reserved = checkpoints.reserved(output, resume=resume, overwrite=overwrite)
    with join_world(place.type) as world, world.reserve(reserved):
        if place.type == "cuda":
            place = torch.device("cuda", torch.cuda.current_device())  # that which this process was given
        run = _Run(config, output, checkpoints, place, world)
        last = yield from run.events(resume=resume, overwrite=overwrite, should_stop=should_stop)
    yield last  # here, so that who stops listening at it does not keep the output


class _Run:
    """One fine-tuning run: what is made from the configuration, and the order of events."""

    def __init__(
        self,
        config: FinetuneConfig,
        output: Path,
        checkpoints: CheckpointFolder,
        device: torch.device,
        world: World,
    ) -> None:
        self.begin = time.monotonic()
        self.config, self.output, self.checkpoints, self.world = config, output, checkpoints, world
        self.sets = read_sets(config.data)
        self.files = describe_sets(self.sets)
        train = self.sets["train"]
        self.task = config.data.make_task(config.data.labels or find_labels(train, config.data.kind))
        check_covered(train, self.task)
        if config.train.metric != "auto":
            check_metric(config.train.metric, self.task)
        check_decision(config.decision, self.task)
        torch.manual_seed(config.train.seed)
        made = make_classifier(config.model, self.task)
        self.model, self.tokenizer, self.kept_classifier = made.model, made.tokenizer, made.kept
        self.config = config = settle_precision(config, device, self.model.architecture.hidden)
        asked, self.task = self.task, self.model.task  # the labels of a head that is kept stand in its order
        if config.train.freeze is not None:
            freeze(self.model, config.train.freeze)
        self.encoded = {
            name: encode_set(rows, self.tokenizer, self.task, order=asked.labels)
            for name, rows in self.sets.items()
        }
        self.objective = Classification(
            self.model.to(device), self.encoded["train"], self.encoded.get("dev"), config.train, world
        )
        self.steps = count_steps(self.objective, config.train)
        self.loop = config.resolve(
            self.steps,
            main_metric(self.task),
            epoch_steps=len(self.objective.epoch(1)),
            hidden_size=self.model.architecture.hidden,
            kept_head=self.kept_classifier,
        )

    def events(
        self, *, resume: bool, overwrite: bool, should_stop: Callable[[], bool]
    ) -> Generator[FinetuneEvent, None, Interrupted | Finished]:
        """Train, and give what comes last."""
        trainer = self._trainer(should_stop)
        resumed = resume and trainer.resume()
        self.world.wait()  # no checkpoint goes before every process has read it
        if self.world.main and not resumed:
            self.checkpoints.clear()
        log = RunLog(self.checkpoints.root / LOG, self.world.main, every=self.loop.log_steps)
        yield self._started(trainer)
        with log.open(trainer.progress.step, trainer.progress.total_seconds, trainer.last_evaluation):
            for event in trainer.run():
                if isinstance(event, Interrupted):
                    return event
                log.add(event)
                yield event
        return self._finish(trainer, log, overwrite=overwrite)

    def _trainer(self, should_stop: Callable[[], bool]) -> Trainer:
        decay = self.config.train.layer_decay
        rates = layer_rates(self.model, decay) if decay is not None else {}
        assert self.loop.lr is not None
        assert self.loop.head_rate is not None
        if self.loop.head_rate != 1:
            rates |= head_rates(self.model, self.loop.head_rate)
        return Trainer(
            self.objective,
            self.loop,
            optimiser=make_optimiser(
                self.model,
                self.config.optimiser,
                lr=self.loop.lr,
                rates=rates or None,
            ),
            steps=self.steps,
            checkpoints=self.checkpoints,
            fingerprint=self._fingerprint(),
            should_stop=should_stop,
            world=self.world,
        )

    def _started(self, trainer: Trainer) -> Started:
        task, weights = self.task, self.objective.weights
        counts = (
            [] if task.kind == "regression" else label_counts(self.encoded["train"].targets, task).tolist()
        )
        return Started(
            task=task,
            rows={name: len(labelled) for name, labelled in self.sets.items()},
            blank={name: labelled.blank for name, labelled in self.sets.items()},
            labels=dict(zip(task.labels, counts, strict=False)),
            weights=None if weights is None else dict(zip(task.labels, weights.tolist(), strict=True)),
            truncated={name: entry.truncated for name, entry in self.encoded.items()},
            pitfalls=find_pitfalls(self.sets),
            max_length=max_length(self.tokenizer) or 0,
            parameters=parameter_count(self.model),
            trainable=sum(entry.numel() for entry in self.model.parameters() if entry.requires_grad),
            steps=self.steps,
            metric=self.loop.metric,
            device=self.objective.device.type,
            precision=self.loop.precision,
            processes=self.world.size,
            kept_classifier=self.kept_classifier,
            resumed=trainer.progress.step,
            evaluated=trainer.last_evaluation,
        )

    def _finish(self, trainer: Trainer, log: RunLog, *, overwrite: bool) -> Finished:
        logits = {name: self.objective.logits(rows) for name, rows in self.encoded.items() if name != "train"}
        decision = None
        if "dev" in logits:
            decision = decide(self.config.decision, logits["dev"], self.encoded["dev"].targets, self.task)
        task = decision.task if decision else self.task
        self.model.set_task(task)
        reports = {
            name: score_logits(found, self.encoded[name].targets, task) for name, found in logits.items()
        }
        if self.world.main:
            record = self._record(trainer, reports, decision)
            save(self.output, self.model, self.tokenizer, record, overwrite=overwrite, log=log.path)
            self.checkpoints.clear()
        self.world.wait()
        return Finished(
            folder=self.output,
            task=task,
            metric=self.loop.metric,
            best_epoch=_kept_epoch(trainer),
            decision=decision,
            dev=reports.get("dev"),
            test=reports.get("test"),
            seconds=time.monotonic() - self.begin,
        )

    def _record(
        self, trainer: Trainer, reports: dict[str, Report], decision: Decision | None
    ) -> dict[str, Any]:
        """Describe a run that has ended, in JSON's types."""
        return {
            "command": "finetune",
            "config": self.config.model_copy(update={"train": trainer.config}).model_dump(mode="json"),
            "hub": hub_origin(self.config.model.folder),
            "data": self.files,
            "parameters": parameter_count(self.model),
            "processes": self.world.size,
            "steps": trainer.progress.step,
            "best_epoch": _kept_epoch(trainer),
            "seconds": trainer.progress.total_seconds,
            "history": trainer.progress.history,
            "decision": decision and decision.as_dict(),
            "results": {name: report.as_dict() for name, report in reports.items()},
        }

    def _fingerprint(self) -> dict[str, str]:
        """Say what a continued run must share with the interrupted one, wherever its files lie."""
        config, data = self.config, self.config.data
        settings = name_settings(config, ("train", "optimiser", "decision"))
        if config.model.original is not None:
            settings["the weights it starts from"] = sha256(config.model.original.weights)
        elif config.model.folder is not None:
            settings["the weights it starts from"] = weights_hash(config.model.folder)
        return settings | {
            "the columns": repr(LabelledColumns.of(data)),
            "the rows": repr((data.limit, data.shuffle_seed)),
            "the training data": self.files["train"]["sha256"],
            "the dev share": repr((data.dev_share, data.dev_seed)),
            "the dev data": self.files["dev"]["sha256"] if "dev" in self.files else "",
            "the model": json.dumps(self.model.description, sort_keys=True),
            "the tokenizer": hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest(),
            "the number of processes": repr(self.world.size),
        }


def _kept_epoch(trainer: Trainer) -> int:
    """Tell which epoch's weights are kept: the best one's, else the last one's."""
    history = trainer.progress.history
    return trainer.progress.best_epoch or (history[-1]["epoch"] if history else 0)


def read_sets(data: DataConfig) -> LabelledSets:
    """Read the labelled files of a run.

    Raises:
        DataError: One cannot be used.
    """
    for file in data.files.values():
        if file.is_dir():
            raise DataError("is a folder: name a file in it", file=file)
        if str(file) == "-" or (file.exists() and not file.is_file()):
            raise DataError("training data must be a regular file, whose hash is recorded", file=file)
    columns, sample = LabelledColumns.of(data), Sample(data.limit, data.shuffle_seed)
    sets = {name: read_labelled(table, columns, data.kind, sample) for name, table in data.tables.items()}
    if data.dev_share is not None:
        sets["train"], sets["dev"] = hold_out(sets["train"], data.dev_share, data.kind, data.dev_seed)
    return {name: sets[name] for name in ("train", "dev", "test") if name in sets}


def describe_sets(sets: LabelledSets) -> FileRecords:
    """Say which files a run is of, in JSON's types.

    Raises:
        DataError: One has changed since it was read.
    """
    return {
        name: {"file": str(labelled.path), "sha256": labelled.sha256(), "rows": len(labelled)}
        for name, labelled in sets.items()
    }
