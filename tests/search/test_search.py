"""Search: what it tries, what it keeps, and that it goes on from anywhere."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import FORKS
from tuning import same_weights, tiny_options, twil_command

from twil.config.search import Plan, search_plan
from twil.config.training import finetune_config
from twil.core.errors import ConfigError, DataError, ModelError, TwilError
from twil.search import run as searching
from twil.search import study
from twil.search.events import (
    SearchFinished,
    SearchInterrupted,
    SearchStarted,
    TrialAdvanced,
    TrialDone,
    TrialRetried,
    TrialStarted,
)
from twil.search.folder import SearchFolder
from twil.search.run import search
from twil.train.finetune import FinetuneFinished, FinetuneStarted, finetune_events
from twil.train.loop import Evaluated, StepDone
from twil.train.objectives.classification import Classification
from twil.train.series import Run, Series

GRID = ("lr=1e-2,1e-4", "pooling=avg,cls")
MakePlan = Callable[..., Plan]


@pytest.fixture
def plan(tmp_path: Path, tokenizer_file: Path) -> MakePlan:
    def make(*settings: str, test: bool = False, **search: Any) -> Plan:
        return search_plan(None, tiny_options(tmp_path, tokenizer_file, test=test), settings, search)

    return make


def finish(events: Any) -> SearchFinished:
    *_, last = events
    assert isinstance(last, SearchFinished)
    return last


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def account(folder: Path) -> dict[str, Any]:
    """Read the whole account but for times."""
    value: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for trial in value["trials"]:
        del trial["seconds"]
    return value


def test_a_grid_tries_every_combination_and_its_settings_make_the_winner_again(
    plan: MakePlan, tmp_path: Path
) -> None:
    events = list(search(plan(*GRID, test=True, runs=2), tmp_path / "search"))
    started, finished = events[0], finish(events)
    assert isinstance(started, SearchStarted)
    assert started.seeds == (1, 2)
    assert sorted(path.name for path in (tmp_path / "search").iterdir()) == [
        *("best", "best.toml", "results.json", "results.tsv", "study.journal")
    ]
    found = rows(tmp_path / "search")
    assert {(row["train.lr"], row["model.classifier.pooling"]) for row in found} == {
        *(("1e-2", "avg"), ("1e-2", "cls"), ("1e-4", "avg"), ("1e-4", "cls"))
    }
    means = [float(row["mean"]) for row in found]
    assert means == sorted(means, reverse=True)
    assert [float(value) for value in found[0]["runs"].split("|")] == list(
        finished.best.series.value.values  # type: ignore[union-attr]
    )
    again = finetune_config(tmp_path / "search" / "best.toml", {})
    *_, made = finetune_events(again, tmp_path / "again")
    assert isinstance(made, FinetuneFinished)
    assert same_weights(tmp_path / "again", tmp_path / "search" / "best")
    assert (made.dev, made.test) == (finished.dev, finished.test)
    record = json.loads((tmp_path / "search" / "best" / "run.json").read_text())
    alone = json.loads((tmp_path / "again" / "run.json").read_text())
    assert record["results"] == alone["results"]
    assert record["data"] == alone["data"]
    assert record["config"] == alone["config"]
    assert record["search"]["trials"] == 4
    assert account(tmp_path / "search")["winner"]["test"] == alone["results"]["test"]


def test_the_test_set_is_scored_once_by_the_winner(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []
    whole = searching.evaluate
    logits = Classification.logits

    def count(path: Any, file: Any, **options: Any) -> Any:
        scored.append(Path(file).name)
        return whole(path, file, **options)

    def count_trials(self: Any, encoded: Any) -> Any:
        scored.append("dev" if encoded.targets is self.dev.targets else "test")
        return logits(self, encoded)

    monkeypatch.setattr(searching, "evaluate", count)
    monkeypatch.setattr(Classification, "logits", count_trials)
    assert finish(search(plan("lr=1e-2,1e-4", test=True), tmp_path / "search")).test is not None
    assert [name for name in scored if name != "dev"] == ["test.tsv"]


def test_an_unknown_label_of_the_test_set_is_found_before_any_training(
    plan: MakePlan, tmp_path: Path
) -> None:
    made = plan("lr=1e-2,1e-4", test=True)
    (tmp_path / "test.tsv").write_text("ID\tTEXT\tCLASS\n1\thola\tregular\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.tsv, line 2: the label 'regular'"):
        list(search(made, tmp_path / "search"))
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (("lr=1e-4..1e-1", "pooling=avg,cls", "epochs=1"), {"trials": 5}),
        (("lr=1e-4..1e-1", "epochs=1"), {"trials": 2, "sampler": "random"}),
    ],
)
def test_two_searches_give_the_same_table(
    plan: MakePlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: tuple[str, ...],
    options: dict[str, Any],
) -> None:
    monkeypatch.setattr(study, "STARTUP_TRIALS", 3)  # after which `tpe` learns from them
    for name in ("one", "two"):
        finish(search(plan(*settings, **options), tmp_path / name))
    assert (tmp_path / "one" / "results.tsv").read_bytes() == (tmp_path / "two" / "results.tsv").read_bytes()
    assert account(tmp_path / "one") == account(tmp_path / "two")
    assert len({row["train.lr"] for row in rows(tmp_path / "one")}) == options["trials"]


def test_more_trials_than_a_range_has_numbers_repeat_some(plan: MakePlan, tmp_path: Path) -> None:
    with study.quiet():
        made = plan("epochs=1..3", trials=5, sampler="random")
        trials = study.Study(tmp_path / "study.journal", made, metric="macro_f1", seed=1)
        trials.plan_ahead()
        points = []
        while taken := trials.take():
            points.append(taken[1]["train.epochs"])
    assert len(points) == 5
    assert set(points) == {1, 2, 3}


def test_another_seed_draws_other_points_and_trains_with_other_seeds(plan: MakePlan, tmp_path: Path) -> None:
    drawn = []
    for seed in (1, 7):
        made = plan("lr=1e-4..1e-1", f"seed={seed}", "epochs=1", trials=1)
        result = finish(search(made, tmp_path / f"{seed}")).best
        assert result.series is not None
        assert [run.seed for run in result.series.runs] == [seed]
        drawn.append(result.point["train.lr"])
    assert drawn[0] != drawn[1]


def in_trial(event: Any, trial: int, run: int, kind: type) -> bool:
    return (
        isinstance(event, TrialAdvanced)
        and (event.trial, event.run) == (trial, run)
        and isinstance(event.event, kind)
    )


STOPPED = ("lr=1e-2,1e-4,1e-3",)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    """Give a search that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    made = search_plan(None, tiny_options(folder, tokenizer_file), STOPPED, {"runs": 2})
    finish(search(made, folder / "search"))
    return folder / "search"


