"""Distillation: from a teacher and texts to a small student's model folder."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from twil.bundle.bundle import is_bundle
from twil.bundle.names import model_path
from twil.config.distillation import (
    FRESH_STUDENT_LR,
    STUDENT_LR,
    STUDENT_POOLING,
    DistillConfig,
    DistillLoopConfig,
    StudentConfig,
)
from twil.config.loop import Precision
from twil.config.model import ModelConfig
from twil.config.training import StartConfig
from twil.core.errors import ConfigError, DataError, ModelWarning
from twil.core.machine import peak_memory
from twil.core.storage import sole_writer, with_name
from twil.core.task import Task
from twil.data.labelled import LabelledColumns, read_labelled
from twil.data.teacher_store import SETTINGS, TeacherStore
from twil.model.classifier import make_classifier
from twil.model.folder import describe, load_with_tokenizer
from twil.model.text_model import TextModel, parameter_count
from twil.model.twilbert import TWilBERT
from twil.scores.metrics import Report, check_metric, main_metric, score_logits
from twil.text.adoption import NONE, adopt_tokens, matching_tokens
from twil.text.tokenizer import SPECIAL, check_own, load_tokenizer, max_length, set_max_length
from twil.text.vocabulary import texts_of
from twil.train.checkpoint import CheckpointFolder
from twil.train.devices import settle_precision
from twil.train.finetune import LabelledSets, describe_sets
from twil.train.loop import Interrupted, LoopEvent, Trainer, count_steps
from twil.train.objectives.classification import compute_logits, encode_set
from twil.train.objectives.imitation import (
    AnswerImitation,
    Imitation,
    Lessons,
    VectorImitation,
    measure_spread,
    measure_vectors,
)
from twil.train.objectives.teacher import Asked, PupilTexts, Teacher, TextCounts
from twil.train.run import RunPlace, TrainingRun, kept_step, run_events


@dataclass(frozen=True)
class DistillationStarted:
    """The teacher's answers are there and the student is made.

    Attributes:
        texts: What became of the texts.
        labelled: Texts with a true label.
        dev_rows: Texts that an evaluation takes.
        shared: The share of the student's tokens that the teacher has, too.
        tokens: Tokens of the student.
        parameters: Trainable numbers of the student.
        steps: Optimiser steps of the whole run.
        lr: Peak learning rate.
        metric: What decides the best epoch.
        device: Where it runs.
        precision: In which arithmetic.
        processes: How many share each step.
        resumed: The step it continues from, 0 for a new run.
    """

    texts: TextCounts
    labelled: int
    dev_rows: int
    shared: float
    tokens: int
    parameters: int
    steps: int
    lr: float
    metric: str
    device: str
    precision: Precision
    processes: int
    resumed: int


@dataclass(frozen=True)
class DistillationFinished:
    """The student's model folder is written.

    Attributes:
        folder: Where.
        step: The step whose weights it holds.
        metrics: What dev, or the texts held out, gave for them.
        test: Scores on the test set, measured once; None without one.
        seconds: Time of training, over all sittings.
        peak_memory: Most memory that the process held, in bytes.
    """

    folder: Path
    step: int
    metrics: dict[str, float]
    test: Report | None
    seconds: float
    peak_memory: int


DistillEvent: TypeAlias = Asked | DistillationStarted | LoopEvent | DistillationFinished


def distill_events(
    config: DistillConfig,
    teacher: Path,
    output: str | Path,
    *,
    also: Sequence[Path] = (),
    store: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[DistillEvent]:
    """Teach a student what a teacher says of texts, and write its model folder.

    The teacher is asked each text once; its answers lie in a store, which is kept where `store` names one,
    and is ``OUTPUT.answers`` until the end otherwise. The state of the training and its log lie in
    ``OUTPUT.checkpoint`` while it runs. Processes that `torchrun` has started share the texts and each step.

    Args:
        config: Texts, student, objective, optimiser and loop.
        teacher: The bundle of `config.data.teacher`, whose answers are learned.
        output: The model folder to write.
        also: The bundles of `config.data.also`.
        store: Where the teacher's answers are kept for more runs.
        resume: Continue the interrupted run of the same settings, if there is one.
        overwrite: Replace a model folder that is there, and give an interrupted run up.
        device: Where the student learns: ``auto``, ``cpu`` or ``cuda``.
        should_stop: Asked after every step, and while the teacher answers; true keeps what is there and ends
            with `Interrupted`.

    Yields:
        `Asked` as the teacher answers, `DistillationStarted`, the loop's events, `DistillationFinished` (or
        `Interrupted`).

    Raises:
        ConfigError: A setting does not fit, or the teacher has other labels than the labelled texts.
        DataError: A file cannot be used, or the texts are some of those that the student is measured on.
        ModelError: A model cannot be loaded, a store is damaged, or training has diverged.
        TwilError: The output is taken, or another process writes it.
    """
    output = with_name(output)
    if store is not None:
        taken = (output.resolve(), CheckpointFolder.beside(output).root.resolve())
        if store.resolve() in taken:
            raise ConfigError(f"{store} is where the student is written: choose another --store")
    return run_events(
        lambda place: _Distillation(config, Teacher(teacher, also), place, store),
        output,
        config.train.precision,
        resume=resume,
        overwrite=overwrite,
        device=device,
        should_stop=should_stop,
    )


class _Distillation(TrainingRun[DistillationFinished]):
    """A distillation.

    Args:
        config: Its settings.
        teacher: Whose answers are learned.
        place: Where it computes and writes.
        store: Where the answers are kept; beside the output, and until it is there, when left out.
    """

    command = "distill"
    decides = ("objective", "optimiser", "train")
    config: DistillConfig
    objective: Imitation
    loop: DistillLoopConfig

    def __init__(self, config: DistillConfig, teacher: Teacher, place: RunPlace, store: Path | None) -> None:
        super().__init__(place)
        self.config, self.teacher = config, teacher
        self.folder, self.keeps_answers = store or _own_store(self.output), store is not None
        _check_student(config.model)
        self.sets = _read_labelled_sets(config, teacher)
        self.files = describe_sets(self.sets)  # now, while they are what was read
        self.labelled, self.dev = self.sets.get("train"), self.sets.get("dev")
        data = config.data
        for file in (*data.texts, *data.without):
            if not file.is_file():
                raise DataError(
                    "there is no such file: check the path"
                    if not file.exists()
                    else "is no regular file, which can be read twice",
                    file=file,
                )
        self.texts = PupilTexts(
            data.texts,
            data.columns,
            data.reading,
            first=self.labelled.texts if self.labelled else (),
            without=texts_of(data.without, data.columns, data.reading),
            measured={name: rows.texts for name, rows in self.sets.items() if name != "train"},
            limit=data.limit,
        )
        self.counts = self.texts.count()
        for name, rows in self.sets.items():
            if shared := getattr(self.counts, name, 0):
                raise DataError(
                    f"{shared:,} of the texts are those of {rows.path}, on which the student is to be "
                    f"measured: leave them out (--without {rows.path})",
                    file=data.texts[0],
                )

    def events(
        self, *, resume: bool, overwrite: bool, should_stop: Callable[[], bool]
    ) -> Generator[DistillEvent, None, Interrupted | DistillationFinished]:
        """Have the teacher answer, train the student, and give what comes last."""
        if overwrite and not resume and self.world.main and (_own_store(self.output) / SETTINGS).is_file():
            shutil.rmtree(_own_store(self.output))
        self.world.wait()
        store = TeacherStore(self.folder, self.counts.used)
        # Whole ones are read alone, by as many runs as there are.
        alone = sole_writer(self.folder) if store.missing() else nullcontext()
        with self.world.reserve(alone):
            if self.world.main:
                cure = "another --store" if self.keeps_answers else "start anew with --force"
                store.begin(self._asked(), cure=cure)
            self.world.wait()
            own = store.missing()[self.world.rank :: self.world.size]
            self.world.wait()  # no part comes before every process knows which are its own
            yield from self.teacher.ask(self.texts, store, own, should_stop, threads=torch.get_num_threads())
            if self.world.total([should_stop()])[0]:
                return Interrupted(epoch=0, step=0)
        if self.world.main:
            store.check()
        self._make_student(store)
        last = yield from super().events(resume=resume, overwrite=overwrite, should_stop=should_stop)
        if isinstance(last, DistillationFinished) and not self.keeps_answers and self.world.main:
            shutil.rmtree(self.folder)
        return last

    def _make_student(self, store: TeacherStore) -> None:
        """Make what learns, and what it learns from, now that the answers are there."""
        task = self.teacher.task
        theirs = load_tokenizer(self.teacher.bundle.tokenizer)
        torch.manual_seed(self.config.train.seed)
        self.model, self.tokenizer = make_student(self.config, theirs, store, task)
        self.config = config = settle_precision(self.config, self.device, self.model.architecture.hidden)
        targets, dev = None, None
        if task is not None and self.labelled is not None:
            targets = self.labelled.targets(task)[self.texts.first_used]
        if self.dev is not None:
            dev = encode_set(self.dev, self.tokenizer, self.model.task)
        lessons = Lessons(
            store,
            self.tokenizer,
            matching_tokens(theirs, self.tokenizer),
            targets=targets,
            repeat=config.objective.repeat,
            held_out=0 if dev else min(config.data.dev_rows, (len(store) - _rows(targets)) // 10),
            seed=config.train.seed,
        )
        network = self._network(self.model, store).to(self.device)
        self.objective = Imitation(network, lessons, dev, config.train, self.world)
        self.steps = count_steps(self.objective, config.train)
        self.loop = self._resolve(self.steps, measured=self.objective.measured)

    def _network(self, student: TextModel, store: TeacherStore) -> VectorImitation | AnswerImitation:
        objective = self.config.objective
        if self.teacher.task is None:
            return VectorImitation(student, objective, *measure_vectors(store))
        return AnswerImitation(student, objective, student.task, measure_spread(store))

    def _resolve(self, steps: int, *, measured: bool) -> DistillLoopConfig:
        """Give the loop's options with what was left to be found out."""
        train = self.config.train
        drawn = self.config.model.folder is None
        found: dict[str, Any] = {
            "lr": train.lr or (FRESH_STUDENT_LR if drawn else STUDENT_LR),
            "warmup": float(train.warmup_steps(steps)),
        }
        if not measured:
            found |= {"patience": None, "metric": "loss"}
        elif train.metric == "auto":
            found["metric"] = main_metric(self.teacher.task) if self.dev and self.teacher.task else "loss"
        return train.model_copy(update=found)

    def started(self, trainer: Trainer) -> DistillationStarted:
        """Say what is learned from what."""
        objective, loop = self.objective, self.loop
        assert loop.lr is not None
        matches = objective.lessons.matches
        tokens = self.tokenizer.get_vocab_size()
        return DistillationStarted(
            texts=self.counts,
            labelled=len(objective.lessons.targets),
            dev_rows=len(self.dev) if self.dev else objective.lessons.held_out,
            shared=len(np.unique(matches[matches != NONE])) / tokens,
            tokens=tokens,
            parameters=parameter_count(self.model),
            steps=self.steps,
            lr=loop.lr,
            metric=loop.metric,
            device=self.device.type,
            precision=loop.precision,
            processes=self.world.size,
            resumed=trainer.progress.step,
        )

    def finish(self, trainer: Trainer) -> tuple[DistillationFinished, dict[str, Any]]:
        """Say which weights are kept, and score them on the test set."""
        progress = trainer.progress
        step, metrics = kept_step(trainer)
        test = None
        if "test" in self.sets:
            encoded = encode_set(self.sets["test"], self.tokenizer, self.model.task)
            logits = compute_logits(self.model, encoded, self.config.train.batch_tokens, world=self.world)
            test = score_logits(logits, encoded.targets, self.model.task)
        told = {
            "teacher": {
                "name": str(self.config.data.teacher),
                "also": [str(each) for each in self.config.data.also],
                "sha256": self.teacher.sha256,
            },
            "texts": vars(self.counts),
            "data": self.files,
            "best_step": progress.best_step,
            "results": {"dev": {"metrics": metrics}} | ({"test": test.as_dict()} if test else {}),
        }
        seconds = progress.total_seconds
        return DistillationFinished(self.output, step, metrics, test, seconds, peak_memory()), told

    def _asked(self) -> dict[str, str]:
        """Say what decides the teacher's answers, wherever the files lie."""
        return {"teacher": self.teacher.sha256, "texts": self.texts.sha256}

    def own_fingerprint(self) -> dict[str, str]:
        """Name what the teacher was asked, and the labelled data."""
        config = self.config
        data = {
            f"the {name} data": self.files[name]["sha256"] if name in self.files else ""
            for name in ("train", "dev")
        }
        return (
            {f"the {name}": value for name, value in self._asked().items()}
            | data
            | {
                "the columns": repr(LabelledColumns.of(config.data)),
                "data.dev_rows": repr(config.data.dev_rows),
                "model.embeddings": config.model.embeddings,
            }
        )


