"""Tables as people have them: any delimiter, quotes, encodings, JSON of all shapes, usual names."""

from __future__ import annotations

import csv
import io
import itertools
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import Run, fails

from twil.config.reading import Reading
from twil.core.errors import ConfigError, DataError, DataWarning
from twil.core.task import Task
from twil.data.labelled import LabelledColumns, LabelledSet, find_labels, read_labelled
from twil.data.splitting import hold_out
from twil.data.survey.repeats import key_texts
from twil.data.tables.tables import TableReader, TableWriter

TEXTS = ["¿qué tal, amiga?", 'dijo "no" y ya', "año; nuevo | viejo", "primera\nsegunda", "-", ""]
LATIN = [text for text in TEXTS if "\n" not in text]


def save(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def column(path: Path, name: str | None = "TEXT", **reading: Any) -> list[str]:
    table = TableReader(path, [name], reading=Reading(**reading))
    return [cell for rows in table for cell in rows.columns[table.columns[0]]]


def quoted(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return file.getvalue()


# --- delimiters and quotes -----------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t", ":", " ", "¬"])
def test_any_character_may_stand_between_cells(tmp_path: Path, delimiter: str) -> None:
    rows = [["ID", "TEXT"], *([str(number), text] for number, text in enumerate(TEXTS))]
    assert column(save(tmp_path / "t.csv", quoted(rows, delimiter)), delimiter=delimiter) == TEXTS
    path = save(tmp_path / "t.tsv", quoted(rows, delimiter))
    assert column(path, delimiter=delimiter, quoted=True) == TEXTS
    plain = "\n".join(delimiter.join(row) for row in (["ID", "TEXT"], ["1", 'di"jo'], ["2", '"no"'])) + "\n"
    assert column(save(tmp_path / "p.tsv", plain), delimiter=delimiter) == ['di"jo', '"no"']


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_a_header_tells_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    rows = [["ID", "TEXT", "CLASS"], *([str(number), text, "a"] for number, text in enumerate(TEXTS))]
    assert column(save(tmp_path / "t.csv", quoted(rows, delimiter))) == TEXTS
    if delimiter != ",":  # also where the name of a column holds a comma
        named = [["ID", "TEXT", "nota (sí, no)"], *rows[1:]]
        assert column(save(tmp_path / "n.csv", "\n".join(map(delimiter.join, named[:2])))) == TEXTS[:1]


def test_excel_tells_the_delimiter_in_a_line_of_its_own(tmp_path: Path) -> None:
    for delimiter in ";,|\t":
        path = save(
            tmp_path / "t.csv", f"sep={delimiter}\r\nTEXT{delimiter}CLASS\r\nhola, sí{delimiter}a\r\n"
        )
        if delimiter != ",":
            table = TableReader(path)
            (rows,) = table
            assert (rows.numbers, rows.columns) == ([3], {"TEXT": ["hola, sí"], "CLASS": ["a"]})
    path = save(tmp_path / "t.csv", "sep=;\n1;hola\n2;ya\n")
    assert column(path, "2", header=False) == ["hola", "ya"]


def test_what_pandas_writes_is_read_again(tmp_path: Path) -> None:
    frame = pd.DataFrame({"TEXT": TEXTS[:4], "CLASS": list("abab")})
    for ending, options, reading in (
        ("tsv", {"sep": "\t"}, {"quoted": True}),
        ("csv", {}, {}),
        ("csv", {"sep": ";", "encoding": "cp1252"}, {"encoding": "cp1252"}),
        ("csv", {"sep": "|", "encoding": "utf-16"}, {"encoding": "utf-16"}),
        ("csv", {"encoding": "utf-8-sig"}, {}),
        ("csv.gz", {"sep": "\t"}, {"delimiter": "tab"}),
    ):
        path = tmp_path / f"t.{ending}"
        frame.to_csv(path, index=False, **options)
        assert column(path, **reading) == TEXTS[:4], (ending, options)
    for name, options in {
        "a.json": {"orient": "records"},
        "l.json": {"orient": "records", "lines": True},
    }.items():
        frame.to_json(tmp_path / name, **options)
        assert column(tmp_path / name) == TEXTS[:4]


def test_a_row_that_quotes_have_broken_says_so(tmp_path: Path) -> None:
    path = save(tmp_path / "t.tsv", 'TEXT\tCLASS\n"primera\nsegunda"\ta\n')
    with pytest.raises(DataError, match=r"line 2: 1 field, expected 2; a quote opens a cell.*--quoted"):
        column(path)
    with pytest.raises(DataError, match=r"line 2: 1 field, expected 2$"):
        column(save(tmp_path / "t.tsv", "TEXT\tCLASS\nhola\n"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("TEXT|CLASS;a,b,c\nhola|a;b,c,d\n", r"\"\,\" is taken .* \";\" is there, too \(--delimiter ';'\)"),
        (
            "id,textos,clase\n1,hola,a\n",
            "no column 'TEXT': the columns are id, textos, clase; did you mean 'textos'",
        ),
        ("\nTEXT,CLASS\nhola,a\n", r"its first line is blank.*--no-header"),
        ("  \n", "its first line is blank"),
    ],
)
def test_a_header_that_is_not_as_it_seems_is_told(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        column(save(tmp_path / "t.csv", content))


def test_only_columns_that_are_asked_for_must_be_there_once(tmp_path: Path) -> None:
    for name, content in (
        ("t.tsv", "TEXT\tv\tv\t\t\nhola\t1\t2\t3\t4\n"),
        ("t.csv", "TEXT,v,v,,\nhola,1,2,3,4\n"),
        ("t.jsonl", '{"v": 1, "v": 2, "TEXT": "hola"}\n'),
    ):
        path = save(tmp_path / name, content)
        assert column(path) == ["hola"]
        with pytest.raises(DataError, match=r"more than one column is called 'v'|the key 'v' is there twice"):
            column(path, "v")
    schema = pa.schema([("TEXT", pa.string()), ("v", pa.int8()), ("v", pa.int8())])
    doubled = pa.Table.from_arrays(
        [pa.array(["hola"]), pa.array([1], pa.int8()), pa.array([2], pa.int8())], schema=schema
    )
    pq.write_table(doubled, tmp_path / "t.parquet")
    assert column(tmp_path / "t.parquet") == ["hola"]
    with pytest.raises(DataError, match="more than one column is called 'v'"):
        column(tmp_path / "t.parquet", "v")


# --- encodings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"]
)
@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "json", "txt"])
def test_other_encodings_are_read_as_they_are_told(tmp_path: Path, kind: str, encoding: str) -> None:
    contents = {
        "tsv": "TEXT\n" + "\n".join(text or "-" for text in LATIN) + "\n",
        "csv": quoted([["TEXT"], *([text or "-"] for text in LATIN)], ","),
        "jsonl": "".join(json.dumps({"TEXT": text or "-"}, ensure_ascii=False) + "\n" for text in LATIN),
        "json": json.dumps([{"TEXT": text or "-"} for text in LATIN], ensure_ascii=False, indent=1),
        "txt": "\n".join(text or "-" for text in LATIN) + "\n",
    }
    path = save(tmp_path / f"t.{kind}", contents[kind], encoding)
    assert column(path, encoding=encoding) == [text or "-" for text in LATIN]


