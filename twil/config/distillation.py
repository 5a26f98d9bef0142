"""Typed options of a distillation, read from TOML and from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from twil.config.loop import LoopConfig, OptimiserConfig
from twil.config.losses import LossConfig
from twil.config.model import PRESETS, Count, Pooling, Probability, Section, explain
from twil.config.reading import AS_FOUND, Reading
from twil.config.settings import put_together, read_toml, whole_override
from twil.config.training import ClassifierChoice, OriginConfig
from twil.core.errors import ConfigError

STUDENT: dict[str, Any] = {"init": "small", "encoder": {"embedding_size": 128}}
"""What is drawn where no student is named: 4 layers of 256 on factorised embeddings."""

STUDENT_POOLING: Pooling = "avg"
"""How a student makes one vector of a text, whatever its teacher does: as its export will."""

FRESH_STUDENT_LR, STUDENT_LR = 1e-3, 2e-4
"""Default peak learning rates: for a student drawn anew, and for one that is trained already."""


class DistillDataConfig(Section):
    """What the teacher is asked, and what else is known of it."""

    teacher: Path
    """A bundle, a model folder, or the name of a model on the hub."""
    also: tuple[Path, ...] = ()
    """More classifiers of the same labels, such as those of other seeds: the mean of their probabilities is
    what the teacher says (Hinton et al. 2015)."""
    preparation: str | None = None
    """How texts are prepared for a teacher of the library, and so for its student, by name, or ``none``; when
    left out as its folder records it, else as its name on the hub tells."""
    texts: tuple[Path, ...]
    """Tables, or text files with one text a line."""
    columns: tuple[str, ...] | None = None
    """Their columns of texts; when left out those named TEXT, ORIG_TEXT and REPLY_TEXT."""
    labelled: Path | None = None
    """Of a classifier: texts with true labels, which the teacher is asked, too."""
    dev: Path | None = None
    """Of a classifier: labelled texts that decide the best epoch."""
    test: Path | None = None
    """Of a classifier: labelled texts that are scored once, at the end."""
    without: tuple[Path, ...] = ()
    """Files of the same columns as `texts`, whose texts are left out, such as those to be measured on."""
    text: str | None = None
    """The column of the texts in the labelled files; found as in a fine-tuning when left out."""
    label: str | None = None
    label_separator: str = "|"
    """What stands between the labels of a row that has several."""
    reading: Reading = AS_FOUND
    """How all files are read, as far as their names and first lines do not tell."""
    limit: Count | None = None
    """The most different texts that the teacher is asked; all when left out."""
    dev_rows: Count = 1_000
    """Texts that are held out to measure the student on, where there is no `dev`; at most a tenth."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.texts:
            raise ValueError("texts: name at least one file")
        return self


class StudentConfig(OriginConfig):
    """The student: a preset or a shape drawn anew, or a model folder trained further."""

    tokenizer: Path | None = None
    """Of a student drawn anew; when left out it reads the teacher's own tokens."""
    embeddings: Literal["teacher", "new"] = "teacher"
    """Of a student that reads the teacher's tokens: begin with the teacher's embeddings, cut to its size by a
    singular value decomposition, or with new ones."""
    min_uses: NonNegativeInt = 1
    """Of a student that reads the teacher's tokens: it keeps those that the texts use at least so often."""
    classifier: ClassifierChoice = ClassifierChoice()
    """Of a student that learns labels; `avg` is its pooling when left out."""
    input_dropout: Probability | None = None
    output_dropout: Probability | None = None
    """Dropouts of the encoder during this run; the student's own when left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.folder is not None) == self.is_drawn:
            raise ValueError(
                "give one student: a preset (init) or a shape (encoder), or a model folder (folder)"
            )
        if self.folder is not None:
            for name in ("tokenizer", "embeddings", "min_uses"):
                if name in self.model_fields_set and getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect: a model folder brings its own tokens")
        return self


class ImitationConfig(Section):
    """What the student is to match. Of each kind of teacher, the weights of its own terms count."""

    tokens: NonNegativeFloat = 1.0
    """Of an encoder: each token's vector, where both read the same tokens (Jiao et al. 2020)."""
    vectors: NonNegativeFloat = 1.0
    """Of an encoder: the vector of the text (Reimers and Gurevych 2020)."""
    relations: NonNegativeFloat = 1.0
    """Of an encoder: how alike the texts of a micro-batch are (Park et al. 2019)."""
    answers: NonNegativeFloat = 1.0
    """Of a classifier: its softened answers (Hinton et al. 2015)."""
    temperature: PositiveFloat = 2.0
    """How far those are softened."""
    labels: NonNegativeFloat = 1.0
    """Of a classifier: the true labels of the labelled texts."""
    repeat: Count = 1
    """How often an epoch sees each labelled text."""
    loss: LossConfig = LossConfig()
    """On true labels."""


class DistillLoopConfig(LoopConfig):
    """The training loop of a distillation."""

    epochs: Count = 5
    batch_rows: Count = 128
    """Texts of an optimiser step over all processes."""
    batch_tokens: Count = 4096
    """Tokens of a micro-batch, pads included."""
    lr: PositiveFloat | None = None
    """Peak learning rate; when left out 1e-3 for a student drawn anew, 2e-4 for one that is trained."""
    metric: str = "auto"
    """What decides the best epoch: with `data.dev` what the task is judged by, else the loss."""


class DistillConfig(Section):
    """Everything that decides a distillation."""

    data: DistillDataConfig
    model: StudentConfig
    objective: ImitationConfig = ImitationConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    train: DistillLoopConfig = DistillLoopConfig()


def distill_config(
    file: Path | None,
    options: Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    student: str | None = None,
) -> DistillConfig:
    """Put a run's options together; later ones win: the file, the options, the overrides.

    Args:
        file: A TOML file with the sections `data`, `model`, `objective`, `optimiser` and `train`.
        options: Values by section and key; those that are None are left out.
        overrides: Texts ``section.key=value``; a section may be left out where one alone has the key.
        student: A preset's name, or a model folder or name; in place of the student that the file describes.

    Raises:
        ConfigError: The file cannot be read, a key is unknown, or a value does not fit; all faults in one
            message.
    """
    value: dict[str, Any] = {"data": {}, "model": {}, **(read_toml(file) if file else {})}
    if student is not None and isinstance(value["model"], dict):
        for key in ("init", "encoder", "folder"):
            value["model"].pop(key, None)
        value["model"]["init" if student in PRESETS else "folder"] = student
    put_together(value, options, [whole_override(override, DistillConfig) for override in overrides])
    if isinstance(value["model"], dict) and not value["model"].keys() & {"init", "encoder", "folder"}:
        value["model"] |= STUDENT
    try:
        return DistillConfig.model_validate(value)
    except ValidationError as error:
        where = f"{file}: " if file else ""
        raise ConfigError(f"{where}{explain(error, DistillConfig)}") from error
