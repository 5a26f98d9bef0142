from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_cells

from twil.config.reading import Reading
from twil.core.errors import ConfigError, DataError
from twil.data.corpus.pairs import PairColumns, PairReader, PairRows, read_pairs

ROWS = [
    ("11", "¿Quién viene mañana al partido?", "12", "@ana Yo voy con mi hermano, seguro"),
    ("12", "Yo voy con mi hermano, seguro", "13", 'Dile que traiga la "roja" de siempre'),
]
TEXTS = [row[1] for row in ROWS]
REPLIES = [row[3] for row in ROWS]


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def tsv(path: Path, *rows: tuple[str, ...]) -> Path:
    return write_lines(path, *("\t".join(row) for row in rows))


def read(path: Path, *args: PairColumns, **options: object) -> PairRows:
    (rows,) = read_pairs(path, *args, **options)  # type: ignore[arg-type]
    return rows


def assert_is_pairs(rows: PairRows, *, ids: bool = True) -> None:
    assert rows.first == TEXTS
    assert rows.second == REPLIES
    assert rows.first_ids == ([row[0] for row in ROWS] if ids else ["", ""])
    assert rows.second_ids == ([row[2] for row in ROWS] if ids else ["", ""])


def test_columns_are_found_by_their_names_in_any_order(tmp_path: Path) -> None:
    swapped = [(d, c, "x", b, a) for a, b, c, d in ROWS]
    path = tsv(tmp_path / "p.tsv", ("REPLY_TEXT", "reply_id", "LANG", "ORIG_TEXT", "ORIG_ID"), *swapped)
    rows = read(path)
    assert_is_pairs(rows)
    assert rows.numbers == [2, 3]


def test_four_columns_without_a_header_lose_no_row(tmp_path: Path) -> None:
    rows = read(tsv(tmp_path / "p.tsv", *ROWS))
    assert_is_pairs(rows)
    assert rows.numbers == [1, 2]


def test_two_columns_without_a_header_are_pairs_without_ids(tmp_path: Path) -> None:
    assert_is_pairs(read(tsv(tmp_path / "p.tsv", *((row[1], row[3]) for row in ROWS))), ids=False)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_ids_and_texts_that_are_nan_are_empty(tmp_path: Path, ending: str) -> None:
    nan = float("nan")
    path = write_cells(
        tmp_path / f"p.{ending}",
        ORIG_ID=[11.0, nan],
        ORIG_TEXT=TEXTS,
        REPLY_ID=[nan, 13.0],
        REPLY_TEXT=[nan, 4.0],
    )
    rows = read(path)
    assert (rows.first, rows.second) == (TEXTS, ["", "4" if ending == "parquet" else "4.0"])
    assert [name.removesuffix(".0") for name in rows.first_ids + rows.second_ids] == ["11", "", "", "13"]


def test_a_first_row_of_equal_cells_is_no_header(tmp_path: Path) -> None:
    rows = read(tsv(tmp_path / "p.tsv", ("1", "jaja qué bueno", "1", "jaja qué bueno")))
    assert (rows.first, rows.second) == (["jaja qué bueno"], ["jaja qué bueno"])


def test_the_header_of_the_evaluation_files_is_known(tmp_path: Path) -> None:
    path = tsv(tmp_path / "p.tsv", ("TWEET", "REPLY", "LABEL"), *((row[1], row[3], "1") for row in ROWS))
    assert_is_pairs(read(path), ids=False)


def test_tabs_in_a_file_called_csv_are_understood(tmp_path: Path) -> None:
    assert_is_pairs(read(tsv(tmp_path / "p.csv", *ROWS)))


