"""Tables that a program holds: what is taken for one, how its cells are read, what its rows are known by."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from tuning import tiny_options

from twil.config.memory_table import MemoryTable
from twil.config.training import finetune_config
from twil.core.errors import DataError
from twil.core.task import Task
from twil.data.labelled import LabelledColumns, read_labelled
from twil.data.tables.memory import take_table
from twil.data.tables.tables import TableReader
from twil.train.finetune import describe_sets, read_sets

TEXTS = ["qué alegría de martes", "vaya día más gris", "me quedo en casa"]
LABELS = ["P", "N", "NEU"]
COLUMNS = {"tweet": TEXTS, "label": LABELS}


class Dataset:
    """What `datasets.Dataset` gives of itself: columns by name, and the names of labels that are numbers."""

    def __init__(self, columns: dict[str, list[Any]], names: list[str] | None = None) -> None:
        self.features = {"label": SimpleNamespace(names=names)}
        self._columns = columns

    @property
    def column_names(self) -> list[str]:
        return list(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]


def cells(**columns: Any) -> list[str]:
    """Read the only column of a table."""
    table = take_table(columns, "the rows")
    return [cell for rows in TableReader(table) for cell in rows.columns[next(iter(columns))]]


@pytest.mark.parametrize(
    "given",
    [
        COLUMNS,
        pd.DataFrame(COLUMNS),
        pl.DataFrame(COLUMNS),
        pa.table(COLUMNS),
        Dataset(COLUMNS),
        Dataset({"tweet": TEXTS, "label": [2, 0, 1]}, ["N", "NEU", "P"]),
        (TEXTS, LABELS),
        (np.array(TEXTS), pd.Series(LABELS)),
    ],
    ids=["dict", "pandas", "polars", "arrow", "dataset", "coded dataset", "lists", "arrays"],
)
@pytest.mark.filterwarnings("ignore:.*texts are read from the column")
def test_a_labelled_set_is_what_the_file_of_it_is(given: object, tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text("tweet\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in zip(TEXTS, LABELS, strict=True)))
    held, read = read_labelled(take_table(given, "the rows")), read_labelled(file)
    assert (held.texts, held.labels) == (read.texts, read.labels)
    assert held.lines == [0, 1, 2]


def test_a_path_stays_one() -> None:
    assert take_table("rows.tsv", "the rows") == Path("rows.tsv")


@pytest.mark.parametrize("given", [TEXTS, "x y".split, 3, {"rows": "one text"}])
def test_anything_else_is_refused_by_its_name(given: object) -> None:
    with pytest.raises(DataError, match=r"the rows|column 'rows'"):
        take_table(given, "the rows")


def test_cells_are_written_as_files_have_them() -> None:
    found = cells(
        x=[1, 2.0, 2.5, True, None, float("nan"), pd.NA, date(2026, 5, 1), np.int64(7), np.str_("a")]
    )
    assert found == ["1", "2", "2.5", "true", "", "", "", "2026-05-01", "7", "a"]
    assert cells(x=pa.array(["a", None])) == ["a", ""]
    assert cells(x=pd.Series(["sí", "no"], dtype="category")) == ["sí", "no"]


@pytest.mark.parametrize(
    ("cell", "message"),
    [([1], "holds a list"), (b"x", "holds a bytes"), ("\ud83d", "half a character"), ({}, "holds a dict")],
)
def test_a_bad_cell_is_told_with_its_row(cell: object, message: str) -> None:
    with pytest.raises(DataError, match=f"the rows, row 1: .*{message}"):
        cells(x=["bien", cell])


@pytest.mark.parametrize(
    "answers", [[["joy", "fear"], []], [np.array(["joy", "fear"]), None], ["joy|fear", ""]]
)
def test_several_labels_are_lists(answers: list[Any]) -> None:
    table = take_table({"text": TEXTS[:2], "label": answers}, "the rows")
    held = read_labelled(table, LabelledColumns("text", label="label"), "multi-label")
    assert held.labels == ["joy|fear", ""]


def test_several_labels_are_rows_of_a_matrix() -> None:
    table = take_table((TEXTS, np.array([[0, 1], [1, 1], [0, 0]])), "the rows")
    targets = read_labelled(table, kind="multi-label").targets(Task("multi-label", ("a", "b")))
    assert targets.tolist() == [[0, 1], [1, 1], [0, 0]]


def test_what_is_learned_from_is_known_by_its_rows_alone(tmp_path: Path, tokenizer_file: Path) -> None:
    def record(texts: list[str], **more: Any) -> dict[str, Any]:
        options = tiny_options(tmp_path, tokenizer_file)
        options["data"] = {"train": MemoryTable("the train rows", {"TEXT": texts, "CLASS": LABELS, **more})}
        return describe_sets(read_sets(finetune_config(None, options).data))["train"]

    first = record(TEXTS)
    assert first["file"] == "the train rows"
    assert first["rows"] == 3
    assert record(TEXTS, other=[1, 2, 3])["sha256"] == first["sha256"]
    assert record(TEXTS[::-1])["sha256"] != first["sha256"]
