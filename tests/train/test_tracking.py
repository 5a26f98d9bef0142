"""Experiment trackers: what they are told of a run, and that none of them can hold it up or end it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from corpora import make_corpus
from tuning import GOOD, same_weights, tiny_config, twil_command, write_sets
from wandb_stand import Stand

from twil.core.errors import ConfigError, ModelError
from twil.train import tracking
from twil.train.finetune import finetune_events
from twil.train.loop import Evaluated, StepDone, Trainer
from twil.train.runs import finetune_runs_events
from twil.train.trackers import MLflow, TensorBoard, make_trackers
from twil.train.tracking import Figures, Status, TrackedRun, Tracker, tracked


class Notebook(Tracker):
    """Keeps all that it is told; fails where it is asked to."""

    name = "notebook"

    def __init__(self, fails_in: str = "") -> None:
        self.fails_in = fails_in
        self.runs: list[TrackedRun] = []
        self.figures: list[dict[tuple[str, int], float]] = []
        self.ended: list[Status] = []
        self.calls = 0

    def open(self, run: TrackedRun) -> tuple[str | None, str]:
        self._fail("open")
        self.runs.append(run)
        self.figures.append({})
        return run.id or f"id-{len(self.runs)}", "https://ana:clave@example.org/notebook"

    def log(self, figures: Sequence[Figures]) -> None:
        self._fail("log")
        for entry in figures:
            self.figures[-1] |= {(name, entry.step): value for name, value in entry.values.items()}

    def close(self, status: Status) -> None:
        self._fail("close")
        self.ended.append(status)

    def _fail(self, where: str) -> None:
        if where == self.fails_in:
            self.calls += 1
            raise ConnectionError("no route to https://ana:clave@example.org.\nand more")


class Said:
    """What a person is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []

    def follow(self, events: Any, tracker: Tracker, output: Path, config: Any) -> Iterator[Any]:
        return tracked(events, [tracker], output, config, say=self.lines.append, warn=self.notes.append)


def test_a_tracker_is_told_the_settings_the_figures_and_the_end(tmp_path: Path, tokenizer_file: Path) -> None:
    config, notebook, said = tiny_config(tmp_path, tokenizer_file, test=True), Notebook(), Said()
    output = tmp_path / "model"
    events = list(said.follow(finetune_events(config, output), notebook, output, config))
    (run,), (figures,) = notebook.runs, notebook.figures
    assert (run.name, run.folder, run.resumed, run.id) == ("model", output, 0, None)
    assert run.settings["train.lr"] == 1e-2
    assert run.settings["model.encoder.hidden_size"] == 16
    assert (run.settings["device"], run.settings["processes"]) == ("cpu", 1)
    assert None not in run.settings.values()
    for event in events:
        if isinstance(event, StepDone):
            assert (figures["train/loss", event.step], figures["train/lr", event.step]) == (
                event.loss,
                event.lr,
            )
        elif isinstance(event, Evaluated):
            assert figures["dev/macro_f1", event.step] == event.metrics["macro_f1"]
    finished = events[-1]
    last = max(step for _, step in figures)
    assert figures["test/accuracy", last] == finished.test.metrics["accuracy"]
    assert notebook.ended == ["finished"]
    assert said.lines == ["tracked by notebook: https://example.org/notebook"]
    assert said.notes == []
    assert not any(text in str((run, figures)) for text in GOOD)


@pytest.mark.parametrize("kill", [True, False])
def test_a_resumed_run_is_the_same_one_to_a_tracker(tmp_path: Path, tokenizer_file: Path, kill: bool) -> None:
    config, notebook, said, output = (
        tiny_config(tmp_path, tokenizer_file),
        Notebook(),
        Said(),
        tmp_path / "model",
    )
    asked: list[bool] = []
    events = said.follow(
        finetune_events(config, output, should_stop=lambda: bool(asked)), notebook, output, config
    )
    for event in events:
        if isinstance(event, Evaluated):
            if kill:
                break
            asked.append(True)
    events.close()  # type: ignore[attr-defined]
    assert notebook.ended == ["interrupted"]
    list(said.follow(finetune_events(config, output, resume=True), notebook, output, config))
    first, second = notebook.runs
    assert (first.id, second.id) == (None, "id-1")
    assert second.resumed > 0
    assert notebook.ended == ["interrupted", "finished"]
    list(said.follow(finetune_events(config, output, overwrite=True), notebook, output, config))
    assert notebook.runs[-1].id is None  # started anew


