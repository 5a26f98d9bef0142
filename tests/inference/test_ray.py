"""The machines of a Ray cluster: the rows, labels and probabilities of the file engine, or a clear word."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import POLARITY, write_bundle
from locks import held

from twil.core.errors import ConfigError, DataError, MissingExtraError, ModelError, TwilError
from twil.core.installation import install_command
from twil.core.task import Task
from twil.inference.cluster import ray as engine
from twil.inference.cluster.parts import find_files, part_name
from twil.inference.cluster.ray import _cause, predict_on_ray
from twil.inference.events import ClusterStarted, ClusterSummary, RowsDone, Summary
from twil.inference.predict_file import predict_events

pytest.importorskip("ray", reason="the extra ray is not installed")

WORDS = ("hoy", "llueve", "qué", "alegría", "metro", "😀", "lunes", "¡vaya!", "café", "tarde")
LONG = "otra vez se retrasa el autobús y llego tarde a clase de piano"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=100 << 20,
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "polarity")


def tweets(rows: int, first: int = 0) -> list[str]:
    random = np.random.default_rng(first)
    return [f"{' '.join(random.choice(WORDS, 4))} {row}" for row in range(first, first + rows)]


def write_table(path: Path, texts: list[Any], first: int = 0, **columns: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = list(range(first, first + len(texts)))
    pq.write_table(pa.table({"ID": ids, "TEXT": texts, **columns}), path)
    return path


def run(source: Any, model: Path, target: Path | str, **options: Any) -> ClusterSummary:
    *_, last = predict_on_ray(source, model, str(target), **options)
    assert isinstance(last, ClusterSummary)
    return last


def local(source: Path, model: Path, target: Path, **options: Any) -> pa.Table:
    return local_run(source, model, target, **options)[1]


def local_run(source: Path, model: Path, target: Path, **options: Any) -> tuple[Summary, pa.Table]:
    *_, last = predict_events(source, model, target, provider="cpu", **options)
    assert isinstance(last, Summary)
    return last, pq.read_table(target)


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    assert found.schema.names == expected.schema.names
    for name in expected.schema.names:
        if pa.types.is_floating(expected[name].type):
            np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), atol=1e-5)
        else:
            assert found[name].to_pylist() == expected[name].to_pylist()


def test_a_pattern_of_tables_gives_the_rows_of_the_local_engine_in_their_order(
    cluster: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BLOCK_BYTES", 20_000)
    expected, truncated = [], 0
    for number, rows in enumerate((900, 1500, 0)):
        texts = tweets(rows, number * 10_000)
        if number == 0:
            texts[3:6] = [LONG, "", None]
        kept = {"city": [None if row == 7 else "Elche" for row in range(rows)]}
        columns = {name: pa.array(cells, pa.string()) for name, cells in kept.items()}
        table = write_table(tmp_path / f"day-{number}.parquet", pa.array(texts, pa.string()), **columns)
        done, labelled = local_run(table, bundle, tmp_path / f"local-{number}.parquet", keep=["city"])
        truncated += done.truncated
        expected.append(labelled)
    write_table(tmp_path / "other.parquet", ["no"])
    started, *progress, summary = predict_on_ray(
        str(tmp_path / "day-*.parquet"), bundle, str(tmp_path / "out"), keep=["city"], workers=2
    )
    assert isinstance(started, ClusterStarted)
    assert (started.files, started.workers, started.id_column) == (3, 2, "ID")
    assert progress
    assert all(isinstance(event, RowsDone) for event in progress)
    assert isinstance(summary, ClusterSummary)
    assert truncated > 0
    assert (summary.rows, summary.truncated, summary.empty) == (2400, truncated, 2)
    assert summary.providers == ("cpu",)
    parts = sorted((tmp_path / "out").iterdir())
    assert len(parts) == summary.parts > 3
    assert_same(pa.concat_tables(map(pq.read_table, parts)), pa.concat_tables(expected))
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not show its processes")
def test_a_worker_that_is_killed_costs_no_row_and_none_imports_torch(
    cluster: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BLOCK_BYTES", 20_000)
    rows = 20_000
    table = write_table(tmp_path / "tweets.parquet", tweets(rows))
    seen: list[int] = []
    for event in predict_on_ray(str(table), bundle, str(tmp_path / "out"), workers=1):
        if isinstance(event, RowsDone):
            for pid in set(worker_pids()) - set(seen):
                assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
                if not seen:
                    os.kill(pid, signal.SIGKILL)
                seen.append(pid)
    assert len(seen) == 2, "the killed one, and the one in its place"
    assert isinstance(event, ClusterSummary)
    assert event.rows == rows
    assert_same(pq.read_table(tmp_path / "out"), local(table, bundle, tmp_path / "local.parquet"))


def worker_pids() -> list[int]:
    """Find the processes of the cluster of this process that predict."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            grandparent = int(
                Path(f"/proc/{parent}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            )
        except (OSError, ValueError):
            continue
        if b"_Worker" in command and os.getpid() in (parent, grandparent):
            found.append(int(folder.name))
    return found


def test_sources_come_in_their_order_with_their_bad_rows_and_an_output_is_replaced_only_when_forced(
    cluster: Any, bundle: Path, tmp_path: Path
) -> None:
    tables = [tmp_path / "año 1" / f"{name}.tsv" for name in "bca"]
    tables[0].parent.mkdir()
    for place, table in enumerate(tables):
        rows = f'{place}07\t"sí\n{place}08\tno\tde más\n{place}09\tpor fin viernes\n'
        table.write_text("ID\tTEXT\n" + rows, encoding="utf-8")
    with pytest.raises(DataError, match=r"c\.tsv: is named twice"):
        run([tables[1], tables[0].parent / "?.tsv"], bundle, tmp_path / "out")
    folder = tmp_path / "out" / "day"
    urls, target = [f"{table.parent.as_uri()}/{table.stem}*.tsv" for table in tables], folder.as_uri()

    def check(found: ClusterSummary, on_error: Any, counts: tuple[int, int, int]) -> None:
        expected = [local(table, bundle, tmp_path / "local.parquet", on_error=on_error) for table in tables]
        success, *parts = sorted(folder.iterdir())
        assert success.name == "_SUCCESS"
        assert [part.name for part in parts] == [part_name(file, 2) for file in range(3)]
        assert_same(pa.concat_tables(map(pq.read_table, parts)), pa.concat_tables(expected))
        assert (found.rows, found.skipped, found.marked) == counts

    check(run(urls, bundle, target, on_error="skip", workers=1), "skip", (6, 3, 0))
    before = sorted(folder.iterdir())
    with pytest.raises(TwilError, match=r"is there already: .*--force"):
        run(tables, bundle, target, on_error="mark")
    with pytest.raises(TwilError, match=r"holds what twil did not write there \(day\)"):  # another output
        run(tables, bundle, folder.parent.as_uri(), on_error="mark", overwrite=True)
    with pytest.raises(ConfigError, match="has room for"):
        run(tables, bundle, target, on_error="mark", overwrite=True, workers=99)
    assert sorted(folder.iterdir()) == before
    check(run(tables, bundle, target, on_error="mark", overwrite=True, workers=1), "mark", (9, 0, 3))


def test_a_bad_cell_ends_the_work_with_its_file_and_row_and_nothing_is_left(
    cluster: Any, bundle: Path, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "in" / "t.parquet", pa.array([b"bien", b"\xff\xfe"], pa.binary()))
    with pytest.raises(DataError) as caught:
        run(table, bundle, tmp_path / "out", workers=1)
    assert str(caught.value).startswith(f"{table}, row 2: bytes that are no text in UTF-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_a_later_table_without_the_column_is_named_with_its_columns(
    cluster: Any, bundle: Path, tmp_path: Path
) -> None:
    write_table(tmp_path / "in" / "a.parquet", ["bien"])
    pq.write_table(pa.table({"ID": [1], "TWEET": ["mal"]}), tmp_path / "in" / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: no column 'TEXT': the columns are ID, TWEET"):
        run(tmp_path / "in", bundle, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_replaced_only_when_forced_and_when_twil_wrote_it(
    bundle: Path, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "a.parquet", tweets(3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-000000-000000000001.parquet").touch()
    with pytest.raises(TwilError, match=r"is there already: .*--force"):
        run(table, bundle, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(TwilError, match=r"what twil did not write there \(notes\.txt\)"):
        run(table, bundle, tmp_path / "out", overwrite=True)


def test_an_output_that_another_run_writes_is_refused_before_any_work(tmp_path: Path) -> None:
    with held(tmp_path / "out"):
        for overwrite in (False, True):
            with pytest.raises(TwilError, match=r"another process is writing .*/out: wait for it"):
                run(tmp_path / "absent.tsv", tmp_path / "absent", tmp_path / "out", overwrite=overwrite)
    with pytest.raises(ModelError, match="absent"):
        run(tmp_path / "absent.tsv", tmp_path / "absent", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_more_workers_than_the_cluster_has_room_for_are_refused(
    cluster: Any, bundle: Path, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "a.parquet", tweets(3))
    with pytest.raises(ConfigError, match="has room for 1 workers of 2 CPU each, and 3 are asked for"):
        run(table, bundle, tmp_path / "out", workers=3, threads=2)
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_machines_cannot_hold_is_refused(cluster: Any, tmp_path: Path) -> None:
    large = write_bundle(tmp_path / "large", files={"weights.bin": bytes(60 << 20)})
    table = write_table(tmp_path / "a.parquet", tweets(3))
    with pytest.raises(ModelError, match=r"has 60 MiB, .* keeps 100 MiB .*--object"):
        run(table, large, tmp_path / "out")


def test_a_graph_that_does_not_load_on_a_machine_is_said_in_one_line(cluster: Any, tmp_path: Path) -> None:
    damaged = write_bundle(tmp_path / "damaged", graph_bytes=lambda content: content[:100])
    table = write_table(tmp_path / "a.parquet", tweets(3))
    with pytest.raises(TwilError) as caught:
        run(table, damaged, tmp_path / "out", workers=1)
    assert "model.onnx" in str(caught.value)
    assert "export the model again" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": "TWEET"}, "no column 'TWEET': the columns are ID, TEXT; did you mean 'TEXT'"),
        ({"text_pair": "ID"}, "takes single texts: leave out"),
        ({"on_error": "hide"}, "choose one of fail, skip, mark"),
        ({"source": "-"}, "--engine local"),
        ({"source": "none-*.parquet"}, "there is no such table"),
        ({"target": "-"}, "name one with -o"),
        ({"source": "hdfs://host/tweets"}, "URLs of hdfs:// are not used: name one of s3://, gs://"),
        ({"threads": 0}, "at least one thread"),
    ],
)
def test_what_cannot_be_is_said_before_a_cluster_is_looked_for(
    bundle: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    table = write_table(tmp_path / "a.parquet", tweets(3))
    arguments = {"source": str(table), "target": str(tmp_path / "out"), **options}
    with pytest.raises(TwilError) as caught:
        run(model=bundle, **arguments)
    assert said in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.parquet"]


def test_an_encoder_and_a_model_of_pairs_are_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.parquet", tweets(3))
    encoder = write_bundle(tmp_path / "encoder", None)
    with pytest.raises(ModelError, match="is an encoder"):
        run(table, encoder, tmp_path / "out")
    pairs = write_bundle(tmp_path / "pairs", Task("class", POLARITY.labels, pair=True))
    with pytest.raises(DataError, match="takes pairs of texts"):
        run(table, pairs, tmp_path / "out")


def test_an_output_that_would_replace_what_is_read_is_refused(bundle: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "in" / part_name(0, 0), tweets(3))
    for source, target in (
        (str(tmp_path / "in"), str(tmp_path / "in")),
        (f"file://{tmp_path}/in", f"file://{tmp_path}/in"),
        (f"file://{tmp_path}/in", str(tmp_path / "in")),
        (str(tmp_path), str(tmp_path / "in")),
    ):
        with pytest.raises(DataError, match="the output would replace what is read"):
            run(source, bundle, target, overwrite=True)
    assert table.is_file()


def test_a_name_with_signs_of_a_pattern_is_taken_as_it_is(tmp_path: Path) -> None:
    table = write_table(tmp_path / "[2024]" / "tuits[1].parquet", tweets(3))
    assert find_files(str(table)) == [str(table)]
    assert find_files(str(table.parent)) == [str(table)]


def test_a_folder_gives_its_tables_and_a_star_goes_into_no_folder(tmp_path: Path) -> None:
    for name in (
        "b.tsv",
        "a.parquet",
        "in/c.csv.gz",
        "_SUCCESS",
        ".hidden.tsv",
        "in/_temporary/d.tsv",
        "e.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(source: str) -> list[str]:
        return [str(Path(name.removeprefix("file://")).relative_to(tmp_path)) for name in find_files(source)]

    assert found(str(tmp_path)) == ["a.parquet", "b.tsv", "in/c.csv.gz"]
    assert found(str(tmp_path / "*")) == [".hidden.tsv", "_SUCCESS", "a.parquet", "b.tsv", "e.md"]
    assert found(f"file://{tmp_path}/*/c*") == ["in/c.csv.gz"]


def test_without_ray_the_command_that_installs_it_is_named(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught:
        run(tmp_path / "a.parquet", bundle, tmp_path / "out")
    assert str(caught.value) == f"--engine ray needs the extra 'ray': {install_command('ray')}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--engine", "ray", "--resume"), "--engine ray has no --resume"),
        (("--engine", "ray", "--shard", "1/2"), "--engine ray has no --shard"),
        (("--engine", "spark"), "there is no engine 'spark': choose local or ray"),
        (("--workers", "2"), "--workers is an option of --engine ray"),
    ],
)
def test_options_of_the_other_engine_are_refused_in_one_line(options: tuple[str, ...], said: str) -> None:
    from typer.testing import CliRunner

    from twil.cli.main import make_app

    done = CliRunner().invoke(
        make_app(["predict"]), ["predict", "a.parquet", "-m", "bundle", "-o", "out", *options]
    )
    assert done.exit_code == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_a_worker_says_is_told_in_its_own_words() -> None:
    # So Ray tells of an error in a worker: by its traceback, with advice behind it.
    said = "UDF failed\n\nray::map()\n\ntwil.core.errors.ModelError: a bundle is odd: mend it\n\nTo change"
    assert str(_cause(RuntimeError(said))) == "a bundle is odd: mend it"
