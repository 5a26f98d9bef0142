"""Tables as streams: no row lost, no cell changed in silence, one clear error for what is no table."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import CHANGES, change
from hypothesis import given, settings
from hypothesis import strategies as st

from twil.config.reading import Reading
from twil.core.errors import ConfigError, DataError, TwilError
from twil.data.tables import streams
from twil.data.tables.table_sets import TableSet
from twil.data.tables.tables import TableReader, TableWriter

FORMATS = [
    "tsv",
    "csv",
    "jsonl",
    "parquet",
    "tsv.gz",
    "tsv.zst",
    "csv.gz",
    "csv.zst",
    "jsonl.gz",
    "jsonl.zst",
]


def save(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: str | Path, columns: list[str] | None = None, **options: Any) -> dict[str, list[str]]:
    reader = TableReader(path, columns, **options)
    table: dict[str, list[str]] = {name: [] for name in (columns or reader.names)}
    for rows in reader:
        for name, cells in rows.columns.items():
            assert len(cells) == len(rows.numbers)
            table[name] += cells
    return table


def line_numbers(path: Path, **options: Any) -> list[int]:
    return [number for rows in TableReader(path, **options) for number in rows.numbers]


def write(path: str | Path, columns: dict[str, list[str]]) -> int:
    with TableWriter(path, dict.fromkeys(columns, str)) as writer:
        writer.write(columns)
    return writer.altered


# --- TSV ---------------------------------------------------------------------------------------------


def test_quotes_in_tweets_keep_every_row(tmp_path: Path) -> None:
    path = save(tmp_path, "t.tsv", 'ID\tTEXT\n1\t"Hola\n2\tdijo "adiós\n3\t""ya""\n4\t"fin"\n')
    assert read(path)["TEXT"] == ['"Hola', 'dijo "adiós', '""ya""', '"fin"']


@pytest.mark.parametrize("inner", ["\u2028", "\u2029", "\x85", "\r", "\x0b", "\x0c", "\x1c", "\xa0"])
def test_only_a_line_feed_ends_a_row(tmp_path: Path, inner: str) -> None:
    path = save(tmp_path, "t.tsv", f"TEXT\tCLASS\nbuenos{inner}días\t1\nadiós\t0\n")
    assert read(path) == {"TEXT": [f"buenos{inner}días", "adiós"], "CLASS": ["1", "0"]}
    assert line_numbers(path) == [2, 3]


@pytest.mark.parametrize("name", ["t.tsv", "t.csv", "t.jsonl", "t.txt"])
def test_line_ends_and_bom_change_no_cell(tmp_path: Path, name: str) -> None:
    plain = {
        "t.tsv": "TEXT\tCLASS\nqué tal\t1\nbien\t0\n",
        "t.csv": "TEXT,CLASS\nqué tal,1\nbien,0\n",
        "t.jsonl": '{"TEXT": "qué tal", "CLASS": 1}\n{"TEXT": "bien", "CLASS": 0}\n',
        "t.txt": "qué tal\nbien\n",
    }[name]
    expected = read(save(tmp_path, name, plain))
    assert expected["TEXT"] == ["qué tal", "bien"]
    for variant in (
        plain[:-1],
        plain.replace("\n", "\r\n"),
        "\ufeff" + plain,
        plain[:-1].replace("\n", "\r\n") + "\r",
    ):
        assert read(save(tmp_path, name, variant)) == expected


def test_blanks_around_header_names_are_dropped(tmp_path: Path) -> None:
    assert TableReader(save(tmp_path, "t.tsv", "\ufeffID \t TEXT\r\n1\thola\r\n")).names == ("ID", "TEXT")


@pytest.mark.parametrize("suffix", FORMATS)
def test_words_for_nothing_stay_texts(tmp_path: Path, suffix: str) -> None:
    texts = ["null", "NA", "None", "nan", "", "NULL", "N/A", "true", "1e5"]
    write(tmp_path / f"t.{suffix}", {"TEXT": texts, "ID": list("abcdefghi")})
    assert read(tmp_path / f"t.{suffix}")["TEXT"] == texts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.tsv", "TEXT\tCLASS\nhola\t1\n\nadiós\t0\n\n"),
        ("t.csv", "TEXT,CLASS\nhola,1\n\nadiós,0\n\n"),
        ("t.jsonl", '\n{"TEXT": "hola", "CLASS": 1}\n\r\n{"TEXT": "adiós", "CLASS": 0}\n \t\n'),
    ],
)
def test_a_blank_line_is_a_row_of_empty_cells(tmp_path: Path, name: str, content: str) -> None:
    path = save(tmp_path, name, content)
    first = [""] if name == "t.jsonl" else []  # the others begin with their header
    assert read(path) == {"TEXT": [*first, "hola", "", "adiós", ""], "CLASS": [*first, "1", "", "0", ""]}
    assert line_numbers(path) == list(range(2 - len(first), 6))


def test_rows_are_the_same_however_the_blocks_fall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tsv = save(
        tmp_path, "t.tsv", "ID\tTEXT\n" + "".join(f"{i}\t{'ñandú 🙂 ' * (i % 7)}\r\n" for i in range(50))
    )
    csv = save(tmp_path, "t.csv", "ID,TEXT\n" + "".join(f'{i},"dijo ""sí""\nñ 🙂"\n' for i in range(50)))
    expected = {path: (read(path), line_numbers(path)) for path in (tsv, csv)}
    assert len(expected[tsv][1]) == len(expected[csv][1]) == 50
    for size, chunk_rows in ((16, 3), (61, 1), (1000, 7)):
        monkeypatch.setattr(streams, "BLOCK_BYTES", size)
        for path in (tsv, csv):
            assert (read(path, chunk_rows=chunk_rows), line_numbers(path, chunk_rows=chunk_rows)) == expected[
                path
            ]
            assert max(len(rows.numbers) for rows in TableReader(path, chunk_rows=chunk_rows)) <= chunk_rows


# --- bad rows ----------------------------------------------------------------------------------------

BAD = (
    "ID\tTEXT\tCLASS\n1\thola\t1\n2\tadiós\n3\tsí\t0\n4\tno\tno\t0\n".encode()
    + b"5\tma\xf1ana\t1\n6\tfin\t0\n"
)
BAD_LINES = ["line 3: 2 fields, expected 3", "line 5: 4 fields, expected 3", "line 6: not UTF-8"]


def test_a_bad_row_fails_with_its_line(tmp_path: Path) -> None:
    path = save(tmp_path, "t.tsv", BAD)
    with pytest.raises(DataError, match=r"t\.tsv, line 3: 2 fields, expected 3$") as caught:
        read(path)
    assert (caught.value.file, caught.value.line) == (path, 3)


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    reader = TableReader(save(tmp_path, "t.tsv", BAD), ["TEXT", "ID"], on_error="skip", chunk_rows=2)
    for _ in range(2):  # a second pass counts afresh
        rows = [row for run in reader for row in zip(run.numbers, run.columns["TEXT"], strict=True)]
        assert rows == [(2, "hola"), (4, "sí"), (7, "fin")]
        assert (reader.skipped, reader.first_errors) == (3, BAD_LINES)


def test_marked_rows_keep_their_place_with_empty_cells(tmp_path: Path) -> None:
    reader = TableReader(save(tmp_path, "t.tsv", BAD), ["TEXT"], on_error="mark")
    (rows,) = reader
    assert rows.numbers == [2, 3, 4, 5, 6, 7]
    assert rows.columns == {"TEXT": ["hola", "", "sí", "", "", "fin"]}
    assert [f"line {rows.numbers[i]}: {problem}" for i, problem in rows.errors.items()] == BAD_LINES
    assert (reader.skipped, reader.first_errors) == (3, BAD_LINES)


def test_only_the_first_errors_are_kept(tmp_path: Path) -> None:
    reader = TableReader(save(tmp_path, "t.tsv", "A\tB\n" + "x\n" * 5000), on_error="skip", chunk_rows=100)
    assert list(reader) == []
    assert reader.skipped == 5000
    assert reader.first_errors == [f"line {line}: 1 field, expected 2" for line in range(2, 7)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.txt", b"hola\nma\xf1ana\nfin\n"),
        ("t.csv", b'T,C\n"a\nb",1\nma\xf1ana,1\n'),
        ("t.jsonl", b'{"T": "a"}\n\n{"T": "ma\xf1ana"}\n'),
    ],
)
def test_bytes_that_are_not_utf8_are_a_bad_row_in_every_format(
    tmp_path: Path, name: str, content: bytes
) -> None:
    reader = TableReader(save(tmp_path, name, content), on_error="mark")
    (rows,) = reader
    last = reader.first_errors[-1]
    assert (
        last
        == {"t.txt": "line 2: not UTF-8", "t.csv": "line 4: not UTF-8", "t.jsonl": "line 3: not UTF-8"}[name]
    )
    for index in rows.errors:
        assert all(cells[index] == "" for cells in rows.columns.values())


# --- CSV ---------------------------------------------------------------------------------------------


def test_csv_rows_know_the_line_they_start_on(tmp_path: Path) -> None:
    content = '"ID","TEXT"\n1,"una\ndos\r\ntres"\n2,"dijo ""hola"", y ya"\n"3","\n"\n4,5" de pantalla\n'
    path = save(tmp_path, "t.csv", content)
    assert read(path)["TEXT"] == ["una\ndos\r\ntres", 'dijo "hola", y ya', "\n", '5" de pantalla']
    assert line_numbers(path) == [2, 5, 6, 8]


def test_a_header_over_two_lines_shifts_the_rows(tmp_path: Path) -> None:
    path = save(tmp_path, "t.csv", 'ID,"TEXT\nES"\n1,hola\n')
    assert read(path) == {"ID": ["1"], "TEXT\nES": ["hola"]}
    assert line_numbers(path) == [3]


@pytest.mark.parametrize("on_error", ["fail", "skip", "mark"])
@pytest.mark.parametrize("rest", ["", "7,nada\n" * 30_000])
def test_an_open_quote_is_reported_where_it_began(tmp_path: Path, on_error: Any, rest: str) -> None:
    # The first cell of the record spans two lines, so the quote begins a line after its row.
    content = 'ID,TEXT\n1,hola\n"2\n2","y aquí se abre, sin fin\n3,más\n'
    with pytest.raises(DataError, match="a quote opens a cell here and is not closed") as caught:
        read(save(tmp_path, "t.csv", content + rest), on_error=on_error)
    assert caught.value.line == 4


def test_a_csv_row_that_would_lose_its_quotes_is_bad(tmp_path: Path) -> None:
    path = save(tmp_path, "t.csv", 'TEXT,CLASS\n"Hola" dijo,1\nadiós,0\na\rb,1\nuno,dos,tres\nsí,1\n')
    reader = TableReader(path, on_error="skip")
    assert [text for rows in reader for text in rows.columns["TEXT"]] == ["adiós", "sí"]
    assert [error.partition(":")[0] for error in reader.first_errors] == ["line 2", "line 4", "line 5"]


def test_parquet_columns_of_few_texts_are_read_as_any_other(tmp_path: Path) -> None:
    texts = [f"texto {number % 128} ñ😀" if number % 7 else None for number in range(1_000)]
    expected = [text or "" for text in texts]
    repeated = [text if text else None for text in expected]
    categories = pa.array(repeated).dictionary_encode()
    table = pa.table(
        {
            "plain": repeated,
            "large": pa.array(repeated, pa.large_string()),
            "category": categories.cast(pa.dictionary(pa.int16(), pa.string())),
            "full": pa.array([f"c{number % 128}" for number in range(1_000)])
            .dictionary_encode()
            .cast(pa.dictionary(pa.int8(), pa.string())),
            "bytes": pa.array([None if text is None else text.encode() for text in repeated]),
            "own": [f"{number}" for number in range(1_000)],
            "nothing": pa.nulls(1_000, pa.string()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=300)
    reader = TableReader(tmp_path / "t.parquet", chunk_rows=64)
    found: dict[str, list[str]] = {name: [] for name in table.column_names}
    for rows in reader:
        for name, cells in rows.columns.items():
            found[name] += cells
    for name in ("plain", "large", "category", "bytes"):
        assert found[name] == expected, name
    assert found["full"] == [f"c{number % 128}" for number in range(1_000)]
    assert found["own"] == [str(number) for number in range(1_000)]
    assert found["nothing"] == [""] * 1_000


def test_a_cell_beyond_what_csv_may_hold_is_a_bad_row(tmp_path: Path) -> None:
    long, longest = "x" * 200_000, "x" * (17 << 20)
    assert read(save(tmp_path, "t.csv", f'A,B\n"{long}",1\n{long},2\n'), ["B"]) == {"B": ["1", "2"]}
    for cell in (longest, f'"{longest}"'):
        reader = TableReader(save(tmp_path, "t.csv", f"A,B\n{cell},1\n3,4\n"), on_error="skip")
        assert [rows.columns for rows in reader] == [{"A": ["3"], "B": ["4"]}]
        assert reader.first_errors == [
            "line 2: longer than 16 MiB, the most that is read of a row (--max-row-mb)"
        ]


def test_semicolons_separate_where_no_comma_does(tmp_path: Path) -> None:
    path = save(tmp_path, "t.csv", 'ID;"TEXT, ES"\n1;"uno; dos"\n2;a,b\n')
    assert read(path) == {"ID": ["1", "2"], "TEXT, ES": ["uno; dos", "a,b"]}


def test_a_csv_with_tabs_is_read_as_tsv(tmp_path: Path) -> None:
    content = 'ID\tTEXT\tCLASS\n1\t"Hola, tú\t0\n2\tadiós\t1\n'
    assert read(save(tmp_path, "t.csv", content))["TEXT"] == ['"Hola, tú', "adiós"]
    assert read(save(tmp_path, "t.csv", 'ID,"A\tB"\n1,"x, y"\n'))["A\tB"] == ["x, y"]
    # Told to be CSV, it is one column with tabs in its name.
    assert TableReader(save(tmp_path, "t.csv", "ID\tTEXT\n1\thola\n"), reading=Reading("csv")).names == (
        "ID\tTEXT",
    )


# --- JSONL, Parquet, plain lines -----------------------------------------------------------------------


def test_json_values_become_their_text(tmp_path: Path) -> None:
    line = '{"T": "a\\tb\\u00f1", "n": 1234567890123456789012, "f": 1.50, "e": 1E-3, "t": true, "z": null}\n'
    assert read(save(tmp_path, "t.jsonl", line)) == {
        "T": ["a\tbñ"],
        "n": ["1234567890123456789012"],
        "f": ["1.50"],
        "e": ["1E-3"],
        "t": ["true"],
        "z": [""],
    }


def test_bad_json_rows_say_what_and_where(tmp_path: Path) -> None:
    lines = [
        '{"T": "a", "C": [1]}',
        '{"C": 1}',
        '{"T": {}}',
        '{"T": [1]}',
        "",
        "[1]",
        '{"T": "x',
        '{"T": "\\ud83d"}',
    ]
    lines += ["[" * 100_000, '{"T": "\\ud83d\\ude00"}']
    path = save(tmp_path, "t.jsonl", "\n".join(lines) + "\n")
    reader = TableReader(path, ["T"], on_error="mark")
    (rows,) = reader
    assert rows.columns["T"][0] == "a"  # the nested value is in a column that nobody asked for
    assert rows.columns["T"][-1] == "😀"
    assert rows.columns["T"][4] == ""  # a blank line is a row of empty cells
    assert sorted(rows.errors) == [1, 2, 3, 5, 6, 7, 8]
    assert rows.errors[1] == "no key 'T'"
    assert rows.errors[2] == "key 'T' holds an object"
    assert rows.errors[3] == "key 'T' holds an array"
    assert rows.errors[5] == "not a JSON object"
    assert rows.errors[6].startswith("not JSON: Unterminated string")
    assert "half a character" in rows.errors[7]
    with pytest.raises(DataError, match="line 2: no key 'T'"):
        read(path, ["T"])


def test_names_of_jsonl_are_those_of_its_first_lines(tmp_path: Path) -> None:
    path = save(tmp_path, "t.ndjson", 'roto\n{"B": 1, "A": 2}\n{"A": 3, "C": 5}\n')
    reader = TableReader(path, on_error="skip")
    assert reader.names == ("B", "A", "C")
    (rows,) = reader
    assert (rows.numbers, reader.skipped) == ([2, 3], 1)
    assert rows.columns == {"B": ["1", ""], "A": ["2", "3"], "C": ["", "5"]}
    with pytest.raises(DataError, match="line 1: not JSON"):
        TableReader(save(tmp_path, "u.jsonl", "esto no es JSON\n"))


def test_whole_numbers_in_a_column_of_floats_are_written_as_such(tmp_path: Path) -> None:
    ids = [1234567890123.0, None, 0.25, -7.0, float(2**53 - 1), 1e300, float("nan")]
    pq.write_table(pa.table({"ID": pa.array(ids, pa.float64())}), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", ["ID"])["ID"]
    assert found[:5] == ["1234567890123", "", "0.25", "-7", "9007199254740991"]
    assert float(found[5]) == 1e300
    assert found[6] == ""


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("type_", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_nan_among_floats_is_missing_as_null_is(tmp_path: Path, type_: pa.DataType, coded: bool) -> None:
    numbers = np.array([3, np.nan, 0.5, np.inf, -np.inf, -np.nan], type_.to_pandas_dtype())
    column = pa.concat_arrays([pa.array(numbers, type_), pa.nulls(1, type_)])
    if coded and type_ != pa.float16():  # which Arrow has no dictionaries of
        column = column.dictionary_encode()
    pq.write_table(pa.table({"N": column}), tmp_path / "t.parquet", use_dictionary=coded)
    assert read(tmp_path / "t.parquet") == {"N": ["3", "", "0.5", "inf", "-inf", "", ""]}


def test_nan_of_json_is_missing_as_null_is_and_the_word_stays(tmp_path: Path) -> None:
    cells = ["NaN", "null", '"NaN"', '"nan"', "Infinity", "-Infinity", '" NaN"', "NaN"]
    path = save(tmp_path, "t.jsonl", "".join(f'{{"T": {cell}, "C": 1}}\n' for cell in cells))
    assert read(path, ["T"])["T"] == ["", "", "NaN", "nan", "Infinity", "-Infinity", " NaN", ""]
    # Inside what is no cell it stays there.
    path = save(tmp_path, "t.jsonl", '{"T": 1, "C": {"a": NaN}}\n{"T": 2, "C": [NaN]}\n')
    assert read(path, ["T"])["T"] == ["1", "2"]
    reader = TableReader(path, ["C"], on_error="mark")
    assert [cell for rows in reader for cell in rows.columns["C"]] == ["", ""]
    assert reader.first_errors == ["line 1: key 'C' holds an object", "line 2: key 'C' holds an array"]


def test_parquet_cells_become_texts(tmp_path: Path) -> None:
    table = pa.table({
        "s": pa.array(["hola", None, "ñ"]),
        "i": pa.array([1, None, -3], pa.int64()),
        "f": pa.array([0.5, 1.0, None], pa.float32()),
        "b": pa.array([True, False, None]),
        "d": pa.array(["x", "y", "x"]).dictionary_encode(),
        "l": pa.array([[1], [2], []]),
        "bytes": pa.array([b"ok", b"\xf1", b"si"]),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    assert read(tmp_path / "t.parquet", ["d", "s", "i", "f", "b"]) == {
        "d": ["x", "y", "x"],
        "s": ["hola", "", "ñ"],
        "i": ["1", "", "-3"],
        "f": ["0.5", "1", ""],
        "b": ["true", "false", ""],
    }
    assert line_numbers(tmp_path / "t.parquet", columns=["s"], chunk_rows=2) == [1, 2, 3]
    with pytest.raises(DataError, match="column 'l' holds list"):
        TableReader(tmp_path / "t.parquet", ["s", "l"])
    reader = TableReader(tmp_path / "t.parquet", ["bytes", "s"], on_error="mark")
    assert [text for rows in reader for text in rows.columns["bytes"]] == ["ok", "", "si"]
    assert reader.first_errors == ["row 2: bytes that are no text in UTF-8"]


def test_plain_lines_are_texts_tabs_and_all(tmp_path: Path) -> None:
    path = save(tmp_path, "t.txt", "TEXT\n\nun\ttabulador\n")
    assert read(path) == {"TEXT": ["TEXT", "", "un\ttabulador"]}
    assert line_numbers(path) == [1, 2, 3]


@pytest.mark.parametrize(("name", "tab"), [("pares.tsv", "\t"), ("pares.csv", "\t"), ("pares.csv", ",")])
def test_columns_of_a_table_without_header_are_numbered(tmp_path: Path, name: str, tab: str) -> None:
    rows = [["1", "hola", "2", "qué tal"], ["3", "sí", "4", "no"]]
    path = save(tmp_path, name, "".join(tab.join(row) + "\n" for row in rows))
    assert TableReader(path, reading=Reading(header=False)).names == ("1", "2", "3", "4")
    assert read(path, ["4", "2"], reading=Reading(header=False)) == {
        "4": ["qué tal", "no"],
        "2": ["hola", "sí"],
    }
    assert line_numbers(path, reading=Reading(header=False)) == [1, 2]


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    for name, content in (("t.tsv", "ID\tTEXT"), ("t.csv", "ID,TEXT\n")):
        assert read(save(tmp_path, name, content)) == {"ID": [], "TEXT": []}


# --- what is no table --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", b"", "is empty"),
        ("t.tsv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("t.parquet", b"", "is not Parquet"),
        ("t.tsv", gzip.compress(b"ID\tTEXT\n", mtime=0), r"gzip: let its name end in \.gz"),
        ("t.tsv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG"),
        ("t.tsv", b"PK\x03\x04\x14\0\0\0", "zip"),
        ("t.tsv", pickle.dumps(["hola"] * 3), "pickle"),
        ("t.tsv", b"ID\tTEXT\n" + bytes(4096), "NUL"),
        ("t.tsv", "ID\tTEXT\n1\thola\n".encode("utf-16"), "UTF-16"),
        ("t.tsv", "ID\tTEXT\n1\thola\n".encode("utf-16-le"), "NUL"),
        ("t.tsv", "ID\tAÑO\n1\thola\n".encode("latin-1"), "not UTF-8"),
        ("t.tsv.gz", b"ID\tTEXT\n1\thola\n", "cannot be decompressed as gzip"),
        ("t.tsv.zst", b"ID\tTEXT\n1\thola\n", "cannot be decompressed as zstd"),
        ("t.parquet", b"ID\tTEXT\n1\thola\n", "is not Parquet"),
        ("t.tsv", b"ID\tTEXT\tID\n", "more than one column is called 'ID'"),
        ("t.csv", b"ID,TEXT,ID\n", "more than one column is called 'ID'"),
        ("t.doc", b"hola", "the ending of its name"),
        ("t.parquet.gz", b"hola", "compressed inside"),
    ],
)
def test_what_is_no_table_is_refused_at_once(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = save(tmp_path, name, content)
    with pytest.raises(DataError, match=message) as caught:
        TableReader(path, on_error="skip")
    assert str(caught.value).startswith(str(path))


def test_absent_files_and_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.tsv").mkdir()
    for name, message in (
        ("no.tsv", "no such file"),
        ("no.parquet", "no such file"),
        ("d.tsv", "is a folder"),
    ):
        with pytest.raises(DataError, match=message):
            TableReader(tmp_path / name)
    with pytest.raises(ConfigError, match="unknown table format 'xls'"):
        TableReader(tmp_path / "no.tsv", reading=Reading("xls"))


def test_parquet_with_one_name_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["T", "T"]), tmp_path / "t.parquet"
    )
    with pytest.raises(DataError, match="more than one column is called 'T'"):
        TableReader(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["t.tsv.gz", "t.tsv.zst", "t.parquet"])
def test_a_file_cut_short_is_an_error_and_not_a_shorter_table(tmp_path: Path, name: str) -> None:
    texts = [os.urandom(40).hex() for _ in range(40_000)]
    write(tmp_path / name, {"TEXT": texts, "ID": texts})
    path = save(tmp_path, name, (tmp_path / name).read_bytes()[:-5000])
    with pytest.raises(DataError, match=f"{name}.*cut short"):
        read(path, on_error="skip")


def test_damage_inside_parquet_is_an_error_of_that_file(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", {"TEXT": [os.urandom(40).hex() for _ in range(20_000)]})
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[4:4000] = os.urandom(3996)
    with pytest.raises(DataError, match=r"t\.parquet: is not Parquet, or is damaged"):
        read(save(tmp_path, "t.parquet", bytes(content)))


def test_a_missing_column_names_those_found_and_the_nearest(tmp_path: Path) -> None:
    path = save(tmp_path, "t.tsv", "ID\tTWEET\tCLASS\n1\thola\t0\n")
    with pytest.raises(
        DataError, match="no column 'tweets': the columns are ID, TWEET, CLASS; did you mean 'TWEET'"
    ):
        TableReader(path, ["ID", "tweets"])
    long = save(tmp_path, "u.tsv", "hola " * 50 + "\tx\n")
    with pytest.raises(DataError) as caught:
        TableReader(long, ["TEXT"])
    assert len(str(caught.value)) < len(str(long)) + 150


def test_format_may_be_told_against_the_ending(tmp_path: Path) -> None:
    assert read(save(tmp_path, "t.csv", "A,B\n1\t2\n"), reading=Reading("txt")) == {"TEXT": ["A,B", "1\t2"]}
    packed = gzip.compress(b'{"A": 1}\n')
    assert read(save(tmp_path, "datos.gz", packed), reading=Reading("jsonl")) == {"A": ["1"]}
    assert read(save(tmp_path, "datos", packed), reading=Reading("jsonl.gz")) == {"A": ["1"]}
    assert read(save(tmp_path, "T.TSV.GZ", gzip.compress(b"A\n") + gzip.compress(b"1\n"))) == {"A": ["1"]}


def test_an_optional_column_is_read_where_the_table_has_it(tmp_path: Path) -> None:
    for form in ("tsv", "csv", "jsonl", "parquet"):
        write(tmp_path / f"with.{form}", {"TEXT": ["hola"], "ID": ["7"]})
        write(tmp_path / f"without.{form}", {"TEXT": ["hola"]})
        for name, expected in (("with", {"TEXT": ["hola"], "ID": ["7"]}), ("without", {"TEXT": ["hola"]})):
            reader = TableReader(tmp_path / f"{name}.{form}", ["TEXT"], optional=["ID"])
            assert [rows.columns for rows in reader] == [expected], (form, name)


# --- streams -----------------------------------------------------------------------------------------


def test_a_row_of_jsonl_may_lack_what_is_optional_and_nothing_else(tmp_path: Path) -> None:
    path = save(tmp_path, "t.jsonl", '{"ID": 1, "T": "a"}\n{"T": "b"}\n{"ID": 3}\n')
    (rows,) = TableReader(path, ["T"], optional=["ID"], on_error="mark")
    assert (rows.columns, rows.errors) == ({"T": ["a", "b", ""], "ID": ["1", "", ""]}, {2: "no key 'T'"})
    (rows,) = TableReader(path, ["ID", "T"], optional=["ID"], on_error="mark")
    assert rows.errors == {1: "no key 'ID'", 2: "no key 'T'"}


def test_blank_lines_alone_are_no_jsonl(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JSONL has one object per line"):
        TableReader(save(tmp_path, "t.jsonl", "\n\n"))


def test_standard_input_is_read_once_and_without_seeking(tmp_path: Path) -> None:
    script = (
        "from twil.config.reading import Reading\n"
        "from twil.data.tables.tables import TableReader, TableWriter\n"
        "import sys\n"
        "reader = TableReader('-', ['T'], reading=Reading(sys.argv[1]))\n"
        "with TableWriter('-', {'T': str}, format=sys.argv[1]) as writer:\n"
        "    for rows in reader: writer.write(rows.columns)\n"
    )
    texts = [f"texto número {i}" for i in range(20_000)]
    for form in ("tsv", "csv", "jsonl", "parquet", "tsv.gz", "jsonl.zst"):
        path = tmp_path / f"t.{form}"
        write(path, {"T": texts})
        done = subprocess.run(
            [sys.executable, "-c", script, form], input=path.read_bytes(), capture_output=True, check=True
        )
        assert read(save(tmp_path, f"out.{form}", done.stdout), ["T"])["T"] == texts, form
        assert done.stderr == b""


def test_a_stream_cannot_be_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"T\nhola\n"), encoding="utf-8"))
    reader = TableReader("-")
    assert [rows.columns for rows in reader] == [{"T": ["hola"]}]
    with pytest.raises(DataError, match="read only once"):
        list(reader)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_rows_of_a_pipe_come_before_it_ends(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.tsv"
    os.mkfifo(pipe)
    seen = threading.Event()

    def feed() -> None:
        with pipe.open("wb", buffering=0) as file:
            file.write(b"T\n")
            file.write(b"uno\n")
            assert seen.wait(30)
            file.write(b"dos\n")

    thread = threading.Thread(target=feed)
    thread.start()
    texts = []
    for rows in TableReader(pipe):
        texts += rows.columns["T"]
        seen.set()
    thread.join()
    assert texts == ["uno", "dos"]


@pytest.mark.parametrize("form", ["tsv", "jsonl.gz", "parquet"])
def test_a_closed_pipe_is_not_hidden(form: str) -> None:
    script = (
        "import os, sys\n"
        "from twil.data.tables.tables import TableWriter\n"
        "try:\n"
        "    with TableWriter('-', {'T': str}, format=sys.argv[1]) as writer:\n"
        "        for _ in range(100): writer.write({'T': [os.urandom(50).hex() for _ in range(5000)]})\n"
        "except BrokenPipeError:\n"
        "    os._exit(3)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, form], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(60) == 3


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str) -> None:
    def peak(rows: int) -> int:
        path = tmp_path / f"t{rows}.{suffix}"
        with TableWriter(path, {"ID": str, "TEXT": str}) as writer:
            for start in range(0, rows, 2000):
                texts = [f"un tuit cualquiera, el número {i}" for i in range(start, start + 2000)]
                writer.write({"ID": texts, "TEXT": texts})
        tracemalloc.start()
        try:
            assert sum(len(rows.numbers) for rows in TableReader(path, ["TEXT"], chunk_rows=256)) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK_BYTES", 1 << 16)
        assert peak(40_000) < 1.1 * peak(2000)


# --- writing -----------------------------------------------------------------------------------------

# Neither a byte-order mark nor a NUL may lead a text file; a line break is no text of a TSV cell.
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=20)


@pytest.mark.parametrize("suffix", [*FORMATS, "txt"])
@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12), chunk_rows=st.integers(1, 5))
def test_what_is_written_is_read_back(suffix: str, rows: list[tuple[str, str]], chunk_rows: int) -> None:
    if suffix.startswith(("tsv", "txt")):
        rows = [(a.translate(_NO_BREAKS), b.translate(_NO_BREAKS)) for a, b in rows]
    table = (
        {"TEXT": [a for a, _ in rows]}
        if suffix == "txt"
        else {"A": [a for a, _ in rows], "TEXT": [b for _, b in rows]}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t.{suffix}"
        with TableWriter(path, dict.fromkeys(table, str)) as writer:
            for start in range(0, len(rows), 5):
                writer.write({name: cells[start : start + 5] for name, cells in table.items()})
        assert writer.altered == 0
        assert read(path, chunk_rows=chunk_rows) == table


_NO_BREAKS = str.maketrans({"\t": "_", "\n": "_", "\r": "_"})


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "tsv"])
def test_odd_names_and_a_single_empty_column_survive(tmp_path: Path, suffix: str) -> None:
    names = ["un nombre"] if suffix == "tsv" else ["a;b", 'di "eso"', "x,y", "t\tz"]
    for columns in (names[:1], names):
        table = {name: ["", "x", ""] for name in columns}
        write(tmp_path / f"t.{suffix}", table)
        assert read(tmp_path / f"t.{suffix}") == table


def test_breaks_become_blanks_in_tsv_and_are_counted(tmp_path: Path) -> None:
    table = {"A": ["uno\tdos", "x", "\r"], "B": ["a\r\nb\nc", "limpio\u2028", "z"]}
    assert write(tmp_path / "t.tsv", table) == 3
    assert read(tmp_path / "t.tsv") == {"A": ["uno dos", "x", " "], "B": ["a b c", "limpio\u2028", "z"]}
    assert (tmp_path / "t.tsv").read_bytes().count(b"\n") == 4
    assert write(tmp_path / "t.csv", table) == 0
    assert read(tmp_path / "t.csv") == table


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        ("tsv", b"T\tp\na\t0.123457\nb\t1e-07\nc\t1\nd\t\n"),
        ("csv", b"T,p\na,0.123457\nb,1e-07\nc,1\nd,\n"),
        (
            "jsonl",
            b'{"T": "a", "p": 0.123457}\n{"T": "b", "p": 1e-07}\n{"T": "c", "p": 1}\n{"T": "d", "p": null}\n',
        ),
    ],
)
def test_numbers_have_six_digits_in_text(tmp_path: Path, suffix: str, expected: bytes) -> None:
    probabilities = np.array([0.12345678, 1e-7, 1.0, np.nan], dtype=np.float32)
    with TableWriter(tmp_path / f"t.{suffix}", {"T": str, "p": float}) as writer:
        writer.write({"p": probabilities, "T": list("abcd")})
    assert (tmp_path / f"t.{suffix}").read_bytes() == expected


def test_numbers_are_float32_in_parquet_and_rows_share_groups(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 7000, dtype=np.float32)
    with TableWriter(tmp_path / "t.parquet", {"p": float, "T": str}) as writer:
        for _ in range(20):
            writer.write({"p": values, "T": ["hola"] * 7000})
        writer.write({"p": [float("nan")], "T": [""]})
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert file.schema_arrow.types == [pa.float32(), pa.string()]
    assert (file.metadata.num_row_groups, file.metadata.num_rows) == (2 + 1, 140_001)
    column = file.read()["p"]
    assert column.null_count == 1
    np.testing.assert_array_equal(column[:7000].to_numpy(), values)


def fail_half_way(path: Path) -> None:
    with TableWriter(path, {"TEXT": str}) as writer:
        writer.write({"TEXT": ["hola"] * 1000})
        raise RuntimeError("en medio")


@pytest.mark.parametrize("suffix", [*FORMATS, "txt"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path, f"t.{suffix}", b"lo anterior")
    with pytest.raises(RuntimeError, match="en medio"):
        fail_half_way(path)
    assert path.read_bytes() == b"lo anterior"
    assert list(tmp_path.iterdir()) == [path]


def test_outputs_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one column, not 2"):
        TableWriter(tmp_path / "t.txt", {"A": str, "B": str})
    with pytest.raises(DataError, match="the ending"):
        TableWriter(tmp_path / "salida", {"A": str})
    (tmp_path / "d.tsv").mkdir()
    with pytest.raises(DataError, match="is a folder"), TableWriter(tmp_path / "d.tsv", {"A": str}):
        pass
    with pytest.raises(TwilError, match="no folder"), TableWriter(tmp_path / "no" / "t.tsv", {"A": str}):
        pass
    with pytest.raises(ValueError, match="are wanted"), TableWriter(tmp_path / "t.tsv", {"A": str}) as writer:
        writer.write({"B": ["x"]})
    assert [path.name for path in tmp_path.iterdir()] == ["d.tsv"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.tsv"
    os.mkfifo(pipe)
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    thread.start()
    write(pipe, {"T": ["hola"]})
    thread.join(30)
    assert received == [b"T\nhola\n"]
    assert pipe.is_fifo()


# --- files that change while they are read -------------------------------------------------------------

CHANGED = "changed while it was read: run again once nothing writes to it"


def write_many(path: Path) -> Path:
    """Write a table of many blocks, and of many row groups in Parquet."""
    if path.suffix == ".parquet":
        texts = [f"otra vez el {row}" for row in range(5000)]
        pq.write_table(pa.table({"ID": list(range(5000)), "TEXT": texts}), path, row_group_size=500)
    else:
        write(
            path,
            {"ID": [str(row) for row in range(5000)], "TEXT": [f"otra vez {row}" for row in range(5000)]},
        )
    return path


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("suffix", [*FORMATS, "txt"])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, how: str
) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 12)
    path = tmp_path / f"t.{suffix}"
    if suffix == "txt":
        save(tmp_path, path.name, "otra vez llueve\n" * 5000)
    else:
        write_many(path)
    for on_error in ("fail", "skip", "mark"):  # whatever is left of the row where it was cut
        before = path.read_bytes()
        rows = iter(TableReader(path, on_error=on_error, chunk_rows=100))
        assert next(rows).numbers
        change(path, how)
        with pytest.raises(DataError, match=CHANGED) as caught:
            for _ in rows:
                pass
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        path.write_bytes(before)


@pytest.mark.parametrize("suffix", ["tsv", "jsonl.gz", "parquet"])
def test_every_pass_reads_the_same_file(tmp_path: Path, suffix: str) -> None:
    path = write_many(tmp_path / f"t.{suffix}")
    for how in CHANGES:
        before = path.read_bytes()
        reader = TableReader(path)
        assert reader.count_rows() == 5000
        change(path, how)
        for again in (reader.count_rows, lambda reader=reader: list(reader)):
            with pytest.raises(DataError, match=CHANGED):
                again()
        path.write_bytes(before)
    reader = TableReader(path)
    assert next(iter(reader)).numbers
    assert reader.count_rows() == sum(len(rows.numbers) for rows in reader) == 5000


@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz", "parquet"])
def test_a_file_that_is_replaced_is_read_to_its_end_and_by_no_further_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 12)
    path, other = write_many(tmp_path / f"t.{suffix}"), tmp_path / f"other.{suffix}"
    write(other, {"ID": ["1"], "TEXT": ["por fin sale el sol"]})
    reader = TableReader(path, chunk_rows=100)
    rows = iter(reader)
    read_so_far = len(next(rows).numbers)
    other.replace(path)
    assert read_so_far + sum(len(run.numbers) for run in rows) == 5000
    with pytest.raises(DataError, match=CHANGED):
        list(reader)
    assert read(path)["TEXT"] == ["por fin sale el sol"]


@pytest.mark.parametrize("suffix", ["tsv", "csv.gz", "jsonl", "parquet"])
def test_who_has_read_enough_of_a_file_does_not_ask_whether_it_changed(tmp_path: Path, suffix: str) -> None:
    path = write_many(tmp_path / f"t.{suffix}")
    rows = iter(TableReader(path, chunk_rows=100))
    next(rows)
    change(path, "appended")
    rows.close()  # type: ignore[attr-defined]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no descriptors by name here")
def test_what_comes_from_a_descriptor_may_grow(tmp_path: Path) -> None:
    path = write_many(tmp_path / "t.tsv")
    with path.open("rb") as file:
        rows = iter(TableReader(f"/dev/fd/{file.fileno()}", reading=Reading("tsv"), chunk_rows=100))
        read_so_far = len(next(rows).numbers)
        change(path, "appended")
        assert read_so_far + sum(len(run.numbers) for run in rows) == 5001


def test_a_table_may_be_written_over_the_one_being_read(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write(path, {"T": [str(i) for i in range(10_000)]})
    with TableWriter(path, {"T": str}) as writer:
        for rows in TableReader(path):
            writer.write({"T": [cell + "!" for cell in rows.columns["T"]]})
    assert read(path)["T"] == [f"{i}!" for i in range(10_000)]


def test_real_tables_of_the_original_have_a_row_per_line(shared: Path) -> None:
    tables = sorted((shared / "data" / "twilbert" / "downstream_tasks").rglob("*.csv"))
    assert tables
    for path in tables:
        lines = path.read_bytes().removesuffix(b"\n").count(b"\n")  # below the header
        assert len(line_numbers(path, on_error="mark")) == lines, path


def test_a_file_of_another_encoding_is_told_with_its_cure(tmp_path: Path) -> None:
    path = tmp_path / "latin.tsv"
    path.write_bytes("TEXT\nmañana\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.tsv, line 2: not UTF-8: .* \(--encoding latin-1"):
        list(TableReader(path))


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz", "t.jsonl", "t.parquet"])
def test_how_many_rows_there_are_is_known_ahead_from_those_that_were_read(tmp_path: Path, name: str) -> None:
    texts = [f"un tuit sobre el barrio, el número {number:06}" for number in range(60_000)]
    paths = [tmp_path / f"{part}{name}" for part in "ab"]
    for path in paths:
        with TableWriter(path, {"TEXT": str}) as writer:
            writer.write({"TEXT": texts})
    tables = TableSet(paths, ["TEXT"])
    assert tables.expected_rows() is None  # nothing has been read
    expected = [tables.expected_rows() for _ in tables.windows(4096)]
    assert expected[-1] == 120_000
    assert expected[len(expected) // 4] == pytest.approx(120_000, rel=0.3)


def test_the_share_of_files_that_was_read_grows_to_the_whole(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.tsv", "b.tsv")]
    for path in paths:
        path.write_text("TEXT\n" + "un tuit del barrio\n" * 200_000, encoding="utf-8")
    files = [streams.InputFile(path) for path in paths]
    tables = [TableReader(file) for file in files]
    shares = [streams.share_read(files) for table in tables for _ in table]
    assert shares == sorted(shares, key=float)  # type: ignore[arg-type]  # none is a stream
    assert shares[0] is not None
    assert shares[0] < 0.5
    assert shares[-1] == 1
