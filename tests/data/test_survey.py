"""What is found in files before training, held against the slow way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import make_tokenizer
from conftest import CHANGES, change, write_cells, write_rows
from hypothesis import given
from hypothesis import strategies as st

from twil.core.errors import ConfigError, DataError, ModelError
from twil.data.corpus.cleaning import fold
from twil.data.labelled import LabelledColumns
from twil.data.survey import survey as survey_module
from twil.data.survey.label_counts import split_answer
from twil.data.survey.overview import FileOverview, Overview, OverviewOptions, SurveyProgress
from twil.data.survey.repeats import KeyBuffer, TextKeys, count_empty, count_repeats, find_overlaps, key_texts
from twil.data.survey.survey import name_files, survey
from twil.text.tokenizer import UNK_ID, save_tokenizer

TEXTS = st.lists(
    st.sampled_from(
        ["hola", "Hola!", "@ana hola", "@ana", "@eva", "", " ", "adiós", "ADIÓS", "hola 😀", "t.co/x"]
    )
)


def look(*files: Path, **options: Any) -> Overview:
    names = ("text", "text_pair", "label", "reading")
    columns = LabelledColumns(**{name: options.pop(name) for name in names if name in options})
    *_, found = survey(files, OverviewOptions(columns, **options))
    assert isinstance(found, Overview)
    return found


def look_at(file: Path, **options: Any) -> FileOverview:
    (found,) = look(file, **options).files
    return found


def keys_of(texts: Sequence[str]) -> TextKeys:
    return key_texts(texts, None, range(2, 2 + len(texts)))


def nearly(text: str) -> str:
    return fold(text) or text


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@given(TEXTS)
def test_repeats_are_those_that_a_walk_through_the_texts_meets(texts: list[str]) -> None:
    keys = keys_of(texts)
    given = [text for text in texts if text.strip()]
    assert count_empty(keys.same) == len(texts) - len(given)
    assert count_repeats(keys.same) == len(given) - len(set(given))
    assert count_repeats(keys.near) == len(given) - len(set(map(nearly, given)))
    buffer = KeyBuffer()
    for text in texts:
        buffer.add(keys_of([text]))
    assert buffer.keys().near.tolist() == keys.near.tolist()


@given(TEXTS, TEXTS)
def test_overlaps_are_those_that_a_walk_through_both_files_meets(train: list[str], dev: list[str]) -> None:
    (found,) = find_overlaps({"train": keys_of(train), "dev": keys_of(dev)})
    same = [text for text in dev if text.strip() and text in train]
    near = [text for text in dev if text.strip() and nearly(text) in {nearly(t) for t in train if t.strip()}]
    assert (found.name, found.other, found.same, found.near) == ("dev", "train", len(same), len(near))
    assert found.share == (len(same) / len(dev) if dev else 0)
    assert len(found.lines) == min(3, len(near))
    for number, (line, other) in enumerate(found.lines):
        shared, twin = dev[line - 2], train[other - 2]
        assert nearly(shared) == nearly(twin)
        assert (shared == twin) == (number < len(same))  # the same texts are shown first


def test_a_pair_repeats_another_only_where_both_texts_do() -> None:
    first, second = ["hola", "hola", "hola", "hola"], ["qué tal", "bien", "qué tal", ""]
    keys = key_texts(first, second, range(4))
    assert (count_repeats(keys.same), count_empty(keys.same)) == (1, 1)
    swapped = key_texts(second, first, range(4))
    (overlap,) = find_overlaps({"one": keys, "other": swapped})
    assert overlap.near == 0


def test_texts_with_different_labels_are_named_with_their_lines_over_all_files(tmp_path: Path) -> None:
    train = write_rows(
        tmp_path / "train.tsv",
        [
            ("qué frío hace", "N"),
            ("me gusta", "P"),
            ("qué frío hace", "P"),
            ("me gusta", "P"),
            ("", "P"),
            ("", "N"),
        ],
    )
    dev = write_rows(tmp_path / "dev.tsv", [("ni fu ni fa", "P"), ("me gusta", "N"), ("qué frío hace", "N")])
    found = look(train, dev)
    assert found.contradictions is not None
    assert (found.contradictions.texts, found.contradictions.rows) == (2, 6)
    shown = [[(p.name, p.line, p.label) for p in places] for places in found.contradictions.first]
    assert shown == [
        [("train.tsv", 2, "N"), ("train.tsv", 4, "P")],
        [("train.tsv", 3, "P"), ("dev.tsv", 3, "N")],
    ]
    assert found.excerpts["train.tsv"] == {2: "qué frío hace", 3: "me gusta"}
    assert found.excerpts["dev.tsv"] == {3: "me gusta", 4: "qué frío hace"}


def test_blank_lines_are_no_rows_and_rows_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    file = write(
        tmp_path / "train.tsv",
        *("TEXT\tCLASS", "hola\tP", "", "\tN", "adiós\t", "a\tb\tc", "\t", "  \tN", "hola\tP"),
    )
    found = look_at(file)
    assert (found.rows, found.blank, found.bad) == (5, 2, 1)
    assert found.first_errors == ("line 6: 3 fields, expected 2",)
    assert (found.empty, found.repeated) == (2, 1)
    assert (found.unlabelled, found.first_unlabelled) == (1, (5,))
    assert found.labels == {"N": 2, "P": 2}


def test_lines_are_those_of_the_file_where_cells_hold_line_breaks(tmp_path: Path) -> None:
    rows = ["TEXT,CLASS", '"uno\ndos",A', '"tres, cuatro",B', '"uno\ndos",B']
    found = look(write(tmp_path / "train.csv", *rows))
    assert found.contradictions is not None
    assert [place.line for place in found.contradictions.first[0]] == [2, 5]
    assert found.excerpts == {"train.csv": {2: "uno dos"}}


def test_spellings_of_a_label_are_flagged_over_all_files(tmp_path: Path) -> None:
    train = write_rows(
        tmp_path / "train.tsv", [("a", "AGAINST"), ("b", " Against "), ("c", "FAVOR"), ("d", "AGAINST")]
    )
    dev = write_rows(tmp_path / "dev.tsv", [("e", "against"), ("f", "FAVOR")])
    found = look(train, dev)
    assert found.variants == ({"AGAINST": 2, " Against ": 1, "against": 1},)
    assert found.files[0].labels == {"AGAINST": 2, "Against": 1, "FAVOR": 1}
    assert found.absent == {"train.tsv": ("against",), "dev.tsv": ("AGAINST", "Against")}
    assert look(train).variants == ({"AGAINST": 2, " Against ": 1},)
    assert look(dev).variants == ()


@pytest.mark.parametrize(
    ("answers", "counts"),
    [
        (["1|0|0", "1|0|1", "0|0|0"], {"1": 2, "3": 1, "2": 0}),
        (["ira|miedo", " miedo | asco", "", "ira"], {"ira": 2, "miedo": 2, "asco": 1}),
    ],
)
def test_several_labels_a_row_are_counted_one_by_one(
    tmp_path: Path, answers: list[str], counts: dict[str, int]
) -> None:
    rows = [(f"texto {number}", answer) for number, answer in enumerate(answers)]
    found = look_at(write_rows(tmp_path / "train.tsv", rows), task="multi-label")
    assert found.labels == counts
    assert list(found.labels) == list(counts)
    assert look_at(tmp_path / "train.tsv").labels != counts


def test_labels_of_a_row_are_the_same_in_any_order(tmp_path: Path) -> None:
    rows = [
        ("me enfada", "ira|asco"),
        ("me enfada", "asco | ira"),
        ("me alegra", "3|1"),
        ("me alegra", "1 | 3"),
        ("me aburre", "0|1|0"),
        ("me aburre", "0 | 1 | 0"),
        ("me da igual", ""),
        ("me da igual", "ira"),
    ]
    found = look(write_rows(tmp_path / "train.tsv", rows), task="multi-label")
    assert found.contradictions is not None
    assert found.contradictions.texts == 0
    assert found.variants == ()
    assert look(tmp_path / "train.tsv").contradictions != found.contradictions


def test_an_answer_of_one_label_is_not_split() -> None:
    assert split_answer("a|b", "class") == {"a|b": True}
    assert split_answer("a|b", "multi-label") == {"a": True, "b": True}


def test_numbers_are_described_and_what_is_none_is_named(tmp_path: Path) -> None:
    answers = ["0.5", "-1", "3", "1e1", "alto", "", "nan", "2"]
    rows = [(f"texto {number}", answer) for number, answer in enumerate(answers)]
    found = look_at(write_rows(tmp_path / "train.tsv", rows), task="regression")
    assert found.values is not None
    numbers = [0.5, -1, 3, 10, 2]
    assert found.values.rows == 5
    assert found.values.mean == pytest.approx(np.mean(numbers))
    assert found.values.sd == pytest.approx(np.std(numbers))
    assert (found.values.lowest, found.values.highest) == (-1, 10)
    assert found.values.quantiles["p50"] == 2
    assert (found.values.wrong, found.values.first_wrong) == (2, ((6, "alto"), (8, "nan")))
    assert (found.unlabelled, found.first_unlabelled) == (1, (7,))
    assert found.labels == {}


@pytest.mark.parametrize("task", ["class", "regression"])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_answers_and_texts_that_are_nan_are_missing(tmp_path: Path, ending: str, task: str) -> None:
    nan = float("nan")
    found = look_at(
        write_cells(tmp_path / f"t.{ending}", TEXT=[1.0, 2.0, nan, 4.0], CLASS=[1.0, nan, 0.0, 1.0]),
        task=task,
    )
    assert (found.rows, found.empty, found.unlabelled) == (4, 1, 1)
    assert len(found.first_unlabelled) == 1
    assert found.values is None or (found.values.rows, found.values.wrong) == (3, 0)
    assert "nan" not in map(str.lower, found.labels)


@pytest.mark.parametrize(
    ("answers", "cure"),
    [
        (["alto", "bajo"], "name their column"),
        (["", ""], "name their column"),
        (["0,75", "1,5"], "a decimal comma"),
    ],
)
def test_a_file_without_one_number_is_no_regression(tmp_path: Path, answers: list[str], cure: str) -> None:
    rows = [(f"texto {number}", answer) for number, answer in enumerate(answers)]
    with pytest.raises(DataError, match=rf"train\.tsv, line 2: no label is a number.*{cure}"):
        look(write_rows(tmp_path / "train.tsv", rows), task="regression")


@pytest.mark.parametrize(
    ("task", "answers", "constant"),
    [
        ("class", ["P", " P", "P"], "P"),
        ("class", ["P", "N", "P"], None),
        ("class", ["P", "", "P"], None),
        ("multi-label", ["0|1", "0|1"], "0|1"),
        ("regression", ["2", "2.0"], "2"),
        ("regression", ["2", "3"], None),
        ("regression", ["2", "dos"], None),
    ],
)
def test_one_label_for_all_rows_is_found(
    tmp_path: Path, task: str, answers: list[str], constant: str | None
) -> None:
    rows = [(f"texto {number}", answer) for number, answer in enumerate(answers)]
    assert look_at(write_rows(tmp_path / "dev.tsv", rows), task=task).constant == constant


def test_files_without_labels_are_looked_at_all_the_same(tmp_path: Path) -> None:
    file = write(tmp_path / "tweets.txt", "hola a todos", "", "hola a todos")
    found = look(file)
    assert found.files[0].labels is None
    assert (found.files[0].rows, found.files[0].empty, found.files[0].repeated) == (3, 1, 1)
    assert found.contradictions is None


def test_lengths_are_in_characters_without_a_tokenizer(tmp_path: Path) -> None:
    texts = ["a" * length for length in range(1, 101)]
    found = look(write(tmp_path / "tweets.txt", *texts))
    assert found.unit == "characters"
    assert found.files[0].lengths.percentiles == {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
    assert found.files[0].lengths.truncated is None


@pytest.mark.parametrize("pair", [False, True])
def test_lengths_and_unknown_tokens_are_those_of_the_tokenizer(tmp_path: Path, pair: bool) -> None:
    path = tmp_path / "tokenizer.json"
    save_tokenizer(make_tokenizer(12), path)
    rows = [("hola", "sí"), ("ж hola ж", "no"), ("una tarde larguísima", "Ω"), ("", "x"), ("жж ж", "ж")]
    file = write(tmp_path / "rows.tsv", "TEXT\tOTHER", *("\t".join(row) for row in rows))
    found = look(file, tokenizer=path, text_pair="OTHER" if pair else None)
    lengths = found.files[0].lengths

    whole = make_tokenizer(1000)
    encodings = whole.encode_batch(rows if pair else [text for text, _ in rows])
    counts = [len(encoding.ids) for encoding in encodings]
    assert (found.unit, found.max_length) == ("tokens", 12)
    assert lengths.percentiles["max"] == max(counts)
    assert lengths.percentiles["p50"] == sorted(counts)[2]
    cut = make_tokenizer(12).encode_batch(rows if pair else [text for text, _ in rows])
    assert lengths.truncated == sum(bool(encoding.overflowing) for encoding in cut)
    assert lengths.tokens == sum(counts) - len(rows) * (3 if pair else 2)
    assert lengths.unknown == sum(encoding.ids.count(UNK_ID) for encoding in encodings)
    words = Counter(
        word for row in rows for text in row[: 1 + pair] for word in text.split() if word[0] in "жΩ"
    )
    assert lengths.unknown_parts == words

    shorter = look(file, tokenizer=path, max_length=6, text_pair="OTHER" if pair else None)
    assert shorter.files[0].lengths.truncated == sum(count > 6 for count in counts)


def test_overview_is_json(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.tsv", [("hola", "P"), ("hola", "N")])
    value = json.loads(json.dumps(look(file).as_dict()))
    assert value["files"][0]["labels"] == {"N": 1, "P": 1}
    assert value["excerpts"] == {"train.tsv": {"2": "hola"}}


def test_progress_comes_before_the_overview(tmp_path: Path) -> None:
    *before, last = survey([write(tmp_path / "tweets.txt", "hola")])
    assert isinstance(last, Overview)
    assert before
    assert all(isinstance(event, SurveyProgress) for event in before)


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("doing", ["reading", "comparing"])
def test_a_file_that_changes_before_its_texts_are_shown_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, doing: str
) -> None:
    monkeypatch.setattr(survey_module, "_PROGRESS_SECONDS", 0)
    file = write_rows(tmp_path / "train.tsv", [("qué frío hace", "N"), ("qué frío hace", "P")])
    events = survey([file])
    while not next(events).doing.startswith(doing):  # type: ignore[union-attr]
        pass
    change(file, how)
    with pytest.raises(DataError, match=r"train\.tsv: changed while it was read"):
        list(events)


def test_files_are_called_by_what_tells_them_apart() -> None:
    assert name_files(["a/train.tsv", "a/dev.tsv"]) == ["train.tsv", "dev.tsv"]
    assert name_files(["a/train.tsv", "b/train.tsv", "a/dev.tsv"]) == [
        "a/train.tsv",
        "b/train.tsv",
        "dev.tsv",
    ]
    with pytest.raises(ConfigError, match=r"a/dev\.tsv is named twice"):
        name_files(["a/dev.tsv", "a/dev.tsv"])


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows that can be read"):
        look(write(tmp_path / "train.tsv", "TEXT\tCLASS", "", "a\tb\tc"))


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of class, multi-label, regression"):
        OverviewOptions(task="ranking")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give a model or a tokenizer"):
        OverviewOptions(max_length=20)
    file = write(tmp_path / "tweets.txt", "hola")
    with pytest.raises(ConfigError, match=r"--task regression would have no effect: .* CLASS: .*\(--label\)"):
        look(file, task="regression")
    with pytest.raises(ModelError, match="there is no tokenizer"):
        look(file, tokenizer=tmp_path / "none.json")