def test_bytes_that_an_encoding_does_not_know_are_bad_rows(tmp_path: Path) -> None:
    path = save(tmp_path / "t.tsv", b"TEXT\nma\xf1ana\n\x81\nya\n")
    table = TableReader(path, on_error="mark", reading=Reading(encoding="cp1252"))
    (rows,) = table
    assert (rows.columns["TEXT"], rows.errors) == (["mañana", "", "ya"], {1: "not cp1252"})
    cut = save(tmp_path / "u.tsv", "TEXT\nhola\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match="is not text in utf-16"):
        column(cut, encoding="utf-16")


# --- JSON ----------------------------------------------------------------------------------------------


def test_rows_of_json_may_lack_keys(tmp_path: Path) -> None:
    path = save(tmp_path / "t.jsonl", '{"delete": 1}\n{"TEXT": "hola", "a": {"b": "x"}}\n{"TEXT": "ya"}\n')
    table = TableReader(path, ["TEXT"], kept=["a.b"], on_error="mark")
    (rows,) = table
    assert rows.columns == {"TEXT": ["", "hola", "ya"], "a.b": ["", "x", ""]}
    assert rows.errors == {0: "no key 'TEXT'"}
    with pytest.raises(DataError, match=r"no column 'a\.c'"):
        TableReader(path, ["a.c"])
    assert column(save(tmp_path / "u.jsonl", '{"a.b": "y", "a": {"b": "x"}}\n'), "a.b") == ["y"]


def test_an_array_is_read_row_by_row_wherever_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"TEXT": text, "n": [1, {"m": "]},"}]} for text in TEXTS * 3]
    monkeypatch.setattr("twil.data.tables.streams._HEAD_BYTES", 200)
    for indent, size in itertools.product((None, 2), (1, 2, 7, 64, 1 << 20)):
        monkeypatch.setattr("twil.data.tables.streams.BLOCK_BYTES", size)
        path = save(tmp_path / "t.json", json.dumps(rows, ensure_ascii=False, indent=indent))
        assert column(path) == TEXTS * 3
    table = TableReader(path, ["TEXT"])
    assert table.unit == "row"
    assert [number for run_ in table for number in run_.numbers] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"TEXT": "hola"} {"TEXT": "ya"}]', "there is no comma behind row 1"),
        ('[{"TEXT": "hola"}, {"TEXT": "ya"}', "the array ends behind row 2"),
        ('[{"TEXT": "hola"}, {"TEXT": ', "in row 2"),
        ("[1, 2]", "no object in the array"),
        ('[{"TEXT": "hola"}] {"TEXT": "ya"}', "there is more behind the end of the array"),
        ("[]", "no object in the array"),
        ('[{"TEXT": "hola"}, 3]', "row 2: not a JSON object|line 2: not a JSON object"),
        ("[" * 100_000, "nested too deeply, in row 1"),
        ('[{"TEXT": "hola"}, {"TEXT": }, ' + '{"TEXT": "ya"}, ' * 100_000, "Expecting value, in row 2"),
    ],
)
def test_a_damaged_array_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        column(save(tmp_path / "t.json", content))


