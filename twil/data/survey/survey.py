"""Files gone through before training: each once, and of a row only some numbers are held."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import ConfigError, DataError
from twil.core.machine import peak_memory
from twil.data.labelled import LabelledRows, LabelledTable
from twil.data.survey.label_counts import AnswerTally, find_variants
from twil.data.survey.lengths import LengthTally, TokenCounter
from twil.data.survey.overview import FileOverview, Overview, OverviewOptions, SurveyProgress
from twil.data.survey.repeats import (
    Contradictions,
    KeyBuffer,
    Overlap,
    TextKeys,
    count_empty,
    count_repeats,
    find_contradictions,
    find_overlaps,
    key_texts,
)
from twil.data.tables.excerpts import read_excerpts
from twil.data.tables.formats import LABEL_COLUMN
from twil.data.tables.streams import InputFile, share_read

_PROGRESS_SECONDS = 0.2


def survey(
    files: Sequence[str | Path], options: OverviewOptions | None = None
) -> Iterator[SurveyProgress | Overview]:
    """Look through files, those to train on first.

    Args:
        files: Tables of any format that `TableReader` reads; a stream is read once.
        options: What of them to look at; labels and lengths in characters where left out.

    Yields:
        `SurveyProgress` now and then, and the `Overview` at the end.

    Raises:
        ConfigError: A file is named twice, or an option does not fit.
        DataError: A file cannot be read, changes, lacks a column, has no rows, or of a regression no number.
        ModelError: The tokenizer cannot be read.
    """
    begin = perf_counter()
    options = options or OverviewOptions()
    names = name_files(files)
    counter = TokenCounter(options.tokenizer, options.max_length) if options.tokenizer else None
    inputs = [InputFile(file) for file in files]
    tables = [  # all, before the first is gone through
        LabelledTable(file, options.columns, options.task, needed=False, on_error="skip") for file in inputs
    ]
    if options.task != "class" and not any(table.columns.label for table in tables):
        raise ConfigError(
            f"--task {options.task} would have no effect: no file has a column {LABEL_COLUMN}: name that of "
            "the labels (--label)"
        )
    codes: dict[str, int] = {}
    looks: dict[str, _Look] = {}
    done, spoken = 0, begin
    for name, table in zip(names, tables, strict=True):
        looks[name] = look = _Look(table, options, counter, codes)
        for rows in table:
            look.add(rows)
            done += len(rows.numbers)
            if perf_counter() - spoken >= _PROGRESS_SECONDS:
                spoken = perf_counter()
                yield SurveyProgress(f"reading {name}", done, spoken - begin, share_read(inputs))
        look.finish()
    yield SurveyProgress("comparing texts", done, perf_counter() - begin)
    overlaps = find_overlaps({name: look.keys for name, look in looks.items()})
    contradictions = _contradictions(looks, options, list(codes))
    yield Overview(
        task=options.task,
        files=tuple(look.describe(name) for name, look in looks.items()),
        unit="characters" if counter is None else "tokens",
        max_length=counter.longest if counter else None,
        overlaps=overlaps,
        contradictions=contradictions,
        variants=find_variants(look.answers for look in looks.values() if look.answers),
        excerpts=_excerpts(dict(zip(names, tables, strict=True)), overlaps, contradictions),
        seconds=perf_counter() - begin,
        peak_memory=peak_memory(),
    )


def name_files(files: Sequence[str | Path]) -> list[str]:
    """Call each file by its name, or by its whole path where others have the same name.

    Raises:
        ConfigError: One is given twice.
    """
    paths = Counter(map(str, files))
    if twice := [path for path, count in paths.items() if count > 1]:
        raise ConfigError(f"{twice[0]} is named twice: name each file once")
    short = Counter(Path(file).name for file in files)
    return [Path(file).name if short[Path(file).name] == 1 else str(file) for file in files]


class _Look:
    """What is gathered of one file.

    Attributes:
        answers: None where it has no labels.
        keys: Of its texts, once it is finished.
        codes: Of its labels, once it is finished.
    """

    keys: TextKeys
    codes: NDArray[np.int32]

    def __init__(
        self,
        table: LabelledTable,
        options: OverviewOptions,
        counter: TokenCounter | None,
        codes: dict[str, int],
    ) -> None:
        self.answers = AnswerTally(options.task, codes) if table.columns.label else None
        self._reader = table.reader
        self._lengths = LengthTally(counter)
        self._blank = 0
        self._keys = KeyBuffer()
        self._codes = array("i")

    def add(self, rows: LabelledRows) -> None:
        """Look at some rows."""
        cells = zip(rows.texts, rows.pairs or rows.texts, rows.labels, strict=True)
        # A line without anything on it is no row; where there is nothing but texts, it may be an empty one.
        kept = [row for row, found in enumerate(cells) if not self.answers or any(map(str.strip, found))]
        self._blank += len(rows.texts) - len(kept)
        if not kept:
            return
        lines = [rows.numbers[row] for row in kept]
        texts, labels = ([column[row] for row in kept] for column in (rows.texts, rows.labels))
        pairs = rows.pairs and [rows.pairs[row] for row in kept]
        self._keys.add(key_texts(texts, pairs, lines))
        self._lengths.add(texts, pairs)
        if self.answers:
            self._codes.frombytes(self.answers.add(labels, lines).tobytes())

    def finish(self) -> None:
        """Put together what was gathered.

        Raises:
            DataError: There was no row, or of a regression no number.
        """
        if not self._keys:
            first = self._reader.first_errors
            why = f" ({first[0]})" if first else ""
            raise DataError(
                f"the file has no rows that can be read{why}: there is nothing to look at",
                file=self._reader.path,
            )
        self.keys = self._keys.keys()
        if self.answers:
            self.answers.check(self._reader.path)
            self.codes = np.frombuffer(self._codes, np.int32)

    def describe(self, name: str) -> FileOverview:
        """Sum up."""
        answers = self.answers
        return FileOverview(
            name=name,
            rows=len(self.keys),
            blank=self._blank,
            bad=self._reader.skipped,
            first_errors=tuple(self._reader.first_errors),
            empty=count_empty(self.keys.same),
            repeated=count_repeats(self.keys.same),
            near_repeated=count_repeats(self.keys.near),
            lengths=self._lengths.lengths(),
            labels=answers.labels() if answers else None,
            constant=answers.constant() if answers else None,
            unlabelled=answers.missing if answers else 0,
            first_unlabelled=tuple(answers.first_missing) if answers else (),
            values=answers.values() if answers else None,
        )


def _contradictions(
    looks: Mapping[str, _Look], options: OverviewOptions, labels: Sequence[str]
) -> Contradictions | None:
    labelled = {name: look for name, look in looks.items() if look.answers}
    if not labelled or options.task == "regression":
        return None
    return find_contradictions(
        {name: look.keys for name, look in labelled.items()},
        {name: look.codes for name, look in labelled.items()},
        labels,
    )


def _excerpts(
    tables: Mapping[str, LabelledTable],
    overlaps: Sequence[Overlap],
    contradictions: Contradictions | None,
) -> dict[str, dict[int, str]]:
    """Read the texts that are to be shown; of two rows with the same text that of one."""
    wanted: dict[str, set[int]] = {name: set() for name in tables}
    for overlap in overlaps:
        wanted[overlap.name].update(line for line, _ in overlap.lines)
    for places in contradictions.first if contradictions else ():
        wanted[places[0].name].add(places[0].line)
    excerpts = {}
    for name, table in tables.items():
        assert isinstance(table.reader.file, InputFile)  # as it was opened
        excerpts[name] = read_excerpts(
            table.reader.file, table.reader.columns[0], wanted[name], reading=table.columns.reading
        )
    return excerpts
