"""How a distillation looks while it runs, and teacher and student beside each other at its end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from twil.bundle.bundle import POOLED, Kind, is_bundle, open_bundle
from twil.bundle.cache import prepared
from twil.bundle.names import model_path
from twil.cli.console import Display, format_bytes, format_seconds, make_table
from twil.cli.rows import follow_export
from twil.cli.training import RunView
from twil.config.distillation import DistillConfig
from twil.core.errors import ConfigError
from twil.core.machine import peak_memory
from twil.core.task import Task
from twil.data.labelled import LabelledColumns, LabelledSet, read_labelled
from twil.exporting.bundle import export_onnx
from twil.inference.engine import Engine
from twil.inference.predictor import Predictor
from twil.scores.metrics import main_metric, metrics_of, score_logits
from twil.scores.names import name_metric
from twil.text.vocabulary import texts_of
from twil.train.distillation import DistillationFinished, DistillationStarted
from twil.train.loop import Evaluated, Interrupted, StepDone
from twil.train.objectives.teacher import LOGITS, Asked, mean_logits

_TIMED_TEXTS, _TIMED_ROUNDS = 256, 3
_NAMES = {"vector_cosine": "cosine of texts", "token_cosine": "cosine of tokens", "agreement": "same answers"}


class DistillationView(RunView[DistillationFinished]):
    """Draws the events of a distillation."""

    finished_type = DistillationFinished
    nothing_to_continue = "there was no interrupted training to continue; it begins now"

    def __init__(self, display: Display, *, resumable: bool = True) -> None:
        super().__init__(display, resumable=resumable)
        self.metric = "loss"

    def follow(self, events: Iterable[Any], *, resume: bool = False) -> DistillationFinished | None:
        """Draw all events, as `RunView` does; Ctrl-C keeps the state while the teacher answers, too."""
        if self.resumable:
            self.stop.arm()
        return super().follow(events, resume=resume)

    def start(self, event: Asked | DistillationStarted) -> None:
        """Say how far the teacher is, and what is learned from how many texts."""
        if isinstance(event, Asked):
            self._ask(event)
        else:
            self._begin(event)

    def describe_step(self, event: StepDone, seconds: float) -> str:
        """Say where the run stands."""
        figures = "".join(f"{_NAMES[name]} {value:.3f}  " for name, value in event.metrics.items())
        return (
            f"step {event.step:,}/{event.steps:,}  epoch {event.epoch}/{event.epochs}  "
            f"loss {event.loss:.4f}  {figures}lr {event.lr:.2e}  {self.rows / seconds:,.0f} texts/s  "
            f"{format_bytes(peak_memory())}"
        )

    def describe_evaluation(self, event: Evaluated) -> str:
        """Say what dev, or the texts held out, gave."""
        return f"epoch {event.epoch}  step {event.step:,}  loss {event.loss:.4f}  {self._figures(event)}"

    def describe_interruption(self, event: Interrupted) -> str:
        """Say where the run was stopped."""
        in_step = f"in epoch {event.epoch}, step {event.step:,}"
        return f"stopped {in_step if event.epoch else 'while the teacher answered'}; what there is is kept"

    def _ask(self, event: Asked) -> None:
        left = event.seconds / event.asked * (event.total - event.rows)
        text = (
            f"the teacher has answered {event.rows:,} of {event.total:,} texts  "
            f"{event.asked / event.seconds:,.0f} texts/s"
        )
        if event.rows == event.total:
            self.display.line(
                f"the teacher has answered {event.total:,} texts, {event.asked:,} of them now in "
                f"{format_seconds(event.seconds)} ({event.asked / event.seconds:,.0f} texts/s)"
            )
        else:
            self.display.update(text, done=event.rows / event.total, left=format_seconds(left))

    def _begin(self, event: DistillationStarted) -> None:
        texts = event.texts
        left = {"repeated": texts.repeated, "blank": texts.blank, "left out": texts.left_out}
        others = ", ".join(f"{count:,} {name}" for name, count in left.items() if count)
        labelled = f", {event.labelled:,} of them with a label" if event.labelled else ""
        self.display.line(
            f"{texts.used:,} different texts{labelled}{f' ({others})' if others else ''}; "
            f"{event.dev_rows:,} to measure on"
        )
        self.display.line(
            f"a student of {event.parameters:,} parameters on {event.tokens:,} tokens, {event.shared:.0%} of "
            f"them the teacher's; {event.steps:,} steps on {event.device}"
            f"{f' in {event.processes} processes' if event.processes > 1 else ''} in {event.precision}, "
            f"learning rate up to {event.lr:.2e}"
        )
        self.metric = event.metric
        self.go_on(event)

    def _figures(self, event: Evaluated) -> str:
        if not event.metrics:
            return ""
        usual = ("accuracy", "macro_f1", "pearson", *_NAMES, self.metric)
        names = dict.fromkeys(name for name in usual if name in event.metrics and name != "loss")
        scores = "".join(f"{_title(name)} {event.metrics[name]:.4f}  " for name in names)
        return f"dev loss {event.metrics['loss']:.4f}  {scores}"


def check_preparation(teacher: Path, preparation: str | None) -> None:
    """Refuse to give a bundle a preparation of texts: it has its own.

    Raises:
        ConfigError: The teacher is one.
    """
    if preparation is not None and is_bundle(model_path(teacher)):
        raise ConfigError(
            f"{teacher} is a bundle, which prepares texts as it was exported: leave data.preparation out, or "
            "give the model folder"
        )


def teacher_bundle(
    teacher: Path, head: Kind | None, display: Display, preparation: str | None = None
) -> Path:
    """Give the bundle of a teacher: itself, or the one that is kept of its model folder.

    Raises:
        ConfigError: It is a bundle that gives something else than what is to be learned, or which knows how
            texts are prepared.
    """
    check_preparation(teacher, preparation)
    bundle = follow_export(display, prepared(teacher, head, preparation))
    kind = open_bundle(bundle).manifest.kind
    if head not in (None, kind):
        raise ConfigError(
            f"{teacher} is a bundle of kind {kind}, which says nothing else: give the model folder that it "
            "was exported from"
        )
    return bundle


def side_by_side(
    teachers: list[Path], finished: DistillationFinished, config: DistillConfig
) -> RenderableType:
    """Lay out teachers and student: scores, parameters, size, and speed on this machine, in turn."""
    task = open_bundle(teachers[0]).manifest.task
    sets = _labelled_sets(config, task)
    with TemporaryDirectory(prefix="twil-student-") as folder:
        student = Path(folder) / "student"
        export_onnx(finished.folder, student, optimize=True)
        several = len(teachers) > 1
        names = [f"teacher {number}" for number in range(1, len(teachers) + 1)] if several else ["teacher"]
        bundles = dict(zip([*names, "student"], [*teachers, student], strict=True))
        texts = list(
            islice(texts_of(config.data.texts, config.data.columns, config.data.reading), _TIMED_TEXTS)
        )
        speeds = _speeds(list(bundles.values()), texts)
        logits = {name: _logits(bundle, sets) for name, bundle in bundles.items()}
        tasks = {name: open_bundle(bundle).manifest.task for name, bundle in bundles.items()}
        rows: list[list[Any]] = [
            [
                name,
                *_scores(logits[name], sets, tasks[name], config),
                open_bundle(bundle).manifest.precision,
                _parameters(bundle),
                f"{sum(file.stat().st_size for file in bundle.iterdir()) / 1e6:.1f}",
                f"{speed:,.0f}",
            ]
            for (name, bundle), speed in zip(bundles.items(), speeds, strict=True)
        ]
        if several and sets:
            assert task is not None
            own = [tasks[name] for name in names]
            means = [
                mean_logits(task, own, each) for each in zip(*(logits[name] for name in names), strict=True)
            ]
            scores = _scores(means, sets, task.undecided, config)
            rows.insert(len(names), ["teachers together", *scores, *[""] * 4])
    titles = [f"{name} {name_metric(shown_metric(config, task))}" for name in sets if task is not None]
    columns = ["", *titles, "precision", "parameters", "MB", "texts/s"]
    return make_table("teacher and student in ONNX", columns, rows, figures=("MB", "texts/s"))


def _labelled_sets(config: DistillConfig, task: Task | None) -> dict[str, LabelledSet]:
    columns = LabelledColumns.of(config.data)
    files = {name: getattr(config.data, name) for name in ("dev", "test")}
    return {name: read_labelled(file, columns, task.kind) for name, file in files.items() if file and task}


def _logits(bundle: Path, sets: dict[str, LabelledSet]) -> list[NDArray[np.float32]]:
    if not sets:
        return []
    with Predictor(bundle) as predictor:
        return [predictor.predict_logits(rows.texts) for rows in sets.values()]


def _scores(
    logits: list[NDArray[np.float32]], sets: dict[str, LabelledSet], task: Task | None, config: DistillConfig
) -> list[float]:
    if task is None:
        return []
    reports = (
        score_logits(values, rows.targets(task), task)
        for values, rows in zip(logits, sets.values(), strict=True)
    )
    return [metrics_of(report)[shown_metric(config, task)] for report in reports]


def shown_metric(config: DistillConfig, task: Task) -> str:
    """Choose the score that is shown: what decides on dev, else what a task is judged by."""
    decisive = config.train.metric
    # Without dev it is one of texts held out, such as how often both say the same.
    return decisive if config.data.dev and decisive not in ("auto", "loss") else main_metric(task)


def _speeds(bundles: list[Path], texts: list[str]) -> list[float]:
    """Time bundles in turn on the same texts; texts a second, medians."""
    found: list[list[float]] = [[] for _ in bundles]
    engines = [
        Engine(bundle, LOGITS if bundle.manifest.task else POOLED, pair=False, side_by_side=True)
        for bundle in map(open_bundle, bundles)
    ]
    for _ in range(_TIMED_ROUNDS):
        for seconds, engine in zip(found, engines, strict=True):
            begin = time.perf_counter()
            for _ in engine.output_batches(engine.encode(texts)):
                pass
            seconds.append(time.perf_counter() - begin)
    for engine in engines:
        engine.close()
    return [len(texts) / median(seconds) for seconds in found]


def _parameters(bundle: Path) -> int | str:
    with Engine(open_bundle(bundle), POOLED, pair=False, threads=1) as engine:
        architecture = engine.session.architecture
    return architecture.parameters if architecture else "–"


def _title(name: str) -> str:
    return _NAMES.get(name, name_metric(name))
