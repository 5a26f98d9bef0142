"""Shards: parts of a table that together are the table, whatever its format."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import write_bundle
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from twil.core.errors import ConfigError, DataError
from twil.data.tables.table_sets import Shard, TableSet
from twil.data.tables.tables import OnError
from twil.inference.engine import OutputBatch
from twil.inference.events import Summary
from twil.inference.predict_file import predict_events
from twil.inference.predictor import Predictor
from twil.text.tokenizer import Encoded

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
@pytest.mark.parametrize("size", [3, 4096])
def test_every_row_is_in_one_shard_of_a_table(tmp_path: Path, ending: str, size: int) -> None:
    path = write_table(tmp_path, ending)
    found = []
    for number in range(1, 6):
        tables = TableSet([path], ["ID", "TEXT"])
        assert tables.count_rows() == len(ROWS)
        for window in tables.windows(size, Shard(number, 5).rows(len(ROWS))):
            rows = window.rows
            assert [int(number) for number in rows.columns["ID"]] == [
                line - rows.numbers[0] + int(rows.columns["ID"][0]) for line in rows.numbers
            ]
            found += list(zip(rows.columns["ID"][window.own], rows.columns["TEXT"][window.own], strict=True))
    assert found == ROWS


def test_a_bad_row_is_met_by_its_own_shard_alone(tmp_path: Path) -> None:
    path = tmp_path / "tweets.tsv"
    path.write_text("ID\tTEXT\n1\tvaya día\n2\tsin\tmás\n3\tbuenas\n4\tadiós\n", encoding="utf-8")

    def read(number: int, on_error: OnError) -> tuple[TableSet, list[list[str]]]:
        tables = TableSet([path], ["ID"], on_error=on_error)
        wanted = Shard(number, 2).rows(tables.count_rows())
        return tables, [window.rows.columns["ID"][window.own] for window in tables.windows(4096, wanted)]

    assert read(2, "fail")[1] == [["3", "4"]]
    with pytest.raises(DataError, match="line 3"):
        read(1, "fail")
    skipping, found = read(1, "skip")
    assert (found, skipping.skipped) == ([["1"]], 1)
    for number, counted in ((1, 1), (2, 0)):
        assert read(number, "mark")[0].skipped == counted
    assert read(2, "skip")[1] == [["3", "4"]]


class Fussy(Predictor):
    """Says of a text what depends on all texts beside it, as numbers of a graph may in their last digits."""

    def gather(self, encoded: Encoded, batches: Iterable[OutputBatch]) -> NDArray[np.float32]:
        logits = super().gather(encoded, batches)
        return np.asarray(logits + logits.sum(axis=0) / 1000, dtype=np.float32)


@pytest.mark.parametrize("count", [2, 3, 7, 30])
def test_outputs_of_all_shards_one_after_another_are_that_of_the_tables_to_the_byte(
    tmp_path: Path, count: int
) -> None:
    predictor = Fussy(write_bundle(tmp_path / "bundle"), provider="cpu")
    paths = []
    for place, (start, stop) in enumerate(((0, 4), (4, 4), (4, 20), (20, 23))):
        paths.append(tmp_path / f"{place}.tsv")
        lines = ["ID\tTEXT", *map("\t".join, ROWS[start:stop]), ""]
        lines[2:2] = ["0\tde\tmás"] * (place == 2)
        paths[-1].write_text("\n".join(lines), encoding="utf-8")

    def run(target: Path, shard: Shard | None = None) -> tuple[Summary, list[str]]:
        *_, summary = predict_events(paths, predictor, target, shard=shard, window_rows=5, on_error="mark")
        assert isinstance(summary, Summary)
        return summary, target.read_text(encoding="utf-8").splitlines(keepends=True)

    whole, expected = run(tmp_path / "whole.tsv")
    found, summaries = expected[:1], []
    for number in range(1, count + 1):
        summary, (header, *lines) = run(tmp_path / "part.tsv", Shard(number, count))
        assert (header, len(lines)) == (expected[0], summary.rows)
        found += lines
        summaries.append(summary)
    assert "".join(found) == "".join(expected)
    for name in ("rows", "repeated", "empty", "truncated", "marked"):
        assert sum(getattr(summary, name) for summary in summaries) == getattr(whole, name)
    assert whole.rows == len(ROWS) + 1


def test_predictions_of_all_shards_are_those_of_the_table(tmp_path: Path) -> None:
    path = write_table(tmp_path, "tsv")
    predictor = Predictor(write_bundle(tmp_path / "bundle"), provider="cpu")
    list(predict_events(path, predictor, tmp_path / "whole.tsv"))
    parts = []
    for number in (1, 2, 3):
        part = tmp_path / f"part-{number}.tsv"
        *_, summary = predict_events(path, predictor, part, shard=Shard(number, 3))
        assert summary.rows == len(part.read_text(encoding="utf-8").splitlines()) - 1
        parts += part.read_text(encoding="utf-8").splitlines()[1:]
    assert parts == (tmp_path / "whole.tsv").read_text(encoding="utf-8").splitlines()[1:]


def test_more_shards_than_rows_leave_some_empty(tmp_path: Path) -> None:
    predictor = Predictor(write_bundle(tmp_path / "bundle"), provider="cpu")
    path = tmp_path / "one.tsv"
    path.write_text("TEXT\nhola\n", encoding="utf-8")
    counts = []
    for number in (1, 2, 3):
        *_, summary = predict_events(path, predictor, tmp_path / "out.tsv", shard=Shard(number, 3))
        counts.append(summary.rows)
    assert sorted(counts) == [0, 0, 1]


def test_a_stream_has_no_shards(tmp_path: Path) -> None:
    predictor = Predictor(write_bundle(tmp_path / "bundle"), provider="cpu")
    with pytest.raises(ConfigError, match="name a file"):
        list(predict_events("-", predictor, tmp_path / "out.tsv", shard=Shard(1, 2)))
