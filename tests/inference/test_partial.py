"""Prediction that was interrupted goes on where it stopped, and its output is the same to the byte."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import write_bundle
from conftest import change

from twil.core.errors import ConfigError, DataError, ModelError, TwilError
from twil.data.tables.table_sets import Shard
from twil.inference import resume
from twil.inference.events import RowsStarted, Summary
from twil.inference.inputs import Sources
from twil.inference.predict_file import predict_events
from twil.inference.predictor import Predictor
from twil.inference.resume import PartialRun, partial_folder

ROWS, WINDOW = 1000, 50


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("partial") / "bundle")


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return Predictor(bundle, provider="cpu", threads=2, side_by_side=True)


@pytest.fixture(autouse=True)
def keep_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "KEEP_SECONDS", 0.0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.tsv")


def write_rows(path: Path, *, rows: int = ROWS, seed: int = 3) -> Path:
    words = ["qué", "día", "más", "bonito", "horror", "vale", "jaja", "😀", "@ana", "#lunes"]
    chance = random.Random(seed)
    lines = [f"id{n}\t{' '.join(chance.choices(words, k=chance.randint(0, 9)))}" for n in range(rows)]
    path.write_text("\n".join(["ID\tTEXT", *lines, ""]), encoding="utf-8")
    return path


def run(source: Sources, predictor: Predictor, target: Path, **options: Any) -> list[Any]:
    return list(predict_events(source, predictor, target, window_rows=WINDOW, **options))


class Killed(BaseException):
    """The process is gone."""


def interrupt_after(
    windows: int, source: Sources, predictor: Predictor, target: Path, **options: Any
) -> None:
    """Run until so many windows are kept, and drop the run there."""
    append = PartialRun.append
    kept: list[int] = []

    def dying(self: PartialRun, *arguments: Any) -> None:
        append(self, *arguments)
        kept.append(1)
        if len(kept) == windows:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartialRun, "append", dying)
        with pytest.raises(Killed):
            run(source, predictor, target, **options)


@pytest.mark.parametrize("ending", ["tsv", "csv.gz", "jsonl", "parquet"])
@pytest.mark.parametrize("windows", [1, 7, 19])
def test_an_output_is_the_same_however_often_the_work_was_interrupted(
    source: Path, predictor: Predictor, tmp_path: Path, ending: str, windows: int
) -> None:
    whole, part = tmp_path / f"whole.{ending}", tmp_path / f"part.{ending}"
    *_, expected = run(source, predictor, whole)
    assert not partial_folder(whole).exists()
    interrupt_after(windows, source, predictor, part)
    assert not part.exists()
    if windows < 19:
        interrupt_after(1, source, predictor, part, resume=True)
    started, *_, summary = run(source, predictor, part, resume=True)
    assert isinstance(started, RowsStarted)
    assert isinstance(summary, Summary)
    assert started.resumed
    assert summary.continued == WINDOW * (windows + (windows < 19))
    counts = ("rows", "truncated", "empty", "repeated", "skipped", "marked", "altered")
    assert [getattr(summary, name) for name in counts] == [getattr(expected, name) for name in counts]
    assert part.read_bytes() == whole.read_bytes()
    assert not partial_folder(part).exists()


def test_kept_windows_are_not_computed_again(
    source: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(15, source, predictor, tmp_path / "out.tsv")
    submitted: list[int] = []
    submit = Predictor.submit

    def counting(self: Predictor, encoded: Any, *others: Any, **options: Any) -> Any:
        submitted.append(len(encoded.input_ids))
        return submit(self, encoded, *others, **options)

    monkeypatch.setattr(Predictor, "submit", counting)
    run(source, predictor, tmp_path / "out.tsv", resume=True)
    assert sum(submitted) == ROWS - 15 * WINDOW


def test_what_bad_rows_lead_to_and_what_is_repeated_may_change_in_between(
    predictor: Predictor, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "in.tsv")
    lines = source.read_text(encoding="utf-8").splitlines()
    lines[333] += "\tone\ttoo many"
    source.write_text("\n".join([*lines, ""]), encoding="utf-8")
    with pytest.raises(DataError, match="line 334"):  # after what came before was predicted, and kept
        run(source, predictor, tmp_path / "out.tsv")
    assert partial_folder(tmp_path / "out.tsv").exists()
    *_, summary = run(source, predictor, tmp_path / "out.tsv", resume=True, on_error="mark", keep=["TEXT"])
    assert summary.continued > 0
    run(source, predictor, tmp_path / "whole.tsv", on_error="mark", keep=["TEXT"])
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()


def test_an_interrupted_run_is_neither_overwritten_nor_continued_unasked(
    source: Path, predictor: Predictor, tmp_path: Path
) -> None:
    interrupt_after(3, source, predictor, tmp_path / "out.tsv")
    with pytest.raises(ConfigError, match=r"out\.tsv\.partial: continue it with --resume, or start anew"):
        run(source, predictor, tmp_path / "out.tsv")
    started, *_, summary = run(source, predictor, tmp_path / "out.tsv", overwrite=True)
    assert (started.resumed, summary.continued) == (False, 0)
    assert not partial_folder(tmp_path / "out.tsv").exists()


def test_other_texts_model_or_settings_are_not_mixed_in(
    source: Path, predictor: Predictor, bundle: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.tsv"
    interrupt_after(4, source, predictor, target)
    with pytest.raises(ConfigError, match="read other texts behind its first 0 rows"):
        run(write_rows(tmp_path / "other.tsv", seed=4), predictor, target, resume=True)
    other = Predictor(write_bundle(tmp_path / "bundle", seed=5), threads=2, side_by_side=True)
    with pytest.raises(ConfigError, match=r"other settings \(the model\)"):
        run(source, other, target, resume=True)
    smaller = Predictor(bundle, threads=2, batch_tokens=99, side_by_side=True)
    with pytest.raises(ConfigError, match=r"other settings \(--batch-tokens\)"):
        run(source, smaller, target, resume=True)
    more = Predictor(bundle, threads=3, side_by_side=True)  # each batch is still computed by one of them
    assert run(source, more, target, resume=True)[-1].continued == 4 * WINDOW


@pytest.mark.parametrize("how", ["appended", "other texts"])
def test_a_run_whose_table_changed_goes_on_where_what_it_read_is_there_still(
    source: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    target, content, append = tmp_path / "out.tsv", source.read_bytes(), PartialRun.append
    windows: list[object] = []

    def changing(self: PartialRun, *arguments: Any) -> None:
        append(self, *arguments)
        windows.append(arguments)
        if len(windows) > 1:
            return
        if how == "appended":
            change(source, how)
        else:
            source.write_bytes(content.replace(b"id7\t", b"id7\tpues "))

    with monkeypatch.context() as patch:
        patch.setattr(PartialRun, "append", changing)
        with pytest.raises(DataError, match=r"in\.tsv: changed while it was read"):
            run(source, predictor, target)
    assert not target.exists()
    with pytest.raises(ConfigError, match="continue it with --resume, or start anew with --force"):
        run(source, predictor, target)
    if how == "other texts":
        with pytest.raises(ConfigError, match="read other texts behind its first 0 rows"):
            run(source, predictor, target, resume=True)
        source.write_bytes(content)
    assert run(source, predictor, target, resume=True)[-1].continued == WINDOW * len(windows)
    run(source, predictor, tmp_path / "whole.tsv")
    assert target.read_bytes() == (tmp_path / "whole.tsv").read_bytes()


class TestSeveralFiles:
    """Four tables of 130 rows, thus windows of 50 rows that begin in one and end in another."""

    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[Path]:
        return [write_rows(tmp_path / f"in-{seed}.tsv", rows=130, seed=seed) for seed in range(4)]

    @pytest.mark.parametrize("windows", [1, 3, 9])
    def test_an_output_is_the_same_wherever_the_work_was_interrupted(
        self, paths: list[Path], predictor: Predictor, tmp_path: Path, windows: int
    ) -> None:
        run(paths, predictor, tmp_path / "whole.tsv", file_column="file")
        interrupt_after(windows, paths, predictor, tmp_path / "part.tsv", file_column="file")
        *_, summary = run(paths, predictor, tmp_path / "part.tsv", file_column="file", resume=True)
        assert (summary.continued, summary.rows) == (windows * WINDOW, 520)
        assert (tmp_path / "part.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()

    def test_a_shard_goes_on_and_counts_its_own_rows(
        self, paths: list[Path], predictor: Predictor, tmp_path: Path
    ) -> None:
        shard = Shard(2, 3)  # rows 173 to 345 of windows that begin with row 150
        run(paths, predictor, tmp_path / "whole.tsv", shard=shard)
        interrupt_after(2, paths, predictor, tmp_path / "part.tsv", shard=shard)
        *_, summary = run(paths, predictor, tmp_path / "part.tsv", shard=shard, resume=True)
        assert (summary.continued, summary.rows) == (250 - 173, 346 - 173)
        assert (tmp_path / "part.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()
        interrupt_after(2, paths, predictor, tmp_path / "part.tsv", shard=shard)
        with pytest.raises(ConfigError, match="read other texts behind its first 0 rows"):
            run(paths, predictor, tmp_path / "part.tsv", shard=Shard(3, 3), resume=True)

    @pytest.mark.parametrize("change", ["order", "left out", "text", "one more"])
    def test_a_run_over_other_files_is_not_continued(
        self, paths: list[Path], predictor: Predictor, tmp_path: Path, change: str
    ) -> None:
        interrupt_after(6, paths, predictor, tmp_path / "out.tsv")
        first, second, third, fourth = paths
        if change == "text":
            write_rows(third, rows=130, seed=9)
        given = {
            "order": [first, third, second, fourth],
            "left out": [first, third, fourth],
            "text": paths,
            "one more": [first, write_rows(tmp_path / "more.tsv", rows=9), second, third, fourth],
        }[change]
        with pytest.raises(ConfigError, match=r"read other texts .* the same files in the same order"):
            run(given, predictor, tmp_path / "out.tsv", resume=True)
        run(given, predictor, tmp_path / "out.tsv", overwrite=True)


@pytest.mark.parametrize("fault", ["part", "gone", "settings", "half"])
def test_a_damaged_state_is_one_clear_error(
    source: Path, predictor: Predictor, tmp_path: Path, fault: str
) -> None:
    target = tmp_path / "out.tsv"
    interrupt_after(4, source, predictor, target)
    folder = partial_folder(target)
    parts = sorted(folder.glob("rows-*.npz"))
    assert len(parts) == 4
    if fault == "part":
        parts[1].write_bytes(b"PK nothing")
    elif fault == "gone":
        parts[1].unlink()
    elif fault == "half":
        parts[1].write_bytes(parts[1].read_bytes()[:-50])
    else:
        (folder / "run.json").write_text("[", encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot be read .*start anew with --force"):
        run(source, predictor, target, resume=True)
    run(source, predictor, target, overwrite=True)
    assert target.exists()


def test_no_pickle_is_ever_read(source: Path, predictor: Predictor, tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    interrupt_after(2, source, predictor, target)
    part = partial_folder(target) / "rows-000001.npz"
    with np.load(part) as kept:
        columns = dict(kept)
    columns["rows"] = np.array([os.getcwd], dtype=object)
    np.savez(part, allow_pickle=True, **columns)
    with pytest.raises(ModelError, match="cannot be read"):
        run(source, predictor, target, resume=True)


def test_what_else_lies_there_is_left_alone(source: Path, predictor: Predictor, tmp_path: Path) -> None:
    folder = partial_folder(tmp_path / "out.tsv")
    folder.mkdir()
    (folder / "notas.txt").write_text("mías", encoding="utf-8")
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(TwilError, match=r"something else lies there \(notas\.txt\)"):
            run(source, predictor, tmp_path / "out.tsv", **options)
    assert (folder / "notas.txt").read_text(encoding="utf-8") == "mías"


def test_a_state_whose_removal_was_killed_is_still_one(
    source: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, target = tmp_path / "whole.tsv", tmp_path / "out.tsv"
    run(source, predictor, whole)
    unlink = Path.unlink
    for last in range(1, 5):
        interrupt_after(3, source, predictor, target)
        gone: list[Path] = []

        def dying(path: Path, gone: list[Path] = gone, last: int = last, **options: Any) -> None:
            if path.parent == partial_folder(target):
                gone.append(path)
                if len(gone) > last:
                    raise Killed
            unlink(path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", dying)
            with pytest.raises(Killed):
                run(source, predictor, target, overwrite=True)
        run(source, predictor, target, resume=True)
        assert target.read_bytes() == whole.read_bytes()


def test_two_runs_of_one_output_do_not_meet(source: Path, predictor: Predictor, tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    first = predict_events(source, predictor, target, window_rows=WINDOW)
    next(first)
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(TwilError, match=r"another process is writing .*out\.tsv"):
            run(source, predictor, target, **options)
    run(source, predictor, tmp_path / "other.tsv")
    list(first)
    assert target.read_bytes() == (tmp_path / "other.tsv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tsv", "other.tsv", "out.tsv"]


def test_what_a_kill_left_before_any_state_is_removed(
    source: Path, predictor: Predictor, tmp_path: Path
) -> None:
    target = tmp_path / "out.tsv"
    (tmp_path / ".17-0123abcd.out.tsv").write_text("half", encoding="utf-8")
    (tmp_path / ".out.tsv.lock").touch()
    (tmp_path / ".17-0123abcd.other.tsv").touch()
    run(source, predictor, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".17-0123abcd.other.tsv",
        "in.tsv",
        "out.tsv",
    ]


def test_a_run_from_a_pipe_goes_on_however_its_bytes_come(
    bundle: Path, source: Path, predictor: Predictor, tmp_path: Path
) -> None:
    whole, target = tmp_path / "whole.tsv", tmp_path / "out.tsv"
    run(source, predictor, whole)
    program = (
        "import sys; from twil.inference import resume; "
        "from twil.config.reading import Reading; from twil.inference.predict_file import predict_events; "
        "resume.KEEP_SECONDS = 0.0; "
        f"list(predict_events('-', {str(bundle)!r}, {str(target)!r}, window_rows={WINDOW}, provider='cpu', "
        "threads=2, reading=Reading('tsv'), resume=True))"
    )
    content = source.read_bytes()
    broken = content.replace(b"\nid900\t", b"\nid900\tx\t")  # a bad row ends the first run
    first = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert first.stdin is not None
    for begin in range(0, len(broken), 3000):
        first.stdin.write(broken[begin : begin + 3000])
        first.stdin.flush()
    _, said = first.communicate()
    assert b"line 902" in said
    assert partial_folder(target).is_dir()
    second = subprocess.run([sys.executable, "-c", program], input=content, capture_output=True, check=False)
    assert second.returncode == 0, second.stderr.decode()
    assert target.read_bytes() == whole.read_bytes()


def test_a_short_run_leaves_no_trace(
    source: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "KEEP_SECONDS", 10.0)
    interrupt_after(6, source, predictor, tmp_path / "out.tsv")
    assert sorted(tmp_path.iterdir()) == [source]


def test_a_stream_cannot_be_continued(source: Path, predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match="name an output file"):
        run(source, predictor, Path("-"), resume=True)


def test_a_full_disk_is_said_and_what_was_kept_before_stays(
    source: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    savez, saved = np.savez, []

    def full(*arguments: Any, **columns: Any) -> None:
        saved.append(1)
        if len(saved) > 3:
            raise OSError(28, "No space left on device")
        savez(*arguments, **columns)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(TwilError, match=r"no state can be kept .*No space left.*--resume"):
            run(source, predictor, tmp_path / "out.tsv")
    *_, summary = run(source, predictor, tmp_path / "out.tsv", resume=True)
    assert summary.continued == 3 * WINDOW


@pytest.fixture(scope="module")
def many(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give a table of so many rows that a process can be stopped among them, and its output."""
    folder = tmp_path_factory.mktemp("many")
    source = write_rows(folder / "in.tsv", rows=12_000)
    list(predict_events(source, bundle, folder / "whole.tsv", window_rows=WINDOW, provider="cpu", threads=1))
    return source, folder / "whole.tsv"


