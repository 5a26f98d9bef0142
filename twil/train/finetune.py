"""Fine-tuning: from labelled files and an encoder to a classifier's model folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from twil.config.loop import Precision
from twil.config.training import DataConfig, FinetuneConfig, TrainConfig
from twil.core.errors import DataError
from twil.core.storage import sha256
from twil.core.task import Task
from twil.data.labelled import LabelledColumns, LabelledSet, Sample, check_covered, find_labels, read_labelled
from twil.data.splitting import hold_out
from twil.data.survey.repeats import Pitfalls, find_pitfalls
from twil.model.classifier import make_classifier
from twil.model.text_model import parameter_count
from twil.scores.metrics import Report, check_metric, main_metric, score_logits
from twil.text.tokenizer import max_length
from twil.train.devices import settle_precision
from twil.train.layers import freeze, head_rates, layer_rates
from twil.train.loop import Evaluated, LoopEvent, Trainer, count_steps
from twil.train.objectives.class_weights import label_counts
from twil.train.objectives.classification import Classification, encode_set
from twil.train.objectives.decisions import Decision, check_decision, decide
from twil.train.run import RunPlace, TrainingRun, run_events
from twil.train.used_tokens import keep_used_rows


@dataclass(frozen=True)
class FinetuneStarted:
    """The data is read and the model is made.

    Attributes:
        task: What is learned.
        rows: Rows of each set.
        blank: Blank lines that were left out of each set.
        labels: Rows of each label in the training set; of a regression there are none.
        weights: How much rows of each label count, where not all count alike.
        truncated: Rows of each set cut at the longest length.
        pitfalls: Texts that sets share, and sets with one label.
        max_length: That length, in tokens.
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
class FinetuneFinished:
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


FinetuneEvent: TypeAlias = FinetuneStarted | LoopEvent | FinetuneFinished


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
        `FinetuneStarted`, then the loop's events, then `FinetuneFinished` (or `Interrupted`).

    Raises:
        ConfigError: A setting does not fit.
        DataError: A file cannot be used.
        ModelError: The model cannot be loaded, or training has diverged.
        TwilError: The output is taken, or another process writes it.
    """
    return run_events(
        lambda place: _Finetuning(config, place),
        output,
        config.train.precision,
        resume=resume,
        overwrite=overwrite,
        device=device,
        should_stop=should_stop,
    )


class _Finetuning(TrainingRun[FinetuneFinished]):
    """A run of fine-tuning."""

    command = "finetune"
    decides = ("train", "optimiser", "decision")
    config: FinetuneConfig
    objective: Classification
    loop: TrainConfig

    def __init__(self, config: FinetuneConfig, place: RunPlace) -> None:
        super().__init__(place)
        self.begin = time.monotonic()
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
        hidden = self.model.architecture.hidden
        self.config = config = settle_precision(config, self.device, hidden)
        asked, self.task = self.task, self.model.task  # the labels of a head that is kept stand in its order
        if config.train.freeze is not None:
            freeze(self.model, config.train.freeze)
        self.encoded = {
            name: encode_set(rows, self.tokenizer, self.task, order=asked.labels)
            for name, rows in self.sets.items()
        }
        self.parameters = parameter_count(self.model)
        self.frozen = sum(each.numel() for each in self.model.parameters() if not each.requires_grad)
        self.used = keep_used_rows(self.model, self.encoded, config.optimiser)
        read = {name: self.used.renumber(rows) if self.used else rows for name, rows in self.encoded.items()}
        self.objective = Classification(
            self.model.to(self.device),
            read["train"],
            read.get("dev"),
            config.train,
            self.world,
        )
        self.steps = count_steps(self.objective, config.train)
        self.loop = config.resolve(
            self.steps,
            main_metric(self.task),
            epoch_steps=len(self.objective.epoch(1)),
            hidden_size=hidden,
            kept_head=self.kept_classifier,
        )
        self.rates = self._rates() or None

    def _rates(self) -> dict[str, float]:
        decay = self.config.train.layer_decay
        rates = layer_rates(self.model, decay) if decay is not None else {}
        assert self.loop.head_rate is not None
        return rates | (head_rates(self.model, self.loop.head_rate) if self.loop.head_rate != 1 else {})

    def started(self, trainer: Trainer) -> FinetuneStarted:
        """Say what is learned from what."""
        task, weights = self.task, self.objective.weights
        counts = (
            [] if task.kind == "regression" else label_counts(self.encoded["train"].targets, task).tolist()
        )
        return FinetuneStarted(
            task=task,
            rows={name: len(labelled) for name, labelled in self.sets.items()},
            blank={name: labelled.blank for name, labelled in self.sets.items()},
            labels=dict(zip(task.labels, counts, strict=False)),
            weights=None if weights is None else dict(zip(task.labels, weights.tolist(), strict=True)),
            truncated={name: entry.truncated for name, entry in self.encoded.items()},
            pitfalls=find_pitfalls(self.sets),
            max_length=max_length(self.tokenizer) or 0,
            parameters=self.parameters,
            trainable=self.parameters - self.frozen,
            steps=self.steps,
            metric=self.loop.metric,
            device=self.objective.device.type,
            precision=self.loop.precision,
            processes=self.world.size,
            kept_classifier=self.kept_classifier,
            resumed=trainer.progress.step,
            evaluated=trainer.last_evaluation,
        )

    def finish(self, trainer: Trainer) -> tuple[FinetuneFinished, dict[str, Any]]:
        """Tune what is tuned on dev, and score all sets but the one that was learned from."""
        if self.used is not None:
            self.used.restore()
        logits = {name: self.objective.logits(rows) for name, rows in self.encoded.items() if name != "train"}
        decision = None
        if "dev" in logits:
            decision = decide(self.config.decision, logits["dev"], self.encoded["dev"].targets, self.task)
        task = decision.task if decision else self.task
        self.model.set_task(task)
        reports = {
            name: score_logits(found, self.encoded[name].targets, task) for name, found in logits.items()
        }
        finished = FinetuneFinished(
            folder=self.output,
            task=task,
            metric=self.loop.metric,
            best_epoch=_kept_epoch(trainer),
            decision=decision,
            dev=reports.get("dev"),
            test=reports.get("test"),
            seconds=time.monotonic() - self.begin,
        )
        told = {
            "data": self.files,
            "best_epoch": finished.best_epoch,
            "decision": decision and decision.as_dict(),
            "results": {name: report.as_dict() for name, report in reports.items()},
        }
        return finished, told

    def own_fingerprint(self) -> dict[str, str]:
        """Name the data, and the weights of the original where it starts from them."""
        data, original = self.config.data, self.config.model.original
        weights = {"the weights it starts from": sha256(original.weights)} if original else {}
        return weights | {
            "the columns": repr(LabelledColumns.of(data)),
            "the rows": repr((data.limit, data.shuffle_seed)),
            "the training data": self.files["train"]["sha256"],
            "the dev share": repr((data.dev_share, data.dev_seed)),
            "the dev data": self.files["dev"]["sha256"] if "dev" in self.files else "",
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