def test_a_run_that_fails_has_failed(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object) -> None:
        raise ModelError("the loss is not finite")

    config, notebook, output = tiny_config(tmp_path, tokenizer_file), Notebook(), tmp_path / "model"
    monkeypatch.setattr(Trainer, "_step", diverge)
    with pytest.raises(ModelError, match="not finite"):
        list(Said().follow(finetune_events(config, output), notebook, output, config))
    assert notebook.ended == ["failed"]


@pytest.mark.parametrize("where", ["open", "log", "close"])
def test_a_tracker_that_fails_is_left_out_with_one_note(
    tmp_path: Path, tokenizer_file: Path, where: str
) -> None:
    config, notebook, said = tiny_config(tmp_path, tokenizer_file), Notebook(where), Said()
    output = tmp_path / "model"
    list(said.follow(finetune_runs_events(config, output, runs=2), notebook, output, config))
    list(finetune_runs_events(config, tmp_path / "alone", runs=2))
    assert said.notes == [
        "notebook is told no more of the run (ConnectionError: no route to https://example.org)"
    ]
    assert notebook.calls == 1
    assert same_weights(output, tmp_path / "alone")


def test_a_tracker_that_hangs_holds_nothing_up(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    config, notebook, said = tiny_config(tmp_path, tokenizer_file), Notebook(), Said()
    monkeypatch.setattr(notebook, "log", lambda _: release.wait(60))
    monkeypatch.setattr(tracking, "_PATIENCE", 0.05)
    output = tmp_path / "model"
    *_, last = said.follow(finetune_events(config, output), notebook, output, config)
    release.set()
    assert last.folder == output
    assert said.notes == ["notebook is told no more of the run (TimeoutError: no answer within 0 s)"]


def test_every_run_of_a_series_is_one_to_a_tracker(tmp_path: Path, tokenizer_file: Path) -> None:
    config, notebook, said = tiny_config(tmp_path, tokenizer_file, test=True), Notebook(), Said()
    output = tmp_path / "model"
    *_, last = said.follow(finetune_runs_events(config, output, runs=2), notebook, output, config)
    assert [run.name for run in notebook.runs] == ["model-seed-1", "model-seed-2"]
    assert [run.settings["train.seed"] for run in notebook.runs] == [1, 2]
    assert notebook.ended == ["finished", "finished"]
    for run, figures in zip(last.series.runs, notebook.figures, strict=True):
        assert run.test["accuracy"] in [
            value for (name, _), value in figures.items() if name == "test/accuracy"
        ]


def test_unknown_and_missing_trackers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no tracker 'comet': choose one of tensorboard, mlflow, wandb"):
        make_trackers(["comet"])
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(Exception, match=f"--track {name} needs the extra '{name}'"):
            make_trackers([name])


def test_tensorboard_is_one_tracker_by_either_option(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (one,) = make_trackers(["tensorboard", "tensorboard"], tmp_path)
    assert isinstance(one, TensorBoard)
    assert one.folder == tmp_path


def finetune(folder: Path, tokenizer_file: Path, *more: str) -> Any:
    if not (folder / "train.tsv").exists():
        write_sets(folder)
    return twil_command(
        *("finetune", folder / "train.tsv", "--dev", folder / "dev.tsv", "--tokenizer", tokenizer_file),
        *("--init", "tiny", "--set", "model.encoder.n_layers=1", "--epochs", "1", "-o", folder / "model"),
        *more,
    )


def test_wandb_gets_settings_and_figures_and_gathers_nothing_itself(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand("offline")
    monkeypatch.setitem(sys.modules, "wandb", stand)  # type: ignore[arg-type]
    monkeypatch.setenv("WANDB_API_KEY", "muy-secreta")
    said = finetune(tmp_path, tokenizer_file, "--track", "wandb")
    assert said.exit_code == 0, said.output
    assert "tracked by wandb: wandb/offline-run-abc123" in said.output
    (begun,) = stand.begun
    assert (begun["id"], begun["resume"], begun["name"]) == (None, "allow", "model")
    assert begun["config"]["train.epochs"] == 1
    assert begun["settings"]["console"] == "off"
    assert {name for figures, _ in stand.logged for name in figures} >= {"train/loss", "dev/macro_f1"}
    assert stand.exit_codes == [0]
    assert not any(text in str((begun, stand.logged)) for text in (*GOOD, "muy-secreta"))


def test_wandb_without_a_key_asks_nobody_and_training_goes_on(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand("online")
    monkeypatch.setitem(sys.modules, "wandb", stand)  # type: ignore[arg-type]
    said = finetune(tmp_path, tokenizer_file, "--track", "wandb")
    assert said.exit_code == 0, said.output
    assert said.output.count("note: wandb is told no more of the run (no API key: ") == 1
    assert stand.begun == []


def test_of_several_processes_the_first_one_tracks(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand("offline")
    monkeypatch.setitem(sys.modules, "wandb", stand)  # type: ignore[arg-type]
    monkeypatch.setenv("RANK", "1")  # of one alone, so that there is nobody to wait for
    said = finetune(tmp_path, tokenizer_file, "--track", "wandb")
    assert said.exit_code == 0, said.output
    assert stand.begun == []


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'store.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tuits")
    return mlflow.MlflowClient(f"sqlite:///{tmp_path / 'store.db'}")


def test_mlflow_has_parameters_figures_and_the_end_of_a_resumed_run(
    tmp_path: Path, tokenizer_file: Path, client: Any
) -> None:
    config, said, output = tiny_config(tmp_path, tokenizer_file, test=True), Said(), tmp_path / "model"
    events = said.follow(finetune_events(config, output), MLflow(), output, config)
    for event in events:
        if isinstance(event, Evaluated):
            break
    events.close()  # type: ignore[attr-defined]

    def runs() -> Any:
        (experiment,) = [each for each in client.search_experiments() if each.name == "tuits"]
        return client.search_runs([experiment.experiment_id])

    (run,) = runs()
    assert run.info.status == "KILLED"
    assert run.info.run_name == "model"
    assert run.data.params["train.lr"] == "0.01"
    assert json.loads((tmp_path / "model.checkpoint" / "track.json").read_text()) == {
        "mlflow": run.info.run_id
    }
    events = said.follow(finetune_events(config, output, resume=True), MLflow(), output, config)
    seen = [event for event in events if isinstance(event, StepDone)]
    (again,) = runs()
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    history = client.get_metric_history(again.info.run_id, "train/loss")
    assert [each.step for each in history] == list(range(1, seen[-1].step + 1))
    assert history[-1].value == seen[-1].loss
    assert "test/f1:P" in again.data.metrics
    assert said.notes == []


def test_mlflow_takes_labels_of_any_characters(tmp_path: Path, tokenizer_file: Path, client: Any) -> None:
    config, said, output = tiny_config(tmp_path, tokenizer_file), Said(), tmp_path / "model"
    for name in ("train", "dev"):
        path = tmp_path / f"{name}.tsv"
        path.write_text(path.read_text(encoding="utf-8").replace("\tP\n", "\t¡😀!\n"), encoding="utf-8")
    list(said.follow(finetune_events(config, output), MLflow(), output, config))
    assert said.notes == []


def test_pretraining_is_tracked_too(
    tmp_path: Path, examples: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand("offline")
    monkeypatch.setitem(sys.modules, "wandb", stand)  # type: ignore[arg-type]
    corpus = make_corpus(examples, tokenizer_file, tmp_path / "corpus", dev=0.05)
    words = ["--corpus", corpus, "--set", "train.steps=2", "--set", "model.encoder.n_layers=1"]
    said = twil_command("pretrain", "tiny", *words, "--track", "wandb", "-o", tmp_path / "encoder")
    assert said.exit_code == 0, said.output
    assert {name for figures, _ in stand.logged for name in figures} >= {"train/loss", "train/lr", "dev/loss"}
    assert stand.exit_codes == [0]