PROGRAM = """
import sys
from twil.cli import predict
from twil.cli.main import main
from twil.inference import predict_file as files
from twil.inference import resume
resume.KEEP_SECONDS = 0.0
predict_events = files.predict_events
files.predict_events = lambda *a, **k: predict_events(*a, **k, window_rows=50)
main()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_stopped_at_any_moment_goes_on(
    bundle: Path, many: tuple[Path, Path], tmp_path: Path, number: signal.Signals
) -> None:
    source, whole = many
    arguments = ["predict", str(source), "-m", str(bundle), "-q", "--threads", "1"]
    part = tmp_path / "part.tsv"
    chance = random.Random(int(number))
    process, resumed = start(arguments, part), 0
    for _ in wait_for_parts(process, partial_folder(part), chance.randint(3, 60)):
        pass
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    codes = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
    assert process.returncode == codes[number], said
    assert not part.exists()
    resumed = len(list(partial_folder(part).glob("rows-*.npz")))
    assert resumed >= 3
    again = start([*arguments, "--resume"], part)
    _, said = again.communicate(timeout=100)
    assert again.returncode == 0, said
    assert part.read_bytes() == whole.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["part.tsv"]


def start(arguments: list[str], target: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments, "-o", str(target)], stderr=subprocess.PIPE, text=True
    )


def wait_for_parts(process: subprocess.Popen[str], folder: Path, count: int) -> Iterator[None]:
    deadline = time.monotonic() + 60
    while len(list(folder.glob("rows-*.npz"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
        yield


def test_the_command_says_how_to_go_on(bundle: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.tsv")
    lines = source.read_text(encoding="utf-8").splitlines()
    lines[900] += "\ttoo many"
    source.write_text("\n".join([*lines, ""]), encoding="utf-8")
    arguments = ["predict", str(source), "-m", str(bundle)]
    failed = start(arguments, tmp_path / "out.tsv")
    _, said = failed.communicate(timeout=60)
    assert failed.returncode == 1
    assert "is kept in" in " ".join(said.split())
    assert "--resume" in said
    settings = json.loads((partial_folder(tmp_path / "out.tsv") / "run.json").read_text(encoding="utf-8"))
    assert settings["--batch-tokens"] == "512"
    again = start([*arguments, "--resume", "--on-error", "skip"], tmp_path / "out.tsv")
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert "continuing the interrupted run" in said
    assert "rows that the interrupted run had done: " in " ".join(said.split())
