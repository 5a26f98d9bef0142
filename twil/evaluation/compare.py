"""Models side by side on one labelled file: scores, how sure they are, and which differences are real."""

# R rows   S samples   M models

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.bundle.names import model_path, name_models
from twil.config.memory_table import MemoryTable
from twil.core.errors import ConfigError, ModelError
from twil.core.task import NO_NAMES, Task
from twil.data.labelled import COLUMNS, WHOLE, LabelledColumns, LabelledSet, Sample, read_labelled
from twil.evaluation.classifiers import open_classifier, read_task, training_seconds
from twil.evaluation.comparison import Comparison, DifferingRow, Entry
from twil.evaluation.reports.comparison_tables import shown_metrics
from twil.scores.intervals import percentile_interval
from twil.scores.metrics import higher_is_better, main_metric, score_logits
from twil.scores.model_pairs import compare_pairs
from twil.scores.names import OF_LABEL
from twil.scores.resampling import check_comparable, comparable_metrics, resample

RESAMPLES = 10_000
FEWEST_RESAMPLES, MOST_RESAMPLES = 100, 10_000_000
MOST_DIFFERING = 20
"""Rows that models predict differently, of which pages show the texts."""
ORDERS = ("metric", "given", "name", "parameters", "size", "time")


@dataclass(frozen=True)
class Answering:
    """A model is about to answer.

    Attributes:
        name: Its name.
        number: Which it is, from 1.
        models: How many there are.
        rows: How many it answers.
    """

    name: str
    number: int
    models: int
    rows: int


Event = Answering | Comparison


def compare_events(
    file: str | Path | MemoryTable,
    models: Mapping[str, Path] | Sequence[str | Path],
    *,
    columns: LabelledColumns = COLUMNS,
    sample: Sample = WHOLE,
    map_labels: Mapping[str, str] = NO_NAMES,
    metric: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    order: str = "metric",
    differing: int = MOST_DIFFERING,
    batch_tokens: int = 1024,
    device: str = "auto",
) -> Generator[Event, None, None]:
    """Compare models on a labelled file, one after the other; the last event is the comparison.

    Intervals and tests are of samples of the rows, the same samples for all models.

    Args:
        file: The labelled texts, or a table of them in memory.
        models: Model folders and bundles by name; or as `name_models` takes them.
        columns: Where texts and answers stand.
        sample: Which rows are taken.
        map_labels: What labels of models are called in the file; each is of one model or of more.
        metric: By which pairs of models are compared; the task's main one when left out.
        resamples: How many samples are drawn.
        seed: Of their drawing.
        order: Of the models in the result: one of `ORDERS`.
        differing: How many rows that models predict differently the result holds at most.
        batch_tokens: Tokens per batch, pads included.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: There is no model, or they are not of the same task, or an option is none.
        DataError: The file cannot be used, or has a label that the models do not know.
        ModelError: There is no classifier in a folder.
        ProviderError: A bundle cannot run where it should.
    """
    _check_options(resamples, seed, order)
    named = models if isinstance(models, Mapping) else name_models(models)
    paths = {name: model_path(model) for name, model in named.items()}
    if not paths:
        raise ConfigError("there is nothing to compare: name model folders or bundles")
    tasks = {name: read_task(path) for name, path in paths.items()}
    names = {name: own_names(own, map_labels) for name, own in tasks.items()}
    check_used(map_labels, names.values())
    task = common_task({name: own.renamed(names[name]) for name, own in tasks.items()})
    metric = metric or main_metric(task)
    check_comparable(metric, task)
    labelled = read_labelled(file, columns, task.kind, sample)
    targets = labelled.targets(task)
    entries, answers = [], []
    for number, (name, path) in enumerate(paths.items(), start=1):
        yield Answering(name, number, len(paths), len(labelled))
        entry, given = _answer(name, path, names[name], labelled, task, batch_tokens, device)
        entries.append(entry)
        answers.append(given)
    plain = (name for name in comparable_metrics(task) if OF_LABEL not in name)
    measured = tuple(dict.fromkeys([*plain, *shown_metrics(task, metric)]))
    found = resample(targets, answers, task, metrics=measured, samples=resamples, seed=seed)
    places = sort_entries(entries, found.values[metric], order, higher=higher_is_better(metric))
    right = _right(targets, answers, task)
    told = {entries[place].name: answers[place] for place in places}
    yield Comparison(
        file=labelled.path,
        rows=len(labelled),
        task=task,
        metric=metric,
        resamples=resamples,
        seed=seed,
        entries=tuple(
            replace(
                entries[place],
                intervals={
                    name: percentile_interval(found.values[name][place], found.samples[name][place])
                    for name in measured
                },
            )
            for place in places
        ),
        pairs=compare_pairs([entry.name for entry in entries], places, found, metric, right),
        differing=tuple(differing_rows(labelled, targets, told, task)[:differing]),
    )