def _own_store(output: Path) -> Path:
    """Name the folder of a teacher's answers that are kept until the student is there."""
    return output.with_name(f"{output.name}.answers")


def make_student(
    config: DistillConfig, theirs: Tokenizer, store: TeacherStore, task: Task | None
) -> tuple[TextModel, Tokenizer]:
    """Make the student that a run starts from, and its tokenizer.

    Args:
        config: What it is to be.
        theirs: The teacher's tokenizer.
        store: The teacher's answers, which tell the tokens that are used.
        task: What a student that learns labels is asked.

    Raises:
        ConfigError: The shape does not fit, or the teacher's tokens cannot be taken over.
        ModelError: The student's folder, or the tokenizer, cannot be read.
    """
    chosen = config.model
    if chosen.folder is not None:
        return _take_student(config, task)
    origins: NDArray[np.int64] | None = None
    if chosen.tokenizer is not None:
        tokenizer = load_tokenizer(chosen.tokenizer)
        check_own(tokenizer, chosen.tokenizer)
    else:
        keep = store.token_counts(theirs.get_vocab_size()) >= chosen.min_uses
        longest = max_length(theirs)
        assert longest is not None  # a bundle's tokenizer cuts
        adopted = adopt_tokens(theirs, max_length=longest, keep=keep, source=str(config.data.teacher))
        tokenizer, origins = adopted.tokenizer, adopted.origins
    shape = chosen.draw(vocab_size=tokenizer.get_vocab_size())
    dropouts = {"input_dropout": chosen.input_dropout, "output_dropout": chosen.output_dropout}
    shape = shape.model_copy(update={name: share for name, share in dropouts.items() if share is not None})
    classifier = None
    if task is not None:
        classifier = chosen.classifier.apply(None)
        if chosen.classifier.pooling is None:
            classifier = classifier.model_copy(update={"pooling": STUDENT_POOLING})
    student = TWilBERT(ModelConfig(encoder=shape, classifier=classifier, task=task and task.undecided))
    set_max_length(tokenizer, min(max_length(tokenizer) or shape.max_positions, shape.max_positions))
    if origins is not None and chosen.embeddings == "teacher":
        if is_bundle(model_path(config.data.teacher)):
            warnings.warn(
                f"{config.data.teacher} is a bundle, whose embeddings cannot be taken over: the student "
                "begins with new ones (give the model folder that it was exported from)",
                ModelWarning,
                stacklevel=2,
            )
        else:
            _begin_with_embeddings(student, origins, config.data.teacher)
    return student, tokenizer


