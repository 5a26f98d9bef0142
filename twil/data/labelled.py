"""Labelled sets: texts with the answers that people gave."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twil.config.distillation import DistillDataConfig
from twil.config.memory_table import MemoryTable
from twil.config.reading import AS_FOUND, Reading
from twil.config.training import DataConfig
from twil.core.errors import ConfigError, DataError, DataWarning
from twil.core.task import LABEL_SEPARATOR, Task, TaskKind
from twil.data.tables.formats import LABEL_COLUMN, LIKELY_LABELS, TEXT_COLUMN
from twil.data.tables.memory import content_hash
from twil.data.tables.rows import Rows, missing_column, only_column
from twil.data.tables.streams import InputFile
from twil.data.tables.tables import OnError, TableReader

VALUE = "value"
"""The name of what a regression gives, where the user has no other."""

_APART = (
    "; where labels lie in a file of their own, put both side by side: paste labels.txt texts.txt > both.tsv "
    "(--no-header --label 1 --text 2)"
)
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_SHOWN_LABELS = 10  # in a message
_COMPARED_LABELS = 100
_RARER = 20  # times fewer rows than the label that may be meant
_BITS = frozenset("01")
_MARKS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True, "": False}
"""What a column of its own says of a label."""


@dataclass(frozen=True)
class LabelledColumns:
    """The names of the columns of a labelled file, and how it is read.

    Attributes:
        text: Of the texts; when left out `TEXT_COLUMN`, else the only one of `LIKELY_COLUMNS`.
        text_pair: Of the second texts, where rows are pairs.
        label: Of the answers; blanks around one do not count. When left out `LABEL_COLUMN`, else the only one
            of `LIKELY_LABELS`. Several with commas between them hold a 0 or a 1 each, and their names are the
            labels.
        separator: What stands between the labels of a row that has several.
        names: What the labels of rows that have one are called, where the file counts them from 0.
        reading: How the file is read, as far as its name and its first line do not tell.
        choices: The columns of one label each, once a file is read that has them.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    separator: str = LABEL_SEPARATOR
    names: tuple[str, ...] = ()
    reading: Reading = AS_FOUND
    choices: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: DataConfig | DistillDataConfig) -> LabelledColumns:
        """Take what the settings of a run say."""
        pair = data.text_pair if isinstance(data, DataConfig) else None
        names = data.labels if isinstance(data, DataConfig) and data.kind == "class" else None
        return cls(data.text, pair, data.label, data.label_separator, names or (), data.reading)

    @property
    def texts(self) -> list[str | None]:
        """Those of the texts: one, or two of pairs."""
        return [self.text] if self.text_pair is None else [self.text, self.text_pair]

    @property
    def answers(self) -> tuple[str, ...]:
        """Those of the labels, once they are found."""
        return self.choices or (() if self.label is None else (self.label,))


@dataclass(frozen=True)
class Sample:
    """Some of a file's rows.

    Attributes:
        limit: The most rows; all when left out.
        seed: Rows are shuffled with it first, as the datasets library does; in their order when left out.
    """

    limit: int | None = None
    seed: int | None = None

    def choose(self, rows: int) -> list[int]:
        """Choose from so many rows, in the order in which they are to stand."""
        order = np.arange(rows) if self.seed is None else np.random.default_rng(self.seed).permutation(rows)
        chosen: list[int] = order[: self.limit].tolist()
        return chosen


WHOLE = Sample()
COLUMNS = LabelledColumns()
"""What they are called where nobody says otherwise."""


