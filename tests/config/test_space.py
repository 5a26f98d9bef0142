"""What a search may try: names, lists and ranges as people write them, checked before any work."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from twil.config.search import Plan, search_plan
from twil.config.settings import whole_name
from twil.config.space import Choices, Range, make_dimension, split
from twil.config.toml import format_toml
from twil.config.training import FinetuneConfig
from twil.core.errors import ConfigError

OPTIONS: dict[str, Any] = {"data": {"train": "a.tsv", "dev": "b.tsv"}, "model": {"folder": "m"}}


def plan(*settings: str, file: Path | None = None, **search: Any) -> Plan:
    return search_plan(file, OPTIONS, settings, search)


def test_a_list_is_read_as_it_is_written() -> None:
    dimension = make_dimension("train.lr", "1e-5, 5e-5")
    assert dimension == Choices("train.lr", {"1e-5": 1e-5, "5e-5": 5e-5})
    assert make_dimension("model.folder", "../a,../b").values == {"../a": "../a", "../b": "../b"}
    assert make_dimension("train.epochs", [2, 3]).values == {"2": 2, "3": 3}
    assert make_dimension("train.epochs", "3") == 3
    assert split("""[1, 2],"a,b",{x = [3,4]}""") == ["[1, 2]", '"a,b"', "{x = [3,4]}"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("train.lr", "1e-5..1e-3", Range("train.lr", 1e-5, 1e-3, log=True)),
        ("train.lr", "1e-5..1e-3:linear", Range("train.lr", 1e-5, 1e-3, log=False)),
        ("train.weight_decay", "0..0.1", Range("train.weight_decay", 0.0, 0.1, log=False)),
        ("train.epochs", "2..6", Range("train.epochs", 2, 6, log=False)),
        ("train.batch_tokens", "256..4096:log", Range("train.batch_tokens", 256, 4096, log=True)),
        ("model.classifier.dropout", "0.0..0.5", Range("model.classifier.dropout", 0.0, 0.5, log=False)),
    ],
)
def test_a_range_is_logarithmic_where_that_is_the_custom_or_it_says_so(
    name: str, text: str, expected: Range
) -> None:
    assert make_dimension(name, text) == expected


def test_short_names_are_whole_ones_where_only_one_is_meant() -> None:
    names = {
        "lr": "train.lr",
        "pooling": "model.classifier.pooling",
        "classifier.pooling": "model.classifier.pooling",
        "train.epochs": "train.epochs",
        "input_dropout": "model.input_dropout",  # that of a drawn encoder is model.encoder.…
        "model.encoder.n_layers": "model.encoder.n_layers",
    }
    assert {name: whole_name(name, FinetuneConfig) for name in names} == names


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lrr=1,2", r"no setting 'lrr': did you mean train\.lr\?"),
        ("nada=1,2", r"no setting 'nada'; there are .*train\.epochs, .*train\.lr"),
        ("model.encoder.n_leyers=1,2", r"'model\.encoder\.n_leyers'; in model\.encoder there are .*n_layers"),
        ("lr", "--set takes name=values"),
        ("lr=1e-5,fast", r"train\.lr: .*number"),
        ("lr=1e-5,-1", r"train\.lr: .*greater than 0"),
        ("dropout=0.0..1.5", r"model\.classifier\.dropout: .*less than 1"),
        ("pooling=avg,sum", r"model\.classifier\.pooling"),
        ("lr=1e-5,", "empty value"),
        ("lr=", "empty value"),
        ("epochs=1..2..3", r"train\.epochs has the range '1\.\.2\.\.3', which is none: write low\.\.high"),
        ("lr=1e-5,1e-05", "same value twice: 1e-5, 1e-05"),
        ("lr=1e-3..1e-5", "must be the smaller one"),
        ("dropout=0..0.5:log", "begins above 0"),
        ("lr=1e-5..1e-3:cubic", "log or linear"),
        ("seed=1,2", r"train\.seed can have one value only in a search: the seeds"),
        ("data.train=a,b", r"data\.train can have one value only"),
        ("metric=accuracy,macro_f1", "compared by the same score"),
        ("epochs=3", "nothing to try"),
    ],
)
def test_what_cannot_be_tried_is_named(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(setting, trials=3)


def test_settings_for_all_trials_and_those_that_are_tried_come_together() -> None:
    made = plan("lr=1e-5,5e-5", "epochs=3", "pooling=avg,cls", runs=2)
    points = list(made.space.grid())
    assert [list(point.values()) for point in points] == [
        *(["1e-5", "avg"], ["1e-5", "cls"], ["5e-5", "avg"], ["5e-5", "cls"])
    ]
    config = made.config(points[2])
    assert (config.train.lr, config.train.epochs, config.model.classifier.pooling) == (5e-5, 3, "avg")
    assert (made.sampler, made.trials, made.search.runs) == ("grid", 4, 2)


def test_a_starting_point_can_be_tried_as_well() -> None:
    made = search_plan(None, OPTIONS | {"model": {}}, ["model.folder=one,two"])
    assert [str(made.config(point).model.folder) for point in made.space.grid()] == ["one", "two"]


@pytest.mark.parametrize(
    ("settings", "search", "sampler", "trials"),
    [
        (("lr=1e-5,5e-5",), {}, "grid", 2),
        (("lr=1e-5,5e-5",), {"trials": 9}, "grid", 2),
        (("lr=1e-5,5e-5,1e-4",), {"trials": 2}, "tpe", 2),
        (("lr=1e-5..1e-3",), {"trials": 7}, "tpe", 7),
        (("lr=1e-5,5e-5,1e-4",), {"trials": 2, "sampler": "random"}, "random", 2),
        (("lr=1e-5,5e-5",), {"trials": 9, "sampler": "random"}, "random", 2),
        (("lr=1e-5,5e-5",), {"trials": 9, "sampler": "tpe"}, "tpe", 9),
    ],
)
def test_every_combination_is_tried_where_that_can_be(
    settings: tuple[str, ...], search: dict[str, Any], sampler: str, trials: int
) -> None:
    made = plan(*settings, **search)
    assert (made.sampler, made.trials) == (sampler, trials)
    assert made.reason


def test_a_range_needs_a_number_of_trials() -> None:
    with pytest.raises(ConfigError, match=r"how many trials .*--trials 20"):
        plan("lr=1e-5..1e-3")


def test_a_grid_is_refused_where_it_cannot_be_whole() -> None:
    with pytest.raises(ConfigError, match=r"there are ranges \(train\.lr\)"):
        plan("lr=1e-5..1e-3", sampler="grid")
    with pytest.raises(ConfigError, match="has 3 combinations, and 2 trials"):
        plan("lr=1e-5,5e-5,1e-4", sampler="grid", trials=2)
    with pytest.raises(ConfigError, match="sampler"):
        plan("lr=1e-5,5e-5", sampler="astrology")


def test_every_combination_of_a_grid_is_checked() -> None:
    # Each value fits the first of the other setting.
    made = ("model.init=tiny,small", "model.folder=m")
    with pytest.raises(ConfigError, match="either a model folder"):
        plan(*made)


def test_a_file_may_hold_the_search_and_options_win(tmp_path: Path) -> None:
    file = tmp_path / "search.toml"
    file.write_text(
        '[data]\ntrain = "a"\ndev = "b"\n[model]\nfolder = "m"\n[train]\nepochs = 4\n'
        '[search]\nruns = 3\nsampler = "random"\ntrials = 5\n'
        '[search.space]\nlr = "1e-5..1e-3"\npooling = ["avg", "cls"]\ntrain.accumulation = [1, 2]\n',
        encoding="utf-8",
    )
    made = search_plan(file, {}, (), {"trials": None})
    assert made.space.as_dict() == {
        "train.lr": {"low": 1e-5, "high": 1e-3, "log": True},
        "model.classifier.pooling": ["avg", "cls"],
        "train.accumulation": [1, 2],
    }
    assert (made.search.runs, made.sampler, made.trials) == (3, "random", 5)
    changed = search_plan(
        file, {}, ["lr=1e-4", "pooling=max,avg"], {"runs": 1, "sampler": "grid", "trials": 4}
    )
    assert list(changed.space.as_dict()) == ["train.accumulation", "model.classifier.pooling"]
    assert changed.config(next(changed.space.grid())).train.lr == 1e-4
    file.write_text("[search]\nrun = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"search: run: there is no such setting; there are space, runs"):
        search_plan(file, OPTIONS, ["lr=1,2"])


def test_settings_written_as_toml_are_read_back_as_they_were() -> None:
    value = {
        "data": {"text": 'de "todo"\\ y\tmás\x7f 🎉', "labels": ["a", "b"], "flag": True},
        "model": {"encoder": {"memory": {"layers": [1, 2]}}, "odd key": {"x": 1}},
        "train": {"lr": 1e-05, "epochs": 3, "clip": 1.0},
    }
    assert tomllib.loads(format_toml(value)) == value
    assert tomllib.loads(format_toml({"train": {"patience": None, "lr": 0.1}})) == {"train": {"lr": 0.1}}


def test_an_option_of_a_loss_can_be_tried_beside_its_name() -> None:
    made = plan("loss=cross_entropy", "label_smoothing=0.1,0.2")
    assert [made.config(point).train.loss.label_smoothing for point in made.space.grid()] == [0.1, 0.2]
    assert made.config(next(made.space.grid())).train.loss.name == "cross_entropy"
    with pytest.raises(ConfigError, match=r"place of train.loss.label_smoothing: try train.loss.name"):
        plan("label_smoothing=0.1", "loss=cross_entropy,focal")


@pytest.mark.parametrize("setting", ["loss.name=cross_entropy,focal", "class_weights=none,balanced"])
def test_trials_of_other_losses_are_not_compared_by_their_loss(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"makes other losses, which cannot be compared"):
        search_plan(None, {**OPTIONS, "train": {"metric": "loss"}}, [setting])
