"""Several models in one pass: each says of every row what it says alone, in columns of its name."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from bundles import POLARITY, write_bundle
from commands import Run, fails
from test_partial import interrupt_after, keep_at_once, write_rows

from twil.core.errors import ConfigError, DataError
from twil.core.task import Task
from twil.data.tables.table_sets import Shard
from twil.inference.events import RowsDone, RowsStarted, Summary
from twil.inference.predict_file import predict_events
from twil.inference.predictor import Predictor
from twil.inference.resume import partial_folder

__all__ = ["keep_at_once"]  # a fixture

TASKS = {
    "polarity": POLARITY,
    "feelings": Task("multi-label", ("joy", "fear"), thresholds=(0.4, 0.6)),
    "degree": Task("regression", ("value",)),
    "short": Task("class", ("NO", "SÍ")),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give models of several tasks; the last has a tokenizer of its own, that cuts earlier."""
    folder = tmp_path_factory.mktemp("models")
    return {
        name: write_bundle(folder / name, task, seed=seed, max_length=8 if name == "short" else 32)
        for seed, (name, task) in enumerate(TASKS.items())
    }


def label(source: Any, models: Any, target: Path, **options: Any) -> tuple[RowsStarted, Summary]:
    started, *_, last = predict_events(source, models, target, window_rows=50, provider="cpu", **options)
    assert isinstance(started, RowsStarted)
    assert isinstance(last, Summary)
    return started, last


def read_table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        quoting: Any = csv.QUOTE_NONE if path.suffix == ".tsv" else csv.QUOTE_MINIMAL
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", quoting=quoting))


def numbers(column: list[Any]) -> np.ndarray:
    return np.array([np.nan if cell in ("", None) else float(cell) for cell in column])


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "parquet"])
@pytest.mark.parametrize("on_error", ["skip", "mark"])
def test_each_model_says_what_it_says_alone(
    models: dict[str, Path], tmp_path: Path, ending: str, on_error: str
) -> None:
    source = write_rows(tmp_path / "in.tsv", rows=130)
    with source.open("a") as file:
        file.write("malo\tuno\tdos\nid999\tel último, ya era hora de que acabara\n")
    together = tmp_path / f"together.{ending}"
    options: dict[str, Any] = {"on_error": on_error, "keep": ["TEXT"]}
    started, summary = label(source, list(models.values()), together, **options)
    rows = read_table(together)
    assert summary.rows == len(rows) == 131 + (on_error == "mark")
    expected = ["ID", "TEXT"]
    for name, model in models.items():
        label(source, model, tmp_path / f"{name}.{ending}", **options)
        alone = read_table(tmp_path / f"{name}.{ending}")
        own = [column for column in alone[0] if column not in ("ID", "TEXT", "error")]
        expected += [f"{name}_{column}" for column in own]
        for column in own:
            cells, told = (
                [row[key] for row in each] for each, key in ((alone, column), (rows, f"{name}_{column}"))
            )
            if column == "label":
                assert told == cells
            else:
                np.testing.assert_allclose(numbers(told), numbers(cells), rtol=0, atol=1e-6)
    expected += ["error"] if on_error == "mark" else []
    assert list(rows[0]) == list(started.columns) == expected
    assert (started.model, *started.others) == tuple(models.values())