@dataclass(frozen=True)
class LabelledSet:
    """The rows of a labelled file, in its order.

    Attributes:
        file: The file.
        columns: Of which it was read.
        texts: One per row.
        text_pairs: The second text of each row, where they are pairs.
        labels: As they stand in the file.
        lines: The physical line of each row, from 1.
        blank: Lines without anything on them, which are left out.
        unit: What `lines` count, ``line`` or ``row``.
    """

    file: InputFile | MemoryTable
    columns: LabelledColumns
    texts: list[str]
    text_pairs: list[str] | None
    labels: list[str]
    lines: list[int]
    blank: int = 0
    unit: str = "line"

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.texts)

    @property
    def path(self) -> Path:
        """Where the file lies; of a table in memory its name."""
        return Path(self.file.name if isinstance(self.file, MemoryTable) else self.file.path)

    def sha256(self) -> str:
        """Return the SHA-256 of the file's bytes in hexadecimal; of a table in memory, of the columns read.

        Raises:
            DataError: They are not those that the rows were read from.
        """
        if isinstance(self.file, MemoryTable):
            columns = [name for name in (*self.columns.texts, *self.columns.answers) if name is not None]
            return content_hash(self.file, columns, dict.fromkeys(self.columns.answers, LABEL_SEPARATOR))
        with self.file.open() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def rows(self) -> Sequence[str | tuple[str, str]]:
        """What is encoded: texts, or pairs of them."""
        return self.texts if self.text_pairs is None else list(zip(self.texts, self.text_pairs, strict=True))

    def sample(self, sample: Sample) -> LabelledSet:
        """Take some of the rows."""
        if sample == WHOLE:
            return self
        return self.take(sample.choose(len(self)))

    def take(self, rows: Sequence[int]) -> LabelledSet:
        """Take rows by their places, in that order."""
        pairs = self.text_pairs
        return replace(
            self,
            texts=[self.texts[row] for row in rows],
            text_pairs=None if pairs is None else [pairs[row] for row in rows],
            labels=[self.labels[row] for row in rows],
            lines=[self.lines[row] for row in rows],
        )

    def targets(self, task: Task, *, order: Sequence[str] | None = None) -> NDArray[Any]:
        """Turn the answers into what a model of a task is to give.

        Args:
            task: With its labels as the model has them.
            order: These labels as zeros and ones stand for them in the file; as in the task when left out.

        Returns:
            Of a ``class`` task int64 ``(rows,)``, places in the task's labels; of a ``multi-label`` task
            float32 ``(rows, labels)`` of 0 and 1; of a ``regression`` float32 ``(rows,)``.

        Raises:
            ConfigError: The task is one of pairs and the rows are not, or the other way round.
            DataError: An answer is none of the task's; its line is named.
        """
        if task.pair and self.text_pairs is None:
            raise ConfigError(f"the model reads pairs: name the second column of {self.path} (--text-pair)")
        if not task.pair and self.text_pairs is not None:
            raise ConfigError(f"the model reads single texts: leave out --text-pair {self.columns.text_pair}")
        if task.kind == "regression":
            return self._numbers()
        return self._places(task) if task.kind == "class" else self._choices(task, order or task.labels)

    def _places(self, task: Task) -> NDArray[np.int64]:
        index = {label: number for number, label in enumerate(task.labels)}
        for label, line in zip(self.labels, self.lines, strict=True):
            if label not in index:
                several = LABEL_SEPARATOR in label
                hint = ", or several a row: --task multi-label" if several else ""
                raise self._unknown(label, line, task, f" (each row has one{hint})")
        return np.fromiter((index[label] for label in self.labels), dtype=np.int64, count=len(self))

    def _choices(self, task: Task, order: Sequence[str]) -> NDArray[np.float32]:
        index = {label: number for number, label in enumerate(task.labels)}
        places = [index[label] for label in order]
        answers = [split_labels(answer) for answer in self.labels]
        coded = _are_coded(answers, task.outputs)
        chosen = np.zeros((len(self), task.outputs), dtype=np.float32)
        for row, names in enumerate(answers):
            if are_bits(names) and len(names) == task.outputs:
                chosen[row, places] = [float(bit) for bit in names]
                continue
            # Of another number of labels, and no names.
            short = are_bits(names) and (coded or len(set(names)) < len(names))
            for name in names:
                if short or name not in index:
                    shape = f" (names, or {task.outputs} zeros and ones, with '{LABEL_SEPARATOR}' between)"
                    raise self._unknown(self.labels[row] if short else name, self.lines[row], task, shape)
                chosen[row, index[name]] = 1
        return chosen

    def _numbers(self) -> NDArray[np.float32]:
        numbers = np.fromiter(map(parse_number, self.labels), dtype=np.float64, count=len(self))
        with np.errstate(over="ignore"):
            single = numbers.astype(np.float32)
        for row in np.flatnonzero(~np.isfinite(single)):
            what = "is too large a number" if np.isfinite(numbers[row]) else "is no number"
            if has_decimal_comma(self.labels[row]):
                what = "has a decimal comma, where a point is read"
            raise DataError(
                f"'{self.labels[row]}' in the column {self.columns.label} {what}: correct the row, or "
                "train with --task class",
                file=self.path,
                line=self.lines[row],
                unit=self.unit,
            )
        return single

    def _unknown(self, label: str, line: int, task: Task, shape: str) -> DataError:
        return DataError(
            f"the label '{label}' is none of {_list(task.labels)}: correct the row, or train with all "
            f"labels{shape}",
            file=self.path,
            line=line,
            unit=self.unit,
        )