@pytest.mark.parametrize(
    ("ask", "where", "kept"),
    [
        (True, lambda event: isinstance(event, SearchStarted), 0),
        (False, lambda event: isinstance(event, TrialStarted) and event.trial == 2, 1),
        (True, lambda event: in_trial(event, 2, 1, StepDone) and event.event.epoch == 2, 1),
        (False, lambda event: in_trial(event, 3, 1, Evaluated), 2),
        (False, lambda event: in_trial(event, 3, 2, Evaluated), 2),
        (False, lambda event: isinstance(event, TrialDone) and event.result.trial == 3, 3),
    ],
)
def test_a_search_stopped_anywhere_ends_with_the_table_of_one_that_was_not(
    plan: MakePlan, tmp_path: Path, whole: Path, ask: bool, where: Callable[[Any], bool], kept: int
) -> None:
    made = plan(*STOPPED, runs=2)
    asked: list[bool] = []
    events = search(made, tmp_path / "part", should_stop=lambda: bool(asked))
    for event in events:
        if where(event) and not ask:
            events.close()  # type: ignore[attr-defined]
            break
        if where(event):
            asked.append(True)
    if ask:
        assert isinstance(event, SearchInterrupted)
    with pytest.raises(ConfigError, match="continue it with --resume"):
        list(search(made, tmp_path / "part"))
    with (tmp_path / "part" / "study.journal").open("ab") as journal:
        journal.write(b'{"op_code":')  # a line that a kill has cut
    started, *rest = search(made, tmp_path / "part", resume=True)
    assert isinstance(started, SearchStarted)
    assert started.ended == kept
    finish(rest)
    assert account(tmp_path / "part") == account(whole)
    assert same_weights(tmp_path / "part" / "best", whole / "best")


