"""Runs of the same settings with one seed after another; the best by dev is kept.

While they go on, ``OUTPUT.runs`` beside the output holds the model folder of each finished run and the
checkpoints of the one under way, so that an interrupted series loses nothing.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from twil.config.loop import UPKEEP
from twil.config.settings import flatten
from twil.config.training import FinetuneConfig, StartConfig
from twil.core.errors import ConfigError, ModelError
from twil.core.interruption import check_same_settings, check_state, check_vacant_state
from twil.core.storage import reserved_folder, sha256, with_name, write_json
from twil.model.folder import FILES, RUN, copy, describe, read_run, weights_hash
from twil.scores.metrics import Report, metrics_of
from twil.text.tokenizer import load_tokenizer
from twil.train.distributed import check_alone
from twil.train.finetune import FinetuneFinished, FinetuneStarted, LabelledSets, finetune_events, read_sets
from twil.train.loop import Interrupted, LoopEvent
from twil.train.objectives.decisions import Decision
from twil.train.series import Run, Series

SETTINGS = "settings.json"
_OWN = tuple(
    map(
        re.compile,
        (
            r"seed-\d+(\.checkpoint)?",
            r"\.seed-\d+(-.*|\.lock)",  # left by a write that was killed
            r"(\.\d+-[0-9a-f]{8}\.)?settings\.json",
        ),
    )
)
_LARGEST_SEED = (1 << 63) - 1


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on.

    Attributes:
        run: Its number, from 1, of `runs`.
        seed: Its seed.
    """

    run: int
    runs: int
    seed: int


@dataclass(frozen=True)
class RunDone:
    """A run has ended.

    Attributes:
        run: Its number, from 1, of `runs`.
        result: What it came to.
        kept: Whether an earlier sitting has done it.
    """

    run: int
    runs: int
    result: Run
    kept: bool


@dataclass(frozen=True)
class SeriesFinished:
    """The model folder of the best run is written.

    Attributes:
        series: All runs.
        best: What the best run came to, where its folder lies now, and the time of this sitting.
    """

    series: Series
    best: FinetuneFinished


SeriesEvent: TypeAlias = RunStarted | FinetuneStarted | LoopEvent | RunDone | SeriesFinished


def finetune_runs_events(
    config: FinetuneConfig,
    output: str | Path,
    *,
    runs: int,
    resume: bool = False,
    overwrite: bool = False,
    keep_runs: bool = False,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[SeriesEvent]:
    """Fine-tune with several seeds and write the model folder of the best run.

    The seeds are `train.seed` and those after it. The folder is that of `finetune_events` with this seed; its
    `run.json` also tells of all runs, under `runs`.

    Args:
        config: Data, model and loop.
        output: The model folder to write.
        runs: How many.
        resume: Continue the interrupted series of the same settings, if there is one; it may have had
            another number of runs.
        overwrite: Replace a model folder that is there.
        keep_runs: Keep the model folders of all runs, in ``OUTPUT.runs``.
        device: ``auto``, ``cpu`` or ``cuda``.
        should_stop: Asked after every step; true keeps the state and ends with `Interrupted`.

    Yields:
        For each run `RunStarted`, the events of `finetune_events` where there is work left, and `RunDone`;
        then `SeriesFinished` (or `Interrupted`).

    Raises:
        ConfigError: A setting does not fit.
        DataError: A file cannot be used.
        ModelError: The model cannot be loaded, or training has diverged.
        TwilError: The output is taken, or another process writes it.
    """
    begin = time.monotonic()
    check_alone("a series of runs")
    output = with_name(output)
    root = runs_folder(output)
    seeds = _seeds(config, runs)
    check_decided(config, "the best of several runs")
    with reserved_folder(output, overwrite=overwrite, own=FILES):
        check_vacant_state(root, _OWN, resume=resume, overwrite=overwrite)
        if not resume:
            clear_runs(output)
        _prepare(root, config)
        done = yield from _train(root, config, seeds, device=device, should_stop=should_stop)
        if isinstance(done, Interrupted):
            last: Interrupted | SeriesFinished = done
        else:
            series = Series(done[0].metric, tuple(done))
            best = root / f"seed-{seeds[series.best]}"
            copy(best, output, read_run(best) | {"runs": series.as_dict()}, overwrite=overwrite)
            if not keep_runs:
                clear_runs(output)
            last = SeriesFinished(series, read_finished(output, seconds=time.monotonic() - begin))
    yield last  # here, so that who stops listening at it does not keep the output


def _train(
    root: Path, config: FinetuneConfig, seeds: list[int], *, device: str, should_stop: Callable[[], bool]
) -> Generator[SeriesEvent, None, list[Run] | Interrupted]:
    """Do the runs that are left, and give what all came to, or where they were interrupted."""
    done: list[Run] = []
    try:
        for run, seed in enumerate(seeds, start=1):
            folder = root / f"seed-{seed}"
            kept = (folder / RUN).is_file()
            yield RunStarted(run, len(seeds), seed)
            if not kept:
                for event in finetune_events(
                    with_seed(config, seed), folder, resume=True, device=device, should_stop=should_stop
                ):
                    if isinstance(event, Interrupted):
                        return event
                    if not isinstance(event, FinetuneFinished):
                        yield event
            done.append(_describe(folder))
            yield RunDone(run, len(seeds), done[-1], kept)
    finally:
        if [entry.name for entry in root.iterdir()] == [SETTINGS]:  # nothing was done that could be kept
            shutil.rmtree(root)
    return done


def runs_folder(output: Path) -> Path:
    """Name the folder in which the runs of a series lie while it goes on."""
    return output.parent / f"{output.name}.runs"


def clear_runs(output: Path) -> None:
    """Remove all runs of a series that writes `output`.

    Raises:
        TwilError: Something else lies in their folder; nothing is removed.
    """
    root = runs_folder(output)
    check_state(root, _OWN)
    if root.is_dir():
        shutil.rmtree(root)


def read_series(folder: Path) -> Series:
    """Read what the model folder of a best run tells of all runs.

    Raises:
        ModelError: It tells of none.
    """
    return Series.parse(read_run(folder).get("runs"), source=str(folder / RUN))


def check_decided(config: FinetuneConfig, what: str) -> None:
    """Refuse to choose among models without a set that decides, or where nothing makes them differ.

    Raises:
        ConfigError: There is no dev set, or no training.
    """
    if config.data.dev is None:
        raise ConfigError(f"{what} is chosen by its scores on dev: name that file (--dev)")
    if config.train.epochs == 0:
        raise ConfigError(f"train.epochs: without training {what} is as good as any: give one epoch or more")


def _seeds(config: FinetuneConfig, runs: int) -> list[int]:
    first = config.train.seed
    if runs < 1:
        raise ConfigError(f"there is nothing to do in {runs} runs: give --runs 1 or more")
    if first + runs - 1 > _LARGEST_SEED:
        raise ConfigError(f"train.seed {first} leaves no seeds for {runs} runs: give a smaller one")
    return [first + number for number in range(runs)]


def read_finished(folder: Path, *, seconds: float = 0.0) -> FinetuneFinished:
    """Read what the run came to that wrote a model folder.

    Args:
        folder: The model folder.
        seconds: The time of this sitting.

    Raises:
        ModelError: It cannot be read.
    """
    record, task = read_run(folder), describe(folder).task
    try:
        assert task is not None
        reports = {name: Report(**report) for name, report in record["results"].items()}
        told = record["decision"]
        return FinetuneFinished(
            folder=folder,
            task=task,
            metric=record["config"]["train"]["metric"],
            best_epoch=record["best_epoch"],
            decision=Decision.parse(told, task) if told else None,
            dev=reports.get("dev"),
            test=reports.get("test"),
            seconds=seconds,
        )
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / RUN} is not what twil wrote: start anew with --force") from error


