"""Several runs of the same settings: what they say together, and that nothing of them is lost."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from tuning import same_weights, tiny_config, twil_command, write_sets

from twil.core.errors import ConfigError, DataError, ModelError, TwilError
from twil.train.finetune import finetune_events
from twil.train.loop import Evaluated, Interrupted, StepDone, is_better
from twil.train.objectives.classification import Classification
from twil.train.runs import RunDone, SeriesFinished, finetune_runs_events, read_series
from twil.train.series import Run as OneRun
from twil.train.series import Series, Spread
from twil.train.trackers import TensorBoard
from twil.train.tracking import tracked


def finish(events: Any) -> SeriesFinished:
    *_, last = events
    assert isinstance(last, SeriesFinished)
    return last


def record(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return value


def test_the_best_run_by_dev_is_kept_and_tells_of_all(tmp_path: Path, tokenizer_file: Path) -> None:
    config = tiny_config(tmp_path, tokenizer_file, "train.seed=5", test=True)
    ended = finish(finetune_runs_events(config, tmp_path / "model", runs=3))
    alone = []
    for seed in (5, 6, 7):
        again = tiny_config(tmp_path, tokenizer_file, f"train.seed={seed}", test=True)
        *_, last = finetune_events(again, tmp_path / f"alone-{seed}")
        alone.append(last)
    told = record(tmp_path / "model")["runs"]
    values = [one.dev.metrics["macro_f1"] for one in alone]  # type: ignore[union-attr]
    tested = [one.test.metrics["accuracy"] for one in alone]  # type: ignore[union-attr]
    best = 5 + values.index(max(values))
    assert told["seeds"] == [5, 6, 7]
    assert told["best_seed"] == best
    assert told["dev"]["macro_f1"]["values"] == values
    assert told["dev"]["macro_f1"]["sd"] == pytest.approx(statistics.stdev(values))
    assert told["test"]["accuracy"]["mean"] == pytest.approx(statistics.fmean(tested))
    assert same_weights(tmp_path / "model", tmp_path / f"alone-{best}")
    assert record(tmp_path / "model")["config"]["train"]["seed"] == best
    assert read_series(tmp_path / "model") == ended.series
    assert not (tmp_path / "model.runs").exists()


def test_all_runs_are_kept_where_they_are_asked_for(tmp_path: Path, tokenizer_file: Path) -> None:
    config = tiny_config(tmp_path, tokenizer_file, "train.epochs=1")
    finish(finetune_runs_events(config, tmp_path / "model", runs=2, keep_runs=True))
    assert record(tmp_path / "model.runs" / "seed-2")["config"]["train"]["seed"] == 2
    finish(finetune_runs_events(config, tmp_path / "model", runs=1, overwrite=True))
    assert not (tmp_path / "model.runs").exists()
    assert record(tmp_path / "model")["runs"]["dev"]["macro_f1"]["sd"] is None


@pytest.mark.parametrize("kill", [True, False])
def test_an_interrupted_series_goes_on_where_it_was(tmp_path: Path, tokenizer_file: Path, kill: bool) -> None:
    config = tiny_config(tmp_path, tokenizer_file)
    whole = finish(finetune_runs_events(config, tmp_path / "whole", runs=3))
    asked: list[bool] = []
    first = finetune_runs_events(config, tmp_path / "part", runs=3, should_stop=lambda: bool(asked))
    runs_done = 0
    for event in first:
        runs_done += isinstance(event, RunDone)
        if runs_done == 1 and isinstance(event, Evaluated):  # in the second run, after its first epoch
            if kill:
                break
            asked.append(True)
    else:
        assert isinstance(event, Interrupted)
    first.close()
    assert not (tmp_path / "part").exists()
    (tmp_path / "part.runs" / ".seed-6.lock").touch()  # as a process leaves it that is killed
    rest = list(finetune_runs_events(config, tmp_path / "part", runs=3, resume=True))
    assert [event.kept for event in rest if isinstance(event, RunDone)] == [True, False, False]
    steps = sum(isinstance(event, StepDone) for event in rest)
    assert steps < sum(
        isinstance(event, StepDone) for event in finetune_runs_events(config, tmp_path / "x", runs=2)
    )
    assert finish(rest).series == whole.series
    assert same_weights(tmp_path / "whole", tmp_path / "part")


def test_a_series_of_other_settings_or_data_is_not_continued(tmp_path: Path, tokenizer_file: Path) -> None:
    config = tiny_config(tmp_path, tokenizer_file)
    stopped = finetune_runs_events(config, tmp_path / "model", runs=2, should_stop=lambda: True)
    assert isinstance(list(stopped)[-1], Interrupted)
    with pytest.raises(ConfigError, match="--resume, or start anew with --force"):
        list(finetune_runs_events(config, tmp_path / "model", runs=2))
    other = tiny_config(tmp_path, tokenizer_file, "train.lr=1e-3")
    with pytest.raises(ConfigError, match=r"had other settings \(train\.lr\)"):
        list(finetune_runs_events(other, tmp_path / "model", runs=2, resume=True))
    with (tmp_path / "dev.tsv").open("a", encoding="utf-8") as dev:
        dev.write("x\tuno más\tP\n")
    with pytest.raises(ConfigError, match="the dev data"):
        list(finetune_runs_events(config, tmp_path / "model", runs=2, resume=True))
    (tmp_path / "model.runs" / "thesis.odt").touch()
    with pytest.raises(TwilError, match=r"something else lies there \(thesis\.odt\)"):
        list(finetune_runs_events(config, tmp_path / "model", runs=2, overwrite=True))


def test_the_choice_of_the_best_run_does_not_look_at_the_test_set() -> None:
    runs = (
        OneRun(1, "macro_f1", 3, {"macro_f1": 0.7}, {"macro_f1": 0.9}),
        OneRun(2, "macro_f1", 4, {"macro_f1": 0.8}, {"macro_f1": 0.1}),
        OneRun(3, "macro_f1", 5, {"macro_f1": 0.8}, {"macro_f1": 0.2}),
    )
    series = Series("macro_f1", runs)
    assert series.best == 1  # of equals the first
    assert Series.parse(json.loads(json.dumps(series.as_dict())), source="run.json") == series
    with pytest.raises(ModelError, match="does not tell of several runs"):
        Series.parse({"seeds": []}, source="run.json")


@pytest.mark.parametrize("metric", ["macro_f1", "loss"])
def test_a_score_that_is_no_number_gives_way_to_any(metric: str) -> None:
    assert is_better(metric, math.nan, None)
    assert is_better(metric, 0.5, math.nan)
    assert not is_better(metric, math.nan, 0.5)
    assert not is_better(metric, math.nan, math.nan)


def test_the_spread_is_that_of_a_sample() -> None:
    spread = Spread((1.0, 2.0, 4.0))
    assert spread.mean == pytest.approx(7 / 3)
    assert spread.sd == pytest.approx((((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 2) ** 0.5)
    assert Spread((1.0,)).sd is None


def test_a_fault_before_the_first_step_leaves_nothing(tmp_path: Path, tokenizer_file: Path) -> None:
    config = tiny_config(tmp_path, tokenizer_file)
    with pytest.raises(ConfigError, match="positions"):
        list(
            finetune_runs_events(
                tiny_config(tmp_path, tokenizer_file, "model.max_length=99"), tmp_path / "m", runs=2
            )
        )
    (tmp_path / "dev.tsv").write_text("ID\tTEXT\tCLASS\n1\thola\tregular\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"dev\.tsv, line 2"):
        list(finetune_runs_events(config, tmp_path / "m", runs=2))
    with pytest.raises(ConfigError, match="--runs 1 or more"):
        list(finetune_runs_events(config, tmp_path / "m", runs=0))
    assert not list(tmp_path.glob("m*"))


def test_the_command_shows_every_run_and_their_mean(tmp_path: Path, tokenizer_file: Path) -> None:
    sets = write_sets(tmp_path)
    command = (
        *(
            "finetune",
            sets["train"],
            "--dev",
            sets["dev"],
            "--test",
            sets["test"],
            "--tokenizer",
            tokenizer_file,
        ),
        *("--set", "model.encoder.hidden_size=16", "--set", "model.encoder.n_layers=1", "--epochs", 1),
        *("-o", tmp_path / "model"),
    )
    refused = twil_command(*command, "--keep-runs")
    assert refused.exit_code == 1
    assert "only with --runs" in refused.stderr
    done = twil_command(*command, "--runs", 2)
    assert done.exit_code == 0, done.output
    assert "run 2 of 2, seed 2" in done.stderr
    assert done.stdout.startswith("2 runs\n")
    assert " ± " in done.stdout
    assert done.stdout.count("best on dev") == 1
    assert record(tmp_path / "model")["runs"]["seeds"] == [1, 2]
    assert "is there already" in twil_command(*command, "--runs", 2).stderr


def test_each_run_scores_the_test_set_once(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []
    whole = Classification.logits

    def count(self: Any, encoded: Any) -> Any:
        scored.append("dev" if encoded.targets is self.dev.targets else "test")
        return whole(self, encoded)

    monkeypatch.setattr(Classification, "logits", count)
    config = tiny_config(tmp_path, tokenizer_file, "train.epochs=2", test=True)
    finish(finetune_runs_events(config, tmp_path / "model", runs=2))
    assert scored.count("test") == 2


def test_the_loss_can_decide_too(tmp_path: Path, tokenizer_file: Path) -> None:
    config = tiny_config(tmp_path, tokenizer_file, "train.metric=loss", test=True)
    ended = finish(finetune_runs_events(config, tmp_path / "model", runs=2))
    losses = ended.series.value.values
    assert ended.series.best == losses.index(min(losses))
    history = record(tmp_path / "model")["history"]
    assert min(losses) == min(entry["dev_loss"] for entry in history)


def test_processes_of_torchrun_are_refused(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        list(finetune_runs_events(tiny_config(tmp_path, tokenizer_file), tmp_path / "model", runs=2))


def test_every_seed_has_its_figures_for_tensorboard(tmp_path: Path, tokenizer_file: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = tiny_config(tmp_path, tokenizer_file)
    events = finetune_runs_events(config, tmp_path / "model", runs=2)
    trackers, quiet = [TensorBoard(tmp_path / "figures")], lambda _: None
    list(tracked(events, trackers, tmp_path / "model", config, say=quiet, warn=quiet))
    for seed in (1, 2):
        figures = accumulator.EventAccumulator(str(tmp_path / "figures" / f"seed-{seed}"))
        figures.Reload()
        assert {"train/loss", "train/lr", "dev/macro_f1"} <= set(figures.Tags()["scalars"])
