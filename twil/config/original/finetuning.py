"""The original's configurations for fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twil.config.loop import noam_peak
from twil.config.model import EncoderConfig
from twil.config.original.files import check, left_out, locate, read_json
from twil.config.original.finetuning_file import (
    REPLACED,
    SETTINGS,
    FinetuningFile,
    FinetuningSection,
    Grid,
    GridSearch,
    check_delimiter,
    refuse_other_kinds,
)
from twil.config.original.freezing import frozen_parts
from twil.config.original.model import (
    encoder_fields,
    idle_notes,
    pair_note,
    row_length,
    text_length,
)
from twil.config.original.optimisers import (
    ADAM,
    LAMB,
    LAMB_NOTE,
    OriginalOptimiser,
    annealed,
    find_optimiser,
    keras_note,
)
from twil.config.original.tasks import OriginalTask, read_loss, read_task
from twil.config.original.weights import weight_notes
from twil.core.errors import ConfigError

DROPOUT = 0.15
"""The dropout of the classifier where the file has none."""


@dataclass(frozen=True)
class OriginalFinetuning:
    """An original configuration for fine-tuning in twil's terms.

    Attributes:
        config: Sections `data`, `model`, `train` and `optimiser` for `finetune_config`.
        notes: What the file asks for that is done differently or left out, for the user to read.
    """

    config: dict[str, Any]
    notes: tuple[str, ...]


def read_original_finetuning(path: str | Path) -> OriginalFinetuning:
    """Read a configuration for fine-tuning, of single texts or of pairs.

    Files that it names are taken as the original does, from the working directory, or else from beside it.

    Raises:
        ConfigError: The file is absent, is for something else than fine-tuning, or contradicts itself.
    """
    return read_json(Path(path), lambda value: _translate(value, Path(path)))


_OPTIMISERS = {"adam_accumulated": ADAM, "lamb_accumulated": LAMB}
_PADS = (
    "pads take no part, and a new classifier is drawn around 0: the original attends to pads and averages "
    "them, and draws around 0.02"
)


def _translate(value: Mapping[str, Any], source: Path) -> OriginalFinetuning:
    refuse_other_kinds(value)
    grid = check(Grid, value).grid_search
    settings = check(FinetuningFile, value if grid is None else _first_of(grid, value))
    data, training, model = settings.dataset, settings.finetuning, value["model"]
    length = text_length(value)
    encoder = encoder_fields(model, length)
    EncoderConfig(vocab_size=1, **encoder)  # what does not fit is said now, with the file's name
    task = read_task(settings.task)
    optimiser = find_optimiser(training.optimizer, _OPTIMISERS, "finetuning.optimizer")
    check_delimiter(data)
    freeze, freeze_notes = frozen_parts(training, model)
    loss = read_loss(training.loss, task.kind)
    weights = task.class_weights if _takes_weights(loss, task) else "none"
    config = {
        "data": {
            "train": locate(data.train_file, source),
            "dev": locate(data.dev_file, source),
            "test": data.test_file and locate(data.test_file, source),
            "text": data.text_header,
            "text_pair": data.aux_header,
            "label": data.class_header,
            "task": task.name,
            "labels": task.labels,
            "scored": task.scored,
        },
        "model": {
            "original": {
                "weights": locate(training.path_load_weights, source),
                "config": source,
                "vocab": locate(data.vocab_file, source),
            },
            "classifier": {
                "pooling": training.collapse_mode,
                "special_tokens": training.use_special_tokens,
                "dropout": _dropout(settings),
            },
            "input_dropout": encoder["input_dropout"],
            "output_dropout": encoder["output_dropout"],
            "max_length": row_length(length) if settings.is_pair else length + 2,
        },
        "train": {
            "epochs": training.epochs,
            "batch_tokens": training.batch_size * settings.row_tokens,
            "accumulation": training.accum_iters,
            "loss": loss,
            "class_weights": weights,
            "metric": task.metric,
            "patience": None,
            "freeze": freeze,
            "clip": optimiser.clip,
            **_schedule(training, encoder["hidden_size"]),
        },
        "optimiser": optimiser.section,
    }
    notes = (
        *weight_notes(model),
        *_notes(settings, task, optimiser, config["train"]),
        *([pair_note(length)] if settings.is_pair else []),
        *_length_notes(settings, length),
        *freeze_notes,
        *([] if grid is None else _grid_notes(grid, settings)),
        _PADS,
        *idle_notes(model),
        *left_out(value, SETTINGS, REPLACED),
    )
    return OriginalFinetuning(config, notes)


def _first_of(grid: GridSearch, value: Mapping[str, Any]) -> dict[str, Any]:
    """Give the file's settings with the first of the values that it tries."""
    first = {key: getattr(grid, key)[0] for key in ("batch_size", "collapse_mode", "lr")}
    return {**value, "finetuning": {**value["finetuning"], **first}}