def differing_rows(
    labelled: LabelledSet, targets: NDArray[Any], answers: Mapping[str, NDArray[Any]], task: Task
) -> list[DifferingRow]:
    """Find the rows to which models give different answers, in the order of `Comparison.differing`.

    Args:
        labelled: The rows.
        targets: What is true, as `LabelledSet.targets` gives it.
        answers: By the models' names, as `Task.decide` gives them.
        task: What was asked.
    """
    given = np.stack(list(answers.values()))  # (M, R), or (M, R, L) of many labels
    right = _right(targets, list(answers.values()), task)
    apart = given != given[:1]
    differ = (apart.any(axis=2) if task.kind == "multi-label" else apart).any(axis=0)
    if right is None:
        order = np.argsort(given.min(axis=0) - given.max(axis=0), kind="stable")
    else:
        order = np.argsort(right[0] | ~right.any(axis=0), kind="stable")
    found = []
    for row in order[differ[order]].tolist():
        pair = () if labelled.text_pairs is None else (labelled.text_pairs[row],)
        found.append(
            DifferingRow(
                line=labelled.lines[row],
                texts=(labelled.texts[row], *pair),
                true=labelled.labels[row],
                answers={name: _written(own[row], task) for name, own in answers.items()},
                right=frozenset(
                    name for place, name in enumerate(answers) if right is not None and right[place, row]
                ),
            )
        )
    return found


def _written(answer: Any, task: Task) -> str:
    """Write what `Task.decide` gives for one row."""
    if task.kind == "regression":
        return f"{answer:.4g}"
    return task.join(np.flatnonzero(answer)) if task.kind == "multi-label" else task.labels[int(answer)]


def sort_entries(
    entries: Sequence[Entry], values: NDArray[np.float64], order: str, *, higher: bool = True
) -> list[int]:
    """Give the places of models in an order; those that are equal in it stay as they are.

    Args:
        entries: The models.
        values: Of the metric, ``(M,)``.
        order: One of `ORDERS`.
        higher: Whether a higher value is better.
    """
    keys: dict[str, Callable[[int], Any]] = {
        "metric": lambda place: -values[place] if higher else values[place],
        "given": lambda place: place,
        "name": lambda place: entries[place].name,
        "parameters": lambda place: getattr(entries[place].architecture, "parameters", math.inf),
        "size": lambda place: entries[place].size,
        "time": lambda place: entries[place].seconds,
    }
    return sorted(range(len(entries)), key=keys[order])


def _answer(
    name: str,
    path: Path,
    names: Mapping[str, str],
    labelled: LabelledSet,
    task: Task,
    batch_tokens: int,
    device: str,
) -> tuple[Entry, NDArray[Any]]:
    """Have one model answer all rows; its answers are given in the order of the task's labels."""
    with open_classifier(path, map_labels=names, batch_tokens=batch_tokens, device=device) as classifier:
        own = classifier.task
        answered = classifier.answer(labelled.rows)
        if not np.isfinite(answered.logits).all():
            raise ModelError(f"{path} gives logits that are no numbers: it cannot be compared")
        entry = Entry(
            name=name,
            path=path,
            architecture=classifier.architecture,
            precision=classifier.precision,
            size=classifier.size,
            runtime=classifier.runtime,
            trained=training_seconds(path),
            seconds=answered.seconds,
            truncated=answered.truncated,
            report=score_logits(answered.logits, labelled.targets(own, order=task.labels), own),
            intervals={},
        )
    return entry, own.in_order_of(task.labels, own.decide(own.probabilities(answered.logits)))


def _right(targets: NDArray[Any], answers: Sequence[NDArray[Any]], task: Task) -> NDArray[np.bool_] | None:
    """Tell which rows each model has wholly right, bool ``(M, R)``; None of a regression."""
    if task.kind == "regression":
        return None
    right = np.stack(answers) == targets
    return np.asarray(right if task.kind == "class" else right.all(axis=2))


def _check_options(resamples: int, seed: int, order: str) -> None:
    if resamples < FEWEST_RESAMPLES:
        raise ConfigError(
            f"{resamples} samples are too few for an interval: draw {FEWEST_RESAMPLES} or more (--resamples)"
        )
    if resamples > MOST_RESAMPLES:
        raise ConfigError(
            f"{resamples:,} samples would take too long: draw {MOST_RESAMPLES:,} or fewer (--resamples)"
        )
    if seed < 0:
        raise ConfigError(f"the seed {seed} is negative: give 0 or more")
    if order not in ORDERS:
        raise ConfigError(f"models cannot be sorted by '{order}': choose one of {', '.join(ORDERS)}")


def own_names(task: Task, names: Mapping[str, str]) -> dict[str, str]:
    """Give those of other names for labels that are for a model's own."""
    return {label: name for label, name in names.items() if label in task.labels}


def check_used(names: Mapping[str, str], used: Iterable[Mapping[str, str]]) -> None:
    """Refuse another name for a label that no model has.

    Raises:
        ConfigError: There is one.
    """
    known = {label for own in used for label in own}
    if unknown := [label for label in names if label not in known]:
        raise ConfigError(f"{', '.join(unknown)} cannot be called otherwise: no model has such a label")


def common_task(tasks: Mapping[str, Task]) -> Task:
    """Return what all models are asked, in the order of the first one's labels.

    Raises:
        ConfigError: One is asked something else; it is named, with its labels.
    """
    (first, task), *others = tasks.items()
    for name, other in others:
        if (other.kind, other.pair) != (task.kind, task.pair):
            raise ConfigError(
                f"{name} is a model for {_kind(other)}, and {first} one for {_kind(task)}: only models of "
                "the same task can be compared"
            )
        if set(other.labels) != set(task.labels) and task.kind != "regression":
            raise ConfigError(
                f"{name} has the labels {', '.join(other.labels)}, and {first} has {', '.join(task.labels)}: "
                "only models of the same labels can be compared"
            )
    scored = next((other.scored for other in tasks.values() if other.scored), ())
    return replace(task.undecided, scored=scored)


def _kind(task: Task) -> str:
    return f"{task.kind} of {'pairs' if task.pair else 'single texts'}"
