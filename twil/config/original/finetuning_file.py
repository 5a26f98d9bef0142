"""The sections of the original's files for fine-tuning, and what takes the place of their other settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt

from twil.config.model import Pooling, Probability
from twil.config.original.files import Strict
from twil.config.original.freezing import Layers
from twil.config.original.model import MODEL_SETTINGS
from twil.config.original.tasks import TaskSection
from twil.core.errors import ConfigError

ROW_TOKENS = 32
"""Tokens of a usual tweet, special ones included; batches of so many rows become batches of tokens."""

Name = Annotated[str, Field(min_length=1)]


class DatasetSection(Strict):
    """The section `dataset`."""

    train_file: Name
    dev_file: Name
    test_file: Name | None = None
    vocab_file: Name
    text_header: Name
    aux_header: Name | None = None
    class_header: Name
    delimiter: str = "\t"


class _Representation(Strict):
    max_len_test: PositiveInt | None = None
    preprocessing: bool = True


class _FinetunedModel(Strict):
    dropout: Probability | None = None


class FinetuningSection(Layers):
    """The section `finetuning`."""

    batch_size: PositiveInt
    epochs: PositiveInt
    collapse_mode: Pooling = "cls"
    use_special_tokens: bool = True
    dropout: Probability | None = None
    loss: str = "categorical_crossentropy"
    optimizer: str | None
    lr: PositiveFloat
    noam_annealing: bool = False
    warmup_steps: PositiveInt | None = None
    accum_iters: PositiveInt = 1
    path_load_weights: Name


class GridSearch(Strict):
    """The section `grid_search`: values to try, in place of those of the section `finetuning`."""

    batch_size: Annotated[list[PositiveInt], Field(min_length=1)]
    collapse_mode: Annotated[list[Pooling], Field(min_length=1)]
    lr: Annotated[list[PositiveFloat], Field(min_length=1)]
    runs: PositiveInt = 1
    monitorize: str | None = None


class Grid(Strict):
    """A file, of which only the grid is read."""

    grid_search: GridSearch | None = None


class FinetuningFile(Strict):
    """A file, with everything that decides a run but the model."""

    dataset: DatasetSection
    task: TaskSection
    representation: _Representation
    finetune_model: _FinetunedModel = _FinetunedModel()
    finetuning: FinetuningSection

    @property
    def is_pair(self) -> bool:
        """Whether rows are pairs."""
        return self.dataset.aux_header is not None

    @property
    def row_tokens(self) -> int:
        """Tokens of a usual row."""
        return 2 * ROW_TOKENS if self.is_pair else ROW_TOKENS


SETTINGS = MODEL_SETTINGS | {
    *("dataset.train_file", "dataset.dev_file", "dataset.test_file", "dataset.vocab_file"),
    *("dataset.text_header", "dataset.aux_header", "dataset.class_header", "dataset.delimiter"),
    *("task.regression", "task.categories", "task.categories.", "task.class_weights", "task.class_weights."),
    *("task.eval_metric", "task.average_metric", "task.class_metric", "task.stance_f1", "task.multi_label"),
    *("representation.max_len_test", "representation.preprocessing", "finetune_model.dropout"),
    *("grid_search.batch_size", "grid_search.collapse_mode", "grid_search.lr", "grid_search.runs"),
    *("grid_search.monitorize", "finetuning.batch_size", "finetuning.epochs", "finetuning.finetune_all"),
    *("finetuning.trainable_layers", "finetuning.collapse_mode", "finetuning.use_special_tokens"),
    *("finetuning.dropout", "finetuning.loss", "finetuning.optimizer", "finetuning.lr"),
    *("finetuning.noam_annealing", "finetuning.warmup_steps", "finetuning.accum_iters"),
    "finetuning.path_load_weights",
}
"""The settings that decide a run, by their paths in the file."""

_GPUS = "multi_gpu and n_gpus no longer apply: torchrun --nproc-per-node N -m twil finetune … uses N GPUs"
_OUTPUT = "path_save_weights and model_name no longer apply: the model folder is --output"
REPLACED = {
    "dataset.id_header": "id_header is not used: rows keep their order, and training needs no ids",
    "representation.bucket_": (
        "bucket_min … bucket_steps no longer apply: rows are batched by length, and cut by max_len alone"
    ),
    "model.masked_lm": "masked_lm is not used: nothing is masked in fine-tuning",
    "finetuning.pred_batch_size": "pred_batch_size no longer applies: dev and test have batches as train has",
    "finetuning.use_gpu": "use_gpu no longer applies: --device chooses, and is auto",
    "finetuning.multi_gpu": _GPUS,
    "finetuning.n_gpus": _GPUS,
    "finetuning.path_save_weights": _OUTPUT,
    "finetuning.model_name": _OUTPUT,
    "finetuning.verbose": "verbose no longer applies: --quiet shows results only",
}
"""What takes the place of settings that have no part in a run any more, by the start of their paths."""


def refuse_other_kinds(value: Mapping[str, Any]) -> None:
    """Refuse a file that is for something else.

    Raises:
        ConfigError: It is.
    """
    task = value.get("task") or {}
    if "training" in value:
        what = "a pretraining, which twil pretrain runs"
    elif "test" in value:
        what = "an evaluation, which twil evaluate runs on a model folder of twil import"
    elif "rev_categories" in task:
        what = "a labelling, which twil predict does"
    elif "finetuning" not in value:
        what = "no fine-tuning"
    else:
        return
    raise ConfigError(f"it describes {what}: fine-tuning needs a file with the sections task and finetuning")


def check_delimiter(data: DatasetSection) -> None:
    """Refuse a delimiter with which a table would not be read.

    Raises:
        ConfigError: The ending of a name tells another one, or no table has it.
    """
    for name in (data.train_file, data.dev_file, data.test_file):
        form = Path(name or "").name.lower().removesuffix(".gz").removesuffix(".zst")
        if form.endswith(".tsv") and data.delimiter != "\t":
            raise ConfigError(
                f"dataset.delimiter is {data.delimiter!r}, and {name} is read with tabs because of its "
                "ending: call it .csv"
            )
    if data.delimiter not in ("\t", ",", ";"):
        raise ConfigError(f"dataset.delimiter is {data.delimiter!r}: tables have tabs, commas or semicolons")