def test_one_model_in_a_list_is_that_model(models: dict[str, Path], tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.tsv", rows=60)
    for target, given in (("a.tsv", models["short"]), ("b.tsv", [models["short"]])):
        label(source, given, tmp_path / target)
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


def test_texts_become_ids_once_where_tokenizers_are_the_same(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = Predictor.encode

    def counting(self: Predictor, texts: Any) -> Any:
        encoded.append(self.bundle.folder.name)
        return encode(self, texts)

    monkeypatch.setattr(Predictor, "encode", counting)
    label(write_rows(tmp_path / "in.tsv", rows=100), list(models.values()), tmp_path / "out.tsv")
    assert encoded == ["polarity", "short"] * 2  # windows


def test_rows_are_counted_once_however_many_models_there_are(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twil.inference.pipeline.PROGRESS_SECONDS", 0.0)
    source = write_rows(tmp_path / "in.tsv", rows=120)
    events = list(predict_events(source, list(models.values()), tmp_path / "out.tsv", window_rows=50))
    counts = [event.rows for event in events if isinstance(event, RowsDone)]
    assert counts == sorted(counts)
    assert counts[-1] == 120
    label(source, models["short"], tmp_path / "short.tsv")
    *_, alone = predict_events(source, models["short"], tmp_path / "short.tsv")
    assert isinstance(alone, Summary)
    summary = events[-1]
    assert isinstance(summary, Summary)
    assert (summary.truncated, summary.empty) == (alone.truncated, alone.empty)
    assert summary.truncated > 0


@pytest.mark.parametrize("stop", [1, 11, 19])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    models: dict[str, Path], tmp_path: Path, stop: int
) -> None:
    source = write_rows(tmp_path / "in.tsv")
    predictors: Any = [Predictor(model, provider="cpu") for model in models.values()]
    label_all = {"window_rows": 50}
    list(predict_events(source, predictors, tmp_path / "whole.tsv", **label_all))
    interrupt_after(stop, source, predictors, tmp_path / "part.tsv")
    for others in (predictors[:2], predictors[::-1], predictors[0]):
        with pytest.raises(ConfigError, match=r"had other settings .*the model"):
            list(predict_events(source, others, tmp_path / "part.tsv", resume=True, **label_all))
    *_, summary = predict_events(source, predictors, tmp_path / "part.tsv", resume=True, **label_all)
    assert isinstance(summary, Summary)
    assert summary.continued >= 50 * stop
    assert (tmp_path / "part.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    assert not partial_folder(tmp_path / "part.tsv").exists()


def test_shards_are_the_whole(models: dict[str, Path], tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.tsv", rows=230)
    given = list(models.values())
    label(source, given, tmp_path / "whole.tsv")
    header, parts = b"", b""
    for number in range(1, 4):
        label(source, given, tmp_path / "part.tsv", shard=Shard(number, 3))
        header, _, rows = (tmp_path / "part.tsv").read_bytes().partition(b"\n")
        parts += rows
    assert header + b"\n" + parts == (tmp_path / "whole.tsv").read_bytes()


def test_models_of_the_same_name_are_told_apart(models: dict[str, Path], tmp_path: Path, run: Run) -> None:
    source = write_rows(tmp_path / "in.tsv", rows=3)
    short, copy = models["short"], write_bundle(tmp_path / "short", TASKS["short"])

    def header(*given: object) -> list[str]:
        code, out, err = run("predict", source, *(word for model in given for word in ("-m", model)))
        assert code == 0, err
        return out.splitlines()[0].split("\t")

    assert header(f"a={short}", f"b={copy}") == ["ID", "a_label", "a_NO", "a_SÍ", "b_label", "b_NO", "b_SÍ"]
    assert header(short, short)[1::3] == ["short_label", "short #2_label"]
    assert header(short, copy)[1::3] == [f"{short}_label", f"{copy}_label"]
    assert header(f"a={short}") == ["ID", "label", "NO", "SÍ"]  # alone it needs no name
    fails(run("predict", source, "-m", f"a={short}", "-m", f"a={copy}"), "two models have the same name")


def test_a_name_that_is_taken_gives_way(models: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "in.tsv"
    source.write_text("TEXT\tshort_label\terror\nhola\tx\ty\n", encoding="utf-8")
    given = [models["short"], models["degree"]]
    started, _ = label(source, given, tmp_path / "out.tsv", keep=["short_label", "error"], on_error="mark")
    assert started.columns == (
        *("short_label", "error", "predicted_short_label", "short_NO", "short_SÍ", "degree_value"),
        "predicted_error",
    )


def test_models_that_do_not_go_together_are_refused(
    models: dict[str, Path], tmp_path: Path, run: Run
) -> None:
    source = write_rows(tmp_path / "in.tsv", rows=3)
    pairs = write_bundle(tmp_path / "pairs", Task("class", ("NO", "SÍ"), pair=True))
    with pytest.raises(DataError, match="pairs takes pairs of texts"):
        label(source, [models["short"], pairs], tmp_path / "out.tsv")
    with pytest.raises(ConfigError, match="there is no model"):
        label(source, [], tmp_path / "out.tsv")
    with pytest.raises(ConfigError, match="would have no effect"):
        label(source, [models["short"], Predictor(models["short"])], tmp_path / "out.tsv")
    given = [word for model in models.values() for word in ("-m", model)]
    fails(
        run("predict", source, *given, "--engine", "ray", "-o", tmp_path / "out"), "ray labels with one", "4"
    )
    assert not (tmp_path / "out.tsv").exists()


def test_numbers_that_are_not_finite_end_the_work_of_all(models: dict[str, Path], tmp_path: Path) -> None:
    def spoil(graph: onnx.ModelProto) -> None:
        (bias,) = (each for each in graph.graph.initializer if each.name == "bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(np.full(2, np.nan, np.float32), "bias"))

    broken = write_bundle(tmp_path / "broken", TASKS["short"], change=spoil)
    with pytest.raises(Exception, match="broken gives numbers that are not finite"):
        label(write_rows(tmp_path / "in.tsv", rows=9), [models["short"], broken], tmp_path / "out.tsv")
    assert not (tmp_path / "out.tsv").exists()