def _take_student(config: DistillConfig, task: Task | None) -> tuple[TextModel, Tokenizer]:
    chosen = config.model
    assert chosen.folder is not None
    if task is None:
        return load_with_tokenizer(chosen.folder)
    start = StartConfig(
        folder=chosen.folder,
        classifier=chosen.classifier,
        input_dropout=chosen.input_dropout,
        output_dropout=chosen.output_dropout,
    )
    made = make_classifier(start, task.undecided)
    return made.model, made.tokenizer


@torch.no_grad()
def _begin_with_embeddings(student: TWilBERT, origins: NDArray[np.int64], teacher: Path) -> None:
    """Begin with a teacher's embeddings: their directions of most variance, as many as the student has."""
    model, _ = load_with_tokenizer(teacher)
    table = student.token_embeddings
    known = torch.from_numpy(np.flatnonzero(origins != NONE))
    theirs = model.token_embeddings[torch.from_numpy(origins)[known]].float()
    left, values, _ = torch.linalg.svd(theirs - theirs.mean(0), full_matrices=False)
    size = min(table.shape[1], len(values))
    reduced = left[:, :size] * values[:size]
    table[known, :size] = reduced * (student.config.encoder.initializer_range / reduced.std())


def _check_student(chosen: StudentConfig) -> None:
    """Refuse a student that cannot be made before the teacher is asked, which may take hours."""
    if chosen.folder is not None:
        describe(chosen.folder)
        return
    chosen.draw(vocab_size=len(SPECIAL))
    if chosen.tokenizer is not None:
        check_own(load_tokenizer(chosen.tokenizer), chosen.tokenizer)