def test_an_array_is_read_and_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"call it \.jsonl"):
        TableWriter(tmp_path / "t.json", {"TEXT": str})


# --- columns and labels --------------------------------------------------------------------------------


def labelled(path: Path, kind: str = "class", **columns: Any) -> LabelledSet:
    return read_labelled(path, LabelledColumns(**columns), kind)  # type: ignore[arg-type]


def test_columns_are_found_by_their_usual_names_and_it_is_said(tmp_path: Path) -> None:
    for text, label in (
        ("tweet", "CLASS"),
        ("TEXT", "label"),
        ("content", "sentiment"),
        ("review", "class"),
        ("texto", "etiqueta"),
        ("text", "clase"),
    ):
        path = save(tmp_path / "t.tsv", f"{text}\tother\t{label}\nhola\tx\ta\n")
        with pytest.warns(DataWarning, match=f"{text}|{label}"):
            found = labelled(path)
        assert (found.texts, found.labels) == (["hola"], ["a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labelled(save(tmp_path / "t.tsv", "TEXT\tCLASS\tlabel\ttext\nhola\ta\tb\tc\n"))
        labelled(save(tmp_path / "t.tsv", "x\ty\nhola\ta\n"), text="x", label="y")
    with pytest.raises(DataError, match="label and sentiment may each hold the labels"):
        labelled(save(tmp_path / "t.tsv", "TEXT\tlabel\tsentiment\nhola\ta\tb\n"))
    with pytest.raises(DataError, match=r"columns are TEXT, clases.* \(--label names the column\)"):
        labelled(save(tmp_path / "t.tsv", "TEXT\tclases\nhola\ta\n"))


@pytest.mark.parametrize(
    ("frequent", "rare", "kind", "told"),
    [
        ("neutral", "neutrall", "class", True),
        ("negative", "negatvie", "class", True),
        ("joy|sadness", "sadnes|joy", "multi-label", True),
        ("relevant", "irrelevant", "class", False),
        ("topic 12", "topic 13", "class", False),
        ("P", "N", "class", False),
        ("2.25", "2.75", "regression", False),
    ],
)
def test_a_rare_label_a_letter_from_a_frequent_one_is_told(
    tmp_path: Path, frequent: str, rare: str, kind: str, told: bool
) -> None:
    answers = [*[frequent] * 20, rare, "otra"]
    path = save(tmp_path / "t.tsv", "TEXT\tCLASS\n" + "".join(f"hola\t{answer}\n" for answer in answers))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        labelled(path, kind)
    assert any("spelt almost as others" in str(one.message) for one in said) == told


def several(tmp_path: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    yield "usual", save(tmp_path / "a.tsv", "TEXT\tCLASS\nuno\tjoy|fear\ndos\t\ntres\tanger\n"), {}
    commas = save(tmp_path / "b.tsv", "TEXT\tCLASS\nuno\tjoy, fear\ndos\t\ntres\tanger\n")
    yield "commas", commas, {"separator": ","}
    marks = save(tmp_path / "c.csv", "TEXT,anger,joy,fear\nuno,0,1,1\ndos,0,,false\ntres,True,0,0\n")
    yield "columns", marks, {"label": "anger,joy,fear"}
    rows = [("uno", ["joy", "fear"]), ("dos", []), ("tres", ["anger"])]
    lines = "".join(json.dumps({"TEXT": text, "CLASS": labels}) + "\n" for text, labels in rows)
    yield "lists", save(tmp_path / "d.jsonl", lines), {}
    pq.write_table(
        pa.table({"TEXT": [row[0] for row in rows], "CLASS": [row[1] for row in rows]}),
        tmp_path / "e.parquet",
    )
    yield "lists of Parquet", tmp_path / "e.parquet", {}


def test_labels_in_a_file_of_their_own_are_put_beside_the_texts(tmp_path: Path) -> None:
    texts = save(tmp_path / "train_text.txt", "qué bien\nqué mal\n")
    with pytest.raises(DataError, match=r"paste labels\.txt texts\.txt > both\.tsv \(--no-header --label 1"):
        read_labelled(texts)
    both = save(tmp_path / "both.tsv", "2\tqué bien\n0\tqué mal\n")
    columns = LabelledColumns("2", None, "1", reading=Reading(header=False))
    assert read_labelled(both, columns).labels == ["2", "0"]


def test_several_labels_are_read_however_they_are_written(tmp_path: Path) -> None:
    task = Task("multi-label", ("anger", "fear", "joy"))
    for name, path, columns in several(tmp_path):
        found = labelled(path, "multi-label", **columns)
        assert found.targets(task).tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]], name
        order = ("anger", "joy", "fear") if name == "columns" else ("anger", "fear", "joy")
        assert find_labels(found, "multi-label") == order


def test_what_does_not_fit_several_labels_is_told(tmp_path: Path) -> None:
    path = save(tmp_path / "c.csv", "TEXT,anger,joy\nuno,0,quizá\n")
    with pytest.raises(DataError, match="line 2: 'quizá' in the column joy is neither 0 nor 1"):
        labelled(path, "multi-label", label="anger,joy")
    with pytest.raises(DataError, match="no column 'fear'"):
        labelled(path, "multi-label", label="anger,fear")
    with pytest.raises(ConfigError, match="--task multi-label"):
        labelled(path, label="anger,joy")
    with pytest.raises(ConfigError, match="--label-separator would have no effect"):
        labelled(path, label="anger", separator=",")
    held = save(tmp_path / "d.jsonl", '{"TEXT": "uno", "CLASS": ["a|b"]}\n')
    with pytest.raises(DataError, match=r"the item 'a\|b' of a list holds '\|'"):
        labelled(held, "multi-label")


def test_commas_that_look_like_several_labels_are_said(tmp_path: Path) -> None:
    path = save(tmp_path / "t.tsv", "TEXT\tCLASS\nuno\tjoy\ndos\tjoy,fear\ntres\tfear\n")
    for kind, how in (
        ("class", "--task multi-label --label-separator ,"),
        ("multi-label", "--label-separator ,"),
    ):
        with pytest.warns(DataWarning, match=f"holds a comma: 1, such as 'joy,fear': {how}"):
            labelled(path, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labelled(path, "multi-label", separator=",")
        labelled(save(tmp_path / "n.tsv", "TEXT\tCLASS\nuno\tsí, claro\ndos\tno, nunca\n"))


def test_numbers_stand_for_labels_that_are_named_in_their_order(tmp_path: Path) -> None:
    path = save(tmp_path / "t.tsv", "TEXT\tCLASS\nuno\t2\ndos\t0\ntres\t1\n")
    names = ("negative", "neutral", "positive")
    assert labelled(path, names=names).labels == ["positive", "negative", "neutral"]
    assert labelled(path, names=("2", "1", "0")).labels == ["2", "0", "1"]
    assert labelled(path, names=names[:2]).labels == ["2", "0", "1"]
    with pytest.raises(DataError, match="the label '2' is none of negative"):  # nobody has named their order
        labelled(path).targets(Task("class", names))


def test_the_first_of_several_columns_that_is_not_empty_is_read(tmp_path: Path) -> None:
    table = save(tmp_path / "t.csv", "text,full_text,ID\nuno,,1\ndos,más,2\n,,3\n")
    assert column(table, "full_text,text") == ["uno", "más", ""]
    lines = '{"text": "uno…", "ext": {"full": "uno y dos"}}\n{"text": "tres"}\n{"delete": 1}\n'
    found = TableReader(save(tmp_path / "t.jsonl", lines), ["ext.full,text"], on_error="skip")
    assert [cell for rows in found for cell in rows.columns["ext.full,text"]] == ["uno y dos", "tres"]
    assert found.first_errors == ["line 3: no key 'ext.full,text'"]
    with pytest.raises(DataError, match="no column 'a,b'"):
        column(table, "a,b")
    named = save(tmp_path / "n.csv", '"a,b"\nhola\n')
    assert column(named, "a,b") == ["hola"]


# --- a share of the rows -------------------------------------------------------------------------------


def test_a_share_is_held_out_by_label_and_repeats_stay_together(tmp_path: Path) -> None:
    rows = [
        (f"texto {label} {number}", label)
        for label, count in (("a", 400), ("b", 80), ("c", 20))
        for number in range(count)
    ]
    repeats = [("hola @ana", "a"), ("HOLA @eva!", "a")] * 5 + [("", "b")] * 10
    content = "".join(f"{text}\t{label}\n" for text, label in rows + repeats)
    whole = labelled(save(tmp_path / "t.tsv", f"TEXT\tCLASS\n{content}"))
    for seed in range(5):
        train, dev = hold_out(whole, 0.2, "class", seed)
        assert sorted(train.lines + dev.lines) == whole.lines
        assert (train.lines, dev.lines) == (sorted(train.lines), sorted(dev.lines))
        assert {label: dev.labels.count(label) for label in "abc"} == pytest.approx(
            {label: 0.2 * whole.labels.count(label) for label in "abc"}, abs=12
        )
        near = [key_texts(part.texts, None, part.lines).near for part in (train, dev)]
        assert not set(near[0][near[0] > 0]) & set(near[1])
        assert hold_out(whole, 0.2, "class", seed)[1].lines == dev.lines
    assert hold_out(whole, 0.2, "class", 0)[1].lines != hold_out(whole, 0.2, "class", 1)[1].lines


def test_numbers_are_held_out_along_their_order(tmp_path: Path) -> None:
    content = "".join(f"texto {number}\t{number % 97 / 10}\n" for number in range(970))
    whole = labelled(save(tmp_path / "t.tsv", f"TEXT\tCLASS\n{content}"), "regression")
    _, dev = hold_out(whole, 0.1, "regression", 3)
    assert len(dev) in (96, 97, 98)
    assert sum(map(float, dev.labels)) / len(dev) == pytest.approx(4.8, abs=0.1)


def test_a_share_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    same = labelled(save(tmp_path / "t.tsv", "TEXT\tCLASS\nhola\ta\nHola\tb\n"))
    with pytest.raises(DataError, match="leaves nothing"):
        hold_out(same, 0.5, "class", 0)


def test_a_run_decides_by_a_share_and_reports_on_it(run: Run, tmp_path: Path, tokenizer_file: Path) -> None:
    rows = "".join(
        f"{word} {number}\t{label}\n" for number in range(20) for word, label in (("hola", 0), ("no", 1))
    )
    file, model = save(tmp_path / "t.tsv", f"TEXT\tCLASS\n{rows}"), tmp_path / "model"
    start = ("--init", "tiny", "--tokenizer", tokenizer_file, "--epochs", 1, "--labels", "sí,no")
    code, _, err = run("finetune", file, "--dev", 0.25, *start, "-o", model)
    assert code == 0, err
    assert "rows: train 30, dev 10" in err
    record = json.loads((model / "run.json").read_text(encoding="utf-8"))
    assert (record["config"]["data"]["dev"], record["data"]["dev"]["rows"]) == (0.25, 10)
    code, _, err = run("report", model, "-o", tmp_path / "report.html")
    assert code == 0, err
    fails(
        run("finetune", file, "--dev", 1.5, *start, "-o", tmp_path / "m"), "data.dev: a share of 1.5 is none"
    )
    fails(run("finetune", file, "--dev", "no.tsv", *start, "-o", tmp_path / "m"), "no.tsv", "no such file")


# --- what is told --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        ({"delimiter": ""}, "not one character"),
        ({"delimiter": ";;"}, "not one character"),
        ({"delimiter": '"'}, "not one character"),
        ({"encoding": "latin-99"}, "there is no encoding 'latin-99'"),
        ({"encoding": "base64"}, "there is no encoding 'base64'"),
        ({"format": "xls"}, "unknown table format"),
    ],
)
def test_what_cannot_be_followed_is_refused(tmp_path: Path, reading: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        column(save(tmp_path / "t.tsv", "TEXT\nhola\n"), **reading)


def test_what_would_have_no_effect_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"TEXT": ["hola"]}), tmp_path / "t.parquet")
    save(tmp_path / "t.jsonl", '{"TEXT": "hola"}\n')
    for name, reading in itertools.product(
        ("t.parquet", "t.jsonl"), ({"header": False}, {"delimiter": ";"}, {"quoted": True})
    ):
        with pytest.raises(ConfigError, match=f"would have no effect on .*{name}"):
            column(tmp_path / name, **reading)
    with pytest.raises(ConfigError, match="--encoding would have no effect"):
        column(tmp_path / "t.parquet", encoding="latin-1")