def search_until_killed(made: Plan, folder: Path) -> None:
    for event in search(made, folder):
        inner = event.event if isinstance(event, TrialAdvanced) and event.trial == 2 else None
        if isinstance(inner, Evaluated):
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_search_takes_its_trial_up_again(plan: MakePlan, tmp_path: Path, whole: Path) -> None:
    made = plan(*STOPPED, runs=2)
    killed = FORKS.Process(target=search_until_killed, args=(made, tmp_path / "part"))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    events = list(search(made, tmp_path / "part", resume=True))
    (again,) = (event.event for event in events if in_trial(event, 2, 1, FinetuneStarted))
    assert again.resumed > 0  # from its last checkpoint, not from its beginning
    assert account(tmp_path / "part") == account(whole)


def test_several_processes_give_the_same_table_and_none_is_left_behind(
    plan: MakePlan, tmp_path: Path, whole: Path
) -> None:
    made = plan(*STOPPED, runs=2)
    asked: list[bool] = []
    retried = 0
    for event in search(made, tmp_path / "part", jobs=2, should_stop=lambda: bool(asked)):
        if isinstance(event, TrialAdvanced) and isinstance(event.event, Evaluated) and not retried:
            one, *_ = multiprocessing.active_children()
            os.kill(one.pid or 0, signal.SIGKILL)
            retried = 1
        if isinstance(event, TrialRetried):
            assert event.how == "signal 9"
            retried = 2
        if isinstance(event, TrialDone) and retried == 2:
            asked.append(True)
    assert isinstance(event, SearchInterrupted | SearchFinished)
    assert retried == 2
    assert not multiprocessing.active_children()
    if isinstance(event, SearchInterrupted):
        finish(search(made, tmp_path / "part", resume=True))
    assert account(tmp_path / "part") == account(whole)


def test_hopeless_trials_end_early_unless_they_may_not(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "PRUNING_TRIALS", 1)
    settings = ("lr=1e-2,1e-9", "pooling=avg", "epochs=6", "patience=9")
    finish(search(plan(*settings, prune=False), tmp_path / "whole"))
    *good, hopeless = (trial["evaluations"] for trial in account(tmp_path / "whole")["trials"])
    expected = next(
        number
        for number in range(2, 6)  # the first evaluation never ends a trial, and the last has no need to
        if max(hopeless[:number]) < statistics.median(scores[number - 1] for scores in good)
    )
    finish(search(plan(*settings), tmp_path / "search"))
    *rest, pruned = rows(tmp_path / "search")
    assert [row["state"] for row in rest] == ["done"]
    assert (pruned["train.lr"], pruned["state"], pruned["mean"]) == ("1e-9", "pruned", "")
    assert pruned["note"].startswith(f"evaluation {expected}: ")
    assert account(tmp_path / "search")["trials"][-1]["evaluations"] == hopeless[:expected]


def test_a_trial_that_diverges_fails_alone(plan: MakePlan, tmp_path: Path) -> None:
    finished = finish(search(plan("lr=1e30,1e-2", "clip=0"), tmp_path / "search"))
    assert finished.best.point == {"train.lr": "1e-2"}
    assert [row["state"] for row in rows(tmp_path / "search")] == ["done", "failed"]
    assert "epoch 1" in rows(tmp_path / "search")[1]["note"]
    with pytest.raises(ModelError, match="no trial came to its end"):
        list(search(plan("lr=1e30,1e31", "clip=0"), tmp_path / "none"))


