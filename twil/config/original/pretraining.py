"""The original's configurations for pretraining."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from twil.config.model import EncoderConfig, RopConfig
from twil.config.original.files import Strict, check, left_out, locate, read_json
from twil.config.original.model import (
    BUCKETS,
    MODEL_SETTINGS,
    difference_notes,
    encoder_fields,
    idle_notes,
    memory_of,
    pair_note,
    rop_fields,
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
from twil.config.pretraining import MaskingConfig
from twil.core.errors import ConfigError


@dataclass(frozen=True)
class OriginalPretraining:
    """An original configuration for pretraining in twil's terms.

    Attributes:
        config: Sections `model`, `objective`, `optimiser` and `train` for `pretrain_config`; the corpus is
            still to be made of the file of pairs.
        pairs_file: Tweets and replies.
        vocab_file: The vocabulary, one token per line.
        max_length: The longest row in tokens: two texts and three special tokens.
        notes: What the file asks for that is done differently or left out, for the user to read.
    """

    config: dict[str, Any]
    pairs_file: Path
    vocab_file: Path
    max_length: int
    notes: tuple[str, ...]


def read_original_pretraining(path: str | Path) -> OriginalPretraining:
    """Read a configuration for pretraining.

    Raises:
        ConfigError: The file is absent, is for something else than pretraining, or contradicts itself.
    """
    return read_json(Path(path), lambda value: _translate(value, Path(path)))


class _Dataset(Strict):
    file: str = Field(min_length=1)
    vocab_file: str = Field(min_length=1)


class _Shares(Strict):
    mask: float
    random: float
    keep: float


class _Masking(Strict):
    type: Literal["span", "word", "token"]  # the README writes `word`, the original's own files `token`
    max_span: PositiveInt = 3
    budget: float
    probs: _Shares


class _PretrainedModel(Strict):
    masked_lm: _Masking


class _Training(Strict):
    batch_size: PositiveInt
    epochs: PositiveInt
    accum_iters: PositiveInt = 1
    optimizer: str | None = None
    noam_annealing: bool = False
    warmup_steps: PositiveInt | None = None
    path_initial_weights: str | None = None


class _Pretraining(Strict):
    dataset: _Dataset
    model: _PretrainedModel
    training: _Training


_READ = MODEL_SETTINGS | {
    *("dataset.file", "dataset.vocab_file"),
    *("model.masked_lm.type", "model.masked_lm.max_span", "model.masked_lm.budget"),
    *("model.masked_lm.probs.mask", "model.masked_lm.probs.random", "model.masked_lm.probs.keep"),
    *("training.batch_size", "training.epochs", "training.optimizer", "training.noam_annealing"),
    *("training.warmup_steps", "training.accum_iters", "training.path_initial_weights"),
}
"""The settings that decide a run, by their paths in the file."""

_GPUS = "multi_gpu and n_gpus no longer apply: torchrun --nproc-per-node N -m twil pretrain … uses N GPUs"
_REPLACED = {
    **BUCKETS,
    "training.use_gpu": "use_gpu no longer applies: --device chooses, and is auto",
    "training.multi_gpu": _GPUS,
    "training.n_gpus": _GPUS,
    "training.path_save_weights": "path_save_weights no longer applies: the model folder is --output",
    "training.verbose": "verbose no longer applies: --quiet shows nothing",
}
"""What takes the place of settings that have no part in a run any more, by the start of their paths."""


_OPTIMISERS = {"adam": ADAM, "lamb": LAMB}


def _translate(value: Mapping[str, Any], source: Path) -> OriginalPretraining:
    _refuse_other_kinds(value)
    settings = check(_Pretraining, value)
    model, training, length = value["model"], settings.training, text_length(value)
    encoder, rop = encoder_fields(model, length), rop_fields(model)
    EncoderConfig(vocab_size=1, **encoder)  # what does not fit is said now, with the file's name
    optimiser = find_optimiser(training.optimizer, _OPTIMISERS, "training.optimizer")
    return OriginalPretraining(
        config={
            "model": {"encoder": encoder, **({} if rop is None else {"rop": RopConfig(**rop).model_dump()})},
            "objective": {"rop": rop is not None, "masking": _masking(settings.model.masked_lm)},
            "optimiser": optimiser.section,
            "train": {
                "epochs": training.epochs,
                "batch_rows": training.batch_size * training.accum_iters,
                "clip": optimiser.clip,
                **_schedule(training, optimiser.lr),
            },
        },
        pairs_file=locate(settings.dataset.file, source),
        vocab_file=locate(settings.dataset.vocab_file, source),
        max_length=row_length(length),
        notes=(
            *difference_notes(model),
            *_notes(model, settings, optimiser, length),
            *left_out(value, _READ, _REPLACED),
        ),
    )


def _refuse_other_kinds(value: Mapping[str, Any]) -> None:
    if "finetuning" in value or "task" in value:
        raise ConfigError(
            "it describes a fine-tuning: pretraining needs a file with the section 'training'; twil finetune "
            "trains classifiers"
        )
    if "training" not in value:
        what = "an evaluation" if "test" in value else "no training"
        raise ConfigError(f"it describes {what}: pretraining needs a file with the section 'training'")


def _masking(masked: _Masking) -> dict[str, Any]:
    fields = {
        "kind": "span" if masked.type == "span" else "token",
        "budget": masked.budget,
        **masked.probs.model_dump(),
        **({"max_span": masked.max_span} if masked.type == "span" else {}),
    }
    MaskingConfig.model_validate(fields)
    return fields


def _schedule(training: _Training, lr: float) -> dict[str, Any]:
    if training.noam_annealing:
        return annealed(training.warmup_steps, "training")  # whose peak is the paper's
    return {"schedule": "constant", "warmup": 0.0, "lr": lr}


def _notes(
    model: Mapping[str, Any], settings: _Pretraining, optimiser: OriginalOptimiser, length: int
) -> Iterator[str]:
    training = settings.training
    yield pair_note(length)
    yield f"epochs {training.epochs}: each is whole, where the original's ends after half of the samples"
    if optimiser == LAMB:
        yield LAMB_NOTE
    if not optimiser.is_own:
        yield keras_note(training.optimizer)
    if training.warmup_steps and not training.noam_annealing:
        yield "warmup_steps is not used: noam_annealing is off"
    if training.path_initial_weights:
        yield (
            f"path_initial_weights {training.path_initial_weights} is not read: bring the weights with twil "
            "import, and start from that folder with --init"
        )
    if memory_of(model):
        yield (
            "pkm_params.batch_norm is not used: in the original's pretraining neither value normalises; "
            "model.encoder.memory.query_norm does"
        )
    if settings.model.masked_lm.type != "span" and "max_span" in model["masked_lm"]:
        yield "masked_lm.max_span is not used: tokens are masked one by one"
    yield from idle_notes(model)
