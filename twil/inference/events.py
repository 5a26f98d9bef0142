"""What the file engines tell while they work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from twil.bundle.cache import Preparing
from twil.bundle.providers import Provider
from twil.core.pace import Paced


@dataclass(frozen=True)
class RowsStarted:
    """The tables and the model are open, and the first rows come next.

    Attributes:
        model: The bundle's folder.
        precision: The arithmetic of its graph; of several models fp16 where one has it.
        provider: Where the model really runs.
        reason: Why ``auto`` took this provider; empty where it was asked for.
        threads: CPU threads.
        columns: The columns of the output.
        id_column: That of them which names the rows; None where only their order tells them apart.
        resumed: Whether an interrupted run is continued.
        files: How many tables are read.
        found_text: The column of the texts, where none was named and it is not `TEXT`.
        bare: Whether each line of standard input is a text, as it has no header.
        others: The folders of further models, whose columns stand behind.
    """

    model: Path
    precision: str
    provider: Provider
    reason: str
    threads: int
    columns: tuple[str, ...]
    id_column: str | None
    resumed: bool
    files: int = 1
    found_text: str | None = None
    bare: bool = False
    others: tuple[Path, ...] = ()


@dataclass(frozen=True)
class RowsDone(Paced):
    """How far the work is.

    Attributes:
        rows: Rows done so far.
        seconds: Since the start.
        expected: How many there are, as far as that can be told; None of a stream.
    """

    rows: int
    seconds: float
    expected: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Summary(RowsDone):
    """The output is complete and in its place.

    Attributes:
        truncated: Rows longer than the model reads, of which part was left out.
        empty: Rows that hold nothing to read; computed all the same.
        repeated: Rows of the same tokens as an earlier one of their window, and computed with it.
        continued: Rows whose answers were kept of an interrupted run.
        skipped: Bad rows left out.
        marked: Bad rows kept without a prediction or vector.
        altered: Cells whose tabs or line breaks the output's format cannot hold and that became blanks.
        formulas: Cells of a CSV that a spreadsheet takes for formulas; see `TableWriter`.
        first_errors: What was wrong with the first bad rows.
        provider: Where the model really ran.
        peak_memory: The process's peak resident memory in bytes.
    """

    truncated: int
    empty: int
    repeated: int
    continued: int
    skipped: int
    marked: int
    altered: int
    first_errors: tuple[str, ...]
    provider: Provider
    peak_memory: int
    formulas: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class ClusterStarted:
    """A cluster is at hand, and its machines begin.

    Attributes:
        model: The bundle's folder.
        workers: How many graphs are open at a time.
        threads: CPU threads of each.
        files: How many tables are read.
        columns: The columns of the output.
        id_column: That of them which names the rows; None where only their order tells them apart.
        found_text: The column of the texts, where none was named and it is not `TEXT`.
    """

    model: Path
    workers: int
    threads: int
    files: int
    columns: tuple[str, ...]
    id_column: str | None
    found_text: str | None = None


@dataclass(frozen=True)
class ClusterSummary(RowsDone):
    """The output of a cluster is complete and in its place.

    Attributes:
        truncated: Rows longer than the model reads, of which part was left out.
        empty: Rows that hold nothing to read; predicted all the same.
        skipped: Bad rows left out.
        marked: Bad rows kept without a prediction.
        workers: How many graphs were open at a time.
        parts: Files of the output.
        providers: Where the model really ran.
    """

    truncated: int
    empty: int
    skipped: int
    marked: int
    workers: int
    parts: int
    providers: tuple[Provider, ...]


Event = Preparing | RowsStarted | RowsDone | Summary