def test_every_command_reads_in_the_same_way(run: Run, tmp_path: Path, tokenizer_file: Path) -> None:
    rows = [*(("hola qué tal", "P"), ("adiós ya", "N")) * 4]
    content = "".join(f"{label};{text}\n" for text, label in rows)
    file = save(tmp_path / "t.csv", content, "latin-1")
    how = ("--no-header", "--delimiter", ";", "--encoding", "latin-1", "--text", "2")
    labels = (*how, "--label", "1")
    start = ("--init", "tiny", "--tokenizer", tokenizer_file)
    model, bundle = tmp_path / "model", tmp_path / "bundle"
    for command in (
        ("data", file, *labels),
        ("finetune", file, "--dev", file, *labels, *start, "--epochs", 1, "-o", model),
        ("evaluate", model, file, *labels),
        ("compare", file, model, *labels),
        ("export", model, "--onnx", "-o", bundle),
        ("predict", file, *how, "--model", bundle, "-o", tmp_path / "o.tsv"),
        ("report", model, "-o", tmp_path / "report.html"),
    ):
        code, out, err = run(*command)
        assert code == 0, (command, out, err)
    assert "reading" in json.loads((model / "run.json").read_text(encoding="utf-8"))["config"]["data"]
    fails(run("predict", file, "--model", bundle), "t.csv", "--encoding")
