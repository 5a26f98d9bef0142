"""Fine-tuning: from labelled files and an encoder to a classifier's model folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from tokenizers import Tokenizer

from twil.config.model import ClassifierConfig, EncoderConfig, ModelConfig
from twil.config.training import FinetuneConfig, StartConfig
from twil.data.labelled import LabelledSet, find_labels, read_labelled
from twil.errors import ConfigError, DataError
from twil.model.folder import FILES, load_with_tokenizer, save
from twil.model.twilbert import TWilBERT, keeps_classifier, parameter_count, with_heads
from twil.storage import check_vacant, sha256
from twil.task import Task
from twil.text.tokenizer import load_tokenizer, max_length, set_max_length
from twil.train.checkpoint import CheckpointFolder
from twil.train.classification import Classification, encode_set
from twil.train.devices import choose_device
from twil.train.loop import Interrupted, LoopEvent, Trainer, count_steps
from twil.train.metrics import Report, check_metric
from twil.train.optimisers import adamw


@dataclass(frozen=True)
class Started:
    """The data is read and the model is made.

    Attributes:
        rows: Rows of each set.
        blank: Blank lines that were left out of each set.
        labels: Rows of each label in the training set.
        truncated: Rows of each set cut at the longest length.
        max_length: That length, in pieces.
        parameters: Trainable numbers of the model.
        steps: Optimiser steps of the whole run.
        device: Where it runs.
        kept_classifier: Whether the classifier of the model that it starts from is trained further; otherwise
            a new one is.
        resumed: The step it continues from, 0 for a new run.
    """

    rows: dict[str, int]
    blank: dict[str, int]
    labels: dict[str, int]
    truncated: dict[str, int]
    max_length: int
    parameters: int
    steps: int
    device: str
    kept_classifier: bool
    resumed: int


@dataclass(frozen=True)
class Finished:
    """The model folder is written.

    Attributes:
        folder: Where.
        best_epoch: The epoch whose weights it holds.
        dev: Scores on dev.
        test: Scores on the test set, measured once; None without one.
        seconds: Time of this sitting.
    """

    folder: Path
    best_epoch: int
    dev: Report
    test: Report | None
    seconds: float


FinetuneEvent: TypeAlias = Started | LoopEvent | Finished


LabelledSets: TypeAlias = dict[str, LabelledSet]  # train, dev and perhaps test
FileRecords: TypeAlias = dict[str, dict[str, Any]]  # name, SHA-256 and rows of each


def finetune(
    config: FinetuneConfig,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[FinetuneEvent]:
    """Fine-tune a classifier and write its model folder.

    While it runs, its state lies in ``OUTPUT.checkpoint`` beside the output; it is removed at the end.

    Args:
        config: Data, model and loop.
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
        TwilError: The output is taken.
    """
    begin = time.monotonic()
    output = Path(output) if Path(output).name else Path(output).absolute()
    checkpoints = CheckpointFolder.beside(output)
    check_vacant(output, overwrite=overwrite, own=FILES)
    checkpoints.check_vacant(resume=resume, overwrite=overwrite)
    check_metric(config.train.metric)
    place = choose_device(device, config.train.precision)

    sets = _read_sets(config)
    files = _describe(sets)
    task = Task("class", config.data.labels or find_labels(sets["train"]))
    torch.manual_seed(config.train.seed)
    model, tokenizer, kept = make_classifier(config.model, task)
    encoded = {name: encode_set(labelled, tokenizer, task) for name, labelled in sets.items()}
    objective = Classification(model.to(place), encoded["train"], encoded["dev"], config.train)
    steps = count_steps(objective, config.train)
    resolved = config.resolve(steps)
    assert resolved.lr is not None
    trainer = Trainer(
        objective,
        resolved,
        optimiser=adamw(model, lr=resolved.lr, weight_decay=resolved.weight_decay),
        steps=steps,
        checkpoints=checkpoints,
        fingerprint=_fingerprint(config, files, model, tokenizer),
        should_stop=should_stop,
    )
    if not resume or not trainer.resume():
        checkpoints.clear()
    counts = Counter(sets["train"].labels)
    yield Started(
        rows={name: len(labelled) for name, labelled in sets.items()},
        blank={name: labelled.blank for name, labelled in sets.items()},
        labels={label: counts[label] for label in task.labels},
        truncated={name: entry.truncated for name, entry in encoded.items()},
        max_length=max_length(tokenizer) or 0,
        parameters=parameter_count(model),
        steps=steps,
        device=place.type,
        kept_classifier=kept,
        resumed=trainer.progress.step,
    )
    for event in trainer.run():
        yield event
        if isinstance(event, Interrupted):
            return

    reports = {name: objective.report(encoded[name]) for name in encoded if name != "train"}
    save(output, model, tokenizer, _record(config, files, trainer, reports), overwrite=overwrite)
    checkpoints.clear()
    best_epoch, seconds = trainer.progress.best_epoch, time.monotonic() - begin
    yield Finished(output, best_epoch, reports["dev"], reports.get("test"), seconds)


def make_classifier(start: StartConfig, task: Task) -> tuple[TWilBERT, Tokenizer, bool]:
    """Make the classifier that a run starts from, and its tokenizer with the run's longest length.

    Returns:
        Both, and whether the head of a model folder is kept.

    Raises:
        ConfigError: There is no such encoder, or rows may not be that long.
        ModelError: The folder or the tokenizer cannot be read.
    """
    kept = False
    if start.folder is not None:
        model, tokenizer = load_with_tokenizer(start.folder)
        shape = _shape(model.config.encoder, start, start.classifier.apply(model.config.classifier), task)
        classifier = with_heads(model, shape)
        kept = keeps_classifier(model.config, shape)
    else:
        assert start.tokenizer is not None
        tokenizer = load_tokenizer(start.tokenizer)
        encoder = start.draw(vocab_size=tokenizer.get_vocab_size())
        classifier = TWilBERT(_shape(encoder, start, start.classifier.apply(None), task))
    limit = classifier.config.encoder.max_positions
    length = start.max_length or min(limit, max_length(tokenizer) or limit)
    if length > limit:
        raise ConfigError(f"rows of {length} pieces do not fit: the encoder has {limit} positions")
    set_max_length(tokenizer, length)
    return classifier, tokenizer, kept


def _shape(
    encoder: EncoderConfig, start: StartConfig, classifier: ClassifierConfig, task: Task
) -> ModelConfig:
    dropouts = {"input_dropout": start.input_dropout, "output_dropout": start.output_dropout}
    chosen = {name: value for name, value in dropouts.items() if value is not None}
    return ModelConfig(encoder=encoder.model_copy(update=chosen), classifier=classifier, task=task)


def _read_sets(config: FinetuneConfig) -> LabelledSets:
    data = config.data
    files = {"train": data.train, "dev": data.dev, "test": data.test}
    given = {name: file for name, file in files.items() if file is not None}
    for file in given.values():
        if str(file) == "-" or (file.exists() and not file.is_file()):
            raise DataError("training data must be a regular file, whose hash is recorded", file=file)
    return {name: read_labelled(file, text=data.text, label=data.label) for name, file in given.items()}


def _describe(sets: LabelledSets) -> FileRecords:
    return {
        name: {"file": str(labelled.path), "sha256": sha256(labelled.path), "rows": len(labelled)}
        for name, labelled in sets.items()
    }


def _record(
    config: FinetuneConfig, files: FileRecords, trainer: Trainer, reports: dict[str, Report]
) -> dict[str, Any]:
    """Describe a run that has ended, in JSON's types."""
    return {
        "command": "finetune",
        "config": config.model_copy(update={"train": trainer.config}).model_dump(mode="json"),
        "data": files,
        "parameters": parameter_count(trainer.objective.model),
        "steps": trainer.progress.step,
        "best_epoch": trainer.progress.best_epoch,
        "history": trainer.progress.history,
        "results": {name: report.as_dict() for name, report in reports.items()},
    }


def _fingerprint(
    config: FinetuneConfig, files: FileRecords, model: TWilBERT, tokenizer: Tokenizer
) -> dict[str, str]:
    """Say what a continued run must share with the interrupted one: settings and data, wherever they lie."""
    settings = {f"train.{key}": repr(value) for key, value in config.train.model_dump(mode="json").items()}
    for key in ("checkpoint_minutes", "checkpoint_steps", "keep"):
        del settings[f"train.{key}"]
    return settings | {
        "the columns": repr((config.data.text, config.data.label)),
        "the training data": files["train"]["sha256"],
        "the dev data": files["dev"]["sha256"],
        "the model": json.dumps(model.config.as_dict(), sort_keys=True),
        "the tokenizer": hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
    }
