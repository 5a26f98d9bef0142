"""What a run of fine-tuning has recorded of itself in its model folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twil.config.model import explain
from twil.core.errors import ConfigError, DataError, ModelError
from twil.core.storage import sha256
from twil.model.folder import RUN, read_run
from twil.train.series import Series

SPLITS = ("dev", "test", "train")
"""The sets of a run, the first of them the one that is reported on unless another is asked for."""


class FileRecord(BaseModel):
    """A labelled file as the run found it."""

    file: str
    sha256: str
    rows: int


class ResultRecord(BaseModel):
    """What the model scored on a set at the end of the run."""

    metrics: dict[str, float] = Field(default_factory=dict)


class MeasuredRecord(BaseModel):
    """What dev gave for a rule from logits to answers."""

    score: float
    calibration_error: float


class DecisionRecord(BaseModel):
    """What was gained on dev by tuning the temperature or thresholds."""

    metric: str
    before: MeasuredRecord
    after: MeasuredRecord


class RunRecord(BaseModel):
    """The part of a record that is reported; what else it holds is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    command: str = ""
    config: dict[str, Any] = Field(default_factory=dict)
    """The settings, by section and key."""
    data: dict[str, FileRecord] = Field(default_factory=dict)
    """The labelled files, by set."""
    steps: int | None = None
    best_epoch: int | None = None
    history: list[dict[str, float]] = Field(default_factory=list)
    """Of every evaluation its epoch and step, the loss of training, and each score on dev as ``dev_…``."""
    results: dict[str, ResultRecord] = Field(default_factory=dict)
    """By set."""
    decision: DecisionRecord | None = None
    runs: dict[str, Any] | None = None
    """What several runs came to, as `Series.as_dict` gives it; of one run alone there is nothing."""
    versions: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read the record of a model folder; an empty one where it has none.

        Raises:
            ModelError: It is damaged, or not what twil wrote.
        """
        run = read_run(folder)
        try:
            return cls.model_validate(run)
        except ValidationError as error:
            raise ModelError(
                f"{folder / RUN} is not what twil wrote ({explain(error, cls)}): copy the folder again, or "
                "remove that file"
            ) from error

    @property
    def series(self) -> Series | None:
        """The runs of which this one is the best, with their scores; None where there was one run alone.

        Raises:
            ModelError: What is recorded of them is not what twil wrote.
        """
        return None if self.runs is None else Series.parse(self.runs, source=RUN)

    def setting(self, section: str, key: str) -> Any:
        """Give one setting; None where it is not recorded."""
        values = self.config.get(section)
        return values.get(key) if isinstance(values, dict) else None


@dataclass(frozen=True)
class ExaminedFile:
    """The labelled file that a run is examined on.

    Attributes:
        path: Where it lies.
        split: Which of the run's sets it is, by its SHA-256; None where the run does not know it.
        sha256: Of its bytes.
    """

    path: Path
    split: str | None
    sha256: str


def find_source(
    folder: Path, record: RunRecord, *, split: str | None, data: str | Path | None
) -> ExaminedFile:
    """Find the file to examine a run on, and which of the run's sets it is.

    Raises:
        ConfigError: There is no such set.
        DataError: The recorded file is another by now, or is not there.
        ModelError: The folder records none.
    """
    if data is not None:
        path = Path(data)
        if not path.is_file():
            raise DataError("there is no such file: check the path", file=path)
        found = sha256(path)
        known = [name for name in SPLITS if name in record.data and record.data[name].sha256 == found]
        return ExaminedFile(path, known[0] if known else None, found)
    split = split or next((name for name in SPLITS if name in record.data), SPLITS[0])
    if split not in SPLITS:
        raise ConfigError(f"there is no set '{split}': choose one of {', '.join(SPLITS)}")
    if split not in record.data:
        raise ModelError(f"{folder} records no {split} file: name one with --data FILE")
    entry = record.data[split]
    path = Path(entry.file)
    if not path.is_file():
        raise DataError(
            f"the {split} file of the run is not here: run this where it was trained, or name the file with "
            "--data FILE",
            file=path,
        )
    if sha256(path) != entry.sha256:
        raise DataError(
            f"the {split} file has changed since the run (its SHA-256 is another): to report on it as it is "
            f"now, name it with --data {path}",
            file=path,
        )
    return ExaminedFile(path, split, entry.sha256)