def _check_metric(config: DistillConfig, task: Task | None) -> None:
    """Refuse a metric that no evaluation gives before the first step, too."""
    metric = config.train.metric
    if metric in ("auto", "loss"):
        return
    if task is not None and config.data.dev is not None:
        check_metric(metric, task)
        return
    known = ["loss", *VectorImitation.MEASURED] if task is None else ["loss", *AnswerImitation.MEASURED]
    if metric not in known:
        raise ConfigError(
            f"there is no metric '{metric}' of texts held out: choose one of {', '.join(known)}"
            f"{', or give --dev' if task else ''}"
        )


def _read_labelled_sets(config: DistillConfig, teacher: Teacher) -> LabelledSets:
    """Read the labelled files of a run, whose labels must be the teacher's."""
    data, task = config.data, teacher.task
    _check_metric(config, task)
    files = {"labelled": data.labelled, "dev": data.dev, "test": data.test}
    given = {name: file for name, file in files.items() if file is not None}
    if task is None:
        if given:
            raise ConfigError(
                f"{', '.join(f'--{name}' for name in given)} would have no effect: {data.teacher} is an "
                "encoder, which gives vectors and no labels"
            )
        return {}
    columns = LabelledColumns.of(data)
    sets = {
        "train" if name == "labelled" else name: read_labelled(file, columns, task.kind)
        for name, file in given.items()
    }
    for found in sets.values():
        found.targets(task)
    return sets


def _rows(targets: NDArray[Any] | None) -> int:
    return 0 if targets is None else len(targets)
