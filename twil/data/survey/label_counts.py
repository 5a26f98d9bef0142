"""The answers of a labelled file, counted: labels, several labels a row, or numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import DataError
from twil.core.task import LABEL_SEPARATOR, TaskKind
from twil.data.labelled import are_bits, has_decimal_comma, parse_number, split_labels
from twil.data.survey.repeats import NO_LABEL

QUANTILES = (5, 25, 50, 75, 95)
"""In per cent, of the values of a regression."""

_SHOWN_ROWS = 3


@dataclass(frozen=True)
class Values:
    """The numbers of a regression.

    Attributes:
        rows: How many there are.
        mean: Of all.
        sd: Their standard deviation.
        lowest: The smallest.
        quantiles: By per cent, see `QUANTILES`.
        highest: The largest.
        wrong: Rows whose answer is no number.
        first_wrong: The first of them: line and answer.
    """

    rows: int
    mean: float
    sd: float
    lowest: float
    quantiles: dict[str, float]
    highest: float
    wrong: int
    first_wrong: tuple[tuple[int, str], ...]


class AnswerTally:
    """Counts the answers of one file, run by run.

    Args:
        kind: Of the task.
        codes: The number of each label met so far, in any file; new ones are added.

    Attributes:
        spellings: How often each answer stands in the file, as it is written, blanks around it included.
        missing: Rows without an answer.
        first_missing: Lines of the first of them.
    """

    def __init__(self, kind: TaskKind, codes: dict[str, int]) -> None:
        self.kind = kind
        self.spellings: Counter[str] = Counter()
        self.missing = 0
        self.first_missing: list[int] = []
        self._codes = codes
        self._code_of: dict[str, int] = {}  # of each spelling
        self._values: list[NDArray[np.float64]] = []
        self._wrong = 0
        self._first_wrong: list[tuple[int, str]] = []

    def add(self, answers: Sequence[str], lines: Sequence[int]) -> NDArray[np.int32]:
        """Count some rows; return the code of each answer, int32 ``(rows,)``."""
        missing = [line for answer, line in zip(answers, lines, strict=True) if not answer.strip()]
        self.missing += len(missing)
        self.first_missing += missing[: _SHOWN_ROWS - len(self.first_missing)]
        if self.kind == "regression":
            self._add_values(answers, lines)
            return np.full(len(answers), NO_LABEL, np.int32)
        self.spellings.update(answers)
        for answer in answers:
            if answer not in self._code_of:
                self._code_of[answer] = self._code(answer)
        return np.fromiter(map(self._code_of.__getitem__, answers), np.int32, len(answers))

    def check(self, file: str | Path) -> None:
        """Refuse a regression without a number.

        Raises:
            DataError: It names the first answer.
        """
        if self.kind == "regression" and not any(map(len, self._values)):
            line, answer = self._first_wrong[0] if self._first_wrong else (self.first_missing[0], "")
            cure = "name their column (--label), or another --task"
            if has_decimal_comma(answer):
                cure = "it has a decimal comma, where a point is read"
            raise DataError(
                f"no label is a number ('{answer}' is none): {cure}",
                file=file,
                line=line,
            )

    def labels(self) -> dict[str, int]:
        """Count the rows of each label, the most frequent first; of a regression there are none."""
        rows: Counter[str] = Counter()
        for answer, count in self.spellings.items():
            for label, holds in split_answer(answer, self.kind).items():
                rows[label.strip()] += count * holds
        return dict(sorted(rows.items(), key=lambda item: (-item[1], item[0])))

    def constant(self) -> str | None:
        """Give the answer that all rows have, where they have but one."""
        if values := self.values():
            same = values.lowest == values.highest and not (values.wrong or self.missing)
            return f"{values.lowest:g}" if same else None
        answers = {_unify(answer, self.kind) for answer in self.spellings}
        return next(iter(answers)) or None if len(answers) == 1 else None

    def values(self) -> Values | None:
        """Describe the numbers, of which there must be one; None where the task is no regression."""
        if self.kind != "regression":
            return None
        values = np.concatenate(self._values)
        return Values(
            rows=len(values),
            mean=float(values.mean()),
            sd=float(values.std()),
            lowest=float(values.min()),
            quantiles={
                f"p{share}": float(value)
                for share, value in zip(QUANTILES, np.percentile(values, QUANTILES), strict=True)
            },
            highest=float(values.max()),
            wrong=self._wrong,
            first_wrong=tuple(self._first_wrong),
        )

    def _code(self, answer: str) -> int:
        unified = _unify(answer, self.kind)
        return self._codes.setdefault(unified, len(self._codes)) if unified else NO_LABEL

    def _add_values(self, answers: Sequence[str], lines: Sequence[int]) -> None:
        values = np.fromiter(map(parse_number, answers), np.float64, len(answers))
        self._values.append(values[np.isfinite(values)])
        for row in np.flatnonzero(~np.isfinite(values)).tolist():
            if not answers[row].strip():
                continue
            self._wrong += 1
            if len(self._first_wrong) < _SHOWN_ROWS:
                self._first_wrong.append((lines[row], answers[row].strip()))


def split_answer(answer: str, kind: TaskKind) -> dict[str, bool]:
    """Name the labels of an answer, and tell which of them hold.

    There is one, as it is written, or of a multi-label answer any number; those that are given by zeros and
    ones are called 1, 2, … An empty answer has none.
    """
    if not answer.strip():
        return {}
    if kind != "multi-label":
        return {answer: True}
    names = split_labels(answer)
    if are_bits(names):
        return {str(place): bit == "1" for place, bit in enumerate(names, start=1)}
    return dict.fromkeys(names, True)


def find_variants(tallies: Iterable[AnswerTally]) -> tuple[dict[str, int], ...]:
    """Find labels that differ in case or blanks alone, over all files; count the rows of each spelling."""
    groups: dict[str, Counter[str]] = {}
    for tally in tallies:
        for answer, count in tally.spellings.items():
            for label in split_answer(answer, tally.kind):
                groups.setdefault("".join(label.split()).casefold(), Counter())[label] += count
    return tuple(dict(group.most_common()) for group in groups.values() if len(group) > 1)


def _unify(answer: str, kind: TaskKind) -> str:
    """Write an answer in one way, whatever the blanks in it and the order of its labels."""
    answer = answer.strip()
    if kind != "multi-label":
        return answer
    names = split_labels(answer)
    return LABEL_SEPARATOR.join(names if are_bits(names) else sorted(set(names)))
