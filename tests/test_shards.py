"""Shards: parts of a table that together are the table, whatever its format."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import write_bundle
from hypothesis import given
from hypothesis import strategies as st

from twil.data.shards import Shard
from twil.data.tables import TableReader
from twil.errors import ConfigError, DataError
from twil.predict.files import predict_file
from twil.predict.predictor import Predictor

ROWS = [(str(number), f"otro martes más, y van {number}") for number in range(23)]


@given(total=st.integers(0, 10_000), count=st.integers(1, 50))
def test_shards_are_as_equal_as_can_be_and_together_the_whole(total: int, count: int) -> None:
    parts = [Shard(number, count).rows(total) for number in range(1, count + 1)]
    assert [row for part in parts for row in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "-1/3", "1/", "2 / 3", "1/3/4", "a/b", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="shard"):
        Shard.parse(text)


def write_table(folder: Path, ending: str) -> Path:
    path = folder / f"tweets.{ending}"
    if ending == "parquet":
        columns = {"ID": [row[0] for row in ROWS], "TEXT": [row[1] for row in ROWS]}
        pq.write_table(pa.table(columns), path, row_group_size=7)
        return path
    separator = "\t" if "tsv" in ending else ","
    quote = '"' if ending == "csv" else ""
    lines = [separator.join(("ID", "TEXT"))]
    lines += [separator.join((number, f"{quote}{text}{quote}")) for number, text in ROWS]
    if ending == "jsonl":
        lines = [f'{{"ID": "{number}", "TEXT": "{text}"}}' for number, text in ROWS]
    content = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    return path


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "parquet", "tsv.gz"])
@pytest.mark.parametrize("chunk_rows", [3, 4096])
def test_every_row_is_in_one_shard_of_a_table(tmp_path: Path, ending: str, chunk_rows: int) -> None:
    path = write_table(tmp_path, ending)
    found = []
    for number in range(1, 6):
        reader = TableReader(path, ["ID", "TEXT"], chunk_rows=chunk_rows)
        assert reader.count_rows() == len(ROWS)
        reader.restrict(Shard(number, 5).rows(len(ROWS)))
        for rows in reader:
            assert [int(number) for number in rows.columns["ID"]] == [
                line - rows.numbers[0] + int(rows.columns["ID"][0]) for line in rows.numbers
            ]
            found += list(zip(rows.columns["ID"], rows.columns["TEXT"], strict=True))
    assert found == ROWS


def test_a_bad_row_is_met_by_its_own_shard_alone(tmp_path: Path) -> None:
    path = tmp_path / "tweets.tsv"
    path.write_text("ID\tTEXT\n1\tvaya día\n2\tsin\tmás\n3\tbuenas\n4\tadiós\n", encoding="utf-8")

    def read(number: int, on_error: str) -> TableReader:
        reader = TableReader(path, ["ID"], on_error=on_error)
        reader.restrict(Shard(number, 2).rows(reader.count_rows()))
        return reader

    assert [rows.columns["ID"] for rows in read(2, "fail")] == [["3", "4"]]
    with pytest.raises(DataError, match="line 3"):
        list(read(1, "fail"))
    skipping = read(1, "skip")
    assert ([rows.columns["ID"] for rows in skipping], skipping.skipped) == ([["1"]], 1)
    (marked,) = read(1, "mark")
    assert list(marked.errors) == [1]
    (within,) = _restricted(path, range(1, 3))
    assert list(within.errors) == [0]


def _restricted(path: Path, rows: range) -> TableReader:
    reader = TableReader(path, ["ID"], on_error="mark")
    reader.restrict(rows)
    return reader


def test_predictions_of_all_shards_are_those_of_the_table(tmp_path: Path) -> None:
    path = write_table(tmp_path, "tsv")
    predictor = Predictor(write_bundle(tmp_path / "bundle"), provider="cpu")
    list(predict_file(path, predictor, tmp_path / "whole.tsv"))
    parts = []
    for number in (1, 2, 3):
        part = tmp_path / f"part-{number}.tsv"
        *_, summary = predict_file(path, predictor, part, shard=Shard(number, 3))
        assert summary.rows == len(part.read_text(encoding="utf-8").splitlines()) - 1
        parts += part.read_text(encoding="utf-8").splitlines()[1:]
    assert parts == (tmp_path / "whole.tsv").read_text(encoding="utf-8").splitlines()[1:]


def test_more_shards_than_rows_leave_some_empty(tmp_path: Path) -> None:
    predictor = Predictor(write_bundle(tmp_path / "bundle"), provider="cpu")
    path = tmp_path / "one.tsv"
    path.write_text("TEXT\nhola\n", encoding="utf-8")
    counts = []
    for number in (1, 2, 3):
        *_, summary = predict_file(path, predictor, tmp_path / "out.tsv", shard=Shard(number, 3))
        counts.append(summary.rows)
    assert sorted(counts) == [0, 0, 1]


def test_a_stream_has_no_shards(tmp_path: Path) -> None:
    predictor = Predictor(write_bundle(tmp_path / "bundle"), provider="cpu")
    with pytest.raises(ConfigError, match="name a file"):
        list(predict_file("-", predictor, tmp_path / "out.tsv", shard=Shard(1, 2)))