def test_a_point_that_was_tried_is_not_trained_again(plan: MakePlan, tmp_path: Path) -> None:
    events = list(search(plan("pooling=avg,cls", sampler="tpe", trials=6), tmp_path / "search"))
    assert sum(isinstance(event, TrialStarted) for event in events) == 2
    assert sum(isinstance(event, TrialDone) for event in events) == 6
    assert len(rows(tmp_path / "search")) == 2
    repeats = [trial["repeats"] for trial in account(tmp_path / "search")["trials"] if "repeats" in trial]
    assert len(repeats) == 4


def test_a_point_that_is_under_way_is_not_trained_beside_itself(plan: MakePlan, tmp_path: Path) -> None:
    made = plan("pooling=avg,cls", sampler="tpe", trials=5)
    events = list(search(made, tmp_path / "search", jobs=3))
    assert sum(isinstance(event, TrialStarted) for event in events) == 2
    assert sum(isinstance(event, TrialDone) for event in events) == 5
    assert len(rows(tmp_path / "search")) == 2


def test_a_trial_is_pruned_where_enough_others_have_a_score_of_the_same_evaluation(
    plan: MakePlan, tmp_path: Path
) -> None:
    with study.quiet():
        made = plan("lr=1e-4..1e-2", sampler="tpe", trials=20)
        trials = study.Study(tmp_path / "study.journal", made, metric="macro_f1", seed=1)
        scored = Series("macro_f1", (Run(1, "macro_f1", 2, {"macro_f1": 0.5}, {}),))
        for done in range(study.PRUNING_TRIALS):
            number, _ = trials.take() or (0, {})
            for evaluation in (1, 2):
                trials.report(number, evaluation, 0.5)
            if done == 0:  # one alone goes on
                trials.report(number, 3, 0.9)
            trials.complete(number, scored, 1.0)
        number, _ = trials.take() or (0, {})
        assert trials.report(number, 2, 0.4)
        number, _ = trials.take() or (0, {})
        assert [trials.report(number, evaluation, 0.6) for evaluation in (1, 2, 3)] == [False] * 3


def test_the_test_set_is_scored_on_the_rows_that_are_asked_for(plan: MakePlan, tmp_path: Path) -> None:
    finished = finish(
        search(plan("lr=1e-2,1e-4", "limit=7", "shuffle_seed=1", test=True), tmp_path / "search")
    )
    assert finished.test is not None
    record = json.loads((tmp_path / "search" / "best" / "run.json").read_text())
    assert record["data"]["test"]["rows"] == sum(map(sum, finished.test.confusion)) == 7


def test_models_of_trials_stay_where_they_are_asked_for(plan: MakePlan, tmp_path: Path) -> None:
    finish(search(plan("lr=1e-2,1e-4"), tmp_path / "search", keep_trials=True))
    trials = tmp_path / "search" / "trials"
    assert sorted(path.name for path in trials.iterdir()) == ["0001", "0002"]
    for name in (".0001.lock", ".0003.lock", ".0001-x7"):  # as processes leave them that are killed
        (trials / name).touch()
    SearchFolder(tmp_path / "search").clear_trials(keep=[1], ended=[1, 2])
    assert sorted(path.name for path in trials.iterdir()) == [".0003.lock", "0001"]
    with pytest.raises(ConfigError, match="a search that has ended lies in"):
        list(search(plan("lr=1e-2,1e-4"), tmp_path / "search", resume=True))
    finish(search(plan("lr=1e-2,1e-3"), tmp_path / "search", overwrite=True))
    assert not (tmp_path / "search" / "trials").exists()


