"""Labelled files of every kind of task, and what is wrong with some."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CHANGES, change, write_cells

from twil.core.errors import ConfigError, DataError
from twil.core.task import Task, TaskKind
from twil.data import labelled
from twil.data.labelled import LabelledColumns, check_covered, find_labels, read_labelled

EMOTIONS = ("alegría", "ira", "miedo")


def write(path: Path, *answers: str) -> Path:
    lines = [f"{number}\thoy ha pasado algo {number}\t{answer}" for number, answer in enumerate(answers)]
    path.write_text("\n".join(["ID\tTEXT\tCLASS", *lines, ""]), encoding="utf-8")
    return path


def test_names_and_zeros_and_ones_say_the_same_of_several_labels(tmp_path: Path) -> None:
    task = Task("multi-label", EMOTIONS)
    names = read_labelled(
        write(tmp_path / "n.tsv", "ira|alegría", " miedo ", "", "ira | ira"), kind="multi-label"
    )
    bits = read_labelled(write(tmp_path / "b.tsv", "1|1|0", "0|0|1", "0|0|0", "0|1|0"), kind="multi-label")
    expected = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=np.float32)
    np.testing.assert_array_equal(names.targets(task), expected)
    np.testing.assert_array_equal(bits.targets(task), expected)
    assert names.targets(task).dtype == np.float32
    assert find_labels(names, "multi-label") == EMOTIONS
    assert find_labels(bits, "multi-label") == ("1", "2", "3")


def test_a_row_of_ones_alone_is_not_taken_for_the_label_called_1(tmp_path: Path) -> None:
    rows = read_labelled(write(tmp_path / "b.tsv", "1|1|1", "1|0|0"), kind="multi-label")
    task = Task("multi-label", find_labels(rows, "multi-label"))
    np.testing.assert_array_equal(rows.targets(task), [[1, 1, 1], [1, 0, 0]])


def test_a_row_of_fewer_ones_than_labels_is_not_taken_for_the_label_called_1(tmp_path: Path) -> None:
    rows = read_labelled(write(tmp_path / "b.tsv", "1|0|1", "1|1"), kind="multi-label")
    with pytest.raises(DataError, match=r"the label '1\|1' is none of 1, 2, 3: .*3 zeros and ones") as caught:
        rows.targets(Task("multi-label", find_labels(rows, "multi-label")))
    assert caught.value.line == 3


@pytest.mark.parametrize("row", ["1", "0|1", "1|0|0|1"])
def test_among_zeros_and_ones_a_row_of_another_number_is_refused(row: str, tmp_path: Path) -> None:
    rows = read_labelled(write(tmp_path / "b.tsv", "1|0|1", row), kind="multi-label")
    with pytest.raises(DataError, match=r"is none of 1, 2, 3: .*3 zeros and ones") as caught:
        rows.targets(Task("multi-label", ("1", "2", "3")))
    assert caught.value.line == 3


def test_zeros_and_ones_stand_for_labels_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    rows = read_labelled(write(tmp_path / "b.tsv", "1|0|0", "0|1|1"), kind="multi-label")
    task = Task("multi-label", ("alegría", "ira", "miedo"))
    found = rows.targets(task, order=("miedo", "ira", "alegría"))
    np.testing.assert_array_equal(found, [[0, 0, 1], [1, 1, 0]])


def test_one_label_that_holds_or_not_is_a_column_of_zeros_and_ones(tmp_path: Path) -> None:
    rows = read_labelled(write(tmp_path / "b.tsv", "1", "0", "1"), kind="multi-label")
    np.testing.assert_array_equal(rows.targets(Task("multi-label", ("odio",))), [[1], [0], [1]])


@pytest.mark.parametrize(
    ("answers", "line", "message"),
    [
        (("ira", "asco"), 3, r"the label 'asco' is none of alegría, ira, miedo: .*3 zeros and ones"),
        (("1|0|0", "1|0"), 3, r"the label '1\|0' is none of"),
        (("ira", "ira||miedo"), 3, r"the label '' is none of"),
    ],
)
def test_an_answer_that_is_none_of_several_labels_is_named_with_its_line(
    answers: tuple[str, ...], line: int, message: str, tmp_path: Path
) -> None:
    rows = read_labelled(write(tmp_path / "m.tsv", *answers), kind="multi-label")
    with pytest.raises(DataError, match=message) as caught:
        rows.targets(Task("multi-label", EMOTIONS))
    assert caught.value.line == line


def test_several_labels_read_as_one_are_told_from_a_wrong_label(tmp_path: Path) -> None:
    rows = read_labelled(write(tmp_path / "m.tsv", "ira", "ira|miedo"))
    with pytest.raises(DataError, match=r"'ira\|miedo' is none of .* or several a row: --task multi-label"):
        rows.targets(Task("class", ("ira", "miedo")))


def test_labels_of_several_cannot_be_found_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row has a label"):
        find_labels(read_labelled(write(tmp_path / "m.tsv", "", ""), kind="multi-label"), "multi-label")
    gap = read_labelled(write(tmp_path / "g.tsv", "ira", "ira||miedo"), kind="multi-label")
    with pytest.raises(DataError, match=r"empty label between two '\|'"):
        find_labels(gap, "multi-label")


def test_numbers_are_read_as_numbers_and_what_is_none_is_named(tmp_path: Path) -> None:
    task = Task("regression", ("intensidad",))
    rows = read_labelled(write(tmp_path / "v.tsv", "0.5", "-2", "1e-1"), kind="regression")
    np.testing.assert_allclose(rows.targets(task), [0.5, -2, 0.1])
    assert find_labels(rows, "regression") == ("value",)
    wrongs = {
        "mucho": "is no number",
        "nan": "is no number",
        "inf": "is no number",
        "0,5": "has a decimal comma",
    }
    for wrong, what in wrongs.items():
        rows = read_labelled(write(tmp_path / "v.tsv", "0.5", wrong), kind="regression")
        with pytest.raises(DataError, match=rf"'{wrong}' in the column CLASS {what}") as caught:
            rows.targets(task)
        assert caught.value.line == 3
    for wide in ("1e39", "-3.5e38"):
        rows = read_labelled(write(tmp_path / "v.tsv", "3.4e38", wide), kind="regression")
        with pytest.raises(DataError, match=f"'{wide}' in the column CLASS is too large a number"):
            rows.targets(task)


@pytest.mark.parametrize("kind", ["class", "regression"])
def test_a_row_without_an_answer_is_refused_but_blank_lines_are_counted(
    kind: TaskKind, tmp_path: Path
) -> None:
    path = tmp_path / "r.tsv"
    path.write_text("TEXT\tCLASS\nuno\t1\n\t\ndos\t2\n", encoding="utf-8")
    rows = read_labelled(path, kind=kind)
    assert (len(rows), rows.blank, rows.lines) == (2, 1, [2, 4])
    path.write_text("TEXT\tCLASS\nuno\t1\ndos\t\n", encoding="utf-8")
    with pytest.raises(DataError, match="no label in the column CLASS"):
        read_labelled(path, kind=kind)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_an_answer_that_is_nan_is_none_and_a_row_of_nothing_else_is_blank(
    tmp_path: Path, ending: str
) -> None:
    nan = float("nan")
    texts = ["vaya tarde de lluvia", None, "por fin es viernes"]
    path = write_cells(tmp_path / f"b.{ending}", TEXT=texts, CLASS=[1.0, nan, 0.5])
    rows = read_labelled(path, kind="regression")
    assert (len(rows), rows.blank, rows.targets(Task("regression", ("v",))).tolist()) == (2, 1, [1, 0.5])
    path = write_cells(tmp_path / f"l.{ending}", TEXT=["vaya tarde", "qué sueño"], CLASS=[1.0, nan])
    for kind in ("class", "regression"):
        with pytest.raises(DataError, match="no label in the column CLASS") as caught:
            read_labelled(path, kind=kind)
        assert caught.value.line == 2
    assert read_labelled(path, kind="multi-label").labels[1] == ""
    # The word is a label as any other, and what has no end is a number that cannot be learnt.
    words = write_cells(tmp_path / f"w.{ending}", TEXT=["vaya tarde", "qué sueño"], CLASS=["NaN", "nan"])
    assert find_labels(read_labelled(words)) == ("NaN", "nan")
    endless = write_cells(tmp_path / f"e.{ending}", TEXT=["vaya tarde", "qué sueño"], CLASS=[0.5, -np.inf])
    with pytest.raises(DataError, match="in the column CLASS is no number"):
        read_labelled(endless, kind="regression").targets(Task("regression", ("v",)))


@pytest.mark.parametrize("how", CHANGES)
def test_a_file_that_changes_before_it_is_read_and_hashed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = write(tmp_path / "t.tsv", "alegría", "ira", "miedo")
    content = path.read_bytes()
    rows = read_labelled(path)
    assert rows.sha256() == hashlib.sha256(content).hexdigest()
    change(path, how)
    with pytest.raises(DataError, match=r"t\.tsv: changed while it was read"):
        rows.sha256()
    path.write_bytes(content)
    opened = labelled.LabelledTable

    def changing(*arguments: Any) -> Any:
        table = opened(*arguments)
        change(path, how)
        return table

    monkeypatch.setattr(labelled, "LabelledTable", changing)
    with pytest.raises(DataError, match=r"t\.tsv: changed while it was read"):
        read_labelled(path)


def test_pairs_are_two_columns_chosen_by_name_among_many(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_text(
        'ID\tPREV\tTEXT\tNEXT\tCLASS\n1\tantes\tdice "sí\tluego\tFAVOR\n2\t\tdice no\t"\tAGAINST\n',
        encoding="utf-8",
    )
    rows = read_labelled(path, LabelledColumns("TEXT", "NEXT", "CLASS"))
    assert list(rows.rows) == [('dice "sí', "luego"), ("dice no", '"')]
    single = read_labelled(path)
    assert list(single.rows) == ['dice "sí', "dice no"]
    pair = Task("class", ("AGAINST", "FAVOR"), pair=True)
    np.testing.assert_array_equal(rows.targets(pair), [1, 0])
    with pytest.raises(ConfigError, match=r"the model reads pairs: .*--text-pair"):
        single.targets(pair)
    with pytest.raises(ConfigError, match="leave out --text-pair NEXT"):
        rows.targets(Task("class", ("AGAINST", "FAVOR")))
    with pytest.raises(DataError, match=r"REPLY.*PREV"):
        read_labelled(path, LabelledColumns("TEXT", "REPLY", "CLASS"))


def test_a_class_without_rows_cannot_be_learnt(tmp_path: Path) -> None:
    rows = read_labelled(write(tmp_path / "c.tsv", "ira", "miedo", "ira"))
    check_covered(rows, Task("class", ("ira", "miedo")))
    with pytest.raises(DataError, match=r"c\.tsv.*no row has the label alegría, which could not be learnt"):
        check_covered(rows, Task("class", EMOTIONS))
    check_covered(rows, Task("multi-label", EMOTIONS))