def with_seed(config: FinetuneConfig, seed: int) -> FinetuneConfig:
    """Give the settings with another seed."""
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})


def _prepare(root: Path, config: FinetuneConfig) -> None:
    """Make the folder of the runs, or check that those in it are of the same settings and data."""
    settings = root / SETTINGS
    own = fingerprint(config, read_sets(config.data))
    if settings.is_file():
        check_same_settings(root, read_fingerprint(settings), own)
        for left in root.glob(".*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    else:
        root.mkdir(exist_ok=True)
        write_json(settings, own)


def _describe(folder: Path) -> Run:
    record = read_run(folder)
    finished = read_finished(folder)
    assert finished.dev is not None
    return Run(
        seed=record["config"]["train"]["seed"],
        metric=finished.metric,
        best_epoch=finished.best_epoch,
        dev=_scores(finished.dev, finished.metric) | _loss(record, finished.metric),
        test=_scores(finished.test, finished.metric) if finished.test else {},
    )


def _scores(report: Report, metric: str) -> dict[str, float]:
    """Give what is said of every run: the figures of its report, and the one that decides."""
    scores = metrics_of(report)
    return report.metrics | {name: value for name, value in scores.items() if name == metric}


def _loss(record: dict[str, Any], metric: str) -> dict[str, float]:
    return {metric: min(entry["dev_loss"] for entry in record["history"])} if metric == "loss" else {}


_FILES = frozenset(
    {
        *("data.train", "data.dev", "data.test", "model.folder", "model.tokenizer"),
        *("model.original.weights", "model.original.config", "model.original.vocab"),
    }
)


def fingerprint(config: FinetuneConfig, sets: LabelledSets) -> dict[str, str]:
    """Name the settings of a run and the contents of its files, wherever they lie.

    Raises:
        DataError: A file has changed since it was read.
        ModelError: There is no model folder, or no tokenizer, where it is to start.
    """
    settings = {
        name: repr(value)
        for name, value in flatten(config.model_dump(mode="json")).items()
        if name not in UPKEEP | _FILES
    }
    if config.data.dev_share is not None:
        settings["data.dev"] = repr(config.data.dev_share)
    contents = {f"the {name} data": labelled.sha256() for name, labelled in sets.items()}
    return settings | contents | fingerprint_start(config.model)


def fingerprint_start(start: StartConfig) -> dict[str, str]:
    """Name the contents of what a model starts from; raises as `fingerprint` does."""
    if start.folder is not None:
        shape = json.dumps(describe(start.folder).shape, sort_keys=True)
        return {"the model": shape, "the model's weights": weights_hash(start.folder)}
    if start.original is not None:
        files = {
            "the original's weights": start.original.weights,
            "the original's configuration": start.original.config,
            "the original's vocabulary": start.original.vocab,
        }
        if missing := [str(file) for file in files.values() if not file.is_file()]:
            raise ModelError(f"there is no file {', '.join(missing)}")
        return {name: sha256(file) for name, file in files.items()}
    assert start.tokenizer is not None
    load_tokenizer(start.tokenizer)
    return {"the tokenizer": sha256(start.tokenizer)}


def read_fingerprint(path: Path) -> dict[str, Any]:
    """Read what was written of an interrupted series.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): start anew with --force") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} does not say what was trained: start anew with --force")
    return value
