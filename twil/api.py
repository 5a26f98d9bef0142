"""What a program does with twil. Each function runs to its end and returns what came of it.

Labelled rows are given as the path of a table (TSV, CSV, JSONL, Parquet), or as they are in memory: a data
frame of pandas or polars, an Arrow table, a `datasets.Dataset`, a dict of columns, or ``(texts, labels)``.
The run's record names such rows by their hash.

`progress` is True for the lines and the bar that the commands show on stderr, False for nothing, or a
function that is given each event of the work as it comes. Settings that a function has no argument for go
into `settings`, by the names that ``--set`` takes: ``{"epochs": 3, "model.classifier.pooling": "avg"}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from twil.core.errors import ConfigError, require

if TYPE_CHECKING:
    from twil.bundle.cache import CachedModel
    from twil.bundle.catalogue import PublishedModel, ShippedModel
    from twil.cli.console import Display
    from twil.core.task import Task
    from twil.evaluation.comparison import Comparison
    from twil.evaluation.evaluate import Evaluation
    from twil.exporting.bundle import ExportReport
    from twil.inference.embed_file import VectorSummary
    from twil.inference.embedder import Embedder
    from twil.inference.events import Summary
    from twil.inference.predictor import Predictor
    from twil.scores.metrics import Report
    from twil.train.series import Series

Rows: TypeAlias = Any
"""The path of a table, or rows in memory."""
Progress: TypeAlias = bool | Callable[[Any], None]


@dataclass(frozen=True)
class FinetuneResult:
    """A classifier that was fine-tuned.

    Attributes:
        folder: Its model folder.
        task: What it is asked, with its labels.
        metric: What decided the best epoch; ``auto`` without dev.
        best_epoch: The epoch whose weights it holds.
        dev: Scores on dev; None without one.
        test: Scores on the test set; None without one.
        runs: What all runs came to, where there were several.
        seconds: The time that it took.
    """

    folder: Path
    task: Task
    metric: str
    best_epoch: int
    dev: Report | None
    test: Report | None
    runs: Series | None
    seconds: float

    @property
    def scores(self) -> dict[str, float]:
        """The scores on the test set by name, else those on dev; empty without either."""
        return _scores(self.test or self.dev)

    def predictor(self, **options: Any) -> Predictor:
        """Open the classifier for predictions, exported once into the cache; options as of `Predictor`."""
        return _predictor(self.folder, options)

    def export(self, output: str | Path, **options: Any) -> ExportReport:
        """Write its bundle; options as of `export`."""
        return export(self.folder, output, **options)


@dataclass(frozen=True)
class PretrainResult:
    """An encoder that was pretrained.

    Attributes:
        folder: Its model folder.
        step: The step whose weights it holds.
        scores: What the held-out part gave for them; empty without one.
        seconds: The time of training, over all sittings.
    """

    folder: Path
    step: int
    scores: dict[str, float]
    seconds: float

    def embedder(self, **options: Any) -> Embedder:
        """Open the encoder for vectors, exported once into the cache; options as of `Embedder`."""
        from twil.inference.embedder import Embedder

        return Embedder(self.folder, **options)


@dataclass(frozen=True)
class DistillResult:
    """A student that was taught.

    Attributes:
        folder: Its model folder.
        step: The step whose weights it holds.
        scores: What the test set gave for them, else dev, or the texts held out.
        test: Scores on the test set; None without one.
        seconds: The time of training, over all sittings.
    """

    folder: Path
    step: int
    scores: dict[str, float]
    test: Report | None
    seconds: float

    def predictor(self, **options: Any) -> Predictor:
        """Open a classifier for predictions, exported once into the cache; options as of `Predictor`."""
        return _predictor(self.folder, options)


class Models(NamedTuple):
    """The models that can be named.

    Attributes:
        shipped: Those that come with twil.
        cached: Those that were exported into the cache.
        hub: Known ones of the Hugging Face hub, for Spanish tweets.
    """

    shipped: list[ShippedModel]
    cached: list[CachedModel]
    hub: tuple[PublishedModel, ...]


def finetune(
    train: Rows,
    dev: Rows | float | None = None,
    *,
    output: str | Path = "model",
    model: str | Path | None = None,
    test: Rows | None = None,
    task: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    runs: int | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = True,
) -> FinetuneResult:
    """Fine-tune a classifier and write its model folder.

    Args:
        train: Labelled rows to learn from.
        dev: Those that decide the best epoch, or the share of `train` that does, such as 0.1.
        output: The model folder to write.
        model: What it starts from: a model folder, a shipped name, or one of the hub; `twil-es` when left
            out.
        test: Rows that are scored once, at the end.
        task: ``class``, ``multi-label``, ``regression`` or ``stance``; ``class`` when left out.
        text: The column of the texts. When left out: `TEXT`, else the only one of `text`, `texto`,
            `tweet`, `full_text`, `content` and `review`.
        text_pair: The column of the second texts, for pairs.
        label: The column of the labels. When left out: `CLASS`, else the only one of `label`, `etiqueta`,
            `sentiment`, `class` and `clase`.
        labels: Their names in order; found in `train` and sorted when left out.
        settings: Any others, see above.
        config: A TOML file with settings, which those given here change.
        runs: Train with so many seeds and keep the best by dev.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: Continue the interrupted run of the same settings, if there is one.
        overwrite: Replace what is at `output`.
        progress: See above.

    Raises:
        ConfigError: A setting does not fit.
        DataError: Rows cannot be used.
        ModelError: The model cannot be loaded, or training has diverged.
        TwilError: The output is taken, or another process writes it.
    """
    require("torch", purpose="twil.finetune")
    from twil.config.settings import with_settings
    from twil.config.training import FinetuneConfig, finetune_config

    sets = {name: _table(rows, f"the {name} rows") for name, rows in (("train", train), ("test", test))}
    sets["dev"] = dev if isinstance(dev, float | None) else _table(dev, "the dev rows")
    columns = {"text": text, "text_pair": text_pair, "label": label, "labels": labels, "task": task}
    options = {"data": {**sets, **columns}, "model": {"folder": model}}
    run = finetune_config(Path(config) if config else None, with_settings(options, settings, FinetuneConfig))
    choices: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "device": device}

    from twil.cli.training import TrainingView

    series = None
    if runs is None:
        from twil.train.finetune import finetune_events

        finished = _finish(finetune_events(run, output, **choices), progress, TrainingView)
    else:
        from twil.cli.training import SeriesView
        from twil.train.runs import finetune_runs_events

        events = finetune_runs_events(run, output, runs=runs, **choices)
        done = _finish(events, progress, lambda display, **how: SeriesView(TrainingView(display, **how)))
        series, finished = done.series, done.best
    return FinetuneResult(
        finished.folder,
        finished.task,
        finished.metric,
        finished.best_epoch,
        finished.dev,
        finished.test,
        series,
        finished.seconds,
    )


def pretrain(
    config: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    corpus: str | Path | None = None,
    model: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = True,
) -> PretrainResult:
    """Pretrain an encoder on a corpus and write its model folder.

    Args:
        config: A TOML file, or its sections: `data`, `model`, `objective`, `optimiser` and `train`.
        output: The model folder to write.
        corpus: The folder that `twil corpus` wrote, in place of the one in `config`.
        model: Train this model folder further, in place of a new model.
        settings: Any others, see above.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: Continue the interrupted run of the same settings, if there is one.
        overwrite: Replace what is at `output`.
        progress: See above.

    Raises:
        ConfigError: A setting does not fit.
        DataError: The corpus cannot be used.
        ModelError: The model cannot be loaded, or training has diverged.
        TwilError: The output is taken, or another process writes it.
    """
    require("torch", purpose="twil.pretrain")
    from twil.cli.training import PretrainingView
    from twil.config.pretraining import PretrainConfig, pretrain_config
    from twil.config.settings import read_toml, with_settings
    from twil.train.pretraining import pretrain_events

    given = config if isinstance(config, Mapping) else read_toml(Path(config))
    source = None if isinstance(config, Mapping) else config
    options = {"data": {"corpus": corpus}, "model": {"folder": model}}
    run = pretrain_config(given, with_settings(options, settings, PretrainConfig), source=source)
    events = pretrain_events(run, output, resume=resume, overwrite=overwrite, device=device)
    finished = _finish(events, progress, PretrainingView)
    return PretrainResult(finished.folder, finished.step, finished.metrics, finished.seconds)


def distill(
    teacher: str | Path,
    texts: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    student: str | None = None,
    labelled: str | Path | None = None,
    dev: str | Path | None = None,
    test: str | Path | None = None,
    text: str | None = None,
    label: str | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    store: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = True,
) -> DistillResult:
    """Teach a small model what a large one says of texts, and write its model folder.

    Args:
        teacher: A classifier, whose probabilities are learned, or an encoder, whose vectors are: a bundle, a
            model folder, a shipped name, or one of the hub.
        texts: Tables of texts.
        output: The model folder to write.
        student: A preset's name, a model folder or name; a TWilBERT of 4 layers of 256 when left out.
        labelled: Texts with true labels, learned beside the teacher's.
        dev: Labelled texts that decide the best epoch.
        test: Labelled texts that are scored once, at the end.
        text: The column of the texts.
        label: The column of the labels.
        settings: Any others, see above.
        config: A TOML file with settings, which those given here change.
        store: Keep what the teacher said in this folder, for more students.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: Continue the interrupted run of the same settings, if there is one.
        overwrite: Replace what is at `output`.
        progress: See above.

    Raises:
        ConfigError: A setting does not fit, or the teacher has other labels than the labelled texts.
        DataError: A table cannot be used.
        ModelError: A model cannot be loaded, or training has diverged.
        TwilError: The output is taken, or another process writes it.
    """
    require("torch", purpose="twil.distill")
    from twil.bundle.cache import bundle_of
    from twil.cli.distillation import DistillationView, check_preparation
    from twil.config.distillation import DistillConfig, distill_config
    from twil.config.settings import with_settings
    from twil.train.distillation import distill_events

    files = [texts] if isinstance(texts, str | Path) else list(texts)
    data = {
        "teacher": teacher,
        "texts": files,
        "columns": [text] if text else None,
        "text": text,
        "labelled": labelled,
        "dev": dev,
        "test": test,
        "label": label,
    }
    options = with_settings({"data": data}, settings, DistillConfig)
    run = distill_config(Path(config) if config else None, options, student=student)
    bundles = []
    for each in (run.data.teacher, *run.data.also):
        check_preparation(each, run.data.preparation)
        bundles.append(bundle_of(each, None, run.data.preparation))
    events = distill_events(
        run,
        bundles[0],
        output,
        also=bundles[1:],
        store=Path(store) if store else None,
        resume=resume,
        overwrite=overwrite,
        device=device,
    )
    finished = _finish(events, progress, DistillationView)
    scores = _scores(finished.test) or finished.metrics
    return DistillResult(finished.folder, finished.step, scores, finished.test, finished.seconds)


def evaluate(
    model: str | Path,
    rows: Rows,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    map_labels: Mapping[str, str] | None = None,
    device: str = "auto",
) -> Evaluation:
    """Score a classifier on labelled rows.

    Args:
        model: A model folder, a bundle or a shipped name.
        rows: The labelled rows.
        text: The column of the texts, as for `finetune`.
        text_pair: The column of the second texts, for pairs.
        label: The column of the labels, as for `finetune`.
        map_labels: What the model's labels are called in the rows.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: `map_labels` names a label that the model does not have.
        DataError: The rows cannot be used, or have a label that the model does not know.
        ModelError: It is no classifier, or its logits are not finite.
    """
    from twil.bundle.names import model_path
    from twil.data.labelled import LabelledColumns
    from twil.evaluation import evaluate as evaluation

    return evaluation.evaluate(
        model_path(model),
        _table(rows, "the rows"),
        columns=LabelledColumns(text, text_pair, label),
        map_labels=map_labels or {},
        device=device,
    )


def compare(
    rows: Rows,
    models: Mapping[str, str | Path] | Sequence[str | Path],
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    map_labels: Mapping[str, str] | None = None,
    metric: str | None = None,
    resamples: int = 10_000,
    device: str = "auto",
    progress: Progress = True,
) -> Comparison:
    """Compare classifiers on labelled rows: scores with intervals, speed, and which differences are real.

    Args:
        rows: The labelled rows.
        models: Model folders, bundles or names, perhaps by the names that they are to have.
        text: The column of the texts, as for `finetune`.
        text_pair: The column of the second texts, for pairs.
        label: The column of the labels, as for `finetune`.
        map_labels: What labels of models are called in the rows.
        metric: By which pairs of models are compared; the task's main one when left out.
        resamples: Samples of the bootstrap.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: See above.

    Raises:
        ConfigError: There is no model, or they are not of the same task.
        DataError: The rows cannot be used, or have a label that the models do not know.
        ModelError: There is no classifier in a folder.
    """
    from twil.data.labelled import LabelledColumns
    from twil.evaluation.compare import compare_events
    from twil.evaluation.comparison import Comparison

    events = compare_events(
        _table(rows, "the rows"),
        {name: Path(path) for name, path in models.items()} if isinstance(models, Mapping) else list(models),
        columns=LabelledColumns(text, text_pair, label),
        map_labels=map_labels or {},
        metric=metric,
        resamples=resamples,
        device=device,
    )

    def show(display: Display) -> Any:
        for event in events:
            if not isinstance(event, Comparison):
                display.update(f"{event.name}, {event.number} of {event.models}: {event.rows:,} rows")
        return event

    compared: Comparison = _last(events, progress, show)
    return compared


def export(
    model: str | Path,
    output: str | Path,
    *,
    precision: str = "fp32",
    optimize: bool = False,
    calibration: str | Path | None = None,
    evaluation: str | Path | None = None,
    text: str | None = None,
    label: str | None = None,
    head: str | None = None,
    overwrite: bool = False,
    progress: Progress = True,
) -> ExportReport:
    """Export a model to ONNX, checked to compute the same; the bundle is written whole or not at all.

    Args:
        model: A model folder.
        output: The bundle to write.
        precision: ``fp32``, ``fp16`` (for GPUs) or ``int8``.
        optimize: Use fused operators that only ONNX Runtime has, which is faster.
        calibration: Of int8: texts like those to come, such as the training file.
        evaluation: Of int8: a file to check it on, such as dev; labelled for a classifier.
        text: The column of the texts in both, as for `finetune`.
        label: The column of the labels, as for `finetune`.
        head: ``classifier``, ``encoder`` or ``fill-mask``; the classifier if there is one, else the encoder.
        overwrite: Replace what is at `output`.
        progress: See above; a function is told in a line what is being done.

    Raises:
        ConfigError: An option does not fit.
        DataError: A file cannot be used.
        ExportError: The graph does not compute what the model does, or int8 loses more than it may.
        ModelError: `model` is no model folder, or lacks the head.
        TwilError: The output is taken, or another process writes it.
    """
    require("torch", purpose="twil.export")
    from twil.data.labelled import LabelledColumns
    from twil.exporting.bundle import export_onnx, unheard
    from twil.exporting.int8.options import choose_arithmetic

    fp16, int8 = choose_arithmetic(
        precision,
        calibration=Path(calibration) if calibration else None,
        evaluation=Path(evaluation) if evaluation else None,
        columns=LabelledColumns(text, label=label),
    )
    with _display(progress) as display:
        report = export_onnx(
            model,
            output,
            head=head,  # type: ignore[arg-type]  # checked there
            optimize=optimize,
            fp16=fp16,
            int8=int8,
            overwrite=overwrite,
            say=progress if callable(progress) else display.update if display else unheard,
        )
        if display:
            display.line(report.describe())
    return report


def predict(
    source: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Path | Sequence[str | Path] | None = None,
    progress: Progress = True,
    **options: Any,
) -> Summary:
    """Label every row of a table, or of several; texts in memory are labelled by a `Predictor`.

    Args:
        source: The tables.
        output: The table of predictions; its ending decides the format.
        model: As for a `Predictor`; or several.
        progress: See above.
        options: See `twil.inference.predict_file.predict_events`.

    Raises:
        ConfigError: An option does not fit.
        DataError: A table cannot be read, or the output not be written.
        ModelError: There is no such model, or it is no classifier's.
    """
    from twil.bundle.names import default_model
    from twil.inference.predict_file import predict_events

    chosen = default_model() if model is None else model
    events = predict_events(_paths(source), chosen, output, **options)
    summary: Summary = _follow_rows(events, output, progress)
    return summary


def embed(
    source: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Path,
    progress: Progress = True,
    **options: Any,
) -> VectorSummary:
    """Compute the vectors of every row of a table, or of several; an `Embedder` does so of texts in memory.

    Args:
        source: The tables.
        output: A ``.npy`` or a ``.parquet``.
        model: As for an `Embedder`.
        progress: See above.
        options: See `twil.inference.embed_file.embed_events`.

    Raises:
        ConfigError: An option does not fit.
        DataError: A table cannot be read, or the output not be written.
        ModelError: There is no such model, or it is a classifier's.
    """
    from twil.inference.embed_file import embed_events

    events = embed_events(_paths(source), model, output, **options)
    summary: VectorSummary = _follow_rows(events, output, progress, made="vector")
    return summary


def models() -> Models:
    """List the models that can be named: those of twil, exported ones, and known ones of the hub."""
    from twil.bundle.cache import cached_models
    from twil.bundle.catalogue import PUBLISHED, shipped_models

    return Models(shipped_models(), cached_models(), PUBLISHED)


def _table(rows: Rows, name: str) -> Any:
    from twil.data.tables.memory import take_table

    return None if rows is None else take_table(rows, name)


def _paths(source: Any) -> Any:
    """Refuse texts in the place of tables."""
    several = isinstance(source, Sequence) and not isinstance(source, str)
    for path in source if several else [source]:
        if not isinstance(path, str | Path):
            raise ConfigError(
                f"a table is given by its path, not by a {type(path).__name__}: for rows in memory call "
                "twil.Predictor() or twil.Embedder() on them"
            )
    return source


def _predictor(folder: Path, options: dict[str, Any]) -> Predictor:
    from twil.inference.predictor import Predictor

    return Predictor(folder, **options)


def _scores(report: Report | None) -> dict[str, float]:
    from twil.scores.metrics import metrics_of

    return metrics_of(report) if report else {}


@contextmanager
def _display(progress: Progress) -> Iterator[Display | None]:
    """Show progress on stderr where that is asked for."""
    if progress is not True:
        yield None
        return
    from twil.cli.console import Display

    with Display() as display:
        yield display


def _last(events: Iterable[Any], progress: Progress, show: Callable[[Display], Any]) -> Any:
    """Go through events, shown as a command shows them where that is asked for; return the last one."""
    with _display(progress) as display:
        if display:
            return show(display)
        last = None
        for last in events:
            if callable(progress):
                progress(last)
    return last


def _finish(events: Iterable[Any], progress: Progress, view: Callable[..., Any]) -> Any:
    """Go through the events of a run; return the last one."""
    return _last(events, progress, lambda display: view(display, resumable=False).follow(events))


def _follow_rows(
    events: Iterable[Any], output: str | Path, progress: Progress, *, made: str = "prediction"
) -> Any:
    """Go through the events of labelled rows; return the last one."""

    def show(display: Display) -> Any:
        from twil.cli.rows import follow

        return follow(display, events, str(output), made=made, started_quickly=False)

    return _last(events, progress, show)
