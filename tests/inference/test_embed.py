"""Vectors of texts: a row out for each row in, the same alone and in company, whole files or none."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import HIDDEN, make_graph, make_tokenizer, write_bundle
from conftest import CHANGES, change
from onnx import numpy_helper

from twil.config.reading import Reading
from twil.core.errors import ConfigError, DataError, ModelError, TwilError
from twil.data.tables import parquet as row_groups
from twil.data.tables import streams
from twil.data.tables.table_sets import Shard
from twil.inference import embed_file as vectors_module
from twil.inference import pipeline as windows
from twil.inference import resume as partial
from twil.inference.embed_file import VectorSummary, embed_events
from twil.inference.embedder import Embedder, Tokens
from twil.inference.events import RowsDone, RowsStarted
from twil.inference.resume import PartialRun, partial_folder
from twil.text.tokenizer import encode

TWEETS = ["¡Qué partidazo! 😀", "ni fu ni fa", "qué horror de lunes, otra vez llueve y no hay metro", "sí"]
BROKEN = "ID\tTEXT\n1\tuno\n2\tdos\tde\tmás\n3\ttres\n4\t\n"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "encoder", None)


@pytest.fixture(scope="module")
def embedder(bundle: Path) -> Embedder:
    return Embedder(bundle, provider="cpu")


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def write_tweets(path: Path, texts: Sequence[str]) -> Path:
    return write(path, "ID\tTEXT\n" + "".join(f"t{row}\t{text}\n" for row, text in enumerate(texts)))


def run(source: Any, model: Path | Embedder, target: Path | str, **options: object) -> VectorSummary:
    *_, last = embed_events(source, model, target, **options)  # type: ignore[arg-type]
    assert isinstance(last, VectorSummary)
    return last


def expected_tokens(texts: Sequence[str]) -> list[np.ndarray]:
    """Compute the vectors of every token row by row in float64, without pads."""
    weights = {w.name: numpy_helper.to_array(w) for w in make_graph(None).graph.initializer}
    ids = encode(make_tokenizer(32), texts).input_ids
    return [weights["tokens"][row].astype(float) * weights["segments"][0] for row in ids]


def expected(texts: Sequence[str]) -> np.ndarray:
    return np.stack([row.mean(axis=0) for row in expected_tokens(texts)])


class TestEmbedder:
    def test_one_text_gives_one_vector_and_several_a_row_each(self, embedder: Embedder) -> None:
        assert embedder.width == embedder.token_width == HIDDEN
        assert (embedder(TWEETS[0]).shape, embedder(TWEETS[0]).dtype) == ((HIDDEN,), np.float32)
        np.testing.assert_allclose(embedder(TWEETS[0]), expected(TWEETS[:1])[0], atol=1e-5)
        for given in (TWEETS, tuple(TWEETS), np.array(TWEETS), iter(TWEETS)):
            np.testing.assert_allclose(embedder(given), expected(TWEETS), atol=1e-5)
        assert embedder([]).shape == (0, HIDDEN)

    def test_every_token_has_its_vector(self, embedder: Embedder) -> None:
        one = embedder.tokens("ay sí")
        assert isinstance(one, Tokens)
        assert one.tokens == ["[CLS]", "a", "##y", "s", "##í", "[SEP]"]
        several = embedder.tokens([*TWEETS, ""])
        for (tokens, vectors), wanted in zip(several, expected_tokens([*TWEETS, ""]), strict=True):
            assert len(tokens) == len(vectors)
            np.testing.assert_allclose(vectors, wanted, atol=1e-5)
        assert embedder.tokens([]) == []

    def test_lengths_are_one_where_that_is_asked_for(self, bundle: Path) -> None:
        unit = Embedder(bundle, provider="cpu", normalize=True)
        wanted = expected(TWEETS) / np.linalg.norm(expected(TWEETS), axis=1, keepdims=True)
        np.testing.assert_allclose(unit(TWEETS), wanted, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(unit.tokens("hola").vectors, axis=1), 1, atol=1e-6)
        assert not unit.finished(np.zeros((2, HIDDEN), np.float32)).any()
        for scale in (1e30, 1e-30):  # whose squares float32 does not hold
            scaled = unit.finished((expected(TWEETS) * scale).astype(np.float32))
            np.testing.assert_allclose(scaled, wanted, atol=1e-5)

    def test_a_classifier_is_refused_with_the_way_to_an_encoder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"is a classifier.*twil export ENCODER --onnx.*--head encoder"):
            Embedder(write_bundle(tmp_path / "classifier"))

    def test_a_closed_embedder_says_so(self, bundle: Path) -> None:
        with Embedder(bundle, provider="cpu") as opened:
            assert opened("hola").shape == (HIDDEN,)
        with pytest.raises(ModelError, match="was closed"):
            opened("hola")

    def test_it_is_had_from_the_package_without_torch(self, bundle: Path) -> None:
        program = (
            "import sys, twil\n"
            f"print(twil.Embedder({str(bundle)!r}, provider='cpu')(['a', 'b']).shape, 'torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == f"(2, {HIDDEN}) False\n"


def test_an_array_holds_a_row_a_row_and_its_ids_lie_beside_it(bundle: Path, tmp_path: Path) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS * 30)
    target = tmp_path / "vectors.npy"
    summary = run(source, bundle, target, provider="cpu", threads=2, window_rows=7, batch_tokens=64)
    array = np.load(target, mmap_mode="r")
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((120, HIDDEN), np.float32, True)
    np.testing.assert_allclose(array, expected(TWEETS * 30), atol=1e-5)
    assert summary.ids == tmp_path / "vectors.ids.txt"
    assert summary.ids.read_text(encoding="utf-8").splitlines() == [f"t{row}" for row in range(120)]
    assert (summary.rows, summary.width, summary.provider) == (120, HIDDEN, "cpu")
    assert {file.name for file in tmp_path.iterdir()} == {"tweets.tsv", "vectors.npy", "vectors.ids.txt"}


def test_a_table_holds_ids_kept_columns_and_vectors(embedder: Embedder, tmp_path: Path) -> None:
    source = write(tmp_path / "tweets.tsv", "ID\tTEXT\tvector\n1\thola\tx\n2\tadiós\ty\n")
    run(source, embedder, tmp_path / "out.parquet", keep=["vector", "TEXT"])
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["ID", "vector", "TEXT", "predicted_vector"]
    assert table["vector"].to_pylist() == ["x", "y"]
    assert table.schema.field("predicted_vector").type == pa.list_(pa.float32(), HIDDEN)
    np.testing.assert_allclose(table["predicted_vector"].to_pylist(), expected(["hola", "adiós"]), atol=1e-5)


def test_a_table_holds_every_token_with_its_vector(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "_HELD_BYTES", 3 * 32 * HIDDEN * 4)  # windows of three rows
    monkeypatch.setattr(row_groups, "_GROUP_BYTES", 1000)
    texts = [*TWEETS, "", *TWEETS]
    source = write_tweets(tmp_path / "tweets.tsv", texts)
    assert run(source, embedder, tmp_path / "out.parquet", tokens=True).rows == 9
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert file.num_row_groups > 1
    rows = file.read().to_pylist()
    assert list(rows[0]) == ["ID", "tokens", "vectors"]
    assert [row["ID"] for row in rows] == [f"t{row}" for row in range(9)]
    for row, told, wanted in zip(rows, embedder.tokens(texts), expected_tokens(texts), strict=True):
        assert row["tokens"] == told.tokens
        np.testing.assert_allclose(row["vectors"], wanted, atol=1e-5)


def test_a_vector_is_the_same_shuffled_alone_and_in_company(embedder: Embedder, tmp_path: Path) -> None:
    chance = random.Random(3)
    texts = ["".join(chance.choices("aáñ ¡😀", k=chance.randrange(80))) for _ in range(200)]
    order = chance.sample(range(200), 200)
    run(write_tweets(tmp_path / "a.tsv", texts), embedder, tmp_path / "a.npy", window_rows=64)
    shuffled = write_tweets(tmp_path / "b.tsv", [texts[row] for row in order])
    run(shuffled, embedder, tmp_path / "b.npy", window_rows=50)
    straight, mixed = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    np.testing.assert_allclose(mixed, straight[order], atol=1e-5)
    np.testing.assert_allclose(np.stack([embedder(text) for text in texts]), straight, atol=1e-5)


def test_long_empty_and_repeated_texts_are_counted(embedder: Embedder, tmp_path: Path) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", ["a" * 40, "", "RT: gol", "otro", "RT:  gol"])
    summary = run(source, embedder, tmp_path / "out.npy")
    assert (summary.rows, summary.truncated, summary.empty, summary.repeated) == (5, 1, 1, 1)


class TestBadRows:
    """Row 2 of four has too many fields."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return write(tmp_path / "tweets.tsv", BROKEN)

    @pytest.mark.parametrize("name", ["out.npy", "out.parquet"])
    def test_fail_names_the_line_and_leaves_nothing(
        self, embedder: Embedder, source: Path, tmp_path: Path, name: str
    ) -> None:
        with pytest.raises(DataError, match=r"tweets\.tsv, line 3: 4 fields, expected 2"):
            run(source, embedder, tmp_path / name, window_rows=1)
        assert list(tmp_path.iterdir()) == [source]

    def test_skip_leaves_them_out(self, embedder: Embedder, source: Path, tmp_path: Path) -> None:
        summary = run(source, embedder, tmp_path / "out.npy", on_error="skip")
        np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected(["uno", "tres", ""]), atol=1e-5)
        assert (tmp_path / "out.ids.txt").read_text(encoding="utf-8") == "1\n3\n4\n"
        assert (summary.rows, summary.skipped, summary.marked) == (3, 1, 0)

    @pytest.mark.parametrize("normalize", [False, True])
    def test_mark_keeps_their_place(
        self, bundle: Path, source: Path, tmp_path: Path, normalize: bool
    ) -> None:
        summary = run(source, bundle, tmp_path / "out.npy", on_error="mark", normalize=normalize)
        array = np.load(tmp_path / "out.npy")
        assert np.isnan(array).all(axis=1).tolist() == [False, True, False, False]
        assert (tmp_path / "out.ids.txt").read_text(encoding="utf-8") == "1\n\n3\n4\n"
        assert (summary.rows, summary.skipped, summary.marked, summary.empty) == (4, 0, 1, 1)
        run(source, bundle, tmp_path / "out.parquet", on_error="mark", normalize=normalize)
        rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
        assert [row["error"] for row in rows] == ["", "line 3: 4 fields, expected 2", "", ""]
        assert rows[1]["vector"] is None
        np.testing.assert_array_equal([rows[row]["vector"] for row in (0, 2, 3)], array[[0, 2, 3]])

    def test_marked_rows_have_no_tokens(self, embedder: Embedder, source: Path, tmp_path: Path) -> None:
        run(source, embedder, tmp_path / "out.parquet", on_error="mark", tokens=True)
        rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
        assert (rows[1]["tokens"], rows[1]["vectors"]) == (None, None)
        assert [len(rows[row]["tokens"]) for row in (0, 2, 3)] == [5, 6, 2]
        np.testing.assert_allclose(rows[2]["vectors"], expected_tokens(["tres"])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("-", {}, r"written to a file: name one that ends in \.npy or \.parquet"),
        ("out.tsv", {}, r"out\.tsv cannot hold vectors: name a file that ends in \.npy or \.parquet"),
        ("out", {}, "cannot hold vectors"),
        ("out.npy", {"tokens": True}, r"a vector for each token \(--tokens\): write a \.parquet"),
        ("out.npy", {"keep": ["TEXT"]}, r"other columns \(--keep\): write a \.parquet"),
        ("out.npy", {"file_column": "file"}, r"other columns \(--file-column\): write a \.parquet"),
        ("out.npy", {"on_error": "drop"}, "choose one of fail, skip, mark"),
        ("none/out.npy", {}, "there is no folder"),
        ("folder.npy", {}, "is a folder"),
        ("out.npy", {"text": "TWEET"}, "no column 'TWEET'"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_model_is_loaded(
    tmp_path: Path, target: str, options: dict[str, object], said: str
) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(TwilError, match=said):
        run(source, tmp_path / "no bundle", target if target == "-" else tmp_path / target, **options)
    assert {file.name for file in tmp_path.iterdir()} == {"tweets.tsv", "folder.npy"}


def test_neither_vectors_nor_ids_replace_the_input(embedder: Embedder, tmp_path: Path) -> None:
    source = write(tmp_path / "out.ids.txt", "hola\nadiós\n")
    with pytest.raises(DataError, match="would replace its input"):
        run(source, embedder, tmp_path / "out.npy", id_column="TEXT")
    run(write_tweets(tmp_path / "tweets.tsv", TWEETS), embedder, tmp_path / "t.parquet", keep=["TEXT"])
    with pytest.raises(DataError, match="would replace its input"):
        run(tmp_path / "t.parquet", embedder, tmp_path / "t.parquet")


def test_old_ids_are_not_left_beside_an_array_without_any(embedder: Embedder, tmp_path: Path) -> None:
    run(write_tweets(tmp_path / "tweets.tsv", TWEETS), embedder, tmp_path / "out.npy")
    source = write(tmp_path / "texts.txt", "hola\n")
    with pytest.raises(DataError, match=r"out\.ids\.txt: holds ids, and this table has none"):
        run(source, embedder, tmp_path / "out.npy")
    assert len(np.load(tmp_path / "out.npy")) == len(TWEETS)
    assert run(source, embedder, tmp_path / "other.npy").ids is None
    assert not (tmp_path / "other.ids.txt").exists()


def test_a_table_of_nothing_but_a_header_gives_no_vectors(embedder: Embedder, tmp_path: Path) -> None:
    source = write(tmp_path / "tweets.tsv", "ID\tTEXT\n")
    assert run(source, embedder, tmp_path / "out.npy").rows == 0
    assert np.load(tmp_path / "out.npy").shape == (0, HIDDEN)
    run(source, embedder, tmp_path / "out.parquet", tokens=True)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


@pytest.mark.parametrize(
    "options", [{"normalize": False}, {"threads": 1}, {"normalize": True, "provider": "cpu"}]
)
def test_options_that_an_embedder_cannot_follow_any_more_are_refused(
    embedder: Embedder, tmp_path: Path, options: dict[str, object]
) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    with pytest.raises(ConfigError, match=f"^{', '.join(options)} would have no effect: an embedder has its"):
        run(source, embedder, tmp_path / "out.npy", **options)
    assert [file.name for file in tmp_path.iterdir()] == ["tweets.tsv"]


@pytest.mark.parametrize("name", ["out.npy", "out.parquet"])
@pytest.mark.parametrize("end", ["close", "interrupt"])
def test_work_that_is_given_up_leaves_the_old_output_and_nothing_else(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, end: str
) -> None:
    monkeypatch.setattr(windows, "PROGRESS_SECONDS", 0)
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS * 50)
    target, ids = write(tmp_path / name, "the old one\n"), write(tmp_path / "out.ids.txt", "old\n")
    events = embed_events(source, embedder, target, window_rows=20)
    assert isinstance(next(events), RowsStarted)
    while not isinstance(event := next(events), RowsDone) or event.rows <= 100:
        pass
    if end == "close":
        events.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            events.throw(KeyboardInterrupt())
    assert (target.read_text(), ids.read_text()) == ("the old one\n", "old\n")
    assert {file.name for file in tmp_path.iterdir()} == {"tweets.tsv", name, "out.ids.txt"}


@pytest.mark.parametrize("name", ["out.npy", "out.parquet"])
def test_a_full_disk_at_the_very_end_leaves_neither_vectors_nor_ids(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(source, embedder, tmp_path / name)
    assert list(tmp_path.iterdir()) == [source]


def test_vectors_of_standard_input_come_as_those_of_a_file(bundle: Path, tmp_path: Path) -> None:
    source, target = write_tweets(tmp_path / "tweets.tsv", TWEETS), tmp_path / "out.npy"
    with source.open("rb") as file:
        subprocess.run(command("-", "-m", bundle, "-o", target, "-q"), stdin=file, check=True)
    np.testing.assert_allclose(np.load(target), expected(TWEETS), atol=1e-5)


@pytest.mark.parametrize("tokens", [False, True])
def test_memory_does_not_grow_with_the_table(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: bool
) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(row_groups, "_GROUP_BYTES", 1 << 14)
    monkeypatch.setattr(partial, "PART_BYTES", 1 << 14)

    def peak(rows: int) -> int:
        source = write_tweets(tmp_path / f"{rows}.tsv", [f"hola {row % 7}" for row in range(rows)])
        target = tmp_path / ("out.parquet" if tokens else "out.npy")
        tracemalloc.start()
        try:
            assert run(source, embedder, target, tokens=tokens, window_rows=100).rows == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # what is allocated only once
    assert peak(8_000) <= 1.5 * peak(1_000)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "twil", "embed", *map(str, arguments)]


def test_the_command_says_where_the_ids_are(bundle: Path, tmp_path: Path) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", [*TWEETS, ""])
    target = tmp_path / "out.npy"
    done = subprocess.run(command(source, "-m", bundle, "-o", target), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"the ids of the rows are in {tmp_path / 'out.ids.txt'}" in done.stderr
    assert "empty texts, given a vector all the same: 1" in done.stderr
    assert f"wrote {target}: vectors of {HIDDEN} numbers" in done.stderr


def test_the_command_ends_with_one_line_for_a_classifier(tmp_path: Path) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    model = write_bundle(tmp_path / "classifier")
    arguments = command(source, "-m", model, "-o", tmp_path / "out.npy")
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "twil: error: " in done.stderr
    assert not (tmp_path / "out.npy").exists()


class TestSeveralFiles:
    """Three tables whose windows of five rows begin in one and end in another; the second has a bad row."""

    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[Path]:
        paths = [write_tweets(tmp_path / f"{place}.tsv", [f"{t} {place}" for t in TWEETS]) for place in "ab"]
        return [*paths, write(tmp_path / "c.tsv", BROKEN)]

    @pytest.mark.parametrize(("name", "tokens"), [("npy", False), ("parquet", False), ("parquet", True)])
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_shards_are_together_the_whole_to_the_last_digit(
        self, embedder: Embedder, paths: list[Path], tmp_path: Path, name: str, tokens: bool, count: int
    ) -> None:
        options = {"tokens": tokens, "window_rows": 5, "on_error": "mark"}
        whole = run(paths, embedder, tmp_path / f"whole.{name}", **options)
        parts, rows = [], 0
        for number in range(1, count + 1):
            parts.append(tmp_path / f"part-{number}.{name}")
            rows += run(paths, embedder, parts[-1], shard=Shard(number, count), **options).rows
        assert rows == whole.rows == 12
        if name == "npy":
            joined = np.concatenate([np.load(part) for part in parts])
            assert joined.tobytes() == np.load(tmp_path / "whole.npy").tobytes()
            ids = "".join(part.with_suffix(".ids.txt").read_text(encoding="utf-8") for part in parts)
            assert ids == (tmp_path / "whole.ids.txt").read_text(encoding="utf-8")
        else:
            table = pa.concat_tables([pq.read_table(part) for part in parts])
            assert table.equals(pq.read_table(tmp_path / "whole.parquet"))

    def test_a_column_tells_from_which_file_a_row_came(
        self, embedder: Embedder, paths: list[Path], tmp_path: Path
    ) -> None:
        run(paths, embedder, tmp_path / "out.parquet", file_column="vector", on_error="skip")
        table = pq.read_table(tmp_path / "out.parquet")
        assert table.column_names == ["ID", "vector", "predicted_vector"]
        assert table["vector"].to_pylist() == [str(paths[0])] * 4 + [str(paths[1])] * 4 + [str(paths[2])] * 3

    def test_no_input_is_replaced_and_a_stream_has_no_shards(
        self, embedder: Embedder, paths: list[Path], tmp_path: Path
    ) -> None:
        paths.append(write(tmp_path / "out.ids.txt", "hola\n"))
        with pytest.raises(DataError, match=r"out\.ids\.txt: the output would replace its input"):
            run(paths, embedder, tmp_path / "out.npy", id_column="TEXT", reading=Reading("txt"))
        with pytest.raises(ConfigError, match="a stream has no shards"):
            run("-", embedder, tmp_path / "out.npy", shard=Shard(1, 2))


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("name", ["v.npy", "v.parquet"])
def test_a_table_that_changes_while_it_is_read_leaves_no_vectors(
    embedder: Embedder, tmp_path: Path, name: str, how: str
) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS * 20)
    events = embed_events(source, embedder, tmp_path / name, window_rows=10)
    assert isinstance(next(events), RowsStarted)
    change(source, how)
    with pytest.raises(DataError, match=r"tweets\.tsv: changed while it was read"):
        list(events)
    assert [path.name for path in tmp_path.iterdir()] == ["tweets.tsv"]


class TestInterruptedRuns:
    """Work that was stopped goes on where it stopped, and its output is the same to the byte."""

    @pytest.fixture(autouse=True)
    def _keep_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(partial, "KEEP_SECONDS", 0.0)

    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[Path]:
        texts = [f"{text} {row}" for row, text in enumerate(TWEETS * 40)]
        paths = [write_tweets(tmp_path / "a.tsv", texts[:70]), write_tweets(tmp_path / "b.tsv", texts[70:])]
        lines = paths[1].read_text(encoding="utf-8").splitlines()
        lines[7] += "\tde más"
        write(paths[1], "\n".join([*lines, ""]))
        return paths

    @pytest.mark.parametrize(("name", "tokens"), [("npy", False), ("parquet", False), ("parquet", True)])
    @pytest.mark.parametrize("windows_kept", [1, 4, 7])
    @pytest.mark.parametrize("shard", [None, Shard(2, 2)])
    def test_an_output_is_the_same_however_the_work_was_interrupted(
        self,
        embedder: Embedder,
        paths: list[Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        tokens: bool,
        windows_kept: int,
        shard: Shard | None,
    ) -> None:
        options = {"tokens": tokens, "window_rows": 10, "on_error": "mark", "shard": shard}
        whole, part = tmp_path / f"whole.{name}", tmp_path / f"part.{name}"
        expected = run(paths, embedder, whole, **options)
        append = PartialRun.append
        kept: list[int] = []

        def dying(self: PartialRun, *arguments: Any) -> None:
            append(self, *arguments)
            kept.append(1)
            if len(kept) == windows_kept:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(PartialRun, "append", dying)
            with pytest.raises(KeyboardInterrupt):
                run(paths, embedder, part, **options)
        assert not part.exists()
        write(tmp_path / f".1-0123abcd.{part.name}", "of a run that was killed")
        with pytest.raises(ConfigError, match=r"part\..*\.partial: continue it with --resume"):
            run(paths, embedder, part, **options)
        found = run(paths, embedder, part, resume=True, **options)
        assert found.continued == 10 * windows_kept
        counts = ("rows", "truncated", "empty", "repeated", "marked", "first_errors")
        assert [getattr(found, count) for count in counts] == [getattr(expected, count) for count in counts]
        assert part.read_bytes() == whole.read_bytes()
        left = {file.name for file in tmp_path.iterdir()} - {"a.tsv", "b.tsv", whole.name, part.name}
        assert left == ({"whole.ids.txt", "part.ids.txt"} if name == "npy" else set())

    def test_vectors_of_another_kind_are_not_mixed_in(
        self, bundle: Path, paths: list[Path], tmp_path: Path
    ) -> None:
        target = tmp_path / "out.parquet"
        with pytest.raises(DataError, match="line 8"):  # after what came before was computed, and kept
            run(paths, bundle, target, window_rows=10)
        kept = {"window_rows": 10, "resume": True, "on_error": "skip"}
        with pytest.raises(ConfigError, match=r"other settings \(--normalize\)"):
            run(paths, bundle, target, normalize=True, **kept)
        with pytest.raises(ConfigError, match=r"other settings \(--tokens\)"):
            run(paths, bundle, target, tokens=True, **kept)
        with pytest.raises(ConfigError, match="read other texts behind its first 0 rows"):
            run(paths[::-1], bundle, target, **kept)
        assert run(paths, bundle, target, **kept).continued > 0
        assert not partial_folder(target).exists()

    def test_what_is_held_until_it_is_kept_has_a_bound(
        self, embedder: Embedder, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(partial, "KEEP_SECONDS", 1000.0)
        monkeypatch.setattr(partial, "PART_BYTES", 3 * 10 * HIDDEN * 4)
        sizes: list[int] = []
        savez = np.savez

        def counting(file: Any, **columns: Any) -> None:
            sizes.append(len(columns["values"]))
            savez(file, **columns)

        monkeypatch.setattr(np, "savez", counting)
        run(paths, embedder, tmp_path / "out.npy", window_rows=10, on_error="skip")
        assert sizes == [30, 30, 39, 30, 30]  # a bad row has no vector, so its part waits for one window more


PROGRAM = """
from twil.cli.main import main
from twil.inference import resume as partial
from twil.inference import embed_file as vectors
partial.KEEP_SECONDS = 0.0
embed_events = vectors.embed_events
vectors.embed_events = lambda *a, **k: embed_events(*a, **k, window_rows=50)
main()
"""


@pytest.mark.parametrize(
    ("number", "name", "more"),
    [
        (signal.SIGTERM, "out.npy", []),
        (signal.SIGTERM, "out.parquet", ["--tokens"]),
        (signal.SIGKILL, "out.parquet", []),
    ],
)
def test_a_process_that_is_stopped_in_the_middle_goes_on(
    bundle: Path, tmp_path: Path, number: signal.Signals, name: str, more: list[str]
) -> None:
    def start(target: Path, *options: object) -> subprocess.Popen[str]:
        arguments = ["embed", *paths, "-m", bundle, "-o", target, "--threads", 1, *more, *options]
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)], stderr=subprocess.PIPE, text=True
        )

    paths = [
        write_tweets(tmp_path / f"{place}.tsv", [f"hola {place} {row}" for row in range(2_000)])
        for place in range(2)
    ]
    target = tmp_path / name
    process = start(target)
    deadline = time.monotonic() + 60
    while len(list(partial_folder(target).glob("rows-*.npz"))) < 5:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -9}[number], said
    assert not target.exists()
    if number == signal.SIGTERM:
        assert "is kept in" in " ".join(said.split())
    again = start(target, "--resume")
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert "rows that the interrupted run had done: " in " ".join(said.split())
    run(paths, bundle, tmp_path / f"whole-{name}", threads=1, window_rows=50, tokens=bool(more))
    assert target.read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert not list(tmp_path.glob(".*"))
    assert not partial_folder(target).exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_that_is_stopped_soon_leaves_nothing(
    bundle: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", [f"hola {row}" for row in range(100_000)])
    target = tmp_path / "out.npy"
    process = subprocess.Popen(
        command(source, "-m", bundle, "-o", target, "--threads", 1, "-q"), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size > 1 << 16 for file in tmp_path.glob(".*out.npy")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert list(tmp_path.iterdir()) == [source]


def test_wrong_batches_are_refused(bundle: Path, tmp_path: Path) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    with pytest.raises(ConfigError, match="0 tokens"):
        run(source, bundle, tmp_path / "out.npy", batch_tokens=0)