def read_labelled(
    path: str | Path | MemoryTable,
    columns: LabelledColumns = COLUMNS,
    kind: TaskKind = "class",
    sample: Sample = WHOLE,
) -> LabelledSet:
    """Read a labelled file.

    Args:
        path: A table that `TableReader` reads.
        columns: Where texts and answers stand.
        kind: Of the task: a row of a ``multi-label`` task may have no label.
        sample: Which of its rows are kept.

    Raises:
        DataError: The file cannot be read, changes, has no rows, or a row has no answer.
    """
    table = LabelledTable(path, columns, kind)
    texts: list[str] = []
    pairs: list[str] = []
    labels: list[str] = []
    lines: list[int] = []
    blank = 0
    for rows in table:
        second = rows.pairs or [""] * len(rows.texts)
        labels_read = map(str.strip, rows.labels)
        for number, text, pair, label in zip(rows.numbers, rows.texts, second, labels_read, strict=True):
            if not (label or text.strip() or pair.strip()):
                blank += 1
                continue
            if not label and kind != "multi-label":
                raise DataError(
                    f"the row has no label in the column {table.columns.label}",
                    file=table.reader.path,
                    line=number,
                    unit=table.reader.unit,
                )
            texts.append(text)
            pairs.append(pair)
            labels.append(label)
            lines.append(number)
    if not texts:
        raise DataError("the file has no rows: nothing can be learnt or measured", file=table.reader.path)
    numbers = {str(number): name for number, name in enumerate(columns.names)}
    if kind == "class" and not set(labels) & set(columns.names) and set(labels) <= numbers.keys():
        labels = [numbers[label] for label in labels]
    counts = Counter(labels)
    for said in (hidden_labels(counts, kind, columns.separator), misspelt_labels(counts, kind)):
        if said:
            warnings.warn(f"{path}: {said}", DataWarning, stacklevel=2)
    found, unit = None if columns.text_pair is None else pairs, table.reader.unit
    return LabelledSet(table.reader.file, table.columns, texts, found, labels, lines, blank, unit).sample(
        sample
    )


def hidden_labels(rows: Mapping[str, int], kind: TaskKind, separator: str = LABEL_SEPARATOR) -> str:
    """Say that answers seem to hold several labels with commas between them; nothing where they do not.

    Args:
        rows: How many rows have each answer.
        kind: Of the task.
        separator: What is taken to stand between labels.
    """
    commas = {answer: count for answer, count in rows.items() if "," in answer}
    if kind == "regression" or not commas or any(separator in answer for answer in rows):
        return ""
    parts = Counter(part.strip() for answer in commas for part in answer.split(","))
    alone = sum(part in rows for part in parts)
    if 2 * alone < len(parts):  # names that hold a comma
        return ""
    how = "" if kind == "multi-label" else "--task multi-label "
    return (
        f"rows whose label holds a comma: {sum(commas.values()):,}, such as '{next(iter(commas))}': {how}"
        "--label-separator , tells several labels apart"
    )


def misspelt_labels(rows: Mapping[str, int], kind: TaskKind) -> str:
    """Say which rare labels are a letter away from a frequent one; nothing where there are none, or too many.

    Args:
        rows: How many rows have each answer.
        kind: Of the task.
    """
    counts: Counter[str] = Counter()
    for answer, count in rows.items():
        for label in split_labels(answer) if kind == "multi-label" else [answer]:
            counts[label] += count
    if kind == "regression" or len(counts) > _COMPARED_LABELS:
        return ""
    found = [
        f"'{label}' ({count:,}; {other}: {counts[other]:,})"
        for label, count in counts.items()
        for other in counts
        if counts[other] >= _RARER * count and _a_letter_apart(label, other)
    ]
    return f"rare labels that are spelt almost as others, by their rows: {', '.join(found)}" if found else ""