def test_another_search_is_not_continued(plan: MakePlan, tmp_path: Path) -> None:
    list(search(plan("lr=1e-2,1e-4"), tmp_path / "search", should_stop=lambda: True))
    for other, message in (
        (plan("lr=1e-2,1e-3"), "the space"),
        (plan("lr=1e-2,1e-4", "epochs=1"), r"train\.epochs"),
        (plan("lr=1e-2,1e-4", runs=2), "--runs"),
    ):
        with pytest.raises(ConfigError, match=rf"had other settings \({message}\)"):
            list(search(other, tmp_path / "search", resume=True))
    with (tmp_path / "dev.tsv").open("a", encoding="utf-8") as dev:
        dev.write("x\tuno más\tP\n")
    made = plan("lr=1e-2,1e-4")
    (tmp_path / "dev.tsv").write_text("ID\tTEXT\tCLASS\n1\thola\tP\n2\tuf\tN\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="the dev data"):
        list(search(made, tmp_path / "search", resume=True))
    (tmp_path / "search" / "thesis.odt").touch()
    with pytest.raises(TwilError, match=r"something else lies there \(thesis\.odt\)"):
        list(search(made, tmp_path / "search", overwrite=True))


def test_one_search_at_a_time_writes_a_folder(plan: MakePlan, tmp_path: Path) -> None:
    made = plan("lr=1e-2,1e-4")
    (tmp_path / "disk").mkdir()
    (tmp_path / "search").symlink_to(tmp_path / "disk")  # an output may lie elsewhere
    first = search(made, tmp_path / "search")
    next(iter(first))
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(TwilError, match=r"another process is writing .*search"):
            list(search(made, tmp_path / "search", **options))
    finish(first)


def test_a_damaged_study_is_one_clear_error(plan: MakePlan, tmp_path: Path) -> None:
    made = plan("lr=1e-2,1e-4")
    list(search(made, tmp_path / "search", should_stop=lambda: True))
    (tmp_path / "search" / "study.journal").write_text("[]\nno\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"study\.journal cannot be read .*--force"):
        list(search(made, tmp_path / "search", resume=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "lr=1e-2,fast"), "train.lr"),
        (("--set", "lr=1e-2,1e-3", "--set", "model.max_length=20,99"), "positions"),
        (("--set", "lr=1e-2,1e-3", "--set", "precision=fp32,fp16"), "needs a CUDA device"),
        (("--set", "lr=1e-2,1e-3", "--metric", "beauty"), "there is no metric 'beauty'"),
        (("--set", "lr=1e-2..1e-1", "--sampler", "grid"), "a grid needs lists"),
    ],
)
def test_the_command_checks_every_value_before_it_writes_anything(
    plan: MakePlan, tmp_path: Path, tokenizer_file: Path, arguments: tuple[str, ...], message: str
) -> None:
    plan("lr=1e-2,1e-3")  # writes the files
    shape = ("--set", "model.encoder={hidden_size=16, n_layers=1, n_heads=1, max_positions=40}")
    done = twil_command(
        *("search", tmp_path / "train.tsv", "--dev", tmp_path / "dev.tsv", "--tokenizer", tokenizer_file),
        *(*shape, *arguments, "-o", tmp_path / "search"),
    )
    assert done.exit_code == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "search").exists()


def test_the_command_shows_the_trials_and_the_winner(
    plan: MakePlan, tmp_path: Path, tokenizer_file: Path
) -> None:
    plan("lr=1e-2,1e-3", test=True)
    config = tmp_path / "search.toml"
    config.write_text(
        "[model.encoder]\nhidden_size = 16\nn_layers = 1\nn_heads = 1\nmax_positions = 40\n"
        "[train]\nepochs = 1\n[search]\nruns = 2\n[search.space]\nlr = [1e-2, 1e-4]\n",
        encoding="utf-8",
    )
    command = (
        *("search", tmp_path / "train.tsv", "--dev", tmp_path / "dev.tsv", "--test", tmp_path / "test.tsv"),
        *("--tokenizer", tokenizer_file, "--config", config, "-o", tmp_path / "search"),
    )
    done = twil_command(*command)
    assert done.exit_code == 0, done.output
    assert "2 trials (grid: every combination), seeds 1 to 2" in done.stderr
    assert done.stdout.startswith("2 trials\n")
    assert " ± " in done.stdout
    assert "test, best run of trial" in done.stdout
    assert "best.toml" in done.stderr
    assert "has ended" in twil_command(*command).stderr


def test_torchrun_is_refused(plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        list(search(plan("lr=1e-2,1e-4"), tmp_path / "search"))