def test_quoted_commas_of_a_csv_stay_in_their_text(tmp_path: Path) -> None:
    lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in ROWS]
    path = write_lines(tmp_path / "p.csv", "ORIG_ID,ORIG_TEXT,REPLY_ID,REPLY_TEXT", *lines)
    assert_is_pairs(read(path))


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    names = ("ORIG_ID", "ORIG_TEXT", "REPLY_ID", "REPLY_TEXT")
    plain = tsv(tmp_path / "p.tsv", names, *ROWS)
    (tmp_path / "p.tsv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    objects = [dict(zip(names, row, strict=True)) for row in ROWS]
    write_lines(
        tmp_path / "p.jsonl", *(json.dumps(value | {"ORIG_ID": int(value["ORIG_ID"])}) for value in objects)
    )
    pq.write_table(pa.Table.from_pylist(objects), tmp_path / "p.parquet")
    for name in ("p.tsv", "p.tsv.gz", "p.jsonl", "p.parquet"):
        assert_is_pairs(read(tmp_path / name))


def test_a_row_of_jsonl_may_lack_its_ids(tmp_path: Path) -> None:
    first = {"ORIG_ID": "11", "ORIG_TEXT": TEXTS[0], "REPLY_TEXT": REPLIES[0]}
    second = {"ORIG_TEXT": TEXTS[1], "REPLY_TEXT": REPLIES[1]}
    rows = read(write_lines(tmp_path / "p.jsonl", json.dumps(first), json.dumps(second)))
    assert rows.first_ids == ["11", ""]
    assert rows.second_ids == ["", ""]


@pytest.mark.parametrize("header", [("ID", "TEXT", "SOURCE"), ("id", "text", "source")])
def test_single_texts_have_no_second(tmp_path: Path, header: tuple[str, ...]) -> None:
    rows = read(tsv(tmp_path / "t.tsv", header, ("7", "Hoy llueve en Bilbao", "x")))
    assert rows == PairRows([2], ["7"], ["Hoy llueve en Bilbao"], [""], None)


def test_plain_lines_are_single_texts_whatever_columns_others_have(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.txt", "Hoy llueve en Bilbao", "Mañana\tno")
    rows = read(path, PairColumns(first="tuit", second="respuesta"))
    assert rows == PairRows([1, 2], ["", ""], ["Hoy llueve en Bilbao", "Mañana\tno"], ["", ""], None)


def test_columns_are_taken_by_the_names_that_are_asked_for(tmp_path: Path) -> None:
    path = tsv(tmp_path / "p.tsv", ("a", "tuit", "b", "respuesta"), *ROWS)
    assert_is_pairs(read(path, PairColumns("a", "tuit", "b", "respuesta")))
    assert read(path, PairColumns(first="respuesta")).second is None


@pytest.mark.parametrize("header", [None, False])
def test_columns_without_a_header_are_taken_by_number(tmp_path: Path, header: bool | None) -> None:
    path = tsv(tmp_path / "p.tsv", *((a, b, "es", c, d) for a, b, c, d in ROWS))
    assert_is_pairs(read(path, PairColumns("1", "2", "4", "5"), reading=Reading(header=header)))


def test_a_header_that_reads_like_a_row_can_be_told(tmp_path: Path) -> None:
    path = tsv(tmp_path / "p.tsv", ("pregunta", "respuesta"), *((row[1], row[3]) for row in ROWS))
    columns = PairColumns(first="pregunta", second="respuesta")
    assert_is_pairs(read(path, columns, reading=Reading(header=True)), ids=False)


def test_a_table_that_does_not_tell_its_columns_names_the_options(tmp_path: Path) -> None:
    path = tsv(tmp_path / "p.tsv", ("a", "b", "c"), ("1", "2", "3"))
    with pytest.raises(DataError, match=r"p\.tsv: .*\(a, b, c\).*--first and --second.*--no-header"):
        PairReader(path)


def test_a_missing_column_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    path = tsv(tmp_path / "p.tsv", ("ORIG_ID", "ORIG_TEXT", "REPLY_ID", "REPLY_TEXT"), *ROWS)
    with pytest.raises(DataError, match=r"no column 'REPLYTEXT'.*did you mean 'REPLY_TEXT'"):
        PairReader(path, PairColumns(first="ORIG_TEXT", second="REPLYTEXT"))


def test_bad_rows_fail_with_their_line_or_are_counted(tmp_path: Path) -> None:
    path = tsv(tmp_path / "p.tsv", ROWS[0], ("suelto",), ROWS[1])
    with pytest.raises(DataError, match=r"p\.tsv, line 2: 1 field, expected 4"):
        list(PairReader(path))
    reader = PairReader(path, on_error="skip")
    (rows,) = reader
    assert_is_pairs(rows)
    assert rows.numbers == [1, 3]
    assert (reader.skipped, reader.first_errors) == (1, ["line 2: 1 field, expected 4"])


def test_ids_of_texts_that_are_not_named_are_refused() -> None:
    with pytest.raises(ConfigError, match="name it too"):
        PairColumns(second="respuesta")
    with pytest.raises(ConfigError, match="name it too"):
        PairColumns(first="tuit", second_id="id")


def test_a_column_cannot_hold_both_texts() -> None:
    with pytest.raises(ConfigError, match="cannot hold both texts"):
        PairColumns(first="tuit", second="tuit")


@pytest.mark.parametrize("start", [b"\n", b"\xef\xbb\xbf", b"\n1\ta\t2\tb\n"])
def test_a_table_that_begins_with_a_blank_line_is_refused(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "p.tsv").write_bytes(start)
    with pytest.raises(DataError, match=r"p\.tsv: its first line is blank"):
        PairReader(tmp_path / "p.tsv")


def test_streams_and_other_ways_with_bad_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="save the stream"):
        PairReader("-")
    with pytest.raises(ConfigError, match="fail, skip"):
        PairReader(tsv(tmp_path / "p.tsv", *ROWS), on_error="mark")


def test_selected_rows_keep_all_their_columns() -> None:
    rows = PairRows([1, 2, 3], ["a", "b", "c"], ["x", "y", "z"], ["d", "e", "f"], ["u", "v", "w"])
    assert rows.select([2, 0]) == PairRows([3, 1], ["c", "a"], ["z", "x"], ["f", "d"], ["w", "u"])