def _a_letter_apart(one: str, other: str) -> bool:
    """Tell whether a single letter was left out, put in, changed or moved in a word of four or more."""
    longest = max(len(one), len(other))
    if longest < 4 or re.sub(r"\d", "", one) == re.sub(r"\d", "", other):  # numbered ones differ on purpose
        return False
    blocks = difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return longest - sum(block.size for block in blocks) == 1


class LabelledRows(NamedTuple):
    """A run of rows.

    Attributes:
        numbers: The physical line of each.
        texts: One per row.
        pairs: The second texts of pairs.
        labels: As they are written, with `LABEL_SEPARATOR` between those of a row; empty ones where the file
            has none.
    """

    numbers: list[int]
    texts: list[str]
    pairs: list[str] | None
    labels: list[str]


class LabelledTable:
    """A labelled file, opened, once its columns are found.

    Where they are not called as usual, a `DataWarning` says which they are.

    Args:
        file: A table of any format that `TableReader` reads.
        columns: What is known of it.
        kind: Of the task.
        needed: Refuse a file without labels.
        on_error: What a bad row leads to, see `TableReader`.

    Attributes:
        reader: Of the table.
        columns: Those found; the label is None where there is none.

    Raises:
        ConfigError: What is known of it does not fit the task.
        DataError: It cannot be read, or has no such columns.
    """

    def __init__(
        self,
        file: str | Path | InputFile | MemoryTable,
        columns: LabelledColumns,
        kind: TaskKind,
        *,
        needed: bool = True,
        on_error: OnError = "fail",
    ) -> None:
        if columns.separator != LABEL_SEPARATOR and kind != "multi-label":
            raise ConfigError("--label-separator would have no effect: only with --task multi-label")
        asked = columns.label
        parts = [name.strip() for name in asked.split(",")] if asked is not None and "," in asked else []
        named = (LABEL_COLUMN, *LIKELY_LABELS) if asked is None else (asked, *parts)
        self.reader = TableReader(
            file,
            columns.texts,
            optional=named,
            joined=dict.fromkeys(named, LABEL_SEPARATOR),
            reading=columns.reading,
            on_error=on_error,
        )
        text, label = self.reader.columns[0], asked
        names, path = self.reader.names, self.reader.path
        if asked is None:
            cure = "the labels: name one (--label)"
            label = only_column(LABEL_COLUMN, LIKELY_LABELS, names, cure, path)
        choices = tuple(parts) if asked not in names else ()
        self.columns = replace(columns, text=text, label=label, choices=choices)
        read = self.columns.answers
        for name in read or ((LABEL_COLUMN,) if needed else ()):
            if name not in names:
                option = " (--label names the column)" if asked is None else ""
                hint = _APART if self.reader.format == "txt" else self.reader.hint + option
                raise DataError(missing_column(name, names) + hint, file=path)
        if choices and kind != "multi-label":
            raise ConfigError(
                f"--label {label} names several columns, which are the labels of rows that may have any of "
                "them: --task multi-label"
            )
        self.reader.narrow([text, *([columns.text_pair] if columns.text_pair else []), *read])
        self._say_what_was_found(columns)

    def __iter__(self) -> Iterator[LabelledRows]:
        columns = self.columns
        assert columns.text is not None
        for rows in self.reader:
            pairs = None if columns.text_pair is None else rows.columns[columns.text_pair]
            labels = list(self._labels(rows))
            yield LabelledRows(rows.numbers, rows.columns[columns.text], pairs, labels)

    def _labels(self, rows: Rows) -> Iterator[str]:
        columns = self.columns
        if columns.choices:
            marks = zip(*(rows.columns[name] for name in columns.choices), strict=True)
            for number, row in zip(rows.numbers, marks, strict=True):
                yield LABEL_SEPARATOR.join(self._chosen(row, number))
            return
        between = columns.separator
        for answer in [""] * len(rows.numbers) if columns.label is None else rows.columns[columns.label]:
            is_usual = between == LABEL_SEPARATOR
            yield answer if is_usual else LABEL_SEPARATOR.join(map(str.strip, answer.split(between)))

    def _chosen(self, marks: Sequence[str], line: int) -> Iterator[str]:
        """Give the names of the columns of a row that say yes."""
        for name, mark in zip(self.columns.choices, marks, strict=True):
            answer = _MARKS.get(mark.strip().casefold())
            if answer is None:
                raise DataError(
                    f"'{mark}' in the column {name} is neither 0 nor 1: correct it, or name other columns",
                    file=self.reader.path,
                    line=line,
                    unit=self.reader.unit,
                )
            if answer:
                yield name

    def _say_what_was_found(self, asked: LabelledColumns) -> None:
        found = {
            f"texts are read from the column '{self.columns.text}'": asked.text is None
            and self.columns.text != TEXT_COLUMN,
            f"labels from '{self.columns.label}'": asked.label is None
            and self.columns.label not in (None, LABEL_COLUMN),
        }
        if said := [each for each, unusual in found.items() if unusual]:
            warnings.warn(f"{self.reader.path}: {', '.join(said)}", DataWarning, stacklevel=3)


