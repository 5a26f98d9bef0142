"""Files gone through before training: each once, and of a row only some numbers are held."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from twil.data.answers import AnswerTally, find_variants
from twil.data.excerpts import read_excerpts
from twil.data.labelled import COLUMNS
from twil.data.lengths import LengthTally, PieceCounter
from twil.data.overview import FileOverview, Overview, OverviewOptions, Progress
from twil.data.repeats import (
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
from twil.data.rows import Rows
from twil.data.streams import InputFile
from twil.data.tables import TableReader
from twil.errors import ConfigError, DataError
from twil.machine import peak_memory

_PROGRESS_SECONDS = 0.2


def survey(
    files: Sequence[str | Path], options: OverviewOptions | None = None
) -> Iterator[Progress | Overview]:
    """Look through files, those to train on first.

    Args:
        files: Tables of any format that `TableReader` reads; a stream is read once.
        options: What of them to look at; labels and lengths in characters where left out.

    Yields:
        `Progress` now and then, and the `Overview` at the end.

    Raises:
        ConfigError: A file is named twice, or an option does not fit.
        DataError: A file cannot be read, changes, lacks a column, has no rows, or of a regression no number.
        ModelError: The tokenizer cannot be read.
    """
    begin = perf_counter()
    options = options or OverviewOptions()
    names = name_files(files)
    counter = PieceCounter(options.tokenizer, options.max_length) if options.tokenizer else None
    inputs = [InputFile(file) for file in files]
    readers = [_open(file, options) for file in inputs]  # all, before the first is gone through
    label = options.label or COLUMNS.label
    if options.task != "class" and not any(label in reader.names for reader in readers):
        raise ConfigError(
            f"--task {options.task} would have no effect: no file has a column {label}: name that of the "
            "labels (--label)"
        )
    codes: dict[str, int] = {}
    looks: dict[str, _Look] = {}
    done, spoken = 0, begin
    for name, reader in zip(names, readers, strict=True):
        looks[name] = look = _Look(reader, options, counter, codes)
        for rows in reader:
            look.add(rows)
            done += len(rows.numbers)
            if perf_counter() - spoken >= _PROGRESS_SECONDS:
                spoken = perf_counter()
                yield Progress(f"reading {name}", done, spoken - begin)
        look.finish()
    yield Progress("comparing texts", done, perf_counter() - begin)
    overlaps = find_overlaps({name: look.keys for name, look in looks.items()})
    contradictions = _contradictions(looks, options, list(codes))
    yield Overview(
        task=options.task,
        files=tuple(look.describe(name) for name, look in looks.items()),
        unit="characters" if counter is None else "pieces",
        max_length=counter.longest if counter else None,
        overlaps=overlaps,
        contradictions=contradictions,
        variants=find_variants(look.answers for look in looks.values() if look.answers),
        excerpts=_excerpts(dict(zip(names, inputs, strict=True)), options, overlaps, contradictions),
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
        reader: TableReader,
        options: OverviewOptions,
        counter: PieceCounter | None,
        codes: dict[str, int],
    ) -> None:
        label = COLUMNS.label if options.label is None else options.label
        self.answers = AnswerTally(options.task, codes) if label in reader.names else None
        self._reader = reader
        self._columns = _text_columns(options) + ([label] if self.answers else [])
        self._pair = options.text_pair is not None
        self._lengths = LengthTally(counter)
        self._blank = 0
        self._keys = KeyBuffer()
        self._codes = array("i")

    def add(self, rows: Rows) -> None:
        """Look at some rows."""
        cells = list(zip(*(rows.columns[name] for name in self._columns), strict=True))
        # A line without anything on it is no row; where there is nothing but texts, it may be an empty one.
        kept = [row for row, found in enumerate(cells) if not self.answers or any(map(str.strip, found))]
        self._blank += len(cells) - len(kept)
        if not kept:
            return
        lines = [rows.numbers[row] for row in kept]
        texts, *others = map(list, zip(*(cells[row] for row in kept), strict=True))
        pairs = others[0] if self._pair else None
        self._keys.add(key_texts(texts, pairs, lines))
        self._lengths.add(texts, pairs)
        if self.answers:
            self._codes.frombytes(self.answers.add(others[-1], lines).tobytes())

    def finish(self) -> None:
        """Put together what was gathered.

        Raises:
            DataError: There was no row, or of a regression no number.
        """
        if not self._keys:
            raise DataError(
                "the file has no rows that can be read: there is nothing to look at", file=self._reader.path
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


def _open(file: InputFile, options: OverviewOptions) -> TableReader:
    required = _text_columns(options)
    return TableReader(
        file,
        required if options.label is None else [*required, options.label],
        optional=[COLUMNS.label] if options.label is None else (),
        format=options.format,
        header=options.header,
        on_error="skip",
    )


def _text_columns(options: OverviewOptions) -> list[str]:
    return [options.text] if options.text_pair is None else [options.text, options.text_pair]


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
    files: Mapping[str, InputFile],
    options: OverviewOptions,
    overlaps: Sequence[Overlap],
    contradictions: Contradictions | None,
) -> dict[str, dict[int, str]]:
    """Read the texts that are to be shown; of two rows with the same text that of one."""
    wanted: dict[str, set[int]] = {name: set() for name in files}
    for overlap in overlaps:
        wanted[overlap.name].update(line for line, _ in overlap.lines)
    for places in contradictions.first if contradictions else ():
        wanted[places[0].name].add(places[0].line)
    return {
        name: read_excerpts(file, options.text, wanted[name], format=options.format, header=options.header)
        for name, file in files.items()
    }
