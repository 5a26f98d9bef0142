"""What is asked of files before training, and what they hold: rows, repeats, overlaps, labels and lengths."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from tokenizers import Tokenizer

from twil.core.errors import ConfigError
from twil.core.pace import Paced
from twil.core.task import TaskKind
from twil.data.labelled import COLUMNS, LabelledColumns
from twil.data.survey.label_counts import Values
from twil.data.survey.lengths import Lengths, Unit
from twil.data.survey.repeats import Contradictions, Overlap


@dataclass(frozen=True)
class OverviewOptions:
    """What of the files to look at.

    Attributes:
        columns: Where texts and answers stand, and how all files are read; a file may have no answers.
        task: What the answers are.
        tokenizer: A tokenizer or the path of a `tokenizer.json`, to measure texts in tokens; in characters
            without it.
        max_length: The longest row that is read, in tokens; the tokenizer's where left out.
    """

    columns: LabelledColumns = COLUMNS
    task: TaskKind = "class"
    tokenizer: Path | Tokenizer | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Refuse a task that there is not, and a length without tokens to count."""
        if self.task not in get_args(TaskKind):
            raise ConfigError(
                f"there is no task kind '{self.task}': choose one of {', '.join(get_args(TaskKind))}"
            )
        if self.max_length is not None and self.tokenizer is None:
            raise ConfigError("a longest row is one of tokens: give a model or a tokenizer as well")


@dataclass(frozen=True)
class SurveyProgress(Paced):
    """How far the work is.

    Attributes:
        doing: What is being done.
        rows: Read so far, of all files.
        seconds: Since the start.
        share: Of the files that has been read, where that is being done and can be told.
    """

    doing: str
    rows: int
    seconds: float
    share: float | None = None


@dataclass(frozen=True)
class FileOverview:
    """What is in one file.

    Attributes:
        name: What it is called, unlike the others.
        rows: Rows, without blank lines and bad rows.
        blank: Lines without anything on them, which training leaves out; where there are no labels they
            count as rows with empty texts.
        bad: Rows that could not be read.
        first_errors: What was wrong with the first of them.
        empty: Rows whose text, or one of a pair, is empty.
        repeated: Rows whose text an earlier row has.
        near_repeated: The same, but for links, mentions, punctuation, blanks and case.
        lengths: Of the texts.
        labels: Rows of each label, the most frequent first; empty for a regression, None in a file without
            labels.
        constant: The label that every row has, where there is one.
        unlabelled: Rows without an answer.
        first_unlabelled: Lines of the first of them.
        values: The numbers of a regression.
    """

    name: str
    rows: int
    blank: int
    bad: int
    first_errors: tuple[str, ...]
    empty: int
    repeated: int
    near_repeated: int
    lengths: Lengths
    labels: dict[str, int] | None
    constant: str | None
    unlabelled: int
    first_unlabelled: tuple[int, ...]
    values: Values | None


@dataclass(frozen=True)
class Overview:
    """What is in some files.

    Attributes:
        task: What the answers are taken for.
        files: One by one.
        unit: What lengths are counted in.
        max_length: The longest row that is read, in tokens; None where nothing is cut.
        overlaps: Of each two files, the later one first.
        contradictions: Texts with different labels, over all files; None without labels.
        variants: Labels that differ in case or blanks alone, each with the rows of every spelling.
        excerpts: By file and line, the texts of the rows that overlaps and contradictions name.
        seconds: What it took.
        peak_memory: The process's peak resident memory in bytes.
    """

    task: TaskKind
    files: tuple[FileOverview, ...]
    unit: Unit
    max_length: int | None
    overlaps: tuple[Overlap, ...]
    contradictions: Contradictions | None
    variants: tuple[dict[str, int], ...]
    excerpts: dict[str, dict[int, str]]
    seconds: float
    peak_memory: int

    @property
    def absent(self) -> dict[str, tuple[str, ...]]:
        """Labels that no row of a file has, by its name: of other files, or with a place of their own."""
        known = dict.fromkeys(label for file in self.files for label in file.labels or ())
        lacking = {
            file.name: tuple(label for label in known if not file.labels.get(label))
            for file in self.files
            if file.labels is not None
        }
        return {name: labels for name, labels in lacking.items() if labels}

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self) | {"absent": self.absent}