def find_labels(labelled: LabelledSet, kind: TaskKind = "class") -> tuple[str, ...]:
    """Find the labels of a set, in order: by number where all are numbers, else by letter.

    Labels of a ``multi-label`` task that are given by zeros and ones are called 1, 2, …; what a
    ``regression`` gives is called `VALUE`.

    Raises:
        DataError: There is only one class, or no label at all.
    """
    if kind == "regression":
        return (VALUE,)
    if kind == "multi-label":
        return _find_choices(labelled)
    found = set(labelled.labels)
    if len(found) < 2:
        raise DataError(
            f"all rows have the label '{labelled.labels[0]}': a classifier needs at least two",
            file=labelled.path,
        )
    return _in_order(found)


def check_covered(labelled: LabelledSet, task: Task) -> None:
    """Refuse a class of which a training set has no row.

    Raises:
        DataError: It names the classes.
    """
    missing = sorted(set(task.labels) - set(labelled.labels)) if task.kind == "class" else []
    if missing:
        raise DataError(
            f"no row has the label {_list(missing)}, which could not be learnt: add rows, or leave it out of "
            "the labels (--labels)",
            file=labelled.path,
        )


def split_labels(answer: str) -> list[str]:
    """Split a multi-label answer; an empty one has no label."""
    return [name.strip() for name in answer.split(LABEL_SEPARATOR)] if answer else []


def are_bits(names: Collection[str]) -> bool:
    """Tell whether the labels of a multi-label answer are given by zeros and ones."""
    return bool(names) and _BITS.issuperset(names)


def _are_coded(answers: Sequence[Sequence[str]], labels: int) -> bool:
    """Tell whether all rows of a multi-label set that have labels name them by zeros and ones."""
    given = [names for names in answers if names]
    return labels > 1 and all(map(are_bits, given)) and any(len(names) == labels for names in given)


def has_decimal_comma(label: str) -> bool:
    """Tell whether a label is a number but for a comma in place of its point."""
    return _DECIMAL_COMMA.fullmatch(label) is not None


def parse_number(label: str) -> float:
    """Read a number; NaN where there is none."""
    try:
        return float(label)
    except ValueError:
        return math.nan


def _find_choices(labelled: LabelledSet) -> tuple[str, ...]:
    if labelled.columns.choices:
        return labelled.columns.choices
    answers = [split_labels(answer) for answer in labelled.labels]
    if not any(answers):
        raise DataError("no row has a label: nothing can be learnt", file=labelled.path)
    if all(are_bits(names) for names in answers if names):
        return tuple(str(number) for number in range(1, max(map(len, answers)) + 1))
    found = {name for names in answers for name in names}
    for names, line in zip(answers, labelled.lines, strict=True):
        if not all(names):
            raise DataError(
                f"there is an empty label between two '{LABEL_SEPARATOR}'",
                file=labelled.path,
                line=line,
                unit=labelled.unit,
            )
    return _in_order(found)


def _in_order(labels: Collection[str]) -> tuple[str, ...]:
    numbers = {label: parse_number(label) for label in labels}
    if all(math.isfinite(number) for number in numbers.values()):
        return tuple(sorted(labels, key=lambda label: (numbers[label], label)))
    return tuple(sorted(labels))


def _list(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_SHOWN_LABELS])
    return shown if len(labels) <= _SHOWN_LABELS else f"{shown}, … ({len(labels)} in all)"
