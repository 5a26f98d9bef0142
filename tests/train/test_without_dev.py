"""Fine-tuning without a dev file: nothing is chosen, the last epoch is kept, and what is written says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tuning import same_weights, tiny_options, twil_command, write_sets

from twil.config.training import FinetuneConfig, finetune_config, parse_finetune_config
from twil.core.errors import ConfigError
from twil.train.finetune import FinetuneFinished, finetune_events
from twil.train.loop import Evaluated, Interrupted


def config_without_dev(folder: Path, tokenizer_file: Path, *overrides: str) -> FinetuneConfig:
    options = tiny_options(folder, tokenizer_file, test=True)
    del options["data"]["dev"]
    return finetune_config(None, options, overrides)


def finish(events: Any) -> FinetuneFinished:
    *_, last = events
    assert isinstance(last, FinetuneFinished)
    return last


def test_the_last_epoch_is_kept_and_the_record_says_what_decided(
    tmp_path: Path, tokenizer_file: Path
) -> None:
    events = list(finetune_events(config_without_dev(tmp_path, tokenizer_file), tmp_path / "model"))
    finished = finish(events)
    assert (finished.best_epoch, finished.dev, finished.metric) == (2, None, "auto")
    assert finished.test is not None
    epochs = [event for event in events if isinstance(event, Evaluated)]
    assert [(event.metrics, event.best) for event in epochs] == [({}, False)] * 2
    run = json.loads((tmp_path / "model" / "run.json").read_text())
    assert (run["best_epoch"], list(run["results"]), list(run["data"])) == (2, ["test"], ["train", "test"])
    assert (run["config"]["train"]["metric"], run["config"]["train"]["patience"]) == ("auto", None)
    parse_finetune_config(run["config"])  # what was recorded is a run of its own
    # Of the same run with dev, the last epoch is the best in this case: the weights are the same.
    with_dev = finetune_config(None, tiny_options(tmp_path, tokenizer_file), ["train.metric=loss"])
    assert finish(finetune_events(with_dev, tmp_path / "chosen")).best_epoch == 2
    assert same_weights(tmp_path / "model", tmp_path / "chosen")


def test_a_run_without_dev_is_resumed_bit_for_bit(tmp_path: Path, tokenizer_file: Path) -> None:
    config = config_without_dev(tmp_path, tokenizer_file)
    finish(finetune_events(config, tmp_path / "whole"))
    asked: list[bool] = []
    events = finetune_events(
        config, tmp_path / "part", should_stop=lambda: asked.append(True) or len(asked) == 4
    )
    assert isinstance(list(events)[-1], Interrupted)
    with_dev = finetune_config(None, tiny_options(tmp_path, tokenizer_file, test=True))
    with pytest.raises(ConfigError, match="the dev data"):
        list(finetune_events(with_dev, tmp_path / "part", resume=True))
    finish(finetune_events(config, tmp_path / "part", resume=True))
    assert same_weights(tmp_path / "whole", tmp_path / "part")


def test_the_command_may_have_nothing_to_score(tmp_path: Path, tokenizer_file: Path) -> None:
    start = ("--init", "tiny", "--tokenizer", tokenizer_file, "--epochs", 1)
    done = twil_command("finetune", write_sets(tmp_path)["train"], *start, "-o", tmp_path / "model")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no dev file" in done.stderr


def test_several_runs_and_a_search_need_dev(tmp_path: Path, tokenizer_file: Path) -> None:
    train = write_sets(tmp_path)["train"]
    start = ("--init", "tiny", "--tokenizer", tokenizer_file, "-o", tmp_path / "model")
    for command in (
        ("finetune", train, "--runs", 2, *start),
        ("search", train, "--set", "epochs=1,2", *start),
    ):
        done = twil_command(*command)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert "(--dev)" in done.stderr
    assert not list(tmp_path.glob("model*"))


def test_a_kept_classifier_gets_the_names_of_the_data(tmp_path: Path, tokenizer_file: Path) -> None:
    finish(finetune_events(config_without_dev(tmp_path, tokenizer_file), tmp_path / "first"))
    rows = tmp_path / "train.tsv"
    rows.write_text(rows.read_text().replace("\tP", "\tbien").replace("\tN", "\tmal"))
    data, start = {"train": rows, "test": rows}, {"folder": tmp_path / "first", "keep_head": True}
    names = {"map_labels": {"P": "bien", "N": "mal"}}
    config = finetune_config(None, {"data": data, "model": start | names, "train": {"epochs": 0}})
    finished = finish(finetune_events(config, tmp_path / "named"))
    assert finished.task.labels == ("mal", "bien")  # in the order of the head: N, P
    assert same_weights(tmp_path / "first", tmp_path / "named")
    with pytest.raises(ConfigError, match=r"has the labels N, P, and the data have bien, mal.*N=bien"):
        list(finetune_events(finetune_config(None, {"data": data, "model": start}), tmp_path / "other"))