def _dropout(settings: FinetuningFile) -> float:
    given = {settings.finetune_model.dropout, settings.finetuning.dropout} - {None}
    if len(given) > 1:
        raise ConfigError("finetune_model.dropout and finetuning.dropout contradict each other: give one")
    return next((rate for rate in given if rate is not None), DROPOUT)


def _takes_weights(loss: str, task: OriginalTask) -> bool:
    return task.kind != "multi-label" or loss == "binary_cross_entropy"


def _schedule(training: FinetuningSection, hidden_size: int) -> dict[str, Any]:
    if not training.noam_annealing:
        return {"schedule": "constant", "warmup": 0.0, "lr": training.lr}
    settings = annealed(training.warmup_steps, "finetuning")
    return {**settings, "lr": noam_peak(hidden_size, settings["warmup"])}


def _notes(
    settings: FinetuningFile, task: OriginalTask, optimiser: OriginalOptimiser, train: Mapping[str, Any]
) -> Iterator[str]:
    training, rows = settings.finetuning, "pairs" if settings.is_pair else "texts"
    yield (
        f"batch_size {training.batch_size} becomes {train['batch_tokens']:,} tokens a batch "
        f"(--batch-tokens), as many {rows} of {settings.row_tokens} tokens"
    )
    yield from task.notes
    if train["class_weights"] != task.class_weights:
        yield f"class_weights are not used: the loss {training.loss} takes none with several labels"
    if train["loss"] == "rmse":
        yield "root_mean_squared_error is that of a batch; the original's is the mean error of its rows"
    if optimiser == LAMB:
        yield LAMB_NOTE
    if not optimiser.is_own:
        yield keras_note(training.optimizer)
        yield (
            f"lr and accum_iters are followed: the original gives them to its own optimisers alone, and "
            f"lets those of Keras run at their own rate, {optimiser.lr:g}"
        )
    if training.noam_annealing:
        yield (
            f"lr {training.lr:g} is not used: noam_annealing raises the rate to {train['lr']:.2e} in "
            f"{training.warmup_steps} steps (the original's fine-tuning ends in an error here)"
        )
    elif training.warmup_steps:
        yield "warmup_steps is not used: noam_annealing is off"
    if settings.dataset.delimiter != "\t":
        yield "quotes in a CSV enclose cells; to the original they are text"
    if not training.use_special_tokens and training.collapse_mode == "cls":
        yield "use_special_tokens is not used: collapse_mode cls reads [CLS] in any case"


def _length_notes(settings: FinetuningFile, length: int) -> Iterator[str]:
    test = settings.representation.max_len_test
    if test is not None and test != length:
        yield f"max_len_test {test} is not used: all texts are cut at max_len {length} (model.max_length)"


def _grid_notes(grid: GridSearch, settings: FinetuningFile) -> Iterator[str]:
    training = settings.finetuning
    tried: dict[str, list[Any]] = {
        "lr": grid.lr,
        "batch_tokens": [size * settings.row_tokens for size in grid.batch_size],
        "pooling": grid.collapse_mode,
    }
    values = [f"--set {key}={','.join(map(str, found))}" for key, found in tried.items() if len(found) > 1]
    yield (
        f"grid_search is not run: this is the first of its settings, batch_size {training.batch_size}, "
        f"collapse_mode {training.collapse_mode} and lr {training.lr:g}, once; twil search tries all "
        f"({' '.join([*values, f'--runs {grid.runs}'])})"
    )
    if grid.monitorize not in (None, settings.task.eval_metric):
        yield f"grid_search.monitorize {grid.monitorize} is not used: eval_metric decides"
